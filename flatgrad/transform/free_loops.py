"""Loops whose indices are looked at before them, and not in every trip.

    for i in range(n):                        if 0 < n and k + n > w.shape[0]:
        y[i] = tanh_f64(w[k + i])                 raise IndexError("index is out of bounds")
                                    ->        for i in range(n):
                                                  y[i] = tanh_f64(w[k + i])

Compiled code checks each index, as a user's may be wrong, and a check that may raise an error keeps
LLVM from making several trips at a time. In a loop whose trips do not depend on each other, and
whose indices are sums that move with the trips, the greatest is known before it. What lengths prove
is not asked. The loop is marked; the text says nothing else of it.
"""

from __future__ import annotations

import operator
from dataclasses import replace

from flatgrad.analysis.affine import Affine, Integers, number
from flatgrad.analysis.independent import WRITES, Body, element_index, is_independent
from flatgrad.analysis.ranges import Trips, never_above, never_below_zero
from flatgrad.ir.builder import Builder
from flatgrad.ir.dims import Size
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Function,
    If,
    Op,
    Operand,
    Value,
    While,
    size_of,
)
from flatgrad.primitives.core import REQUIRE_WITHIN, TRIPS
from flatgrad.primitives.symbolic import DIM, apply_function, symbol_of
from flatgrad.transform.building import rebuilt
from flatgrad.transform.clone import all_ops, with_blocks
from flatgrad.transform.fuse_spaces import is_heavy

Test = tuple[Affine, Size, Value, int]
"""A sum that must be at most a length, which is that of an axis of an array."""


def free_loops(fn: Function) -> Function:
    """The function with such loops, where there is something to win.

    They stand in loops over steps, and have elementary functions or several places of an array.
    """
    walk = _Walk(Integers.of_function(fn), Builder(Block(fn.params), fn.lengths))
    return replace(fn, body=walk.block(fn.body, ()))


class _Walk:
    """One walk over all blocks; `around` are the loops around a block."""

    def __init__(self, integers: Integers, builder: Builder) -> None:
        self.integers = integers
        self.builder = builder

    def block(self, block: Block, around: tuple[Trips, ...] | None) -> Block:
        ops: list[Op] = []
        for op in block.ops:
            match op:
                case Apply():
                    ops.append(op)
                case For():
                    ops += self.loop(op, around)
                case If():
                    ops.append(with_blocks(op, lambda inner: self.block(inner, around)))
                case While():
                    ops.append(with_blocks(op, lambda inner: self.block(inner, None)))
        return Block(block.params, ops, block.yields)

    def loop(self, op: For, around: tuple[Trips, ...] | None) -> list[Op]:
        if op.apart:
            return [op]
        trips = Trips.of(op, self.integers)
        if trips is None or around is None:
            return [with_blocks(op, lambda inner: self.block(inner, None))]
        inside = (*around, trips)
        if any(isinstance(one, For | While) for one in all_ops(op.body)):
            return [with_blocks(op, lambda inner: self.block(inner, inside))]
        if not around or not op.vector:
            return [op]
        tests = self.tests(op, inside)
        if tests is None:
            return [op]
        before: list[Op] = []
        with self.builder.inside(Block((), before)):
            self.builder.origin = op.origin
            for most, _, array, axis in tests:
                self.require(op, most, array, axis)
        return [*before, replace(op, free=True)]

    def require(self, op: For, most: Affine, array: Value, axis: int) -> None:
        length = apply_function(DIM, (symbol_of(array, self.builder), axis), {}, self.builder)
        bounds = [symbol_of(bound, self.builder) for bound in (op.start, op.stop)]
        given = (*bounds, rebuilt(most, self.builder), length)
        apply_function(REQUIRE_WITHIN, given, {}, self.builder)

    def tests(self, op: For, around: tuple[Trips, ...]) -> list[Test] | None:
        """What must hold before the loop; None where that cannot be told, or trips depend."""
        body = Body(op, self.integers)
        if not body.plain or not _is_one(op.step):
            return None
        carried = body.carried()
        several = [one for one in carried if not is_independent((one,))]
        if not all(body.has_own_places(one, around) for one in several):
            return None
        if not several and not any(isinstance(one, Apply) and is_heavy(one) for one in op.body.ops):
            return None
        inside = {value for one in op.body.ops for value in one.results} | {*op.body.params}
        arrays = dict(zip(op.body.params[1:], op.inits, strict=True))
        found: list[Test] = []
        for one in op.body.ops:
            if not isinstance(one, Apply):
                return None
            if one.primitive.function in WRITES:
                arrays[one.result] = arrays.get(one.operands[0], one.operands[0])  # type: ignore[arg-type]
            elif one.primitive.function is not operator.getitem:
                continue
            index = element_index(one, self.integers)
            if index is None:
                return None
            base = one.operands[0]
            array = arrays.get(base, base)  # type: ignore[arg-type]
            for axis, entry in enumerate(index):
                most = _most(entry, around[-1])
                if any(value in inside for value, _ in most.terms) or array in inside:
                    return None
                if not never_below_zero(entry, around):
                    return None
                size = base.type.shape[axis]
                if not self.is_within(most, size, around):
                    assert isinstance(array, Value)
                    found.append((most, size, array, axis))
        return _strongest(found, around)

    def is_within(self, most: Affine, size: Size, around: tuple[Trips, ...]) -> bool:
        """Whether a sum is at most a length, for all lengths: as such, or as of that many trips."""
        highest = most
        for one in reversed(around):
            highest = _most(highest, one, least=0)
        if never_above(highest, size):
            return True
        for op in self.integers.made.values():
            if op.primitive.function is TRIPS and size_of(op.result) == size:
                start, stop, step = map(self.integers.of, op.operands)
                if start == number(0) and step == number(1):
                    return never_below_zero(stop.plus(most, -1), around)
        return False


def _is_one(step: Operand) -> bool:
    return isinstance(step, Const) and step.value == 1


def _most(entry: Affine, trips: Trips, least: int = 1) -> Affine:
    """One more than an index at most is in the trips of a loop (`least=0`: the sum itself)."""
    factor = entry.factor(trips.index)
    if factor:
        bound = trips.highest if factor > 0 else trips.lowest
        index = Affine(frozenset({(trips.index, 1)}))
        entry = entry.plus(bound.plus(index, -1), factor)
    return entry.plus(number(least))


def _strongest(tests: list[Test], around: tuple[Trips, ...]) -> list[Test]:
    """Those that no other implies."""
    kept: list[Test] = []
    for test in dict.fromkeys(tests):
        most, size, *_ = test
        rest = [one for one in kept if one[1] == size]
        if any(never_below_zero(one[0].plus(most, -1), around) for one in rest):
            continue
        kept = [
            one for one in kept
            if one not in rest or not never_below_zero(most.plus(one[0], -1), around)
        ]  # fmt: skip
        kept.append(test)
    return kept
