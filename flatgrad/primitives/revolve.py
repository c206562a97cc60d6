"""Where snapshots are taken so that the fewest trips are run again: the binomial schedule.

    revolve_places(10, 3)     # [0, 4, 7, 10]: the forward sweep keeps the states before these
    revolve_next(0, 3, 3)     # 1: to go back over trips 0 to 3, keep the state before trip 1 next

With s snapshots, of a chain of l steps whose last one is what follows the loop, the steps forward
are r * l - C(s + r, r - 1) in all, where r is the least number with l <= C(s + r, s): no schedule
takes fewer (A. Griewank: Achieving logarithmic growth of temporal and spatial complexity in reverse
automatic differentiation. Optimization Methods and Software 1 (1992), 35-54; A. Griewank, A.
Walther: Algorithm 799: revolve. ACM Transactions on Mathematical Software 26 (2000), 19-45).
"""

from __future__ import annotations

import numpy as np

from flatgrad.ir.types import Array, Scalar
from flatgrad.primitives.registry import call, primitive
from flatgrad.primitives.samples import I
from flatgrad.primitives.typerules import fresh_size


def revolve_next(first: int, last: int, slots: int) -> int:
    """The trip whose state is kept next, on the way from the state before `first` to `last`.

    `slots` counts the snapshots that may be held, that of `first` among them; with one it is
    `last` itself.
    """
    length = last - first + 1
    if slots == 1 or length == 1:
        return int(last)
    repeats, earlier, before, reach = 0, 0, 0, 1
    while reach < length:
        repeats += 1
        earlier, before = before, reach
        reach = reach * (slots + repeats) // repeats
    rest = length - reach * slots // (slots + repeats)
    return int(first + max(1, earlier, rest))


def revolve_places(trips: int, slots: int) -> np.ndarray:
    """The trips before which the forward sweep keeps the state; after the last of them, `trips`."""
    if slots < 1:
        raise ValueError("a checkpointed loop needs at least one snapshot")
    places = np.full(slots + 1, trips)
    place = 0
    for k in range(slots):
        places[k] = place
        if place < trips and k + 1 < slots:
            length = trips - place + 1
            repeats, earlier, before, reach = 0, 0, 0, 1
            while reach < length:
                repeats += 1
                earlier, before = before, reach
                reach = reach * (slots - k + repeats) // repeats
            rest = length - reach * (slots - k) // (slots - k + repeats)
            place += max(1, earlier, rest)
        else:
            place = trips
    return places


@primitive(
    revolve_next, derivative=False, helper=True,
    samples=lambda: [call(I(0), I(9), I(3)), call(I(2), I(5), I(1))],
)  # fmt: skip
def _(first, last, slots, /):
    return Scalar("int64", weak=True)


@primitive(
    revolve_places, derivative=False, helper=True, creates=True,
    samples=lambda: [call(I(10), I(3)), call(I(4), I(7))],
)  # fmt: skip
def _(trips, slots, /):
    return Array("int64", (fresh_size(),))
