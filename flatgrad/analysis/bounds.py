"""A number that a value is never below, from the operations that make it.

    1 + x * x          1.0
    x**2 + np.exp(y)   0.0
    x + 1              nothing is known

NaN is below nothing.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping

import numpy as np

from flatgrad.ir.ops import Apply, Const, Operand
from flatgrad.primitives.core import IDENTITY

LOWEST = {
    "exp": 0.0, "abs": 0.0, "absolute": 0.0, "sigmoid": 0.0, "square": 0.0, "cosh": 1.0,
    "tanh": -1.0, "sin": -1.0, "cos": -1.0,
}  # fmt: skip
DEEPEST = 20
"""Operations that are looked through."""


def least(value: Operand, made: Mapping[Operand, Apply], deep: int = DEEPEST) -> float:
    """The bound; `made` are the operations by their results."""
    if isinstance(value, Const):
        return float(value.value) if isinstance(value.value, int | float) else -math.inf
    op = made.get(value)
    if op is None or not deep or not value.type.dtype.startswith("float"):
        return -math.inf
    function, given = op.primitive.function, op.operands
    if op.primitive.name in LOWEST:
        return LOWEST[op.primitive.name]
    if function is IDENTITY:
        return least(given[0], made, deep - 1)
    if function is np.sum:
        return 0.0 if least(given[0], made, deep - 1) >= 0 else -math.inf
    if function is operator.pow:
        even = isinstance(given[1], Const) and given[1].value in (2, 4, 6)
        return 0.0 if even else -math.inf
    if function not in (operator.add, operator.mul):
        return -math.inf
    if function is operator.mul and given[0] is given[1]:
        return 0.0
    a, b = (least(one, made, deep - 1) for one in given)
    if function is operator.add:
        return a + b
    return a * b if min(a, b) >= 0 else -math.inf
