"""Indices that are looked at before a loop, which then keeps a row in registers."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import value_and_grad
from tests.emitted import assert_same, plain

RNG = np.random.default_rng(37)


def triangle(x, m, q):
    centered = np.empty(x.shape[1])
    total = 0.0
    for i in range(x.shape[0]):
        for c in range(m.shape[0]):
            for a in range(x.shape[1]):
                centered[a] = x[i, a] - m[c, a]
            square = 0.0
            for a in range(x.shape[1]):
                y = centered[a]
                for b in range(a):
                    y += q[a * (a - 1) // 2 + b] * centered[b]
                square += y * y
            total += np.log1p(square)
    return total


def by_places(x, m, q, places):
    """An index that is read must itself be looked at first."""
    centered = np.empty(x.shape[1])
    total = 0.0
    for i in range(x.shape[0]):
        for c in range(m.shape[0]):
            for a in range(x.shape[1]):
                centered[a] = x[i, a] - m[c, a]
            square = 0.0
            for a in range(x.shape[1]):
                y = centered[a]
                for b in range(a):
                    y += q[places[b]] * centered[b]
                square += y * y
            total += np.log1p(square)
    return total


def derived(function, backend="numba"):
    return value_and_grad(function, argnums=(1, 2), backend=backend)


def arguments(entries=6):
    return RNG.normal(size=(70, 4)), RNG.normal(size=(2, 4)), RNG.normal(size=entries)


CHECK = "if not -q.shape[0] <= "
ADDED = "                        y[lane] = y[lane] + "


def found(function, *args):
    """What the text for Numba computes as plain Python."""
    return plain(derived(function), args)[0](*args)


def test_before_the_loop():
    args = arguments()
    source = derived(triangle).source(*args)
    inner = source[: source.index(ADDED)].rpartition("for b in range(a):\n")
    assert CHECK not in inner[2]
    assert CHECK in inner[0].rpartition("for b in range(a):\n")[2]
    assert_same(derived(triangle)(*args), derived(triangle, "numpy")(*args))


@pytest.mark.parametrize("entries", [5, 1])
def test_an_index_that_is_too_large(entries):
    with pytest.raises(IndexError, match="out of bounds"):
        derived(triangle)(*arguments(entries))


def test_no_trip_looks_at_nothing():
    x, m, q = arguments(0)
    args = x[:, :1], m[:, :1], q
    assert_same(found(triangle, *args), derived(triangle, "numpy")(*args))


def test_an_index_that_is_read_stays_where_it_is():
    args = (*arguments(), np.array([0, 2, 5, 1]))
    source = derived(by_places).source(*args)
    inner = source[: source.index(ADDED)].rpartition("for b in range(a):\n")
    assert CHECK in inner[2]
    assert_same(found(by_places, *args), derived(by_places, "numpy")(*args))
    with pytest.raises(IndexError):
        found(by_places, *args[:3], np.array([0, 2, 6, 1]))
