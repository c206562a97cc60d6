"""Adjoints of arrays that were read in parts: filled by the nest, or not, with the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import sigmoid, value_and_grad
from tests.emitted import assert_same, plain_function

RNG = np.random.default_rng(3)


def gates(rows, c):
    n = len(c)
    for t in range(len(rows)):
        z = rows[t] * 0.5
        c = sigmoid(z[:n]) * c + np.tanh(z[n : 2 * n] * c) * sigmoid(z[2 * n :])
    return np.sum(c * c)


def overlapping(rows, c):
    n = len(c)
    for t in range(len(rows)):
        z = rows[t] * 0.5
        c = np.tanh(z[:n] * c) + np.sin(z[1 : n + 1]) * np.exp(-z[n:] * c)
    return np.sum(c * c)


def one_part_twice(rows, c):
    n = len(c)
    for t in range(len(rows)):
        z = rows[t] * 0.5
        c = np.tanh(z[:n] * c) * sigmoid(z[n : 2 * n] + np.cos(z[:n]))
    return np.sum(c * c)


def with_a_gap(rows, c):
    n = len(c)
    for t in range(len(rows)):
        z = rows[t] * 0.5
        c = np.tanh(z[:n] * c) * sigmoid(z[2 * n : 3 * n])
    return np.sum(c * c)


def rest_is_read_apart(rows, c):
    n = len(c)
    for t in range(len(rows)):
        z = rows[t] * 0.5
        c = np.tanh(z[:n] * c) * sigmoid(z[n : 2 * n]) + z[2 * n]
    return np.sum(c * c)


def derived_and_text(function, args):
    derived = value_and_grad(function, argnums=("rows", "c"), backend="numba")
    return derived, derived.source(*args)


def arguments(function, n):
    wide = 2 * n if function in (overlapping, one_part_twice) else 3 * n
    wide += function is rest_is_read_apart
    return RNG.normal(size=(3, wide)), RNG.normal(size=n)


@pytest.mark.parametrize(
    "function", [gates, overlapping, one_part_twice, with_a_gap, rest_is_read_apart]
)
def test_same_numbers(function):
    derived, _ = derived_and_text(function, arguments(function, 5))
    for n in (2, 5, 8):
        args = arguments(function, n)
        expected = value_and_grad(function, argnums=("rows", "c"))(*args)
        assert_same(plain_function(derived)(*args), expected)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 9, 16])
def test_filled_by_the_nest(n):
    derived, text = derived_and_text(gates, arguments(gates, 5))
    main = text.rpartition("def ")[2]
    assert "add_to_1d" not in main
    assert "_loop(grad_z, grad_rows[t])" in main
    args = arguments(gates, n)
    assert_same(derived(*args), value_and_grad(gates, argnums=("rows", "c"))(*args))


def test_lengths_that_do_not_fit():
    derived, _ = derived_and_text(gates, arguments(gates, 5))
    rows, c = arguments(gates, 5)
    for other in (rows[:, :-1], np.append(rows, rows[:, :1], axis=1)):
        with pytest.raises(ValueError, match="broadcast"):
            derived(other, c)
