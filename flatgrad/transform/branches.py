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
    ["add", "subtract", "sub", "neg", "negative", "pos", "positive", "absolute", "abs", "fabs", "maximum", "minimum", "fmax", "fmin", "clip", "tanh", "arctan", "atan", "arcsinh", "asinh", "sigmoid", "relu", "leaky_relu", "softplus", "elu", "normal_cdf", "copysign", "identity", "astype", "float", "float32", "float64", "deg2rad", "rad2deg", "degrees", "radians", "nan_to_num", "erf", "erfc"]
)
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
