"""Lengths of arrays, and checks that they are what the code needs.

    y = x + v          if x.shape[0] != v.shape[0]: raise ValueError("...")
"""

from __future__ import annotations

from typing import Any

OUT_OF_BOUNDS = "index is out of bounds"
"""What Numba says where it checks an index."""


def DIM(x: Any, axis: int) -> int:
    """The length of an axis of an array; written `x.shape[axis]`."""
    return int(x.shape[axis])


def SIZE(x: Any) -> int:
    """The number of elements of an array; written `x.size`."""
    return int(x.size)


def REQUIRE_EQUAL(left: int, right: int, message: str) -> None:
    """Two lengths agree; written `if left != right: raise ValueError(message)`."""
    if left != right:
        raise ValueError(message)


def REQUIRE_WITHIN(start: int, stop: int, needed: int, length: int) -> None:
    """A loop from `start` to `stop` needs an axis to be so long.

    Written `if start < stop and needed > length: raise IndexError("index is out of bounds")`.
    """
    if start < stop and needed > length:
        raise IndexError(OUT_OF_BOUNDS)


def REQUIRE_INDEX(index: int, length: int, message: str) -> None:
    """Written `if not 0 <= index < length: raise ValueError(message)`."""
    if not 0 <= index < length:
        raise ValueError(message)


def REQUIRE_ENTRY(index: int, length: int) -> None:
    """Written `if not -length <= index < length: raise IndexError("...")`."""
    if not -length <= index < length:
        raise IndexError("index is out of bounds")
