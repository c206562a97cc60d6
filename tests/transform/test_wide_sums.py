"""Nests and loops over float32: in strips as those over float64 are, sums taken in float64."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import value_and_grad
from tests.emitted import leaves, plain_function
from tests.transform.random_nests import single, wherever_it_is_right
from tests.transform.test_strips import STRIP, backwards, clusters

EPS = float(np.finfo(np.float32).eps)


def payoff(z, price, sigma):
    """One loop with a branch."""
    total = 0.0
    for i in range(z.size):
        path = np.exp(z[i] * sigma)
        if path > price:
            total += path - price
    return total / z.size


def elements(x, m, scale):
    """What is added to rows of each trip's own, and at places that the data give."""
    total = 0.0
    for i in range(x.shape[0]):
        for c in range(m.shape[0]):
            y = 0.0
            for a in range(x.shape[1]):
                for b in range(a + 1):
                    y += x[i, a] * m[c, b] * x[i, b]
            total += y * y * scale[0]
    return total


def arguments(n, dtype=np.float32):
    rng = np.random.default_rng(7)
    made = rng.normal(size=(n, 3)), rng.normal(size=(4, 3)), np.array([1.1, 0.4, 0.9])
    return tuple([one.astype(np.float32).astype(dtype) for one in made])


def found_and_exact(function, args, argnums):
    """The text, its results as plain Python, those of NumPy, and those in float64."""
    derived = value_and_grad(function, argnums, backend="numba")
    text = derived.source(*args)
    with np.errstate(all="ignore"):
        found = plain_function(derived)(*args)
    exact = value_and_grad(function, argnums)(*[one.astype(np.float64) for one in args])
    return text, found, value_and_grad(function, argnums)(*args), exact


def assert_close(found, exact, room):
    for one, true in zip(leaves(found), leaves(exact), strict=True):
        assert np.max(np.abs(one - true), initial=0) <= room * np.max(np.abs(true), initial=1)


def dtypes(found):
    """Those of the gradient."""
    return [one.dtype for one in leaves(found)[1:]]


@pytest.mark.parametrize("n", [2, 64, 131])
@pytest.mark.parametrize("function", [clusters, backwards, elements])
def test_nests_in_strips(function, n):
    argnums = (0, 1, 2) if function is elements else (1, 2)
    with wherever_it_is_right():
        text, found, usual, exact = found_and_exact(function, arguments(n), argnums)
    assert STRIP in text
    assert_close(found, exact, 20 * EPS)
    assert_close(found, usual, 1e-4)
    assert dtypes(found) == dtypes(usual)
    assert set(dtypes(found)) == {np.dtype("float32")}


@pytest.mark.parametrize("wide", [0, 1])
def test_an_argument_of_float64_makes_float64(wide):
    args = list(arguments(70))
    args[wide] = args[wide].astype(np.float64)
    text, found, usual, exact = found_and_exact(clusters, args, (1, 2))
    assert STRIP in text
    assert_close(found, exact, 1e-5)
    assert dtypes(found) == dtypes(usual)


def test_sums_of_a_loop_are_taken_in_float64():
    z = np.random.default_rng(3).normal(size=20_000).astype(np.float32)
    args = z, np.float32(1.1), np.float32(0.4)
    text, found, usual, exact = found_and_exact(payoff, args, (1, 2))
    assert "total_sum = plus(total_sum, np.float64(" in text
    assert abs(found[0] - exact[0]) <= EPS * exact[0] < abs(usual[0] - exact[0])
    assert_close(found, exact, 4 * EPS)


def test_weights_that_float32_hardly_holds():
    """Adjoints of 1e-40 and the like, which are lost bit by bit without larger seeds."""

    def far(x, m, scale):
        total = 0.0
        for i in range(x.shape[0]):
            for c in range(m.shape[0]):
                y = 0.0
                for a in range(x.shape[1]):
                    for b in range(x.shape[1]):
                        y += x[i, a] * m[c, b] * x[i, b]
                total += np.exp(0.01 * y - 60.0) * scale[0]
        return total

    x, m, scale = arguments(70)
    scale = scale * np.float32(1e-13)
    with wherever_it_is_right():
        text, found, _, exact = found_and_exact(far, (x, m, scale), (1,))
    assert "for attempt in range(2)" in text
    true = leaves(exact)[1]
    assert 0 < np.max(np.abs(true)) < 1e-36
    np.testing.assert_allclose(leaves(found)[1], true, rtol=1e-4, atol=3e-45)


@pytest.mark.parametrize("factor", [1e22, 1e30])
def test_an_overflow_on_the_way_runs_the_nest_again(factor):
    def large(x, m, scale):
        total = 0.0
        for i in range(x.shape[0]):
            for c in range(m.shape[0]):
                y = 0.0
                for a in range(x.shape[1]):
                    for b in range(a + 1):
                        y += scale[0] * x[i, a] * m[c, b]
                total += y * np.exp(-abs(x[i, 0]))
        return total

    x, m, scale = arguments(70)
    args = x, m, scale * np.float32(factor)
    text, found, _, exact = found_and_exact(large, args, (1,))
    assert "for attempt in range(2)" in text
    assert_close(found, exact, 20 * EPS)


@pytest.mark.parametrize("seed", [0, 2, 3, 7])
def test_random_nests(seed, tmp_path):
    with np.errstate(all="ignore"):
        assert single(seed, tmp_path) in ("ok", "strips", "raises", "refused")


def test_compiled():
    args = arguments(131)
    derived = value_and_grad(clusters, (1, 2), backend="numba")
    value, gradient = derived(*args)
    exact = value_and_grad(clusters, (1, 2))(*[one.astype(np.float64) for one in args])
    assert type(value) is np.float32
    assert {one.dtype for one in gradient} == {np.dtype("float32")}
    assert_close((value, gradient), exact, 20 * EPS)
