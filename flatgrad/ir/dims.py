"""Symbolic axis lengths: integer polynomials over atoms such as `X.shape[0]`.

    N = Dim.atom("X.shape[0]")
    N + M, 2 * N, N - 1         # Dim again, in a normal form, so that equality is structural
    N - N == 0                  # constants collapse to int

An atom stands for a length that is known not to be 1: the signature of a compiled function fixes
which axes of its parameters have length 1. Everything else about a length is found at run time.
Two kinds of atoms are exceptions: opaque ones, `?3`, about which nothing is known, and the length
of a slice, `N[1:]`, which is computed from another length (N - 1 would be wrong for N = 0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Monomial = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Dim:
    """A polynomial: sorted pairs of a monomial (sorted atoms, `()` the constant) and its factor."""

    terms: tuple[tuple[Monomial, int], ...]

    @staticmethod
    def atom(name: str) -> Dim:
        """The length called `name`."""
        return Dim((((name,), 1),))

    @property
    def is_atom(self) -> bool:
        """Whether this is one atom alone."""
        return len(self.terms) == 1 and len(self.terms[0][0]) == 1 and self.terms[0][1] == 1

    @property
    def name(self) -> str:
        """The atom's name; only for atoms."""
        return self.terms[0][0][0]

    def __add__(self, other: Size) -> Size:
        return _normal(_terms(self) + _terms(other))

    def __sub__(self, other: Size) -> Size:
        return self + (other * -1)

    def __rsub__(self, other: int) -> Size:
        return self * -1 + other

    def __mul__(self, other: Size) -> Size:
        products = [
            (tuple(sorted(left + right)), a * b)
            for left, a in _terms(self)
            for right, b in _terms(other)
        ]
        return _normal(products)

    __radd__ = __add__
    __rmul__ = __mul__

    def __str__(self) -> str:
        text = ""
        for monomial, factor in self.terms:
            name = "*".join(monomial)
            sign = "-" if factor < 0 else "+"
            size = abs(factor)
            body = str(size) if not monomial else name if size == 1 else f"{size}*{name}"
            text += f" {sign} {body}" if text else ("-" if factor < 0 else "") + body
        return text

    @property
    def atoms(self) -> set[str]:
        """The atoms in it; for the length of a slice, those from which it is computed."""
        found: set[str] = set()
        for monomial, _ in self.terms:
            for atom in monomial:
                found |= atom.needs if isinstance(atom, SliceLength) else {atom}
        return found

    def value(self, lengths: dict[str, int]) -> int | None:
        """The length for given atoms, or None where one of them is not given."""
        total = 0
        for monomial, factor in self.terms:
            for atom in monomial:
                known = lengths.get(atom)
                if known is None and isinstance(atom, SliceLength):
                    known = atom.value(lengths)
                if known is None:
                    return None
                factor *= known
            total += factor
        return total


Size = int | Dim
Bound = Size | None


class SliceLength(str):
    """The atom for the length of `slice(*bounds)` of an axis; compared by its text, `N[1:]`."""

    size: Size
    bounds: tuple[Bound, Bound, Bound]

    def __new__(cls, size: Size, bounds: tuple[Bound, Bound, Bound]) -> SliceLength:
        """The atom, with the text that tells it from others."""
        start, stop, step = ("" if bound is None else str(bound) for bound in bounds)
        base = str(size) if isinstance(size, int) or size.is_atom else f"({size})"
        made = super().__new__(cls, f"{base}[{start}:{stop}{':' if step else ''}{step}]")
        made.size, made.bounds = size, bounds
        return made

    @property
    def needs(self) -> set[str]:
        """The atoms from which it is computed."""
        parts = (self.size, *self.bounds)
        return {atom for part in parts if isinstance(part, Dim) for atom in part.atoms}

    def value(self, lengths: dict[str, int]) -> int | None:
        """The length for given atoms, or None where one of them is not given."""
        parts = [
            part.value(lengths) if isinstance(part, Dim) else part
            for part in (self.size, *self.bounds)
        ]
        unknown = [isinstance(old, Dim) and new is None
                   for old, new in zip((self.size, *self.bounds), parts, strict=True)]
        if any(unknown) or parts[0] is None or parts[0] < 0:
            return None
        return len(range(*slice(*parts[1:]).indices(parts[0])))


def slice_length(size: Size, start: Bound, stop: Bound, step: Bound) -> Size:
    """The length of a slice of an axis of length `size`, in a normal form.

    `N[1:]` and `N[:-1]` have the same form, so that `u[1:] - u[:-1]` needs no check.
    """
    if step == 1:
        step = None
    if stop is not None and stop == size and step is None:
        stop = None
    if start == 0 and step is None:
        start = None
    if start is None and stop is None and step in (None, -1):
        return size
    if step is None and not isinstance(start, Dim) and not isinstance(stop, Dim):
        return _stretch(size, start or 0, stop)
    if step is None:
        first, last = start or 0, size if stop is None else stop
        if all(map(never_negative, (first, last - first, size - last))):
            return last - first
    if all(not isinstance(part, Dim) for part in (size, start, stop, step)):
        return len(range(*slice(start, stop, step).indices(size)))  # type: ignore[arg-type]
    return Dim.atom(SliceLength(size, (start, stop, step)))


def never_negative(size: Size) -> bool:
    """Whether this is certainly a length; an int argument, `?n`, may be negative, `?n+` may not."""
    if isinstance(size, int):
        return size >= 0
    arguments = any(atom[:1] == "?" and not atom[1:2].isdigit() for atom in _unsigned(size))
    return not arguments and all(factor > 0 for _, factor in size.terms)


def natural(size: Size) -> bool:
    """Whether this is certainly not negative: a length by the shapes, or an argument `?n+`."""
    plain = isinstance(size, int) or not any(str(atom)[:1] == "?" for atom in _unsigned(size))
    return plain and never_negative(size)


def _unsigned(size: Dim) -> list[Any]:
    """The atoms but for arguments that are not negative."""
    return [atom for atom in size.atoms if not (isinstance(atom, str) and atom.endswith("+"))]


def _stretch(size: Size, start: int, stop: int | None) -> Size:
    """The length of `[start:stop]` by what it cuts off: `without` from one end, then `at_most`."""
    if start >= 0:
        if stop is None:
            return without(size, start)
        if stop < 0:
            return without(size, start - stop)
        return at_most(without(size, start), stop - start)
    if stop is None:
        return at_most(size, -start)
    if stop < 0:
        return at_most(without(size, -stop), stop - start)
    return Dim.atom(SliceLength(size, (start, stop, None))) if isinstance(size, Dim) else len(
        range(*slice(start, stop).indices(size))
    )


def without(size: Size, count: int) -> Size:
    """The length of an axis without `count` of its entries, at least 0."""
    if isinstance(size, int):
        return max(0, size - count)
    least = at_least(size)
    if least >= count:
        return size - count
    if least:
        return without(size - least, count - least)
    inner = _slice_atom(size)
    if inner is not None and inner.bounds[1:] == (None, None) and isinstance(inner.bounds[0], int):
        return without(inner.size, inner.bounds[0] + count)
    return Dim.atom(SliceLength(size, (count, None, None)))


def at_most(size: Size, count: int) -> Size:
    """The length of the first `count` entries of an axis."""
    if count <= 0:
        return 0
    if isinstance(size, int):
        return min(size, count)
    if at_least(size) >= count:
        return count
    inner = _slice_atom(size)
    if inner is not None and inner.bounds[::2] == (None, None) and isinstance(inner.bounds[1], int):
        return at_most(inner.size, min(inner.bounds[1], count))
    return Dim.atom(SliceLength(size, (None, count, None)))


def _slice_atom(size: Dim) -> SliceLength | None:
    return size.name if size.is_atom and isinstance(size.name, SliceLength) else None


def at_least(size: Size) -> int:
    """A number that a length is never below: lengths are never negative."""
    if isinstance(size, int):
        return size
    if any(factor < 0 and monomial for monomial, factor in size.terms) or opaque(size):
        return 0
    return max(0, sum(factor for monomial, factor in size.terms if not monomial))


def _terms(size: Size) -> list[tuple[Monomial, int]]:
    return list(size.terms) if isinstance(size, Dim) else [((), size)]


def _normal(terms: list[tuple[Monomial, int]]) -> Size:
    totals: dict[Monomial, int] = {}
    for monomial, factor in terms:
        totals[monomial] = totals.get(monomial, 0) + factor
    kept = tuple(
        sorted(
            ((m, f) for m, f in totals.items() if f),
            key=lambda term: (-len(term[0]), term[0]),
        )
    )
    if not kept:
        return 0
    if len(kept) == 1 and kept[0][0] == ():
        return kept[0][1]
    return Dim(kept)


def may_be_one(size: Size) -> bool:
    """Whether a length can be 1 at run time.

    Atoms are 0 or at least 2, so a sum or product of atoms without a constant never is 1, nor is
    one with a constant of at least 2; with a negative factor anything can happen.
    """
    if isinstance(size, int):
        return size == 1
    constant = sum(factor for monomial, factor in size.terms if not monomial)
    if any(factor < 0 for _, factor in size.terms) or opaque(size):
        return True
    if any(isinstance(atom, SliceLength) for monomial, _ in size.terms for atom in monomial):
        return True
    return constant == 1


def at_most_one(size: Size) -> bool:
    """Whether this is the length of a slice of one element, as `x[:1]` or `x[-1:]`."""
    atom = _slice_atom(size) if isinstance(size, Dim) else None
    return atom is not None and atom.bounds == (None, 1, None)


def is_one_element(size: Size) -> bool:
    """Whether this is the length of `x[i : i + 1]`, whose start is not known."""
    atom = _slice_atom(size) if isinstance(size, Dim) else None
    if atom is None:
        return False
    start, stop, step = atom.bounds
    runs = isinstance(start, Dim) and isinstance(stop, Dim) and step is None
    return runs and stop == start + 1  # type: ignore[operator]


def opaque(size: Size) -> bool:
    """Whether a length depends on run-time data (a mask, an integer argument), not on shapes."""
    if isinstance(size, int):
        return False
    return any(atom.startswith("?") for atom in size.atoms)


def substituted(size: Size, pick: Callable[[str], Size]) -> Size:
    """A length with `pick(name)` in the place of each atom."""
    if isinstance(size, int):
        return size
    total: Size = 0
    for monomial, factor in size.terms:
        term: Size = factor
        for atom in monomial:
            term = term * _picked(atom, pick)
        total = term + total
    return total


def _picked(atom: str, pick: Callable[[str], Size]) -> Size:
    if not isinstance(atom, SliceLength):
        return pick(atom)
    start, stop, step = (
        substituted(bound, pick) if isinstance(bound, Dim) else bound for bound in atom.bounds
    )
    return Dim.atom(SliceLength(substituted(atom.size, pick), (start, stop, step)))


def product(sizes: tuple[Size, ...]) -> Size:
    """The number of elements of a shape."""
    total: Size = 1
    for size in sizes:
        total = total * size
    return total
