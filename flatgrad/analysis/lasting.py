"""Elements of arrays that nothing overwrites before the loops around end.

    x[0] = x0
    for i in range(n):
        x[i + 1] = x[i] + h * f(x[i])       # x[i] of trip i is x[i] after the loop, too

What a trip reads there, and what it stores, need not be recorded for the backward sweep: the array
has it. A write that may come later must be to another element, which is proved of one axis: it is
above the element that is read, or below it, for each loop of which it may be in a later trip.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile, zip_longest
from typing import Any

import numpy as np

from flatgrad.analysis.activity import carried_params, carried_yields, slots
from flatgrad.analysis.affine import Affine, Integers, number
from flatgrad.analysis.ranges import Trips, never_below_zero
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    If,
    Op,
    Operand,
    Slot,
    Value,
    blocks_of,
    operands_of,
    substitute,
)
from flatgrad.ir.types import Scalar
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.primitives.registry import PRIMITIVES

WRITES = (SET_ITEM, ADD_ITEM)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a value is found: `read` is the operation that reads it, whose result it is.

    `stored`: the value is computed and then stored there, so it may be had in another way, too.
    """

    read: Apply
    stored: bool

    @property
    def index(self) -> list[Value]:
        """The values that the index consists of."""
        return [one for one in self.read.operands[1:] if isinstance(one, Value)]


def lasting(block: Block) -> dict[Value, Place]:
    """The values read or stored in the loops of a block that their arrays have after the loops."""
    found: dict[Value, Place] = {}
    integers = Integers.of_block(block)
    for op in block.ops:
        if isinstance(op, For):
            for k, result in enumerate(op.results):
                if result.type.ndim:
                    found |= _Followed(op, k, integers).places()
    return found


def _reading(array: Value, access: Apply, value: Value, swap: Mapping[Operand, Operand]) -> Apply:
    """The operation that reads `value` from `array` at the index of a read or write."""
    operands: list[Operand] = [array]

    def moved(k: int) -> Slot:
        given = access.operands[k]
        operands.append(swap.get(given, given))
        return Slot(len(operands) - 1)

    index = substitute(access.arguments["index"], moved)
    arguments = {"x": Slot(0), "index": index}
    getitem = PRIMITIVES[operator.getitem]
    return Apply(getitem, tuple(operands), arguments, (value,), access.origin)


@dataclass(frozen=True, slots=True)
class _Range:
    """The indices along an axis from `first` to `last`; None where nothing is known of it."""

    first: Affine | None
    last: Affine | None

    def renamed(self, names: Mapping[Value, Value]) -> _Range:
        """The same with other values in the sums."""
        ends = [end and _renamed(end, names) for end in (self.first, self.last)]
        return _Range(*ends)


@dataclass(frozen=True, slots=True)
class _Access:
    """A read or write: its loops, the outermost first, its block, and its place in the order."""

    op: Apply
    loops: tuple[For, ...]
    block: Block
    position: int
    ranges: tuple[_Range, ...]


class Unknown(Exception):
    """Something happens to the array that is not followed."""


@dataclass(slots=True)
class _Followed:
    """One array that a loop carries, followed through its versions."""

    loop: For
    slot: int
    integers: Integers
    reads: list[_Access] = field(default_factory=list)
    writes: list[_Access] = field(default_factory=list)
    bounds: dict[For, tuple[Affine | None, Affine | None]] = field(default_factory=dict)
    versions: set[Value] = field(default_factory=set)
    computed: set[Value] = field(default_factory=set)
    count: int = 0

    def places(self) -> dict[Value, Place]:
        """The values that last."""
        self.computed = {*carried_params(self.loop), *_computed(self.loop.body)}
        try:
            self.carrying(self.loop, self.slot, ())
        except Unknown:
            return {}
        array = self.loop.results[self.slot]
        found: dict[Value, Place] = {}
        for one in self.writes:
            value = _stored(one)
            if value is not None and self.lasts(one):
                found[value] = Place(_reading(array, one.op, value, {}), stored=True)
                if one.block is self.loop.body:
                    found |= self.before(value, one)
        for one in self.reads:
            if self.lasts(one):
                value = one.op.result
                found[value] = Place(_reading(array, one.op, value, {}), stored=False)
        return found

    def before(self, value: Value, write: _Access) -> dict[Value, Place]:
        """The variable that is `value` in the next trip: it is where this trip's has been stored.

            ys[0] = y
            for i in range(n):
                y = step(y)             # y on entry: ys[i]
                ys[i + 1] = y
        """
        loop, array = self.loop, self.loop.results[self.slot]
        index, start = loop.body.params[0], loop.start
        params = [one for _, one, item, _ in slots(loop) if item is value]
        assert isinstance(loop.step, Const)
        next_index = Affine(frozenset({(index, 1)}), loop.step.value)
        entries = [one for one in write.op.operands[2:] if _is_int(one)]
        if len(params) != 1 or len(entries) != 1 or self.integers.of(entries[0]) != next_index:
            return {}
        first = _reading(array, write.op, value, {entries[0]: start})
        init = loop.inits[carried_params(loop).index(params[0])]
        if not self.starts_with(first, init) or params[0].type != value.type:
            return {}
        ranges = self.ranges(first, ())
        entry = ranges and _Access(first, (), Block(), 0, ranges)
        if not entry or not all(self.is_elsewhere(one, entry) for one in self.writes):
            return {}
        read = _reading(array, write.op, params[0], {entries[0]: index})
        return {params[0]: Place(read, stored=False)}

    def starts_with(self, first: Apply, init: Operand) -> bool:
        """Whether the array has the value of `init` there when the loop begins."""
        made = self.integers.made
        written = made.get(self.loop.inits[self.slot])  # type: ignore[arg-type]
        if written is None or written.primitive.function is not SET_ITEM:
            return False
        value = written.operands[written.arguments["value"].index]
        return (
            _entries(written) == _entries(first)
            and (value is init or _copied(made.get(init), value))  # type: ignore[arg-type]
            and _fits(written, init)
        )

    # What happens to the array, in order.

    def carrying(self, loop: For, slot: int, around: tuple[For, ...]) -> None:
        """Follow the array through a loop that carries it."""
        end = self.trip(loop, carried_params(loop)[slot], around)
        if end is not carried_yields(loop)[slot]:
            raise Unknown

    def trip(self, loop: For, current: Value, around: tuple[For, ...]) -> Value:
        trips = Trips.of(loop, self.integers)
        if trips is None or loop.checkpoint:
            raise Unknown
        self.bounds[loop] = self.same(trips.lowest), self.same(trips.highest)
        return self.block(loop.body, current, (*around, loop))

    def same(self, found: Affine) -> Affine | None:
        """A sum if it is one of indices of loops and what is the same in all trips, else None."""
        return None if any(value in self.computed for value, _ in found.terms) else found

    def block(self, block: Block, current: Value, loops: tuple[For, ...]) -> Value:
        """The version of the array at the end of a block."""
        self.versions.add(current)
        for op in block.ops:
            self.count += 1
            current = self.after(op, current, block, loops)
            self.versions.add(current)
        return current

    def after(self, op: Op, current: Value, block: Block, loops: tuple[For, ...]) -> Value:
        """The version after an operation."""
        match op:
            case Apply():
                return self.applied(op, current, block, loops)
            case If():
                ends = [self.block(branch, current, loops) for branch in (op.then, op.orelse)]
                return self.chosen(op, ends, current)
            case For() if op.inits.count(current) == 1:
                slot = op.inits.index(current)
                self.carrying(op, slot, loops)
                return op.results[slot]
            case For() if not _any(op.inits, self.versions):
                if self.trip(op, current, loops) is not current:
                    raise Unknown
                return current
        if self.mentions(op):
            raise Unknown
        return current

    def applied(self, op: Apply, current: Value, block: Block, loops: tuple[For, ...]) -> Value:
        function = op.primitive.function
        if function in WRITES and op.operands[0] in self.versions:
            if op.operands[0] is not current or self.versions & set(op.operands[1:]):
                raise Unknown
            ranges = self.ranges(op, loops)
            if ranges is None:
                raise Unknown
            self.writes.append(_Access(op, loops, block, self.count, ranges))
            return op.result
        if function is operator.getitem and op.operands[0] is current:
            ranges = self.ranges(op, loops)
            if ranges is not None:
                self.reads.append(_Access(op, loops, block, self.count, ranges))
        elif op.primitive.in_place is not None and _any(op.operands, self.versions):
            raise Unknown
        return current

    def chosen(self, op: If, ends: list[Value], current: Value) -> Value:
        """What a branch hands on."""
        pairs = list(zip(op.then.yields, op.orelse.yields, strict=True))
        handed = [k for k, items in enumerate(pairs) if _any(items, self.versions)]
        if not handed and ends == [current, current]:
            return current
        if len(handed) != 1 or list(pairs[handed[0]]) != ends:
            raise Unknown
        return op.results[handed[0]]

    def mentions(self, op: Op) -> bool:
        """Whether an operation has to do with the array."""
        blocks = blocks_of(op)
        return _any(operands_of(op), self.versions) or any(
            _any(block.yields, self.versions) or any(map(self.mentions, block.ops))
            for block in blocks
        )

    # Indices.

    def ranges(self, op: Apply, loops: tuple[For, ...]) -> tuple[_Range, ...] | None:
        """The indices along the axes; None for arrays of indices, masks and new axes."""
        found = []
        for entry in _entries(op):
            if isinstance(entry, slice):
                found.append(self.slice(entry, loops))
            elif _is_int(entry):
                at = self.known(entry, loops)
                found.append(_Range(at, at))
            else:
                return None
        return tuple(found)

    def slice(self, entry: slice, loops: tuple[For, ...]) -> _Range:
        if entry.step is not None:
            return _Range(None, None)
        first = number(0) if entry.start is None else self.known(entry.start, loops)
        stop = None if entry.stop is None else self.known(entry.stop, loops)
        return _Range(first, None if stop is None else stop.plus(number(-1)))

    def known(self, entry: Any, loops: tuple[For, ...]) -> Affine | None:
        """An index that is not counted from the end, as a sum."""
        found = self.same(self.integers.of(entry)) if _is_int(entry) else None
        if found is None:
            return None
        return found if never_below_zero(found, self.around(loops)) else None

    # Later writes.

    def lasts(self, one: _Access) -> bool:
        """Whether no later write is to the same elements."""
        return all(self.is_elsewhere(write, one) for write in self.writes)

    def is_elsewhere(self, write: _Access, one: _Access) -> bool:
        """Whether all that a write does after `one` has happened is to other elements."""
        pairs = zip(write.loops, one.loops, strict=False)
        common = sum(takewhile(bool, (a is b for a, b in pairs)))
        later = [self.later_trips(write, one, common, k) for k in range(common)]
        if write.position > one.position:
            later.append(self.same_trips(write, one, common))
        return all(_apart(*case) for case in later)

    def same_trips(self, write: _Access, one: _Access, common: int) -> _Case:
        around = [*self.around(one.loops), *self.around(write.loops[common:])]
        return around, write.ranges, one.ranges

    def later_trips(self, write: _Access, one: _Access, common: int, k: int) -> _Case:
        """The write in a later trip of loop `k`, whose indices have other names from there on."""
        mine = [loop.body.params[0] for loop in write.loops[k:common]]
        names = {index: Value(Scalar("int64"), index.name) for index in mine}
        around = self.around(one.loops)
        for level, trips in enumerate(self.around(write.loops[k:]), k):
            lowest, highest = (_renamed(end, names) for end in (trips.lowest, trips.highest))
            if level == k:
                step = write.loops[k].step
                assert isinstance(step, Const)
                nearest = Affine(frozenset({(trips.index, 1)}), step.value)
                lowest, highest = (nearest, highest) if step.value > 0 else (lowest, nearest)
            around.append(Trips(names.get(trips.index, trips.index), lowest, highest))
        return around, tuple([found.renamed(names) for found in write.ranges]), one.ranges

    def around(self, loops: Iterable[For]) -> list[Trips]:
        """The bounds of loops; of those that differ from trip to trip nothing is known."""
        return [
            Trips(loop.body.params[0], *[end or _unknown() for end in self.bounds[loop]])
            for loop in loops
        ]


_Case = tuple[list[Trips], tuple[_Range, ...], tuple[_Range, ...]]
"""The loops around, and the indices of a write and of a read."""


def _apart(around: list[Trips], write: tuple[_Range, ...], read: tuple[_Range, ...]) -> bool:
    """Whether along some axis the one ends before the other begins."""
    return any(
        _above(one.first, other.last, around) or _above(other.first, one.last, around)
        for one, other in zip(write, read, strict=False)
    )


def _above(first: Affine | None, last: Affine | None, around: list[Trips]) -> bool:
    if first is None or last is None:
        return False
    return never_below_zero(first.plus(last, -1).plus(number(-1)), around)


def _stored(write: _Access) -> Value | None:
    """The value that a write stores, if the block of the write computes it; not what it adds."""
    op = write.op
    value = op.operands[op.arguments["value"].index]
    if op.primitive.function is not SET_ITEM or not _fits(op, value):
        return None
    return value if any(value in inner.results for inner in write.block.ops) else None


def _fits(write: Apply, value: Operand) -> bool:
    """Whether a value that is stored can be read again as it was.

    At an int for an axis, `:` or nothing: of other slices it is not known how long they are.
    """
    array, entries = write.operands[0].type, _entries(write)
    slices = [entry for entry in entries if isinstance(entry, slice)]
    if any(entry != slice(None) for entry in slices) or value.type.dtype != array.dtype:
        return False
    left = [size for entry, size in zip_longest(entries, array.shape) if not _is_number(entry)]
    return len(left) == value.type.ndim and all(
        size == given or given != 1 for size, given in zip(left, value.type.shape, strict=True)
    )


def _entries(access: Apply) -> tuple[Any, ...]:
    """The entries of an index, numbers as such."""
    index = substitute(access.arguments["index"], access.operands.__getitem__)
    entries = index if isinstance(index, tuple) else (index,)
    return tuple([one.value if isinstance(one, Const) else one for one in entries])


def _copied(op: Apply | None, value: Operand) -> bool:
    return op is not None and op.primitive.function is np.copy and op.operands[0] is value


def _is_number(entry: Any) -> bool:
    return entry is not None and not isinstance(entry, slice)


def _computed(block: Block) -> Iterator[Value]:
    """What a block and the blocks inside compute and carry; not the indices of loops."""
    for op in block.ops:
        yield from op.results
        for inner in blocks_of(op):
            yield from inner.params[1 if isinstance(op, For) else 0 :]
            yield from _computed(inner)


def _unknown() -> Affine:
    return Affine(frozenset({(Value(Scalar("int64"), "unknown"), 1)}))


def _renamed(found: Affine, names: Mapping[Value, Value]) -> Affine:
    for old, new in names.items():
        found = found.swapped(old, new)
    return found


def _is_int(entry: Any) -> bool:
    if isinstance(entry, Value | Const):
        return isinstance(entry.type, Scalar) and entry.type.dtype == "int64"
    return type(entry) is int


def _any(operands: Iterable[object], found: set[Value]) -> bool:
    return any(operand in found for operand in operands)
