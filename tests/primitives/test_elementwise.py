"""Elementwise functions end to end: builtins, `math`, kinks, ties, and no NaN from elsewhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.special

from flatgrad import FlatgradError, check_grads, grad

RNG = np.random.default_rng(5)


def draw(*shape):
    return RNG.uniform(0.55, 1.45, shape)


def builtin_functions(x, y):
    q, r = divmod(x, y)
    largest = max(x, y, 0.1) + min(x, 3.0) + max([x, y]) * min(1.0, y)
    rounded = round(x, 1) * x + round(x) + int(x) * y
    return pow(x, 2) + q + r + largest + rounded + abs(-x) + float(y)


def math_functions(x, y):
    a = math.pow(x, y) + math.hypot(x, y) + math.floor(x) * x + math.exp2(y) + math.degrees(x)
    b = math.log(x, 2) + math.log(x, y) + math.erf(x) * math.erfc(y) + math.fmod(x, y)
    return a + b + math.copysign(x, -y) + math.atanh(x / 3) + math.ceil(y) * math.trunc(x * 5)


def numpy_functions(x, y):
    clipped = np.clip(x, 0.7, 1.2) + x.clip(0.7, None) * y + np.clip(x, max=1.1)
    rounded = np.round(x, 1) * x + np.around(y) * y + np.fix(x) * y
    angles = np.rad2deg(x) * np.radians(y) + np.sinc(x) + np.sinc(x * 1e-4)
    powers = np.float_power(x, 2) * np.float_power(2.0, y) + np.hypot(x, 1.0)
    rest = np.heaviside(x - 1, y) + np.fmod(x, y) + np.copysign(x, -y) + np.nan_to_num(x / y)
    return np.sum(clipped + rounded + angles + powers + rest)


def constants(x):
    left = 2.0**x + 3.0 / x + np.arctan2(1.0, x) + np.hypot(2.0, x) + np.maximum(1.0, x)
    right = x**2.5 + x / 3.0 + np.arctan2(x, 1.0) + np.fmod(x, 0.4) + np.minimum(x, 1.0)
    sums = np.logaddexp(x, 0.0) + np.logaddexp2(1.0, x)
    return np.sum(left + right + (1.7 % x) + (x % 0.4) + sums)


def special(x, y):
    products = scipy.special.xlogy(x, y) * scipy.special.xlog1py(y, x)
    return np.sum(scipy.special.logit(x / 2) + products)


@pytest.mark.parametrize(
    ("f", "args"),
    [
        (builtin_functions, (1.3, 0.7)), (builtin_functions, (0.62, 0.81)),
        (math_functions, (1.3, 0.7)), (numpy_functions, (draw(7), draw(7))),
        (constants, (draw(5),)), (constants, (0.83,)), (special, (draw(5), draw(5))),
    ],
)  # fmt: skip
def test_gradients(f, args):
    check_grads(f, args)


def log_where(x):
    return np.sum(np.where(x > 0, np.log(np.where(x > 0, x, 1.0)), 0.0))


def sqrt_where(x):
    return np.sum(np.where(x > 0, np.sqrt(np.where(x > 0, x, 1.0)), x))


def abs_and_relu(x):
    return np.sum(np.abs(x) + np.maximum(x, 0) + np.maximum(0.0, x) + np.minimum(x, 0))


def clipped(x):
    return np.sum(np.clip(x, 0.0, 1.0))


def powers_of_zero(x, n):
    return np.sum(x**0) + np.sum(x**n) + np.sum(x**1) + np.sum(x**2)


def power_of_arrays(a, b):
    return np.sum(a**b)


def tie(a, b):
    return np.sum(np.maximum(a, b)) + np.sum(np.minimum(a, b)) * 0.0


def entropy(p):
    return -np.sum(scipy.special.xlogy(p, p))


def log_of_sums(a, b):
    return np.sum(np.logaddexp(a, b))


def root(x):
    return np.sum(np.sqrt(x))


def test_points_where_care_is_needed():
    x = np.array([-1.0, 0.0, 2.0])
    zero = np.zeros(2)
    with np.errstate(divide="ignore"):
        np.testing.assert_array_equal(grad(log_where)(x), [0, 0, 0.5])
        np.testing.assert_array_equal(grad(sqrt_where)(x), [1, 1, 0.5 / math.sqrt(2.0)])
        np.testing.assert_array_equal(grad(abs_and_relu)(x), [0, 0, 3])
        inside = grad(clipped)(np.array([-1.0, 0, 0.5, 1, 2]))
        np.testing.assert_array_equal(inside, [0, 0, 1, 0, 0])
        powers = grad(powers_of_zero, 0)
        np.testing.assert_array_equal(powers(zero, np.array([0.0, 1.0])), [1, 2])
        found = grad(power_of_arrays)(np.array([0.0, 0.0, 2.0]), np.array([0.0, 2.0, 0.0]))
        np.testing.assert_array_equal(found.a, [0, 0, 0])
        np.testing.assert_allclose(found.b, [0, 0, math.log(2.0)])
        np.testing.assert_array_equal(grad(tie)(zero, zero).a, [0.5, 0.5])
        assert np.all(np.isfinite(grad(entropy)(np.array([0.0, 0.5, 1.0]))))
        low = np.array([-np.inf, -np.inf])
        np.testing.assert_array_equal(grad(log_of_sums)(low, np.array([-np.inf, 1.0])).b, [0, 1])
        np.testing.assert_array_equal(grad(root)(zero), [np.inf, np.inf])


def test_sinc_near_zero():
    def f(x):
        return np.sum(np.sinc(x))

    x = np.array([0.0, 1e-12, 1e-5, 0.0099, 0.0101, 1.0])
    slope = [0.0]
    for one in x[1:]:
        z = math.pi * one
        series = math.fsum(
            (-1) ** k * 2 * k * z ** (2 * k - 1) / math.factorial(2 * k + 1) for k in range(1, 20)
        )
        slope.append(math.pi * series)
    np.testing.assert_allclose(grad(f)(x), slope, rtol=1e-11)


def test_single_precision_stays():
    x = draw(4).astype(np.float32)
    for f in (constants, abs_and_relu, clipped):
        assert grad(f)(x).dtype == np.float32


def test_an_operand_without_a_contribution_does_not_lose_the_others():
    def f(x):
        return np.sum(np.copysign(x, -x) * np.sign(x + 1) + x * x)

    check_grads(f, (draw(3),))


def max_of_arrays(x):
    return np.sum(max(x, x))


def rounded_array(x):
    return np.sum(round(x))


def condition_alone(x):
    return np.sum(np.where(x > 0))


def real_part(x):
    return np.sum(np.real(x))


def bessel(x):
    return np.sum(np.i0(x))


def modular(x):
    return np.sum(pow(x, 2, 3))


def math_of_array(x):
    return np.sum(math.exp(x))


@pytest.mark.parametrize(
    "f", [max_of_arrays, rounded_array, condition_alone, real_part, bessel, modular, math_of_array]
)
def test_refused(f):
    with pytest.raises(FlatgradError) as caught:
        grad(f)(draw(3))
    assert caught.value.diagnostic.span is not None
