"""Rounding functions and remainders: steps have slope 0, remainders that of their operand.

    y = a % b             grad_a = grad_y; grad_b = -grad_y * (a // b)
    y = np.floor(x)       no derivative passes
"""

from __future__ import annotations

import math
import operator

import numpy as np

from flatgrad.ir.types import Scalar
from flatgrad.primitives.arith import pairs
from flatgrad.primitives.math import anywhere
from flatgrad.primitives.registry import call, elementwise, method, partials, primitive
from flatgrad.primitives.samples import A
from flatgrad.primitives.typerules import elementwise_type, fail

elementwise(np.floor, math.floor, samples=anywhere, derivative=False)
elementwise(np.ceil, math.ceil, samples=anywhere, derivative=False)
elementwise(np.trunc, np.fix, math.trunc, samples=anywhere, derivative=False)
elementwise(np.rint, samples=anywhere, derivative=False)

def _rounded(function):
    def type_rule(x, /, decimals=0):
        return elementwise_type(function, x)

    return type_rule


for _function in (np.round, np.around):
    primitive(
        _function,
        derivative=False,
        samples=lambda: [call(A(3)), call(A(2, 3, dtype="float32"), decimals=1), call(A(), 2)],
    )(_rounded(_function))
method("round", of=np.round)


@primitive(round, derivative=False, samples=lambda: [call(A()), call(A(), 1)])
def _(x, /, ndigits=None):
    if x.ndim:
        raise fail("operand-type", "`round` of an array", "use np.round")
    return Scalar("int64", weak=True) if ndigits is None else Scalar(x.dtype, x.weak)


elementwise(
    operator.floordiv, np.floor_divide, arity=2, samples=lambda: pairs(0.6, 0.9), derivative=False
)
elementwise(operator.mod, np.remainder, arity=2, samples=lambda: pairs(1.1, 1.4))


@partials(operator.mod)
def _(y, a, b):
    return 1, -(a // b)


elementwise(np.fmod, math.fmod, arity=2, samples=lambda: pairs(1.1, 1.4))


@partials(np.fmod)
def _(y, a, b):
    return 1, -np.trunc(a / b)
