"""Larger seeds for adjoints that may be subnormal: the same results, overflow or not."""

from __future__ import annotations

import math

import numpy as np

from flatgrad import grad, value_and_grad
from tests.emitted import assert_same, plain_function
from tests.transform.random_nests import larger_seeds, wherever_it_is_right

ATTEMPTS = "for attempt in range(2)"


def weights(x, m, far, factor):
    """Weights exp(-far), and what they are multiplied by."""
    total = 0.0
    for i in range(x.shape[0]):
        for c in range(m.shape[0]):
            y = 0.0
            for a in range(x.shape[1]):
                for b in range(x.shape[1]):
                    y += x[i, a] * m[c, b] * x[i, b]
            total += math.exp(y - far) * factor
    return total


def both(function, args, argnums="m", **more):
    """The text, what it returns as plain Python, and what NumPy finds."""
    expected = value_and_grad(function, argnums=argnums)(*args)
    derived = value_and_grad(function, argnums=argnums, backend="numba", **more)
    text = derived.source(*args)
    with np.errstate(all="ignore"):
        return text, plain_function(derived)(*args), expected


def points(size=1.0):
    rng = np.random.default_rng(4)
    return size * rng.normal(size=(67, 3)), size * rng.normal(size=(4, 3))


def test_weights_of_any_size():
    wanted = ("m", "x", "factor")
    usual = value_and_grad(weights, argnums=wanted)
    derived = value_and_grad(weights, argnums=wanted, backend="numba")
    assert ATTEMPTS in derived.source(*points(), 0.0, 1.0)
    function = plain_function(derived)
    for far in (0.0, 600.0, 715.0, 1000.0):
        args = (*points(), far, 1.0)
        assert_same(function(*args), usual(*args), rtol=1e-10, atol=0 if far < 700.0 else 1e-315)


def test_what_multiplies_subnormal_weights_is_not_lost():
    (x, m), large = points(0.1), 1e290
    _, found, expected = both(weights, (x, m, 715.0, large))
    assert 0.0 < abs(expected[1][0, 0]) < 1.0
    assert_same(found, expected, rtol=1e-10, atol=0.0)


def scaled(x, m, factor):
    """Adjoints as large as `factor`."""
    total = 0.0
    for i in range(x.shape[0]):
        for c in range(m.shape[0]):
            y = 0.0
            for a in range(x.shape[1]):
                for b in range(a + 1):
                    y += factor * x[i, a] * m[c, b]
            total += y * math.exp(-abs(x[i, 0]))
    return total


def test_overflow_on_the_way_runs_the_nest_again():
    usual = value_and_grad(scaled, argnums="m")
    derived = value_and_grad(scaled, argnums="m", backend="numba")
    assert ATTEMPTS in derived.source(*points(), 1.0)
    function = plain_function(derived)
    for factor in (1e180, 1e200, 1e300, math.inf, math.nan):
        with np.errstate(all="ignore"):
            found, expected = function(*points(), factor), usual(*points(), factor)
        assert np.isfinite(factor) == np.isfinite(expected[1]).all()
        assert_same(found, expected, rtol=1e-10)


def test_without_an_exponential_seeds_stay():
    def squares(x, m):
        total = 0.0
        for i in range(x.shape[0]):
            for c in range(m.shape[0]):
                for a in range(x.shape[1]):
                    for b in range(x.shape[1]):
                        total += (x[i, a] * m[c, b]) ** 2
        return total

    with wherever_it_is_right():
        text, found, expected = both(squares, points())
    assert ATTEMPTS not in text
    assert_same(found, expected, rtol=1e-10)


def norms(x, m):
    """Its gradient is not proportional to the seed, where a derivative is squared."""
    total = 0.0
    for i in range(x.shape[0]):
        for c in range(m.shape[0]):
            for a in range(x.shape[1]):
                for b in range(x.shape[1]):
                    total += np.exp(-x[i, a] * m[c, b])
    return total


def test_second_derivatives():
    def steep(x, m):
        found = grad(norms, "m")(x, m)
        return np.sum(found * found)

    with wherever_it_is_right(), larger_seeds(2.0**400):
        _, found, expected = both(steep, points(0.3))
    assert_same(found, expected, rtol=1e-10)


def test_results_in_given_arrays():
    x, m = points()
    derived = grad(weights, "m", backend="numba")
    expected = grad(weights, "m")(x, m, 700.0, 1.0)
    out = np.empty_like(m)
    assert derived(x, m, 700.0, 1.0, out=out) is out
    np.testing.assert_allclose(out, expected, rtol=1e-10)
    derived(x, m, 0.0, 1e250, out=out)
    np.testing.assert_allclose(out, grad(weights, "m")(x, m, 0.0, 1e250), rtol=1e-10)
