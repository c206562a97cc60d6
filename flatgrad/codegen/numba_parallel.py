"""A loop in ranges of its rows, several of which run at the same time.

    for i in range(n):                parts = parts_of(n, n)
        value += x[i]          ->     value_parts = np.empty(parts)
                                      if parts == 1:
                                          value_parts[0] = value_rows(np.uint64(0), ...)
                                      else:
                                          for part in numba.prange(parts):
                                              first = row_at(part, parts, n)
                                              last = row_at(part + 1, parts, n)
                                              value_parts[part] = value_rows(first, last, x)
                                      for part_1 in range(parts):
                                          value += value_parts[part_1]

The ranges depend on the lengths alone and their sums are added up in their order, so the result is
the same for any number of threads. Each range has its own place for its sums: nothing is written by
two of them.
"""

from __future__ import annotations

import ast
from collections.abc import Callable

from flatgrad.codegen.format import expression_text
from flatgrad.codegen.numba_helpers.text import Helper
from flatgrad.codegen.row_ranges import ADDED, FILLED, NUMBER, RowRanges
from flatgrad.ir.ops import For, Operand

LEAST_ELEMENTS = 16384
"""Elements of a range: a smaller loop is one range, and starts no thread."""
MOST_PARTS = 64
LEAST_ROWS = 16
"""Rows of a range that has an array of sums, which costs about as much as a row."""

PARALLEL_DECORATOR = '''\
@numba.njit(
    cache=True, error_model="numpy",
    parallel={
        "prange": True, "reduction": False, "numpy": False, "setitem": False, "fusion": False,
        "inplace_binop": False, "comprehension": False, "stencil": False,
    },
)'''
"""The loops written as `prange` alone, not what Numba itself would make parallel."""

ROW_AT = Helper(
    "row_at",
    '''def row_at(part, parts, rows):
    """where a part of the rows begins; unsigned, as no row counts from the end"""
    return np.uint64(np.int64(part) * rows // parts)
''',
)

PARTS, PARTS_WITH_SUMS = "parts_of", "parts_with_sums"
NAMES = frozenset({ROW_AT.name, PARTS, PARTS_WITH_SUMS})
"""What no variable is called."""


def parts_of(ranges: RowRanges) -> Helper:
    """The helper that says in how many parts a loop is made."""
    summed = ADDED in ranges.kinds
    name = PARTS_WITH_SUMS if summed else PARTS
    most = f"rows // {LEAST_ROWS}" if summed else "rows"
    return Helper(
        name,
        f'''def {name}(rows, elements):
    """in how many parts a loop over rows with so many elements is made"""
    return max(1, min({MOST_PARTS}, {most}, elements // {LEAST_ELEMENTS}))
''',
    )


def ranges_text(
    loop: For,
    ranges: RowRanges,
    rows: str,
    operand: Callable[[Operand], ast.expr],
    fresh: Callable[[str], str],
) -> list[str]:
    """The lines in the place of a loop whose variables have their first values.

    `rows` is the function for a range of it; `fresh` makes names that nothing else has.
    """
    parts, part = fresh("parts"), fresh("part")
    lengths = [expression_text(operand(length)) for length in ranges.lengths]
    given = [expression_text(operand(value)) for value in ranges.given]
    lines = [f"{parts} = {parts_of(ranges).name}({lengths[0]}, {' * '.join(lengths)})"]
    sums: list[tuple[str, str]] = []
    for param, kind in zip(loop.body.params[1:], ranges.kinds, strict=True):
        if kind == FILLED:
            given.append(expression_text(operand(param)))
        elif kind in (NUMBER, ADDED):
            total = expression_text(operand(param))
            kept = fresh(f"{total}_parts")
            shape = parts if kind == NUMBER else f"({parts},) + {total}.shape"
            dtype = "" if param.type.dtype == "float64" else f", np.{param.type.dtype}"
            lines.append(f"{kept} = np.empty({shape}{dtype})")
            sums.append((total, kept))

    def call(part: str, first: str, last: str) -> str:
        target = ", ".join([f"{kept}[{part}]" for _, kept in sums])
        target = f"{target} = " if sums else ""
        return f"{target}{rows}({', '.join([first, last, *given])})"

    first, last = fresh("first"), fresh("last")
    lines += [
        f"if {parts} == 1:",
        f"    {call('0', 'np.uint64(0)', f'np.uint64({lengths[0]})')}",
        "else:",
        f"    for {part} in numba.prange({parts}):",
        f"        {first} = {ROW_AT.name}({part}, {parts}, {lengths[0]})",
        f"        {last} = {ROW_AT.name}({part} + 1, {parts}, {lengths[0]})",
        f"        {call(part, first, last)}",
    ]
    if sums:
        again = fresh("part")
        lines.append(f"for {again} in range({parts}):")
        lines += [f"    {total} += {kept}[{again}]" for total, kept in sums]
    return lines
