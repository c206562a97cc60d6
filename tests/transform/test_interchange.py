"""Loops that change places: which do, the same results, the same errors; and those that must not."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest

from flatgrad import value_and_grad
from flatgrad.analysis.directions import Directions, solved
from tests.emitted import assert_same, floats_of, plain_function
from tests.transform.random_interchanges import are_adjoints_swapped, is_swapped, outcome

RNG = np.random.default_rng(8)
A, B = RNG.normal(size=(5, 6)), RNG.normal(size=(6, 9))
X, Y, W = RNG.normal(size=5), RNG.normal(size=6), RNG.normal(size=12)


def columns(A):
    total = 0.0
    for j in range(A.shape[1]):
        for i in range(A.shape[0]):
            total += A[i, j] * A[i, j]
    return total


def product(A, B):
    C = np.zeros((A.shape[0], B.shape[1]))
    for i in range(A.shape[0]):
        for j in range(B.shape[1]):
            s = 0.0
            for k in range(A.shape[1]):
                s += A[i, k] * B[k, j]
            C[i, j] = s
    return np.sum(C * C)


def product_outermost_column(A, B):
    C = np.zeros((A.shape[0], B.shape[1]))
    for j in range(B.shape[1]):
        for i in range(A.shape[0]):
            for k in range(A.shape[1]):
                C[i, j] += A[i, k] * B[k, j]
    return np.sum(C * C)


def activations(A, x):
    total = 0.0
    for j in range(A.shape[1]):
        s = 0.0
        for i in range(A.shape[0]):
            s += A[i, j] * x[i]
        total += np.tanh(s)
    return total


def sweep(A, a):
    u = A.copy()
    for j in range(1, u.shape[1] - 1):
        for i in range(1, u.shape[0] - 1):
            u[i, j] = a * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1])
    return np.sum(u * u)


def numbers_of_a_trip(A, y):
    r, last = 1.0, 0.0
    out = np.zeros(A.shape[1])
    for j in range(A.shape[1] - 1, 0, -1):
        e = np.exp(y[j])
        r = r * 0.9 + e
        s, largest = r, 0.0
        for i in range(1, A.shape[0]):
            s = s * 0.5 + A[i, j] * e
            if A[i - 1, j] > largest:
                largest = A[i - 1, j]
        out[j] = s + largest * r
        last = s
    return last + r + np.sum(out * out)


def down_the_diagonal(A):
    u = A.copy()
    for j in range(1, u.shape[1]):
        for i in range(1, u.shape[0]):
            u[i, j] += 0.5 * u[i - 1, j - 1]
    return np.sum(u * u)


def transposed(A):
    T = A.T
    total = 0.0
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            total += A[i, j] ** 2 + T[j, i] ** 3
    return total


def transposed_columns(A):
    T = A.T
    total = 0.0
    for i in range(T.shape[0]):
        for j in range(T.shape[1]):
            total += T[i, j] ** 3
    return total


LEGAL = [
    (columns, (A,)), (product, (A, B)), (product_outermost_column, (A, B)), (activations, (A, X)),
    (sweep, (A, 0.2)), (numbers_of_a_trip, (A, Y)), (down_the_diagonal, (A,)),
    (transposed_columns, (A,)),
]  # fmt: skip


def emitted(function, args, **options):
    derived = value_and_grad(
        function, argnums=floats_of(function, args), backend="numba", **options
    )
    derived.source(*args)
    return derived, plain_function(derived)


def expected(function, args):
    return value_and_grad(function, argnums=floats_of(function, args))(*args)


@pytest.mark.parametrize("function, args", LEGAL, ids=lambda one: getattr(one, "__name__", ""))
def test_loops_in_the_wrong_order_change_places(function, args):
    derived, run = emitted(function, args)
    assert is_swapped(derived)
    assert_same(run(*args), expected(function, args))


@pytest.mark.parametrize("shape", [(0, 6), (5, 0), (0, 0), (1, 6), (5, 1), (2, 3)])
def test_loops_without_trips(shape):
    some = RNG.normal(size=shape)
    for function, rest in ((columns, ()), (activations, (np.ones(shape[0]),)), (sweep, (0.3,))):
        args = (some, *rest)
        assert_same(emitted(function, args)[1](*args), expected(function, args))


def from_trip_to_trip(A):
    r, total = 1.0, 0.0
    for j in range(A.shape[1]):
        s = r
        for i in range(A.shape[0]):
            s += A[i, j]
        r = 0.5 * s
        total += r * s
    return total


# What must stay.


def against_the_diagonal(A):
    v = A.copy()
    for j in range(v.shape[1] - 1):
        for i in range(1, v.shape[0]):
            v[i, j] = 0.5 * v[i - 1, j + 1] + A[i, j]
    return np.sum(v * v)


def overwritten_diagonal(A, y):
    v = A.copy()
    for j in range(v.shape[1] - 1):
        for i in range(1, v.shape[0]):
            v[i - 1, j + 1] = y[j] * A[i, j]
            v[i, j] = 0.3 * A[i, j]
    return np.sum(v * v)


def last_of_each_sum(A, w):
    y = w.copy()
    for j in range(A.shape[1]):
        for i in range(A.shape[0]):
            y[i + j] = A[i, j]
    return np.sum(y * y)


def last_by_index(A, w, places):
    y = w.copy()
    for j in range(A.shape[1]):
        for i in range(A.shape[0]):
            y[places[i, j]] = A[i, j]
    return np.sum(y * y)


def diagonal_from_below(A):
    u = A.copy()
    for j in range(1, u.shape[1]):
        for i in range(u.shape[0] - 1, 0, -1):
            u[i, j] += 0.5 * u[i - 1, j - 1]
    return np.sum(u * u)


def from_the_end(A):
    u = A.copy()
    for j in range(1, u.shape[1]):
        for i in range(u.shape[0]):
            u[i, j] = 0.5 * u[i - 4, j - 1] + 0.1
    return np.sum(u * u)


def carried_through_an_array(A, y):
    y = y.copy()
    for j in range(1, A.shape[1]):
        s = y[j - 1]
        for i in range(A.shape[0]):
            s += A[i, j]
        y[j] = 0.5 * s
    return np.sum(y * y)


def rewritten_after(A):
    u = A.copy()
    for j in range(A.shape[1] - 1):
        for i in range(A.shape[0]):
            u[i, j] += u[i, j + 1]
        u[0, j + 1] = 1.5
    return np.sum(u * u)


PLACES = RNG.integers(0, 12, size=A.shape)
ILLEGAL = [
    (against_the_diagonal, (A,), "keeps_order"),
    (overwritten_diagonal, (A, Y), "keeps_order"),
    (last_of_each_sum, (A, W), "keeps_order"),
    (last_by_index, (A, W, PLACES), "keeps_order"),
    (diagonal_from_below, (A,), "keeps_order"),
    (from_the_end, (A,), "is_natural"),
    (carried_through_an_array, (A, Y), "has_own_elements"),
    (rewritten_after, (A,), "has_own_elements"),
]


@pytest.mark.parametrize(
    "function, args, check", ILLEGAL, ids=lambda one: getattr(one, "__name__", "")
)
def test_loops_that_must_stay_and_what_they_would_give(function, args, check):
    right = function(*args)
    names = tuple(n for n, a in zip(function.__code__.co_varnames, args, strict=False)
                  if a is not PLACES)  # fmt: skip
    derived = value_and_grad(function, argnums=names, backend="numba")
    derived.source(*args)
    assert not is_swapped(derived)
    np.testing.assert_allclose(plain_function(derived)(*args)[0], right, rtol=1e-12)
    with mock.patch.object(Directions, check, return_value=True):
        wrong = value_and_grad(function, argnums=names, backend="numba")
        wrong.source(*args)
        assert is_swapped(wrong)
        assert not np.allclose(plain_function(wrong)(*args)[0], right, rtol=1e-3)


def total_of_all(A):
    total = 0.0
    for j in range(A.shape[1]):
        for i in range(A.shape[0]):
            total = 0.9 * total + A[i, j]
    return total


def triangle(A):
    total = 0.0
    for j in range(A.shape[1]):
        for i in range(min(j, A.shape[0])):
            total += A[i, j]
    return total


def left_early(A):
    total = 0.0
    for j in range(A.shape[1]):
        for i in range(A.shape[0]):
            if A[i, j] > 1.0:
                break
            total += A[i, j]
    return total


def in_order(A):
    total = 0.0
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            total += A[i, j] * A[i, j]
    return total


def three_columns(A):
    total = 0.0
    for j in range(3):
        for i in range(A.shape[0]):
            total += A[i, j] * A[i, j]
    return total


@pytest.mark.parametrize(
    "function",
    [total_of_all, triangle, left_early, in_order, three_columns, transposed],
)
def test_loops_that_stay(function):
    derived, run = emitted(function, (A,))
    assert not is_swapped(derived)
    assert_same(run(A), expected(function, (A,)))


def test_adjoints_change_places_alone():
    """The sum over all stays as it is, its adjoint is rows of its own."""
    derived, run = emitted(from_trip_to_trip, (A,))
    assert not is_swapped(derived)
    assert are_adjoints_swapped(derived)
    assert_same(run(A), expected(from_trip_to_trip, (A,)))


def entry_of_a_product(A, B):
    C = np.zeros((A.shape[0], B.shape[1]))
    for j in range(B.shape[1]):
        for i in range(A.shape[0]):
            for k in range(A.shape[1]):
                C[i, j] += A[i, k] * B[k, j]
    return C[2, 3]


@pytest.mark.parametrize("function, args", [(entry_of_a_product, (A, B)), (activations, (A, X))])
def test_sums_of_rows_keep_their_order(function, args):
    """Each element is a sum over the same trips in the same order: the bits are the same."""
    derived, run = emitted(function, args, deterministic=True)
    assert is_swapped(derived)
    (value, *_), (same, *_) = run(*args), expected(function, args)
    assert value == same


def test_sums_over_both_loops_stay_if_the_order_counts():
    derived, run = emitted(columns, (A,), deterministic=True)
    assert not is_swapped(derived)
    assert run(A)[0] == columns(A)


def test_an_index_out_of_range_raises():
    def outside(A, x):
        total = 0.0
        for j in range(A.shape[1] + 1):
            for i in range(A.shape[0]):
                total += A[i, j] * x[i]
        return total

    derived, run = emitted(outside, (A, X))
    assert is_swapped(derived)
    with pytest.raises(IndexError):
        run(A, X)
    nothing = np.ones((0, 4))
    assert run(nothing, X)[0] == 0.0


def scaled_columns(A, a):
    total = 0.0
    for j in range(A.shape[1]):
        w = a * j
        s = 0.5 * a
        for i in range(A.shape[0]):
            s = s + A[i, j] * w
        total += s * w
    return total


def test_single_precision():
    """A Python float does not make a float32 a float64; one that was kept in a row would."""
    assert is_swapped(emitted(scaled_columns, (A, 0.3))[0])
    narrow = A.astype(np.float32)
    derived, run = emitted(scaled_columns, (narrow, 0.3))
    assert not is_swapped(derived)
    assert_same(run(narrow, 0.3), expected(scaled_columns, (narrow, 0.3)), 1e-6)
    for function, args in ((activations, (narrow, X.astype(np.float32))), (sweep, (narrow, 0.2))):
        derived, run = emitted(function, args)
        assert is_swapped(derived)
        assert_same(run(*args), expected(function, args), 1e-5, 1e-5)


def test_differences_of_indices():
    assert solved([(0, 1, 1), (1, 0, -1)]) == (-1, 1)
    assert solved([(1, 1, 2), (0, 1, 1)]) == (1, 1)
    assert solved([(2, 0, 1)]) is None
    assert solved([(0, 0, 1)]) is None
    assert solved([(1, 0, 1), (1, 0, 2)]) is None
    assert solved([(1, 1, 0)]) == (None, None)
    assert solved([]) == (None, None)


@pytest.mark.parametrize("seed", range(8))
def test_random_nests(seed, tmp_path):
    with np.errstate(all="ignore"):
        found = outcome(seed, tmp_path)
    assert not found.startswith("seed"), found
    assert found == "swapped" or seed, "the programs reach what they are for"
