"""Sums of float32 that a loop adds up are taken in float64, and rounded once, after the loop.

    total = np.float32(0.0)                  total_sum = 0.0
    for i in range(n):                       for i in range(n):
        total += x[i] * x[i]         ->          total_sum += np.float64(x[i] * x[i])
                                             total = np.float32(total_sum)

So are arrays that start as zeros and are only added to. What is added is computed in float32 as
before. Only for loops whose trips are to be made several at a time: elsewhere each sum is rounded
where it is written.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np

from flatgrad.analysis.activity import slots
from flatgrad.analysis.independent import SUMS
from flatgrad.ir.builder import Builder
from flatgrad.ir.copies import twin
from flatgrad.ir.ops import Apply, Block, Const, For, Op, Operand, Value
from flatgrad.ir.types import Array, Scalar
from flatgrad.primitives.core import ASTYPE
from flatgrad.primitives.index import ADD_ITEM
from flatgrad.primitives.symbolic import Symbol, apply_function, operand_of, symbol_of
from flatgrad.transform.building import call_into
from flatgrad.transform.clone import rewired, rewired_block

ZEROS: tuple[Any, ...] = (np.zeros, np.zeros_like)
Widened = tuple[list[Op], For, list[Op]]
"""What then stands before the loop, the loop, and what stands behind it."""


def with_wide_sums(
    loop: For, sums: Collection[Value], makers: dict[Value, Apply], builder: Builder
) -> Widened:
    """A loop in which those of its parameters that only grow, `sums`, are float64.

    `makers` tells how the arrays among them, which start as zeros, are made.
    """
    chosen = [one for one in slots(loop) if one[1] in sums and one[1].type.dtype == "float32"]
    if not chosen:
        return [], loop, []
    before: list[Op] = []
    after: list[Op] = []
    wide = _Wide(builder)
    starts: dict[Value, Operand] = {}
    for init, param, _, result in chosen:
        with builder.inside(Block((), before)):
            builder.origin = loop.origin
            starts[param] = _start(init, wide.version(param), makers, builder)
        with builder.inside(Block((), after)):
            total = symbol_of(wide.version(result), builder)
            apply_function(ASTYPE, (total, np.float32), {}, builder)
            made = builder.block.ops[-1]
            assert isinstance(made, Apply)
            builder.block.ops[-1] = replace(made, results=(result,))
    inits = tuple([starts.get(param, init) for init, param, _, _ in slots(loop)])
    results = tuple([wide.known.get(result, result) for result in loop.results])
    return before, replace(loop, inits=inits, results=results, body=wide.block(loop.body)), after


def _start(
    init: Operand, like: Value, makers: dict[Value, Apply], builder: Builder
) -> Operand:
    """What a sum starts from, in float64."""
    if isinstance(init, Const):
        return Const(float(init.value))
    if not init.type.ndim:
        given = symbol_of(init, builder), np.float64
        return operand_of(apply_function(ASTYPE, given, {}, builder))
    assert isinstance(init, Value)
    made = makers[init]
    arguments = {key: one for key, one in made.arguments.items() if key != "dtype"}
    if made.primitive.function is np.zeros_like:
        arguments["dtype"] = np.float64
    zeros = twin(like)
    builder.block.ops.append(replace(made, arguments=arguments, results=(zeros,)))
    return zeros


def wide_twin(value: Value) -> Value:
    """A value of the same shape in float64."""
    kind: Any = Array("float64", value.type.shape) if value.type.ndim else Scalar("float64")
    return Value(kind, f"{value.name or value.part or 'value'}_sum", kept=True)


class _Wide:
    """Rewrites a body; `known` are the versions of the sums in float64."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.known: dict[Any, Value] = {}

    def version(self, value: Value) -> Value:
        return self.known.setdefault(value, wide_twin(value))

    def block(self, block: Block) -> Block:
        ops: list[Op] = []
        for op in block.ops:
            if isinstance(op, For):
                for init, param, _, result in slots(op):
                    if init in self.known:
                        self.version(param)
                        self.version(result)
                inner = self.block(op.body)
                results = tuple([self.known.get(one, one) for one in op.results])
                ops.append(replace(rewired(replace(op, body=inner), self.known), results=results))
            elif isinstance(op, Apply) and any(one in self.known for one in op.operands):
                self.step(op, ops)
            else:
                ops.append(op)
        return rewired_block(
            Block(tuple([self.known.get(one, one) for one in block.params]), ops, block.yields),
            self.known,
        )

    def step(self, op: Apply, ops: list[Op]) -> None:
        """One more term, or a question about the shape."""
        function = op.primitive.function
        if function is ADD_ITEM:
            made = replace(rewired(op, self.known), results=(self.version(op.result),))
            ops.append(made)
            return
        if function not in SUMS:
            ops.append(rewired(op, self.known))  # a length
            return
        total, term = op.operands
        with self.builder.inside(Block((), ops)):
            self.builder.origin = op.origin
            given = symbol_of(term, self.builder)
            if isinstance(given, Symbol) and term.type.dtype == "float32":
                given = apply_function(ASTYPE, (given, np.float64), {}, self.builder)
            old = symbol_of(self.known[total], self.builder)
            call_into(self.version(op.result), function, (old, given), self.builder)
