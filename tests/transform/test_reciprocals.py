"""Quotients that share a division: which, and the numbers at the ends of the range."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import value_and_grad
from flatgrad.transform import reciprocals
from tests.emitted import assert_same, plain

EXTREME = np.array([0.0, 1e-310, -1e-170, 0.5, -3.0, 1e100, 1e153, -1e154, 1.3e154, 1e200, np.inf])


def loops(u, a, steps):
    u = u.copy()
    for _ in range(steps):
        for i in range(len(u)):
            k = a / (1 + u[i] * u[i])
            u[i] = 0.3 * u[i] + k * u[i]
    return np.sum(u * u)


def arrays(u, a, steps):
    for _ in range(steps):
        k = a / (1 + u**2)
        u = 0.3 * u + k * u
    return np.sum(u * u)


def exponentials(u, a, steps):
    for _ in range(steps):
        k = a / (np.exp(-u * u) + 0.5 + np.cosh(0.1 * u))
        u = k * np.sin(u)
    return np.sum(u)


def decided(u, a, steps):
    """A branch follows from the quotient that is computed again."""
    u = u.copy()
    total = 0.0
    for i in range(len(u)):
        k = a / (1 + u[i] * u[i])
        if k > 0.3:
            total += k * u[i] * k
        u[i] = k
    return total + np.sum(u)


def near_zero(u, a, steps):
    """A divisor that may be subnormal."""
    for _ in range(steps):
        k = a / (u * u)
        u = k * u + u
    return np.sum(u)


def of_differences(u, a, steps):
    """Another divisor of the function may be 0."""
    for _ in range(steps):
        k = a / (1 + u * u)
        u = k * u
    return np.sum(u / (u - 0.25))


@pytest.mark.parametrize("function", [loops, arrays, exponentials])
def test_one_division(function):
    derived = value_and_grad(function, (0, 1), backend="numba")
    rng = np.random.default_rng(0)
    args = rng.normal(size=9), 0.7, 3
    found, text = plain(derived, args)
    assert text.count("_ratio = 1.0 / ") + text.count("_ratio_i = 1.0 / ") == 1
    assert_same(found(*args), value_and_grad(function, (0, 1))(*args), rtol=1e-13)


@pytest.mark.parametrize("function", [decided, near_zero, of_differences])
def test_divisions_stay(function):
    derived = value_and_grad(function, (0, 1), backend="numba")
    args = np.random.default_rng(1).normal(size=9), 0.7, 3
    found, text = plain(derived, args)
    assert "_ratio = 1.0 / " not in text
    assert "_ratio_i = 1.0 / " not in text
    expected = value_and_grad(function, (0, 1))(*args)
    assert_same(found(*args), expected, rtol=1e-13)


def test_ends_of_the_range(monkeypatch):
    """Finite, infinite and NaN where it was without."""
    args = np.array([1.0, 2.0]), 0.5, 1
    found, text = plain(value_and_grad(arrays, (0, 1), backend="numba"), args)
    monkeypatch.setattr(reciprocals, "AWAY", np.inf)
    without, other = plain(value_and_grad(arrays, (0, 1), backend="numba"), args)
    assert text != other
    with np.errstate(all="ignore"):
        for one in EXTREME:
            for a in (0.0, 1e-300, -2.0, 1e300, np.nan):
                args = np.array([one, -one]), a, 1
                assert_same(found(*args), without(*args), rtol=1e-13, atol=0.0)


def test_the_divisor_is_kept_in_double_precision_alone():
    derived = value_and_grad(arrays, (0, 1), backend="numba")
    args = np.ones(3, "f4"), np.float32(0.7), 2
    found, text = plain(derived, args)
    assert "_ratio_i = 1.0 / " not in text
    assert_same(found(*args), value_and_grad(arrays, (0, 1))(*args), rtol=1e-6)
