"""Which numbers of a trip need a row, with a place for each lane, and which rows are one.

    for a in range(d):                       for a in range(d):
        y = q * centered[a]                      for lane in range(64): y[lane] = q * ...
        for b in range(a):            ->         for b in range(a):
            y = y + p * centered[b]                  for lane in range(64): y[lane] = y[lane] + ...
        square = square + y * y                  for lane in range(64): square[lane] = ...

A block is cut in *pieces* at the loops inside it: a piece becomes one loop over the lanes. What is
computed in a piece and read in no other stays a number, and so does what can be read once more
from an array that has not changed. A variable that a loop carries is one row,
with what it starts from and what a trip hands on, where the one is not read after the other is
there.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

from flatgrad.analysis.activity import slots
from flatgrad.analysis.nests import Nest
from flatgrad.analysis.threads import Thread, base_of, covers, scalar_entries, value_of
from flatgrad.ir.ops import Apply, Block, For, Op, Operand, Value, blocks_of
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.transform.dce import read_by
from flatgrad.transform.strip_sums import Summed

OWN = ("made", "private", "restored")
"""Kinds of arrays of which every lane has its own."""

ACCESSES = (operator.getitem, SET_ITEM, ADD_ITEM)

Place = tuple[Block, int]
"""A block and the number of a piece in it."""


def located(op: Apply, nest: Nest) -> tuple[Value, tuple[Any, ...]]:
    """The array that is read or written, and the whole index into it."""
    base, entries = base_of(op), scalar_entries(op) or ()
    assert isinstance(base, Value)
    view = nest.views.get(base)
    return (base, entries) if view is None else (view.base, (*view.entries, *entries))


@dataclass(slots=True, eq=False)
class Row:
    """The values that share a row; `name` gives its name and kind."""

    values: list[Value] = field(default_factory=list)


def lane_axis(entries: tuple[Any, ...], nest: Nest) -> int | None:
    """The only entry that differs from lane to lane, if it is the index of the loop itself."""
    moving = [k for k, entry in enumerate(entries) if entry in nest.varying]
    if len(moving) != 1 or entries[moving[0]] is not nest.index:
        return None
    return moving[0]


def columns(
    base: Value, entries: tuple[Any, ...], loops: tuple[For, ...], nest: Nest
) -> set[Value] | None:
    """The indices of the loops that go over all of a lane's row; None if that is not certain."""
    axis, shape = lane_axis(entries, nest), base.type.shape
    if axis is None or len(entries) != len(shape) or not covers(nest.loop, shape[axis]):
        return None
    by_index = {loop.body.params[0]: loop for loop in loops}
    used: set[Value] = set()
    for k, entry in enumerate(entries):
        if k == axis:
            continue
        loop = by_index.get(entry)
        if loop is None or entry in used or not covers(loop, shape[k]):
            return None
        used.add(entry)
    return used


class Own:
    """Rows of arrays, one for each trip, that the lanes have for themselves during a strip.

    `added`: by operation, the axis of the lanes where something is added to such a row; `kept`: by
    thread, where all accesses are to it.
    """

    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        self.added: dict[Op, int] = {}
        self.found: dict[Thread, set[int | None]] = {}
        self.block(nest.loop.body, ())
        self.kept: dict[Thread, int] = {}
        for thread, axes in self.found.items():
            (axis, *others) = axes
            if axis is not None and not others:
                self.kept[thread] = axis

    def block(self, block: Block, loops: tuple[For, ...]) -> None:
        for op in block.ops:
            inner = (*loops, op) if isinstance(op, For) else loops
            for nested in blocks_of(op):
                self.block(nested, inner)
            if isinstance(op, Apply) and op.primitive.function in ACCESSES:
                self.access(op, loops)

    def access(self, op: Apply, loops: tuple[For, ...]) -> None:
        if scalar_entries(op) is None or not isinstance(base_of(op), Value):
            return
        base, entries = located(op, self.nest)
        thread = self.nest.threads.get(base)
        is_whole = columns(base, entries, loops, self.nest) is not None
        axis = lane_axis(entries, self.nest) if is_whole else None
        if thread is None or thread.kind not in ("added", "elements"):
            return
        if thread.kind == "elements":
            self.found.setdefault(thread, set()).add(axis)
        elif axis is not None and not value_of(op).type.ndim:
            self.added[op] = axis


class Pieces:
    """The pieces of all blocks of a nest, and the rows that are needed."""

    def __init__(self, nest: Nest) -> None:
        self.nest = nest
        self.place: dict[Op, Place] = {}
        self.ends: dict[Block, int] = {}
        self.parent: dict[Block, Place] = {}
        self.made: dict[Value, Place] = {}
        self.uses: dict[Value, list[Place]] = {}
        self.rows: dict[Value, Row] = {}
        self.again: dict[Value, Apply] = {}
        self.newest: dict[Thread, Value] = {thread: thread.first for thread in nest.current}
        self.loops: list[For] = []
        self.own = Own(nest)
        self.summed = Summed(nest, self.own.added)
        self.cut(nest.loop.body)
        self.collect(nest.loop.body)
        for value, places in self.uses.items():
            home = self.made.get(value)
            if home is None or value in self.again:
                continue
            if any(place != home for place in places):
                self.row(value)
        self.share()

    # Pieces.

    def cut(self, block: Block) -> None:
        """Number the pieces of a block: loops, and writes of another kind, stand between two."""
        number = 0
        for op in block.ops:
            if isinstance(op, For) and self.is_nest(op):
                self.place[op] = (block, number + 1)
                self.parent[op.body] = (block, number + 1)
                self.loops.append(op)
                self.cut(op.body)
                number += 2
            elif op in self.summed:
                made = self.summed.made_by(op)
                if made is not None and self.place.get(made) == (block, number):
                    number += 2
            elif self.stands_alone(op):
                self.place[op] = (block, number + 1)
                number += 2
            elif self.is_lane(op):
                self.place[op] = (block, number)
        self.ends[block] = number

    def is_nest(self, op: For) -> bool:
        """Whether something in a loop differs from lane to lane."""
        return any(
            (isinstance(inner, For) and self.is_nest(inner))
            or inner in self.summed
            or self.stands_alone(inner)
            or self.is_lane(inner)
            for inner in op.body.ops
        )

    def is_lane(self, op: Op) -> bool:
        """Whether an operation is done for each lane."""
        if isinstance(op, For):
            return False
        if any(result in self.nest.varying or result in self.nest.sums for result in op.results):
            return not any(result in self.nest.views for result in op.results)
        return isinstance(op, Apply) and op.primitive.function in (SET_ITEM, ADD_ITEM)

    def stands_alone(self, op: Op) -> bool:
        """Whether an operation is a loop of its own: over rows, or over the true lanes only."""
        if not isinstance(op, Apply) or op.primitive.function not in (SET_ITEM, ADD_ITEM):
            return False
        thread = self.nest.threads[base_of(op)]  # type: ignore[index]
        if op in self.own.added or thread in self.own.kept:
            return False
        if value_of(op).type.ndim or op.result.type.ndim != len(scalar_entries(op) or ()):
            return True
        return thread.kind == "elements" or (thread.kind == "added" and self.is_scattered(op))

    def is_scattered(self, op: Apply) -> bool:
        """Whether the index of a write differs from lane to lane."""
        return any(entry in self.nest.varying for entry in scalar_entries(op) or ())

    # Values.

    def collect(self, block: Block) -> None:
        for op in block.ops:
            place = self.place.get(op)
            if place is None:
                continue
            if isinstance(op, For) and op in self.loops:
                self.collect_loop(op, place)
                continue
            for value in read_by(op):
                self.use(value, place)
                view = self.nest.views.get(value)
                for entry in view.entries if view is not None else ():
                    self.use(entry, place)
            for result in op.results:
                if self.is_number(result):
                    self.made[result] = place
                    if isinstance(op, Apply) and self.is_own_read(op):
                        self.again[result] = op
                elif result in self.nest.threads:
                    self.newest[self.nest.threads[result]] = result

    def collect_loop(self, op: For, place: Place) -> None:
        block, number = place
        for _, param, _, _ in slots(op):
            if param in self.nest.threads:
                self.newest[self.nest.threads[param]] = param
        self.collect(op.body)
        for init, param, item, result in slots(op):
            if param in self.nest.threads:
                self.newest[self.nest.threads[param]] = result
            if not self.is_number(param):
                continue
            self.use(init, (block, number - 1))
            self.use(item, (op.body, self.ends[op.body]))
            self.made[param] = (op.body, -1)
            self.made[result] = (block, number)
            row = self.row(param)
            row.values.append(result)
            self.rows[result] = row

    def is_number(self, value: Value) -> bool:
        """Whether a value is a number that differs from lane to lane, and no sum over them."""
        return value in self.nest.varying and not value.type.ndim and value not in self.nest.sums

    def use(self, operand: Operand, place: Place) -> None:
        if isinstance(operand, Value) and self.is_number(operand):
            read = self.again.get(operand)
            if read is not None and place != self.made[operand]:
                base, _ = located(read, self.nest)
                if self.newest[self.nest.threads[base]] is not base:
                    del self.again[operand]
            self.uses.setdefault(operand, []).append(place)

    def is_own_read(self, op: Apply) -> bool:
        """Whether an element of an array of the lane's own is read, at an index of all lanes."""
        if op.primitive.function is not operator.getitem:
            return False
        base, entries = located(op, self.nest)
        thread = self.nest.threads.get(base)
        if thread is None or thread.kind not in OWN:
            return False
        return not any(entry in self.nest.varying for entry in entries)

    def row(self, value: Value) -> Row:
        return self.rows.setdefault(value, Row([value]))

    # Rows that are one.

    def share(self) -> None:
        for op in self.loops:
            for init, param, _, _ in slots(op):
                if self.is_number(param) and isinstance(init, Value):
                    once = len(self.uses.get(init, ())) == 1 and init is not self.nest.index
                    if once and init in self.made and self.place[op][0] is self.home(init):
                        self.unite(init, param)
        for op in self.loops:
            for _, param, item, _ in slots(op):
                if self.is_number(param) and isinstance(item, Value) and item in self.made:
                    self.share_yield(op.body, param, item)

    def home(self, value: Value) -> Block:
        return self.made[value][0]

    def share_yield(self, body: Block, param: Value, item: Value) -> None:
        """One row for what comes into a trip and what goes out of it."""
        if self.home(item) is not body or self.made[item][1] < 0:
            return
        before, after = self.row(param), self.row(item)
        if before is after:
            return
        first = min(self.starts(value, body) for value in after.values)
        last = max(self.last(value, body) for value in before.values)
        if last <= first:
            self.unite(param, item)

    def starts(self, value: Value, body: Block) -> int:
        """The piece in which a value is first there."""
        block, number = self.made[value]
        if block is body:
            return number if number < 0 or number % 2 == 0 else number - 1
        while block is not body:
            if block not in self.parent:
                return -2
            block, number = self.parent[block]
        return number - 1

    def last(self, value: Value, body: Block) -> int:
        """The last piece in which a value is made or read, but for being handed on."""
        places = [self.made[value], *self.uses.get(value, ())]
        found = -1
        for block, number in places:
            while block is not body and block in self.parent:
                block, number = self.parent[block]
            if block is not body:
                continue  # outside
            found = max(found, number)
        return found

    def unite(self, one: Value, other: Value) -> None:
        kept, gone = self.row(one), self.row(other)
        if kept is gone:
            return
        kept.values += gone.values
        for value in gone.values:
            self.rows[value] = kept
