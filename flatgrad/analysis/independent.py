"""Loops whose trips do not depend on each other, but for sums.

    for i in range(n):              z and out: an element of each trip's own
        s = exp(z[i])               total: a sum
        total = total + s
        out[i] = s

Arrays that are only read may be read anywhere. An array that the loop carries must be read and
written at the same indices throughout, one of which moves with the loop, or in several places that
no two trips share (`Body.has_own_places`). Values never change, so two names for the same memory
are no concern here: the emitter copies where it must.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from flatgrad.analysis.activity import slots
from flatgrad.analysis.affine import Affine, Integers, number
from flatgrad.analysis.dependence import LENGTHS
from flatgrad.analysis.ranges import Trips, never_below_zero
from flatgrad.ir.ops import Apply, For, Operand, Slot, Value, operands_of, substitute
from flatgrad.ir.types import Scalar
from flatgrad.primitives.core import PLUS
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM

SUMS = (operator.add, operator.sub, PLUS)
WRITES = (SET_ITEM, ADD_ITEM)

Index = tuple[Affine, ...]


@dataclass(frozen=True, slots=True)
class Access:
    """One element that is read or written; `value` is the element."""

    op: Apply
    index: Index
    value: Operand


@dataclass(slots=True)
class Carried:
    """What a loop carries in one variable.

    `kind` is "same" (each trip hands it on), "sum", "elements" (an array, an element of each trip's
    own), "gathered" (an array to whose elements the trips only add), or "chain" for all else.
    `whole`: an array that each operation of the trip replaces by its next version.
    """

    param: Value
    kind: str
    steps: list[Apply] = field(default_factory=list)
    reads: list[Access] = field(default_factory=list)
    writes: list[Access] = field(default_factory=list)
    whole: bool = False


def element_index(op: Apply, integers: Integers) -> Index | None:
    """The indices of an access to a single element; None for slices, arrays and new axes."""
    index = substitute(op.arguments["index"], op.operands.__getitem__)
    entries = index if isinstance(index, tuple) else (index,)
    base = op.operands[_base(op)]
    if len(entries) != base.type.ndim:
        return None
    found = []
    for entry in entries:
        if type(entry) is int:
            found.append(integers.of(entry))
        elif hasattr(entry, "type") and isinstance(entry.type, Scalar):
            if entry.type.dtype != "int64":
                return None
            found.append(integers.of(entry))
        else:
            return None
    return tuple(found)


def _base(op: Apply) -> int:
    slot = op.arguments[op.primitive.in_place or "x"]
    assert isinstance(slot, Slot)
    return slot.index


class Body:
    """The operations of an innermost loop, and who reads what.

    `plain`: they are on numbers, and nothing is printed or left early.
    """

    def __init__(self, loop: For, integers: Integers) -> None:
        self.loop = loop
        self.integers = integers
        self.index = loop.body.params[0]
        self.readers: dict[Value, list[Apply]] = {}
        self.plain = not loop.exits
        for op in loop.body.ops:
            if not isinstance(op, Apply) or op.primitive.effect or op.primitive.body is not None:
                self.plain = False
                continue
            if op.primitive.function not in WRITES and any(value.type.ndim for value in op.results):
                self.plain = False
            for operand in dict.fromkeys(operands_of(op)):
                if isinstance(operand, Value):
                    self.readers.setdefault(operand, []).append(op)

    def carried(self) -> list[Carried]:
        """What the loop carries; nothing is said of loops that are not plain."""
        return [self.one(param, item) for _, param, item, _ in slots(self.loop)]

    def one(self, param: Value, item: Operand) -> Carried:
        if item is param:
            return Carried(param, "same")
        if not param.type.ndim:
            steps = self.sum_steps(param, item)
            return Carried(param, "sum" if steps else "chain", steps or [])
        return self.array(param, item)

    def sum_steps(self, param: Value, item: Operand) -> list[Apply] | None:
        """The additions from the variable to what the trip hands on; nobody else reads it."""
        steps: list[Apply] = []
        value = param
        if not param.type.dtype.startswith("float"):
            return None
        while value is not item:
            readers = self.readers.get(value, [])
            if len(readers) != 1 or readers[0].primitive.function not in SUMS:
                return None
            (step,) = readers
            if step.operands[0] is not value or step.operands[1] is value:
                return None
            if step.result.type.dtype != param.type.dtype or value in self.loop.body.yields:
                return None
            steps.append(step)
            value = step.result
        return None if self.readers.get(value) else steps

    def array(self, param: Value, item: Operand) -> Carried:
        """An array, followed from version to version."""
        found = Carried(param, "chain")
        version: Value = param
        while True:
            following = None
            for op in self.readers.get(version, []):
                access = self.access(op, version)
                if access is None:
                    return found
                if op.primitive.function is operator.getitem:
                    found.reads.append(access)
                elif op.primitive.function in LENGTHS:
                    continue
                elif following is not None:
                    return found  # two versions of one
                else:
                    following = op.result
                    found.writes.append(access)
            if following is None:
                break
            version = following
        if version is item:
            found.whole = True
            found.kind = self.array_kind(found)
        return found

    def access(self, op: Apply, version: Value) -> Access | None:
        function = op.primitive.function
        if function in LENGTHS:
            return Access(op, (), op.result)
        if function is not operator.getitem and function not in WRITES:
            return None
        if op.operands[_base(op)] is not version or op.operands.count(version) > 1:
            return None
        index = element_index(op, self.integers)
        if index is None:
            return None
        value: Any = op.result
        if function in WRITES:
            value = op.operands[op.arguments["value"].index]
            if value.type.ndim:
                return None
        return Access(op, index, value)

    def array_kind(self, found: Carried) -> str:
        places = {access.index for access in (*found.reads, *found.writes)}
        if len(places) == 1 and self.moves(*places):
            return "elements"
        adds = all(one.op.primitive.function is ADD_ITEM for one in found.writes)
        return "gathered" if adds and not found.reads else "chain"

    def has_own_places(self, carried: Carried, around: Sequence[Trips]) -> bool:
        """Whether each trip has elements of its own in several places of an array.

            a[2 * q, i], a[2 * q + 1, i]          the same index moves with the trips
            a[q, i], a[q, n + i], i < n           what one goes through ends before the other begins

        `around` are the loops around and this one. No index may count from the end. In a trip the
        operations keep their order.
        """
        accesses = (*carried.reads, *carried.writes)
        places = list(dict.fromkeys(access.index for access in accesses))
        inside = {value for op in self.loop.body.ops for value in op.results}
        entries = [entry for place in places for entry in place]
        if not carried.whole or not places:
            return False
        if any(value in inside for entry in entries for value, _ in entry.terms):
            return False
        return all(never_below_zero(entry, around) for entry in entries) and all(
            _never_meet(one, other, around) for k, one in enumerate(places) for other in places[k:]
        )

    def moves(self, index: Index) -> bool:
        """Whether every trip has another element: an entry changes with the index alone."""
        inside = {value for op in self.loop.body.ops for value in op.results}
        return any(
            entry.factor(self.index) and not any(value in inside for value, _ in entry.terms)
            for entry in index
        ) and all(not any(v in inside for v, _ in entry.terms) for entry in index)


def _never_meet(one: Index, other: Index, around: Sequence[Trips]) -> bool:
    """Whether no trip has an element in one place that another trip has in the other."""
    trips = around[-1]
    for here, there in zip(one, other, strict=True):
        if here == there and here.factor(trips.index):
            return True
        if _is_above(here, there, around) or _is_above(there, here, around):
            return True
    return False


def _is_above(here: Affine, there: Affine, around: Sequence[Trips]) -> bool:
    """Whether an index is larger in each trip of the last loop than another is in any of its."""
    trips = around[-1]
    least, most = (_at(here, trips, lowest=True), _at(there, trips, lowest=False))
    return never_below_zero(least.plus(most, -1).plus(number(-1)), around)


def _at(entry: Affine, trips: Trips, *, lowest: bool) -> Affine:
    """The least or greatest value of an index in the trips of a loop."""
    factor = entry.factor(trips.index)
    bound = trips.lowest if lowest == (factor > 0) else trips.highest
    index = Affine(frozenset({(trips.index, 1)}))
    return entry.plus(bound.plus(index, -1), factor) if factor else entry


def is_independent(carried: Iterable[Carried]) -> bool:
    """Whether the trips may be made in any order, or several at a time."""
    return all(one.kind in ("same", "sum", "elements") for one in carried)
