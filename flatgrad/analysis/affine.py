"""Integers as sums: `i + 1` is one of `i` and 1, wherever it was computed.

    d = sub(i, 1);  e = add(d, n)        e:  i + n - 1

What is no sum, difference or multiple by a known number stands for itself.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field

from flatgrad.ir.ops import Apply, Block, Const, Function, Operand, Value, blocks_of
from flatgrad.primitives.core import IDENTITY

Terms = frozenset[tuple[Value, int]]
"""Values and their factors, none of which is 0."""


@dataclass(frozen=True, slots=True)
class Affine:
    """`terms` and a number."""

    terms: Terms
    constant: int = 0

    def factor(self, value: Value) -> int:
        """How often a value is in it."""
        return next((factor for one, factor in self.terms if one is value), 0)

    def plus(self, other: Affine, times: int = 1) -> Affine:
        """`self + times * other`."""
        found = dict(self.terms)
        for value, factor in other.terms:
            found[value] = found.get(value, 0) + times * factor
        terms = frozenset((value, factor) for value, factor in found.items() if factor)
        return Affine(terms, self.constant + times * other.constant)

    def times(self, number: int) -> Affine:
        """The multiple by a number."""
        return Affine(frozenset()).plus(self, number)

    def swapped(self, old: Value, new: Value) -> Affine:
        """The same with one value in the place of another."""
        factor = self.factor(old)
        if not factor:
            return self
        difference = Affine(frozenset({(new, 1), (old, -1)}))
        return self.plus(difference, factor)


def number(value: int) -> Affine:
    """A known number."""
    return Affine(frozenset(), value)


@dataclass(slots=True)
class Integers:
    """The sums that the ints of a function are; `made` tells by which operation."""

    made: dict[Value, Apply] = field(default_factory=dict)
    known: dict[Value, Affine] = field(default_factory=dict)

    @staticmethod
    def of_block(block: Block) -> Integers:
        """Those of a block and the blocks inside it."""
        found = Integers()
        found.note(block)
        return found

    @staticmethod
    def of_function(fn: Function) -> Integers:
        """Those of all blocks of a function."""
        return Integers.of_block(fn.body)

    def note(self, block: Block) -> None:
        """Take in the operations of a block."""
        for op in block.ops:
            if isinstance(op, Apply) and len(op.results) == 1:
                self.made[op.result] = op
            for inner in blocks_of(op):
                self.note(inner)

    def of(self, operand: Operand | int) -> Affine:
        """The sum that an int operand is."""
        if isinstance(operand, int):
            return number(operand)
        if isinstance(operand, Const):
            return number(int(operand.value))
        if operand not in self.known:
            self.known[operand] = self.computed(operand)
        return self.known[operand]

    def computed(self, value: Value) -> Affine:
        op = self.made.get(value)
        itself = Affine(frozenset({(value, 1)}))
        if op is None or value.type.ndim or not value.type.dtype.startswith("int"):
            return itself
        operands = op.operands
        if any(o.type.dtype not in ("int64", "bool") for o in operands if not o.type.ndim):
            return itself
        match op.primitive.function:
            case operator.add:
                return self.of(operands[0]).plus(self.of(operands[1]))
            case operator.sub:
                return self.of(operands[0]).plus(self.of(operands[1]), -1)
            case operator.neg:
                return self.of(operands[0]).times(-1)
            case operator.mul:
                one, other = map(self.of, operands)
                if not one.terms:
                    return other.times(one.constant)
                return one.times(other.constant) if not other.terms else itself
        return self.of(operands[0]) if op.primitive.function is IDENTITY else itself
