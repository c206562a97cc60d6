"""Arithmetic on bools: NumPy's `True + True` is True, Python's and Numba's is 2."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad
from tests.test_sparse import BACKENDS, check

ROWS = {"q": np.array([0, 2, 1, 1])}
Q = np.array([[0.4, 0.2, 0.3], [0.1, -0.7, 0.9], [-0.3, 0.2, 0.6]])


def constants(q):
    m, n = np.array([True, False, True]), np.array([True, True, False])
    s, t = m[0] + n[0], ~m[0]
    return (
        q * ~m, q * (m + n) * 2.0, q * ~(m * n), q * s, q * t, q * (m[0] * n[1] + m[2]),
        q * np.mean(m), q * np.sum(m),
    )  # fmt: skip


def compared(q):
    m, n = q > 0.0, q < 0.5
    s, count = m[0] + n[0], 0
    for i in range(3):
        count += q[i] > 0.0
    return (
        q * ~m, q * (m + n) * 2.0, q * ~(m * n), q * s, q * ~s, q * np.mean(m), q * np.sum(m + n),
        q * count,
    )  # fmt: skip


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("function", [constants, compared])
def test_of_an_observation(function, backend):
    check(function, ROWS, {"q": Q}, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_rows_of_bools(backend):
    def used(q, one, other):
        return q * (one + other), q * (one * other), np.where(~one, q, 3.0 * q)

    one, other = np.array([True, True, False, False]), np.array([True, False, True, False])
    values = {"q": Q, "one": one, "other": other}
    check(used, ROWS, values, backend=backend)


def of_arrays(x, y):
    m = y > 0.0
    return np.sum(x * (m + m) * 2.0) + np.sum(x * ~(m * m))


def of_elements(x, y):
    m = y > 0.0
    return x * (m[0] + m[1]) + x * ~m[2]


def in_a_loop(x, y):
    s = 0.0
    for i in range(y.size):
        s += x * ((y[i] > 0.0) + (y[i - 1] > 0.0))
    return s


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("function", [of_arrays, of_elements, in_a_loop])
def test_of_a_function(function, backend):
    y = np.array([1.0, 2.0, -1.0])
    value, slope = flatgrad.value_and_grad(function, argnums=0, backend=backend)(2.0, y)
    assert value == function(2.0, y)
    assert slope == function(1.0, y)
