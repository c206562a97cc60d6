"""Systems with triangles: what is known to be one, and that substitution is right."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from flatgrad import check_grads, grad, hvp

RNG = np.random.default_rng(0)


def covariance(n, dtype="float64"):
    A = RNG.normal(size=(n, n))
    return (A @ A.T / n + np.eye(n)).astype(dtype)


def likelihood(mean, S, x):
    L = np.linalg.cholesky(S)
    z = np.linalg.solve(L, x - mean)
    return -0.5 * (z @ z) - np.sum(np.log(np.diag(L)))


def inverses(S, x):
    L = np.linalg.cholesky(S)
    P = np.linalg.inv(L)
    return np.sum(np.sin(P @ x)) + np.sum(P.T @ x)


def many(S, B):
    L = np.linalg.cholesky(S)
    Z = np.linalg.solve(L, B)
    return np.sum(np.sin(np.linalg.solve(L.T, Z)))


def of_tril(A, x):
    return np.sum(np.sin(np.linalg.solve(np.tril(A), x))) + np.sum(np.linalg.inv(np.tril(A)) ** 2)


def assert_same(found, expected, tolerance=1e-9):
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=tolerance, atol=tolerance)


@cache
def compiled(form):
    """The gradient for Numba, once for all tests."""
    return grad(form, backend="numba")


@pytest.mark.parametrize("form", [likelihood, inverses, many, of_tril])
def test_compiled_equals_numpy(form):
    plain, derived = grad(form), compiled(form)
    for n in (1, 2, 3, 5, 8, 13, 50) if form is likelihood else (2, 3, 5, 8, 13, 50):
        S, x = covariance(n), RNG.normal(size=n)
        args = {
            likelihood: (RNG.normal(size=n), S, x), many: (S, RNG.normal(size=(n, 7))),
            of_tril: (S + n * np.eye(n), x),
        }.get(form, (S, x))  # fmt: skip
        assert_same(derived(*args), plain(*args))
    text = derived.source()
    assert "np.linalg.solve" not in text
    assert "np.linalg.inv" not in text


def test_numpy_keeps_its_functions():
    derived = grad(likelihood)
    derived(np.zeros(3), covariance(3), np.ones(3))
    assert "np.linalg.solve(L.T" in derived.source()
    check_grads(likelihood, (np.zeros(3), covariance(3), np.ones(3)))


def test_single_precision_stays():
    args = np.zeros(5, "f4"), covariance(5, "f4"), np.ones(5, "f4")
    grads = compiled(likelihood)(*args)
    assert [one.dtype for one in grads] == [np.float32] * 3
    assert_same(grads, grad(likelihood)(*[x.astype("f8") for x in args]), 2e-4)


def test_second_derivatives():
    S, x = covariance(4), RNG.normal(size=4)
    tangents = np.eye(4), np.ones(4)
    expected = hvp(inverses, (S, x), tangents)
    assert_same(hvp(inverses, (S, x), tangents, backend="numba"), expected)


def test_what_is_no_triangle():
    def f(S, x):
        L = np.linalg.cholesky(S)
        K = np.tril(S, 1)
        M = np.linalg.cholesky(S)
        M[0, 2] = x[0]
        return np.sum(np.linalg.solve(L + L.T, x) + np.linalg.solve(K, x) + np.linalg.solve(M, x))

    S, x = covariance(3), np.array([0.3, 2.0, -1.0])
    assert_same(grad(f, backend="numba")(S, x), grad(f)(S, x))


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_a_singular_triangle_is_refused(backend):
    A = np.tril(covariance(3))
    A[1, 1] = 0.0
    derived = grad(of_tril) if backend == "numpy" else compiled(of_tril)
    with pytest.raises(np.linalg.LinAlgError):
        derived(A, np.ones(3))


def test_one_order_of_sums():
    S, x = covariance(30), RNG.normal(size=30)
    derived = grad(likelihood, "mean", backend="numba", deterministic=True)
    assert_same([derived(np.zeros(30), S, x)], [grad(likelihood, "mean")(np.zeros(30), S, x)])
    assert "plus" not in derived.source()


def test_columns_in_fortran_order():
    S, B = covariance(6), RNG.normal(size=(6, 3))
    assert_same(compiled(many)(S, np.asfortranarray(B)), grad(many)(S, B))


def test_a_matrix_that_turns_out_not_to_be_square():
    def f(A, k):
        m = 0
        for _ in range(k):
            m += 1
        return np.sum(np.linalg.solve(np.tril(A[: m + 1, : m + 2]), A[0, : m + 1]))

    for backend in ("numpy", "numba"):
        with pytest.raises(np.linalg.LinAlgError, match="square"):
            grad(f, "A", backend=backend)(covariance(7), 3)
