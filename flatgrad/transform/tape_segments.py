"""Long tapes of cheap steps are kept for some steps at a time, which stay in the cache.

    for t in range(n):                 for k in range(segments):
        u_tape[t] = u                      u_starts[k] = u
        u = step(u)                        for t in range(count):
    for t in range(n - 1, -1, -1):             u_tape[t] = u
        use(u_tape[t])          ->             u = step(u)
                                       for k in range(segments - 1, -1, -1):
                                           if k < segments - 1:
                                               u = u_starts[k]     # the steps once more
                                               ...
                                           for t in range(count - 1, -1, -1):
                                               use(u_tape[t])

A step that only adds, multiplies and divides takes less time than its row of the tape takes to
memory and back. How many steps a segment has is found out while running: where the whole tape is
small, or its rows are large, there is one segment, and no step is done twice.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.copies import twin
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Function,
    If,
    Op,
    Operand,
    Value,
    substitute,
)
from flatgrad.ir.types import Scalar, Type
from flatgrad.primitives.core import TRIPS
from flatgrad.primitives.index import SET_ITEM
from flatgrad.primitives.segments import segment_size
from flatgrad.primitives.symbolic import Symbol, apply_function, operand_of, symbol_of
from flatgrad.primitives.typerules import fresh_size
from flatgrad.transform.clone import copied_block, rewired_block, with_blocks
from flatgrad.transform.dce import reads, swept
from flatgrad.transform.tape_pairs import Pair, Tape, is_row_of, pairs_of, row_slot


def segment_tapes(fn: Function) -> Function:
    """The function with the tapes of such loops kept by segments."""
    pairs = pairs_of(fn)
    if not pairs:
        return fn
    builder = Builder(Block(fn.params), fn.lengths)
    instead: dict[Op, list[Op]] = {}
    for pair in pairs:
        instead |= _Segments(pair, builder).loops()
    ops = [one for op in fn.body.ops for one in instead.get(op, [op])]
    return replace(fn, body=swept(Block(fn.body.params, ops, fn.body.yields)))


class _Segments:
    """Makes the loops over segments of one pair."""

    def __init__(self, pair: Pair, builder: Builder) -> None:
        self.pair = pair
        self.builder = builder
        self.size: Any = None
        self.segments: Any = None

    def loops(self) -> dict[Op, list[Op]]:
        """What stands in the place of both loops."""
        forward, back = self.pair.forward, self.pair.back
        with self.builder.at(replace(forward.origin, span=None)):
            with self.builder.inside(Block()) as before:
                self.measure()
                tapes = [self.tape(tape) for tape in self.pair.tapes]
                starts = [self.start(place) for place in self.pair.states]
            segmented = self.forwards(tapes, starts)
        with self.builder.at(replace(back.origin, span=None)):
            with self.builder.inside(Block()) as between:
                last = operand_of(self.segments - 1)
            again = self.backwards(last, segmented.results)
        return {forward: [*before.ops, segmented], back: [*between.ops, again]}

    def make(self, function: Any, *args: Any) -> Any:
        return apply_function(function, args, {}, self.builder)

    def symbol(self, operand: Operand) -> Any:
        return symbol_of(operand, self.builder)

    # Before the loops.

    def measure(self) -> None:
        """How many steps a segment has, and how many segments there are."""
        forward = self.pair.forward
        row: Any = reduce(operator.add, [_bytes(self.row(tape)) for tape in self.pair.tapes])
        states = [_bytes(self.lengths(forward.inits[place])) for place in self.pair.states]
        state: Any = reduce(operator.add, states) if states else 0
        if isinstance(row, Symbol):
            row.value.name = "row_bytes"
        steps = self.symbol(forward.stop)
        self.size = _named(self.make(segment_size, steps, row, state), "size")
        self.segments = _named(self.make(TRIPS, 0, steps, self.size), "segments")

    def row(self, tape: Tape) -> list[Any]:
        """The lengths of a row."""
        shape = substitute(tape.made.arguments["shape"], tape.made.operands.__getitem__)
        lengths = shape[1:] if isinstance(shape, tuple) else ()
        return [one if isinstance(one, int) else self.symbol(one) for one in lengths]

    def lengths(self, operand: Operand) -> list[Any]:
        return list(self.symbol(operand).shape) if operand.type.ndim else []

    def tape(self, tape: Tape) -> Value:
        """The tape of one segment."""
        return self.empty((self.size, *self.row(tape)), tape.made.result.name)

    def start(self, place: int) -> Value:
        """Room for the states at the start of all segments."""
        name = self.pair.forward.body.params[1 + place].name or "state"
        lengths = self.lengths(self.pair.forward.inits[place])
        return self.empty((self.segments, *lengths), f"{name}_starts")

    def empty(self, shape: tuple[Any, ...], name: str | None) -> Value:
        made: Value = self.make(np.empty, shape if len(shape) > 1 else shape[0]).value
        made.name, made.kept = name, True
        return made

    # The loops.

    def bounds(self, k: Value) -> tuple[Any, Any]:
        """The first step of a segment, and how many there are."""
        first = _named(Symbol(k, self.builder) * self.size, "first")
        rest = self.symbol(self.pair.forward.stop) - first
        return first, _named(self.make(np.minimum, self.size, rest), "count")

    def forwards(self, tapes: list[Value], starts: list[Value]) -> For:
        """The loop over segments, which keeps the state at the start of each."""
        loop, states = self.pair.forward, self.pair.states
        inits = list(loop.inits)
        for tape, made in zip(self.pair.tapes, tapes, strict=True):
            inits[tape.place] = made
        params, inner, results = (
            self.twins(old, inits) for old in (loop.body.params[1:], loop.results, loop.results)
        )
        for place in states:
            results[place] = loop.results[place]
        k = _index("k")
        held = [twin(start) for start in starts]
        with self.builder.inside(Block()) as body:
            place_of = Symbol(k, self.builder)
            kept = []
            for place, start in zip(states, held, strict=True):
                given = Symbol(start, self.builder), Symbol(params[place], self.builder)
                version = self.make(SET_ITEM, *given, place_of).value
                version.name, version.kept = start.name, True
                kept.append(version)
            first, count = self.bounds(k)
            is_last = _named(self.make(operator.eq, place_of, self.segments - 1), "is_last")
            body.ops.append(self.steps(tuple(params), tuple(inner), first, count, is_last))
        body.params, body.yields = (k, *params, *held), (*inner, *kept)
        return replace(
            loop, stop=operand_of(self.segments), inits=(*inits, *starts), body=body,
            results=(*results, *[twin(start) for start in starts]),
        )  # fmt: skip

    def twins(self, values: tuple[Value, ...], inits: list[Operand]) -> list[Value]:
        """New values for what the loop carries, the tapes of the length of `inits`."""
        made = [twin(value) for value in values]
        for tape in self.pair.tapes:
            made[tape.place].type = inits[tape.place].type
        return made

    def steps(
        self,
        inits: tuple[Operand, ...],
        results: tuple[Value, ...],
        first: Any,
        count: Any,
        is_last: Any = None,
    ) -> For:
        """The loop over the steps of a segment, which fills its tapes.

        In the forward sweep only the last segment's are read: the others fill the first row.
        """
        loop = self.pair.forward
        versions = {
            value: inits[tape.place].type for tape in self.pair.tapes for value in tape.versions
        }
        body = self.counted(loop.body, {*versions}, first, is_last)

        def new(value: Value) -> Value:
            return _retyped(value, versions.get(value, value.type))

        return replace(
            loop, stop=operand_of(count), inits=inits, body=copied_block(body, {}, new),
            results=results,
        )  # fmt: skip

    def counted(
        self, body: Block, tapes: set[Value], first: Any, is_last: Any = None
    ) -> Block:
        """A body that counts from the first step of the segment: rows are of the segment's tape."""
        t = body.params[0]
        index = _index(t.name)
        index.kept = t.kept
        before = Block()
        row = index
        if is_last is not None:
            row = _index("row")
            yields = Block((), [], (index,)), Block((), [], (Const(0),))
            before.ops.append(If(is_last.value, *yields, (row,), self.builder.origin))

        def moved(block: Block) -> Block:
            ops = []
            for op in block.ops:
                if isinstance(op, Apply) and is_row_of(op, tapes):
                    slot = row_slot(op)
                    op = replace(op, operands=tuple(
                        [row if j == slot else one for j, one in enumerate(op.operands)]
                    ))  # fmt: skip
                ops.append(with_blocks(op, moved))
            return Block(block.params, ops, block.yields)

        made = moved(Block((index, *body.params[1:]), body.ops, body.yields))
        if t in reads(made):
            with self.builder.inside(before):
                step = (first + Symbol(index, self.builder)).value
                step.name, step.kept, step.type = t.name, t.kept, t.type
            made = rewired_block(made, {t: step})
        return Block(made.params, [*before.ops, *made.ops], made.yields)

    def backwards(self, last: Operand, kept: tuple[Value, ...]) -> For:
        """The loop back over the segments."""
        loop, pair = self.pair.back, self.pair
        tapes = [kept[tape.place] for tape in pair.tapes]
        starts = list(kept[len(pair.forward.results) :])
        k = _index("k")
        params = [twin(param) for param in loop.body.params[1:]]
        results = [twin(result) for result in loop.results]
        held = [twin(tape) for tape in tapes]
        filled = [twin(tape) for tape in tapes]
        with self.builder.inside(Block()) as body:
            first, count = self.bounds(k)
            earlier = self.make(operator.lt, Symbol(k, self.builder), self.symbol(last)).value
            then = self.again(k, starts, held, first, count)
            otherwise = Block((), [], tuple(held))
            body.ops.append(If(earlier, then, otherwise, tuple(filled), self.builder.origin))
            old = [pair.forward.results[tape.place] for tape in pair.tapes]
            inner = self.counted(loop.body, {*old}, first)
            renamed: dict[Value, Operand] = dict(zip(old, filled, strict=True))
            stop = operand_of(count - 1)
            body.ops.append(
                replace(
                    loop, start=stop, inits=tuple(params), results=tuple(results),
                    body=copied_block(inner, renamed, twin),
                )
            )  # fmt: skip
        body.params, body.yields = (k, *params, *held), (*results, *filled)
        return replace(
            loop, start=last, inits=(*loop.inits, *tapes), body=body,
            results=(*loop.results, *[twin(tape) for tape in tapes]),
        )  # fmt: skip

    def again(
        self, k: Value, starts: list[Value], tapes: list[Value], first: Any, count: Any
    ) -> Block:
        """The steps of a segment once more, from the state that was kept, for the tapes alone."""
        loop, pair = self.pair.forward, self.pair
        inits: list[Operand] = list(loop.inits)
        for tape, held in zip(pair.tapes, tapes, strict=True):
            inits[tape.place] = held
        results = self.twins(loop.results, inits)
        with self.builder.inside(Block()) as block:
            for place, start in zip(pair.states, starts, strict=True):
                made = (Symbol(start, self.builder)[Symbol(k, self.builder)]).value
                old = loop.body.params[1 + place]
                made.name, made.kept = old.name, old.kept
                inits[place] = made
            block.ops.append(self.steps(tuple(inits), tuple(results), first, count))
        return Block((), block.ops, tuple([results[tape.place] for tape in pair.tapes]))


def _bytes(lengths: list[Any]) -> Any:
    """How many bytes an array of floats takes."""
    return reduce(operator.mul, lengths, 8)


def _index(name: str | None) -> Value:
    return Value(Scalar("int64", weak=True, size=fresh_size()), name, kept=True)


def _retyped(value: Value, kind: Type) -> Value:
    made = twin(value)
    made.type = kind
    return made


def _named(symbol: Any, name: str) -> Any:
    """Give a value a name of its own."""
    if isinstance(symbol, Symbol):
        symbol.value.name, symbol.value.kept = name, True
    return symbol
