"""Results that are returned share no memory with each other or with the arguments.

    grad_b = grad_s                      return grad_s, grad_s.copy()
    return grad_s, grad_b       ->
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Apply, Block, Function, Operand, Origin, Slot, Value
from flatgrad.primitives.symbolic import Symbol, apply_function


def separate_results(fn: Function) -> Function:
    """The function with copies where two results, or a result and a parameter, may share memory."""
    roots = _roots(fn)
    block = Block(fn.params, list(fn.body.ops), ())
    builder = Builder(block, fn.lengths)
    seen: set[Value] = set(fn.params)
    results: list[Operand] = []
    for item in fn.results:
        if isinstance(item, Value) and item.type.ndim:
            root = roots.get(item, item)
            if root in seen:
                with builder.at(Origin(None, "return", "copy"), item.name):
                    x = Symbol(item, builder)
                    copied = apply_function(np.copy, (x,), {}, builder, spelling="method")
                results.append(copied.value)
                continue
            seen.add(root)
        results.append(item)
    return replace(fn, body=Block(fn.params, block.ops, tuple(results)))


def _roots(fn: Function) -> dict[Value, Value]:
    """For each value that may be a view, the value whose memory it may share."""
    roots: dict[Value, Value] = {}
    for op in fn.body.ops:
        if isinstance(op, Apply) and op.primitive.alias is not None:
            slot = op.arguments[op.primitive.alias]
            operand = op.operands[slot.index] if isinstance(slot, Slot) else None
            if isinstance(operand, Value):
                roots[op.results[0]] = roots.get(operand, operand)
    return roots
