"""Where a product and a sum may be rounded once: in loops in which no rounding decides anything."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flatgrad import value_and_grad

X, XS = 0.3, np.array([0.3, -1.2, 0.7])


def smooth(x, n):
    y, z = x, 0.0
    for _ in range(n):
        y, z = y + 0.1 * (y - y * z), z + 0.1 * (y * z - z / 3)
    return y + np.sin(z) * z


def elements(xs, h):
    total = 0.0
    for i in range(len(xs)):
        total += xs[i] * h + np.tanh(xs[i]) * xs[i]
    return total


def with_branch(x, n):
    y = x
    for _ in range(n):
        y = y * y - 0.3 * y if y > 0.1 else y + 0.2
    return y


def with_while(x, n):
    y = x
    while y < n:
        y = y + y * y
    return y


def with_root(x, n):
    y = x
    for _ in range(n):
        y = math.sqrt(y * y - x * x + 1.0)
    return y


def with_quotient(x, n):
    y = x
    for _ in range(n):
        y = y * y + 1.0 / (y * y + x)
    return y


def with_index(x, n):
    y = x
    table = np.ones(100)
    for _ in range(n):
        y = y + 0.1 * y * table[int(y)]
    return y


def with_largest(xs, h):
    total = 0.0
    for i in range(len(xs)):
        total += xs[i] * h
    return total * np.max(xs * h)


def without_loop(x, n):
    return x * x + n * x


def without_numbers(xs, h):
    for _ in range(3):
        xs = xs * h + xs
    return np.sum(xs)


@pytest.mark.parametrize("f", [smooth, elements])
def test_smooth_loops(f):
    args = (X, 20) if f is smooth else (XS, 0.5)
    derived = value_and_grad(f, argnums=0, backend="numba")
    value, slope = derived(*args)
    assert 'boundscheck=True, fastmath={"contract"})' in derived.source()
    expected = value_and_grad(f, argnums=0)(*args)
    np.testing.assert_allclose(value, expected[0], rtol=1e-13)
    np.testing.assert_allclose(slope, expected[1], rtol=1e-13)
    strict = value_and_grad(f, argnums=0, backend="numba", deterministic=True)
    strict(*args)
    assert "contract" not in strict.source()


@pytest.mark.parametrize(
    "f",
    [with_branch, with_while, with_root, with_quotient, with_index, with_largest, without_loop,
     without_numbers],
)  # fmt: skip
def test_where_roundings_decide(f):
    args = (XS, 0.5) if f in (with_largest, without_numbers) else (X, 3)
    derived = value_and_grad(f, argnums=0, backend="numba")
    value, slope = derived(*args)
    assert 'boundscheck=True, fastmath={"contract"})' not in derived.source()
    expected = value_and_grad(f, argnums=0)(*args)
    np.testing.assert_allclose(value, expected[0], rtol=1e-13)
    np.testing.assert_allclose(slope, expected[1], rtol=1e-13)
