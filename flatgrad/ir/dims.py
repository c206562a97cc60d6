"""Symbolic axis lengths: integer polynomials over atoms such as `X.shape[0]`.

    N = Dim.atom("X.shape[0]")
    N + M, 2 * N, N - 1         # Dim again, in a normal form, so that equality is structural
    N - N == 0                  # constants collapse to int

An atom stands for a length that is known not to be 1: the signature of a compiled function fixes
which axes of its parameters have length 1. Everything else about a length is found at run time.
"""

from __future__ import annotations

from dataclasses import dataclass

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

    def value(self, lengths: dict[str, int]) -> int | None:
        """The length for given atoms, or None where one of them is not given."""
        total = 0
        for monomial, factor in self.terms:
            for atom in monomial:
                if atom not in lengths:
                    return None
                factor *= lengths[atom]
            total += factor
        return total


Size = int | Dim


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
    return constant == 1


def opaque(size: Size) -> bool:
    """Whether a length depends on run-time data (a mask, an integer argument), not on shapes."""
    if isinstance(size, int):
        return False
    return any(atom.startswith("?") for monomial, _ in size.terms for atom in monomial)


def product(sizes: tuple[Size, ...]) -> Size:
    """The number of elements of a shape."""
    total: Size = 1
    for size in sizes:
        total = total * size
    return total
