"""Quotients of a backward sweep with one divisor share a division.

    k = a / s                      r = 1 / s
    grad_a = grad_k / s     ->     k = a * r
                                   grad_a = grad_k * r

In loops, and where arrays are divided. A reciprocal is infinite where `s` is subnormal, and `0 / s`
would be NaN, so `s` must be known to stay away from 0 (analysis/bounds.py), as `1 + x * x` does.
What is computed again may differ by a rounding from the first time then, which must not decide
anything: all else in the function must be smooth, too.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from dataclasses import replace

from flatgrad.analysis.bounds import least
from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import (
    Apply,
    Block,
    For,
    Function,
    Op,
    Operand,
    Value,
    While,
    blocks_of,
    called_functions,
    is_const,
)
from flatgrad.primitives.symbolic import Symbol, apply_function, symbol_of
from flatgrad.transform.building import call_into
from flatgrad.transform.clone import with_blocks

AWAY = 2.0**-1000
"""A divisor that is never below it has a reciprocal of full precision, or one of 50 bits."""

SMOOTH = frozenset(
    """
    add sub mul neg pos plus exp sin cos tanh arctan atan sinh cosh sigmoid identity float float64
    square getitem set_item add_item fill copy zeros zeros_like ones ones_like empty
    empty_like full full_like broadcast_to expand_dims transpose ascontiguousarray reshape dim size
    trips sum mean matmul dot outer
    """.split()  # noqa: SIM905
)
"""Functions without edges, of which no value decides anything, as in codegen/contracting.py."""


def share_reciprocals(fn: Function) -> Function:
    """The function with such quotients as products."""
    walk = _Walk(fn)
    if not walk.has_groups(fn.body, inside=False) or not walk.is_smooth():
        return fn
    return replace(fn, body=walk.block(fn.body, inside=False))


class _Walk:
    """Visits the blocks of a function."""

    def __init__(self, fn: Function) -> None:
        self.fn = fn
        self.builder = Builder(Block(), fn.lengths)
        self.made: dict[Operand, Apply] = {}
        self.note(fn.body)

    def note(self, block: Block) -> None:
        """Take in the operations of a block."""
        for op in block.ops:
            if isinstance(op, Apply):
                self.made |= dict.fromkeys(op.results, op)
            for inner in blocks_of(op):
                self.note(inner)

    def has_groups(self, block: Block, *, inside: bool) -> bool:
        """Whether there are quotients that may share a division."""
        if self.groups(block, inside):
            return True
        return any(
            self.has_groups(inner, inside=inside or isinstance(op, For | While))
            for op in block.ops
            for inner in blocks_of(op)
        )

    def groups(self, block: Block, inside: bool) -> dict[Operand, list[Apply]]:
        """Two and more quotients of the block by their divisor."""
        found: defaultdict[Operand, list[Apply]] = defaultdict(list)
        for op in block.ops:
            if not isinstance(op, Apply) or op.primitive.function is not operator.truediv:
                continue
            kinds = {one.type.dtype for one in (*op.operands, *op.results)}
            if kinds != {"float64"} or not (inside or op.result.type.ndim):
                continue
            fits = not op.result.type.ndim or op.operands[1].type.shape == op.result.type.shape
            if fits and op.origin.sweep != "forward" and not is_const(op.operands[0], 1):
                found[op.operands[1]].append(op)
        return {
            divisor: ops for divisor, ops in found.items()
            if len(ops) > 1 and least(divisor, self.made) >= AWAY
        }  # fmt: skip

    def is_smooth(self) -> bool:
        """Whether no float decides anything, in the function and in those that it calls."""
        called = [callee.body for callee in called_functions(self.fn.body)]
        for one in called:
            self.note(one.body)
        return all(map(self.is_smooth_block, [self.fn.body, *[one.body for one in called]]))

    def is_smooth_block(self, block: Block) -> bool:
        """Whether that is so in a block."""
        for op in block.ops:
            if isinstance(op, Apply) and not self.passes(op):
                return False
            if not all(map(self.is_smooth_block, blocks_of(op))):
                return False
        return True

    def passes(self, op: Apply) -> bool:
        """Whether an operation computes with no floats, or smoothly, or calls a function."""
        if op.primitive.body is not None or op.primitive.name in SMOOTH:
            return True
        if op.primitive.function is operator.truediv:
            return least(op.operands[1], self.made) >= AWAY
        if op.primitive.function is operator.pow:
            return any(is_const(op.operands[1], k) for k in range(1, 9))
        return not any(operand.type.dtype.startswith("float") for operand in op.operands)

    def block(self, block: Block, *, inside: bool) -> Block:
        """The block with products; `inside` of a loop, those of numbers, too."""
        groups = self.groups(block, inside)
        shared: dict[Operand, Value] = {}
        ops: list[Op] = []
        for op in block.ops:
            if not isinstance(op, Apply):
                deeper = self.inside if inside or isinstance(op, For | While) else self.outside
                ops.append(with_blocks(op, deeper))
                continue
            if op.primitive.function is operator.truediv and op in groups.get(op.operands[1], ()):
                with self.builder.inside(Block()) as new:
                    self.product(op, shared)
                ops += new.ops
                continue
            ops.append(op)
        return Block(block.params, ops, block.yields)

    def inside(self, block: Block) -> Block:
        """The block of a loop."""
        return self.block(block, inside=True)

    def outside(self, block: Block) -> Block:
        """A block that is in no loop."""
        return self.block(block, inside=False)

    def product(self, op: Apply, shared: dict[Operand, Value]) -> None:
        """The quotient by the reciprocal, which is computed first where it is not known."""
        dividend, divisor = op.operands
        with self.builder.at(op.origin, op.result.part or op.result.name):
            if divisor not in shared:
                given = (1.0, symbol_of(divisor, self.builder))
                found = apply_function(operator.truediv, given, {}, self.builder)
                shared[divisor] = found.value
            factors = symbol_of(dividend, self.builder), Symbol(shared[divisor], self.builder)
            call_into(op.result, operator.mul, factors, self.builder)
