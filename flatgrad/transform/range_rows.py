"""The function for a range of the trips of a loop.

    for i in range(1, n):               def total_rows(trips, u, w):
        total += w[0] * u[i]     ->         total = 0.0
                                            for i in range(trips):
                                                total += w[0] * u[i]
                                            return total

It is given arrays from the first row on that its trips look at, `u[first:]`, and counts from 0:
other arrays, such as `w`, are given whole. Where the index is more than a place in arrays, it is
given the first one, too: `i = first + k`.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flatgrad.analysis.affine import Affine
from flatgrad.analysis.ranges import Trips
from flatgrad.analysis.shared import ADDED, FILLED, NUMBER, WRITES, Shared, row_of
from flatgrad.ir.builder import Builder
from flatgrad.ir.copies import twin
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Function,
    Op,
    Operand,
    Slot,
    Value,
    all_reads,
    blocks_of,
    operands_of,
    substitute,
)
from flatgrad.ir.types import Scalar
from flatgrad.primitives import ranges
from flatgrad.primitives.callee import function_of
from flatgrad.primitives.ranges import Argument, LoopRanges
from flatgrad.primitives.symbolic import symbol_of
from flatgrad.transform.building import call_into, plus
from flatgrad.transform.clone import defined_in, with_blocks
from flatgrad.transform.dce import swept

INT = Scalar("int64", weak=True)


@dataclass(slots=True)
class Access:
    """An element that is read or written; `around`: the loops it stands in."""

    op: Apply
    base: Value
    index: tuple[Affine, ...]
    around: tuple[Trips, ...]


@dataclass(slots=True)
class RangeRows:
    """Makes it for a loop that carries what was `found`.

    `accesses` are all elements that are read and written, `offsets` say for arrays how far before
    their own row the trips look, `root` is the array of which another is a version.
    """

    loop: For
    found: list[Shared]
    name: str
    fits: Value | None
    accesses: list[Access]
    offsets: dict[Value, int]
    root: Callable[[Value], Value]
    views: dict[Value, Value] = field(default_factory=dict)
    counts: bool = False

    def ranges(self) -> LoopRanges:
        """It, and how it is called."""
        loop, index = self.loop, self.loop.body.params[0]
        first, trips, place = (Value(INT, one) for one in ("first", "trips", index.name))
        ops: list[Op] = []
        builder = Builder(Block((), ops))
        builder.origin = loop.origin
        inner = swept(self.rewritten(loop.body, place, builder))
        self.counts = index in {*all_reads(inner)}
        if self.counts:
            place.name = "k"
            head: list[Op] = []
            with builder.inside(Block((), head)):
                both = (symbol_of(first, builder), symbol_of(place, builder))
                call_into(index, operator.add, both, builder)
            inner = Block(inner.params, [*head, *inner.ops], inner.yields)
        inits, places, likes = self.inits(ops, builder)
        body = swept(Block((place, *inner.params[1:]), inner.ops, inner.yields))
        part = replace(loop, start=Const(0), stop=trips, inits=tuple(inits), body=body)
        given = self.given(part, {first, trips, *places, *inits})
        sums = [k for k, one in enumerate(self.found) if one.kind != FILLED]
        results = tuple([loop.results[k] for k in sums])
        tree: Any = tuple([Slot(k) for k in range(len(results))])
        heads = [first, trips] if self.counts else [trips]
        values = [*heads, *[value for value, _ in given], *likes, *places]
        block = Block(tuple(values), [*ops, part], results)
        tree = Slot(0) if len(results) == 1 else tree or None
        rows = function_of(Function(f"{self.name}_rows", block, tree, places=tuple(places)))
        arguments = [Argument(ranges.FIRST), Argument(ranges.TRIPS)][-len(heads):]
        arguments += [argument for _, argument in given]
        for kind, argument in ((ADDED, ranges.LIKE), (FILLED, ranges.FILLED)):
            for one in self.found:
                if one.kind == kind:
                    arguments.append(Argument(argument, one.param, one.offset))
        return LoopRanges(
            loop, rows, tuple(arguments), tuple(sums), _inner_trips(loop), self.fits
        )

    def inits(
        self, ops: list[Op], builder: Builder
    ) -> tuple[list[Operand], list[Value], list[Value]]:
        """What the carried variables start from; arrays to fill, and those like sums."""
        inits: list[Operand] = []
        places: list[Value] = []
        likes: list[Value] = []
        for one, init in zip(self.found, self.loop.inits, strict=True):
            if one.kind == NUMBER:
                inits.append(init)
                continue
            name = one.param.name or "row"
            given = Value(init.type, name if one.kind == FILLED else f"{name}_total")
            if one.kind == FILLED:
                places.append(given)
                inits.append(given)
                continue
            likes.append(given)
            zeros = Value(init.type, name)
            with builder.inside(Block((), ops)):
                call_into(zeros, np.zeros_like, (symbol_of(given, builder),), builder)
            inits.append(zeros)
        return inits, places, likes

    def rewritten(self, block: Block, place: Value, builder: Builder) -> Block:
        """The block with rows counted from where the arrays that it is given begin."""
        ops: list[Op] = []
        for op in block.ops:
            if not isinstance(op, Apply):
                ops.append(with_blocks(op, lambda one: self.rewritten(one, place, builder)))
                continue
            access = next((one for one in self.accesses if one.op is op), None)
            offset = None
            if access is not None and access.index[0].factor(self.loop.body.params[0]):
                offset = row_of(access.index[0], self.loop.body.params[0])
            if access is None or offset is None:
                ops.append(op)
                continue
            with builder.inside(Block((), ops)):
                builder.origin = op.origin
                self.moved(access, offset, place, builder)
        return Block(block.params, ops, block.yields)

    def moved(self, access: Access, offset: int, place: Value, builder: Builder) -> None:
        """The access with another first index."""
        op, base = access.op, access.base
        index = substitute(op.arguments["index"], lambda k: symbol_of(op.operands[k], builder))
        entries = index if isinstance(index, tuple) else (index,)
        root = self.root(base)
        row = plus(symbol_of(place, builder), offset - self.offsets[root], builder)
        new: Any = (row, *entries[1:]) if isinstance(index, tuple) else row
        if root not in self.loop.body.params:
            base = self.views.setdefault(root, twin(root))
        args = [symbol_of(base, builder), new]
        if op.primitive.function in WRITES:
            value = op.operands[op.arguments["value"].index]
            args.insert(1, symbol_of(value, builder))
        call_into(op.result, op.primitive.function, args, builder)

    def given(self, part: For, own: set[Operand]) -> list[tuple[Value, Argument]]:
        """The other parameters, views of rows among them."""
        views = {view: base for base, view in self.views.items()}
        inside = inside_of(part)
        found: dict[Value, Argument] = {}
        for value in [*all_reads(part.body), *operands_of(part)]:
            if not isinstance(value, Value) or value in inside or value in own:
                continue
            if value in views:
                base = views[value]
                found[value] = Argument(ranges.VIEW, base, self.offsets[base])
            else:
                found.setdefault(value, Argument(ranges.VALUE, value))
        return list(found.items())


def inside_of(op: Op) -> set[Value]:
    """The values that are defined in the blocks of an operation."""
    found: set[Value] = set()
    for block in blocks_of(op):
        found |= {*defined_in(block)}
        for inner in block.ops:
            found |= inside_of(inner)
    return found


def _inner_trips(loop: For) -> tuple[Operand, ...]:
    """The numbers of trips of the first loop inside, and of the first in that, as far as known."""
    inside = inside_of(loop)
    found: list[Operand] = []
    block = loop.body
    while (inner := next((op for op in block.ops if isinstance(op, For)), None)) is not None:
        known = isinstance(inner.start, Const) and inner.start.value == 0
        if known and inner.stop not in inside and _is_one(inner.step):
            found.append(inner.stop)
        block = inner.body
    return tuple(found)


def _is_one(step: Operand) -> bool:
    return isinstance(step, Const) and step.value == 1
