"""Gives equal computations one value.

    a = exp(x);  t = exp(x);  y = a * t        ->        a = exp(x);  y = a * a

A variable of the user's stays a statement of its own; only unnamed values are merged. Two new
arrays that are written to stay two.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from flatgrad.ir.ops import Apply, Block, Const, Function, Op, Operand, Slot, Value
from flatgrad.primitives.symbolic import REQUIRE_EQUAL


def merge_common(fn: Function) -> Function:
    """The function with unnamed repetitions of a computation replaced by the first."""
    replaced: dict[Value, Operand] = {}
    first: dict[Hashable, Value] = {}
    checked: set[Hashable] = set()
    buffers = set(filter(None, map(_written, fn.body.ops)))
    ops: list[Op] = []
    for op in fn.body.ops:
        if not isinstance(op, Apply):
            ops.append(op)
            continue
        op = rewired(op, replaced)
        key = None if buffers.intersection(op.results) else _key(op)
        if key is None:
            ops.append(op)
        elif not op.results:
            if key not in checked:
                ops.append(op)
            checked.add(key)
        elif key in first and not op.result.kept:
            replaced[op.result] = first[key]
        else:
            first.setdefault(key, op.result)
            ops.append(op)
    yields = tuple(replaced.get(item, item) for item in fn.body.yields)  # type: ignore[arg-type]
    return replace(fn, body=Block(fn.body.params, ops, yields))


def _written(op: Op) -> Operand | None:
    """The array that an operation writes to in place."""
    if not isinstance(op, Apply) or op.primitive.in_place is None:
        return None
    return op.operands[op.arguments[op.primitive.in_place].index]


def rewired(op: Apply, replaced: dict[Value, Operand]) -> Apply:
    """`op` reading the replacements."""
    if not any(operand in replaced for operand in op.operands):
        return op
    operands = tuple(replaced.get(o, o) for o in op.operands)  # type: ignore[arg-type]
    return replace(op, operands=operands)


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
        key = (op.primitive.name, id(op.primitive), operands, _frozen(op.arguments))
        hash(key)
    except TypeError:
        return None
    return key


def _frozen(tree: Any) -> Hashable:
    kind = type(tree)
    if kind is Slot:
        return tree.index
    if kind is dict:
        return tuple([(name, _frozen(item)) for name, item in tree.items()])
    if kind is tuple or kind is list:
        return (kind.__name__, tuple([_frozen(item) for item in tree]))
    if kind is slice:
        return ("slice", _frozen((tree.start, tree.stop, tree.step)))
    hash(tree)
    return (kind.__name__, tree)
