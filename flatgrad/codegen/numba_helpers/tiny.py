"""Products of matrices that may hold subnormal numbers, with which processors are slow.

    times_tiny_left(a, b)
        if has_tiny(a):
            found = np.dot(a * 2.0**400, b)
            if is_finite_2d(found):
                return found * 2.0**-400
        return np.dot(a, b)

An overflow on the way leaves infinity or NaN in the result.
"""

from __future__ import annotations

from flatgrad.codegen.numba_helpers.text import Helper, define

SMALLEST = "2.2250738585072014e-308"
"""The smallest normal number."""


def has_tiny() -> Helper:
    """Whether a matrix holds subnormal numbers."""
    body = [
        "count = 0",
        "for i in range(x.shape[0]):",
        "    row = x[i]",
        "    for j in range(x.shape[1]):",
        f"        count += (row[j] != 0.0) & (abs(row[j]) < {SMALLEST})",
        "return count > 0",
    ]
    return define("has_tiny", "x", "whether there are subnormal numbers", body)


def is_finite() -> Helper:
    """Whether a matrix holds neither infinity nor NaN."""
    body = [
        "total = 0.0",
        "for i in range(x.shape[0]):",
        "    for j in range(x.shape[1]):",
        "        total += x[i, j] * 0.0",
        "return total == 0.0",
    ]
    return define("is_finite_2d", "x", "whether all numbers are finite", body)


def times_tiny(side: str) -> Helper:
    """a @ b with subnormal numbers in one of them, "left" or "right"."""
    tiny = "a" if side == "left" else "b"
    factors = "a * 2.0**400, b" if side == "left" else "a, b * 2.0**400"
    body = [
        f"if has_tiny({tiny}):",
        f"    found = np.dot({factors})",
        "    if is_finite_2d(found):",
        "        return found * 2.0**-400",
        "return np.dot(a, b)",
    ]
    summary = f"a @ b, fast with subnormal numbers in {tiny}"
    return define(f"times_tiny_{side}", "a, b", summary, body, (has_tiny(), is_finite()))
