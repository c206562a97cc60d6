"""Products that a loop sums up over its trips become one product after it.

    for t in range(n - 1, -1, -1):                    grad_z_rows = np.empty((n, m))
        ...                                           for t in range(n - 1, -1, -1):
        grad_b += grad_z                     ->           ...
        grad_W += np.outer(h_tape[t], grad_z)             grad_z_rows[t] = grad_z
                                                      grad_b = np.sum(grad_z_rows, axis=0)
                                                      grad_W = h_tape.T @ grad_z_rows

The factors are kept, a row per trip, unless they are rows of an array already. Only sums that
nothing else in the loop reads can leave it, and only loops that read rows keep more of them: a loop
that is run again from checkpoints is there to save memory.
"""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from flatgrad.analysis.activity import carried_params, slots
from flatgrad.ir.builder import Builder
from flatgrad.ir.dims import Size
from flatgrad.ir.ops import Apply, Block, For, Function, Op, Operand, Value, While, all_reads
from flatgrad.ir.types import Array
from flatgrad.primitives.index import SET_ITEM
from flatgrad.primitives.symbolic import Symbol, apply_function, symbol_of
from flatgrad.transform.clone import defined_in, rewired_block, with_blocks
from flatgrad.transform.dce import swept
from flatgrad.transform.tape import dtype_keyword, length, weight
from flatgrad.transform.trip_rows import Rows, TripRows

SHARE = 4
"""The rows that are kept take at most so many times the memory of those that are read."""

ZEROS = (np.zeros, np.zeros_like)


def products_after_loops(fn: Function) -> Function:
    """The function with sums of products over the trips of a loop computed after it."""
    walk = _Walk(fn)
    body = walk.block(fn.body, ())
    return replace(fn, body=swept(rewired_block(body, walk.gone))) if walk.gone else fn


class _Walk:
    """Visits the loops of a function, inner ones first; `gone` are results that they have no more.

    `trips` is there for `length`, which measures arrays.
    """

    def __init__(self, fn: Function) -> None:
        self.builder = Builder(Block(), fn.lengths)
        self.trips: dict[Any, tuple[Operand, ...]] = {}
        self.made: dict[Value, Op] = {}
        self.gone: dict[Value, Operand] = {}

    def block(self, block: Block, scope: tuple[Value, ...]) -> Block:
        seen = [*scope, *block.params]
        ops: list[Op] = []
        for op in block.ops:
            around = tuple(seen)
            op = with_blocks(op, partial(self.block, scope=around))
            new = _Loop(self, op, around).rebuilt() if isinstance(op, For) else [op]
            for one in new:
                self.made.update(dict.fromkeys(one.results, one))
                seen += one.results
            ops += new
        return Block(block.params, ops, block.yields)


@dataclass(frozen=True, slots=True)
class _Term:
    """What is added in each trip: `left.T @ right`, or without `left` the sum of the rows."""

    left: Value | None
    right: Value

    @property
    def factors(self) -> tuple[Value, ...]:
        """The values of a trip that are needed after the loop."""
        return (self.right,) if self.left is None else (self.left, self.right)


@dataclass(frozen=True, slots=True)
class _Sum:
    """Carried variable number `k`, to which each trip adds `terms`."""

    k: int
    terms: tuple[_Term, ...]

    @property
    def plain(self) -> bool:
        """Whether there is no product among the terms."""
        return all(term.left is None for term in self.terms)


class _Loop:
    """One loop: which sums can leave it, and the loop without them."""

    def __init__(self, walk: _Walk, op: For, scope: tuple[Value, ...]) -> None:
        self.walk = walk
        self.builder = walk.builder
        self.op = op
        self.scope = scope
        self.uses = Counter(item for item in all_reads(op.body) if isinstance(item, Value))
        self.made = {value: one for one in op.body.ops for value in one.results}
        self.inside = set(defined_in(op.body))
        self.before, self.after = Block(), Block()
        self.rows: dict[Value, Rows] = {}
        self.matrices: dict[Value, Any] = {}
        self.counts: dict[tuple[Size, ...], Any] = {}

    def rebuilt(self) -> list[Op]:
        """The loop, with what stands before and after it."""
        found = [self.sum_of(k) for k in range(len(self.op.inits))]
        sums = [one for one in found if one is not None]
        if all(one.plain for one in sums):
            return [self.op]
        with self.builder.inside(self.before), self.builder.at(self.op.origin):
            trips = TripRows.of(self.op, self.walk.made, self.made, self.builder)
        if trips is None:
            return [self.op]
        self.trips = trips
        sums, kept = self.affordable(sums)
        if not sums:
            return [self.op]
        loop = self.without({one.k for one in sums}, kept)
        with self.builder.inside(self.after):
            for one in sums:
                self.finish(one)
        return [*self.before.ops, loop, *self.after.ops]

    # Which sums.

    def sum_of(self, k: int) -> _Sum | None:
        """The sum that carried variable `k` is, if nothing else reads it on the way."""
        _, param, item, _ = list(slots(self.op))[k]
        terms: list[_Term] = []
        if not param.type.ndim or self.uses[param] != 1:
            return None
        while item is not param:
            op = self.made.get(item) if isinstance(item, Value) else None
            if not isinstance(op, Apply) or self.uses[op.results[0]] != 1:
                return None
            if op.primitive.function is not operator.add:
                return None
            first, second = op.operands
            item, other = (first, second) if self.leads_to(first, param) else (second, first)
            term = self.term(other, param)
            if term is None:
                return None
            terms.insert(0, term)
        return _Sum(k, tuple(terms)) if terms else None

    def leads_to(self, operand: Operand, param: Value) -> bool:
        """Whether an operand is `param`, or a sum that starts from it."""
        while operand is not param:
            op = self.made.get(operand) if isinstance(operand, Value) else None
            if not isinstance(op, Apply) or op.primitive.function is not operator.add:
                return False
            first, second = op.operands
            operand = second if second is param else first
        return True

    def term(self, operand: Operand, total: Value) -> _Term | None:
        """What is summed, where it is something of rows."""
        kind = total.type
        if not isinstance(operand, Value) or not isinstance(operand.type, Array):
            return None
        if (operand.type.dtype, operand.type.ndim) != (kind.dtype, kind.ndim):
            return None
        op = self.made.get(operand)
        if isinstance(op, Apply) and self.uses[operand] == 1:
            if op.primitive.function in (operator.matmul, np.outer):
                return self.product(op)
            if op.primitive.function is np.sum and op.operands[0].type.ndim == 2:
                if set(op.arguments) != {"x", "axis"} or op.arguments["axis"] != 0:
                    return None
                return self.of_factors(None, op.operands[0], 2)
        return self.of_factors(None, operand, 1)

    def product(self, op: Apply) -> _Term | None:
        """`np.outer(a, d)` of vectors and `a.T @ d` of matrices."""
        left, right = op.operands
        if 1 in op.result.type.shape:
            return None
        if op.primitive.function is np.outer:
            return self.of_factors(left, right, 1)
        turned = self.made.get(left) if isinstance(left, Value) else None
        if not isinstance(turned, Apply) or turned.primitive.function is not np.transpose:
            return None
        if "axes" in turned.arguments:
            return None
        return self.of_factors(turned.operands[0], right, 2)

    def of_factors(self, left: Operand | None, right: Operand, rank: int) -> _Term | None:
        """The term, if the loop makes the factors, in one dtype and each trip anew.

        What an inner loop has made is a tape of its own, which would be copied whole.
        """
        found: list[Value] = []
        for factor in (right,) if left is None else (left, right):
            if not isinstance(factor, Value) or factor not in self.inside:
                return None
            if factor.type.ndim != rank or factor.type.dtype != right.type.dtype:
                return None
            if isinstance(self.made.get(factor), For | While) or not factor.type.differentiable:
                return None
            found.append(factor)
        return _Term(None if left is None else found[0], found[-1])

    # What they cost.

    def affordable(self, sums: list[_Sum]) -> tuple[list[_Sum], dict[Value, tuple[Any, ...]]]:
        """The sums that leave the loop, and the factors that it must keep with their lengths."""
        shapes: dict[Value, tuple[Any, ...]] = {}
        for value in self.factors(sums):
            rows = self.trips.read(value)
            if rows is not None:
                self.rows[value] = rows
                continue
            with self.builder.inside(self.before), self.builder.at(self.op.origin):
                sizes = [length(self.walk, size, self.scope) for size in value.type.shape]
            if all(size is not None for size in sizes):
                shapes[value] = tuple(sizes)
        known = self.rows.keys() | shapes.keys()
        sums = [one for one in sums if known.issuperset(self.factors([one]))]
        needed = set(self.factors([one for one in sums if not one.plain]))
        sums = [one for one in sums if needed.issuperset(self.factors([one]))]
        kept = {value: shape for value, shape in shapes.items() if value in needed}
        dear = sum(weight(value.type) for value in kept) > SHARE * self.weight_of_rows()
        return ([], {}) if dear else (sums, kept)

    def factors(self, sums: list[_Sum]) -> list[Value]:
        """The factors of some sums, once each."""
        found = [factor for one in sums for term in one.terms for factor in term.factors]
        return list(dict.fromkeys(found))

    def weight_of_rows(self) -> int:
        """About how many bytes of tapes and other rows a trip reads."""
        made = [value for op in self.op.body.ops for value in op.results]
        trips = self.trips
        reads = [v for v in made if trips.reads_tape(v) or trips.read(v) is not None]
        return sum(weight(value.type) for value in reads)

    # The loop without them.

    def without(self, gone: set[int], kept: dict[Value, tuple[Any, ...]]) -> For:
        """The loop without some of its carried variables, keeping values in rows."""
        op = self.op
        stay = [k for k in range(len(op.inits)) if k not in gone]
        inits, results = [op.inits[k] for k in stay], [op.results[k] for k in stay]
        params = [op.body.params[0], *[carried_params(op)[k] for k in stay]]
        yields = [op.body.yields[k] for k in stay]
        ops = list(op.body.ops)
        for value, shape in kept.items():
            name = f"{self.label(value)}_rows"
            with self.builder.at(self.op.origin, name):
                init, param, write, result = self.keep(value, shape, name)
            place = ops.index(self.made[value]) + 1 if value in self.made else 0
            ops[place:place] = write.ops
            inits.append(init)
            params.append(param)
            yields.append(write.yields[0])
            results.append(result)
            self.rows[value] = Rows(result, None)
        body = Block(tuple(params), ops, tuple(yields))
        return replace(op, inits=tuple(inits), body=body, results=tuple(results))

    def label(self, value: Value) -> str:
        """What the rows are named after: a variable, or the array that is read."""
        made = self.made.get(value)
        if isinstance(made, Apply) and not value.kept:
            array = made.operands[0] if made.primitive.function is operator.getitem else None
            if isinstance(array, Value) and array.kept and array.name:
                return array.name
        return value.name or value.part or "value"

    def keep(
        self, value: Value, shape: tuple[Any, ...], name: str
    ) -> tuple[Value, Value, Block, Value]:
        """A new array before the loop; the same in a trip; the write; the array after the loop."""
        with self.builder.inside(self.before):
            lengths = (self.trips.trips, *shape)
            init = apply_function(np.empty, (lengths,), dtype_keyword(value.type), self.builder)
        param, result = (Value(init.type, name, kept=True) for _ in range(2))
        with self.builder.inside(Block()) as write:
            args = (Symbol(param, self.builder), Symbol(value, self.builder), self.trips.position())
            item = apply_function(SET_ITEM, args, {}, self.builder)
        write.yields = (item.value,)
        for one in (init.value, item.value):
            one.name, one.kept = name, True
        return init.value, param, write, result

    # After the loop.

    def finish(self, one: _Sum) -> None:
        """Compute a sum after the loop; it stands for the result of the loop from now on."""
        old, start = self.op.results[one.k], self.op.inits[one.k]
        made = self.walk.made.get(start) if isinstance(start, Value) else None
        empty = isinstance(made, Apply) and made.primitive.function in ZEROS
        with self.builder.at(self.op.origin, old.name):
            total: Any = None if empty else symbol_of(start, self.builder)
            for term in one.terms:
                right = self.matrix(term.right)
                if term.left is None:
                    found = np.sum(right, axis=0)
                else:
                    found = self.matrix(term.left).T @ right
                total = found if total is None else total + found
        value = total.value
        value.name, value.kept, value.of = old.name, True, old.of
        self.walk.gone[old] = value

    def matrix(self, value: Value) -> Any:
        """The vectors of the trips as rows, or the matrices of the trips one below the other."""
        if value not in self.matrices:
            rows = self.rows[value].symbol(self.trips.trips, self.builder)
            if rows.ndim == 3:
                rows = np.reshape(rows, (self.count(rows), rows.shape[2]))
            self.matrices[value] = rows
        return self.matrices[value]

    def count(self, rows: Any) -> Any:
        """How many rows the matrices of the trips have together."""
        key = rows.type.shape[:2]
        if key not in self.counts:
            trips, each = rows.shape[:2]
            self.counts[key] = trips * each
        return self.counts[key]
