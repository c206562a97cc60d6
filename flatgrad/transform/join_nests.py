"""A nest of the forward sweep and its nest of the backward sweep become one, without a tape.

    y_tape = np.empty((n, d))                   for i in range(n):
    for i in range(n):                              y_tape = np.empty(d)
        for a in range(d):                          for a in range(d):
            y = w[a] * x[i, a]                          y = w[a] * x[i, a]
            y_tape[i, a] = y             ->             y_tape[a] = y
            total += y * y                              total += y * y
    for i in range(n - 1, -1, -1):                  for a in range(d - 1, -1, -1):
        for a in range(d - 1, -1, -1):                  grad_w[a] += 2 * y_tape[a] * x[i, a]
            grad_w[a] += 2 * y_tape[i, a] * x[i, a]

The trips of the second must not depend on each other (`analysis/nests.py`), as they are made in
another order, and it must read nothing that the first has at its end: the seed of a sum is known
before. Of a tape it may read only what the same trip wrote.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flatgrad.analysis.activity import slots
from flatgrad.analysis.affine import Affine, Integers
from flatgrad.analysis.dependence import LENGTHS
from flatgrad.analysis.nests import Nest
from flatgrad.analysis.ranges import Trips
from flatgrad.analysis.threads import (
    Dependent,
    base_of,
    defined_inside,
    holds_loop,
    scalar_entries,
    value_of,
)
from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Apply, Block, For, Function, Op, Operand, Value, blocks_of, substitute
from flatgrad.ir.types import Array
from flatgrad.primitives.index import SET_ITEM
from flatgrad.primitives.symbolic import apply_function, symbol_of
from flatgrad.transform.building import call_into
from flatgrad.transform.clone import picked, rewired, rewired_block, with_blocks
from flatgrad.transform.dce import has_effect, read_by

SHAPES = (*LENGTHS, np.zeros_like, np.ones_like, np.empty_like)
"""Functions that read no more of an array than its shape."""


def holds_nest(loop: For) -> bool:
    """Whether there are loops inside a loop."""
    return any(holds_loop(op) for op in loop.body.ops)


def with_partner(
    ops: list[Op], place: int, fn: Function, yields: tuple[Operand, ...]
) -> tuple[list[Op], int] | None:
    """The operations with the nest at `place` joined with a later one, and where it then stands.

    None if there is no such nest. `yields` are those of the block.
    """
    first = ops[place]
    if not isinstance(first, For) or first.origin.sweep != "forward":
        return None
    for other, second in enumerate(ops[place + 1 :], place + 1):
        if has_effect(second):
            return None
        if isinstance(second, For) and second.origin.sweep == "backward" and holds_nest(second):
            after = ops[other + 1 :]
            pair = _Pair(first, ops[place + 1 : other], second, after, fn, yields)
            found = pair.joined()
            if found is not None:
                early, loop, late = found
                return [*ops[:place], *early, loop, *late, *after], place + len(early)
    return None


@dataclass(slots=True)
class _Tape:
    """An array of which the first loop writes, and the second reads, the row of the trip.

    `versions` are those in the first loop, with what they become when only that row is kept.
    """

    init: Apply
    param: Value
    result: Value
    versions: dict[Value, Value] = field(default_factory=dict)
    number: Operand | None = None


class _Pair:
    """Two nests, what stands between them, and what follows."""

    def __init__(
        self, first: For, between: list[Op], second: For, after: list[Op], fn: Function,
        yields: tuple[Operand, ...],
    ) -> None:  # fmt: skip
        self.first, self.between, self.second = first, between, second
        self.after, self.yields = after, yields
        self.integers = Integers.of_function(fn)
        self.integers.note(Block((), [first, *between, second]))
        self.builder = Builder(Block(), fn.lengths)
        self.starts = dict(zip(first.results, first.inits, strict=True))

    def joined(self) -> tuple[list[Op], For, list[Op]] | None:
        """What then stands before the loop, the loop, and what stands behind it."""
        one, other = (Trips.of(loop, self.integers) for loop in (self.first, self.second))
        if one is None or other is None or self.first.exits or abs(_step(self.first)) != 1:
            return None
        if (one.lowest, one.highest) != (other.lowest, other.highest):
            return None
        between = [self.by_shape(op) for op in self.between]
        second = self.by_shape(self.second)
        assert isinstance(second, For)
        self.integers.note(Block((), [*between, second]))
        split = self.split(between)
        if split is None:
            return None
        early, late, taken = split
        if _written(early) & read_by(self.first):
            return None
        tapes = self.tapes(second, [*between, *self.after])
        if tapes is None or (read_by(second) - {tape.result for tape in tapes}) & taken:
            return None
        try:
            Nest(second, self.integers)
        except Dependent:
            return None
        return early, self.merged(second, tapes), late

    def by_shape(self, op: Op) -> Op:
        """Where only the shape of a result of the first loop is read: that of its start."""

        def changed(one: Op) -> Op:
            if isinstance(one, Apply) and one.primitive.function in SHAPES:
                arrays = {o: self.starts[o] for o in one.operands if o in self.starts}
                return rewired(one, arrays) if arrays else one
            return with_blocks(one, block)

        def block(inner: Block) -> Block:
            return Block(inner.params, [changed(one) for one in inner.ops], inner.yields)

        return changed(op)

    def split(self, between: list[Op]) -> tuple[list[Op], list[Op], set[Value]] | None:
        """What can stand before both loops, and what needs the first."""
        taken = set(self.first.results)
        early: list[Op] = []
        late: list[Op] = []
        for op in between:
            if taken & read_by(op):
                late.append(op)
                taken |= set(op.results)
            else:
                early.append(_moved(op))
        return early, late, taken

    # Tapes.

    def tapes(self, second: For, others: list[Op]) -> list[_Tape] | None:
        """The tapes that the second loop reads; None if it reads one in another way."""
        elsewhere = set(self.yields).union(*[read_by(op) for op in others])
        wanted = read_by(second)
        found: list[_Tape] = []
        for init, param, _, result in slots(self.first):
            if result not in wanted:
                continue
            made = self.integers.made.get(init) if isinstance(init, Value) else None
            if made is None or made.primitive.function is not np.empty or result in elsewhere:
                return None
            if not param.type.ndim or result in second.inits or self.is_read_early(init):
                return None
            tape = _Tape(made, param, result)
            rows = self.written(tape, self.first.body)
            if rows is None:
                return None
            rows |= self.read(tape, second.body, second.body.params[0])
            if len(rows) != 1 or not all(self.moves(row) for row in rows):
                return None
            if param.type.ndim == 1 and tape.number is None:
                return None
            found.append(tape)
        return found

    def is_read_early(self, init: Operand) -> bool:
        """Whether others than the first loop read what a tape starts from."""
        reads = sum(one is init for one in self.first.inits)
        return reads != 1 or any(init in read_by(op) for op in (*self.between, self.second))

    def moves(self, row: Any) -> bool:
        """Whether every trip has a row of its own, which is a place that counts from the start."""
        index, inside = self.first.body.params[0], defined_inside(self.first.body)
        return (
            isinstance(row, Affine)
            and abs(row.factor(index)) == 1
            and all(value is index or value not in inside for value, _ in row.terms)
        )

    def written(self, tape: _Tape, block: Block) -> set[Any] | None:
        """The rows that the first loop writes, with all versions noted; None if it does more."""
        rows: set[Any] = set()
        tape.versions[tape.param] = self.narrow(tape.param)

        def visit(inner: Block, top: bool) -> bool:
            for op in inner.ops:
                if not isinstance(op, Apply):
                    if not isinstance(op, For):
                        if any(version in read_by(op) for version in tape.versions):
                            return False
                        continue
                    for init, param, _, result in slots(op):
                        if init in tape.versions:
                            tape.versions[param] = self.narrow(param)
                            tape.versions[result] = self.narrow(result)
                    if not visit(op.body, False):
                        return False
                    continue
                if not any(operand in tape.versions for operand in op.operands):
                    continue
                entries = scalar_entries(op) if op.primitive.function is SET_ITEM else None
                if entries is None or base_of(op) not in tape.versions:
                    return False
                if value_of(op) in tape.versions:
                    return False
                rows.add(self.integers.of(entries[0]))
                tape.versions[op.result] = self.narrow(op.result)
                if op.result.type.ndim == 1:
                    if not top or tape.number is not None:
                        return False
                    tape.number = value_of(op)
            return True

        return rows if visit(block, True) else None

    def narrow(self, value: Value) -> Value:
        """The array without its first axis."""
        made = Value(Array(value.type.dtype, value.type.shape[1:]), value.name, kept=value.kept)
        return made

    def read(self, tape: _Tape, block: Block, index: Value) -> set[Any]:
        """The rows that the second loop reads, in terms of the first one's index."""
        rows: set[Any] = set()
        mine = self.first.body.params[0]

        def visit(inner: Block) -> None:
            for op in inner.ops:
                if not isinstance(op, Apply):
                    if isinstance(op, For) and tape.result in op.inits:
                        rows.add("carried")
                    for nested in blocks_of(op):
                        visit(nested)
                elif tape.result in op.operands:
                    plain = op.primitive.function is operator.getitem
                    entries = scalar_entries(op) if plain else None
                    if entries is None:
                        rows.add("whole")
                    else:
                        rows.add(self.integers.of(entries[0]).swapped(index, mine))
            if tape.result in inner.yields:
                rows.add("carried")

        visit(block)
        return rows

    # Building.

    def merged(self, second: For, tapes: list[_Tape]) -> For:
        first = self.first
        index = first.body.params[0]
        by_param = {tape.param: tape for tape in tapes}
        ops: list[Op] = []
        with self.builder.inside(Block((), ops)):
            for tape in tapes:
                if tape.param.type.ndim > 1:
                    self.allocate(tape)
        changed = _Rows(tapes, self.builder)
        body = changed.block(first.body)
        ends = {tape.result: tape for tape in tapes}
        finals = {result: item for _, _, item, result in slots(first) if result in ends}
        rest = changed.reading(second.body, ends, finals)
        rest = rewired_block(rest, {second.body.params[0]: index, **changed.known})
        keep = [k for k, param in enumerate(first.body.params[1:]) if param not in by_param]
        return replace(
            first,
            inits=(*[first.inits[k] for k in keep], *second.inits),
            results=(*[first.results[k] for k in keep], *second.results),
            body=Block(
                (index, *[first.body.params[1 + k] for k in keep], *rest.params[1:]),
                [*ops, *body.ops, *rest.ops],
                (*[body.yields[k] for k in keep], *rest.yields),
            ),
        )

    def allocate(self, tape: _Tape) -> None:
        """The row of a trip."""
        shape = substitute(tape.init.arguments["shape"], tape.init.operands.__getitem__)
        lengths = tuple(
            symbol_of(one, self.builder) if isinstance(one, Operand) else one for one in shape[1:]
        )
        self.builder.origin = replace(self.first.origin, span=None)
        dtype = tape.init.arguments.get("dtype")
        keywords = {} if dtype is None else {"dtype": dtype}
        made = apply_function(np.empty, (lengths,), keywords, self.builder)
        made.value.name, made.value.kept = tape.param.name, True
        tape.versions[tape.param] = made.value


@dataclass(slots=True)
class _Rows:
    """Rewrites both bodies so that tapes have no axis for the trips."""

    tapes: list[_Tape]
    builder: Builder
    known: dict[Value, Operand] = field(default_factory=dict)
    versions: dict[Value, Value] = field(default_factory=dict)
    gone: set[Value] = field(default_factory=set)

    def __post_init__(self) -> None:
        for tape in self.tapes:
            if tape.param.type.ndim == 1:
                self.gone |= set(tape.versions)
            else:
                self.versions |= tape.versions

    def block(self, block: Block) -> Block:
        """The body of the first loop: writes go to the row."""
        ops: list[Op] = []
        for op in block.ops:
            if isinstance(op, Apply):
                if op.result in self.gone if op.results else False:
                    continue
                if op.results and op.result in self.versions:
                    self.write(op, ops)
                else:
                    ops.append(op)
                continue
            if isinstance(op, For):
                inner = self.block(op.body)
                ops.append(
                    replace(
                        op,
                        inits=self.swapped(op.inits),
                        results=self.swapped(op.results),
                        body=Block(self.swapped(inner.params), inner.ops, inner.yields),
                    )
                )
            else:
                ops.append(with_blocks(op, self.block))
        return Block(block.params, ops, self.swapped(block.yields))

    def swapped(self, values: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple([picked(value, self.versions) for value in values])

    def write(self, op: Apply, ops: list[Op]) -> None:
        entries = scalar_entries(op)
        assert entries is not None
        base = self.versions[base_of(op)]  # type: ignore[index]
        with self.builder.inside(Block((), ops)):
            self.builder.origin = op.origin
            given = [symbol_of(one, self.builder) for one in (base, value_of(op))]
            if len(entries) == 1:
                index: Any = slice(None)
            else:
                index = self.index(entries[1:])
            call_into(self.versions[op.result], SET_ITEM, (*given, index), self.builder)

    def index(self, entries: tuple[Any, ...]) -> Any:
        found = tuple(one if type(one) is int else symbol_of(one, self.builder) for one in entries)
        return found[0] if len(found) == 1 else found

    def reading(
        self, block: Block, ends: dict[Value, _Tape], finals: dict[Value, Operand]
    ) -> Block:
        """The body of the second loop: reads come from the row."""
        ops: list[Op] = []
        for op in block.ops:
            base = op.operands[0] if isinstance(op, Apply) and op.operands else None
            if not isinstance(base, Value) or base not in ends:
                ops.append(with_blocks(op, lambda one: self.reading(one, ends, finals)))
                continue
            assert isinstance(op, Apply)
            entries = scalar_entries(op)
            assert entries is not None
            tape = ends[base]
            if tape.param.type.ndim == 1:
                assert tape.number is not None
                self.known[op.result] = tape.number
            elif len(entries) == 1:
                self.known[op.result] = picked(finals[base], self.versions)
            else:
                row = picked(finals[base], self.versions)
                with self.builder.inside(Block((), ops)):
                    self.builder.origin = op.origin
                    given = symbol_of(row, self.builder)
                    call_into(
                        op.result, operator.getitem, (given, self.index(entries[1:])), self.builder
                    )
        return Block(block.params, ops, block.yields)


def _step(loop: For) -> int:
    return getattr(loop.step, "value", 0)


def _moved(op: Op) -> Op:
    """An operation of the backward sweep that has come to stand before the loop."""
    if op.origin.sweep != "backward":
        return op
    return replace(op, origin=replace(op.origin, sweep="early"))


def _written(ops: list[Op]) -> set[Any]:
    """The arrays that operations write in place, or of which loops write versions."""
    found: set[Any] = set()
    for op in ops:
        if isinstance(op, For):
            found |= set(op.inits)
        elif not isinstance(op, Apply):
            found |= read_by(op)
        elif op.primitive.in_place is not None:
            found.add(base_of(op))
    return {value for value in found if value.type.ndim}
