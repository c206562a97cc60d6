"""Triangles as SciPy solves them."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
from scipy.linalg import cho_solve, cholesky, solve_triangular

from flatgrad import check_grads, grad, value_and_grad
from flatgrad.errors import FlatgradError

RNG = np.random.default_rng(0)
A = RNG.normal(size=(4, 4)) + 4 * np.eye(4)
S = A @ A.T
X, B = RNG.normal(size=4), RNG.normal(size=(4, 3))


def triangles(a, x, B):
    total = np.sum(np.sin(solve_triangular(a, x))) + np.sum(solve_triangular(a, B, lower=True) ** 2)
    total += np.sum(np.cos(solve_triangular(a, x, trans=1)))
    return total + np.sum(np.sin(solve_triangular(a, B, trans="T", lower=True)))


def factors(a, x, B):
    L, U = cholesky(a, lower=True), scipy.linalg.cholesky(a)
    total = np.sum(np.sin(L) * U.T) + np.sum(np.cos(U))
    return total + np.sum(np.sin(cho_solve((L, True), x))) + np.sum(cho_solve((U, False), B) ** 2)


@pytest.mark.parametrize("f, args", [(triangles, (A, X, B)), (factors, (S, X, B))])
def test_values_and_gradients(f, args):
    value, grads = value_and_grad(f)(*args)
    np.testing.assert_allclose(value, f(*args), rtol=1e-12)
    if f is triangles:
        check_grads(f, args)
    else:  # each of the two factors reads one triangle
        check_grads(lambda a, x, B: factors((a + a.T) / 2, x, B), args)
    found, others = value_and_grad(f, backend="numba")(*args)
    np.testing.assert_allclose(found, value, rtol=1e-12)
    for one, other in zip(others, grads, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)


def test_one_triangle_is_read():
    def f(a, x):
        return np.sum(solve_triangular(a, x, lower=True))

    changed = A + np.triu(np.full((4, 4), 7.0), 1)
    expected = grad(f)(A, X)
    for one, other in zip(grad(f)(changed, X), expected, strict=True):
        np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(np.triu(expected[0], 1), 0.0)


def test_what_is_refused():
    with pytest.raises(FlatgradError, match="trans=3"):
        grad(lambda a, x: np.sum(solve_triangular(a, x, trans=3)))(A, X)
    with pytest.raises(FlatgradError, match="unit_diagonal"):
        grad(lambda a, x: np.sum(solve_triangular(a, x, unit_diagonal=True)))(A, X)
    with pytest.raises(FlatgradError, match="many systems"):
        grad(lambda a, x: np.sum(solve_triangular(a, x)))(np.stack([A, A]), B)
