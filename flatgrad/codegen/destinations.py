"""Nests that write a result where it goes next, or add it there.

    y, grad = y_loop(x, w)                  y_loop(x, w, tape[t], total[k])
    tape[t] = y                  ->
    total[k] += grad

The program stays as it is: it is the text of the call that names the place, and the function gets
a variant that fills what it is handed instead of an array of its own. What is needed for that is
what the plan of buffers says: the write is done in place, the nest reads nothing of that memory,
and nothing between the call and the write touches it; other parts that are known to be apart may
be.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from flatgrad.codegen.buffers import Buffers, Roots, aliased_operand, is_copied, written_operand
from flatgrad.codegen.filling import CREATED, Place, filling
from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import (
    Apply,
    Block,
    Function,
    Op,
    Operand,
    Slot,
    Value,
    all_reads,
    blocks_of,
    operands_of,
    substitute,
)
from flatgrad.primitives.callee import Callee, function_of
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.primitives.symbolic import Symbol, apply_function, symbol_of


@dataclass(frozen=True, slots=True)
class Placed:
    """A call whose nest fills the places of `writes`; `results` are the others, in order.

    `bases` are the arrays that are written, as they are when the call is made.
    """

    callee: Callee
    writes: tuple[Apply, ...]
    bases: tuple[Value, ...]
    places: tuple[Place, ...]
    results: tuple[Value, ...]

    @property
    def read(self) -> set[int]:
        """The numbers of the operands that are not handed over."""
        return {place.read for place in self.places if place.read is not None}


class Apart(Protocol):
    """Knows of two reads or writes in a block which elements they have in common."""

    def apart(self, one: Apply, other: Apply) -> bool:
        """Whether they certainly have none."""

    def same(self, one: Apply, other: Apply) -> bool:
        """Whether they certainly have all."""


@dataclass(slots=True)
class Destinations:
    """The calls with places, the writes that are thereby done, and the parts that are unread.

    Without `zeros`, results that nests add up in zeros are left, and what is to be added: threads
    have zeros of their own. `places` says of a function which writes are apart.
    """

    zeros: bool = True
    places: Callable[[Function], Apart] | None = None
    calls: dict[Op, Placed] = field(default_factory=dict)
    done: set[Op] = field(default_factory=set)
    unread: set[Op] = field(default_factory=set)
    variants: dict[Any, Callee] = field(default_factory=dict)
    parts: dict[Function, dict[Value, Place]] = field(default_factory=dict)

    def callee_of(self, op: Apply) -> Callee:
        """The function that a call of the program becomes a call of."""
        placed = self.calls.get(op)
        return placed.callee if placed else op.primitive

    def note(self, fn: Function, buffers: Buffers) -> None:
        """Find those of a function."""
        search = _Search(self, fn, buffers)
        search.block(fn.body)


class _Search:
    """Looks through the blocks of one function."""

    def __init__(self, found: Destinations, fn: Function, buffers: Buffers) -> None:
        self.found = found
        self.fn = fn
        self.buffers = buffers
        self.apart = found.places(fn) if found.places else None
        self.written: dict[Operand, Value] = {}
        self.uses: dict[Value, int] = {}
        for operand in all_reads(fn.body):
            if isinstance(operand, Value):
                self.uses[operand] = self.uses.get(operand, 0) + 1

    def block(self, block: Block) -> None:
        made: dict[Value, int] = {}
        for at, op in enumerate(block.ops):
            if op in self.buffers.in_place and isinstance(op, Apply) and _is_write(op):
                self.written[op.result] = _base(op)
            if isinstance(op, Apply) and _is_write(op):
                value = op.operands[op.arguments["value"].index]
                if isinstance(value, Value) and value in made:
                    self.place(block, made[value], at, value)
            if isinstance(op, Apply) and isinstance(op.primitive, Callee) and op.primitive.nest:
                made |= dict.fromkeys(op.results, at)
            for inner in blocks_of(op):
                self.block(inner)

    def place(self, block: Block, first: int, last: int, value: Value) -> None:
        """Have the call at `first` fill the place that is written at `last`, if that is right."""
        call, write = block.ops[first], block.ops[last]
        assert isinstance(call, Apply)
        assert isinstance(write, Apply)
        if self.uses[value] > 1 or not value.type.ndim:
            return
        room = self.room(write, value)
        if room is None:
            return
        views = self.views(block.ops[:first])
        read = self.read_there(call, write, room, views)
        handed = [one for k, one in enumerate(call.operands) if k != read]
        if not self.is_free(block, first, last, handed, views):
            return
        room = replace(room, read=read)
        known = self.found.calls.get(call)
        results = known.results if known else call.results
        spare = call.results.index(value)
        before = self.filled(call, known)
        callee = self.variant(call.primitive, {**before, spare: room})
        if callee is None:
            return
        writes = dict(zip(before, known.writes, strict=True)) if known else {}
        bases = dict(zip(before, known.bases, strict=True)) if known else {}
        writes[spare] = write
        bases[spare] = self.base_before(write, block.ops[first + 1 : last])
        self.found.calls[call] = Placed(
            callee,
            tuple([writes[k] for k in sorted(writes)]),
            tuple([bases[k] for k in sorted(writes)]),
            tuple([place for _, place in sorted({**before, spare: room}.items())]),
            tuple([result for result in results if result is not value]),
        )
        self.found.done.add(write)
        if read is not None:
            self.found.unread.add(views[call.operands[read]])

    def views(self, ops: list[Op]) -> dict[Operand, Apply]:
        """The operations that take parts of arrays which are no parts themselves."""
        return {
            op.result: op for op in ops
            if isinstance(op, Apply) and op.primitive.function is operator.getitem
            and op.result.type.ndim and aliased_operand(op) is not None
            and op.operands[0] not in self.buffers.views and op.result not in self.buffers.parts
        }  # fmt: skip

    def read_there(
        self, call: Apply, write: Apply, room: Place, views: dict[Operand, Apply]
    ) -> int | None:
        """The number of the operand that is the part to be set, and is read by the call alone."""
        before = self.found.calls.get(call)
        if room.adds or room.index is not None or self.apart is None:
            return None
        for k, operand in enumerate(call.operands):
            view = views.get(operand)
            if view is None or self.uses[view.result] > 1 or (before and k in before.read):
                continue
            same_array = self.first_version(view.operands[0]) is self.first_version(_base(write))
            if same_array and self.apart.same(view, write):
                return k
        return None

    def first_version(self, value: Operand) -> Operand:
        """The array that writes in place have made `value` of."""
        while value in self.written:
            value = self.written[value]
        return value

    def filled(self, call: Apply, known: Placed | None) -> dict[int, Place]:
        """The places that there are already, by the numbers of the results."""
        found: dict[int, Place] = {}
        for write, place in zip(known.writes, known.places, strict=True) if known else ():
            value = write.operands[write.arguments["value"].index]
            found[call.results.index(value)] = place
        return found

    def is_free(
        self, block: Block, first: int, last: int, handed: list[Operand],
        views: dict[Operand, Apply],
    ) -> bool:  # fmt: skip
        """Whether the write can be done at the call.

        The array is there by then, nobody in between reads or changes it, and what the call is
        `handed` is other memory or other parts of it, as are the other places.
        """
        call, write = block.ops[first], block.ops[last]
        assert isinstance(call, Apply)
        assert isinstance(write, Apply)
        roots = self.buffers.of(_base(write))
        if write not in self.buffers.in_place or not roots:
            return False
        between = block.ops[first + 1 : last]
        made = {result for op in (call, *between) for result in op.results}
        made.discard(write.operands[write.arguments["value"].index])
        indices = [one for one in write.operands if one is not _base(write)]
        if any(one in made for one in (self.base_before(write, between), *indices)):
            return False
        known = self.found.calls.get(call)
        others: list[Op] = [*known.writes] if known else []
        others += [views[one] for one in handed if one in views]
        touched = [one for one in handed if one not in views]
        for op in between:
            if op in self.found.done:
                others.append(op)
                continue
            touched += [*operands_of(op), *op.results]
            touched += [one for inner in blocks_of(op) for one in all_reads(inner)]
        if any(self.buffers.of(one) & roots for one in touched):
            return False
        return all(self.is_apart(write, one, roots) for one in others if isinstance(one, Apply))

    def base_before(self, write: Apply, between: list[Op]) -> Value:
        """The array that is written, as it is before the writes that are done by calls."""
        base = _base(write)
        for op in reversed(between):
            if isinstance(op, Apply) and op in self.found.done and op.result is base:
                base = _base(op)
        return base

    def is_apart(self, write: Apply, other: Apply, roots: Roots) -> bool:
        """Whether a write and another write or read concern other memory, or other parts of it."""
        if not self.buffers.of(other.operands[0]) & roots:
            return True
        return self.apart is not None and self.apart.apart(write, other)

    def room(self, write: Apply, value: Value) -> Place | None:
        """The part that is written; None where the value is spread or converted."""
        index = write.arguments["index"]
        entries = index if isinstance(index, tuple) else (index,)
        if is_copied(write) or any(entry is None for entry in entries):
            return None
        kind = part_type(write)
        if (kind.ndim, kind.dtype) != (value.type.ndim, value.type.dtype):
            return None
        if 1 in kind.shape or 1 in value.type.shape:
            return None
        adds = write.primitive.function is ADD_ITEM
        if adds and not (self.found.zeros and _is_dense(entries, write.result.type.ndim)):
            return None
        known = all(isinstance(entry, slice) for entry in entries) and len(write.operands) == 2
        if not known or all(entry == slice(None) for entry in entries):
            return Place(tuple(kind.shape), adds=adds)
        return Place(tuple(kind.shape), index, _base(write).name, adds)

    def variant(self, callee: Callee, places: dict[int, Place]) -> Callee | None:
        """The nest that fills places for the results of these numbers."""
        key = (callee, str(sorted(places.items())))
        if key not in self.found.variants:
            made = filling(callee.called, places, CREATED if self.found.zeros else CREATED[:1])
            if made is None:
                return None
            fn, filled = made
            self.found.variants[key] = function_of(fn, nest=True)
            self.found.parts[fn] = {v: place for v, place in filled.items() if place.index}
        return self.found.variants[key]


def _is_dense(entries: tuple[Any, ...], rank: int) -> bool:
    """Whether a part of an array has its elements one behind the other: `x[i, a:b]`, not `x[:, i]`.

    Of others compiled loops take one element after the other.
    """
    if any(entry is Ellipsis for entry in entries):
        return False
    slices = [k for k, entry in enumerate(entries) if isinstance(entry, slice)]
    first = min(slices, default=len(entries))
    if any(k not in slices for k in range(first, len(entries))):
        return False
    parts = [entries[k] for k in slices]
    return all(part.step is None for part in parts) and all(
        part == slice(None) for part in parts[1:]
    ) and len(entries) <= rank  # fmt: skip


def part_type(write: Apply) -> Any:
    """The type of the part of an array that is written."""
    builder = Builder(Block())
    index = substitute(write.arguments["index"], lambda k: symbol_of(write.operands[k], builder))
    part = apply_function(operator.getitem, (Symbol(_base(write), builder), index), {}, builder)
    return part.value.type


def _is_write(op: Apply) -> bool:
    if op.primitive.function not in (SET_ITEM, ADD_ITEM):
        return False
    return isinstance(op.arguments["value"], Slot)


def _base(write: Apply) -> Value:
    base = written_operand(write)
    assert base is not None
    return base
