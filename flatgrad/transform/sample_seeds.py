"""Blocks of samples whose adjoints may be subnormal are run with a seed 2**400 times as large.

    for block in range(blocks):               for attempt in range(2):
        w = np.exp(-s)                            scale = 2.0**400 if attempt == 0 else 1.0
        grad_y = grad_total * w * y               grad_total_1 = grad_total * scale
        grad_F += einsum(grad_y, c)     ->        for block in range(blocks):
                                                      ...          # grad_total_1
                                                  grad_F = grad_F_1 * (1.0 / scale)
                                                  if np.isfinite(np.sum(grad_F)):
                                                      break

As in `strip_seeds.py`, for statements on arrays: what is proportional to the seed has degree 1, all
else 0, and nothing may be neither. Where something overflows on the way, infinity or NaN reaches
what leaves the loop, and all blocks are done once more with the seed as it is.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from flatgrad.analysis.activity import slots
from flatgrad.analysis.nests import FLOATS
from flatgrad.ir.builder import Builder
from flatgrad.ir.copies import twin
from flatgrad.ir.ops import Apply, Block, Const, For, Op, Operand, Value
from flatgrad.ir.types import Scalar
from flatgrad.primitives.einsum import EINSUM
from flatgrad.primitives.symbolic import Symbol, apply_function, operand_of, symbol_of
from flatgrad.transform.batch_axes import is_view
from flatgrad.transform.building import call_into
from flatgrad.transform.clone import rewired_block
from flatgrad.transform.fuse_spaces import PASSING, data_operands, is_reduction
from flatgrad.transform.sample_axes import Samples
from flatgrad.transform.strip_seeds import FADING, SCALE, SINGLE_SCALE, times

SUMS = ("add", "sub", "subtract", "neg", "negative", "pos", "positive")
"""What has the degree of all its operands."""


class Seeds:
    """The seeds of the adjoints of a block, and the degree of each member's result."""

    def __init__(self, samples: Samples) -> None:
        self.samples = samples
        self.inverse = Value(Scalar("float64"), "inverse", kept=True)
        self.found: list[Value] = []
        self.degree: dict[Any, int | None] = {}
        numbers = self.numbers()
        self.fits = self.pays() and (
            self.try_seeds([value for value in numbers if value.of is not None])
            or self.try_seeds(numbers)
        )

    def numbers(self) -> list[Value]:
        """Numbers of the backward sweep that are read in the loop: adjoints, or made of them."""
        own = {member.result for member in self.samples.members}
        read = dict.fromkeys(v for member in self.samples.members for v in member.operands)
        found = []
        for value in read:
            if isinstance(value, Value) and not value.type.ndim and value not in own:
                op = self.samples.maker.get(value)
                later = value.of is not None or (op is not None and op.origin.sweep == "backward")
                found += [value] if later and value.type.dtype in FLOATS else []
        return found

    def try_seeds(self, seeds: list[Value]) -> bool:
        """Whether all that is done has a degree with these seeds, and a result is proportional."""
        self.found, self.degree = seeds, dict.fromkeys(seeds, 1)
        if not seeds or not all(map(self.note, self.samples.members)):
            return False
        return any(self.of(value) == 1 for value in (*self.samples.totals, *self.samples.kept))

    def pays(self) -> bool:
        return any(member.primitive.name in FADING for member in self.samples.members)

    def of(self, operand: Operand) -> int | None:
        """The degree; None for 0.0, which has any."""
        if isinstance(operand, Const):
            return None if operand.value == 0 else 0
        return self.degree.get(operand, 0)

    def note(self, op: Apply) -> bool:
        """Find the degree of a result; False if there is none."""
        name, data = op.primitive.name, list(data_operands(op))
        degrees = [self.of(operand) for operand in data]
        known = {one for one in degrees if one is not None}
        result: int | None
        if known <= {0}:
            result = 0
        elif name in ("mul", "multiply") or op.primitive.function is EINSUM:
            if None in degrees:
                return False
            result = sum(one or 0 for one in degrees)
        elif name in ("truediv", "divide"):
            result = degrees[0] if degrees[1] == 0 else 2
        elif name in SUMS or op.primitive.function in PASSING or is_view(op):
            result = 1 if known == {1} else 2
        elif op.primitive.function is np.where:
            chosen = {one for one in degrees[1:] if one is not None}
            result = 1 if degrees[0] == 0 and chosen == {1} else 2
        elif is_reduction(op):
            result = 1 if op.primitive.function in (np.sum, np.mean) else 2
        else:
            result = 2
        self.degree[op.result] = result
        return result in (0, 1)

    # The loop of two trips.

    def attempts(self, loop: For, builder: Builder) -> list[Op]:
        """The loop over blocks for larger seeds, and once more if something overflows."""
        attempt = Value(Scalar("int64", weak=True), "attempt", kept=True)
        carried = list(slots(loop))
        params = [twin(result) for *_, result in carried]

        def make(function: Callable[..., Any], *args: Any) -> Any:
            return apply_function(function, args, {}, builder)

        ops: list[Op] = []
        with builder.inside(Block((), ops)):
            single = any(one.result.type.dtype == "float32" for one in self.samples.members)
            large = SINGLE_SCALE if single else SCALE
            scale = make(np.where, Symbol(attempt, builder) == 0, large, 1.0)
            scale.value.name, scale.value.kept = "scale", True
            call_into(self.inverse, operator.truediv, (1.0, scale), builder)
            larger: dict[Value, Operand] = {}
            for seed in self.found:
                made = times(Symbol(seed, builder), scale)
                made.value.name, made.value.of = seed.name, seed.of
                larger[seed] = made.value
            inits = [
                self.start(init, result, param, make, builder)
                for (init, _, _, result), param in zip(carried, params, strict=True)
            ]
            results = tuple([twin(result) for *_, result in carried])
            body = rewired_block(loop.body, larger)
            ops.append(replace(loop, inits=tuple(inits), body=body, results=results))
            yields, numbers = [], []
            for made, (*_, result) in zip(results, carried, strict=True):
                symbol: Any = Symbol(made, builder)
                if self.of(result) == 1:
                    if result in self.samples.totals:
                        symbol = symbol * Symbol(self.inverse, builder)
                        symbol.value.name, symbol.value.kept = result.name, True
                    numbers.append(make(np.sum, symbol) if symbol.ndim else symbol)
                yields.append(operand_of(symbol))
            total = numbers[0]
            for number in numbers[1:]:
                total = total + number
            finite = operand_of(make(np.isfinite, total))
        block = Block((attempt, *params), ops, (finite, *yields))
        two = Const(0), Const(2), Const(1)
        return [
            For(
                *two, loop.inits, block, tuple([result for *_, result in carried]), exits=True,
                origin=loop.origin,
            )
        ]  # fmt: skip

    def start(
        self, init: Operand, result: Value, param: Value, make: Callable[..., Any], builder: Builder
    ) -> Operand:
        """What the blocks add to, or fill."""
        if result in self.samples.kept:
            return param
        if not result.type.ndim:
            return init
        made = make(np.zeros_like, symbol_of(init, builder))
        made.value.name = result.name
        return operand_of(made)

