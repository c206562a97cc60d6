"""Gives equal computations one value.

    a = exp(x);  t = exp(x);  y = a * t        ->        a = exp(x);  y = a * a

A variable of the user's stays a statement of its own; only unnamed values are merged. Two new
arrays that are written to stay two.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Function,
    Op,
    Operand,
    Slot,
    Value,
    While,
    blocks_of,
)
from flatgrad.primitives.symbolic import REQUIRE_EQUAL
from flatgrad.transform.clone import all_ops, picked, rewired_apply, rewired_outside, with_blocks


def merge_common(fn: Function) -> Function:
    """The function with unnamed repetitions of a computation replaced by the first."""
    buffers: set[Operand] = set()
    for op in all_ops(fn.body):
        buffers |= _buffers(op)
    return replace(fn, body=_merged(fn.body, {}, {}, buffers))


def _merged(
    block: Block,
    replaced: dict[Value, Operand],
    first: dict[Hashable, Value | None],
    buffers: set[Operand],
) -> Block:
    """A block in which what blocks around it have computed (`first`) is not computed again.

    `first` maps a check that has no result to None.
    """
    ops: list[Op] = []
    for op in block.ops:
        if not isinstance(op, Apply):
            ops.append(_merged_inside(op, replaced, first, buffers))
            continue
        op = rewired_apply(op, replaced)
        key = None if buffers.intersection(op.results) else _key(op)
        if key is None:
            ops.append(op)
        elif key in first and (known := first[key]) is None:
            continue
        elif key in first and not op.result.kept:
            assert known is not None
            replaced[op.result] = known
        else:
            first.setdefault(key, op.result if op.results else None)
            ops.append(op)
    return Block(block.params, ops, tuple([picked(item, replaced) for item in block.yields]))


def _merged_inside(
    op: Op,
    replaced: dict[Value, Operand],
    first: dict[Hashable, Value | None],
    buffers: set[Operand],
) -> Op:
    """A branch or loop whose blocks have been merged: what they compute stays inside them."""

    def merged(block: Block) -> Block:
        return _merged(block, replaced, dict(first), buffers)

    return with_blocks(rewired_outside(op, replaced), merged)


def _buffers(op: Op) -> set[Operand]:
    """The arrays that an operation writes to, or that a loop may write to from trip to trip."""
    if isinstance(op, Apply):
        written = _written(op)
        return set() if written is None else {written}
    found: set[Operand] = set(op.inits) if isinstance(op, For | While) else set()
    for inner in blocks_of(op):
        found |= set(inner.yields)
    return {o for o in found if isinstance(o, Value) and o.type.ndim}


def _written(op: Op) -> Operand | None:
    """The array that an operation writes to in place."""
    if not isinstance(op, Apply) or op.primitive.in_place is None:
        return None
    return op.operands[op.arguments[op.primitive.in_place].index]


def _key(op: Apply) -> Hashable | None:
    """Equal for calls that compute the same; None for those that must stay."""
    is_check = op.primitive.function is REQUIRE_EQUAL
    if op.primitive.in_place or not (is_check or len(op.results) == 1):
        return None
    if op.primitive.effect and not is_check:
        return None
    operands = tuple(
        (repr(o.value), o.type) if isinstance(o, Const) else id(o) for o in op.operands
    )
    try:
        key = (op.primitive.name, id(op.primitive), operands, frozen(op.arguments))
        hash(key)
    except TypeError:
        return None
    return key


def frozen(tree: Any) -> Hashable:
    """An argument tree as a key.

    Raises
    ------
    TypeError
        If something in it cannot be compared.
    """
    kind = type(tree)
    if kind is Slot:
        return tree.index
    if kind is dict:
        return tuple([(name, frozen(item)) for name, item in tree.items()])
    if kind is tuple or kind is list:
        return (kind.__name__, tuple([frozen(item) for item in tree]))
    if kind is slice:
        return ("slice", frozen((tree.start, tree.stop, tree.step)))
    hash(tree)
    return (kind.__name__, tree)
