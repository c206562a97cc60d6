"""What a nest reads with a stride: copied once per strip, or a reason to leave the nest as it is.

    for i in range(n):                   for start in range(0, n, 64):
        for c in range(k):                   for a in range(d):
            for a in range(d):                   for lane in range(64):
                ... x[i, a] ...      ->              x_strip[a, lane] = x[start + lane, a]
                                             for c in range(k):
                                                 for a in range(d):
                                                     for lane in range(64): ... x_strip[a, lane] ...

A copy is made of what is read again for another `c`. Elements that are read once, in the innermost
loops, stand one behind the other in the loop `a` as it is, and apart from each other in a loop over
lanes: such a nest is left alone. So is one whose innermost loops are fast as they stand: they may
have more trips than the outer one, and a strip does the work of 64.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Any

from flatgrad.analysis.dependence import LENGTHS
from flatgrad.analysis.independent import Body, is_independent
from flatgrad.analysis.nests import Nest
from flatgrad.ir.ops import Apply, Block, For, Op, Value, blocks_of
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.transform.strip_rows import Pieces, columns, lane_axis, located

MANY = 99
"""Deeper than any nest: what writes apart from each other cost, but for those once a trip."""

Key = tuple[Value, int]
"""An array and the axis along which the lanes read it."""


@dataclass(slots=True)
class Reads:
    """`copied`: arrays to copy, by what they are; `pays`: whether strips are worth the trouble."""

    copied: dict[Key, None]
    pays: bool


def strided_reads(nest: Nest, pieces: Pieces) -> Reads:
    """What to copy for every strip, and whether any access in the innermost loops is strided."""
    walk = _Walk(nest, pieces)
    walk.block(nest.loop.body, ())
    slow = any(not _vectorises(loop, nest) for loop in walk.innermost)
    return Reads(walk.copied, walk.deepest > walk.strided and slow)


def _vectorises(loop: For, nest: Nest) -> bool:
    """Whether a loop inside is fast as it stands, several of its own trips at a time."""
    for bound in (loop.start, loop.stop):
        for value, _ in nest.integers.of(bound).terms:
            made = nest.integers.made.get(value)
            is_length = made is not None and made.primitive.function in LENGTHS
            if value in nest.inside and not is_length:
                return False
    body = Body(loop, nest.integers)
    return body.plain and is_independent(body.carried())


class _Walk:
    """One walk over a nest; `deepest` is the depth of its innermost loops over lanes."""

    def __init__(self, nest: Nest, pieces: Pieces) -> None:
        self.nest, self.pieces = nest, pieces
        self.copied: dict[Key, None] = {}
        self.deepest = 0
        self.innermost: set[For] = set()
        self.strided = 0

    def block(self, block: Block, loops: tuple[For, ...]) -> None:
        for op in block.ops:
            if isinstance(op, For):
                self.block(op.body, (*loops, op))
                continue
            if op in self.pieces.place and len(loops) >= self.deepest:
                self.innermost = self.innermost if len(loops) == self.deepest else set()
                self.innermost |= set(loops[-1:])
                self.deepest = len(loops)
            self.operation(op, loops)

    def operation(self, op: Op, loops: tuple[For, ...]) -> None:
        for inner in blocks_of(op):
            for nested in inner.ops:
                self.operation(nested, loops)
        if not isinstance(op, Apply) or (
            op not in self.pieces.place and op.results[:1] and (op.result not in self.nest.varying)
        ):
            return
        function = op.primitive.function
        if function in (SET_ITEM, ADD_ITEM):
            if self.pieces.stands_alone(op) and self.pieces.is_scattered(op):
                self.strided = MANY if loops else self.strided
        elif function is operator.getitem and not op.result.type.ndim:
            base, entries = located(op, self.nest)
            thread = self.nest.threads.get(base)
            if thread is not None and (thread.kind != "elements" or thread in self.pieces.own.kept):
                return
            if any(entry in self.nest.varying for entry in entries):
                self.read(base, entries, loops, thread is None)

    def read(
        self, base: Value, entries: tuple[Any, ...], loops: tuple[For, ...], is_given: bool
    ) -> None:
        axis = lane_axis(entries, self.nest)
        if is_given and axis is not None and self.is_reused(base, entries, loops):
            self.copied[base, axis] = None
        else:
            self.strided = max(self.strided, len(loops))

    def is_reused(self, base: Value, entries: tuple[Any, ...], loops: tuple[For, ...]) -> bool:
        """Whether all of a row is read, and by several trips of a loop inside."""
        used = columns(base, entries, loops, self.nest)
        return used is not None and len(used) < len(loops)
