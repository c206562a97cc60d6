"""Arrays in one order of memory from trip to trip, for Numba."""

import numpy as np
import pytest

from flatgrad import grad, hvp

A = np.random.default_rng(0).normal(size=(3, 3))
FORTRAN = np.asfortranarray(A)


def transposed_before(A, n):
    X = A.T * 0.4
    Y = X
    for _ in range(n):
        Y = X + 1.0
        X = X @ A
    return np.sum(X * Y)


def transposed_in_each_trip(A, n):
    X = A
    for _ in range(n):
        X = X.T
        X = X * X[::-1]
    return np.sum(X[0])


def argument_first(A, n):
    X = A
    for _ in range(n):
        X = np.tanh(X + 0.1)
        X = X @ X
    return np.sum(X)


def inverse_or_product(A, n):
    X = np.linalg.inv(A) if n > 1 else A @ A
    Y = np.sin(X)
    while n > 0:
        X = np.cos(X) * Y
        n -= 1
    return np.sum(X)


def swapped(A, n):
    u = A.copy()
    v = A.copy()
    for _ in range(n):
        v[1:] = u[:-1] * np.sin(u[1:])
        u, v = v, u
    return np.sum(u * u)


def text(f, *args):
    return grad(f, "A", backend="numba").source(*args)


@pytest.mark.parametrize("f", [transposed_before, transposed_in_each_trip])
def test_the_order_changes(f):
    expected = grad(f, "A")(A, 2)
    np.testing.assert_allclose(grad(f, "A", backend="numba")(A, 2), expected)
    assert "np.ascontiguousarray(X)" in text(f, A, 2)


@pytest.mark.slow
@pytest.mark.parametrize("f", [argument_first, inverse_or_product])
def test_arguments_in_either_order(f):
    derived = grad(f, "A", backend="numba")
    expected = grad(f, "A")(A, 2)
    before = FORTRAN.copy()
    np.testing.assert_allclose(derived(FORTRAN, 2), expected)
    np.testing.assert_allclose(derived(A, 2), expected)
    np.testing.assert_array_equal(FORTRAN, before)


@pytest.mark.slow
def test_second_derivatives():
    found = [
        hvp(transposed_before, (A, 2), (A + 1.0, None), argnums="A", backend=backend)
        for backend in ("numpy", "numba")
    ]
    np.testing.assert_allclose(*found)


def test_nothing_is_copied_where_the_order_stays():
    assert "ascontiguousarray" not in text(swapped, A, 2)
    assert "ascontiguousarray" not in grad(transposed_before, "A").source(A, 2)
