"""How many lines of the cache the trips of a loop touch, if it is the innermost one.

    for i in range(n):          A[i, j]   i: 1, a line for each trip       j: 1 / 8
        for j in range(m):      x[j]      i: 0, always the same            j: 1 / 8
            s += A[i, j] * x[j]

Arrays count as if they were in C order, transposed ones as what they are transposes of.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator, Mapping

import numpy as np

from flatgrad.analysis.affine import Integers
from flatgrad.analysis.independent import WRITES, Index, element_index
from flatgrad.ir.dims import Size
from flatgrad.ir.ops import Apply, Block, Operand, Value, blocks_of

LINE = 64
"""Bytes of a line."""

Element = tuple[Operand, Index]


def lines_per_trip(block: Block, index: Value, integers: Integers) -> float:
    """The lines that one trip of the loop with this index touches, as far as indices tell."""
    elements = dict.fromkeys(_elements(block, integers, {}))
    return sum(_lines(base, place, index) for base, place in elements)


def _elements(
    block: Block, integers: Integers, first: dict[Operand, Operand]
) -> Iterator[Element]:
    """What is read or written; `first` tells of which array a version is."""
    for op in block.ops:
        for inner in blocks_of(op):
            yield from _elements(inner, integers, first)
        if not isinstance(op, Apply) or not op.operands or not op.operands[0].type.ndim:
            continue
        function, base = op.primitive.function, op.operands[0]
        if function not in WRITES and function is not operator.getitem:
            continue
        base = first.get(base, base)
        if function in WRITES:
            first[op.result] = base
        place = element_index(op, integers)
        if place is not None:
            yield _in_memory(base, place, integers.made)


def _in_memory(base: Operand, place: Index, made: Mapping[Value, Apply]) -> Element:
    """The array that holds the element, and where in it."""
    op = made.get(base) if isinstance(base, Value) else None
    if op is not None and op.primitive.function is np.transpose and len(op.operands) == 1:
        axes = op.arguments.get("axes")
        if axes is None:
            return _in_memory(op.operands[0], place[::-1], made)
    return base, place


def _lines(base: Operand, place: Index, index: Value) -> float:
    step: float = 0
    below: Size = np.dtype(base.type.dtype).itemsize
    for length, entry in zip(reversed(base.type.shape), reversed(place), strict=True):
        factor = entry.factor(index)
        if factor:
            step += LINE if not isinstance(below, int) else abs(factor) * below
        below = below * length
    return min(1.0, step / LINE)
