"""Loops over the lanes of a strip: numbers in rows, arrays with an axis for the lanes.

    y = q * centered[a]              for lane in range(64):
    square = square + y * y   ->         y = q * centered[a, lane]
    grad_q[a] += y                       square[lane] = square[lane] + y * y
                                         grad_q_sum = plus(grad_q_sum, y if lane < width else 0.0)
                                     grad_q[a] += grad_q_sum

`Lanes` holds what `strip_loops.py` needs to write them.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from flatgrad.analysis.affine import Integers
from flatgrad.analysis.nests import Nest
from flatgrad.analysis.threads import Thread, scalar_entries, value_of
from flatgrad.ir.builder import Builder
from flatgrad.ir.copies import twin
from flatgrad.ir.ops import Apply, Block, Const, For, Function, If, Op, Operand, Value
from flatgrad.ir.types import Scalar
from flatgrad.primitives.core import IDENTITY, PLUS, SMALLER
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.primitives.symbolic import Symbol, apply_function, symbol_of
from flatgrad.transform.building import call_into
from flatgrad.transform.clone import rewired, rewired_block
from flatgrad.transform.dce import read_by
from flatgrad.transform.strip_reads import lane_axis
from flatgrad.transform.strip_rows import OWN, Pieces, Row, located

LANES = 64
"""How many trips a strip has: a number that is known while compiling."""
INT = Scalar("int64", weak=True)


class Lanes:
    """A strip under construction.

    `current` are the newest versions of what is written: arrays, rows and sums, which all look like
    their `model`. `pending` waits for a loop over the lanes, `stores` for the end of that loop.
    `local` are the numbers of the lane at hand in it. `is_partial`: the loop is over true lanes.
    """

    def __init__(self, loop: For, nest: Nest, integers: Integers, fn: Function) -> None:
        self.loop = loop
        self.nest = nest
        self.made = integers.made
        self.builder = Builder(Block(), fn.lengths)
        self.builder.origin = loop.origin
        self.pieces = Pieces(nest)
        self.current: dict[Any, Operand] = {}
        self.model: dict[Any, Value] = {}
        self.pending: list[Op] = []
        self.stores: list[tuple[Row, Operand]] = []
        self.lane_sums: dict[Value, Value] = {}
        self.local: dict[Value, Operand] = {}
        self.lane: Any = None
        self.start: Any = None
        self.width: Any = None
        self.last: Any = None
        self.is_partial = False
        self.defined_here: set[Value] = set()

    def symbol(self, operand: Operand) -> Any:
        return symbol_of(operand, self.builder)

    def make(self, function: Any, *args: Any, name: str | None = None, **kwargs: Any) -> Any:
        made = apply_function(function, args, kwargs, self.builder)
        if isinstance(made, Symbol) and name is not None:
            made.value.name, made.value.kept = name, True
        return made

    def latest(self, key: Any) -> Any:
        return self.symbol(self.current[key])

    def start_with(self, key: Any, value: Operand, model: Value) -> None:
        self.current[key], self.model[key] = value, model

    def carrying(
        self, start: Operand, stop: Operand, step: Operand, index: Value,
        fill: Callable[[], None], given: dict[Any, Value] | None = None, *,
        extra: tuple[tuple[Operand, Value, Value], ...] = (),
        yields: Callable[[], tuple[Operand, ...]] = tuple, vector: bool = False,
    ) -> None:  # fmt: skip
        """A loop that carries all that its body writes, and `extra` numbers."""
        outer = dict(self.current)
        params = {key: twin(self.model[key]) for key in outer}
        self.current = dict(params)
        ops: list[Op] = []
        with self.builder.inside(Block((), ops)):
            fill()
        own = yields()
        written = [key for key in outer if self.current[key] is not params[key]]
        body = Block(
            (index, *[param for _, param, _ in extra], *[params[key] for key in written]),
            ops,
            (*own, *[self.current[key] for key in written]),
        )
        body = rewired_block(body, {params[key]: outer[key] for key in outer if key not in written})
        results = {key: (given or {}).get(key) or twin(self.model[key]) for key in written}
        self.current = {**outer, **results}
        inits = (*[init for init, _, _ in extra], *[outer[key] for key in written])
        made = (*[result for _, _, result in extra], *results.values())
        origin = self.builder.origin
        self.builder.block.ops.append(
            For(start, stop, step, inits, body, made, origin=origin, vector=vector)
        )

    def store(self, row: Row, operand: Operand) -> None:
        """Put a number into a row at the end of the piece, unless it is there."""
        if not isinstance(operand, Value) or self.pieces.rows.get(operand) is not row:
            self.stores.append((row, operand))

    def flush(self) -> None:
        """The loop over the lanes for all that waits."""
        ops, stores = self.pending, self.stores
        self.pending, self.stores = [], []
        if not ops and not stores:
            return
        if ops:
            self.builder.origin = ops[0].origin
        rows = self.pieces.rows
        self.defined_here = set(made_in(ops))
        made = [value for value in made_in(ops) if value in rows]
        totals: list[tuple[Apply, Value, Value]] = []
        for op in ops:
            if isinstance(op, Apply) and self.adds(op):
                name = f"{self.model[self.nest.threads[op.result]].name or 'value'}_sum"
                totals.append((op, *lane_sum(value_of(op), name)))
        grown: dict[Any, Operand] = {op: param for op, param, _ in totals}
        summed = [self.start_sum(one) for one in made_in(ops) if one in self.pieces.summed.numbers]
        grown |= {number: param for number, param, _ in summed}

        def fill() -> None:
            for op in ops:
                self.lane_op(op, grown)
            for number, _, _ in summed:
                self.grow(number, grown)
            values = [(rows[value], value) for value in made] + stores
            for row, operand in [(row, self.number(operand)) for row, operand in values]:
                self.put(SET_ITEM, row, operand, (self.lane,))

        self.over_lanes(
            Const(LANES), fill,
            extra=tuple([(zero(param), param, result) for _, param, result in (*totals, *summed)]),
            yields=lambda: tuple([grown[key] for key, _, _ in (*totals, *summed)]),
        )  # fmt: skip
        for op, _, result in totals:
            self.builder.origin = op.origin
            index = self.uniform_index(op)
            self.put(ADD_ITEM, self.nest.threads[op.result], result, index)
        self.defined_here = set()

    def start_sum(self, number: Value) -> tuple[Value, Value, Value]:
        """The sum over the lanes of a number that is made in the loop to come."""
        name = f"{number.name or number.part or 'value'}_sum"
        grown, self.lane_sums[number] = lane_sum(number, name)
        return number, grown, self.lane_sums[number]

    def grow(self, number: Value, grown: dict[Any, Operand]) -> None:
        """One more term of such a sum."""
        made = twin(grown[number])  # type: ignore[arg-type]
        call_into(made, PLUS, (self.symbol(grown[number]), self.masked(number)), self.builder)
        grown[number] = made

    def over_lanes(self, count: Operand, fill: Callable[[], None], **more: Any) -> None:
        lane = Value(INT, "lane", kept=True)
        saved = self.lane, self.local
        self.lane, self.local = self.symbol(lane), {}
        self.carrying(Const(0), count, Const(1), lane, fill, vector=not self.is_partial, **more)
        self.lane, self.local = saved

    def adds(self, op: Apply) -> bool:
        """Whether a write adds what all lanes have to one element."""
        written = op.primitive.function is ADD_ITEM and op not in self.pieces.own.added
        return written and self.nest.threads[op.result].kind == "added"

    def put(self, function: Any, key: Any, value: Operand, index: tuple[Any, ...]) -> None:
        """The next version of an array or row."""
        given = self.latest(key), self.symbol(value), short(index)
        made = twin(self.model[key])
        call_into(made, function, given, self.builder)
        self.current[key] = made

    def lane_op(self, op: Op, grown: dict[Apply, Operand]) -> None:
        """One operation for the lane at hand."""
        self.builder.origin = op.origin
        nest = self.nest
        if isinstance(op, If):
            self.branches(op)
            return
        assert isinstance(op, Apply)
        if op.result in nest.sums:
            term = op.operands[1]
            first = nest.sums[op.result]
            more = self.masked(term, negative=op.primitive.function is operator.sub)
            made = twin(self.model[first])
            call_into(made, PLUS, (self.latest(first), more), self.builder)
            self.current[first] = made
        elif op in grown:
            made = twin(grown[op])  # type: ignore[arg-type]
            more = self.masked(value_of(op))
            call_into(made, PLUS, (self.symbol(grown[op]), more), self.builder)
            grown[op] = made
        elif op.result in nest.threads:
            key, entries = self.own_place(nest.threads[op.result], op)
            value = self.number(value_of(op))
            self.put(op.primitive.function, key, value, (*self.index(entries), self.lane))
        else:
            self.compute(op)

    def compute(self, op: Apply) -> None:
        """A number of the lane, under its own name where it stays one."""
        result = op.result
        if op.primitive.function is operator.getitem and scalar_entries(op) is not None:
            self.element(op, self.own(result))
            return
        known = {o: self.number(o) for o in op.operands if isinstance(o, Value)}
        self.builder.block.ops.append(replace(rewired(op, known), results=(self.own(result),)))

    def element(self, op: Apply, result: Value) -> None:
        """An element that is read: of the lane's own, or of what its trip sees."""
        base, entries = located(op, self.nest)
        axis = lane_axis(entries, self.nest)
        given: Any = self.symbol(base)
        thread = self.nest.threads.get(base)
        if axis is not None and (base, axis) in self.current:
            given = self.latest((base, axis))
            index = (*self.index((*entries[:axis], *entries[axis + 1 :])), self.lane)
        elif thread in self.pieces.own.kept or (thread is not None and thread.kind in OWN):
            key, entries = self.own_place(thread, op)
            given, index = self.latest(key), (*self.index(entries), self.lane)
        else:
            given = given if thread is None else self.latest(thread)
            index = self.index(entries)
        call_into(result, operator.getitem, (given, short(index)), self.builder)

    def own_place(self, thread: Thread, op: Apply) -> tuple[Any, tuple[Any, ...]]:
        """The array in which the lanes have an element for themselves, and the index in it."""
        own, (_, entries) = self.pieces.own, located(op, self.nest)
        axis = own.kept.get(thread, own.added.get(op))
        if axis is None:
            return thread, entries
        key = (thread, "kept") if thread in own.kept else (thread, axis)
        return key, (*entries[:axis], *entries[axis + 1 :])

    def own(self, result: Value) -> Value:
        """The number, which needs no statement if it goes into a row."""
        if result not in self.pieces.rows:
            return result
        made = Value(result.type, result.name, part=result.part)
        self.local[result] = made
        return made

    def branches(self, op: If) -> None:
        """A branch that stays one: its reads are those of the lane."""
        for value in read_by(op):
            if self.is_outside(value):
                self.number(value)  # read before the branch
        condition = self.number(op.condition)

        def inner(block: Block) -> Block:
            ops: list[Op] = []
            saved = self.local
            self.local = dict(saved)
            with self.builder.inside(Block((), ops)):
                for one in block.ops:
                    self.lane_op(one, {})
                found = tuple([self.number(item) for item in block.yields])
            self.local = saved
            return Block((), ops, found)

        self.builder.block.ops.append(
            replace(op, condition=condition, then=inner(op.then), orelse=inner(op.orelse))
        )

    def is_outside(self, value: Value) -> bool:
        """Whether a number comes from a row, or is the index."""
        pieces = self.pieces
        return value is self.nest.index or value in pieces.rows or value in pieces.again

    def masked(self, operand: Operand, negative: bool = False) -> Any:
        """What a lane adds to a sum: nothing, after the last trip."""
        value = self.symbol(self.number(operand))
        if negative:
            value = self.make(operator.neg, value)
        if isinstance(value, Symbol):  # before the choice, or it would be computed in a branch
            name = getattr(operand, "name", None) or getattr(operand, "part", None) or "value"
            value = self.make(IDENTITY, value, name=f"{name}_term")
        counts = self.make(operator.lt, self.lane, self.width)
        counts.value.name = "counts"
        single = isinstance(value, Symbol) and value.type.dtype == "float32"
        return self.make(np.where, counts, value, np.float32(0.0) if single else 0.0)

    def number(self, operand: Operand) -> Operand:
        """An operand for the lane at hand."""
        if not isinstance(operand, Value):
            return operand
        if operand is self.nest.index:
            if operand not in self.local:
                self.local[operand] = self.trip().value
            return self.local[operand]
        row = self.pieces.rows.get(operand)
        read = self.pieces.again.get(operand)
        known = operand in self.defined_here or (row is None and read is None)
        if operand not in self.local and known:
            return operand
        if operand not in self.local and row is None:
            again = twin(operand)
            self.local[operand] = again
            self.element(read, again)  # type: ignore[arg-type]
        if operand not in self.local:
            made = self.make(operator.getitem, self.latest(row), self.lane)
            made.value.name, made.value.type = operand.name, operand.type
            self.local[operand] = made.value
        return self.local[operand]

    def trip(self) -> Any:
        """The index of the lane's trip."""
        here = self.start + self.lane
        if not self.is_partial:
            here = self.make(SMALLER, here, self.last)
        here.value.name, here.value.kept = self.nest.index.name, True
        return here

    def index(self, entries: tuple[Any, ...]) -> tuple[Any, ...]:
        """The entries of an index, for the lane at hand."""
        return tuple(
            [one if type(one) is int else self.symbol(self.number(one)) for one in entries]
        )

    def uniform_index(self, op: Apply) -> tuple[Any, ...]:
        entries = scalar_entries(op) or ()
        return tuple([one if type(one) is int else self.symbol(one) for one in entries])


def lane_sum(term: Operand, name: str) -> tuple[Value, Value]:
    """A sum over the lanes of one strip, in the loop and behind it: 64 terms in their own dtype."""
    single = term.type.dtype == "float32"
    kind = Scalar("float32") if single else Scalar("float64", weak=True)
    return Value(kind, name, kept=True), Value(kind, name, kept=True)


def zero(total: Value) -> Const:
    """What such a sum starts from."""
    return Const(0.0 if total.type.dtype == "float64" else np.float32(0.0))


def made_in(ops: list[Op]) -> list[Value]:
    """The results of operations."""
    return [value for op in ops for value in op.results]


def short(index: tuple[Any, ...]) -> Any:
    """An index of one entry without its tuple."""
    return index[0] if len(index) == 1 else index
