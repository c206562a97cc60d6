"""What loops add to elements: written as additions, and summed up where it is one element."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import value_and_grad
from tests.emitted import assert_same, floats_of, numba_text, plain_function

RNG = np.random.default_rng(4)
A, X, Y = RNG.normal(size=(4, 5)), RNG.normal(size=5), RNG.normal(size=5)


def matrix_times_vector(A, x):
    y = np.zeros(A.shape[0])
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            y[i] += A[i, j] * x[j]
    return np.sum(y * y)


def written_out(A, x):
    y = np.zeros(A.shape[0])
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            y[i] = A[i, j] * x[j] + y[i]
            y[i] = y[i] + x[j]
    return np.sum(y * y)


def other_length(A, y):
    """Elements of y are read only if there are columns."""
    total = 0.0
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            total += A[i, j] * y[i]
    return total


def expected(function, args):
    return value_and_grad(function, argnums=floats_of(function, args))(*args)


@pytest.mark.parametrize("function", [matrix_times_vector, written_out])
def test_one_element(function):
    run, text = numba_text(function, (A, X))
    assert "y_sum = plus(y_sum, " in text
    assert "        y[i] += y_sum\n" in text
    assert "grad_y[i] = 0.0" not in text
    assert_same(run(A, X), expected(function, (A, X)))


def test_no_trips_and_no_element():
    run, text = numba_text(other_length, (A, Y))
    assert "grad_y[i] += grad_y_sum" in text
    assert_same(run(A, Y), expected(other_length, (A, Y)))
    nothing, short = np.ones((4, 0)), np.ones(2)
    assert_same(run(nothing, short), (0.0, (np.zeros((4, 0)), np.zeros(2))))
    with pytest.raises(IndexError):
        run(A, short)


def test_sums_keep_their_order_if_asked():
    derived = value_and_grad(
        matrix_times_vector, argnums=("A", "x"), backend="numba", deterministic=True
    )
    text = derived.source(A, X)
    assert "y[i] += A[i, j] * x[j]" in text
    assert_same(plain_function(derived)(A, X), expected(matrix_times_vector, (A, X)), 0, 0)


def own_element_read(A, x):
    y = x.copy()
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            y[i] += A[i, j] * y[i]
    return np.sum(y)


def two_elements(A, x):
    y = x.copy()
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            y[i] += A[i, j]
            y[i + 1] += A[i, j] * A[i, j]
    return np.sum(y * y)


def element_by_index(A, x):
    y = x.copy()
    for i in range(A.shape[0]):
        for j in range(A.shape[1]):
            y[int(A[i, j] > 0.0)] += A[i, j] * x[j]
    return np.sum(y * y)


@pytest.mark.parametrize("function", [own_element_read, two_elements, element_by_index])
def test_other_elements(function):
    run, text = numba_text(function, (A, X))
    assert "y_sum" not in text.split("# backward")[0]
    assert_same(run(A, X), expected(function, (A, X)))


def other_element(A, x):
    y = x.copy()
    for i in range(1, A.shape[0]):
        y[i] = y[i - 1] + A[i, 0]
    return np.sum(y * y)


def element_needed(A, x):
    y = x.copy()
    total = 0.0
    for i in range(A.shape[0]):
        before = y[i]
        y[i] = before + A[i, 0]
        total += before * y[i]
    return total


def sum_needed(A, x):
    y = x.copy()
    total = 0.0
    for i in range(A.shape[0]):
        s = y[i] + A[i, 0]
        y[i] = s
        total += s * s
    return total


@pytest.mark.parametrize("function", [other_element, element_needed, sum_needed])
def test_what_is_no_addition(function):
    run, text = numba_text(function, (A, X))
    assert "y[i] +=" not in text.split("# backward")[0]
    assert_same(run(A, X), expected(function, (A, X)))


def test_single_precision():
    given = A.astype(np.float32), X.astype(np.float32)
    run, _ = numba_text(matrix_times_vector, given)
    assert_same(run(*given), expected(matrix_times_vector, given), 1e-5, 1e-5)
