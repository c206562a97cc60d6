"""Functions of what all strips have in common: computed once, where that is the same."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import value_and_grad
from tests.emitted import assert_same, plain

RNG = np.random.default_rng(23)


def scaled(x, q):
    """Both sweeps read the exponential."""
    centered = np.empty(x.shape[1])
    total = 0.0
    for i in range(x.shape[0]):
        for c in range(q.shape[0]):
            for a in range(x.shape[1]):
                centered[a] = x[i, a] - q[c, a]
            square = 0.0
            for a in range(x.shape[1]):
                y = np.exp(q[c, a]) * centered[a]
                for b in range(a):
                    y += q[c, b] * centered[b]
                square += y * y
            total += np.log1p(square)
    return total


def of_what_adds_up(x, q):
    """What comes from trip to trip is not there before the strips."""
    centered = np.empty(x.shape[1])
    total = 0.0
    for i in range(x.shape[0]):
        for c in range(q.shape[0]):
            for a in range(x.shape[1]):
                centered[a] = x[i, a] - q[c, a]
            square = 0.0
            sum_q = 0.0
            for a in range(x.shape[1]):
                sum_q += q[c, a]
                y = np.exp(sum_q) * centered[a]
                for b in range(a):
                    y += q[c, b] * centered[b]
                square += y * y
            total += np.log1p(square)
    return total


def in_a_triangle(x, q):
    """Nor is a rectangle filled for the sake of a triangle."""
    centered = np.empty(x.shape[1])
    total = 0.0
    for i in range(x.shape[0]):
        for c in range(2):
            for a in range(x.shape[1]):
                centered[a] = x[i, a] - q[c, a]
            square = 0.0
            for a in range(x.shape[1]):
                y = centered[a]
                for b in range(a):
                    y += np.exp(q[a, b]) * centered[b]
                square += y * y
            total += np.log1p(square)
    return total


def repeated(x, q, m):
    """Without trips of the loop in between nothing is read."""
    centered = np.empty(x.shape[1])
    total = 0.0
    for i in range(x.shape[0]):
        for r in range(m.shape[0]):
            for a in range(x.shape[1]):
                centered[a] = x[i, a] - m[r]
            square = 0.0
            for a in range(x.shape[1]):
                y = np.exp(q[0, a] + 1.0) * centered[a]
                for b in range(a):
                    y += q[0, b] * centered[b]
                square += y * y
            total += np.log1p(square)
    return total


def derived(function, backend):
    return value_and_grad(function, argnums=(0, 1), backend=backend)


def found(function, *args):
    """What the text for Numba computes as plain Python."""
    return plain(derived(function, "numba"), args)[0](*args)


def compare(function, *args):
    assert_same(found(function, *args), derived(function, "numpy")(*args))


def text(function, *args):
    return derived(function, "numba").source(*args)


@pytest.mark.parametrize(("n", "dtype"), [(3, "float64"), (70, "float64"), (70, "float32")])
def test_one_table_serves_both_sweeps(n, dtype):
    x, q = RNG.normal(size=(n, 3)).astype(dtype), RNG.normal(size=(2, 3)).astype(dtype)
    source = text(scaled, x, q)
    assert source.count(f"exp_f{dtype[-2:]}(") == 1
    assert source.count("y_table[c, a] = ") == 1
    assert source.count("y_table[c, a]") == 3
    assert "exp(" not in source.split("over_strips(")[1]
    if dtype == "float32":
        assert "y_table = np.empty((q.shape[0], x.shape[1]), dtype=np.float32)" in source
        for got, expected in zip(
            found(scaled, x, q)[1], derived(scaled, "numpy")(x, q)[1], strict=True
        ):
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    else:
        compare(scaled, x, q)


@pytest.mark.parametrize("function", [of_what_adds_up, in_a_triangle])
def test_what_differs_from_trip_to_trip_has_no_table(function):
    x, q = RNG.normal(size=(70, 3)), RNG.normal(size=(3, 3))
    source = text(function, x, q)
    assert "for lane in range(64)" in source
    assert "_table" not in source
    compare(function, x, q)


def test_an_index_that_is_never_used_is_not_looked_at():
    """The table would have more columns than `q`: there must be a strip, and trips around."""
    x, q, m = RNG.normal(size=(70, 5)), RNG.normal(size=(1, 3)), np.zeros(0)
    assert "y_table[a] = " in text(repeated, x, q, m)
    compare(repeated, x, q, m)
    compare(scaled, x[:0], q)
    with pytest.raises(IndexError):
        found(repeated, x, q, np.ones(1))
    compare(repeated, x[:, :3], q, RNG.normal(size=2))
