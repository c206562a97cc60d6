"""Loops of a function that can be made in ranges of their trips.

    for i in range(1, n):               def total_rows(trips, u, w):
        total += w * u[i]        ->         total = 0.0
                                            for i in range(trips):
                                                total += w * u[i]
                                            return total

                                        total_rows(trips, u[first:], w)     # from a trip on

`LoopRanges` belongs to a `Callee` whose body has the loop as it is.
"""

from __future__ import annotations

from dataclasses import dataclass

from flatgrad.ir.ops import For, Operand, Value
from flatgrad.primitives.callee import Callee

FIRST, TRIPS, VIEW, VALUE, FILLED, LIKE = "first", "trips", "view", "value", "filled", "like"
"""Arguments: the first index, how many trips, an array from a place before it on, anything else,
an array that is filled, from such a place on, an array of the shape of a sum."""


@dataclass(frozen=True, slots=True)
class Argument:
    """What the function for a range is given: its kind, of what, and how far from the index."""

    kind: str
    value: Value | None = None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class LoopRanges:
    """The loop, the function for a range of it, and what that is given.

    `sums` are the positions of the carried variables that it returns. `inner` are the numbers of
    trips of the loops inside. `fits` tells whether all indices are within the arrays, where
    that is to be seen while running.
    """

    loop: For
    rows: Callee
    arguments: tuple[Argument, ...]
    sums: tuple[int, ...]
    inner: tuple[Operand, ...] = ()
    fits: Value | None = None
