"""The trips of a loop as the rows of arrays.

    for t in range(n - 1, -1, -1):          trips          n
        h = h_tape[t]                       position       t
        c = c_tape[t + 1]                   rows of h      h_tape
                                            rows of c      c_tape[1:n + 1]

Row number k belongs to the trip with the k-th lowest index, whichever way the loop goes.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from flatgrad.ir.builder import Builder
from flatgrad.ir.dims import natural
from flatgrad.ir.ops import Apply, Const, For, Op, Operand, Slot, Value, size_of
from flatgrad.primitives.core import TRIPS
from flatgrad.primitives.symbolic import Symbol, apply_function, operand_of, symbol_of
from flatgrad.transform.building import shifted


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows `first` and those after it, as many as there are trips; None: all of `array[at]`."""

    array: Value
    first: int | None
    at: tuple[Operand, ...] = ()

    def symbol(self, trips: Any, builder: Builder) -> Any:
        """The rows as an array."""
        index = [symbol_of(operand, builder) for operand in self.at]
        if self.first is not None:
            last = trips + self.first if self.first else trips
            index.append(slice(self.first or None, last))
        whole = Symbol(self.array, builder)
        return whole[index[0] if len(index) == 1 else tuple(index)] if index else whole


class TripRows:
    """How the trips of a loop with step 1 or -1 are numbered.

    `outer` and `inner` are the makers of values around and inside the loop. What is computed for
    the number of trips goes to the builder's block, which must stand before the loop.
    """

    def __init__(
        self, op: For, outer: Mapping[Value, Op], inner: Mapping[Value, Op], builder: Builder
    ) -> None:
        self.op = op
        self.outer, self.inner = outer, inner
        self.builder = builder
        self.down = op.step.value == -1  # type: ignore[union-attr]
        self.first = self.lowest()
        self.trips = self.count()

    @staticmethod
    def of(
        op: For, outer: Mapping[Value, Op], inner: Mapping[Value, Op], builder: Builder
    ) -> TripRows | None:
        """The rows of a loop; None for one with other steps, or that `break` may end."""
        unit = isinstance(op.step, Const) and op.step.value in (1, -1)
        return TripRows(op, outer, inner, builder) if unit and not op.exits else None

    def lowest(self) -> Operand:
        """The lowest index, if there is a trip."""
        op = self.op
        if not self.down:
            return op.start
        return operand_of(shifted(op.stop, 1, self.outer, self.builder))

    def count(self) -> Any:
        """The number of trips, as a number or symbol."""
        op = self.op
        if isinstance(self.first, Const) and self.first.value == 0:
            last, after = (op.start, 1) if self.down else (op.stop, 0)
            end = shifted(last, after, self.outer, self.builder)
            size = size_of(operand_of(end))
            if size is not None and natural(size):
                return end
        bounds = [symbol_of(bound, self.builder) for bound in (op.start, op.stop, op.step)]
        found = apply_function(TRIPS, bounds, {}, self.builder)
        if isinstance(found, Symbol):
            found.value.name = "trips"
        return found

    def position(self) -> Any:
        """The number of the row, inside the loop."""
        index = Symbol(self.op.body.params[0], self.builder)
        if isinstance(self.first, Const) and self.first.value == 0:
            return index
        return index - symbol_of(self.first, self.builder)

    def read(self, value: Value) -> Rows | None:
        """The array from outside the loop of which a value is the row; None if it is none.

        An array of at least as many rows as there are trips, or a tape, which always is that long.
        """
        made = self.inner.get(value)
        if not isinstance(made, Apply) or made.primitive.function is not operator.getitem:
            return None
        array, index = made.operands[0], made.arguments["index"]
        entries = index if isinstance(index, tuple) else (index,)
        numbers = [made.operands[entry.index] for entry in entries if isinstance(entry, Slot)]
        if not self.is_outside(array) or len(numbers) != len(entries):
            return None
        *at, last = numbers
        if not all(self.is_outside(number) and not number.type.ndim for number in at):
            return None
        assert isinstance(array, Value)
        first = self.row(last)
        if first is None or first < 0:  # rows that are counted from the end
            return None
        if first == 0 and array.type.shape[len(at)] == self.size:
            return Rows(array, None, tuple(at))
        if not is_tape(array) and not self.fits(array, at, first):
            return None
        return Rows(array, first, tuple(at))

    def fits(self, array: Value, at: list[Operand], first: int) -> bool:
        """Whether an array certainly has a row for each trip from the row `first` on."""
        rows = array.type.shape[len(at)]
        return self.size is not None and natural(rows - self.size - first)

    def is_outside(self, operand: Operand) -> bool:
        """Whether an operand is the same in every trip."""
        return operand not in self.inner and operand not in self.op.body.params

    def reads_tape(self, value: Value) -> bool:
        """Whether a value is read from a tape, in whichever order."""
        made = self.inner.get(value)
        if not isinstance(made, Apply) or made.primitive.function is not operator.getitem:
            return False
        return self.is_outside(made.operands[0]) and is_tape(made.operands[0])

    @property
    def size(self) -> Any:
        """The number of trips as a length, None where nothing is known of it."""
        return size_of(operand_of(self.trips))

    def row(self, index: Operand) -> int | None:
        """The row that is read in the first trip, counted from the lowest index."""
        if index is self.op.body.params[0]:
            return self.first.value if isinstance(self.first, Const) else None
        made = self.inner.get(index) if isinstance(index, Value) else None
        if not isinstance(made, Apply):
            return None
        one, other = (*made.operands, None, None)[:2]
        if made.primitive.function is operator.sub and one is self.op.body.params[0]:
            return 0 if other is self.first else None
        if made.primitive.function is operator.add and isinstance(other, Const):
            base = self.row(one) if one is not None else None
            return None if base is None or other.value < 0 else base + other.value
        return None


def is_tape(array: Operand) -> bool:
    """Whether an array is a tape, of the loop itself or of one around it."""
    return isinstance(array, Value) and (array.name or "").endswith("_tape")
