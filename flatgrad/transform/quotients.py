"""Adjoints of a quotient share their division.

    grad_a = grad_k / s                  grad_a = grad_k / s
    grad_s = -grad_k * k / s      ->     grad_s = -grad_a * k

A division takes as long as ten products. What the user has divided stays as it is.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import Any

from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Apply, Block, Function, Op, Operand, Value
from flatgrad.primitives.symbolic import Symbol, apply_function, symbol_of
from flatgrad.transform.building import call_into
from flatgrad.transform.clone import with_blocks


def share_quotients(fn: Function) -> Function:
    """The function with such quotients as products."""
    builder = Builder(Block(fn.params), fn.lengths)
    return replace(fn, body=_block(fn.body, builder))


def _block(block: Block, builder: Builder) -> Block:
    made: dict[Operand, Apply] = {}
    known: dict[tuple[Operand, Operand], Value] = {}
    ops: list[Op] = []
    for op in block.ops:
        if not isinstance(op, Apply):
            ops.append(with_blocks(op, lambda one: _block(one, builder)))
            continue
        if _is(op, operator.truediv):
            shared = _Shared(op, made, known, builder)
            with builder.at(op.origin), builder.inside(Block((), [])) as inside:
                if shared.is_made():
                    ops += inside.ops
                    continue
            known.setdefault((op.operands[0], op.operands[1]), op.result)
        for value in op.results:
            made[value] = op
        ops.append(op)
    return Block(block.params, ops, block.yields)


class _Shared:
    """A quotient whose dividend is a product, one factor of which has been divided before."""

    def __init__(
        self,
        op: Apply,
        made: dict[Operand, Apply],
        known: dict[tuple[Operand, Operand], Value],
        builder: Builder,
    ) -> None:
        self.op = op
        self.made = made
        self.known = known
        self.builder = builder

    def is_made(self) -> bool:
        """Whether the result is computed from the quotient that is known."""
        over = self.made.get(self.op.operands[0])
        found = self.divided(over) if over is not None else None
        if found is None:
            return False
        function, *given = found
        call_into(self.op.result, function, given, self.builder)
        return True

    def divided(self, op: Apply) -> tuple[Any, ...] | None:
        """A product, or a number with a minus sign, with the quotient in the place of a factor."""
        if not (_is(op, operator.mul) or _is(op, operator.neg)):
            return None
        for k, factor in enumerate(op.operands):
            part = self.factor(factor)
            if part is not None:
                given = [symbol_of(one, self.builder) for one in op.operands]
                given[k] = part
                return op.primitive.function, *given
        return None

    def factor(self, factor: Operand) -> Any:
        """A factor divided: the quotient itself, or a product with it."""
        quotient = self.known.get((factor, self.op.operands[1]))
        if quotient is not None:
            same = quotient.type.shape == self.op.result.type.shape
            return Symbol(quotient, self.builder) if same else None
        inner = self.made.get(factor)
        found = self.divided(inner) if inner is not None else None
        if found is None:
            return None
        function, *given = found
        return apply_function(function, given, {}, self.builder)


def _is(op: Apply, function: object) -> bool:
    """Whether this is such an operation of a backward sweep, on floats."""
    return (
        op.primitive.function is function
        and op.origin.sweep == "backward"
        and op.result.type.dtype in ("float64", "float32")
        and all(one.type.dtype == op.result.type.dtype for one in op.operands)
    )
