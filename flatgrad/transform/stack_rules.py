"""For each operation the one on stacks of operands: as on one of them, past a leading axis of rows.

    np.sum(dot_x, axis=0)     ->    np.sum(dot_x, axis=1)
    dot_x[1:, j]              ->    dot_x[:, 1:, j]
    w @ dot_b                 ->    dot_b @ w.T              # dot_b has a row per tangent

A rule takes the `Stacker` and the operation and returns the stack of its result, or None: then the
operation is run row by row.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from flatgrad.ir.ops import Apply, Operand, substitute
from flatgrad.primitives.core import ASTYPE, IDENTITY
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM, is_advanced
from flatgrad.primitives.rearrange import DIAGONAL
from flatgrad.primitives.select import CLIP
from flatgrad.primitives.shape import FLATTEN, permutation
from flatgrad.primitives.symbolic import Symbol, apply_function, apply_primitive
from flatgrad.primitives.typerules import normalize_axes, normalize_axis

Rule = Callable[[Any, Apply], Any]
EVERY = slice(None)
RULES: dict[Any, Rule] = {}
"""By the function of a primitive."""


def rule(*functions: Any) -> Callable[[Rule], Rule]:
    """Register the rule of some functions."""

    def register(made: Rule) -> Rule:
        RULES.update(dict.fromkeys(functions, made))
        return made

    return register


def static(stacker: Any, op: Apply, name: str, default: Any = None) -> Any:
    """An argument that is the same for all rows."""
    if name not in op.arguments:
        return default
    return substitute(op.arguments[name], lambda k: stacker.plain(op.operands[k]))


def operand(op: Apply, name: str) -> Operand:
    """The operand that is an argument."""
    found: Operand = op.operands[op.arguments[name].index]
    return found


def stack(stacker: Any, op: Apply, name: str) -> Any:
    """The stack of an argument."""
    return stacker.full(operand(op, name))


def one_or_all(axes: Iterable[int]) -> Any:
    """Axes as NumPy's functions take them."""
    found = tuple(axes)
    return found[0] if len(found) == 1 else found


@rule(np.where, CLIP)
def by_elements(stacker: Any, op: Apply) -> Any:
    """The same operation, where rows of fewer axes than the result get these."""
    rank, dtype = op.result.type.ndim, op.result.type.dtype

    def pick(k: int) -> Any:
        given = op.operands[k]
        found = stacker.aligned(given, rank)
        weak = given.type.weak and given.type.dtype != dtype == "float32"
        if weak and stacker.of(given) is not None:  # a Python float adapts, a stack does not
            found = apply_function(ASTYPE, (found, np.float32), {}, stacker.builder)
        return found

    primitive = op.primitive
    if primitive.text.startswith("math.") or primitive.function in (abs, np.fabs):
        primitive = primitive.twin_of or primitive
        if primitive.text.startswith("math."):
            return None
    args, kwargs = primitive.call_form(substitute(op.arguments, pick))
    return apply_primitive(primitive, args, kwargs, stacker.builder)


@rule(IDENTITY)
def _identity(stacker: Any, op: Apply) -> Any:
    return apply_function(IDENTITY, (stack(stacker, op, "x"),), {}, stacker.builder)


@rule(float, np.float32, np.float64, ASTYPE)
def _cast(stacker: Any, op: Apply) -> Any:
    x = stack(stacker, op, "x")
    if x.type.dtype == op.result.type.dtype:
        return apply_function(IDENTITY, (x,), {}, stacker.builder)
    kind = np.dtype(op.result.type.dtype).type
    return apply_function(ASTYPE, (x, kind), {}, stacker.builder)


@rule(np.copy)
def _copy(stacker: Any, op: Apply) -> Any:
    return np.copy(stack(stacker, op, "x"))


@rule(np.ascontiguousarray)
def _contiguous(stacker: Any, op: Apply) -> Any:
    x = stack(stacker, op, "a")
    if x.ndim == 1:
        return x[:, None]
    return apply_function(np.ascontiguousarray, (x,), {}, stacker.builder)


@rule(np.zeros_like, np.ones_like, np.empty_like)
def _like(stacker: Any, op: Apply) -> Any:
    x = next(iter(op.operands))
    rest = {key: item for key, item in op.arguments.items() if key in ("dtype",)}
    return apply_function(op.primitive.function, (stacker.full(x),), rest, stacker.builder)


@rule(np.sum, np.mean, np.prod, np.amax, np.amin, np.max, np.min)
def _reduction(stacker: Any, op: Apply) -> Any:
    x, rank = stack(stacker, op, "x"), operand(op, "x").type.ndim
    if rank == 0:
        return apply_function(IDENTITY, (x,), {}, stacker.builder)
    axes = [axis + 1 for axis in normalize_axes(op.arguments.get("axis"), rank)]
    keep = {"keepdims": True} if op.arguments.get("keepdims") else {}
    args = {"axis": one_or_all(axes)} | keep
    return apply_function(op.primitive.function, (x,), args, stacker.builder)


@rule(np.cumsum)
def _cumulative(stacker: Any, op: Apply) -> Any:
    x, axis = stack(stacker, op, "x"), op.arguments.get("axis")
    if axis is None:
        x, axis = x[:, None] if x.ndim == 1 else _flat(stacker, x), 0
    rank = x.ndim - 1
    return np.cumsum(x, axis=normalize_axis(axis, rank) + 1)


def _flat(stacker: Any, x: Any) -> Any:
    return x if x.ndim == 2 else np.reshape(x, (stacker.count, -1))


def _is_apart(op: Apply, index: Any) -> bool:
    """Whether arrays among the indices are apart: then their axes come first in the result."""
    kinds = substitute(op.arguments["index"], lambda k: op.operands[k].type)
    entries = kinds if isinstance(kinds, tuple) else (kinds,)
    if not any(is_advanced(entry) for entry in entries):
        return False
    places = [
        k for k, entry in enumerate(entries)
        if entry is not None and entry is not Ellipsis and not isinstance(entry, slice)
    ]  # fmt: skip
    return places != list(range(places[0], places[-1] + 1))


def _past_rows(stacker: Any, op: Apply) -> Any:
    """The index into each row; None if it would put the rows elsewhere."""
    index = static(stacker, op, "index")
    if _is_apart(op, index):
        return None
    return (EVERY, *(index if isinstance(index, tuple) else (index,)))


@rule(operator.getitem)
def _getitem(stacker: Any, op: Apply) -> Any:
    index = _past_rows(stacker, op)
    return None if index is None else stack(stacker, op, "x")[index]


@rule(SET_ITEM, ADD_ITEM)
def _write(stacker: Any, op: Apply) -> Any:
    index = _past_rows(stacker, op)
    if index is None:
        return None
    base, value = stack(stacker, op, "x"), stacker.of(operand(op, "value"))
    if value is None:
        value = stacker.plain(operand(op, "value"))
    elif value.ndim > 1 or not isinstance(op.arguments["index"], int | np.integer):
        places = base[index]
        _forget(stacker, places)
        value = stacker.spaced(value, places.ndim - 1)
    return apply_function(op.primitive.function, (base, value, index), {}, stacker.builder)


def _forget(stacker: Any, symbol: Symbol) -> None:
    """Take an operation back that was built for the type of its result alone."""
    removed = stacker.builder.block.ops.pop()
    assert removed.result is symbol.value
    del stacker.builder.made[symbol.value]


@rule(np.transpose)
def _transpose(stacker: Any, op: Apply) -> Any:
    x, rank = stack(stacker, op, "x"), operand(op, "x").type.ndim
    order = permutation(op.arguments.get("axes"), rank)
    if rank < 2:
        return apply_function(IDENTITY, (x,), {}, stacker.builder)
    return np.transpose(x, (0, *[axis + 1 for axis in order]))


@rule(np.swapaxes)
def _swapaxes(stacker: Any, op: Apply) -> Any:
    rank = operand(op, "x").type.ndim
    axes = [normalize_axis(op.arguments[name], rank) + 1 for name in ("axis1", "axis2")]
    return np.swapaxes(stack(stacker, op, "x"), *axes)


def _later(axes: Any, rank: int) -> Any:
    """Axes of a row as axes of the stack, in the order given."""
    if isinstance(axes, tuple | list):
        return tuple([normalize_axis(axis, rank) + 1 for axis in axes])
    return normalize_axis(axes, rank) + 1


@rule(np.moveaxis)
def _moveaxis(stacker: Any, op: Apply) -> Any:
    rank = operand(op, "a").type.ndim
    moved = [_later(op.arguments[name], rank) for name in ("source", "destination")]
    return np.moveaxis(stack(stacker, op, "a"), *moved)


@rule(np.expand_dims)
def _expand_dims(stacker: Any, op: Apply) -> Any:
    axis = _later(op.arguments["axis"], op.result.type.ndim)
    return np.expand_dims(stack(stacker, op, "x"), axis)


@rule(np.squeeze)
def _squeeze(stacker: Any, op: Apply) -> Any:
    x, kind = stack(stacker, op, "x"), operand(op, "x").type
    axis = op.arguments.get("axis")
    if axis is None:
        axis = tuple([k for k, size in enumerate(kind.shape) if size == 1])
    axes = [later - 1 for later in _all_later(axis, kind.ndim)]
    if not axes:
        return apply_function(IDENTITY, (x,), {}, stacker.builder)
    return np.squeeze(x, axis=one_or_all([axis + 1 for axis in axes]))


def _all_later(axes: Any, rank: int) -> tuple[int, ...]:
    found = _later(axes, rank)
    return found if isinstance(found, tuple) else (found,)


def _shape(stacker: Any, op: Apply) -> tuple[Any, ...]:
    shape = static(stacker, op, "shape")
    return tuple(shape) if isinstance(shape, tuple | list) else (shape,)


@rule(np.broadcast_to)
def _broadcast_to(stacker: Any, op: Apply) -> Any:
    shape = _shape(stacker, op)
    x = stacker.spaced(stack(stacker, op, "x"), len(shape))
    return np.broadcast_to(x, (stacker.count, *shape))


@rule(np.reshape)
def _reshape(stacker: Any, op: Apply) -> Any:
    return np.reshape(stack(stacker, op, "a"), (stacker.count, *_shape(stacker, op)))


@rule(np.ravel, FLATTEN)
def _ravel(stacker: Any, op: Apply) -> Any:
    x = stack(stacker, op, "a")
    if x.ndim == 1:
        return x[:, None]
    return _copied(stacker, op, _flat(stacker, x))


def _copied(stacker: Any, op: Apply, x: Any) -> Any:
    return np.copy(x) if op.primitive.alias is None else x


@rule(np.full)
def _full(stacker: Any, op: Apply) -> Any:
    shape = _shape(stacker, op)
    x = stacker.spaced(stack(stacker, op, "fill_value"), len(shape))
    return np.copy(np.broadcast_to(x, (stacker.count, *shape)))


@rule(np.full_like)
def _full_like(stacker: Any, op: Apply) -> Any:
    like, value = operand(op, "x"), stacker.of(operand(op, "value"))
    if value is None:
        return None
    base = stacker.of(like)
    shape = stacker.plain(like).shape if base is None else base.shape[1:]
    x = stacker.spaced(value, len(shape))
    return np.copy(np.broadcast_to(x, (stacker.count, *shape)))


def _parts(stacker: Any, op: Apply, name: str) -> list[Any] | None:
    """The stacks of a list of operands; None if lists are nested in it."""
    tree = op.arguments[name]
    if not isinstance(tree, list | tuple) or any(isinstance(t, list | tuple) for t in tree):
        return None
    return [stacker.full(op.operands[part.index]) for part in tree]


@rule(np.concatenate)
def _concatenate(stacker: Any, op: Apply) -> Any:
    parts, axis = _parts(stacker, op, "arrays"), op.arguments.get("axis", 0)
    if parts is None:
        return None
    if axis is None:
        return np.concatenate([_flat(stacker, part) for part in parts], axis=1)
    return np.concatenate(parts, axis=normalize_axis(axis, op.result.type.ndim) + 1)


@rule(np.stack)
def _stack(stacker: Any, op: Apply) -> Any:
    parts = _parts(stacker, op, "arrays")
    if parts is None:
        return None
    axis = normalize_axis(op.arguments.get("axis", 0), op.result.type.ndim)
    return np.stack(parts, axis=axis + 1)


@rule(np.array)
def _array(stacker: Any, op: Apply) -> Any:
    def nested(tree: Any) -> Any:
        if isinstance(tree, list | tuple):
            return np.stack([nested(part) for part in tree], axis=1)
        return stacker.full(op.operands[tree.index])

    found = nested(op.arguments["object"])
    return np.copy(found) if not isinstance(op.arguments["object"], list | tuple) else found


@rule(np.flip)
def _flip(stacker: Any, op: Apply) -> Any:
    rank = operand(op, "m").type.ndim
    axes = normalize_axes(op.arguments.get("axis"), rank)
    return np.flip(stack(stacker, op, "m"), axis=one_or_all([axis + 1 for axis in axes]))


@rule(np.roll)
def _roll(stacker: Any, op: Apply) -> Any:
    axis = op.arguments.get("axis")
    if axis is None and op.result.type.ndim != 1:
        return None
    axis = _later(0 if axis is None else axis, op.result.type.ndim)
    return np.roll(stack(stacker, op, "a"), static(stacker, op, "shift"), axis=axis)


@rule(np.diagonal, np.trace)
def _diagonal(stacker: Any, op: Apply) -> Any:
    rank = operand(op, "a").type.ndim
    one, other = (
        normalize_axis(op.arguments.get(name, default), rank) + 1
        for name, default in (("axis1", 0), ("axis2", 1))
    )
    where = {"offset": op.arguments.get("offset", 0), "axis1": one, "axis2": other}
    found = np.diagonal(stack(stacker, op, "a"), **where)
    return found if op.primitive.function is np.diagonal else np.sum(found, axis=-1)


@rule(DIAGONAL)
def _diag(stacker: Any, op: Apply) -> Any:
    offset = op.arguments.get("k", 0)
    x = stack(stacker, op, "v")
    return np.copy(np.diagonal(x, offset=offset, axis1=1, axis2=2))
