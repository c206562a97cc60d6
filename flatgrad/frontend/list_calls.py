"""What can be done with a list that a loop has built: its methods, and functions of it.

    xs[-1]     xs[count - 1]          len(xs)      count         np.stack(xs, axis=1)    xs.T
    sum(xs)    np.sum(xs, axis=0)     max(xs)      np.max(xs)    np.concatenate(xs)      xs.ravel()
"""

from __future__ import annotations

import ast
import builtins
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from flatgrad.errors import error
from flatgrad.frontend.listed import FIXED, Rows
from flatgrad.frontend.refs import Buffer, Ref
from flatgrad.frontend.rows import append, place
from flatgrad.frontend.trees import children
from flatgrad.frontend.values import read
from flatgrad.ir.types import Array, Scalar
from flatgrad.primitives.symbolic import Symbol, apply_function

Handler = Callable[..., Any]


def item_of(low: Any, node: ast.AST, rows: Rows, index: Any, *, checked: bool = True) -> Any:
    """`xs[index]`: an item, or for a slice a list."""
    if isinstance(index, slice):
        part = rows.whole()[index]
        array = Ref(Buffer(part, fixed=FIXED))
        array.buffer.may_share({rows.array.buffer})
        return Rows(rows.name, rows.kind, {"items": array, "count": part.shape[0]})
    if isinstance(index, bool) or not (
        isinstance(index, int | np.integer) or (isinstance(index, Symbol) and not index.ndim)
    ):
        raise low.refuse(node, "operand-type", "an index into a list that is no int")
    where = place(low, rows, int(index) if isinstance(index, np.integer) else index)
    found = low.apply(node, operator.getitem, (rows.array, where if checked else index), {})
    if rows.nested:
        inner = rows.kind.shape[1:]
        kind = Array(rows.kind.dtype, inner) if inner else Scalar(rows.kind.dtype)
        return Rows(
            rows.name, kind, {"items": found, "count": read(found).shape[0]}, frozen=True
        )
    if isinstance(rows.kind, Scalar) and rows.kind.weak:
        number = {"float64": float, "int64": int, "bool": bool}[rows.kind.dtype]
        return low.apply(node, number, (found,), {})
    return found


def list_method(low: Any, node: ast.Call, name: str, rows: Rows) -> Any:
    """A method of a list that a loop has built."""
    args = tuple(low.elements(node.args))
    if name not in ("append", "extend", "copy") or node.keywords:
        raise low.refuse(
            node, "unsupported-attribute",
            f"the method `.{name}` of a list that is built in a loop is not supported",
            "append and read items, or use an array",
        )  # fmt: skip
    if name == "copy":
        low.static(node, [].copy, *args)
        return item_of(low, node, rows, slice(None))
    if len(args) != 1:
        raise low.refuse(node, "static-evaluation", f"`.{name}` takes one argument")
    for item in [args[0]] if name == "append" else low.items(node, args[0]):
        append(low, rows, item)
    return None


def refuse_lists(result: Any) -> None:
    """Refuse to return a list that a loop has built: how long it is, no structure can say."""
    if isinstance(result, Rows):
        raise error(
            "unsupported-statement", f"the list `{result.name}`, built in a loop, is returned",
            help="return `np.array(...)` of it",
        )  # fmt: skip
    for item in children(result) or ():
        refuse_lists(item)


def _stack(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    given = dict(zip(("arrays", "axis"), args, strict=False)) | kwargs
    axis = given.pop("axis", 0)
    rows = given.pop("arrays", None)
    if not isinstance(rows, Rows) or given:
        raise low.refuse(node, "unsupported-keyword", "`np.stack` takes arrays and axis here")
    found = rows.fresh()
    if axis == 0:
        return found
    return low.wrapped(read(low.apply(node, np.moveaxis, (found, 0, axis), {})))


def _array(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if len(args) == 1 and not kwargs:
        return args[0].fresh()
    return low.apply(node, np.array, (args[0].fresh(), *args[1:]), kwargs)


def _joined(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """np.concatenate, np.hstack, np.vstack: the first axis of the items becomes part of another."""
    given = dict(zip(("arrays", "axis"), args, strict=False)) | kwargs
    axis, rows, callee = given.pop("axis", 0), args[0], low.value(node.func)
    rank = rows.kind.ndim
    if callee is np.vstack and rank == 1:
        return rows.fresh()
    if callee is np.hstack and rank > 1:
        axis = 1
    if rank == 0 or set(given) - {"arrays", "tup"} or not -rank <= axis < rank:
        name = callee.__name__
        raise low.refuse(node, "unsupported-call", f"`np.{name}` of a list of {_kind(rows)}")
    axis %= rank
    found: Any = rows.whole()
    if axis:
        found = np.moveaxis(found, 0, axis)
    lengths = found.shape
    shape = (*lengths[:axis], lengths[axis] * lengths[axis + 1], *lengths[axis + 2 :])
    return low.wrapped(apply_function(np.reshape, (found, shape), {}, low.builder))


def _kind(rows: Rows) -> str:
    return "numbers" if rows.kind.ndim == 0 else f"{rows.kind.ndim}-d arrays"


def _sum(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    start = args[1] if len(args) > 1 else kwargs.get("start", 0)
    options = {} if args[0].kind.ndim == 0 else {"axis": 0}
    with low.at(node):
        total = low.wrapped(apply_function(np.sum, (args[0].whole(),), options, low.builder))
    kind = args[0].kind
    if kind.ndim == 0 and kind.weak:
        total = low.apply(node, {"float64": float}.get(kind.dtype, int), (total,), {})
    nothing = type(start) is int and start == 0
    return total if nothing else low.binary(node, operator.add, start, total)


def _extreme(function: Any) -> Handler:
    def call(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if len(args) > 1 or kwargs or args[0].kind.ndim:
            raise low.refuse(node, "unsupported-call", "this form of `max` or `min`")
        return low.apply(node, function, (args[0].fresh(),), {})

    return call


def _list(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return item_of(low, node, args[0], slice(None))


def _isinstance(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return low.static(node, issubclass, list, *args[1:])


def _refused(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    text = low.source.segment(node.func)
    raise low.refuse(
        node, "unsupported-call", f"`{text}` of a list that is built in a loop",
        "use `np.array` of it",
    )  # fmt: skip


LIST_CALLS: dict[Any, Handler] = {
    np.stack: _stack,
    np.array: _array,
    np.asarray: _array,
    np.concatenate: _joined,
    np.hstack: _joined,
    np.vstack: _joined,
    builtins.len: lambda low, node, args, kwargs: args[0].count,
    builtins.sum: _sum,
    builtins.max: _extreme(np.max),
    builtins.min: _extreme(np.min),
    builtins.list: _list,
    builtins.isinstance: _isinstance,
    builtins.print: _refused,
    builtins.sorted: _refused,
    np.column_stack: _refused,
    np.dstack: _refused,
}
