"""Whether an int is certainly not negative, for the trips of the loops that it stands in.

    for i in range(1, n - 1): u[i - 1]      i - 1 >= 0:  1 - 1 >= 0
                              u[i + 1]      n - 1 - (i + 1) >= 0:  n - 2 - (n - 1 - 1) >= 0

The index of a loop is replaced by its lowest or highest value, the innermost first. What is left
are lengths, which are never negative. That a loop makes a trip is known inside it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from flatgrad.analysis.affine import Affine, Integers, number
from flatgrad.ir.dims import Dim, Size, SliceLength
from flatgrad.ir.ops import Const, For, Value, size_of


@dataclass(frozen=True, slots=True)
class Trips:
    """A loop around: its index, and the sums that bound it."""

    index: Value
    lowest: Affine
    highest: Affine

    @staticmethod
    def of(loop: For, integers: Integers) -> Trips | None:
        """The bounds; None where the step is not known."""
        if not isinstance(loop.step, Const):
            return None
        start, stop = integers.of(loop.start), integers.of(loop.stop)
        if loop.step.value > 0:
            return Trips(loop.body.params[0], start, stop.plus(number(-1)))
        return Trips(loop.body.params[0], stop.plus(number(1)), start)


def never_below_zero(value: Affine, around: Sequence[Trips]) -> bool:
    """Whether the sum is at least 0 in every trip of the loops around it, outermost first."""
    if _is_natural(_widest(value, around)):
        return True
    facts = [one.highest.plus(one.lowest, -1) for one in around]
    return any(_is_natural(_widest(value.plus(fact, -1), around)) for fact in facts)


def highest(value: Affine, around: Sequence[Trips]) -> Affine:
    """The sum where each index of the loops around it makes it as large as it can be."""
    return _widest(value.times(-1), around).times(-1)


def never_above(value: Affine, size: Size) -> bool:
    """Whether the sum is at most a length, for all lengths."""
    if not _is_known(size):
        return False
    total = size - value.constant
    for one, factor in value.terms:
        known = size_of(one)
        if known is None or not _is_known(known):
            return False
        total = total - known * factor
    return any(_all_positive(form) for form in _bounded(total))


def _widest(value: Affine, around: Sequence[Trips]) -> Affine:
    """The sum where each index is as bad as it can be."""
    for one in reversed(around):
        factor = value.factor(one.index)
        if factor:
            bound = one.lowest if factor > 0 else one.highest
            index = Affine(frozenset({(one.index, 1)}))
            value = value.plus(bound.plus(index, -1), factor)
    return value


def _is_natural(value: Affine) -> bool:
    """Whether a sum of lengths is at least 0 for all lengths."""
    total: Size = value.constant
    for one, factor in value.terms:
        size = size_of(one)
        if size is None or not _is_known(size):
            return False
        total = total + size * factor
    return any(_all_positive(form) for form in _bounded(total))


def _is_known(size: Size) -> bool:
    """Whether all that the length depends on are shapes, or ints that are not negative."""
    if isinstance(size, int):
        return True
    return all(atom[:1] != "?" or atom.endswith("+") for atom in size.atoms)


def _bounded(total: Size) -> Iterator[Size]:
    """Lower bounds: `n[1:]` is at least n - 1, at least 0, and at most n."""
    yield total
    if isinstance(total, int):
        return
    lower: Size = 0
    for monomial, factor in total.terms:
        term: Size = factor
        for atom in monomial:
            term = term * (_bound(atom, lower=factor > 0) if len(monomial) == 1 else Dim.atom(atom))
        lower = lower + term
    yield lower


def _bound(atom: str, *, lower: bool) -> Size:
    if not isinstance(atom, SliceLength):
        return Dim.atom(atom)
    start, stop, step = atom.bounds
    if stop is None and step is None and isinstance(start, int) and start >= 0:
        return atom.size - start if lower else atom.size
    return 0 if lower else Dim.atom(atom)


def _all_positive(size: Size) -> bool:
    if isinstance(size, int):
        return size >= 0
    return all(factor > 0 for _, factor in size.terms)
