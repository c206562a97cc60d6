"""Adjoints of Cholesky factors that are outer products and diagonals: which, and the numbers."""

from __future__ import annotations

import random

import numpy as np
import pytest
from scipy.linalg import cho_solve, solve_triangular

from flatgrad import value_and_grad
from tests.emitted import assert_same, plain
from tests.transform.random_factors import outcome

RNG = np.random.default_rng(3)


def likelihood(S, y, c):
    L = np.linalg.cholesky(S)
    z = np.linalg.solve(L, y)
    return -0.5 * (z @ z) - c * np.sum(np.log(np.diag(L)))


def process(S, y, c):
    """Of a Gaussian process: two outer products, each the transpose of the other."""
    L = np.linalg.cholesky(S + c * c * np.eye(len(y)))
    alpha = np.linalg.solve(L.T, np.linalg.solve(L, y))
    return -0.5 * y @ alpha - np.sum(np.log(np.diagonal(L)))


def by_scipy(S, y, c):
    L = np.linalg.cholesky(S)
    z = solve_triangular(L, y, lower=True)
    return 0.5 * c * np.sum(z**2) + np.sum(np.log(np.diag(L))) + y @ cho_solve((L, True), y)


def quadratic(S, y, c):
    L = np.linalg.cholesky(S)
    z = np.linalg.solve(L, c * y)
    return np.sum(z * z)


def determinant(S, y, c):
    return c * 2.0 * np.sum(np.log(np.diag(np.linalg.cholesky(S)))) + np.sum(y)


def in_a_loop(S, y, c):
    """The solutions are rows of tapes."""
    total = 0.0
    for k in range(3):
        L = np.linalg.cholesky(S + k * c * np.eye(len(y)))
        z = np.linalg.solve(L, y)
        total += z @ z + np.sum(np.log(np.diag(L)))
    return total


def of_a_sine(S, y, c):
    """The outer product of two vectors: not symmetric."""
    L = np.linalg.cholesky(S)
    z = np.linalg.solve(L, y)
    return np.sum(np.sin(c * z)) + np.sum(np.log(np.diag(L)))


def weighted(S, y, c):
    """The factors are arrays."""
    L = np.linalg.cholesky(S)
    z = np.linalg.solve(L, y)
    return np.sum(z * z * y) * c


def below_the_diagonal(S, y, c):
    L = np.linalg.cholesky(S)
    return np.sum(np.diag(L, -1) ** 2) * c + y @ y


def first_entries(S, y, c):
    """A diagonal with fewer entries than rows."""
    L = np.linalg.cholesky(S)
    k = np.arange(len(y) - 1)
    return np.sum(np.log(L[k, k])) * c + y @ y


def any_factor(S, y, c):
    L = np.linalg.cholesky(S)
    z = np.linalg.solve(L, y)
    return c * np.sum(np.sin(L)) + z @ z


def of_another(S, y, c):
    """The solution is for another triangle."""
    L = np.linalg.cholesky(S)
    K = np.linalg.cholesky(S + c * np.eye(len(y)))
    z = np.linalg.solve(K, L @ y)
    return z @ z


SYMMETRIC = [likelihood, process, by_scipy, quadratic, determinant]
PARTLY = [of_a_sine, weighted]
GENERAL = [below_the_diagonal, first_entries, any_factor, of_another, in_a_loop]


def arguments(n):
    A = RNG.normal(size=(n, n))
    return A @ A.T / n + np.eye(n), RNG.normal(size=n), 0.7


@pytest.mark.parametrize("function", [*SYMMETRIC, *PARTLY, *GENERAL])
def test_numbers_and_products(function):
    derived = value_and_grad(function, backend="numba")
    for n in (1, 2, 5, 9) if function is not first_entries else (2, 5, 9):
        args = arguments(n)
        found, text = plain(derived, args)
        assert_same(found(*args), value_and_grad(function)(*args), rtol=1e-9, atol=1e-11)
        if n == 1:
            continue
        main = text[text.rindex("\ndef ") :]
        assert ("fold_lower" in main) == (function not in SYMMETRIC)
        assert ("half_lower_2d(L.T @" in main) == (function in GENERAL)
        if function in (quadratic, weighted):
            assert ("inverse_lower" in main) == (function is weighted)


def test_inverse_of_a_subnormal_diagonal():
    """Its reciprocal is infinite, a quotient need not be."""

    def below(A):
        return np.linalg.inv(np.tril(A))[1, 0]

    A = np.array([[1e10, 0.0], [1.0, 4e-309]])
    found, _ = plain(value_and_grad(below, backend="numba"), (A,))
    with np.errstate(all="ignore"):
        assert found(A)[0] == pytest.approx(-1e-10 / 4e-309, rel=1e-12)


@pytest.mark.parametrize("seed", random.Random(11).sample(range(100_000), 4))
def test_random_programs(seed, tmp_path):
    assert outcome(seed, tmp_path) in ("symmetric", "partly", "general", "no factor")
