"""A loop made as three: before the loop in it, with that one around it, and after it.

    for j in range(m):                      e_row = np.empty(m)
        e = np.exp(x[j])                    for j in range(m):
        for i in range(n):                      e_row[j] = np.exp(x[j])
            B[i, j] = A[i, j] * e     ->    for i in range(n):
        y[j] = e                                for j in range(m):
                                                    B[i, j] = A[i, j] * e_row[j]
                                            for j in range(m):
                                                y[j] = e_row[j]

Numbers that a trip of the outer loop has for itself become rows, with a place for each trip.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flatgrad.analysis.affine import Affine, number
from flatgrad.analysis.independent import Body
from flatgrad.analysis.loop_pairs import AFTER, BEFORE, INNER, Line, Own, Pair, is_sum_of_ints
from flatgrad.analysis.ranges import Trips, never_below_zero
from flatgrad.ir.builder import Builder
from flatgrad.ir.copies import copied_ops, twin
from flatgrad.ir.ops import Apply, Block, Const, For, Op, Operand, Value, all_reads
from flatgrad.primitives.core import TRIPS
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.primitives.symbolic import Symbol, apply_function, operand_of, symbol_of
from flatgrad.transform.building import call_into, rebuilt
from flatgrad.transform.clone import picked, rewired
from flatgrad.transform.tape import dtype_keyword

Known = dict[Value, Operand]


@dataclass(slots=True)
class Row:
    """The places for a number; `now` is the array as the next loop finds it."""

    now: Value
    name: str

    def next(self) -> Value:
        """A new version of the array."""
        return Value(self.now.type, self.name, kept=True)


@dataclass(slots=True)
class _Loop:
    """A loop under construction: what it carries, and its operations."""

    index: Value
    known: Known = field(default_factory=dict)
    inits: list[Operand] = field(default_factory=list)
    params: list[Value] = field(default_factory=list)
    items: list[Operand] = field(default_factory=list)
    results: list[Value] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)

    def carry(self, init: Operand, param: Value, item: Operand, result: Value) -> None:
        """One more carried variable."""
        self.inits.append(init)
        self.params.append(param)
        self.items.append(item)
        self.results.append(result)

    def over(self, loop: For) -> For:
        """The loop, over the trips of a given one."""
        items = tuple([picked(item, self.known) for item in self.items])
        body = Block((self.index, *self.params), self.ops, items)
        return replace(
            loop, inits=tuple(self.inits), body=body, results=tuple(self.results)
        )


class Parts:
    """Builds the loops; `state` is each array, as the next loop finds it.

    `rows` are for what the part before makes, `own_rows` for what the inner loop carries, which the
    nest has at `at` among its variables.
    """

    def __init__(self, pair: Pair, lengths: Any) -> None:
        self.pair = pair
        self.outer = pair.outer
        self.inner = pair.inner
        self.index = pair.outer.body.params[0]
        self.ops: list[Op] = [*pair.still]
        self.builder = Builder(Block((), self.ops), lengths)
        self.builder.origin = replace(pair.outer.origin, span=None)
        self.state: dict[Line, Operand] = {line: line.init for line in pair.lines}
        self.rows: dict[Value, Row] = {}
        self.own_rows: dict[Own, Row] = {}
        self.at: dict[Own, int] = {}
        trips = Trips.of(pair.outer, pair.places.integers)
        assert trips is not None
        self.trips = trips

    def built(self) -> list[Op]:
        """What stands in the place of the outer loop."""
        pair = self.pair
        self.make_rows()
        if pair.before or BEFORE in pair.numbers.values() or self.filled():
            self.ops.append(self.before())
        self.ops.append(self.nest())
        if pair.after or AFTER in pair.numbers.values():
            self.ops.append(self.after())
        return self.ops

    # Rows.

    def make_rows(self) -> None:
        """Places for what one part makes and another needs."""
        made = [value for op in self.pair.before for value in op.results if not value.type.ndim]
        made += [param for param, part in self.pair.numbers.items() if part == BEFORE]
        needed = self.needed_later()
        for value in made:
            if value in needed:
                self.rows[value] = self.row(value)
        for one in self.pair.own:
            self.own_rows[one] = self.row(one.param, one.init)

    def needed_later(self) -> set[Operand]:
        """What the inner loop and what comes after it read."""
        late = {item for _, _, item, _ in self.carried(AFTER)}
        return late | self.pair.reads(AFTER) | {*all_reads(self.inner.body)}

    def carried(self, part: int) -> list[tuple[Operand, Value, Operand, Value]]:
        """The numbers that a part carries, as the outer loop does."""
        outer = self.outer
        every = zip(outer.inits, outer.body.params[1:], outer.body.yields, outer.results,
                    strict=True)  # fmt: skip
        return [one for one in every if self.pair.numbers.get(one[1]) == part]

    def row(self, value: Value, init: Operand | None = None) -> Row:
        """A new row, filled with what is known from the start."""
        name = f"{value.name or value.part or 'value'}_row"
        length = self.length()
        keywords = dtype_keyword(value.type)
        if not isinstance(init, Const):
            made = apply_function(np.empty, (length,), keywords, self.builder)
        elif init.value == 0:
            made = apply_function(np.zeros, (length,), keywords, self.builder)
        else:
            keywords = {"dtype": np.dtype(value.type.dtype).type}
            made = apply_function(np.full, (length, init.value), keywords, self.builder)
        made.value.name, made.value.kept = name, True
        return Row(made.value, name)

    def offset(self) -> Affine:
        """The index with which the row begins: none before 0, if none is below it."""
        lowest = self.trips.lowest
        return number(0) if not lowest.terms and lowest.constant >= 0 else lowest

    def length(self) -> Any:
        places = self.trips.highest.plus(self.offset(), -1).plus(number(1))
        length = rebuilt(places, self.builder)
        if isinstance(length, int):
            return max(length, 0)
        if never_below_zero(places, ()):
            return length
        return apply_function(TRIPS, (0, length, 1), {}, self.builder)

    def place(self, index: Value) -> Any:
        """Where in a row the trip with this index is."""
        entry = Affine(frozenset({(index, 1)})).plus(self.offset(), -1)
        return rebuilt(entry, self.builder)

    def filled(self) -> list[Own]:
        """The numbers whose rows the part before the inner loop fills."""
        return [one for one in self.pair.own if not isinstance(one.init, Const)]

    # The loops.

    def start(self, part: int) -> _Loop:
        """A loop over the outer trips, which knows what this part reads."""
        index = self.index if part == INNER else twin(self.index)
        loop = _Loop(index)
        if index is not self.index:
            loop.known[self.index] = index
        loop.ops += copied_ops(self.pair.indices, loop.known, self.outer.origin.sweep)
        for line in self.pair.lines:
            version = line.versions[part]
            if not line.is_written(part) and isinstance(version, Value):
                loop.known[version] = self.state[line]
        return loop

    def before(self) -> For:
        loop = self.start(BEFORE)
        self.carry_lines(loop, BEFORE)
        for one in self.carried(BEFORE):
            loop.carry(*one)
        loop.ops += [rewired(op, loop.known) for op in self.pair.before]
        with self.builder.inside(Block((), loop.ops)):
            place = self.place(loop.index)
            for value, row in self.rows.items():
                self.store(loop, row, value, place)
            for own in self.filled():
                self.store(loop, self.own_rows[own], picked(own.init, loop.known), place)
        return loop.over(self.outer)

    def nest(self) -> For:
        """The inner loop with the outer one inside."""
        around = _Loop(self.inner.body.params[0])
        loop = self.start(INNER)
        inner = self.inner
        for line in self.pair.lines:
            if line.is_written(INNER):
                k = inner.results.index(line.versions[AFTER])
                last = self.result(line, INNER)
                init, param = twin(inner.body.params[k + 1]), inner.body.params[k + 1]
                step = twin(last)
                loop.carry(init, param, inner.body.yields[k], step)
                around.carry(self.state[line], init, step, last)
                self.state[line] = last
        self.read_rows(loop, {*all_reads(inner.body)})
        steps = {own: self.step(own) for own in self.pair.own}
        self.read_own(loop, around, steps)
        sums = {step: own for own, step in steps.items() if step is not None}
        for op in inner.body.ops:
            if isinstance(op, Apply) and op in sums:
                self.add(loop, sums[op], rewired(op, loop.known))
            else:
                loop.ops.append(rewired(op, loop.known))
        self.write_own(loop, steps)
        around.ops.append(loop.over(self.with_bounds_in(around)))
        return around.over(inner)

    def with_bounds_in(self, around: _Loop) -> For:
        """The outer loop with its bounds computed where it now stands, as a person writes it."""
        known: Known = {}
        for bound in dict.fromkeys((self.outer.start, self.outer.stop)):
            if not isinstance(bound, Value) or bound.name:
                continue
            op = self.pair.places.integers.made.get(bound)
            if op is not None and is_sum_of_ints(op):
                around.ops += copied_ops([op], known, op.origin.sweep)
        start, stop = (picked(bound, known) for bound in (self.outer.start, self.outer.stop))
        return replace(self.outer, start=start, stop=stop)

    def after(self) -> For:
        loop = self.start(AFTER)
        self.carry_lines(loop, AFTER)
        late = self.carried(AFTER)
        for one in late:
            loop.carry(*one)
        needed = self.pair.reads(AFTER) | {item for _, _, item, _ in late}
        self.read_rows(loop, needed)
        with self.builder.inside(Block((), loop.ops)):
            place = self.place(loop.index)
            for own, row in self.own_rows.items():
                if own.result in needed:
                    self.item(row.now, place, own.result)
        loop.ops += [rewired(op, loop.known) for op in self.pair.after]
        return loop.over(self.outer)

    def carry_lines(self, loop: _Loop, part: int) -> None:
        """Have a loop carry the arrays that this part writes."""
        for line in self.pair.lines:
            version, item = line.versions[part], line.versions[part + 1]
            if not line.is_written(part):
                continue
            assert isinstance(version, Value)
            param = version if version in self.outer.body.params else twin(version)
            loop.known[version] = param
            result = self.result(line, part)
            loop.carry(self.state[line], param, item, result)
            self.state[line] = result

    def result(self, line: Line, part: int) -> Value:
        """The array after a part: the result of the outer loop, if none is to come."""
        last = not any(line.is_written(later) for later in range(part + 1, 3))
        return line.result if last else twin(line.result)

    # What is in the rows.

    def read_rows(self, loop: _Loop, needed: set[Operand]) -> None:
        """Have a loop begin with the numbers that the part before it has made."""
        with self.builder.inside(Block((), loop.ops)):
            place = self.place(loop.index)
            for value, row in self.rows.items():
                if value in needed:
                    made = twin(value)
                    self.item(row.now, place, made)
                    loop.known[value] = made

    def item(self, row: Value, place: Any, result: Value) -> None:
        call_into(result, operator.getitem, (Symbol(row, self.builder), place), self.builder)

    def store(self, loop: _Loop, row: Row, value: Operand, place: Any) -> None:
        """`row[place] = value` in a loop that carries the row."""
        param, result = row.next(), row.next()
        item = self.write(SET_ITEM, param, value, place)
        loop.carry(row.now, param, item, result)
        row.now = result

    def write(self, function: Any, row: Value, value: Operand, place: Any) -> Value:
        args = (Symbol(row, self.builder), symbol_of(value, self.builder), place)
        made = apply_function(function, args, {}, self.builder)
        made.value.name, made.value.kept = row.name, True
        return made.value

    def step(self, own: Own) -> Apply | None:
        """The addition, if all that happens to a number is one."""
        found = Body(self.inner, self.pair.places.integers)
        if not found.plain or own.param.type.dtype != "float64":
            return None
        one = found.one(own.param, own.item)
        if one.kind != "sum" or len(one.steps) != 1:
            return None
        (step,) = one.steps
        return step if step.operands[1].type.dtype == "float64" else None

    def read_own(self, loop: _Loop, around: _Loop, steps: dict[Own, Apply | None]) -> None:
        """Have both loops of the nest carry the rows, and read what is in them."""
        with self.builder.inside(Block((), loop.ops)):
            place = self.place(loop.index)
            for own, row in self.own_rows.items():
                init, param, step, last = (row.next() for _ in range(4))
                self.at[own] = len(loop.params)
                loop.carry(init, param, param, step)
                around.carry(row.now, init, step, last)
                row.now = last
                if steps[own] is None:
                    self.item(param, place, own.param)

    def add(self, loop: _Loop, own: Own, step: Op) -> None:
        """`row[place] += term` instead of `s += term`."""
        assert isinstance(step, Apply)
        term = step.operands[1]
        if step.primitive.function is operator.sub:
            with self.builder.inside(Block((), loop.ops)), self.builder.at(step.origin):
                given = symbol_of(term, self.builder)
                term = operand_of(apply_function(operator.neg, (given,), {}, self.builder))
        self.replace_item(loop, own, ADD_ITEM, term, step)

    def write_own(self, loop: _Loop, steps: dict[Own, Apply | None]) -> None:
        """Put what the inner loop hands on into the rows."""
        for own in self.pair.own:
            if steps[own] is None:
                self.replace_item(loop, own, SET_ITEM, picked(own.item, loop.known), self.outer)

    def replace_item(
        self, loop: _Loop, own: Own, function: Any, value: Operand, at: Op
    ) -> None:
        k = self.at[own]
        with self.builder.inside(Block((), loop.ops)), self.builder.at(at.origin):
            loop.items[k] = self.write(function, loop.params[k], value, self.place(loop.index))
