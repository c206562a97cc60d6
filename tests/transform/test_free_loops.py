"""Loops whose indices are looked at before them: which are, the same results, the same errors."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.adbench import lstm
from flatgrad import grad, sigmoid, value_and_grad
from tests.emitted import assert_same, plain_function
from tests.transform.random_places import outcome

RNG = np.random.default_rng(5)
BEFORE = "index is out of bounds"


def two_rows(a, w, n, steps):
    a = a.copy()
    for _ in range(steps):
        for i in range(n):
            h, c = a[0, i], a[1, i]
            c = sigmoid(w[i]) * c + np.tanh(h * w[n + i])
            a[0, i] = np.tanh(c)
            a[1, i] = c
    return np.sum(a[0] * a[1])


def neighbours(a, w, n, steps):
    a = a.copy()
    for _ in range(steps):
        for i in range(n):
            a[0, i + 1] = np.tanh(a[0, i] * w[i])
    return np.sum(a)


def blocks_that_meet(a, w, n, steps):
    a = a.copy()
    for _ in range(steps):
        for i in range(n):
            a[0, i] = np.tanh(a[0, n - 1 + i] * w[i])
    return np.sum(a)


def from_the_end(a, w, n, steps):
    a = a.copy()
    for _ in range(steps):
        for i in range(n):
            a[0, i - 1] = np.tanh(a[1, i] * w[i])
    return np.sum(a)


def same_row_perhaps(a, w, n, steps):
    a = a.copy()
    for t in range(steps):
        for i in range(n):
            a[0, i] = np.tanh(a[t, n - 1 - i] * w[i])
    return np.sum(a)


def text_of(function, args):
    derived = value_and_grad(function, argnums=("a", "w"), backend="numba")
    return derived, derived.source(*args)


@pytest.mark.parametrize(
    ("function", "before"),
    [
        (two_rows, True), (neighbours, False), (blocks_that_meet, False), (from_the_end, False),
        (same_row_perhaps, False),
    ],
)  # fmt: skip
def test_which_loops(function, before):
    args = (RNG.normal(size=(3, 9)), RNG.normal(size=9), 4, 2)
    derived, text = text_of(function, args)
    assert (BEFORE in text.partition("# backward")[0]) is before
    expected = value_and_grad(function, argnums=("a", "w"))(*args)
    assert_same(plain_function(derived)(*args), expected)
    if before:
        assert_same(derived(*args), expected)


@pytest.mark.parametrize("n", [0, 1, 3, 4, 8, 9, 13])
def test_lengths_and_errors(n):
    derived, _ = text_of(two_rows, (np.ones((2, 9)), np.ones(9), 4, 2))
    args = (RNG.normal(size=(2, n)), RNG.normal(size=2 * n), n, 3)
    assert_same(derived(*args), value_and_grad(two_rows, argnums=("a", "w"))(*args))
    with pytest.raises(IndexError):
        derived(args[0], args[1], n + 1, 3)
    with pytest.raises(IndexError):
        derived(args[0], np.ones(2 * n + 1), n + 1, 3)
    derived(args[0], np.ones(2 * n + 1), n + 1, 0)


def pairs_of_rows(a, w, n, steps):
    a = a.copy()
    for q in range(steps):
        for i in range(n):
            c = np.tanh(a[2 * q, i] * w[i]) + a[2 * q + 1, i]
            a[2 * q, i] = c
            a[2 * q + 1, i] += c * w[i]
    return np.sum(a * a)


def test_rows_and_errors():
    args = (RNG.normal(size=(6, 5)), RNG.normal(size=5), 5, 3)
    derived, text = text_of(pairs_of_rows, args)
    assert "if 0 < n and 2 * q + 2 > a_1.shape[0]:" in text
    assert_same(derived(*args), value_and_grad(pairs_of_rows, argnums=("a", "w"))(*args))
    with pytest.raises(IndexError):
        derived(args[0], args[1], 5, 4)
    with pytest.raises(IndexError):
        derived(args[0][:5], args[1], 5, 3)
    assert_same(derived(args[0], args[1], 0, 4)[0], np.sum(args[0] ** 2))


def test_gates_by_loops():
    args = lstm.arguments(2, 9, 5)
    by = "main_params", "extra_params"
    derived = grad(lstm.loops, by, backend="numba")
    text = derived.source(*args)
    assert "math.tanh" not in text
    assert text.count("if 0 < b and 4 * b > main_params.shape[1]:") == 2
    assert_same(derived(*args), grad(lstm.arrays, by)(*args))
    with pytest.raises(IndexError):
        derived(args[0][:, :-1], *args[1:])


@pytest.mark.parametrize("seed", range(6))
def test_random_programs(seed):
    assert outcome(seed)
