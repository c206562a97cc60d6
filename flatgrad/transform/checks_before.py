"""Indices of all trips of a loop are looked at before it, where the loop adds to a row of a strip.

    for b in range(a):                         for b in range(a):
        place = a * (a + 1) // 2 + b               place = a * (a + 1) // 2 + b
        if not -q.shape[0] <= place < ...:         if not -q.shape[0] <= place < ...:
            raise IndexError(...)                      raise IndexError(...)
        for lane in range(64):           ->    for b in range(a):
            y[lane] += q[place] * x[b, lane]       place = a * (a + 1) // 2 + b
                                                   for lane in range(64):
                                                       y[lane] += q[place] * x[b, lane]

A loop that may end in an error has to store `y` in each trip; without, it keeps all of a row in
registers. What it writes is memory of the strips alone, so nobody sees that the error comes first.
The indices must be computed from ints that no trip changes.
"""

from __future__ import annotations

from dataclasses import replace

from flatgrad.analysis.threads import scalar_entries
from flatgrad.ir.copies import twin
from flatgrad.ir.ops import Apply, Block, For, Op, Value, operands_of
from flatgrad.ir.types import Scalar
from flatgrad.primitives.index import SET_ITEM
from flatgrad.primitives.lengths import DIM, REQUIRE_ENTRY
from flatgrad.transform.clone import copied_block
from flatgrad.transform.dce import swept

WHOLE = frozenset("add sub mul neg floordiv".split())  # noqa: SIM905
"""Operations on ints that can be done twice, and raise nothing."""


def with_checks_before(loop: For) -> list[Op]:
    """The loop, behind one that looks at its indices if that is possible and wins something."""
    if loop.exits or not _keeps_a_row(loop):
        return [loop]
    checks = [op for op in loop.body.ops if _is_check(op)]
    makers = {value: op for op in loop.body.ops for value in op.results}
    needed: set[Op] = set()
    if not checks or not all(_follow(op, makers, loop, needed) for op in checks):
        return [loop]
    scan = Block(loop.body.params[:1], [op for op in loop.body.ops if op in needed], ())
    first = replace(loop, inits=(), body=copied_block(scan, {}, twin), results=())
    rest = [op for op in loop.body.ops if op not in checks]
    body = swept(Block(loop.body.params, rest, loop.body.yields))
    return [first, replace(loop, body=body)]


def _is_check(op: Op) -> bool:
    return isinstance(op, Apply) and op.primitive.function is REQUIRE_ENTRY


def _keeps_a_row(loop: For) -> bool:
    """Whether a loop over lanes, the only loop inside, sets the elements of rows."""
    inner = [op for op in loop.body.ops if not isinstance(op, Apply)]
    if len(inner) != 1 or not isinstance(inner[0], For) or not inner[0].vector:
        return False
    lane = inner[0].body.params[0]
    writes = [op for op in inner[0].body.ops if isinstance(op, Apply) and op.primitive.in_place]
    return bool(writes) and all(
        op.primitive.function is SET_ITEM and scalar_entries(op) == (lane,) for op in writes
    )


def _follow(op: Op, makers: dict[Value, Op], loop: For, needed: set[Op]) -> bool:
    """Whether an operation can be done before the loop, for each trip; with all that it needs."""
    needed.add(op)
    for operand in operands_of(op):
        if operand in loop.body.params[1:]:
            return False
        made = makers.get(operand) if isinstance(operand, Value) else None
        if made is None or made in needed:
            continue
        if not _is_whole(made) or not _follow(made, makers, loop, needed):
            return False
    return True


def _is_whole(op: Op) -> bool:
    """Whether an int is computed from ints, or is the length of an array."""
    if not isinstance(op, Apply) or len(op.results) != 1:
        return False
    kinds = [one.type for one in (*op.operands, *op.results)]
    ints = all(isinstance(kind, Scalar) and kind.dtype == "int64" for kind in kinds)
    return op.primitive.function is DIM or (ints and op.primitive.name in WHOLE)
