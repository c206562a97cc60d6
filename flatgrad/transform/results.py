"""Results that are returned share no memory with each other or with the arguments.

    grad_b = grad_s                      return grad_s, grad_s.copy()
    return grad_s, grad_b       ->

Nor do their elements with each other: what may be a number spread over an array is copied, before
the loop that starts with it where there is one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from flatgrad.analysis.activity import slots
from flatgrad.ir.builder import Builder
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
    blocks_of,
)
from flatgrad.primitives.symbolic import Symbol, apply_function


def separate_results(fn: Function) -> Function:
    """The function with copies where two results, or a result and a parameter, may share memory."""
    fn = _with_filled_starts(fn)
    roots = _roots(fn)
    block = Block(fn.params, list(fn.body.ops), ())
    builder = Builder(block, fn.lengths)
    seen: set[Value] = {*fn.params, *_spread(fn.body)}
    results: list[Operand] = []
    for item in fn.results:
        if isinstance(item, Value) and item.type.ndim:
            own = roots.get(item, {item})
            if own & seen:
                with builder.at(Origin(None, "return", "copy"), item.name):
                    x = Symbol(item, builder)
                    copied = apply_function(np.copy, (x,), {}, builder, spelling="method")
                results.append(copied.value)
                continue
            seen |= own
        results.append(item)
    return replace(fn, body=Block(fn.params, block.ops, tuple(results)))


def _with_filled_starts(fn: Function) -> Function:
    """The function in which no loop makes a result of a number spread over an array."""
    block = Block(fn.params, [], fn.body.yields)
    builder = Builder(block, fn.lengths)
    roots = _roots(fn)
    results = [roots.get(item, {item}) for item in fn.results if isinstance(item, Value)]
    spread = _spread(fn.body) & set().union(*results)
    for op in fn.body.ops:
        if isinstance(op, For | While):
            inits = [_filled(item, op, builder) if item in spread else item for item in op.inits]
            op = replace(op, inits=tuple(inits))
        block.ops.append(op)
    return replace(fn, body=block)


def _filled(item: Operand, op: Op, builder: Builder) -> Operand:
    assert isinstance(item, Value)
    with builder.at(op.origin, item.name):
        x = Symbol(item, builder)
        return apply_function(np.copy, (x,), {}, builder, spelling="method").value


def _spread(block: Block) -> set[Value]:
    """The values whose elements may be one and the same."""
    found = set()
    for op in block.ops:
        if isinstance(op, Apply) and op.primitive.function is np.broadcast_to:
            found.add(op.result)
        for inner in blocks_of(op):
            found |= _spread(inner)
    return found


def _roots(fn: Function) -> dict[Value, set[Value]]:
    found: dict[Value, set[Value]] = {}
    _find_roots(fn.body, found)
    return found


def _find_roots(block: Block, roots: dict[Value, set[Value]]) -> None:
    """For each value that may share memory with others, those in whose memory it may lie."""
    for op in block.ops:
        match op:
            case Apply():
                if op.primitive.alias is not None:
                    slot = op.arguments[op.primitive.alias]
                    operand = op.operands[slot.index] if isinstance(slot, Slot) else None
                    if isinstance(operand, Value):
                        roots[op.results[0]] = roots.get(operand, {operand})
                        if op.primitive.function is np.broadcast_to:
                            roots[op.results[0]] = {*roots[op.results[0]], op.results[0]}
            case If():
                for inner in (op.then, op.orelse):
                    _find_roots(inner, roots)
                for result, *yields in zip(
                    op.results, op.then.yields, op.orelse.yields, strict=True
                ):
                    _join(result, yields, roots)
            case For() | While():
                before = -1
                while before != (before := _count(op, roots)):
                    _find_roots(op.body, roots)
                    for init, param, item, result in slots(op):
                        _join(param, [init, item], roots)
                        _join(result, [init, item], roots)


def _count(op: For | While, roots: dict[Value, set[Value]]) -> int:
    return sum(len(roots.get(param, ())) for param in op.body.params)


def _join(value: Value, sources: Sequence[Operand], roots: dict[Value, set[Value]]) -> None:
    """`value` is one of `sources`."""
    if value.type.ndim:
        found = roots.setdefault(value, set())
        for source in sources:
            if isinstance(source, Value):
                found |= roots.get(source, {source})
