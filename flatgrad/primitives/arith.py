"""Operators, comparisons, logic.

    @partials(operator.mul)
    def _(y, a, b): return b, a
"""

from __future__ import annotations

import math
import operator

import numpy as np

from flatgrad.primitives.registry import call, elementwise, partials
from flatgrad.primitives.samples import A, I
from flatgrad.primitives.symbolic import is_number


def pairs(low=-2.0, high=2.0):
    """Sample operands: numbers, arrays, and every way in which two shapes broadcast."""
    shapes = [
        ((), ()), ((), (3,)), ((4,), ()), ((3,), (3,)), ((4, 3), (3,)), ((4, 1), (4, 3)),
        ((4, 1), (1, 3)), ((1,), (4, 3)), ((2, 1, 3), (4, 1)), ((2, 3, 2, 3), (3, 1, 3)),
    ]  # fmt: skip
    made = [call(A(*a, low=low, high=high), A(*b, low=low, high=high)) for a, b in shapes]
    single = [call(A(3, dtype="float32", low=low, high=high), A(low=low, high=high))]
    return made + single


elementwise(operator.add, np.add, arity=2, samples=pairs)


@partials(operator.add)
def _(y, a, b):
    return 1, 1


elementwise(operator.sub, np.subtract, arity=2, samples=pairs)


@partials(operator.sub)
def _(y, a, b):
    return 1, -1


elementwise(operator.mul, np.multiply, arity=2, samples=pairs)


@partials(operator.mul)
def _(y, a, b):
    return b, a


elementwise(
    operator.truediv, np.divide, arity=2, samples=lambda: pairs(0.5, 2.0)
)


@partials(operator.truediv)
def _(y, a, b):
    return 1 / b, -y / b


def _powers():
    return [
        *pairs(0.5, 2.0), call(A(3), 2), call(A(3), 3), call(A(3, low=0.5), -1),
        call(A(3, low=0.5), 0.5), call(A(3), 0), call(2.0, A(3)), call(A(), 2),
        call(A(3), I([0, 1, 2])),
    ]  # fmt: skip


elementwise(operator.pow, np.power, math.pow, arity=2, samples=_powers)
elementwise(np.float_power, arity=2, samples=_powers)


@partials(np.float_power)
@partials(operator.pow)
def _(y, a, b):
    if is_number(b):
        return (None if b == 0 else b * a ** (b - 1)), None
    # y * log(a) at a = 0 has the limit 0 for b > 0; the log of the 1 put there is 0.
    exponent = y * np.log(a if is_number(a) and a else np.where(a == 0, 1.0, a))
    if is_number(a):
        return None, exponent
    # x ** 0 is constant: its derivative is 0, not 0 * x ** -1, also at x = 0.
    return np.where(b == 0, 0.0, b * a ** np.where(b == 0, 1, b - 1)), exponent


elementwise(operator.neg, np.negative, samples=lambda: [call(A()), call(A(2, 3))])


@partials(operator.neg)
def _(y, x):
    return -1


elementwise(operator.pos, np.positive, samples=lambda: [call(A()), call(A(2, 3))])


@partials(operator.pos)
def _(y, x):
    return 1


for _sign, _ufunc in (
    (operator.lt, np.less),
    (operator.le, np.less_equal),
    (operator.gt, np.greater),
    (operator.ge, np.greater_equal),
    (operator.eq, np.equal),
    (operator.ne, np.not_equal),
):
    elementwise(_sign, _ufunc, arity=2, samples=pairs, derivative=False)


def _bits():
    return [call(I([True, False, True]), I([True, True, False])), call(I([1, 2, 3]), I([3, 1, 1]))]


elementwise(operator.and_, np.bitwise_and, arity=2, samples=_bits, derivative=False)
elementwise(operator.or_, np.bitwise_or, arity=2, samples=_bits, derivative=False)
elementwise(operator.xor, np.bitwise_xor, arity=2, samples=_bits, derivative=False)
elementwise(
    operator.invert,
    np.invert,
    samples=lambda: [call(I([True, False])), call(I([1, 2]))],
    derivative=False,
)
for _logical in (np.logical_and, np.logical_or, np.logical_xor):
    elementwise(_logical, arity=2, samples=_bits, derivative=False)
elementwise(np.logical_not, samples=lambda: [call(I([True, False]))], derivative=False)


def as_factor(mask, data):
    """A mask by which `data` is scaled: with a Python float or a count, it would become float64."""
    single = getattr(data, "dtype", None) == np.float32
    return mask.astype(np.float32) if single else mask
