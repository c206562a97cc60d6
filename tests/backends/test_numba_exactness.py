"""Compiled code computes what NumPy does to the last bit where a comparison depends on it."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import value_and_grad

RNG = np.random.default_rng(5)


def A(*shape):
    return RNG.normal(size=shape)


def maximum_of_rows(x, y, z):
    q = x * y  # q + z is one instruction where nothing else reads q
    return np.sum(np.max(q + z, axis=1)) + np.sum(q * q)


def sums_of_bools(x, m, n):
    total = 0.0
    for i in range(len(x)):
        total += x[i] * (m[i] + n[i]) + x[i] * ((x[i] > 0) + (x[i] < 9))
    return total + np.sum(np.exp(x) * (m + n)) + np.sum(m + n) * x[0] + np.sum(x * (m * n))


M, N = np.array([True, True, False, False]), np.array([True, False, True, False])


@pytest.mark.parametrize(
    "function, args",
    [(maximum_of_rows, (A(20, 9), A(20, 9), A(20, 9))),
     (sums_of_bools, (A(4), M, N))],
    ids=lambda v: getattr(v, "__name__", None),
)  # fmt: skip
def test_compiled(function, args):
    argnums = tuple(k for k, arg in enumerate(args) if arg.dtype != "bool")
    value, grads = value_and_grad(function, argnums=argnums)(*args)
    found, found_grads = value_and_grad(function, argnums=argnums, backend="numba")(*args)
    np.testing.assert_allclose(found, value, rtol=1e-12)
    np.testing.assert_allclose(value, function(*args), rtol=1e-12)
    for one, other in zip(found_grads, grads, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-12)
