"""Python's builtins where they differ from the functions that have rules.

    len(x)  ->  x.shape[0]        abs, float, int have rules        sum([a, b])  ->  a + b
"""

from __future__ import annotations

import ast
import builtins
import math
import operator
import types
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from flatgrad.checkpointing import checkpoint
from flatgrad.frontend.functional import FUNCTIONAL
from flatgrad.frontend.refs import Ref
from flatgrad.frontend.trees import Held, Record, like
from flatgrad.frontend.values import kind_of, needs_static, read, refs_in
from flatgrad.frontend.write_calls import WRITING_CALLS
from flatgrad.hooks import adjoint, stop_gradient
from flatgrad.primitives.effects import PRINT
from flatgrad.primitives.symbolic import Symbol, apply_function, is_number, is_symbolic

Handler = Callable[..., Any]

OTHER = object()
"""Says that a callee is none of those that a method deals with."""

_PURE = (
    abs, bool, dict, divmod, float, int, len, list, max, min, pow, range, reversed, round, slice,
    sorted, str, sum, tuple, zip, type, operator.itemgetter,
)  # fmt: skip

_IMPURE = (
    "copyto", "put", "put_along_axis", "place", "putmask", "fill_diagonal", "load", "loadtxt",
    "genfromtxt", "fromfile", "fromregex", "memmap", "seterr", "seterrcall", "setbufsize",
    "set_printoptions", "show_config", "info", "getbufsize", "geterr", "shares_memory",
    "may_share_memory", "empty", "empty_like",
)  # fmt: skip
"""NumPy functions that change something, or whose results depend on more than their arguments."""


def is_pure(callee: Any) -> bool:
    """Whether a call on static values may be evaluated while compiling."""
    if isinstance(callee, np.ufunc) or any(callee is one for one in _PURE):
        return True
    module = getattr(callee, "__module__", "") or ""
    if module.split(".")[0] not in ("numpy", "math") or module.startswith("numpy.random"):
        return False
    name = getattr(callee, "__name__", "")
    return name not in _IMPURE and not name.startswith("save")


def _len(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    (found,) = _counted(low, node, args, kwargs, 1)
    if isinstance(found, Symbol) or (isinstance(found, Ref) and not found.latest.ndim):
        raise low.refuse(node, "operand-type", "`len` of a number")
    if isinstance(found, Ref):
        return found.read().shape[0]
    return low.static(node, len, found, structural=True)


def _counted(
    low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any], count: int
) -> tuple[Any, ...]:
    """Exactly `count` positional arguments."""
    if len(args) != count or kwargs:
        name = low.source.segment(getattr(node, "func", node))
        raise low.refuse(node, "unsupported-call", f"`{name}` takes {count} arguments here")
    return args


def _sum(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if not 1 <= len(args) <= 2 or set(kwargs) - {"start"}:
        raise low.refuse(node, "unsupported-call", "`sum` takes a sequence and a start")
    items, start = args[0], args[1] if len(args) > 1 else kwargs.get("start", 0)
    if isinstance(items, Ref) and items.latest.ndim:
        if start != 0 or isinstance(start, Symbol | Ref):
            raise low.refuse(node, "unsupported-call", "`sum` of an array with a start", "use `+`")
        options = {} if items.read().ndim == 1 else {"axis": 0}
        return low.apply(node, np.sum, (items,), options)
    found: Any = start
    for item in low.items(node, items):
        number = read(item)
        nothing_yet = type(found) is int and found == 0
        if nothing_yet and isinstance(number, Symbol) and number.type.dtype != "bool":
            found = low.wrapped(number)  # 0 + item
        else:
            found = low.binary(node, operator.add, found, item)
    return found


def _extreme(function: Any) -> Handler:
    def call(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        name = function.__name__
        if args and set(kwargs) == {"key"}:
            return _by_key(low, node, function, args, kwargs["key"])
        if kwargs or not args:
            raise low.refuse(node, "unsupported-call", f"this form of `{name}`")
        items: Any = args[0] if len(args) == 1 else args
        if isinstance(items, Ref) and items.latest.ndim:
            if items.latest.ndim != 1:
                raise low.refuse(node, "operand-type", f"`{name}` of a matrix", f"use `np.{name}`")
            return low.apply(node, np.max if function is max else np.min, (items,), {})
        items = low.items(node, items)
        if not is_symbolic(read(items)):
            return low.static(node, function, items)
        if any(isinstance(item, Ref) and item.latest.ndim for item in items):
            help = f"use `np.{name}imum`"
            raise low.refuse(node, "operand-type", f"`{name}` of arrays", help)
        numeric: Any = np.maximum if function is max else np.minimum
        return low.wrapped(reduce(numeric, [read(item) for item in items]))

    return call


def _by_key(low: Any, node: ast.Call, function: Any, args: tuple[Any, ...], key: Any) -> Any:
    """`max(items, key=f)`: only the keys must be known while compiling."""
    items = low.items(node, args[0]) if len(args) == 1 else list(args)
    keys = [low.call(node, key, (item,), {}) for item in items]
    low.no_objects(node, keys)
    needs_static(read(keys), f"a key of `{function.__name__}`")
    pick = lambda: function(range(len(items)), key=keys.__getitem__)  # noqa: E731
    return items[low.static(node, pick)]


def _isinstance(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    found, kinds = _counted(low, node, args, kwargs, 2)
    if isinstance(found, Ref):
        return low.static(node, issubclass, np.ndarray, kinds)
    if isinstance(found, Symbol):
        if not found.type.weak:
            # An array of no axes is compiled as the number in it.
            raise low.refuse(node, "unsupported-call", "`isinstance` of a NumPy number")
        kind = {"float64": float, "int64": int, "bool": bool}[found.type.dtype]
        return low.static(node, issubclass, kind, kinds)
    if isinstance(found, Record | Held):
        kind = found.kind if isinstance(found, Record) else types.FunctionType
        return low.static(node, issubclass, kind, kinds)
    return low.static(node, isinstance, found, kinds, structural=True)


def _slice(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kwargs or not 1 <= len(args) <= 3:
        raise low.refuse(node, "unsupported-call", "`slice` takes one to three arguments")
    return slice(*[read(part) for part in args])


def _where(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if len(args) == 1 and not kwargs:
        return _nonzero(low, node, args, kwargs)
    return OTHER


def _nonzero(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    (found,) = _counted(low, node, args, kwargs, 1)
    found = read(found)
    if isinstance(found, Symbol) and found.ndim != 1:
        raise low.refuse(
            node, "unsupported-call", "the positions in an array that is no vector",
            "index with the mask itself: `x[mask]`",
        )  # fmt: skip
    return (low.apply(node, np.flatnonzero, (found,), {}),)


def _container(kind: Any) -> Handler:
    def call(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if not args and not kwargs:
            return kind()
        return kind(low.items(node, _counted(low, node, args, kwargs, 1)[0]))

    return call


def _range(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if is_symbolic(read(args)):
        raise low.refuse(
            node, "unsupported-statement",
            "a loop over `range` of run-time data is not supported yet",
            "loop over a tuple or list, or use array operations",
        )  # fmt: skip
    return low.static(node, range, *args, **kwargs)


def _pow(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if len(args) != 2 or kwargs:
        raise low.refuse(node, "unsupported-call", "`pow` with a modulus or keywords")
    return low.apply(node, operator.pow, args, {})


def _divmod(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    quotient = low.apply(node, operator.floordiv, args, {})
    return quotient, low.apply(node, operator.mod, args, {})


def _log(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    top = low.apply(node, math.log, args[:1], {})
    if len(args) == 1:
        return top
    return low.apply(node, operator.truediv, (top, low.apply(node, math.log, args[1:], {})), {})


def _print(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    values = read(list(args))
    if kwargs:
        raise low.refuse(node, "unsupported-keyword", "keywords of `print` are not supported")
    for value in values:
        if not isinstance(value, Symbol | str | None) and not is_number(value):
            raise low.refuse(
                node, "operand-type", f"`print` of {kind_of(value)}", "print numbers and arrays"
            )
    apply_function(PRINT, (values,), {}, low.builder)


def _checkpoint(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    raise low.refuse(
        node, "bad-checkpoint", "`checkpoint` of something that is no loop over a `range`",
        "write `for i in checkpoint(range(n)):`",
    )  # fmt: skip


def _adjoint(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    raise low.refuse(
        node, "bad-hook", "`adjoint` outside of a `with`", "write `with adjoint(h) as g:`"
    )


def _stop_gradient(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    (found,) = _counted(low, node, args, kwargs, 1)
    return _stopped(low, node, found)


def _stopped(low: Any, node: ast.Call, found: Any) -> Any:
    match found:
        case Symbol() | Ref():
            return low.apply(node, stop_gradient, (found,), {})
        case tuple():
            return like(found, [_stopped(low, node, item) for item in found])
        case list() | dict() if id(found) in low.shared.outside or refs_in(found):
            raise low.refuse(
                node, "unsupported-call", f"`stop_gradient` of a {type(found).__name__}",
                "call it on the items",
            )  # fmt: skip
    return found


BUILTINS: dict[Any, Handler] = {
    checkpoint: _checkpoint,
    adjoint: _adjoint,
    stop_gradient: _stop_gradient,
    builtins.len: _len,
    builtins.sum: _sum,
    builtins.max: _extreme(max),
    builtins.min: _extreme(min),
    builtins.isinstance: _isinstance,
    builtins.pow: _pow,
    builtins.divmod: _divmod,
    math.log: _log,
    builtins.print: _print,
    builtins.list: _container(list),
    builtins.tuple: _container(tuple),
    builtins.range: _range,
    builtins.slice: _slice,
    np.where: _where,
    np.nonzero: _nonzero,
    **WRITING_CALLS,
    **FUNCTIONAL,
    math.isclose: lambda low, node, args, kwargs: low.static(node, math.isclose, *args, **kwargs),
}
