"""NumPy functions that write to one of their arguments: each is a new version of its buffer.

    np.multiply(a, b, out=c)        c[:] = a * b            np.copyto(a, b)     a[:] = b
    np.add.at(a, i, v)              a[i] += v               a.sort()            a[:] = np.sort(a)
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from flatgrad.frontend.refs import Ref
from flatgrad.frontend.values import kind_of, read, same_length
from flatgrad.primitives.index import is_mask, typed
from flatgrad.primitives.symbolic import Symbol, is_number

Handler = Callable[..., Any]

WHOLE = slice(None)


def written_with_out(
    low: Any, node: ast.Call, callee: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The array after `out=`, and the arguments without it; None as array if there is none."""
    if isinstance(callee, np.ufunc) and callee.nin < len(args) <= callee.nargs:
        args, kwargs = args[: callee.nin], {**kwargs, "out": args[callee.nin :]}
    module = getattr(callee, "__module__", None) or "numpy"
    if kwargs.get("out") is None or module.split(".")[0] != "numpy":
        return None, args, kwargs
    kwargs = dict(kwargs)
    target = kwargs.pop("out")
    if isinstance(target, tuple) and len(target) == 1:
        target = target[0]
    if not isinstance(target, Ref):
        raise low.refuse(
            node, "unsupported-write", f"`out=` is {kind_of(target)}, not an array with axes",
            "assign the result",
        )  # fmt: skip
    return target, args, kwargs


def write_out(low: Any, node: ast.Call, callee: Any, target: Ref, result: Any) -> Ref:
    """Write the result of a call into `out`, which the call hands out."""
    found = read(result)
    broadcasts = isinstance(callee, np.ufunc) and callee.signature is None
    if not isinstance(found, Symbol) and not is_number(found):
        raise low.refuse(node, "unsupported-write", f"`out=` for {kind_of(found)}")
    if isinstance(found, Symbol) and not broadcasts:
        old = target.read()
        if len(found.shape) != len(old.shape) or any(
            (one == 1) != (other == 1)
            for one, other in zip(found.type.shape, old.type.shape, strict=True)
        ):
            raise low.refuse(node, "shape-mismatch", "the result does not fit into `out=`")
    replace_all(low, node, target, found)
    return target


def name_of(target: Any) -> str | None:
    """The variable that an array goes by."""
    return target.latest.value.name if isinstance(target, Ref) else None


def replace_all(low: Any, node: ast.AST, target: Ref, new: Any) -> None:
    """`target[:] = new`; where `new` has the same type, it is the next version."""
    old = target.read()
    if not isinstance(new, Symbol) or new.type != old.type:
        low.store(node, target, WHOLE, new)
        return
    low.name_value(new.value, old.value.name or "a")
    target.write(new)


def _arrays(low: Any, node: ast.Call, target: Any) -> Ref:
    if not isinstance(target, Ref) or not target.latest.ndim:
        text = low.source.segment(node.func)
        raise low.refuse(node, "unsupported-write", f"`{text}` into something that is no array")
    return target


def _bound(
    low: Any, node: ast.Call, names: str, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> list[Any]:
    """The arguments in order; those whose name ends in `=` may be left out, then they are None."""
    plain = [name.rstrip("=") for name in names.split()]
    found = dict(zip(plain, args, strict=False)) | kwargs
    needed = [name for name in names.split() if not name.endswith("=")]
    if len(args) > len(plain) or set(found) - set(plain) or set(needed) - set(found):
        text = low.source.segment(node.func)
        takes = ", ".join(plain)
        raise low.refuse(node, "unsupported-keyword", f"`{text}` takes {takes} here")
    return [found.get(name) for name in plain]


def _copyto(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    target, value, where = _bound(low, node, "dst src where=", args, kwargs)
    target = _arrays(low, node, target)
    if where is not None and where is not True:
        with low.at(node, name_of(target)):
            value = low.apply(node, np.where, (where, value, target), {})
    low.store(node, target, WHOLE, read(value))


def _putmask(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    target, mask, values = _bound(low, node, "a mask values", args, kwargs)
    target, found = _arrays(low, node, target), read(values)
    one = is_number(found) or (isinstance(found, Symbol) and not found.ndim)
    sized = isinstance(found, Symbol) and found.ndim == target.latest.ndim
    if not one and not (sized and same_length(found.shape, target.read().shape) is not False):
        raise low.refuse(
            node, "shape-mismatch", "`np.putmask` with values of another shape",
            "use np.copyto(a, values, where=mask)",
        )  # fmt: skip
    _copyto(low, node, (target, values), {"where": mask})


def _put(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    target, index, values = _bound(low, node, "a ind v", args, kwargs)
    target, index = _arrays(low, node, target), read(index)
    if target.latest.ndim != 1:
        raise low.refuse(
            node, "unsupported-call", "`np.put` into an array with several axes",
            "write `a[i, j] = v`",
        )  # fmt: skip
    if is_mask(typed(index)):
        raise low.refuse(node, "operand-type", "`np.put` with booleans", "write `a[mask] = v`")
    low.store(node, target, index, read(values))


def _fill_diagonal(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    target, value = _bound(low, node, "a val", args, kwargs)
    target = _arrays(low, node, target)
    shape = target.read().shape
    if len(shape) != 2:
        raise low.refuse(node, "unsupported-call", "`np.fill_diagonal` of more than a matrix")
    rows, columns = shape
    length = rows if same_length(rows, columns) else low.apply(node, np.minimum, shape, {})
    places = low.apply(node, np.arange, (length,), {})
    low.store(node, target, (read(places), read(places)), read(value))


def _at(sign: int) -> Handler:
    """`np.add.at` and `np.subtract.at`."""

    def call(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        target, index, value = _bound(low, node, "a indices b", args, kwargs)
        target = _arrays(low, node, target)
        if sign < 0:
            value = low.binary(node, operator.mul, value, -1)
        low.add_at(node, target, read(index), read(value))

    return call


def _refused(help: str) -> Handler:
    def call(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        text = low.source.segment(node.func)
        raise low.refuse(node, "unsupported-call", f"`{text}` is not supported", help)

    return call


def sort_in_place(low: Any, node: ast.Call, target: Ref, args: Any, kwargs: dict[str, Any]) -> None:
    """`a.sort()`."""
    with low.at(node, name_of(target)):
        found = low.apply(node, np.sort, (target, *args), kwargs)
        replace_all(low, node, target, read(found))


def put_in_place(low: Any, node: ast.Call, target: Ref, args: Any, kwargs: dict[str, Any]) -> None:
    """`a.put(i, v)`."""
    _put(low, node, (target, *args), kwargs)


WRITING_METHODS: dict[str, Handler] = {"sort": sort_in_place, "put": put_in_place}

WRITING_CALLS: dict[Any, Handler] = {
    np.copyto: _copyto,
    np.putmask: _putmask,
    np.put: _put,
    np.fill_diagonal: _fill_diagonal,
    np.add.at: _at(1),
    np.subtract.at: _at(-1),
    np.multiply.at: _refused("write `a[i] *= v` where no element is meant twice"),
    np.divide.at: _refused("write `a[i] /= v` where no element is meant twice"),
    np.maximum.at: _refused("loop over the indices"),
    np.minimum.at: _refused("loop over the indices"),
    np.place: _refused("write `a[mask] = values`"),
    np.put_along_axis: _refused("write `a[rows, columns] = values`"),
}
