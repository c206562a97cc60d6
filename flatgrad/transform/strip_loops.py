"""Builds the loop over the strips of a nest: see `strips.py`.

Operations that are the same for all lanes are taken over. The others wait until a loop inside, or
the end of the block, and then stand in one loop over the lanes (`strip_lanes.py`).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flatgrad.analysis.activity import slots
from flatgrad.analysis.dependence import LENGTHS
from flatgrad.analysis.threads import (
    Dependent,
    Thread,
    base_of,
    defined_inside,
    scalar_entries,
    value_of,
)
from flatgrad.ir.copies import twin
from flatgrad.ir.ops import Apply, Block, Const, For, Op, Operand, Value, substitute
from flatgrad.primitives.core import SMALLER
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.primitives.symbolic import Symbol, operand_of
from flatgrad.transform.building import call_into, shifted
from flatgrad.transform.dce import read_by
from flatgrad.transform.strip_lanes import INT, LANES, Lanes, short
from flatgrad.transform.strip_reads import Key, strided_reads
from flatgrad.transform.strip_rows import OWN
from flatgrad.transform.strip_sums import Term
from flatgrad.transform.tape import dtype_keyword


@dataclass(frozen=True, slots=True)
class Table:
    """A strip of a table: what is done for each of its elements before and after the trips."""

    key: Any
    rank: int
    before: Callable[[list[Any]], None]
    after: Callable[[list[Any]], None] | None


class Strips(Lanes):
    """The loop over strips, with what it needs before it."""

    def build(self) -> list[Op]:
        """The loop, and what it needs before it."""
        ops: list[Op] = []
        with self.builder.inside(Block((), ops)):
            low, high = self.bounds()
            self.last = shifted(high, -1, self.made, self.builder)
            if isinstance(self.last, Symbol) and self.last.value.name is None:
                self.last.value.name = "last"
            reads = strided_reads(self.nest, self.pieces)
            if not reads.pays:
                raise Dependent
            given = self.carried_in()
            tables = self.tables(reads.copied)
            self.allocate()
            start = Value(INT, "start", kept=True)

            def fill() -> None:
                self.start = self.symbol(start)
                room = self.symbol(high)
                if not (isinstance(low, Const) and isinstance(high, Const)):
                    room = self.make(operator.sub, room, self.start)
                self.width = self.make(SMALLER, LANES, room, name="width")
                for table in tables:
                    self.over_rows(table, table.before)
                self.block(self.loop.body)
                for table in tables:
                    if table.after is not None:
                        self.over_rows(table, table.after, partial=True)

            self.carrying(low, high, Const(LANES), start, fill, given)
        return ops

    def bounds(self) -> tuple[Operand, Operand]:
        """The lowest index, and the first above the highest."""
        loop = self.loop
        assert isinstance(loop.step, Const)
        if loop.step.value == 1:
            return loop.start, loop.stop
        return operand_of(shifted(loop.stop, 1, self.made, self.builder)), operand_of(
            shifted(loop.start, 1, self.made, self.builder)
        )

    def carried_in(self) -> dict[Any, Value]:
        """What the loop carries, as it comes in; the results that are wanted of it."""
        given: dict[Any, Value] = {}
        for init, param, _, result in slots(self.loop):
            thread = self.nest.threads.get(param)
            if thread is not None and thread.kind in OWN:
                zeros = thread.kind == "restored"
                lanes = () if thread in self.pieces.summed.threads else (LANES,)
                made = self.widened(param, self.lengths(init), zeros, lanes)
                self.start_with(thread, made, param)
                self.model[thread] = self.current[thread]  # type: ignore[assignment]
            else:
                key = param if param in self.nest.sums else thread
                self.start_with(key, init, param)
                given[key] = result
        return given

    def allocate(self) -> None:
        """Rows, and the arrays that every trip makes in the same shape, are made once."""
        inside = defined_inside(self.loop.body)
        for op in self.loop.body.ops:
            if not (isinstance(op, Apply) and op.primitive.function is np.empty):
                continue
            if not inside & set(op.operands):
                self.new_array(op)
        for row in dict.fromkeys(self.pieces.rows.values()):
            value = next((v for v in row.values if v.kept), row.values[0])
            name = value.name or value.part or "value"
            made = self.make(np.empty, LANES, name=name, **dtype_keyword(value.type))
            self.start_with(row, made.value, made.value)

    def new_array(self, op: Apply) -> None:
        thread = self.nest.threads[op.result]
        shape = substitute(op.arguments["shape"], op.operands.__getitem__)
        lengths = [
            self.symbol(one) if isinstance(one, Operand) else one
            for one in (shape if isinstance(shape, tuple) else (shape,))
        ]
        zeros = op.primitive.function is np.zeros
        made = self.widened(op.result, lengths, zeros)
        self.start_with(thread, made, made)

    def lengths(self, init: Operand) -> list[Any]:
        """The lengths of an array, as they were given where it was made."""
        op = self.made.get(init) if isinstance(init, Value) else None
        if op is not None and op.primitive.function in (np.empty, np.zeros):
            shape = substitute(op.arguments["shape"], op.operands.__getitem__)
            entries = shape if isinstance(shape, tuple) else (shape,)
            return [self.symbol(one) if isinstance(one, Operand) else one for one in entries]
        if op is not None and op.primitive.function in (np.empty_like, np.zeros_like):
            return self.lengths(op.operands[0])
        return list(self.symbol(init).shape)

    def widened(
        self, like: Value, lengths: list[Any], zeros: bool, lanes: tuple[int, ...] = (LANES,)
    ) -> Value:
        """An array with an axis for the lanes."""
        function, name = np.zeros if zeros else np.empty, like.name or "value"
        shape = short((*lengths, *lanes))
        made = self.make(function, shape, name=name, **dtype_keyword(like.type))
        found: Value = made.value
        return found

    def tables(self, copied: Iterable[Key]) -> list[Table]:
        """Strips of what is read, of what is added to, and of elements of each trip's own."""
        own, starts = self.pieces.own, {p: init for init, p, _, _ in slots(self.loop)}
        added = [(self.nest.threads[op.result], axis) for op, axis in own.added.items()]  # type: ignore[union-attr]
        found = [self.table(key, key[0], key[0], key[1]) for key in copied]
        for thread, axis in dict.fromkeys(added):
            found.append(self.table((thread, axis), thread.first, starts[thread.first], axis))
        for thread, axis in own.kept.items():
            found.append(self.table((thread, "kept"), thread.first, starts[thread.first], axis))
        return found

    def table(self, key: Any, like: Value, init: Operand, axis: int) -> Table:
        """The strip of one table, and how it is filled and emptied."""
        source = key[0]
        is_thread = isinstance(source, Thread)
        lengths = self.lengths(init) if is_thread else list(self.symbol(init).shape)
        del lengths[axis]
        made = self.widened(like, lengths, zeros=False)
        made.name = f"{like.name or 'value'}_strip"
        self.start_with(key, made, made)

        def load(places: list[Any]) -> None:
            """`x_strip[a, lane] = x[i, a]`."""
            given = self.latest(source) if is_thread else self.symbol(source)
            item = self.make(operator.getitem, given, short(self.whole(places, axis)))
            self.put(SET_ITEM, key, item.value, (*places, self.lane))

        def clear(places: list[Any]) -> None:
            self.put(SET_ITEM, key, Const(0.0), (*places, self.lane))

        def store(places: list[Any]) -> None:
            """`grad_x[i, a] += grad_x_strip[a, lane]`, or without the `+`."""
            item = self.make(operator.getitem, self.latest(key), short((*places, self.lane)))
            function = SET_ITEM if key[1] == "kept" else ADD_ITEM
            self.put(function, source, item.value, self.whole(places, axis))

        adds = is_thread and key[1] != "kept"
        return Table(key, like.type.ndim - 1, clear if adds else load, store if is_thread else None)

    def whole(self, places: list[Any], axis: int) -> tuple[Any, ...]:
        """The index into the table itself."""
        return (*places[:axis], self.symbol(self.number(self.nest.index)), *places[axis:])

    def over_rows(
        self, table: Table, fill: Callable[[list[Any]], None], partial: bool = False
    ) -> None:
        """A loop for each axis, the lanes innermost."""
        places: list[Any] = []
        self.is_partial = partial

        def loop(k: int) -> None:
            if k == table.rank:
                count = operand_of(self.width) if partial else Const(LANES)
                self.over_lanes(count, lambda: fill(places))
                return
            length = self.latest(table.key).shape[k]
            index = Value(INT, "jkl"[k % 3], kept=True)
            places.append(self.symbol(index))
            self.carrying(Const(0), operand_of(length), Const(1), index, lambda: loop(k + 1))

        loop(0)
        self.is_partial = False

    def block(self, block: Block) -> None:
        """The operations of a block; its last piece is left open."""
        for op in block.ops:
            if isinstance(op, For) and op in self.pieces.place:
                self.nested(op)
            elif op in self.pieces.summed:
                self.summed(op)  # type: ignore[arg-type]
            elif op in self.pieces.place and self.pieces.stands_alone(op):
                self.flush()
                self.alone(op)  # type: ignore[arg-type]
            elif op in self.pieces.place:
                self.pending.append(op)
            else:
                self.same_for_all(op)
        if block is self.loop.body:
            self.flush()

    def same_for_all(self, op: Op) -> None:
        """What does not differ from lane to lane is done once."""
        nest = self.nest
        if isinstance(op, Apply) and op.primitive.function in (np.empty, np.zeros):
            if nest.threads[op.result] not in self.current:
                self.builder.origin = op.origin
                self.new_array(op)
            return
        if isinstance(op, Apply) and op.primitive.function in LENGTHS:
            op = self.length(op)
        elif isinstance(op, Apply) and op.results and op.result in nest.views:
            view = nest.views[op.result]
            if view.base in nest.threads or op.result in nest.varying:
                return
        if any(value in nest.threads for value in read_by(op)):
            raise Dependent
        self.builder.block.ops.append(op)

    def summed(self, op: Apply) -> None:
        """What is done with sums over the lanes."""
        summed, builder = self.pieces.summed, self.builder
        if op in summed.dropped:
            return
        term = summed.terms.get(op)
        if term is not None and term.number not in self.lane_sums:
            self.flush()
        builder.origin = op.origin
        function = op.primitive.function
        if function in (SET_ITEM, ADD_ITEM):
            value = value_of(op) if term is None else self.added(term)
            self.put(function, self.nest.threads[op.result], value, self.uniform_index(op))
        elif function is operator.getitem:
            given = self.latest(self.nest.threads[base_of(op)])  # type: ignore[index]
            call_into(op.result, function, (given, short(self.uniform_index(op))), builder)
        elif op.result in self.nest.sums:
            first = self.nest.sums[op.result]
            made = twin(self.model[first])
            call_into(made, function, (self.latest(first), self.symbol(op.operands[1])), builder)
            self.current[first] = made
        else:
            builder.block.ops.append(op)

    def added(self, term: Term) -> Operand:
        """The sum over the lanes of what a write adds."""
        total = self.symbol(self.lane_sums[term.number])
        for factor in term.factors:
            others = [self.symbol(o) for o in factor.operands if o not in self.nest.varying]
            total = self.make(factor.primitive.function, total, *others)
        return operand_of(total)

    def length(self, op: Apply) -> Apply:
        """A length of an array of which the lanes have their own: of what it starts from."""
        starts = {param: init for init, param, _, _ in slots(self.loop)}
        base = op.operands[0]
        thread = self.nest.threads.get(base)  # type: ignore[arg-type]
        if thread is None:
            if base in self.nest.views:
                raise Dependent
            return op
        start = starts.get(thread.first)
        if start is None:
            raise Dependent
        return replace(op, operands=(start,))

    def nested(self, op: For) -> None:
        """A loop inside, over whatever the lanes have in common."""
        nest, pieces = self.nest, self.pieces
        carried = []
        for init, param, item, result in slots(op):
            if pieces.is_number(param):
                self.store(pieces.rows[param], init)
            elif param not in nest.sums and param not in nest.threads:
                carried.append((init, param, item, result))
        self.flush()
        self.builder.origin = op.origin

        def fill() -> None:
            self.block(op.body)
            for _, param, item, _ in slots(op):
                if pieces.is_number(param):
                    self.store(pieces.rows[param], item)
            self.flush()

        self.carrying(
            op.start, op.stop, op.step, op.body.params[0], fill,
            extra=tuple([(init, param, result) for init, param, _, result in carried]),
            yields=lambda: tuple([item for _, _, item, _ in carried]),
        )  # fmt: skip

    def alone(self, op: Apply) -> None:
        """A row that is copied, or a write to an element that only a true lane has."""
        self.builder.origin = op.origin
        thread = self.nest.threads[op.result]
        if value_of(op).type.ndim:
            self.copy(op, thread)
            return
        self.is_partial = True

        def fill() -> None:
            index = self.index(scalar_entries(op) or ())
            self.put(op.primitive.function, thread, self.number(value_of(op)), index)

        self.over_lanes(operand_of(self.width), fill)
        self.is_partial = False

    def copy(self, op: Apply, thread: Thread) -> None:
        """`a[c] = b`, element by element."""
        base, entries = value_of(op), scalar_entries(op) or ()
        assert isinstance(base, Value)
        if thread.kind not in OWN:
            raise Dependent
        view = self.nest.views.get(base)
        source, front = (base, ()) if view is None else (view.base, view.entries)
        origin = self.nest.threads.get(source)
        places: list[Any] = []

        def fill() -> None:
            index = (*self.index(front), *places)
            given = self.symbol(source) if origin is None else self.latest(origin)
            if origin is not None and origin.kind in OWN:
                index = (*index, self.lane)
            item = self.make(operator.getitem, given, short(index))
            self.put(SET_ITEM, thread, item.value, (*self.index(entries), *places, self.lane))

        def axis(k: int) -> None:
            if k == base.type.ndim:
                self.over_lanes(Const(LANES), fill)
                return
            length = self.latest(thread).shape[len(entries) + k]
            index = Value(INT, "ijk"[k % 3], kept=True)
            places.append(self.symbol(index))
            self.carrying(Const(0), operand_of(length), Const(1), index, lambda: axis(k + 1))

        axis(0)
