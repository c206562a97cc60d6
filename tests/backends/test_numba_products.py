"""Products of matrices as Numba computes them: narrow ones the other way round, the same numbers."""

from __future__ import annotations

import numpy as np
import pytest
from numba.core.runtime import _nrt_python as _nrt
from numba.core.runtime import rtsys

from flatgrad import grad

SHAPES = [
    (500, 300, 10), (500, 100, 10), (500, 29, 10), (1000, 300, 2), (1000, 300, 32), (1000, 300, 33),
    (100, 800, 2), (7, 5, 3), (500, 300, 1), (500, 1, 10), (1, 500, 10), (0, 300, 10), (300, 0, 10),
    (300, 200, 0),
]  # fmt: skip
"""Samples, rows, columns."""


def cubes(X, s):
    return np.sum((X.T @ s) ** 3)


@pytest.fixture(scope="module")
def compiled():
    return grad(cubes, "X", backend="numba")


@pytest.mark.parametrize("shape", SHAPES)
def test_narrow_products(shape, compiled):
    samples, rows, columns = shape
    rng = np.random.default_rng(rows)
    X, s = rng.normal(size=(samples, rows)), rng.normal(size=(samples, columns))
    expected = grad(cubes, "X")(X, s)
    scale = np.max(np.abs(expected), initial=1.0)
    np.testing.assert_allclose(compiled(X, s), expected, rtol=1e-11, atol=1e-13 * scale)


def test_gaps_and_special_numbers(compiled):
    """NaN and inf reach what they reach; slices with gaps are copied."""
    rng = np.random.default_rng(0)
    X, s = rng.normal(size=(600, 600))[:, ::2], rng.normal(size=(1200, 10))[::2]
    X[3, 5], X[4, 7], s[9, 2] = np.nan, np.inf, 1e-310
    with np.errstate(all="ignore"):
        expected = grad(cubes, "X")(X, s)
    found = compiled(X, s)
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(expected))
    finite = np.isfinite(expected)
    np.testing.assert_allclose(found[finite], expected[finite], rtol=1e-9, atol=1e-7)


def test_memory_is_given_back(compiled):
    rng = np.random.default_rng(0)
    X, s = rng.normal(size=(500, 300)), rng.normal(size=(500, 10))
    compiled(X, s)
    _nrt.memsys_enable_stats()
    before = rtsys.get_allocation_stats()
    for _ in range(5):
        compiled(X, s)
    after = rtsys.get_allocation_stats()
    _nrt.memsys_disable_stats()
    assert after.alloc > before.alloc
    assert after.alloc - before.alloc == after.free - before.free
