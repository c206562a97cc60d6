"""Products of matrices of which one may hold subnormal numbers.

    TINY_LEFT(a, b), TINY_RIGHT(a, b)       a @ b; the numbers of `a`, or of `b`, may be near 1e-310

Processors take a hundred times longer for such a number, and a product uses each many times. On
Numba a matrix with some in it is multiplied by a power of two first, and the product is divided by
it: but for overflow, which is looked at, that changes no bit of what is not subnormal itself. They
appear when loops over batches are written, and have no derivatives.
"""

from __future__ import annotations

import inspect
from typing import Any

from flatgrad.primitives.linalg import matmul_type
from flatgrad.primitives.registry import Param, Primitive


def TINY_LEFT(a: Any, b: Any) -> Any:
    """`a @ b` with subnormal numbers in `a`."""
    return a @ b


def TINY_RIGHT(a: Any, b: Any) -> Any:
    """`a @ b` with subnormal numbers in `b`."""
    return a @ b


def _made(function: Any, name: str) -> Primitive:
    params = tuple([
        Param(one, positional=True, operand=True, dynamic=False, default=inspect.Parameter.empty)
        for one in "ab"
    ])  # fmt: skip
    return Primitive(
        name=name, function=function, text=name, type_rule=matmul_type, params=params, operator="@"
    )


TINY_LEFT_OP = _made(TINY_LEFT, "tiny_left")
TINY_RIGHT_OP = _made(TINY_RIGHT, "tiny_right")
