"""Loops over strips that look at their indices beforehand, and become functions of their own.

    for start in range(0, n, 64):            for start in range(0, n, 64):
        for a in range(d):                       for a in range(d):
            for lane in range(64):       ->          if not -m.shape[0] <= a < m.shape[0]:
                ... c[a, lane] - m[a] ...                raise IndexError('index is out of bounds')
                                                     for lane in range(64):
                                                         ... c[a, lane] - m[a] ...

The function itself looks at every index where it is used, in the loops over lanes as well, and
compiled code asks whether two arrays overlap before it does several lanes at a time. Neither is
needed where each index is known to be within its axis, and each array that is written is one that
was made for the loop. Such a loop is marked `apart`: its text becomes a function that checks no
index, and to which no two arrays share memory (`codegen/apart.py`).

An index that differs from lane to lane must be the number of the trip. Everything is proved of the
program as it is after all other passes; what is not certain stays as it is.
"""

from __future__ import annotations

import operator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np

from flatgrad.analysis.dependence import LENGTHS
from flatgrad.analysis.threads import base_of, covers, scalar_entries
from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Function,
    Op,
    Operand,
    Value,
    blocks_of,
    is_const,
)
from flatgrad.primitives.core import SMALLER
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.primitives.lengths import DIM, REQUIRE_ENTRY
from flatgrad.primitives.symbolic import Symbol, apply_function, symbol_of
from flatgrad.transform.checks_before import with_checks_before
from flatgrad.transform.dce import read_by
from flatgrad.transform.strip_lanes import LANES

FRESH: frozenset[Any] = frozenset({np.empty, np.zeros, np.empty_like, np.zeros_like})
"""Functions whose result is memory that nothing else has."""
WRITES = (SET_ITEM, ADD_ITEM)


class Uncertain(Exception):
    """Something that is not proved."""


def strips_apart(fn: Function) -> Function:
    """The function with those loops over strips marked of which all is certain."""
    return fn if fn.places else replace(fn, body=_marked(fn.body, fn))


def _marked(block: Block, fn: Function) -> Block:
    """A block with its loops over strips; those in a loop of attempts are in the block of that."""
    ops: list[Op] = []
    for op in block.ops:
        if isinstance(op, For) and op.exits and block is fn.body:
            op = replace(op, body=_marked(op.body, fn))
        elif isinstance(op, For) and _is_over_strips(op) and _written_alone(op, block):
            with suppress(Uncertain):
                op = replace(op, body=_Checked(op, fn).body(), apart=True)
        ops.append(op)
    return Block(block.params, ops, block.yields)


def _is_over_strips(op: For) -> bool:
    return isinstance(op.step, Const) and op.step.value == LANES and not op.exits


# Memory.


def _written_alone(loop: For, around: Block) -> bool:
    """Whether each array that the loop writes is memory that it sees under no other name.

    It must have been made in the block around, for that.
    """
    read = _read_by_body(loop)
    seen: set[Value] = set()
    for init in loop.inits:
        if not init.type.ndim:
            continue
        names = _sharers(init, loop, around)
        if names is None or names & (read | seen):
            return False
        seen |= names
    return True


def _read_by_body(loop: For) -> set[Value]:
    """The values that the body of a loop has from outside."""
    inside = _defined(loop.body)
    read = set(loop.body.yields).union(*[read_by(op) for op in loop.body.ops])
    return {value for value in read if isinstance(value, Value)} - inside


def _defined(block: Block) -> set[Value]:
    found = set(block.params)
    for op in block.ops:
        found.update(op.results)
        for inner in blocks_of(op):
            found |= _defined(inner)
    return found


def _sharers(init: Operand, loop: For, around: Block) -> set[Value] | None:
    """All values that may share memory with an array, if it was made for this; else None."""
    makers = {value: op for op in around.ops for value in op.results}
    names: set[Value] = set()
    value = init
    while True:
        op = makers.get(value) if isinstance(value, Value) else None
        if op is None or not isinstance(value, Value) or value in names:
            return None
        names.add(value)
        if isinstance(op, For):
            value = op.inits[op.results.index(value)]
        elif not isinstance(op, Apply):
            return None
        elif op.primitive.in_place is not None:
            value = base_of(op)
        elif _is_new(op):
            break
        else:
            return None
    for op in around.ops:
        if op is not loop and names & read_by(op) and not _is_new(op):
            names |= {result for result in op.results if result.type.ndim}
    return names


def _is_new(op: Op) -> bool:
    """Whether no result of an operation is a view of an operand."""
    if not isinstance(op, Apply):
        return False
    is_nest = op.primitive.body is not None and op.primitive.nest
    return op.primitive.function in FRESH or is_nest


# Indices.


class _Checked:
    """The body of a loop with a look at each index before it is used.

    `known` are indices within an axis, with its length: what stood before in the same blocks.
    """

    def __init__(self, loop: For, fn: Function) -> None:
        self.loop = loop
        self.builder = Builder(Block(), fn.lengths)
        self.makers = _makers(Block((), [*fn.body.ops]))
        self.loops: list[For] = []

    def body(self) -> Block:
        self.loops.append(self.loop)
        return self.block(self.loop.body, set())

    def block(self, block: Block, known: set[Any]) -> Block:
        ops: list[Op] = []
        for op in block.ops:
            if isinstance(op, For):
                if op.exits:
                    raise Uncertain
                self.loops.append(op)
                lanes = self.is_over_lanes(op)
                if lanes:
                    for inner in op.body.ops:
                        self.check(inner, op, known, ops)
                    ops.append(op)
                else:
                    ops += with_checks_before(replace(op, body=self.block(op.body, set(known))))
                self.loops.pop()
                continue
            self.check(op, None, known, ops)
            ops.append(op)
        return Block(block.params, ops, block.yields)

    def is_over_lanes(self, op: For) -> bool:
        """Whether a loop runs over the lanes of a strip, of which there is at least one."""
        if not (is_const(op.start, 0) and is_const(op.step, 1)):
            return False
        if any(isinstance(inner, For) for inner in op.body.ops):
            return False
        return is_const(op.stop, LANES) or self.is_width(op.stop)

    def is_width(self, stop: Operand) -> bool:
        """`min(64, high - start)`: what is left for the strip is not empty."""
        made = self.made(stop, SMALLER)
        if made is None or not is_const(made.operands[0], LANES):
            return False
        room = self.made(made.operands[1], operator.sub)
        high, index = self.loop.stop, self.loop.body.params[0]
        if room is None:
            return isinstance(high, Const) and isinstance(self.loop.start, Const)
        return _same(room.operands[0], high) and room.operands[1] is index

    def made(self, operand: Operand, function: Any) -> Apply | None:
        """The call of a function that made a value."""
        op = self.makers.get(operand) if isinstance(operand, Value) else None
        return op if op is not None and op.primitive.function is function else None

    def check(self, op: Op, lanes: For | None, known: set[Any], before: list[Op]) -> None:
        """Look at the indices of one operation; in a loop over lanes, before that loop."""
        if not isinstance(op, Apply):
            raise Uncertain
        function = op.primitive.function
        if function in (operator.getitem, *WRITES):
            entries, base = scalar_entries(op), base_of(op)
            if entries is None or len(entries) != base.type.ndim or not isinstance(base, Value):
                raise Uncertain
            if lanes is not None:
                base = self.before_loop(base, lanes)
            for k, entry in enumerate(entries):
                self.entry(entry, base, k, lanes, known, before)
        elif function not in LENGTHS and (
            any(one.type.ndim for one in (*op.operands, *op.results)) or op.primitive.body
        ):
            raise Uncertain

    def before_loop(self, base: Operand, lanes: For) -> Value:
        """The array of which a value in a loop is a version, as it is before the loop."""
        starts: dict[Any, Operand] = dict(zip(lanes.body.params[1:], lanes.inits, strict=True))
        written = {value: op for op in lanes.body.ops for value in op.results}
        while base in starts or base in written:
            op = written.get(base)  # type: ignore[arg-type]
            if op is None:
                base = starts[base]
            elif isinstance(op, Apply) and op.primitive.in_place is not None:
                base = base_of(op)
            else:
                raise Uncertain
        assert isinstance(base, Value)
        return base

    def entry(
        self, entry: Any, base: Value, axis: int, lanes: For | None, known: set[Any],
        before: list[Op],
    ) -> None:  # fmt: skip
        """One entry of an index: proved, or looked at."""
        length = base.type.shape[axis]
        number = entry if type(entry) is int else getattr(entry, "value", None)
        if type(number) is int:
            if type(length) is int and 0 <= number < length:
                return
            entry = number
        elif (entry, length) in known or self.is_index(entry, length):
            return
        elif lanes is not None and entry in _defined(lanes.body):
            if not self.is_trip(entry, lanes):
                raise Uncertain
            if covers(replace(self.loop, step=Const(1)), length):
                return
            entry = self.loop.stop
            if ("trips", length) not in known:
                known.add(("trips", length))
                self.look(entry, base, axis, before, last=True)
            return
        if (entry, length) not in known:
            known.add((entry, length))
            self.look(entry, base, axis, before)

    def is_index(self, entry: Operand, length: Any) -> bool:
        """Whether an entry is the index of a loop around that stays within the axis."""
        for loop in self.loops:
            if loop.body.params[0] is entry:
                if covers(loop, length):
                    return True
                lanes = self.is_over_lanes(loop)
                return lanes and type(length) is int and length >= LANES
        return False

    def is_trip(self, entry: Value, lanes: For) -> bool:
        """`start + lane`, or `min(start + lane, last)`, where the first trip is at least 0."""
        start = self.loop.start
        if not (isinstance(start, Const) and start.value >= 0):
            return False
        smaller = self.made(entry, SMALLER)
        if smaller is not None:
            if not self.is_last(smaller.operands[1]):
                return False
            entry = smaller.operands[0]  # type: ignore[assignment]
        elif is_const(lanes.stop, LANES):
            return False
        added = self.made(entry, operator.add)
        indices = {self.loop.body.params[0], lanes.body.params[0]}
        return added is not None and set(added.operands) == indices

    def is_last(self, operand: Operand) -> bool:
        """Whether a number is that of the last trip."""
        high = self.loop.stop
        if isinstance(operand, Const):
            return isinstance(high, Const) and operand.value == high.value - 1
        less = self.made(operand, operator.sub)
        return less is not None and less.operands[0] is high and is_const(less.operands[1], 1)

    def look(
        self, entry: Any, base: Value, axis: int, before: list[Op], *, last: bool = False
    ) -> None:
        """`if not -n <= a < n: raise IndexError(...)`; `last`: of the number before `a`."""
        with self.builder.inside(Block((), before)):
            self.builder.origin = replace(self.loop.origin, span=None)
            index = symbol_of(entry, self.builder) if isinstance(entry, Value | Const) else entry
            length: Any = base.type.shape[axis]
            if type(length) is not int:
                length = apply_function(DIM, (Symbol(base, self.builder), axis), {}, self.builder)
            given = (index - 1 if last else index, length)
            apply_function(REQUIRE_ENTRY, given, {}, self.builder)


def _makers(block: Block) -> dict[Value, Apply]:
    found: dict[Value, Apply] = {}
    for op in block.ops:
        if isinstance(op, Apply):
            found |= dict.fromkeys(op.results, op)
        for inner in blocks_of(op):
            found |= _makers(inner)
    return found


def _same(one: Operand, other: Operand) -> bool:
    if isinstance(one, Const) and isinstance(other, Const):
        return bool(one.value == other.value)
    return one is other
