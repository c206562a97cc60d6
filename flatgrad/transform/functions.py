"""What holds of functions that others call: they return new arrays, and know what depends on what.

    def layer(x):                    def layer(x):
        return x.T            ->         return x.T.copy()
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from flatgrad.analysis.activity import varied
from flatgrad.ir.builder import Builder
from flatgrad.ir.dims import Dim
from flatgrad.ir.ops import (
    Apply,
    Block,
    For,
    Function,
    If,
    Op,
    Operand,
    Origin,
    Slot,
    Value,
    While,
)
from flatgrad.primitives.callee import Callee, function_of
from flatgrad.primitives.core import IDENTITY
from flatgrad.primitives.effects import PRINT
from flatgrad.primitives.symbolic import Symbol, apply_function
from flatgrad.transform.clone import all_ops, copied_block, with_blocks
from flatgrad.transform.dce import eliminate_dead, has_effect
from flatgrad.transform.results import separate_results


def finished(callee: Callee) -> Callee:
    """The primitive with what follows from its function, whose results are new arrays."""
    fn = separate_results(_without_views(eliminate_dead(callee.called)))
    callee.body = fn
    callee.reach = tuple([frozenset() for _ in fn.results])
    for k, param in enumerate(fn.params):
        if param.type.differentiable:
            found = varied(fn.body, [param])
            callee.reach = tuple(
                [
                    reach | {k} if result in found else reach
                    for reach, result in zip(callee.reach, fn.results, strict=True)
                ]
            )
    callee.effect = any(has_effect(op) for op in fn.body.ops)
    return callee


def _without_views(fn: Function) -> Function:
    """With copies of results that are views: their elements may coincide, or lie in a parameter."""
    made: dict[Value, Op] = {value: op for op in all_ops(fn.body) for value in op.results}
    block = Block(fn.params, list(fn.body.ops))
    builder = Builder(block, fn.lengths)
    results: list[Operand] = []
    for item in fn.results:
        if isinstance(item, Value) and item.type.ndim and _is_view(item, made, set()):
            with builder.at(Origin(None, "return", "copy"), item.name):
                x = Symbol(item, builder)
                item = apply_function(np.copy, (x,), {}, builder, spelling="method").value
        results.append(item)
    block.yields = tuple(results)
    return replace(fn, body=block)


def _is_view(value: Operand, made: dict[Value, Op], seen: set[Value]) -> bool:
    if not isinstance(value, Value) or value in seen:
        return False
    seen.add(value)
    op = made.get(value)
    if isinstance(op, Apply):
        if op.primitive.alias is not None and op.primitive.function is not IDENTITY:
            return True
        slot = op.arguments.get(op.primitive.alias or op.primitive.in_place)
        source = op.operands[slot.index] if isinstance(slot, Slot) else None
        return source is not None and _is_view(source, made, seen)
    if op is None:
        return False
    sources: list[Operand] = []
    k = op.results.index(value)
    if isinstance(op, If):
        sources = [op.then.yields[k], op.orelse.yields[k]]
    else:
        assert isinstance(op, For | While)
        sources = [op.inits[k], op.body.yields[k + int(op.exits)]]
    return any(_is_view(source, made, seen) for source in sources)


def copied(fn: Function) -> Function:
    """The function with values of its own."""
    mapping: dict[Value, Operand] = {}

    def twin(value: Value) -> Value:
        made = Value(value.type, value.name, kept=value.kept, part=value.part)
        made.of = value.of
        return made

    body = copied_block(fn.body, mapping, twin)
    for made in mapping.values():
        if isinstance(made, Value) and made.of is not None:
            prefix, primal = made.of
            known = mapping.get(primal)
            made.of = (prefix, known if isinstance(known, Value) else primal)
    lengths = own_lengths(body.params)
    return replace(fn, body=body, lengths=lengths)


def own_lengths(params: Sequence[Value]) -> dict[str, tuple[Value, int]]:
    """The lengths that parameters have as their own."""
    found: dict[str, tuple[Value, int]] = {}
    for param in params:
        for axis, size in enumerate(param.type.shape):
            if isinstance(size, Dim) and size.is_atom:
                found.setdefault(size.name, (param, axis))
    return found


def again(fn: Function, count: int) -> Function:
    """The derivative with its forward sweep, without the first results and what is printed."""
    body = Block(fn.params, without_prints(fn.body).ops, fn.results[count:])
    return eliminate_dead(replace(fn, body=body))


def without_prints(block: Block) -> Block:
    """A block that prints nothing, nor what it calls: what it computes was printed before."""
    kept: list[Op] = []
    for op in block.ops:
        if isinstance(op, Apply):
            if op.primitive.function is PRINT:
                continue
            if op.primitive.body is not None and op.primitive.effect:
                op = replace(op, primitive=_silent(op.primitive))
        kept.append(with_blocks(op, without_prints))
    return Block(block.params, kept, block.yields)


def _silent(callee: Callee) -> Callee:
    """A function that prints nothing."""
    if "silent" not in callee.known:
        fn = copied(callee.called)
        body = Block(fn.params, without_prints(fn.body).ops, fn.results)
        callee.known["silent"] = finished(
            function_of(
                replace(fn, body=body), checkpoint=callee.checkpoint, comments=callee.comments
            )
        )
    found: Callee = callee.known["silent"]
    return found
