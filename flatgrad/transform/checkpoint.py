"""Loops that keep few states for the backward sweep and run their trips again from these.

    for i in range(n):             for k in range(segments):       # each segment is run again, with
        u = step(u)          ->        u_tape[k] = u               # a tape, before the backward
                                       for i in range(k * size, min(k * size + size, n)):
                                           u = step(u)             # sweep goes through it

By `segmented` the loop becomes two, before the backward sweep is made; what makes the outer one
special is that the backward sweep runs its body again (`rerun`) instead of reading a tape.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from flatgrad.analysis.activity import active
from flatgrad.ir.builder import Builder
from flatgrad.ir.copies import copied_ops, twin
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Function,
    Op,
    Operand,
    Origin,
    Value,
    is_const,
)
from flatgrad.ir.types import Array, Scalar, Type
from flatgrad.primitives.core import TRIPS
from flatgrad.primitives.hooked import Place
from flatgrad.primitives.symbolic import Symbol, apply_function, operand_of, symbol_of
from flatgrad.primitives.typerules import fresh_size
from flatgrad.transform.clone import all_ops, rewired_block, with_blocks


def segmented(fn: Function, wrt: Sequence[Value], outputs: Sequence[Operand]) -> Function:
    """The function with its active checkpointed loops as the backward sweep takes them.

    A loop that keeps sqrt(n) states is cut into segments; one with snapshots counts from 0.
    """
    marked = [op for op in all_ops(fn.body) if isinstance(op, For) and op.checkpoint in _CUT]
    if not marked:
        return fn
    values = active(fn.body, wrt, outputs)
    wanted = {op for op in marked if any(result in values for result in op.results)}
    builder = Builder(Block(), fn.lengths)
    return replace(fn, body=_walk(fn.body, wanted, builder))


_CUT = ("sqrt", "revolve")


def _walk(block: Block, wanted: set[For], builder: Builder) -> Block:
    ops: list[Op] = []
    for op in block.ops:
        inner = with_blocks(op, lambda block: _walk(block, wanted, builder))
        if isinstance(inner, For) and op in wanted:
            with builder.inside(Block()) as before, builder.at(Origin(op.origin.span)):
                plain = _from_zero(inner, builder)
                last = _cut(plain, builder) if op.checkpoint == "sqrt" else plain
            ops += [*before.ops, last]
        else:
            ops.append(inner)
    return Block(block.params, ops, block.yields)


def _from_zero(op: For, builder: Builder) -> For:
    """The loop counting its trips from 0; the index is computed from that."""
    start, stop, step = (symbol_of(o, builder) for o in (op.start, op.stop, op.step))
    trips = apply_function(TRIPS, (start, stop, step), {}, builder)
    if isinstance(trips, Symbol) and trips.value in builder.made:
        named(trips, "trips")
    if is_const(op.start, 0) and is_const(op.step, 1):
        return replace(op, stop=operand_of(trips))
    index = op.body.params[0]
    count = Value(Scalar("int64", weak=True, size=fresh_size()), "trip", kept=True)
    with builder.inside(Block()) as first:
        scaled: Any = Symbol(count, builder)
        scaled = scaled if is_const(op.step, 1) else scaled * step
        found = scaled if is_const(op.start, 0) else start + scaled
        found.value.name, found.value.kept = index.name, index.kept
        found.value.type = index.type
    params = (count, *op.body.params[1:])
    body = rewired_block(op.body, {index: found.value})
    body = Block(params, [*first.ops, *body.ops], body.yields)
    stop_operand = operand_of(trips)
    return replace(op, start=Const(0), stop=stop_operand, step=Const(1), body=body)


def _cut(op: For, builder: Builder) -> For:
    """A loop over segments of about sqrt(n) trips, with the loop over the trips of one inside."""
    trips = symbol_of(op.stop, builder)
    size: Any = int(math.sqrt(trips)) + 1 if isinstance(trips, int) else None
    if size is None:
        root = apply_function(math.sqrt, (trips,), {}, builder)
        size = named(apply_function(int, (root,), {}, builder) + 1, "size")
    count = apply_function(TRIPS, (0, trips, size), {}, builder)
    if isinstance(count, Symbol):
        named(count, "segments")
    index = Value(Scalar("int64", weak=True, size=fresh_size()), "segment", kept=True)
    carried = tuple([outer(param, init) for param, init in zip(
        op.body.params[1:], op.inits, strict=True)])
    results = tuple([outer(result, init) for result, init in zip(
        op.results, op.inits, strict=True)])
    with builder.inside(Block()) as body:
        first = named(Symbol(index, builder) * size, "first")
        last = named(np.minimum(first + size, trips), "last")
        inner = replace(
            op, start=operand_of(first), stop=operand_of(last), inits=carried, results=results,
            checkpoint=None,
        )  # fmt: skip
        body.ops.append(inner)
    body.params, body.yields = (index, *carried), results
    return replace(op, stop=operand_of(count), body=body, checkpoint="trip")


def outer(value: Value, init: Operand) -> Value:
    """A carried variable at another moment: lengths and ints that change have their own symbols."""
    made = twin(value)
    made.type = _elsewhere(value.type, init.type)
    return made


def _elsewhere(kind: Type, entry: Type) -> Type:
    if isinstance(kind, Array):
        pairs = zip(kind.shape, entry.shape, strict=True)
        return Array(kind.dtype, tuple([a if a == b else fresh_size() for a, b in pairs]))
    return replace(kind, size=fresh_size()) if kind.dtype == "int64" else kind


def rerun(forward: Block, back: Block) -> Block:
    """The backward block of a trip, with the forward block run again in front.

    Nothing but what is carried into the trip then remains to be kept.
    """
    mapping: dict[Value, Operand] = {}
    quiet = silent(forward)
    for op in all_ops(quiet):
        if isinstance(op, Apply) and isinstance(op.primitive.hook, Place):
            op.primitive.hook.repeated = True
    ops = copied_ops(quiet.ops, mapping, "backward")
    block = rewired_block(back, mapping)
    return Block(back.params, [*ops, *block.ops], block.yields)


def silent(block: Block) -> Block:
    """A block without what it prints: that has been done in the forward sweep."""
    ops = [with_blocks(op, silent) for op in block.ops if not _only_effect(op)]
    return Block(block.params, ops, block.yields)


def _only_effect(op: Op) -> bool:
    return isinstance(op, Apply) and op.primitive.effect and not op.results


def unchanged(op: For) -> Block:
    """The body of a loop as it was, in a block to which its own tapes may be added."""
    return Block(op.body.params, list(op.body.ops), op.body.yields)


def named(symbol: Symbol, name: str) -> Symbol:
    """Give a value a name of its own."""
    symbol.value.name, symbol.value.kept = name, True
    return symbol
