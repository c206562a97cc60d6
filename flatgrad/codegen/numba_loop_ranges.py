"""A loop of the function itself in ranges of its trips, several of which run at the same time.

    for i in range(1, n - 1):          trips = n - 1 - 1
        total += u[i] * u[i - 1]       parts = parts_of_trips(trips, trips, 0)
                                ->     total_parts = np.empty(parts)
                                       if parts == 1:
                                           total_parts[0] = total_rows(trips, u[0:])
                                       else:
                                           for part in numba.prange(parts):
                                               first = 1 + trip_at(part, parts, trips)
                                               ...
                                               total_parts[part] = total_rows(count, u[first - 1:])
                                       for part_1 in range(parts):
                                           total += total_parts[part_1]

As in `numba_parallel.py`. Arrays of which a trip reads rows of its own are given from the first of
them on, so that the loop inside counts from 0: of any other first number Numba would ask in
each trip whether it is negative, and no loop would vectorise.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from flatgrad.codegen import numba_parallel
from flatgrad.codegen.format import expression_text
from flatgrad.codegen.numba_helpers.text import Helper
from flatgrad.ir.ops import Const, Operand
from flatgrad.primitives.ranges import (
    FILLED,
    FIRST,
    TRIPS,
    VIEW,
    Argument,
    LoopRanges,
)

TRIP_AT = Helper(
    "trip_at",
    '''def trip_at(part, parts, trips):
    """the number of the trip with which a part begins"""
    return np.int64(part) * trips // parts
''',
)
PARTS = "parts_of_trips"
NAMES = frozenset({TRIP_AT.name, PARTS})
"""What no variable is called."""

MOST_SUMMED = 4
"""So many elements a range has at least for each element of its arrays of sums."""


def parts_of_trips() -> Helper:
    """The helper that says in how many parts a loop is made."""
    return Helper(
        PARTS,
        f'''def {PARTS}(trips, elements, summed):
    """in how many parts a loop is made; `summed`: the elements of the arrays of sums of each"""
    most = min({numba_parallel.MOST_PARTS}, trips, elements // {numba_parallel.LEAST_ELEMENTS})
    return max(1, min(most, elements // ({MOST_SUMMED} * summed + 1)))
''',
    )


def loop_ranges_text(
    made: LoopRanges,
    rows: str,
    operand: Callable[[Operand], ast.expr],
    fresh: Callable[[str], str],
) -> list[str]:
    """The lines in the place of a loop whose variables have their first values.

    `rows` is the function for a range of it; `fresh` makes names that nothing else has.
    """

    def text(value: Operand) -> str:
        return expression_text(operand(value))

    loop = made.loop
    trips, parts, part = fresh("trips"), fresh("parts"), fresh("part")
    start = text(loop.start)
    from_zero = isinstance(loop.start, Const) and loop.start.value == 0
    totals = [text(loop.body.params[k + 1]) for k in made.sums]
    summed = [
        f"{name}.size" for k, name in zip(made.sums, totals, strict=True)
        if loop.body.params[k + 1].type.ndim
    ]
    elements = " * ".join([trips, *map(text, made.inner)])
    count = f"{PARTS}({trips}, {elements}, {' + '.join(summed) or 0})"
    fits = "" if made.fits is None else f" if {text(made.fits)} else 1"
    lines = [
        f"{trips} = {text(loop.stop)}{'' if from_zero else f' - {start}'}",
        f"{parts} = {count}{fits}",
    ]
    kept = []
    for k, total in zip(made.sums, totals, strict=True):
        kind = loop.body.params[k + 1].type
        shape = f"({parts},) + {total}.shape" if kind.ndim else parts
        dtype = "" if kind.dtype == "float64" else f", np.{kind.dtype}"
        kept.append(fresh(f"{total}_parts"))
        lines.append(f"{kept[-1]} = np.empty({shape}{dtype})")

    def call(part: str, first: str, count: str) -> str:
        target = ", ".join([f"{one}[{part}]" for one in kept])
        given = ", ".join([_argument(one, text, first, count) for one in made.arguments])
        return f"{target} = {rows}({given})" if kept else f"{rows}({given})"

    first, count = fresh("first"), fresh("count")
    ahead = "" if from_zero else f"{start} + "
    lines += [
        f"if {parts} == 1:",
        f"    {call('0', start, trips)}",
        "else:",
        f"    for {part} in numba.prange({parts}):",
        f"        {first} = {ahead}{TRIP_AT.name}({part}, {parts}, {trips})",
        f"        {count} = {ahead}{TRIP_AT.name}({part} + 1, {parts}, {trips}) - {first}",
        f"        {call(part, first, count)}",
    ]
    if kept:
        again = fresh("part")
        lines.append(f"for {again} in range({parts}):")
        lines += [f"    {total} += {one}[{again}]" for total, one in zip(totals, kept, strict=True)]
    return lines


def _argument(one: Argument, text: Callable[[Operand], str], first: str, count: str) -> str:
    """What the function for a range is given."""
    if one.kind == FIRST:
        return first
    if one.kind == TRIPS:
        return count
    assert one.value is not None
    if one.kind in (VIEW, FILLED):
        return f"{text(one.value)}[{_moved(first, one.offset)}:]"
    return text(one.value)


def _moved(first: str, offset: int) -> str:
    if first.isdigit():
        return str(int(first) + offset)
    return f"{first} {'+' if offset > 0 else '-'} {abs(offset)}" if offset else first
