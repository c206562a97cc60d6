"""Elementwise functions of NumPy and their twins in `math`; the rounding ones are in `rounding`.

    elementwise(np.tanh, math.tanh, samples=anywhere)
    @partials(np.tanh)
    def _(y, x): return 1 - y * y            # reads the output, so only that is kept
"""

from __future__ import annotations

import math

import numpy as np

from flatgrad.primitives.arith import as_factor, pairs
from flatgrad.primitives.registry import call, elementwise, jvp, partials, primitive, vjp
from flatgrad.primitives.samples import A
from flatgrad.primitives.symbolic import is_number
from flatgrad.primitives.typerules import elementwise_type


def between(low, high):
    """Samples in an interval: a number, a vector, a float32 matrix."""
    return lambda: [
        call(A(low=low, high=high)),
        call(A(4, low=low, high=high)),
        call(A(2, 3, low=low, high=high, dtype="float32")),
    ]


anywhere = between(-2.0, 2.0)
positive = between(0.2, 3.0)
inside = between(-0.9, 0.9)

elementwise(np.abs, abs, math.fabs, np.fabs, samples=anywhere)


@partials(np.abs)
def _(y, x):
    return np.sign(x)


elementwise(np.sign, np.signbit, samples=anywhere, derivative=False)
elementwise(np.sqrt, math.sqrt, samples=positive)


@partials(np.sqrt)
def _(y, x):
    # inf at 0, as the slope is there (`math.sqrt` raises ZeroDivisionError, as Python does).
    return 0.5 / y


elementwise(np.cbrt, math.cbrt, samples=positive)


@partials(np.cbrt)
def _(y, x):
    return 1 / (3 * y * y)


elementwise(np.square, samples=anywhere)


@partials(np.square)
def _(y, x):
    return 2 * x


elementwise(np.reciprocal, samples=positive)


@partials(np.reciprocal)
def _(y, x):
    return -y * y


elementwise(np.exp, math.exp, samples=anywhere)


@partials(np.exp)
def _(y, x):
    return y


elementwise(np.exp2, math.exp2, samples=anywhere)


@partials(np.exp2)
def _(y, x):
    return y * math.log(2.0)


elementwise(np.expm1, math.expm1, samples=anywhere)


@partials(np.expm1)
def _(y, x):
    return y + 1


elementwise(np.log, math.log, samples=positive)


@partials(np.log)
def _(y, x):
    return 1 / x


elementwise(np.log2, math.log2, samples=positive)


@partials(np.log2)
def _(y, x):
    return 1 / (x * math.log(2.0))


elementwise(np.log10, math.log10, samples=positive)


@partials(np.log10)
def _(y, x):
    return 1 / (x * math.log(10.0))


elementwise(np.log1p, math.log1p, samples=positive)


@partials(np.log1p)
def _(y, x):
    return 1 / (1 + x)


elementwise(np.sin, math.sin, samples=anywhere)


@partials(np.sin)
def _(y, x):
    return np.cos(x)


elementwise(np.cos, math.cos, samples=anywhere)


@partials(np.cos)
def _(y, x):
    return -np.sin(x)


elementwise(np.tan, math.tan, samples=between(-1.2, 1.2))


@partials(np.tan)
def _(y, x):
    return 1 + y * y


elementwise(np.arcsin, math.asin, samples=inside)


@partials(np.arcsin)
def _(y, x):
    return 1 / np.sqrt(1 - x * x)


elementwise(np.arccos, math.acos, samples=inside)


@partials(np.arccos)
def _(y, x):
    return -1 / np.sqrt(1 - x * x)


elementwise(np.arctan, math.atan, samples=anywhere)


@partials(np.arctan)
def _(y, x):
    return 1 / (1 + x * x)


elementwise(np.arctan2, math.atan2, arity=2, samples=lambda: pairs(0.3, 2.0))


@partials(np.arctan2)
def _(y, a, b):
    r2 = a * a + b * b
    return b / r2, -a / r2


elementwise(np.sinh, math.sinh, samples=anywhere)


@partials(np.sinh)
def _(y, x):
    return np.cosh(x)


elementwise(np.cosh, math.cosh, samples=anywhere)


@partials(np.cosh)
def _(y, x):
    return np.sinh(x)


elementwise(np.tanh, math.tanh, samples=anywhere)


@partials(np.tanh)
def _(y, x):
    return 1 - y * y


elementwise(np.arcsinh, math.asinh, samples=anywhere)


@partials(np.arcsinh)
def _(y, x):
    return 1 / np.sqrt(x * x + 1)


elementwise(np.arccosh, math.acosh, samples=between(1.2, 3.0))


@partials(np.arccosh)
def _(y, x):
    return 1 / np.sqrt(x * x - 1)


elementwise(np.arctanh, math.atanh, samples=inside)


@partials(np.arctanh)
def _(y, x):
    return 1 / (1 - x * x)


elementwise(np.hypot, math.hypot, arity=2, samples=lambda: pairs(0.3, 2.0))


@partials(np.hypot)
def _(y, a, b):
    # At the origin the partials are taken as 0, as for abs.
    safe = np.where(y == 0, 1.0, y)
    return a / safe, b / safe


elementwise(np.maximum, np.fmax, arity=2, samples=pairs)


@partials(np.maximum)
def _(y, a, b):
    # Against a constant a tie gives 0, so that np.maximum(0, x) is relu: grad_h * (h > 0).
    if is_number(b):
        return y > b, None
    if is_number(a):
        return None, y > a
    return _share(y, a, b), _share(y, b, a)


elementwise(np.minimum, np.fmin, arity=2, samples=pairs)


@partials(np.minimum)
def _(y, a, b):
    if is_number(b):
        return y < b, None
    if is_number(a):
        return None, y < a
    return _share(y, a, b), _share(y, b, a)


def _share(y, mine, other):
    """1 where this operand wins, half of a tie."""
    return (mine == y) * (1 - 0.5 * as_factor(other == mine, y))


elementwise(np.logaddexp, arity=2, samples=pairs)


@partials(np.logaddexp)
def _(y, a, b):
    total = np.where(y == -np.inf, 0.0, y)  # both operands -inf: 0, not NaN
    return np.exp(a - total), np.exp(b - total)


elementwise(np.logaddexp2, arity=2, samples=pairs)


@partials(np.logaddexp2)
def _(y, a, b):
    total = np.where(y == -np.inf, 0.0, y)
    return np.exp2(a - total), np.exp2(b - total)


elementwise(np.degrees, np.rad2deg, math.degrees, samples=anywhere)


@partials(np.degrees)
def _(y, x):
    return 180.0 / math.pi


elementwise(np.radians, np.deg2rad, math.radians, samples=anywhere)


@partials(np.radians)
def _(y, x):
    return math.pi / 180.0


elementwise(np.copysign, math.copysign, arity=2, samples=pairs)


@partials(np.copysign)
def _(y, a, b):
    return np.sign(a) * np.copysign(1.0, b), None


elementwise(np.heaviside, arity=2, samples=pairs)


@partials(np.heaviside)
def _(y, a, b):
    return None, a == 0


elementwise(np.sinc, samples=anywhere)


@partials(np.sinc)
def _(y, x):
    # Near 0 the difference cancels; three terms of its series are exact to rounding there.
    near = np.abs(x) < 0.01
    z = (np.pi * x) ** 2
    series = -np.pi**2 / 3 * x * (1 - z / 10 * (1 - z / 28))
    return np.where(near, series, (np.cos(np.pi * x) - y) / np.where(near, 1.0, x))


elementwise(math.erf, samples=lambda: [call(A()), call(A(low=2.0, high=4.0))])


@partials(math.erf)
def _(y, x):
    return 2 / math.sqrt(math.pi) * np.exp(-x * x)


elementwise(math.erfc, samples=lambda: [call(A()), call(A(low=2.0, high=4.0))])


@partials(math.erfc)
def _(y, x):
    return -2 / math.sqrt(math.pi) * np.exp(-x * x)


elementwise(np.isnan, math.isnan, samples=anywhere, derivative=False)
elementwise(np.isfinite, math.isfinite, samples=anywhere, derivative=False)
elementwise(np.isinf, math.isinf, samples=anywhere, derivative=False)


@primitive(
    np.nan_to_num,
    samples=lambda: [call(A(2, 3)), call(A(3, dtype="float32"), nan=1.0, posinf=2.0), call(A())],
)
def _(x, /, *, nan=0.0, posinf=None, neginf=None):  # the second positional one is `copy`
    return elementwise_type(np.nan_to_num, x)


@vjp(np.nan_to_num)
def _(grad_y, y, x, *, nan=0.0, posinf=None, neginf=None):
    return np.where(np.isfinite(x), grad_y, 0.0)


@jvp(np.nan_to_num)
def _(dots, y, x, *, nan=0.0, posinf=None, neginf=None):
    return np.where(np.isfinite(x), dots[0], 0.0)
