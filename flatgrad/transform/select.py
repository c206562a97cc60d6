"""Branches in innermost loops become choices, which a machine makes for several trips at a time.

    if s > K:                               d = s - K
        total = total + (s - K)     ->      total = total + (d if s > K else 0.0)

Both branches are computed then, so they must be cheap, and must not read arrays: an index may be
wrong in the branch that is not taken.
"""

from __future__ import annotations

import operator
from dataclasses import replace

import numpy as np

from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    If,
    Op,
    Operand,
    Slot,
    Value,
)
from flatgrad.ir.types import Scalar
from flatgrad.primitives.registry import Primitive, lookup
from flatgrad.transform.clone import picked, rewired, with_blocks

CHEAP = frozenset(
    {
        "add", "sub", "mul", "truediv", "neg", "pos", "abs", "absolute", "fabs", "sqrt", "square",
        "lt", "le", "gt", "ge", "eq", "ne", "and_", "or_", "xor", "invert", "not_", "logical_not",
        "logical_and", "logical_or", "maximum", "minimum", "sign", "identity", "where", "float",
        "float64", "astype",
    }
)  # fmt: skip
HEAVY = frozenset(
    {"exp", "log", "tanh", "sin", "cos", "sigmoid", "softplus", "log1p", "expm1", "exp2"}
)
MOST_CHEAP, MOST_HEAVY = 12, 2


def with_choices(block: Block) -> Block:
    """The body of a loop with choices in the place of cheap branches."""
    ops: list[Op] = []
    replaced: dict[Value, Operand] = {}
    for op in block.ops:
        op = rewired(op, replaced)
        if isinstance(op, If):
            op = with_blocks(op, with_choices)
        if isinstance(op, If) and _is_cheap(op):
            ops += _chosen(op, replaced)
        else:
            ops.append(op)
    return Block(block.params, ops, tuple([picked(item, replaced) for item in block.yields]))


def _is_cheap(op: If) -> bool:
    """Whether both branches may be computed whatever the condition."""
    cheap = heavy = 0
    for inner in (*op.then.ops, *op.orelse.ops):
        if not isinstance(inner, Apply) or len(inner.results) != 1 or inner.primitive.effect:
            return False
        if any(not isinstance(value.type, Scalar) for value in (*inner.operands, inner.result)):
            return False
        name = inner.primitive.name
        if inner.result.type.dtype == "int64" and name == "truediv":
            return False
        heavy += name in HEAVY
        cheap += name in CHEAP
        if name not in CHEAP and name not in HEAVY:
            return False
    known = all(isinstance(value.type, Scalar) for value in op.results)
    return known and cheap <= MOST_CHEAP and heavy <= MOST_HEAVY


def _chosen(op: If, replaced: dict[Value, Operand]) -> list[Op]:
    """The operations of both branches and a choice for each result."""
    ops: list[Op] = [*op.then.ops, *op.orelse.ops]
    if isinstance(op.condition, Const):
        return [op]
    made = {one.result: one for one in ops if isinstance(one, Apply)}
    for result, *items in zip(op.results, op.then.yields, op.orelse.yields, strict=True):
        one, other = (picked(item, replaced) for item in items)
        if one is other:
            replaced[result] = one
        else:
            ops += _choice(op, result, one, other, made)
    return ops


def _choice(
    op: If, result: Value, one: Operand, other: Operand, made: dict[Value, Apply]
) -> list[Op]:
    """`result = where(condition, one, other)`; what only one branch adds is chosen, not the sum."""
    for kept, grown, place in ((other, one, 0), (one, other, 1)):
        step = made.get(grown) if isinstance(grown, Value) else None
        if step is None or step.primitive.function not in (operator.add, operator.sub):
            continue
        if step.operands[0] is not kept or not result.type.dtype.startswith("float"):
            continue
        if step.operands[1].type.dtype != result.type.dtype:
            continue
        term = Value(step.operands[1].type, f"{result.name or 'value'}_term", part=result.part)
        zero = Const(0.0)
        branches = (step.operands[1], zero) if place == 0 else (zero, step.operands[1])
        chosen = Apply(_where(), (op.condition, *branches), _slots(3), (term,), op.origin)
        return [chosen, replace(step, operands=(kept, term), results=(result,))]
    return [Apply(_where(), (op.condition, one, other), _slots(3), (result,), op.origin)]


def _where() -> Primitive:
    found = lookup(np.where)
    assert isinstance(found, Primitive)
    return found


def _slots(count: int) -> dict[str, Slot]:
    names = _where().operand_names[:count]
    return {name: Slot(k) for k, name in enumerate(names)}
