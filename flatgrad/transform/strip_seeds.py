"""Nests whose adjoints may be subnormal are run with a seed that is 2**400 times as large.

    for i in range(n):                        for attempt in range(2):
        w = np.exp(-x[i])                         scale = 2.0**400 if attempt == 0 else 1.0
        grad_w = grad_total * w                   grad_total_1 = grad_total * scale
        for a in range(d):              ->        grad_m_1 = np.zeros_like(grad_m)
            grad_m[a] += grad_w * y[a]            for i in range(n):
                                                      ...     # grad_total_1, grad_m_1
                                                  grad_m = grad_m + grad_m_1 / scale
                                                  if np.isfinite(np.sum(grad_m_1)):
                                                      break

Weights of what is far away, `exp(-720)`, are subnormal numbers, with which a processor multiplies a
hundred times slower, and in a nest each meets a whole loop. All adjoints are proportional to the
seed (`analysis/homogeneous.py`), and a power of two changes no digit. Only what is larger than
1e187 overflows on the way: that leaves infinity or NaN in a sum, as only sums leave the nest, and
then it runs once more with the seed as it is. With float32 it is 2**64, and what exceeds 1.8e19.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from flatgrad.analysis.activity import slots
from flatgrad.analysis.homogeneous import Degrees, Mixed
from flatgrad.analysis.nests import FLOATS, Nest
from flatgrad.ir.builder import Builder
from flatgrad.ir.copies import twin
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Function,
    Op,
    Operand,
    Value,
    all_reads,
    blocks_of,
)
from flatgrad.primitives.core import ASTYPE
from flatgrad.primitives.symbolic import apply_function, operand_of, symbol_of
from flatgrad.transform.clone import all_ops, rewired_block
from flatgrad.transform.strip_lanes import INT
from flatgrad.transform.strip_rows import OWN

SCALE = 2.0**400
SINGLE_SCALE = 2.0**64
"""Where there is float32, of which numbers from 1e-45 to 1e-38 are subnormal."""
FADING = frozenset("exp exp2 sigmoid softplus silu gelu erfc normal_cdf".split())  # noqa: SIM905
"""Functions whose values may be subnormal."""

Built = Callable[[For], list[Op]]


def with_large_seeds(loop: For, nest: Nest, fn: Function, build: Built) -> list[Op] | None:
    """A nest for larger seeds, which `build` writes, and what stands around it.

    None where that is not certainly right, or wins nothing.
    """
    seeds = _seeds(loop, nest)
    try:
        degrees = Degrees(nest, seeds)
    except Mixed:
        return None
    sums = _sums(loop, nest, degrees)
    if not sums or not pays(loop, degrees):
        return None
    return _Attempts(loop, nest, fn, seeds, sums).build(build)


def _sums(loop: For, nest: Nest, degrees: Degrees) -> set[Value] | None:
    """What grows with the seeds and leaves the nest, if all else that leaves it are numbers."""
    found = set()
    for _, param, item, _ in slots(loop):
        thread = nest.threads.get(param)
        if item is param or (thread is not None and thread.kind in OWN):
            continue
        if degrees.found.get(degrees.key(param)) == 1:
            found.add(param)
        if thread is not None and (thread.kind != "added" or param not in found):
            return None
    return found


def _seeds(op: For, nest: Nest) -> list[Value]:
    """The adjoints that a nest reads from outside, if they are numbers."""
    read = dict.fromkeys(one for one in all_reads(op.body) if isinstance(one, Value))
    outside = [value for value in read if value not in nest.inside]
    numbers = [one for one in outside if one.type.dtype in FLOATS and not one.type.ndim]
    return [one for one in numbers if _is_adjoint(one, nest)]


def _is_adjoint(value: Value, nest: Nest) -> bool:
    """Whether a number is an adjoint, or one in another dtype."""
    made = nest.integers.made.get(value)
    if made is not None and made.primitive.function is ASTYPE:
        return made.operands[0] in nest.integers.made and _is_adjoint(made.operands[0], nest)
    return value.of is not None


def pays(loop: For, degrees: Degrees) -> bool:
    """Whether there may be subnormal adjoints, and many products with each."""
    names = {one.primitive.name for one in all_ops(loop.body) if isinstance(one, Apply)}
    return bool(names & FADING) and any(_multiplies_deep(op, degrees) for op in loop.body.ops)


def _multiplies_deep(op: Op, degrees: Degrees) -> bool:
    """Whether an adjoint is multiplied in a loop inside a loop."""

    def products(block: Block) -> bool:
        return any(
            isinstance(one, Apply) and one.primitive.name == "mul" and degrees.of(one.result) == 1
            for one in all_ops(block)
        )

    inner = [one for block in blocks_of(op) for one in block.ops if isinstance(one, For)]
    return isinstance(op, For) and any(products(one.body) for one in inner)


def times(value: Any, power: Any) -> Any:
    """A number or array times a power of two, in its own dtype."""
    if value.type.dtype == "float32":
        power = apply_function(ASTYPE, (power, np.float32), {}, power.builder)
    return value * power


class _Attempts:
    """The loop of two trips around a nest."""

    def __init__(
        self, loop: For, nest: Nest, fn: Function, seeds: list[Value], sums: set[Value]
    ) -> None:
        self.loop, self.nest, self.seeds, self.sums = loop, nest, seeds, sums
        self.builder = Builder(Block(), fn.lengths)
        self.origin = replace(loop.origin, span=None)

    def symbol(self, operand: Operand) -> Any:
        return symbol_of(operand, self.builder)

    def make(self, function: Any, *args: Any, name: str | None = None) -> Any:
        made = apply_function(function, args, {}, self.builder)
        if name is not None:
            made.value.name, made.value.kept = name, True
        return made

    def build(self, build: Built) -> list[Op]:
        """The loop, of which the first trip is the last unless something overflows."""
        attempt = Value(INT, "attempt", kept=True)
        ops: list[Op] = []
        leaving = [slot for slot in slots(self.loop) if self.leaves(slot[1])]
        with self.builder.inside(Block((), ops)):
            self.builder.origin = self.origin
            large = SINGLE_SCALE if self.has_singles() else SCALE
            scale = self.make(np.where, self.symbol(attempt) == 0, large, 1.0, name="scale")
            inner, results = self.scaled(scale)
            ops += build(inner)
            self.builder.origin = self.origin
            grown = {param: self.symbol(results[param]) for _, param, _, _ in leaving}
            finite = self.all_finite([grown[p] for _, p, _, _ in leaving if p in self.sums])
            back = self.make(operator.truediv, 1.0, scale, name="inverse")
            yields = [
                operand_of(self.added(init, grown[p], back) if p in self.sums else grown[p])
                for init, p, _, _ in leaving
            ]
        params = (attempt, *[twin(param) for _, param, _, _ in leaving])
        body = Block(params, ops, (operand_of(finite), *yields))
        inits = tuple([init for init, _, _, _ in leaving])
        made = tuple([result for _, _, _, result in leaving])
        two = Const(0), Const(2), Const(1)
        return [For(*two, inits, body, made, exits=True, origin=self.origin)]

    def has_singles(self) -> bool:
        """Whether anything in the nest is float32, whose range ends much earlier."""
        return any(value.type.dtype == "float32" for value in self.nest.inside)

    def added(self, init: Operand, grown: Any, back: Any) -> Any:
        """What a sum starts from and what the nest adds to it."""
        grown = times(grown, back)
        return grown if self.nest.is_zero(init) else self.symbol(init) + grown

    def leaves(self, param: Value) -> bool:
        """Whether something that the nest carries is read behind it: sums and what is added to."""
        thread = self.nest.threads.get(param)
        return thread is None or thread.kind not in OWN

    def scaled(self, scale: Any) -> tuple[For, dict[Value, Value]]:
        """The nest that reads larger seeds and starts from 0, and its results by parameter."""
        larger: dict[Value, Operand] = {}
        for seed in self.seeds:
            made = times(self.symbol(seed), scale)
            made.value.name, made.value.of = seed.name, seed.of
            larger[seed] = made.value
        inits, results = [], {}
        for init, param, _, result in slots(self.loop):
            results[param] = twin(result)
            if param not in self.sums:
                inits.append(init)
            elif param.type.ndim:
                zeros = self.make(np.zeros_like, self.symbol(init))
                zeros.value.name = param.name
                inits.append(zeros.value)
            else:
                inits.append(Const(0.0))
        body = rewired_block(self.loop.body, larger)
        loop = replace(self.loop, inits=tuple(inits), body=body, results=tuple(results.values()))
        return loop, results

    def all_finite(self, sums: list[Any]) -> Any:
        """Whether neither infinity nor NaN is in any of the sums."""
        numbers = [self.make(np.sum, one) if one.ndim else one for one in sums]
        total = numbers[0]
        for number in numbers[1:]:
            total = total + number
        return self.make(np.isfinite, total)
