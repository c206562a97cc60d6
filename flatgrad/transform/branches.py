"""No NaN from the branch that `np.where` did not take: an adjoint that is 0 there stays 0.

    y = np.where(x > 0, log_x, 0.0)      grad_log_x = np.where(x > 0, grad_y, 0.0)
    log_x = np.log(x)              ->    grad_x = np.where(x > 0, grad_log_x / x, 0.0)

Without the second `where`, the gradient at 0 would be 0 / 0. It is written only after operations
whose slope can be infinite or NaN.
"""

from __future__ import annotations

import operator
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Apply, Const, Operand, Value
from flatgrad.primitives.symbolic import symbol_of

Masks = tuple[tuple[Value, bool], ...]
"""Conditions and the truth they have where an adjoint may differ from 0."""

BOUNDED = frozenset(
    {
        "add", "subtract", "sub", "neg", "negative", "pos", "positive", "absolute", "abs",
        "fabs", "maximum", "minimum", "fmax", "fmin", "clip", "tanh", "arctan", "atan",
        "arcsinh", "asinh", "sigmoid", "relu", "leaky_relu", "softplus", "elu", "normal_cdf",
        "copysign", "identity", "astype", "float", "float32", "float64", "deg2rad", "rad2deg",
        "degrees", "radians", "nan_to_num", "erf", "erfc",
    }
)  # fmt: skip
"""Operations whose partial derivatives are finite for all finite and infinite operands."""


@dataclass(slots=True)
class Branches:
    """Which adjoints are known to be 0 under which conditions."""

    builder: Builder
    masks: dict[Value, Masks] = field(default_factory=dict)
    coming: dict[Value, list[Masks]] = field(default_factory=lambda: defaultdict(list))

    def passed(self, op: Apply, operand: Value, contribution: Any) -> Any:
        """The contribution of `op` to an operand, 0 wherever the adjoint of its result is."""
        masks = self.masks.get(op.result, ())
        same_shape = operand.type.shape == op.result.type.shape
        if op.primitive.function is np.where:
            found = self.of_where(op, operand) if same_shape else ()
            self.coming[operand].append(masks + found if found else ())
            return contribution
        keeps = op.primitive.elementwise or op.primitive.name in BOUNDED
        self.coming[operand].append(masks if keeps and same_shape else ())
        if not (masks and op.primitive.elementwise and has_poles(op)):
            return contribution
        for condition, truth in masks:
            mask = symbol_of(condition, self.builder)
            branches = (contribution, 0.0) if truth else (0.0, contribution)
            contribution = np.where(mask, *branches)
        return contribution

    def of_where(self, op: Apply, operand: Value) -> Masks:
        """Where the adjoint of a branch can differ from 0."""
        condition, *branches = [self.argument(op, name) for name in ("condition", "a", "b")]
        if not isinstance(condition, Value) or branches[0] is branches[1]:
            return ()
        return ((condition, branches[0] is operand),)

    def argument(self, op: Apply, name: str) -> Operand:
        """An operand by its name."""
        return op.operands[op.arguments[name].index]

    def settled(self, value: Value, contributions: int) -> None:
        """All contributions to an adjoint are there; a single one hands on its conditions.

        What came through a loop or a branch of the program has passed here unseen.
        """
        coming = self.coming.pop(value, [])
        if contributions == 1 and len(coming) == 1 and coming[0]:
            self.masks[value] = coming[0]

    def mixed(self, value: Value) -> None:
        """A contribution that is a sum of several holds under no one condition."""
        self.coming[value].append(())


def has_poles(op: Apply) -> bool:
    """Whether a slope of `op` may be infinite or NaN."""
    if op.primitive.function in (operator.mul, operator.truediv):
        divisor_or_factor = op.operands[1]
        return not isinstance(divisor_or_factor, Const) and not (
            op.primitive.function is operator.mul and isinstance(op.operands[0], Const)
        )
    return op.primitive.name not in BOUNDED


def where_once(s: Any, op: Apply) -> Any:
    """A rewrite: `where(c, where(c, g, 0.0) / x, 0.0)` is `where(c, g / x, 0.0)`.

    Not for numbers: `where` makes an array of one, which divides by 0 where a Python float raises.
    """
    condition, *branches = s.symbols(op)
    for place, branch in enumerate(branches):
        if op.result.type.ndim and is_zero(branches[1 - place]):
            inner = unmasked(s, branch, op.operands[0], place)
            if inner is not None:
                return s.call(np.where, condition, *((inner, 0.0) if place == 0 else (0.0, inner)))
    return None


def unmasked(s: Any, x: Any, condition: Operand, place: int) -> Any:
    """A product with the factor `where(condition, g, 0.0)` at its front, with `g` instead."""
    masked = s.definition(x, np.where)
    if masked is not None and masked.operands[0] is condition:
        branches = s.symbols(masked)[1:]
        return branches[place] if is_zero(branches[1 - place]) else None
    for function in (operator.mul, operator.truediv, operator.neg):
        outer = s.definition(x, function)
        if outer is not None and s.single(outer):
            first, *rest = s.symbols(outer)
            inner = unmasked(s, first, condition, place)
            return None if inner is None else s.call(function, inner, *rest)
    return None


def is_zero(branch: Any) -> bool:
    """Whether an operand is the number 0."""
    return isinstance(branch, int | float) and branch == 0
