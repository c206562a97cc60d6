"""Sums over axes of a product that only the sum reads, taken before the product.

    grad_c = np.einsum("kab,nka->nkb", F, grad_y)
    grad_means = np.sum(grad_c, axis=0)       ->      total = np.sum(grad_y, axis=0)
                                                      grad_means = np.einsum("kab,ka->kb", F, total)

Where a factor does not vary along an axis that is summed over, it stands outside of the sum: what
was a product of matrices is one of a matrix and a vector. Only in what derivative rules wrote; the
user's own statements are computed as they stand. The terms are those of before, in another order.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Apply, Block, Function, Op, Operand, Value, all_reads
from flatgrad.primitives.einsum import EINSUM, Subscripts, einsum_of
from flatgrad.primitives.symbolic import Symbol, operand_of, symbol_of
from flatgrad.primitives.typerules import normalize_axes
from flatgrad.transform.clone import with_blocks
from flatgrad.transform.dce import eliminate_dead, swept
from flatgrad.transform.stack_rules import one_or_all

Product = tuple[list[tuple[str, Operand]], str]
"""Letters and operands of an einsum, and the letters of its result."""


def sums_of_products(fn: Function) -> Function:
    """The function with such sums taken before the products."""
    walk = _Walk(eliminate_dead(fn))
    body = walk.block(walk.fn.body)
    return replace(walk.fn, body=swept(body))


class _Walk:
    """Visits the blocks of a function."""

    def __init__(self, fn: Function) -> None:
        self.fn = fn
        self.builder = Builder(Block(), fn.lengths)
        self.uses = Counter(item for item in all_reads(fn.body) if isinstance(item, Value))

    def block(self, block: Block) -> Block:
        made: dict[Operand, Apply] = {}
        ops: list[Op] = []
        for op in block.ops:
            new = self.written_anew(op, made) if isinstance(op, Apply) else None
            if new is None:
                new = [with_blocks(op, self.block)]
            for one in new:
                if isinstance(one, Apply) and one.primitive.function is EINSUM:
                    made[one.result] = one
            ops += new
        return Block(block.params, ops, block.yields)

    def written_anew(self, op: Apply, made: dict[Operand, Apply]) -> list[Op] | None:
        """What stands for a sum of a product, or a product with a sum in it; None: it stays."""
        if op.origin.sweep == "forward" or len(op.results) != 1:
            return None
        product = self.summed(op, made)
        if product is None:
            return None
        terms, target = product
        with self.builder.inside(Block()) as new, self.builder.at(op.origin, op.result.part):
            symbols = [
                (letters, symbol_of(item, self.builder))
                for letters, item in self.before(terms, target)
            ]
            found = einsum_of(symbols, target, _optimize(op, made), self.builder)
        if not isinstance(found, Symbol) or found.type != op.result.type:
            return None
        last = new.ops[-1]
        assert isinstance(last, Apply)
        if last.result is not found.value:
            return None
        new.ops[-1] = replace(last, results=op.results)
        return list(new.ops)

    def summed(self, op: Apply, made: dict[Operand, Apply]) -> Product | None:
        """The product whose value the operation has, if there is something to take out of it."""
        if op.primitive.function is EINSUM:
            product = _product(op)
            return product if product and _alone(*product) else None
        if op.primitive.function is not np.sum or op.arguments.get("keepdims"):
            return None
        inner = made.get(op.operands[0])
        if inner is None or inner.origin.sweep == "forward" or self.uses[inner.result] != 1:
            return None
        product = _product(inner)
        if product is None:
            return None
        terms, output = product
        axes = normalize_axes(op.arguments.get("axis"), len(output))
        left = "".join(letter for k, letter in enumerate(output) if k not in axes)
        return (terms, left) if _alone(terms, left) else None

    def before(self, terms: list[tuple[str, Operand]], target: str) -> list[tuple[str, Operand]]:
        """The terms, summed over the axes that no other and no result has."""
        alone = _alone(terms, target)
        found = []
        for letters, item in terms:
            axes = [k for k, letter in enumerate(letters) if letter in alone]
            if axes:
                assert isinstance(item, Value)
                summed = np.sum(Symbol(item, self.builder), axis=one_or_all(axes))
                item = operand_of(summed)
                letters = "".join(letter for letter in letters if letter not in alone)
            found.append((letters, item))
        return found


def _product(op: Apply) -> Product | None:
    """The terms of an einsum in float64, where each letter is one length in each of them once."""
    letters = Subscripts.read(op.arguments["subscripts"])
    for term, item in zip(letters.inputs, op.operands, strict=True):
        kind = item.type
        if not isinstance(item, Value) or kind.dtype != "float64" or 1 in kind.shape:
            return None
        if len(set(term)) < len(term):
            return None
    if len(letters.inputs) < 2:
        return None
    return list(zip(letters.inputs, op.operands, strict=True)), letters.output


def _alone(terms: list[tuple[str, Operand]], target: str) -> set[str]:
    """The letters that one term has, and neither another nor the result."""
    count = Counter("".join(letters for letters, _ in terms))
    return {letter for letter, times in count.items() if times == 1 and letter not in target}


def _optimize(op: Apply, made: dict[Operand, Apply]) -> bool | str:
    inner = op if op.primitive.function is EINSUM else made[op.operands[0]]
    found: bool | str = inner.arguments.get("optimize", False)
    return found
