"""Gradients where naive rules give NaN, lose all digits, or change the dtype.

    softmax at +-1000, norm at 0, x**0, 0*log(0), where() around a division by zero, ties of max
"""

from __future__ import annotations

import math

import numpy as np
import pytest

import flatgrad as fg


def gradient(f, *args, backend="numpy"):
    """The gradient, with every warning an error where NumPy's own function gives none."""
    return fg.grad(f, 0, backend=backend)(*args)


def softmax_weighted(x, w):
    return np.sum(fg.softmax(x) * w)


def log_softmax_first(x):
    return fg.log_softmax(x)[0]


def logsumexp(x):
    return fg.logsumexp(x)


def norm(x):
    return np.linalg.norm(x)


def norm_of_rows(x):
    return np.sum(np.linalg.norm(x, axis=1))


def deviation(x):
    return np.std(x)


def deviation_of_rows(x):
    return np.sum(np.std(x, axis=-1))


def entropy(p):
    return -np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0))


def guarded_ratio(x):
    return np.sum(np.where(x == 0, 1.0, np.sin(x) / np.where(x == 0, 1.0, x)))


def guarded_root(x):
    return np.sum(np.where(x > 0, np.sqrt(np.maximum(x, 0.0)), 0.0))


def power_zero(x):
    return np.sum(x**0)


def power_one(x):
    return np.sum(x**1 + x**2)


def zero_to_exponent(x):
    return np.sum(np.zeros(2) ** x)


def largest(x):
    return np.max(x)


def larger(x):
    return np.sum(np.maximum(x, x[::-1]))


def absolute(x):
    return np.sum(np.abs(x) + fg.relu(x))


def product(x):
    return np.prod(x)


def hypotenuse(x):
    return np.sum(np.hypot(x, x))


def sigmoid_loss(x):
    return np.sum(np.log1p(np.exp(-np.abs(x))) + np.maximum(x, 0.0))


def softplus(x):
    return np.sum(fg.softplus(x) + fg.sigmoid(x) + np.logaddexp(x, 0.0))


BIG = np.array([1000.0, -1000.0, 999.0])
E = math.e

CASES = [
    (logsumexp, BIG, [1 / (1 + 1 / E), 0.0, 1 / (1 + E)]),
    (logsumexp, np.array([-np.inf, 0.0, 0.0]), [0.0, 0.5, 0.5]),
    (log_softmax_first, BIG, [1 - 1 / (1 + 1 / E), 0.0, -1 / (1 + E)]),
    (norm, np.zeros(3), [0.0, 0.0, 0.0]),
    (norm, np.array([3.0, -4.0]), [0.6, -0.8]),
    (norm_of_rows, np.array([[0.0, 0.0], [3.0, 4.0]]), [[0.0, 0.0], [0.6, 0.8]]),
    (deviation, np.ones(4), [0.0] * 4),
    (deviation, np.array([2.0]), [0.0]),
    (deviation_of_rows, np.array([[1.0, 1.0], [0.0, 2.0]]), [[0.0, 0.0], [-0.5, 0.5]]),
    (entropy, np.array([0.0, 1.0, 0.5]), [0.0, -1.0, math.log(2) - 1]),
    (guarded_ratio, np.array([0.0, math.pi]), [0.0, -1 / math.pi]),
    (guarded_root, np.array([-1.0, 4.0]), [0.0, 0.25]),
    (power_zero, np.array([0.0, 2.0, -1.0]), [0.0, 0.0, 0.0]),
    (power_one, np.array([0.0, -3.0]), [1.0, -5.0]),
    (zero_to_exponent, np.array([2.0, 3.0]), [0.0, 0.0]),
    (largest, np.array([1.0, 3.0, 3.0]), [0.0, 0.5, 0.5]),
    (larger, np.array([1.0, 1.0, 1.0]), [1.0, 1.0, 1.0]),
    (absolute, np.array([0.0, -2.0, 2.0]), [0.0, -1.0, 2.0]),
    (product, np.array([0.0, 2.0, 3.0]), [6.0, 0.0, 0.0]),
    (product, np.array([0.0, 0.0, 3.0]), [0.0, 0.0, 0.0]),
    (hypotenuse, np.array([0.0, 1.0]), [0.0, math.sqrt(2)]),
    (sigmoid_loss, np.array([1000.0, -1000.0]), [1.0, 0.0]),
    (softplus, np.array([1000.0, -1000.0, 0.0]), [2.0, 0.0, 1.25]),
]


@pytest.mark.parametrize(("f", "x", "expected"), CASES, ids=lambda one: getattr(one, "__name__", ""))
def test_value_at_the_edge(f, x, expected):
    with np.errstate(divide="ignore"):
        found = gradient(f, x)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(("f", "x", "expected"), CASES, ids=lambda one: getattr(one, "__name__", ""))
def test_single_precision_at_the_edge(f, x, expected):
    with np.errstate(divide="ignore"):
        found = gradient(f, x.astype(np.float32))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_softmax_far_out():
    w = np.array([1.0, 2.0, 3.0])
    np.testing.assert_allclose(
        gradient(softmax_weighted, BIG, w), softmax_slope(BIG, w), rtol=1e-12, atol=1e-300
    )
    assert np.all(gradient(softmax_weighted, np.array([1e308, -1e308, 0.0]), w) == 0.0)


def softmax_slope(x, w):
    """By the closed form."""
    e = np.exp(x - x.max())
    p = e / e.sum()
    return p * (w - np.sum(p * w))


@pytest.mark.parametrize(("f", "x", "expected"), CASES[:6:2], ids=lambda one: getattr(one, "__name__", ""))
def test_compiled_at_the_edge(f, x, expected):
    np.testing.assert_allclose(gradient(f, x, backend="numba"), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize(
    ("x", "n", "expected"), [(0.0, 0, 0.0), (0.0, 1, 1.0), (0.0, 2, 0.0), (-2.0, 3, 12.0)]
)
def test_power_of_a_number(x, n, expected):
    def power(x, n):
        return x**n

    assert gradient(power, x, n) == expected
    assert gradient(power, x, float(n)) == expected
