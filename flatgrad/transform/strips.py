"""Nests whose outer trips do not depend on each other are done for 64 trips at a time.

    for i in range(n):                       for start in range(0, n, 64):
        square = 0.0                             width = min(64, n - start)
        for a in range(d):                       for lane in range(64):
            y = x[i, a] - m[a]        ->             square[lane] = 0.0
            square += y * y                      for a in range(d):
        total += np.sqrt(square)                     for lane in range(64):
                                                         y = x[min(start + lane, n - 1), a] - m[a]
                                                         square[lane] += y * y
                                                 for lane in range(64):
                                                     term = np.sqrt(square[lane])
                                                     total += term if lane < width else 0.0

The innermost loops run over the lanes of a strip, one after the other in memory. Numbers that more
than one of them needs become rows (`strip_rows.py`); arrays of which each trip has its own get an
axis for the lanes. Lanes after the last trip do the last trip again, and count for nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from flatgrad.analysis.activity import slots
from flatgrad.analysis.affine import Integers
from flatgrad.analysis.nests import Nest
from flatgrad.analysis.threads import Dependent, scalar_entries
from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Function,
    Op,
    Operand,
    Value,
    blocks_of,
    operands_of,
)
from flatgrad.transform.clone import rewired, with_blocks
from flatgrad.transform.dce import swept
from flatgrad.transform.handed_on import without_handed_on
from flatgrad.transform.join_nests import SHAPES, holds_nest, with_partner
from flatgrad.transform.rows_again import with_rows_again
from flatgrad.transform.select import with_choices
from flatgrad.transform.strip_loops import LANES, Strips
from flatgrad.transform.strip_seeds import with_large_seeds
from flatgrad.transform.strip_tables import with_tables
from flatgrad.transform.wide_sums import with_wide_sums


def strip_mine(fn: Function) -> Function:
    """The function with its nests in strips, where that is certainly right."""
    fn = replace(fn, body=without_handed_on(fn.body))
    return replace(fn, body=_stripped(fn.body, fn))


def _stripped(block: Block, fn: Function) -> Block:
    ops = list(block.ops)
    done: list[Op] = []
    yields = block.yields
    while ops:
        op = ops[0]
        found = None
        if isinstance(op, For) and holds_nest(op) and not _is_short(op):
            found = _joined(ops, fn, yields) or _alone(ops, 0, fn, yields)
        if found is None:
            done.append(with_blocks(op, lambda one: _stripped(one, fn)))
            ops = ops[1:]
        else:
            made, ops = found
            done += made
    return Block(block.params, done, yields)


Found = tuple[list[Op], list[Op]]
"""What is done, and what is still to be looked at."""


def _joined(ops: list[Op], fn: Function, yields: tuple[Operand, ...]) -> Found | None:
    """The first nest together with its nest of the backward sweep."""
    pair = with_partner(ops, 0, fn, yields)
    return None if pair is None else _alone(*pair, fn, yields)


def _alone(ops: list[Op], place: int, fn: Function, yields: tuple[Operand, ...]) -> Found | None:
    """The nest at a place in strips."""
    op, later = ops[place], ops[place + 1 :]
    assert isinstance(op, For)
    found = _strip(op, fn, ops, yields)
    if found is None:
        return None
    made, known = found
    early = [with_blocks(one, lambda block: _stripped(block, fn)) for one in ops[:place]]
    return [*early, *made], [rewired(one, known) for one in later]


def _is_short(op: For) -> bool:
    """Whether a loop is known to have fewer trips than a strip."""
    if not (isinstance(op.start, Const) and isinstance(op.stop, Const)):
        return False
    return abs(op.stop.value - op.start.value) < LANES


def _strip(
    op: For, fn: Function, around: list[Op], yields: tuple[Operand, ...]
) -> tuple[list[Op], dict[Value, Operand]] | None:
    """What stands in the place of a nest, and of the arrays of which only the shape is read."""
    op = with_rows_again(replace(op, body=swept(_with_choices(op.body))))
    integers = Integers.of_function(fn)
    integers.note(Block((), [*around, op]))
    try:
        nest = Nest(op, integers)
        builder = Builder(Block(), fn.lengths)
        before, op, after = with_wide_sums(op, _growing(nest), integers.made, builder)
        if before:
            integers.note(Block((), before))
            nest = Nest(op, integers)
        kinds = ("private", "restored")
        own = {one.result for one in nest.threads.values() if one.kind in kinds}
        if own & (_elements_read(around) | set(yields)):
            return None
        made = with_large_seeds(op, nest, fn, lambda one: _in_strips(one, integers, fn))
        if made is None:
            made = with_tables(Strips(op, nest, integers, fn).build(), integers.made, fn)
    except Dependent:
        return None
    made = [*before, *made, *after]
    return made, {result: init for init, _, _, result in slots(op) if result in own}


def _growing(nest: Nest) -> set[Value]:
    """The sums of a nest, and the arrays from zeros to which all trips add at the same places."""
    found = set(nest.sums.values())
    seen = {view.base for view in nest.views.values()}
    for init, param, _, _ in slots(nest.loop):
        thread = nest.threads.get(param)
        if thread is not None and thread.kind == "added" and nest.is_zero(init):
            versions = {one for one, other in nest.threads.items() if other is thread}
            if not versions & seen and _adds_for_all(nest.loop.body, versions, nest):
                found.add(param)
    return found


def _adds_for_all(block: Block, versions: set[Value], nest: Nest) -> bool:
    """Whether what is written to an array goes to places that all trips have in common."""
    for op in block.ops:
        if isinstance(op, Apply) and op.results and op.result in versions:
            if any(entry in nest.varying for entry in scalar_entries(op) or ()):
                return False
        elif not all(_adds_for_all(inner, versions, nest) for inner in blocks_of(op)):
            return False
    return True


def _in_strips(op: For, integers: Integers, fn: Function) -> list[Op]:
    """A nest in strips; raises Dependent where that is not certainly right."""
    integers.note(Block((), [op]))
    return with_tables(Strips(op, Nest(op, integers), integers, fn).build(), integers.made, fn)


def _with_choices(block: Block) -> Block:
    """Choices in the place of cheap branches, in the loops inside, too."""
    inner = Block(block.params, [with_blocks(op, _with_choices) for op in block.ops], block.yields)
    return with_choices(inner)


def _elements_read(ops: list[Op]) -> set[Any]:
    """The values of which more than the shape is read."""
    found: set[Any] = set()

    def block(inner: Block) -> Block:
        found.update(_elements_read(inner.ops), inner.yields)
        return inner

    for op in ops:
        if not (isinstance(op, Apply) and op.primitive.function in SHAPES):
            found |= set(operands_of(op))
        with_blocks(op, block)
    return found
