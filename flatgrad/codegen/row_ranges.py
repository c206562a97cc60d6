"""Loops over rows in ranges that can run at the same time.

    for i in range(n):                      def value_rows(first, last, x, grad_x):
        grad_x[i] = 2 * x[i]         ->         value = 0.0
        value = plus(value, x[i])               for i in range(first, last):
                                                    grad_x[i] = 2 * x[i]
                                                    value = plus(value, x[i])
                                                return value

What the trips of a loop nest share tells whether that can be done: rows of each trip's own are
written where they are, sums are taken for each range apart, and what one trip keeps for itself is
made for each range. Where there is anything else (a maximum), the loop stays as it is.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace

import numpy as np

from flatgrad.codegen.buffers import Buffers
from flatgrad.errors import error
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
    blocks_of,
    operands_of,
)
from flatgrad.ir.types import Scalar
from flatgrad.primitives.callee import Callee, function_of
from flatgrad.primitives.core import PLUS
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.primitives.symbolic import DIM

FILLED, NUMBER, ADDED, OWN = "filled", "number", "added", "own"
"""Kinds of what a loop carries: an array, a row of each trip's own; a number that grows; an array
to which the trips add; an array that each trip fills for itself."""


CREATED = (np.empty, np.zeros, np.full)


@dataclass(frozen=True, slots=True)
class RowRanges:
    """A loop whose trips can be made in ranges.

    `rows` makes those from its first parameter to its second; its other arguments are `given`, then
    the arrays that it fills. `kinds` are those of the carried variables. `lengths`
    are the numbers of trips of the loop and of those inside it.
    """

    rows: Callee
    given: tuple[Value, ...]
    kinds: tuple[str, ...]
    lengths: tuple[Operand, ...]


def row_ranges(fn: Function) -> dict[For, RowRanges]:
    """The outermost loops of a nest that can be made in ranges."""
    found = {}
    for op in fn.body.ops:
        if isinstance(op, For):
            made = _ranges(fn, op)
            if made is not None:
                found[op] = made
    return found


def _ranges(fn: Function, loop: For) -> RowRanges | None:
    upwards = (loop.start, loop.step)
    if loop.exits or not all(isinstance(o, Const) for o in upwards):
        return None
    if [o.value for o in upwards if isinstance(o, Const)] != [0, 1]:
        return None
    makers = {value: op for op in fn.body.ops for value in op.results}
    later = _read_beside(fn, loop)
    kinds = []
    for init, param, item, result in zip(
        loop.inits, loop.body.params[1:], loop.body.yields, loop.results, strict=True
    ):
        versions = _Versions(loop, param)
        maker = makers.get(init) if isinstance(init, Value) else None
        kind = versions.kind(init, maker, item, read=result in later, given=init in fn.places)
        if kind is None or init in later:
            return None
        kinds.append(kind)
    rows, given = _rows(fn, loop, kinds, makers)
    return RowRanges(rows, given, tuple(kinds), _lengths(loop))


def _read_beside(fn: Function, loop: For) -> set[Operand]:
    """What is returned, or read but as what the loop starts from."""
    found: set[Operand] = {*fn.body.yields, *_free((loop.body,))}
    for op in fn.body.ops:
        if op is not loop:
            found |= {*operands_of(op), *_free(blocks_of(op))}
    return found


class _Versions:
    """What happens to one carried variable in the body of a loop."""

    def __init__(self, loop: For, param: Value) -> None:
        self.index = loop.body.params[0]
        self.known: set[Operand] = {param}
        self.writes: list[Apply] = []
        self.reads: list[Apply] = []
        self.plain = self.follow(loop.body)

    def follow(self, block: Block) -> bool:
        """Whether all that happens is understood."""
        return all(self.operation(op) for op in block.ops)

    def operation(self, op: Op) -> bool:
        used = [operand for operand in operands_of(op) if operand in self.known]
        if isinstance(op, For):
            return self.inner(op, len(used))
        if not isinstance(op, Apply):
            return not used and not (_free(blocks_of(op)).keys() & self.known)
        if not used or op.primitive.function is DIM:
            return True
        base = op.operands[_base(op)]
        if len(used) != 1 or base not in self.known:
            return False
        if op.primitive.function is operator.getitem:
            self.reads.append(op)
            return not op.result.type.ndim
        if op.primitive.function not in (SET_ITEM, ADD_ITEM, PLUS):
            return False
        self.writes.append(op)
        self.known.add(op.result)
        return True

    def inner(self, op: For, count: int) -> bool:
        """A loop inside, which carries the variable on."""
        places = [k for k, init in enumerate(op.inits) if init in self.known]
        if len(places) != count or op.exits or len(places) > 1:
            return False
        for k in places:
            self.known.add(op.body.params[k + 1])
        if not self.follow(op.body):
            return False
        handed = [k for k, item in enumerate(op.body.yields) if item in self.known]
        if handed != places:
            return False
        self.known |= {op.results[k] for k in places}
        return True

    def kind(
        self, init: Operand, maker: Op | None, item: Operand, *, read: bool, given: bool
    ) -> str | None:
        """What the variable is to the trips; None if they depend on each other by it.

        `given`: a place that the nest is handed to fill.
        """
        if not self.plain or item not in self.known:
            return None
        functions = {op.primitive.function for op in self.writes}
        if not item.type.ndim:
            starts = isinstance(init, Const) and init.value == 0
            return NUMBER if starts and functions <= {PLUS} else None
        created = isinstance(maker, Apply) and maker.primitive.function in CREATED
        if not created and not given:
            return None
        if all(self.is_of_trip(op) for op in (*self.writes, *self.reads)):
            return FILLED
        if given or not isinstance(maker, Apply):
            return None
        made = maker.primitive.function
        if made is np.zeros and functions == {ADD_ITEM} and not self.reads:
            return ADDED
        return OWN if made is np.empty and functions == {SET_ITEM} and not read else None

    def is_of_trip(self, op: Apply) -> bool:
        """Whether an element is of a row that no other trip looks at."""
        index = op.arguments["index"]
        first = index[0] if isinstance(index, tuple) else index
        return isinstance(first, Slot) and op.operands[first.index] is self.index


def _base(op: Apply) -> int:
    """The position of the array or the number of which the operation makes the next version."""
    if op.primitive.function is PLUS:
        return 0
    slot = op.arguments.get(op.primitive.in_place or "x")
    return slot.index if isinstance(slot, Slot) else 0


def _rows(
    fn: Function, loop: For, kinds: list[str], makers: dict[Value, Op]
) -> tuple[Callee, tuple[Value, ...]]:
    """The function for a range of rows, and what it is given besides the range."""
    first, last = [Value(Scalar("int64", weak=True), name) for name in ("first", "last")]
    filled = [one for one, kind in zip(loop.inits, kinds, strict=True) if kind == FILLED]
    wanted = [one for one, kind in zip(loop.inits, kinds, strict=True) if kind in (ADDED, OWN)]
    needed = _Needed(makers)
    for value in (*_free((loop.body,)), *wanted):
        needed.value(value, inside=value in wanted)
    places = tuple([value for value in filled if isinstance(value, Value)])
    given = (*[value for value in fn.params if value in needed.params],
             *[result for op in fn.body.ops for result in op.results
               if result in needed.params and result not in places])
    part = replace(loop, start=first, stop=last)
    ops = [op for op in fn.body.ops if op in needed.ops]
    sums = [r for r, kind in zip(loop.results, kinds, strict=True) if kind in (NUMBER, ADDED)]
    tree = Slot(0) if len(sums) == 1 else tuple([Slot(k) for k in range(len(sums))])
    body = Block((first, last, *given, *places), [*ops, part], tuple(sums))
    name = f"{fn.name.removesuffix('_loop')}_rows"
    return function_of(Function(name, body, tree, places=places), nest=True), given


class _Needed:
    """What a range computes for itself: lengths and numbers; `params` are all other values."""

    def __init__(self, makers: dict[Value, Op]) -> None:
        self.makers = makers
        self.ops: set[Op] = set()
        self.params: set[Value] = set()

    def value(self, value: Operand, *, inside: bool = False) -> None:
        """Note what must be there for `value`; `inside`: an array of the range's own."""
        if not isinstance(value, Value):
            return
        op = self.makers.get(value)
        if not isinstance(op, Apply) or (value.type.ndim and not inside):
            self.params.add(value)
        elif op not in self.ops:
            self.ops.add(op)
            for operand in op.operands:
                self.value(operand)


def _lengths(loop: For) -> tuple[Operand, ...]:
    """The numbers of trips: of the loop, of the first loop in it, and so on."""
    found = [loop.stop]
    inner = next((op for op in loop.body.ops if isinstance(op, For)), None)
    while inner is not None:
        found.append(inner.stop)
        inner = next((op for op in inner.body.ops if isinstance(op, For)), None)
    return tuple(found)


def _free(blocks: tuple[Block, ...]) -> dict[Value, None]:
    """What blocks read from outside, in order."""
    found: dict[Value, None] = {}
    for block in blocks:
        own = {*block.params}
        for op in block.ops:
            read = [*operands_of(op), *_free(blocks_of(op))]
            found |= dict.fromkeys([o for o in read if isinstance(o, Value) and o not in own])
            own |= {*op.results}
        left = [o for o in block.yields if isinstance(o, Value) and o not in own]
        found |= dict.fromkeys(left)
    return found


def require_in_place(block: Block, buffers: Buffers) -> None:
    """Make sure that a range of rows is written where it belongs, not into a copy.

    Raises
    ------
    FlatgradError
        If it would not be.
    """
    for op in block.ops:
        writes = isinstance(op, Apply) and op.primitive.in_place is not None
        if buffers.copied or (writes and op not in buffers.in_place):
            raise error("internal", "a range of rows would fill a copy")
        for inner in blocks_of(op):
            require_in_place(inner, buffers)
