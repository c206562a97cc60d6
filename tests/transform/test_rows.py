"""Rows that nests add to, replace, and read where they stand."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import sigmoid, value_and_grad
from tests.emitted import assert_same, plain_function
from tests.transform.random_rows import outcome

pytestmark = pytest.mark.filterwarnings("ignore:overflow")
RNG = np.random.default_rng(9)


def cells(w, s, xs):
    s = s.copy()
    for t in range(len(xs)):
        x = xs[t] * 0.5
        for q in range(len(w)):
            h, c = s[2 * q], s[2 * q + 1]
            c = c * sigmoid(x * w[q]) + np.tanh(h + x)
            x = np.tanh(c) * w[q]
            s[2 * q] = x
            s[2 * q + 1] = c
    return np.sum(s * s)


def rows_that_may_be_one(w, s, xs):
    """For the last of w, row 2 q is row -1."""
    s = s.copy()
    for t in range(len(xs)):
        for q in range(len(w)):
            h, c = s[2 * q], s[-1]
            c = c * sigmoid(xs[t] * w[q]) + np.tanh(h)
            s[2 * q] = np.tanh(c) * w[q]
            s[-1] = c * h
    return np.sum(s * s)


def rows_that_wrap(w, s, xs):
    """In the first trip both are the last row."""
    s = s.copy()
    for t in range(len(xs)):
        for q in range(len(w)):
            h, c = s[q - 1], s[-1 - q]
            c = c * sigmoid(xs[t] * w[q]) + np.tanh(h)
            s[q - 1] = np.tanh(c) * w[q]
            s[-1 - q] = c * h
    return np.sum(s * s)


def read_again(w, s, xs):
    """The row is read once more after it was replaced."""
    s = s.copy()
    for t in range(len(xs)):
        for q in range(len(w)):
            s[q] = np.tanh(s[q] * w[q] + xs[t])
            s[q + 1] = np.sin(s[q] * s[q + 1])
    return np.sum(s * s)


def last_call(function, n):
    """The line of the backward sweep that calls the nest of a step, and the whole text."""
    w, s, xs = RNG.normal(size=(2, n)), RNG.normal(size=(5, n)), RNG.normal(size=(3, n))
    derived = value_and_grad(function, argnums=("w", "s", "xs"), backend="numba")
    text = derived.backward_source(w, s, xs)
    main = text[text.rindex("\ndef ") :] if "\ndef " in text else text
    return next(line for line in main.splitlines() if "_loop(" in line and "grad_" in line), main


FUNCTIONS = [cells, rows_that_may_be_one, rows_that_wrap, read_again]


@pytest.mark.parametrize("function", FUNCTIONS)
def test_same_numbers(function):
    derived = value_and_grad(function, argnums=("w", "s", "xs"), backend="numba")
    for n, q, steps in ((4, 2, 3), (5, 1, 1), (3, 2, 0)):
        args = RNG.normal(size=(q, n)), RNG.normal(size=(2 * q, n)), RNG.normal(size=(steps, n))
        derived.source(*args)
        expected = value_and_grad(function, argnums=("w", "s", "xs"))(*args)
        assert_same(plain_function(derived)(*args), expected)


def test_compiled():
    """LLVM has been told that the trips of the nest are free."""
    derived = value_and_grad(cells, argnums=("w", "s", "xs"), backend="numba")
    for n in (4, 14, 33):
        args = RNG.normal(size=(2, n)), RNG.normal(size=(4, n)), RNG.normal(size=(6, n))
        assert_same(derived(*args), value_and_grad(cells, argnums=("w", "s", "xs"))(*args))


def test_rows_are_read_and_replaced_in_place():
    line, main = last_call(cells, 4)
    assert "[2 * q], grad_s_1[h_sum], grad_w[q])" in line
    assert "grad_w[q]" in line
    assert ".copy()" not in main.split("for t in")[1]
    assert "= 0.0" not in main.split("for t in")[1]
    assert "add_to_1d(grad_w" not in main


def columns(w, s, xs):
    """Parts with gaps between their rows."""
    for t in range(len(xs)):
        s = np.tanh(s[:, :2] * w[0, :2] + s[:, 2:] * xs[t, :2] + s[:, 1:3])
        s = np.concatenate((s, s * s), axis=1)
    return np.sum(s)


def test_parts_with_gaps_are_added_to_afterwards():
    """Compiled loops take one element after the other where an array has gaps."""
    w, s, xs = RNG.normal(size=(2, 4)), RNG.normal(size=(5, 4)), RNG.normal(size=(3, 4))
    derived = value_and_grad(columns, argnums=("w", "s", "xs"), backend="numba")
    text = derived.source(w, s, xs)
    assert text.count("    add_to_2d(") == 3
    expected = value_and_grad(columns, argnums=("w", "s", "xs"))(w, s, xs)
    assert_same(plain_function(derived)(w, s, xs), expected)


@pytest.mark.parametrize("function", [rows_that_may_be_one, rows_that_wrap])
def test_rows_that_may_be_the_same_are_not(function):
    _, main = last_call(function, 4)
    assert "= 0.0" in main.split("for t in")[1]


@pytest.mark.parametrize("seed", [3, 23])
def test_random_programs(seed, tmp_path):
    assert outcome(seed, tmp_path) in ("placed", "ok")
