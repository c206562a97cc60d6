"""The adjoint of a Cholesky factor that is a sum of outer products and of a diagonal.

    y = solve_lower(L, s * z, transposed=True)         y = solve_lower(L, s * z, transposed=True)
    grad_L = np.diag(d) - np.outer(y, z)               w = solve_lower(L, z, transposed=True)
    inv = inverse_lower(L)                      ->     inv = inverse_lower(L)
    half = half_lower(L.T @ grad_L)                    product = inv.T @ (d * diag(L) * inv.T).T
    grad_S = fold_lower(inv.T @ half @ inv)            grad_S = half_lower(product - np.outer(y, w))

Such are those of log-determinants and of quadratic forms: the rule for any adjoint has three
products of matrices, these need one, and without a diagonal none. `L.T @ y` is `s * z`, so of
`M = L.T @ grad_L` the outer products are known; of the diagonal, what is not above it counts. Where
these make M symmetric, as `s * z * z.T` or `u * z.T + z * u.T` is, `half + half.T` is M, and the
result is the lower triangle of `inv.T @ M @ inv`. Where they do not, the first product is spared.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Apply, Block, Const, Function, Op, Operand, Value
from flatgrad.primitives.core import IDENTITY
from flatgrad.primitives.index import ADD_ITEM
from flatgrad.primitives.rearrange import MATRIX
from flatgrad.primitives.symbolic import Symbol, operation, symbol_of
from flatgrad.primitives.triangular import fold_lower, half_lower, inverse_lower, solve_lower
from flatgrad.transform.clone import with_blocks
from flatgrad.transform.dce import eliminate_dead

Made = dict[Operand, Apply]
Factors = tuple[float, tuple[Operand, ...]]
"""A number, and what it is multiplied with, in the order of the program."""


def structured_factor_adjoints(fn: Function) -> Function:
    """The function with fewer products in the adjoints of Cholesky factors."""
    walk = _Walk(Builder(Block(), fn.lengths))
    body = walk.block(fn.body, {})
    return eliminate_dead(replace(fn, body=body)) if walk.found else fn


class _Walk:
    """Visits the blocks of a function."""

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.found = False

    def block(self, block: Block, outer: Made) -> Block:
        made = dict(outer)

        def inside(inner: Block) -> Block:
            return self.block(inner, made)

        ops: list[Op] = []
        for op in block.ops:
            if not isinstance(op, Apply):
                ops.append(with_blocks(op, inside))
                continue
            ops += self.written_anew(op, made) or [op]
            made |= dict.fromkeys(op.results, op)
        return Block(block.params, ops, block.yields)

    def written_anew(self, op: Apply, made: Made) -> list[Op] | None:
        """What computes the adjoint of the matrix from the parts of that of its factor."""
        adjoint = _adjoint(op, made)
        if adjoint is None or 1 in op.result.type.shape:
            return None
        L, inverse, grad_L = adjoint
        terms = _Terms(L, made)
        if not terms.collect(grad_L, 1.0, (), flipped=False) or not terms.fit(L):
            return None
        with self.builder.inside(Block()) as new, self.builder.at(op.origin, op.result.part):
            writer = _Writer(L, inverse, terms, self.builder)
            writer.symmetric() if terms.are_symmetric() else writer.general()
        last = new.ops[-1]
        assert isinstance(last, Apply)
        if last.result.type.dtype != op.result.type.dtype:
            return None
        new.ops[-1] = replace(last, results=op.results)
        self.found = True
        return list(new.ops)


def _adjoint(op: Apply, made: Made) -> tuple[Value, Value, Operand] | None:
    """L, its inverse and its adjoint, where this is the end of the rule for a Cholesky factor."""
    if op.primitive.function is not fold_lower or op.result.type.ndim != 2:
        return None
    product = _made(op.operands[0], operator.matmul, made)
    left = product and _made(product.operands[0], operator.matmul, made)
    half = left and _made(left.operands[1], half_lower, made)
    moved = half and _made(half.operands[0], operator.matmul, made)
    if product is None or left is None or moved is None:
        return None
    inverse = _made(product.operands[1], inverse_lower, made)
    if inverse is None or _flipped(left.operands[0], made) is not inverse.result:
        return None
    L = inverse.operands[0]
    if not isinstance(L, Value) or _flipped(moved.operands[0], made) is not L:
        return None
    return L, inverse.result, moved.operands[1]


def _made(operand: Operand, function: object, made: Made) -> Apply | None:
    op = made.get(operand)
    return op if op is not None and op.primitive.function is function else None


def _flipped(operand: Operand, made: Made) -> Operand | None:
    """What a matrix is the transpose of."""
    op = _made(operand, np.transpose, made)
    if op is None or op.arguments.get("axes") is not None or op.operands[0].type.ndim != 2:
        return None
    return op.operands[0]


@dataclass(frozen=True, slots=True)
class Outer:
    """A term of the adjoint, `factors * np.outer(solution, right)`; L.T @ solution is `left`."""

    factors: Factors
    solution: Operand
    left: Operand
    right: Operand


@dataclass(slots=True)
class _Terms:
    """The outer products and diagonals that the adjoint of L is the sum of."""

    L: Value
    made: Made
    outers: list[Outer] = field(default_factory=list)
    diagonals: list[tuple[Factors, Operand]] = field(default_factory=list)

    def collect(
        self, matrix: Operand, number: float, scalars: tuple[Operand, ...], *, flipped: bool
    ) -> bool:
        """Add the terms of a matrix times numbers; False where one is neither."""
        op = self.made.get(matrix)
        if op is None or op.result.type.ndim != 2:
            return False
        function, given = op.primitive.function, op.operands
        if function is operator.neg:
            return self.collect(given[0], -number, scalars, flipped=flipped)
        if function in (operator.add, operator.sub):
            if any(one.type.ndim != 2 or 1 in one.type.shape for one in given):
                return False
            sign = 1.0 if function is operator.add else -1.0
            first = self.collect(given[0], number, scalars, flipped=flipped)
            return first and self.collect(given[1], sign * number, scalars, flipped=flipped)
        if function is operator.mul:
            scalar, other = sorted(given, key=lambda one: one.type.ndim)
            if scalar.type.ndim:
                return False
            return self.collect(other, number, (*scalars, scalar), flipped=flipped)
        if function is np.transpose:
            source = _flipped(matrix, self.made)
            return source is not None and self.collect(
                source, number, scalars, flipped=not flipped
            )
        if function is np.tril and not flipped and op.arguments.get("k", 0) == 0:
            # Below the diagonal L.T @ X has nothing of what X has above it.
            return self.collect(given[0], number, scalars, flipped=flipped)
        return self.leaf(op, (number, scalars), flipped)

    def leaf(self, op: Apply, factors: Factors, flipped: bool) -> bool:
        """A diagonal, or a product whose first factor is a solution for L.T."""
        diagonal = self.diagonal(op)
        if diagonal is not None:
            self.diagonals.append((factors, diagonal))
            return True
        if op.primitive.function is not np.outer:
            return False
        solution, right = op.operands[::-1] if flipped else op.operands
        solved = _made(solution, solve_lower, self.made)
        fits = right.type.ndim == 1 and solution.type.ndim == 1
        if solved is None or not fits or solved.operands[0] is not self.L:
            return False
        if not solved.arguments.get("transposed"):
            return False
        self.outers.append(Outer(factors, solution, solved.operands[1], right))
        return True

    def diagonal(self, op: Apply) -> Operand | None:
        """The entries of a diagonal matrix."""
        if op.primitive.function is MATRIX:
            return op.operands[0] if op.arguments.get("k", 0) == 0 else None
        if op.primitive.function is not ADD_ITEM:
            return None
        base, entries, *places = op.operands
        index = op.arguments["index"]
        if _made(base, np.zeros_like, self.made) is None or not isinstance(index, tuple):
            return None
        if len(places) != 2 or len(index) != 2 or places[0] is not places[1]:
            return None
        counted = _made(places[0], np.arange, self.made)
        if counted is None or len(counted.operands) != 1 or entries.type.ndim != 1:
            return None
        return entries if counted.result.type.shape == entries.type.shape else None

    def fit(self, L: Value) -> bool:
        """Whether the terms are of the dtype of L, and diagonals as long as its own."""
        own = operation(np.diag)(Symbol(L, Builder(Block()))).type
        long = all(one.type.shape == own.shape for _, one in self.diagonals)
        parts = [one for _, one in self.diagonals]
        parts += [one for term in self.outers for one in (term.solution, term.left, term.right)]
        return long and all(one.type.dtype == own.dtype for one in parts)

    def are_symmetric(self) -> bool:
        """Whether the sum of `left * right.T` is its own transpose."""
        sums: dict[Any, float] = {}
        for term in self.outers:
            number, scalars = term.factors
            left, right = self.stripped(term.left), self.stripped(term.right)
            inside = [*scalars, *left[1], *right[1]]
            found = [self.stripped(one) for one in inside]
            names = [str(id(one)) for each in found for one in each[1]]
            names += [str(id(each[2])) for each in found if not isinstance(each[2], Const)]
            numbers = [each[0] for each in found]
            numbers += [float(each[2].value) for each in found if isinstance(each[2], Const)]
            key = tuple(sorted(names)), left[2], right[2]
            product = float(np.prod([number, left[0], right[0], *numbers]))
            sums[key] = sums.get(key, 0.0) + product
        return all(sums.get((names, b, a)) == total for (names, a, b), total in sums.items())

    def stripped(self, operand: Operand) -> tuple[float, tuple[Operand, ...], Operand]:
        """A value as a number times scalars times a value."""
        op = self.made.get(operand)
        if op is None:
            return 1.0, (), operand
        function = op.primitive.function
        if function in (operator.neg, IDENTITY):
            number, scalars, base = self.stripped(op.operands[0])
            return number * (-1.0 if function is operator.neg else 1.0), scalars, base
        if function is operator.mul:
            scalar, other = sorted(op.operands, key=lambda one: one.type.ndim)
            if scalar.type.ndim == 0:
                number, scalars, base = self.stripped(other)
                return number, (*scalars, scalar), base
        return 1.0, (), operand


class _Writer:
    """Writes the adjoint of the matrix."""

    def __init__(self, L: Value, inverse: Value, terms: _Terms, builder: Builder) -> None:
        self.builder = builder
        self.terms = terms
        self.L = Symbol(L, builder)
        self.inverse = Symbol(inverse, builder)

    def symmetric(self) -> None:
        """The lower triangle of `inverse.T @ M @ inverse`."""
        total: Any = None
        if self.terms.diagonals:
            total = np.transpose(self.inverse) @ (self.diagonal()[:, None] * self.inverse)
        for term in self.terms.outers:
            right = operation(solve_lower)(self.L, self.symbol(term.right), transposed=True)
            total = self.plus(total, term, self.symbol(term.solution), right)
        operation(half_lower)(total)

    def general(self) -> None:
        """Both products with the inverse, of what is known of `L.T @ grad_L`."""
        total = np.diag(self.diagonal()) if self.terms.diagonals else None
        for term in self.terms.outers:
            total = self.plus(total, term, self.symbol(term.left), self.symbol(term.right))
        half = operation(half_lower)(total)
        operation(fold_lower)(np.transpose(self.inverse) @ half @ self.inverse)

    def diagonal(self) -> Any:
        """That of `L.T @ grad_L`, without the outer products."""
        total: Any = None
        for (number, scalars), entries in self.terms.diagonals:
            found = self.times(abs(number), scalars, self.symbol(entries))
            if total is None:
                total = found if number > 0 else -found
            else:
                total = total + found if number > 0 else total - found
        return total * np.diag(self.L)

    def plus(self, total: Any, term: Outer, left: Any, right: Any) -> Any:
        """A sum with one more outer product."""
        number, scalars = term.factors
        product = left[:, None] * self.times(abs(number), scalars, right)[None, :]
        if total is None:
            return product if number > 0 else -product
        return total + product if number > 0 else total - product

    def times(self, number: float, scalars: tuple[Operand, ...], vector: Any) -> Any:
        """A vector times numbers."""
        for scalar in scalars:
            vector = self.symbol(scalar) * vector
        return vector if number == 1.0 else number * vector

    def symbol(self, operand: Operand) -> Any:
        """What operators work on."""
        return symbol_of(operand, self.builder)
