"""What a loop adds to one element is summed up first.

    for j in range(m):                          grad_x_sum = 0.0
        grad_x[i] += g[j] * A[i, j]             for j in range(m):
        grad_A[i, j] += g[j] * x[i]     ->          grad_x_sum += g[j] * A[i, j]
                                                    grad_A[i, j] += g[j] * x[i]
                                                if m > 0:
                                                    grad_x[i] += grad_x_sum

A compiled loop that writes the same element in each trip makes one trip after the other. This is
for innermost loops whose trips share nothing else. Without trips the element may not exist, so it
is asked whether there are some, unless lengths tell that it does.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from typing import Any

from flatgrad.analysis.affine import Integers, number
from flatgrad.analysis.independent import Body, Carried, Index, is_independent
from flatgrad.analysis.ranges import Trips, highest, never_above, never_below_zero
from flatgrad.ir.builder import Builder
from flatgrad.ir.copies import twin
from flatgrad.ir.ops import Apply, Block, Const, For, Function, If, Op, Operand, Value
from flatgrad.ir.types import Scalar
from flatgrad.primitives.index import ADD_ITEM
from flatgrad.primitives.symbolic import apply_function, operand_of, symbol_of
from flatgrad.transform.building import call_into, rebuilt, shifted
from flatgrad.transform.clone import with_blocks

Around = tuple[Trips, ...]


def sum_elements(fn: Function) -> Function:
    """The function with such sums."""
    if all(isinstance(op, Apply) for op in fn.body.ops):
        return fn
    walk = _Walk(Integers.of_function(fn), Builder(Block(), fn.lengths))
    return replace(fn, body=walk.block(fn.body, ()))


@dataclass(slots=True)
class _Walk:
    """One walk over all blocks; `around` are the loops around a block."""

    integers: Integers
    builder: Builder

    def block(self, block: Block, around: Around) -> Block:
        ops: list[Op] = []
        for op in block.ops:
            made = self.loop(op, around) if isinstance(op, For) else None
            if made is not None:
                ops += made
                continue
            trips = Trips.of(op, self.integers) if isinstance(op, For) else None
            inside = (*around, trips) if trips else around
            ops.append(with_blocks(op, lambda one, inside=inside: self.block(one, inside)))  # type: ignore[misc]
        return Block(block.params, ops, block.yields)

    def loop(self, loop: For, around: Around) -> list[Op] | None:
        """An innermost loop and the additions after it; None if there is nothing to sum up."""
        if not isinstance(loop.step, Const) or abs(loop.step.value) != 1 or loop.vector:
            return None
        if not all(isinstance(op, Apply) for op in loop.body.ops):
            return None
        body = Body(loop, self.integers)
        carried = body.carried() if body.plain else []
        found = [one for one in carried if self.place(one, body) is not None]
        others = [one for one in carried if one not in found]
        if not found or not is_independent(others):
            return None
        made: list[Op] = []
        for one in found:
            place = self.place(one, body)
            assert place is not None
            loop = self.summed(loop, one, place, around, made)
        return [loop, *made]

    def place(self, one: Carried, body: Body) -> Index | None:
        """The element to which alone all trips add."""
        places = {access.index for access in one.writes}
        if not one.whole or one.reads or len(places) != 1 or one.param.type.dtype != "float64":
            return None
        for access in one.writes:
            adds = access.op.primitive.function is ADD_ITEM
            if not adds or access.value.type.dtype != "float64":
                return None
        (place,) = places
        inside = {value for op in body.loop.body.ops for value in op.results} | {body.index}
        if any(value in inside for entry in place for value, _ in entry.terms):
            return None
        return place

    def summed(
        self, loop: For, one: Carried, place: Index, around: Around, after: list[Op]
    ) -> For:
        """The loop with a number in the place of an array."""
        k = loop.body.params.index(one.param) - 1
        result, init = loop.results[k], loop.inits[k]
        name = f"{one.param.name or 'value'}_sum"
        total, last = (Value(Scalar("float64"), name, kept=True) for _ in range(2))
        terms = {access.op: access.value for access in one.writes}
        ops: list[Op] = []
        now = total
        for op in loop.body.ops:
            if op not in terms or not isinstance(op, Apply):
                ops.append(op)
                continue
            with self.builder.inside(Block((), ops)), self.builder.at(op.origin):
                step = twin(total)
                given = [symbol_of(each, self.builder) for each in (now, terms[op])]
                call_into(step, operator.add, given, self.builder)
                now = step
        self.add(loop, (init, result, last), place, around, after)
        body = Block(
            _put(loop.body.params, k + 1, total), ops, _put(loop.body.yields, k, now)
        )
        inits, results = _put(loop.inits, k, Const(0.0)), _put(loop.results, k, last)
        return replace(loop, inits=inits, body=body, results=results)

    def add(
        self, loop: For, given: tuple[Operand, Value, Value], place: Index, around: Around,
        after: list[Op],
    ) -> None:  # fmt: skip
        """`array[place] += total`, if there has been a trip."""
        init, result, total = given
        exists = all(
            never_below_zero(entry, around)
            and never_above(highest(entry, around).plus(number(1)), size)
            for entry, size in zip(place, init.type.shape, strict=True)
        )
        ops: list[Op] = []
        made = result if exists else twin(result)
        with self.builder.inside(Block((), ops)), self.builder.at(loop.origin):
            entries = [rebuilt(entry, self.builder) for entry in place]
            index = entries[0] if len(entries) == 1 else tuple(entries)
            args = (symbol_of(init, self.builder), symbol_of(total, self.builder), index)
            call_into(made, ADD_ITEM, args, self.builder)
        if exists:
            after += ops
            return
        assert isinstance(loop.step, Const)
        up = loop.step.value > 0
        bounds = (loop.start, loop.stop) if up else (loop.stop, loop.start)
        with self.builder.inside(Block((), after)), self.builder.at(loop.origin):
            low, high = (
                shifted(bound, 0 if up else 1, self.integers.made, self.builder)
                for bound in bounds
            )
            some = operand_of(apply_function(operator.gt, (high, low), {}, self.builder))
        then, orelse = Block((), ops, (made,)), Block((), [], (init,))
        after.append(If(some, then, orelse, (result,), origin=loop.origin))


def _put(items: tuple[Any, ...], k: int, item: Any) -> tuple[Any, ...]:
    return (*items[:k], item, *items[k + 1 :])
