"""Whether two loops, one in the other, may change places without changing what is computed.

    for j in range(m):                    u[i - 1, j] was written a trip of i before
        for i in range(1, n):             (0, 1): stays so
            u[i, j] = u[i - 1, j]

    for j in range(m - 1):                u[i - 1, j + 1] is written a trip of j later, and a trip
        for i in range(1, n):             of i before: (<, >), the other way round it would come
            u[i, j] = u[i - 1, j + 1]     before the read

Two trips touch the same element if the differences of their indices solve one equation for each
axis. The loops may change places if no solution has one loop go on and the other go back. What
says nothing, says no.
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from flatgrad.analysis.affine import Affine
from flatgrad.analysis.apart import Places
from flatgrad.analysis.independent import Index, element_index
from flatgrad.analysis.ranges import never_below_zero
from flatgrad.ir.ops import Apply, Const, For, Operand
from flatgrad.primitives.index import ADD_ITEM

Equation = tuple[int, int, int]
"""(a, b, c): a times the difference of the outer index and b times that of the inner one is c."""


@dataclass(frozen=True, slots=True)
class Directions:
    """Two loops; `inside` are the values that differ from trip to trip of the outer one.

    `ordered`: additions to the same element keep their order, too.
    """

    outer: For
    inner: For
    inside: Collection[Operand]
    places: Places
    ordered: bool

    def may_swap(self, accesses: Sequence[Apply]) -> bool:
        """Whether what the trips do with the elements of one array allows it."""
        if all(is_read(op) for op in accesses):
            return True
        return all(
            self.keeps_order(one, other)
            for k, one in enumerate(accesses) for other in accesses[k:]
            if not (is_read(one) and is_read(other))
        )  # fmt: skip

    def keeps_order(self, one: Apply, other: Apply) -> bool:
        """Whether two operations on the same element come in the same order afterwards."""
        if not self.ordered and is_addition(one) and is_addition(other):
            return True
        differences = solved(self.equations(one, other))
        if differences is None:
            return True
        outer, inner = differences
        if outer == 0 or inner == 0:
            return True
        if outer is None or inner is None:
            return False
        return outer * _sign(self.outer) * inner * _sign(self.inner) > 0

    def has_own_elements(self, accesses: Sequence[Apply]) -> bool:
        """Whether no two trips of the outer loop touch the same element."""
        if all(is_read(op) for op in accesses):
            return True
        if not self.ordered and all(is_addition(op) for op in accesses):
            return True
        indices = [self.index(op) for op in accesses]
        for axis, entry in enumerate(indices[0]):
            same = all(index[axis] == entry for index in indices)
            moves = entry.factor(self.outer.body.params[0]) and self.is_known(entry, inner=False)
            if same and moves and all(self.is_natural(entry, op) for op in accesses):
                return True
        return False

    def equations(self, one: Apply, other: Apply) -> list[Equation]:
        """What must hold where both touch the same element."""
        outer, inner = self.outer.body.params[0], self.inner.body.params[0]
        found: list[Equation] = []
        for here, there in zip(self.index(one), self.index(other), strict=True):
            difference = here.plus(there, -1)
            if difference.terms or not (self.is_known(here) and self.is_known(there)):
                continue
            if self.is_natural(here, one) and self.is_natural(there, other):
                found.append((here.factor(outer), here.factor(inner), difference.constant))
        return found

    def index(self, op: Apply) -> Index:
        index = element_index(op, self.places.integers)
        assert index is not None
        return index

    def is_known(self, entry: Affine, *, inner: bool = True) -> bool:
        """Whether an index depends on nothing that changes but the indices of the loops."""
        indices = (self.outer.body.params[0], self.inner.body.params[0])[: 1 + inner]
        return not any(value in self.inside and value not in indices for value, _ in entry.terms)

    def is_natural(self, entry: Affine, op: Apply) -> bool:
        """Whether an index never counts from the end, where it would mean another element."""
        return never_below_zero(entry, self.places.around.get(op, ()))


def solved(equations: Sequence[Equation]) -> tuple[int | None, int | None] | None:
    """The differences of the outer and the inner index, as far as they are known.

    None if there is no solution at all.
    """
    known: list[int | None] = [None, None]
    for _ in range(2):
        for a, b, c in equations:
            for factor, k in ((a, 0), (b, 1)):
                if factor and known[k] is not None:
                    c -= factor * (known[k] or 0)
            left = [(factor, k) for factor, k in ((a, 0), (b, 1)) if factor and known[k] is None]
            if not left and c:
                return None
            if len(left) == 1:
                ((factor, k),) = left
                if c % factor:
                    return None
                known[k] = c // factor
    return known[0], known[1]


def is_read(op: Apply) -> bool:
    """Whether an access changes nothing."""
    return op.primitive.function is operator.getitem


def is_addition(op: Apply) -> bool:
    """Whether an access adds to what is there, and reads no sum."""
    return op.primitive.function is ADD_ITEM


def _sign(loop: For) -> int:
    assert isinstance(loop.step, Const)
    return 1 if loop.step.value > 0 else -1
