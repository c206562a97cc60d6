"""Whether two places of an array have no element in common.

g[2 * q + 1]  and  g[2 * q]       # q >= 0: never the same row
g[1]          and  g[0]
g[q]          and  g[r]           # not known
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flatgrad.analysis.affine import Affine, Integers, number
from flatgrad.analysis.ranges import Trips, never_below_zero
from flatgrad.ir.ops import Apply, Block, Const, For, Function, Op, Value, blocks_of, substitute

Around = tuple[Trips, ...]


@dataclass(slots=True)
class Places:
    """The indices of a function; `around` are the loops in which each operation stands."""

    integers: Integers
    around: dict[Op, Around]

    @staticmethod
    def of_function(fn: Function) -> Places:
        """Those of all blocks of a function."""
        found = Places(Integers.of_function(fn), {})
        found.note(fn.body, ())
        return found

    def note(self, block: Block, around: Around) -> None:
        """Take in the operations of a block."""
        for op in block.ops:
            self.around[op] = around
            inside = around
            if isinstance(op, For):
                trips = Trips.of(op, self.integers)
                inside = (*around, trips) if trips else around
            for inner in blocks_of(op):
                self.note(inner, inside)

    def apart(self, one: Apply, other: Apply) -> bool:
        """Whether two operations with an index, in one block, read or write other elements.

        An axis is enough along which the indices differ by a number and neither counts from the
        end, or both are known and both do.
        """
        around = self.around.get(one, ())
        for first, second in zip(_entries(one), _entries(other), strict=False):
            if not _is_int(first) or not _is_int(second):
                if isinstance(first, slice) and isinstance(second, slice):
                    continue
                return False
            a, b = self.sum(first), self.sum(second)
            difference = a.plus(b, -1)
            if difference.terms or not difference.constant:
                continue
            if all(never_below_zero(each, around) for each in (a, b)):
                return True
            if not a.terms and not b.terms and max(a.constant, b.constant) < 0:
                return True
        return False

    def same(self, one: Apply, other: Apply) -> bool:
        """Whether two operations in one block have the same index."""
        first, second = _entries(one), _entries(other)
        return len(first) == len(second) and all(
            self.sum(a) == self.sum(b) if _is_int(a) and _is_int(b) else _equal(a, b)
            for a, b in zip(first, second, strict=True)
        )

    def sum(self, entry: Any) -> Affine:
        """An int of an index as a sum."""
        return number(entry) if isinstance(entry, int) else self.integers.of(entry)


def _entries(op: Apply) -> tuple[Any, ...]:
    index = substitute(op.arguments["index"], op.operands.__getitem__)
    return index if isinstance(index, tuple) else (index,)


def _is_int(entry: Any) -> bool:
    if isinstance(entry, Const | Value):
        return not entry.type.ndim and entry.type.dtype.startswith("int")
    return isinstance(entry, int) and not isinstance(entry, bool)


def _equal(one: Any, other: Any) -> bool:
    """Whether two entries that are no ints are the same slice, or both `...`."""
    if isinstance(one, slice) and isinstance(other, slice):
        bounds = (one.start, other.start), (one.stop, other.stop), (one.step, other.step)
        return all(a is b or (isinstance(a, int) and a == b) for a, b in bounds)
    return one is other and one is Ellipsis
