"""Functions whose innermost loops may make several trips at a time.

    for i in range(n):                      h:  an element of each trip's own
        h[i] = tanh(z[i])                   z:  only read

A compiler that knows nothing of this compares the places of all arrays before the loop, and gives
up if there are many.
"""

from __future__ import annotations

from flatgrad.analysis.affine import Integers
from flatgrad.analysis.independent import Body, Carried, is_independent
from flatgrad.analysis.ranges import Trips, never_below_zero
from flatgrad.ir.ops import Block, For, Function, If, While, blocks_of


def runs_side_by_side(fn: Function) -> bool:
    """Whether this is so of all innermost loops, of which there is at least one."""
    integers = Integers.of_function(fn)
    loops = _innermost(fn.body, (), integers)
    return loops is not None and bool(loops) and all(
        _is_safe(loop, around, integers) for loop, around in loops
    )  # fmt: skip


Inner = list[tuple[For, tuple[Trips, ...]]]


def _innermost(block: Block, around: tuple[Trips, ...], integers: Integers) -> Inner | None:
    """The innermost loops with the trips around and of each; None where some are not known."""
    found: Inner = []
    for op in block.ops:
        if isinstance(op, While | If):
            return None
        if not isinstance(op, For):
            continue
        trips = Trips.of(op, integers)
        if trips is None:
            return None
        inside = (*around, trips)
        if any(blocks_of(inner) for inner in op.body.ops):
            nested = _innermost(op.body, inside, integers)
            if nested is None:
                return None
            found += nested
        else:
            found.append((op, inside))
    return found


def _is_safe(loop: For, around: tuple[Trips, ...], integers: Integers) -> bool:
    """Whether the trips do not depend on each other, and no index counts from the end."""
    body = Body(loop, integers)
    if not body.plain:
        return False
    return all(
        (is_independent((one,)) and _is_natural(one, around)) or body.has_own_places(one, around)
        for one in body.carried()
    )


def _is_natural(carried: Carried, around: tuple[Trips, ...]) -> bool:
    places = (*carried.reads, *carried.writes)
    return all(never_below_zero(entry, around) for one in places for entry in one.index)
