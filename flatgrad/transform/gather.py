"""Additions to neighbours become sums over neighbours.

    for i in range(1, n - 1):               for i in range(1, n - 1):
        e = ...                                 e_row[i + 1] = ...
        grad_u[i + 1] += e          ->      for i in range(n):
        grad_u[i - 1] += e                      grad_u[i] += e_row[i] + e_row[i + 2]

Several trips of the loop on the left write the same element; each trip of the second loop on the
right writes one. The row has zeros at both ends, for elements that have fewer neighbours. It is
made once, before the loops around, if it has the same length in all of their trips.
"""

from __future__ import annotations

import operator
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import numpy as np

from flatgrad.analysis.affine import Affine, Integers, number
from flatgrad.analysis.independent import Access, Carried
from flatgrad.analysis.ranges import Trips, never_below_zero
from flatgrad.ir.builder import Builder
from flatgrad.ir.dims import Size
from flatgrad.ir.ops import Apply, Block, Const, For, Op, Operand, Value, size_of
from flatgrad.ir.types import Array, Scalar
from flatgrad.primitives.core import TRIPS
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.primitives.symbolic import Symbol, apply_function, operand_of, symbol_of
from flatgrad.transform.building import call_into, plus, rebuilt, shifted
from flatgrad.transform.clone import cloned, defined_in

AGAIN = frozenset({"add", "sub", "mul", "neg"})
MOST_AGAIN = 6
"""Operations that are done again for each neighbour, and how many of them at most."""
FEWEST = 16
"""Loops of fewer trips than this, where that is known, are not worth a row."""


@dataclass(slots=True)
class Row:
    """An array that a loop fills anew: as it comes in (`before`), and as it goes out (`after`).

    It has a place for each trip from `start` to `stop`, and `margin` zeros at each end.
    """

    before: Value
    after: Value
    start: Affine
    stop: Affine
    margin: int


@dataclass(slots=True)
class Gathered:
    """The loops in the place of one, and the rows that they need."""

    ops: list[Op]
    rows: list[Row]


@dataclass(slots=True)
class _Sum:
    """What is added to one array: at `place + offset` for each (offset, value).

    `axis` is the entry of the index that moves with the loop.
    """

    index: tuple[Affine, ...]
    axis: int
    terms: list[tuple[int, Value]] = field(default_factory=list)


class Gathering:
    """Takes a loop apart; `loops` gives None where it has to stay."""

    def __init__(
        self,
        loop: For,
        carried: list[Carried],
        integers: Integers,
        builder: Builder,
        around: tuple[Trips, ...],
    ) -> None:
        self.loop = loop
        self.carried = carried
        self.integers = integers
        self.builder = builder
        self.around = around
        self.index = loop.body.params[0]
        self.start = integers.of(loop.start)
        self.stop = integers.of(loop.stop)
        self.inside = {value for op in loop.body.ops for value in op.results}
        self.steps: list[Apply] = []
        handed = zip(loop.inits, loop.body.params[1:], loop.body.yields, strict=True)
        self.unchanged = {param: init for init, param, item in handed if item is param}
        self.changing = {*loop.body.params} - self.unchanged.keys()

    def loops(self) -> Gathered | None:
        """The loop that fills rows, and a loop for each sum over them."""
        sums: dict[Value, list[_Sum]] = {}
        for one in self.carried:
            if one.kind == "gathered":
                parts = self.sums_of(one)
                if parts is None or one.param.type.dtype != "float64":
                    return None
                sums[one.param] = parts
        trips = self.stop.plus(self.start, -1)
        if not trips.terms and trips.constant < FEWEST:
            return None
        every = [(param, one) for param, parts in sums.items() for one in parts]
        if not all(self.is_within(param, one) for param, one in every):
            return None
        margin = max(_span(one) for _, one in every)
        rows = self.rows(sums, margin)
        ops: list[Op] = [self.filling(sums, rows)]
        for param, parts in sums.items():
            place = self.loop.body.params.index(param) - 1
            array = self.loop.inits[place]
            for part in parts:
                last = part is parts[-1]
                result = self.loop.results[place] if last else Value(param.type, param.name)
                ops += self.summing(part, array, result, rows)
                array = result
        return Gathered(ops, list(rows.values()))

    def sums_of(self, carried: Carried) -> list[_Sum] | None:
        """The additions to an array, by what they have in common."""
        found: dict[Any, _Sum] = {}
        for write in carried.writes:
            axis = self.moving_axis(write)
            if axis is None or not isinstance(write.value, Value):
                return None
            if write.value not in self.inside or write.value.type.dtype != "float64":
                return None
            entry = write.index[axis]
            rest = Affine(entry.terms)
            index = (*write.index[:axis], rest, *write.index[axis + 1 :])
            one = found.setdefault((axis, index), _Sum(index, axis))
            one.terms.append((entry.constant, write.value))
        return list(found.values())

    def moving_axis(self, write: Access) -> int | None:
        """The one entry that is the index of the loop plus what stays the same."""
        moving = [k for k, entry in enumerate(write.index) if entry.factor(self.index)]
        if len(moving) != 1 or write.index[moving[0]].factor(self.index) != 1:
            return None
        if any(value in self.inside for entry in write.index for value, _ in entry.terms):
            return None
        return moving[0]

    def is_within(self, param: Value, one: _Sum) -> bool:
        """Whether the elements from the lowest to the highest are elements, even of no trips."""
        offsets = [offset for offset, _ in one.terms]
        entry = one.index[one.axis]
        index = Affine(frozenset({(self.index, 1)}))
        lowest = entry.plus(index, -1).plus(self.start).plus(number(min(offsets)))
        end = entry.plus(index, -1).plus(self.stop).plus(number(max(offsets)))
        room = _length(param.type.shape[one.axis]).plus(end, -1)
        return all(never_below_zero(part, self.around[:-1]) for part in (lowest, room))

    # Building.

    def make(self, function: Any, *args: Any, name: str | None = None) -> Any:
        made = apply_function(function, args, {}, self.builder)
        if isinstance(made, Symbol) and name is not None:
            made.value.name = name
        return made

    def symbol(self, operand: Operand) -> Any:
        return symbol_of(operand, self.builder)

    def sources(self, added: list[Value]) -> tuple[list[Value], list[Apply]]:
        """The values to keep in rows, and the steps by which the others follow from them.

        Those that are added, or the one from which all follow by a few products and sums.
        """
        made = {op.result: op for op in self.loop.body.ops if isinstance(op, Apply)}
        found: set[Value] = set()
        steps: list[Apply] = []

        def search(value: Operand) -> bool:
            op = made.get(value) if isinstance(value, Value) else None
            if op is None or op in steps:
                return value not in self.changing
            if op.primitive.name not in AGAIN:
                found.add(op.result)
                return True
            known = [search(operand) for operand in op.operands]
            steps.append(op)
            return all(known)

        known = [search(value) for value in added]
        few = len(found) == 1 < len(added) and len(steps) <= MOST_AGAIN
        if all(known) and few and vanish_with(found, steps, added):
            return list(found), steps
        return added, []

    def rows(self, sums: dict[Value, list[_Sum]], margin: int) -> dict[Value, Row]:
        """A row for each value that is kept for the sums."""
        size = row_size(self.loop, margin)
        found: dict[Value, Row] = {}
        added = [v for group in sums.values() for one in group for _, v in one.terms]
        kept, self.steps = self.sources(list(dict.fromkeys(added)))
        for value in kept:
            name = f"{value.name or value.part or 'value'}_row"
            kind = Array("float64", (size,))
            before, after = (Value(kind, name, kept=True) for _ in range(2))
            found[value] = Row(before, after, self.start, self.stop, margin)
        return found

    def term(self, value: Value, offset: int, index: Any, rows: dict[Value, Row]) -> Any:
        """What the trip `index - offset` adds: read from a row, or computed again."""
        known: dict[Value, Operand] = {**self.unchanged}
        for source, row in rows.items():
            place = self.place(index, row, offset)
            item = self.make(operator.getitem, self.symbol(row.after), place)
            item.value.name = source.name
            known[source] = item.value
        if value not in known:
            for step in self.steps:
                self.builder.block.ops.append(cloned(step, known, self.loop.origin.sweep))
        return self.symbol(known[value])

    def place(self, index: Any, row: Row, offset: int) -> Any:
        """Where in the row the trip `index - offset` is."""
        start = self.loop.start
        shift = row.margin - offset
        if isinstance(start, Const):
            return plus(index, shift - start.value, self.builder)
        return plus(self.make(operator.sub, index, self.symbol(start)), shift, self.builder)

    def moved(self, bound: Operand, offset: int) -> Any:
        """A bound of the loop moved by an offset."""
        return shifted(bound, offset, self.integers.made, self.builder)

    def filling(self, sums: dict[Value, list[_Sum]], rows: dict[Value, Row]) -> For:
        """The loop, with rows in the place of the arrays."""
        loop = self.loop
        writes = {
            access.op
            for one in self.carried
            if one.kind == "gathered"
            for access in one.writes
        }
        ops: list[Op] = [op for op in loop.body.ops if op not in writes]
        params, yields = [], []
        block = Block((), ops)
        with self.builder.inside(block):
            self.builder.origin = loop.origin
            position = None
            for value, row in rows.items():
                if position is None:
                    position = self.place(self.symbol(self.index), row, 0)
                param = Value(row.before.type, row.before.name, kept=True)
                made = self.make(SET_ITEM, self.symbol(param), self.symbol(value), position)
                made.value.name, made.value.kept = row.before.name, True
                params.append(param)
                yields.append(made.value)
        kept = [k for k, param in enumerate(loop.body.params[1:]) if param not in sums]
        return replace(
            loop,
            inits=(*[loop.inits[k] for k in kept], *[row.before for row in rows.values()]),
            results=(*[loop.results[k] for k in kept], *[row.after for row in rows.values()]),
            body=Block(
                (self.index, *[loop.body.params[1 + k] for k in kept], *params),
                ops,
                (*[loop.body.yields[k] for k in kept], *yields),
            ),
        )

    def summing(
        self, one: _Sum, array: Operand, result: Value, rows: dict[Value, Row]
    ) -> list[Op]:
        """`for i in ...: array[i] += row[i] + row[i + 2]`."""
        offsets = [offset for offset, _ in one.terms]
        before: list[Op] = []
        index = Value(self.index.type, self.index.name)
        param = Value(result.type, result.name, kept=result.kept)
        body = Block((index, param))
        self.builder.origin = self.loop.origin
        with self.builder.inside(Block((), before)):
            start = operand_of(self.moved(self.loop.start, min(offsets)))
            stop = operand_of(self.moved(self.loop.stop, max(offsets)))
        with self.builder.inside(body):
            here = self.symbol(index)
            terms = [self.term(value, offset, here, rows) for offset, value in one.terms]
            name = f"{result.name or 'value'}_sum"
            total = reduce(lambda a, b: self.make(operator.add, a, b, name=name), terms)
            entries = [rebuilt(e.swapped(self.index, index), self.builder) for e in one.index]
            place = entries[0] if len(entries) == 1 else tuple(entries)
            made = self.make(ADD_ITEM, self.symbol(param), total, place)
            made.value.name, made.value.kept = result.name, result.kept
        body.yields = (made.value,)
        loop = For(
            start, stop, Const(1), (array,), body, (result,), origin=self.loop.origin, vector=True
        )
        return [*before, loop]


def vanish_with(sources: Collection[Value], steps: list[Apply], added: list[Value]) -> bool:
    """Whether all that is added is 0 where the sources are, as behind the ends of a row."""
    zeros = set(sources)
    for step in steps:
        known = [operand in zeros for operand in step.operands]
        if all(known) if step.primitive.name in ("add", "sub") else any(known):
            zeros.add(step.result)
    return zeros.issuperset(added)


def row_size(loop: For, margin: int) -> Any:
    """The length of a row with a place for each trip of a loop."""
    scratch = Builder(Block())
    bounds = [symbol_of(bound, scratch) for bound in (loop.start, loop.stop)]
    trips = apply_function(TRIPS, (*bounds, 1), {}, scratch)
    size: Any = size_of(trips.value) if isinstance(trips, Symbol) else trips
    return size + 2 * margin


def _length(size: Size) -> Affine:
    """The length of an axis, as a sum."""
    if isinstance(size, int):
        return number(size)
    return Affine(frozenset({(Value(Scalar("int64", weak=True, size=size)), 1)}))


def _span(one: _Sum) -> int:
    offsets = [offset for offset, _ in one.terms]
    return max(offsets) - min(offsets)


class Workspaces:
    """Rows that are still to be made, taken out of one loop after the other."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.open: list[Row] = []

    def add(self, rows: list[Row]) -> None:
        """Rows that the block at hand needs."""
        self.open += rows

    def widened(self, loop: For) -> For:
        """The loop carrying the rows of its body; those of changing length are made in it."""
        inside = set(defined_in(loop.body))
        rows = self.needed_by(loop.body)
        own = [row for row in rows if any(v in inside for v in _values(row))]
        body = self.made(loop.body, own)
        moved = [row for row in rows if row not in own]
        for row in moved:
            kind, name = row.before.type, row.before.name
            before, after = Value(kind, name, kept=True), Value(kind, name, kept=True)
            body = Block(
                (*body.params, row.before), body.ops, (*body.yields, row.after)
            )
            loop = replace(
                loop, inits=(*loop.inits, before), results=(*loop.results, after)
            )
            self.open.append(replace(row, before=before, after=after))
        return replace(loop, body=body)

    def allocated(self, block: Block) -> Block:
        """The block with the rows made in it."""
        return self.made(block, self.needed_by(block))

    def needed_by(self, block: Block) -> list[Row]:
        """The rows that loops of this block need; those of blocks before it stay open."""
        needed = {init for op in block.ops if isinstance(op, For) for init in op.inits}
        rows = [row for row in self.open if row.before in needed]
        self.open = [row for row in self.open if row.before not in needed]
        return rows

    def made(self, block: Block, rows: list[Row]) -> Block:
        """Each row made before the operation that needs it."""
        if not rows:
            return block
        ops: list[Op] = []
        for op in block.ops:
            needed = [row for row in rows if isinstance(op, For) and row.before in op.inits]
            with self.builder.inside(Block((), ops)):
                self.builder.origin = replace(op.origin, span=None)
                for row in needed:
                    self.zeros(row)
            ops.append(op)
        return Block(block.params, ops, block.yields)

    def zeros(self, row: Row) -> None:
        """`row = np.zeros(trips + 2 * margin)`."""
        start, stop = rebuilt(row.start, self.builder), rebuilt(row.stop, self.builder)
        trips = apply_function(TRIPS, (start, stop, 1), {}, self.builder)
        length = plus(trips, 2 * row.margin, self.builder)
        if isinstance(length, Symbol):
            length.value.name = "places"
        call_into(row.before, np.zeros, (length,), self.builder)


def _values(row: Row) -> list[Value]:
    return [value for bound in (row.start, row.stop) for value, _ in bound.terms]

