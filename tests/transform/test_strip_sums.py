"""Adjoints that are kept as sums over the lanes: where they are, and where the rows stay."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flatgrad import value_and_grad
from tests.emitted import assert_same, plain_function
from tests.transform import random_centers
from tests.transform.random_nests import wherever_it_is_right
from tests.transform.test_strip_seeds import both

SUMMED = "grad_v = np.zeros(x.shape[1])"
IN_SUMS = [13, 21]
"""Seeds of programs with adjoints in sums."""


def mixture(x, m, q):
    v = np.empty(x.shape[1])
    total = 0.0
    for i in range(x.shape[0]):
        for c in range(m.shape[0]):
            for a in range(x.shape[1]):
                v[a] = x[i, a] - 2.0 * m[c, a]
            s = 0.0
            for a in range(x.shape[1]):
                y = math.exp(q[a, a]) * v[a]
                for b in range(a):
                    y += q[a, b] * v[b]
                s += y * y
            total += math.exp(-s)
    return total


def weighted(x, m, q):
    """The adjoint of what is read last is multiplied by a number of the point."""
    v = np.empty(x.shape[1])
    total = 0.0
    for i in range(x.shape[0]):
        for c in range(m.shape[0]):
            for a in range(x.shape[1]):
                v[a] = x[i, a] * m[c, a]
            for a in range(x.shape[1]):
                y = 0.0
                for b in range(x.shape[1]):
                    y += q[a, b] * v[b]
                total += y * y
    return total


def arguments(n, k=4):
    rng = np.random.default_rng(n)
    return rng.normal(size=(n, 3)), rng.normal(size=(k, 3)), 0.3 * rng.normal(size=(3, 3))


def test_sums_in_the_place_of_rows():
    usual = value_and_grad(mixture, argnums=("m", "q"))
    derived = value_and_grad(mixture, argnums=("m", "q"), backend="numba")
    text = derived.source(*arguments(70))
    assert SUMMED in text
    assert "grad_y_sum * q[a, b]" in text
    function = plain_function(derived)
    for n in (0, 2, 64, 65, 129):
        args = arguments(n)
        assert_same(function(*args), usual(*args), rtol=1e-10, atol=1e-11)
    x, m, q = arguments(65)
    x[-1] = np.inf
    with np.errstate(all="ignore"):
        found, expected = function(x, m, q), usual(x, m, q)
    assert_same(found, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize(("function", "argnums"), [(mixture, ("x", "m")), (weighted, ("m", "q"))])
def test_rows_that_stay(function, argnums):
    with wherever_it_is_right():
        text, found, expected = both(function, arguments(70), argnums)
    assert "for lane in range(64)" in text
    assert SUMMED not in text
    assert_same(found, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("seed", [*IN_SUMS, 2])
def test_random_programs(seed, tmp_path):
    with np.errstate(all="ignore"):
        assert random_centers.outcome(seed, tmp_path) == "strips"
