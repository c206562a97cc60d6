"""Rows that take little to fill are filled again in the backward sweep, and not kept.

    for i in range(n):                            for i in range(n):
        for c in range(k):                            for c in range(k):
            for a in range(d):                            for a in range(d):
                y[a] = x[i, a] - m[c, a]                      y[a] = x[i, a] - m[c, a]
            y_tape[c] = y                 ->              ... y[a] ...
            ... y[a] ...                              for c in range(k - 1, -1, -1):
        for c in range(k - 1, -1, -1):                    for a in range(d):
            ... y_tape[c, a] ...                              y[a] = x[i, a] - m[c, a]
                                                          ... y[a] ...

In a strip a row is as many numbers for each lane. To write all of them and read them again takes
longer than a difference of two that are in the cache. What a row is filled from must be there
before the nest, but for the indices of the loops around. Every element must be filled, or
something from before would be read; and both loops go through all rows, or one would be read as it
was before.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace

from flatgrad.analysis.activity import slots
from flatgrad.analysis.threads import covers, defined_inside, scalar_entries
from flatgrad.ir.copies import twin
from flatgrad.ir.ops import Apply, Block, For, Op, Operand, Value, operands_of
from flatgrad.primitives.index import SET_ITEM
from flatgrad.transform.clone import copied_block, rewired_block
from flatgrad.transform.dce import read_by, swept
from flatgrad.transform.dce import reads as values_read

LIGHT = frozenset("add sub mul neg".split())  # noqa: SIM905
MOST = 6
"""Operations for an element."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A row that is kept: in which loop, by which loop it is filled, and where it goes.

    `before` and `after` are the array as the loop comes upon it and leaves it; `tape` is what the
    loop leaves of the rows.
    """

    fill: For
    copy: Apply
    before: Value
    after: Value
    tape: Value


def with_rows_again(nest: For) -> For:
    """The nest, in which rows are filled again where that is certainly the same."""
    for forward in [op for op in nest.body.ops if isinstance(op, For)]:
        for kept in _kept(forward, nest):
            found = _again(nest, forward, kept)
            if found is not None:
                return with_rows_again(found)
    return nest


def _kept(forward: For, nest: For) -> list[Kept]:
    """The rows that a loop of a nest fills and keeps."""
    fills: dict[Value, For] = {}
    for op in forward.body.ops:
        if isinstance(op, For):
            fills |= _filled_alone(op, forward, nest)
    found = []
    for op in forward.body.ops:
        if not isinstance(op, Apply) or op.primitive.function is not SET_ITEM:
            continue
        base, value = _given(op, "x"), _given(op, "value")
        fill = fills.get(value)  # type: ignore[arg-type]
        if fill is None or scalar_entries(op) != (forward.body.params[0],):
            continue
        own = [row for row in slots(forward) if row[2] is value and row[1] is fill.inits[0]]
        tapes = [row for row in slots(forward) if row[2] is op.result and row[1] is base]
        if len(own) == len(tapes) == 1 and _is_only_written(forward, op, tapes[0][1]):
            found.append(Kept(fill, op, own[0][1], own[0][3], tapes[0][3]))
    return found


def _is_only_written(forward: For, copy: Apply, tape: Value) -> bool:
    """Whether a loop puts a row into each place of an array, and does nothing else with it."""
    others = [op for op in forward.body.ops if op is not copy]
    if any({tape, copy.result} & read_by(op) for op in others) or forward.exits:
        return False
    return forward.body.yields.count(copy.result) == 1 and covers(forward, tape.type.shape[0])


def _given(op: Apply, name: str) -> Operand:
    slot = op.arguments[op.primitive.in_place or "x" if name == "x" else name]
    found: Operand = op.operands[slot.index]
    return found


def _filled_alone(op: For, forward: For, nest: For) -> dict[Value, For]:
    """By row, a loop that does nothing but fill it, from what is there before the nest."""
    found = {}
    for init, param, item, result in slots(op):
        if param.type.ndim == 1 and not op.exits:
            block = swept(Block((op.body.params[0], param), op.body.ops, (item,)))
            alone = replace(op, inits=(init,), body=block, results=(result,))
            if _fills(alone, forward, nest):
                found[result] = alone
    return found


def _fills(op: For, forward: For, nest: For) -> bool:
    """Whether a loop only fills a row, with what can be computed again."""
    index, param = op.body.params
    if not 0 < len(op.body.ops) <= MOST or not covers(op, param.type.shape[0]):
        return False
    known = defined_inside(nest.body) - {nest.body.params[0], forward.body.params[0], index}
    if {op.start, op.stop} & known:
        return False
    *ops, last = op.body.ops
    for one in ops:
        if not _is_light(one) or known & set(operands_of(one)):
            return False
        known -= set(one.results)
    return (
        isinstance(last, Apply)
        and last.primitive.function is SET_ITEM
        and _given(last, "x") is param
        and scalar_entries(last) == (index,)
        and _given(last, "value") not in known
        and op.body.yields == (last.result,)
    )


def _is_light(op: Op) -> bool:
    """Whether a number is computed that may as well be computed twice."""
    if not isinstance(op, Apply) or len(op.results) != 1 or op.result.type.ndim:
        return False
    if op.primitive.function is operator.getitem:
        return scalar_entries(op) is not None
    return op.primitive.name in LIGHT


def _again(nest: For, forward: For, kept: Kept) -> For | None:
    """The nest in which a row is filled again; None if it is read in another way."""
    readers = [op for op in nest.body.ops if kept.tape in read_by(op)]
    if len(readers) != 1 or kept.tape in nest.body.yields:
        return None
    (backward,) = readers
    if not isinstance(backward, For) or backward.exits or kept.tape in operands_of(backward):
        return None
    if not covers(backward, kept.tape.type.shape[0]):
        return None
    if any(kept.after in read_by(op) for op in nest.body.ops):
        return None
    if nest.body.yields.count(kept.after) != 1:
        return None
    reads = [op for op in backward.body.ops if kept.tape in operands_of(op)]
    rest = Block((), [op for op in backward.body.ops if op not in reads], backward.body.yields)
    index = backward.body.params[0]
    if kept.tape in values_read(rest) or not all(_reads_row(op, kept.tape, index) for op in reads):
        return None
    return _rebuilt(nest, forward, backward, kept, reads)


def _reads_row(op: Op, tape: Value, index: Value) -> bool:
    """Whether an operation takes the row of the trip."""
    return (
        isinstance(op, Apply)
        and op.primitive.function is operator.getitem
        and op.operands[0] is tape
        and scalar_entries(op) == (index,)
    )


def _rebuilt(nest: For, forward: For, backward: For, kept: Kept, reads: list[Op]) -> For:
    """The nest, in whose second loop the row is filled."""
    param, result = twin(kept.before), twin(kept.after)
    again, row = _filled(kept.fill, forward.body.params[0], backward.body.params[0], param)
    rest = [op for op in backward.body.ops if op not in reads]
    body = Block((*backward.body.params, param), [again, *rest], (*backward.body.yields, row))
    body = rewired_block(body, {value: row for op in reads for value in op.results})
    second = replace(
        backward,
        inits=(*backward.inits, kept.after),
        body=body,
        results=(*backward.results, result),
    )
    unkept = [op for op in forward.body.ops if op is not kept.copy]
    tape = _given(kept.copy, "x")
    yields = tuple([tape if item is kept.copy.result else item for item in forward.body.yields])
    first = replace(forward, body=Block(forward.body.params, unkept, yields))
    new: dict[Op, Op] = {forward: first, backward: second}
    ops = [new.get(op, op) for op in nest.body.ops]
    left = tuple([result if item is kept.after else item for item in nest.body.yields])
    return replace(nest, body=swept(Block(nest.body.params, ops, left)))


def _filled(fill: For, old: Value, new: Value, start: Value) -> tuple[For, Value]:
    """A copy of the loop that fills a row, in a loop with another index."""
    mapping: dict[Value, Operand] = {old: new}
    body = copied_block(fill.body, mapping, twin)
    row = twin(fill.results[0])
    return replace(fill, inits=(start,), body=body, results=(row,)), row
