"""Gives every value that is written down one readable, unique name.

    s, s_1, s_2          a variable that is assigned again
    grad_s, dot_s        adjoint and tangent of `s`
    L_diff               the difference inside the statement of `L`
"""

from __future__ import annotations

import keyword

RESERVED = frozenset(keyword.kwlist) | {
    "np", "math", "numba", "scipy", "float", "int", "bool", "abs", "len", "range", "round", "max",
    "min", "slice", "print", "type", "ValueError", "IndexError", "AssertionError",
}  # fmt: skip
"""What emitted code refers to by these names."""


class Names:
    """Names in use; the same requests in the same order give the same names."""

    def __init__(self, taken: frozenset[str] = frozenset()) -> None:
        self.taken = set(taken | RESERVED)
        self.counts: dict[str, int] = {}

    def fresh(self, base: str) -> str:
        """`base` if it is free, else with a number."""
        base = base if base.isidentifier() else "value"
        candidate, count = base, self.counts.get(base, 0)
        while candidate in self.taken:
            count += 1
            candidate = f"{base}_{count}"
        self.counts[base] = count
        self.taken.add(candidate)
        return candidate
