"""The two halves of a pullback measure lengths on parameters of their own."""

from __future__ import annotations

import numpy as np

import flatgrad as fg


def powers(X, K):
    S = K - K.T
    T = np.eye(2)
    for k in range(1, 4):
        T = T @ S / k
    return np.sum((X @ T) ** 2)


def test_products_that_leave_a_loop_of_the_late_half():
    X, K = np.random.default_rng(0).normal(size=(2, 2, 2))
    found = []
    for backend in ("numpy", "numba"):
        _, pullback = fg.vjp(fg.grad(powers, backend=backend), X, K, backend=backend)
        found.append(pullback((K, X)))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-12)
