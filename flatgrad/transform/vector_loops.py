"""Innermost loops whose trips do not depend on each other run upwards, several trips at a time.

    for i in range(n - 1, -1, -1):              for i in range(n):
        s = S * np.exp(z[i])                        s = S * exp_f64(z[i])
        if s > K:                       ->          grad_S = plus(grad_S, s if s > K else 0.0)
            grad_S += s

The mark on the loop says that functions are written in the form that vectorises, and `plus` that
the terms of a sum may be added in any order. What is added to the neighbours of an element is
gathered (`gather.py`). Where that is not certain, the loop stays as it is.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace

from flatgrad.analysis.affine import Integers
from flatgrad.analysis.independent import Body, Carried, is_independent
from flatgrad.analysis.ranges import Trips, never_below_zero
from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Function,
    If,
    Op,
    While,
)
from flatgrad.primitives.core import PLUS
from flatgrad.primitives.symbolic import apply_function, operand_of, symbol_of
from flatgrad.transform.building import call_into, shifted
from flatgrad.transform.clone import all_ops, with_blocks
from flatgrad.transform.dce import swept
from flatgrad.transform.gather import Gathering, Workspaces
from flatgrad.transform.select import with_choices
from flatgrad.transform.wide_sums import with_wide_sums


def vectorize_loops(fn: Function) -> Function:
    """The function with its innermost loops in a form that vectorises, where they can be."""
    integers = Integers.of_function(fn)
    builder = Builder(Block(fn.params), fn.lengths)
    walk = _Walk(integers, Workspaces(builder), builder)
    return replace(fn, body=walk.closed(fn.body, ()))


@dataclass(slots=True)
class _Walk:
    """One walk over all blocks, outermost first; `around` are the loops around a block."""

    integers: Integers
    workspaces: Workspaces
    builder: Builder

    def block(self, block: Block, around: tuple[Trips, ...]) -> Block:
        ops: list[Op] = []
        for op in block.ops:
            match op:
                case Apply():
                    ops.append(op)
                case If():
                    ops.append(with_blocks(op, lambda one: self.closed(one, around)))
                case While():
                    ops.append(with_blocks(op, lambda one: self.closed(one, ())))
                case For():
                    ops += self.loop(op, around)
        return Block(block.params, ops, block.yields)

    def closed(self, block: Block, around: tuple[Trips, ...]) -> Block:
        """A block out of which no workspace is taken."""
        return self.workspaces.allocated(self.block(block, around))

    def loop(self, op: For, around: tuple[Trips, ...]) -> list[Op]:
        """The loops in the place of one, and what they need before them."""
        if op.vector:
            return [op]
        trips = Trips.of(op, self.integers)
        if trips is None:
            return [with_blocks(op, lambda one: self.closed(one, ()))]
        inner = (*around, trips)
        if any(isinstance(nested, For | While) for nested in all_ops(op.body)):
            return [self.workspaces.widened(replace(op, body=self.block(op.body, inner)))]
        return self.innermost(op, inner) or [op]

    def innermost(self, op: For, around: tuple[Trips, ...]) -> list[Op] | None:
        if any(isinstance(nested, If) for nested in op.body.ops):
            op = replace(op, body=swept(with_choices(op.body)))
        if not (isinstance(op.step, Const) and abs(op.step.value) == 1):
            return None
        body = Body(op, self.integers)
        if not body.plain or not op.body.ops:
            return None
        carried = body.carried()
        own = [one for one in carried if body.has_own_places(one, around)]
        others = [one for one in carried if one not in own]
        if not all(one.kind != "chain" and self.is_safe(one, around) for one in others):
            return None
        before: list[Op] = []
        with self.builder.inside(Block((), before)):
            self.builder.origin = op.origin
            op = self.upwards(op)
        self.integers.note(Block((), before))
        after: list[Op] = []
        if is_independent(others):
            sums = {one.param for one in carried if one.kind == "sum"}
            early, op, after = with_wide_sums(op, sums, {}, self.builder)
            carried = Body(op, self.integers).carried()
            before += early
        op = replace(op, body=with_sums(op.body, carried, self.builder), vector=True)
        if is_independent(others):
            return [*before, op, *after]
        found = Gathering(op, carried, self.integers, self.builder, around).loops()
        if found is None:
            return None
        self.workspaces.add(found.rows)
        return [*before, *found.ops]

    def is_safe(self, carried: Carried, around: tuple[Trips, ...]) -> bool:
        """Whether different indices are different elements: none counts from the end."""
        accesses = (*carried.reads, *carried.writes)
        return all(never_below_zero(entry, around) for one in accesses for entry in one.index)

    def upwards(self, op: For) -> For:
        """The same trips from the lowest index to the highest."""
        assert isinstance(op.step, Const)
        if op.step.value == 1:
            return op
        start, stop = (
            operand_of(shifted(bound, 1, self.integers.made, self.builder))
            for bound in (op.stop, op.start)
        )
        return replace(op, start=start, stop=stop, step=Const(1))


def with_sums(body: Block, carried: list[Carried], builder: Builder) -> Block:
    """The body with `plus` where a sum grows."""
    steps = {step for one in carried if one.kind == "sum" for step in one.steps}
    ops: list[Op] = []
    for op in body.ops:
        if op not in steps or not isinstance(op, Apply) or op.result.type.dtype != "float64":
            ops.append(op)
            continue
        total, term = op.operands
        with builder.inside(Block((), ops)):
            builder.origin = op.origin
            given = symbol_of(term, builder)
            if op.primitive.function is operator.sub:
                if term.type.dtype != "float64":
                    given = apply_function(operator.mul, (given, 1.0), {}, builder)
                given = apply_function(operator.neg, (given,), {}, builder)
            call_into(op.result, PLUS, (symbol_of(total, builder), given), builder)
    return Block(body.params, ops, body.yields)
