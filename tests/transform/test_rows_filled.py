"""Rows that nests fill although they are read later, and states in their tapes: text and numbers."""

from __future__ import annotations

import random

import numpy as np
import pytest

from flatgrad import sigmoid, value_and_grad
from tests.emitted import assert_same, plain
from tests.transform.random_states import outcome

RNG = np.random.default_rng(8)


def state(W, b, xs):
    """The last state is read after the loop."""
    h = np.zeros(len(b))
    for t in range(len(xs)):
        h = np.tanh(xs[t] + W @ h + b)
    return np.sum(h * h)


def two_states(W, b, xs):
    h = np.zeros(len(b))
    c = b
    for t in range(len(xs)):
        z = xs[t] + h @ W
        c = sigmoid(z) * c + np.tanh(z)
        h = np.sin(z) * np.tanh(c)
    return np.sum(h * c)


def stored(W, b, xs):
    """The row is read after it was stored, by what is not a nest."""
    ys = np.zeros(xs.shape)
    total = 0.0
    for t in range(len(xs)):
        z = np.tanh(xs[t] * b)
        ys[t] = z
        total += np.sum(np.sin(W @ z))
    return total + np.sum(ys * ys)


def returned(W, b, xs):
    h = b
    for t in range(len(xs)):
        h = np.tanh(W @ h + xs[t])
    return np.sum(h), h


def changed(W, b, xs):
    """The row is stored and the value changed afterwards."""
    ys = np.zeros(xs.shape)
    total = 0.0
    for t in range(len(xs)):
        z = np.tanh(xs[t] * b)
        ys[t] = z
        z[0] = 2.0
        total += np.sum(np.sin(W @ z))
    return total + np.sum(ys * ys)


def read_late(W, b, xs):
    """The earlier state is read after the next one is made."""
    h = b
    total = 0.0
    for t in range(len(xs)):
        new = np.tanh(W @ h + xs[t])
        total += np.sum(np.sin(new * h))
        h = new
    return total


def kept_for_a_trip(W, b, xs):
    h, old = b, b
    total = 0.0
    for t in range(len(xs)):
        new = np.tanh(W @ h + old * xs[t])
        old = h
        h = new
    return total + np.sum(h * old)


def overwritten(W, b, xs):
    """Rows that a later statement of the trip changes."""
    ys = np.zeros(xs.shape)
    total = 0.0
    for t in range(len(xs)):
        z = np.tanh(xs[t] * b)
        ys[t] = z
        ys[0] = xs[t]
        total += np.sum(np.sin(W @ z))
    return total + np.sum(ys * ys)


ALL = [state, two_states, stored, returned, changed, read_late, kept_for_a_trip, overwritten]


def arguments(n, steps):
    return RNG.normal(size=(n, n)) / np.sqrt(n), RNG.normal(size=n), RNG.normal(size=(steps, n))


@pytest.mark.parametrize("function", ALL)
def test_numbers(function):
    has_aux = function is returned
    derived = value_and_grad(function, backend="numba", has_aux=has_aux)
    expected = value_and_grad(function, has_aux=has_aux)
    for n, steps in ((3, 4), (2, 0), (5, 1)):
        args = arguments(n, steps)
        found, _ = plain(derived, args)
        for _ in range(2):  # what the first call returned must not be in the way of the second
            assert_same(found(*args), expected(*args), rtol=1e-10, atol=1e-12)


def main_of(function):
    _, text = plain(value_and_grad(function, backend="numba", has_aux=function is returned), arguments(3, 4))
    return text[text.rindex("\ndef ") :]


def test_states_are_in_their_tapes():
    text = main_of(two_states)
    assert "c_tape[t + 1], h_tape[t + 1])" in text
    assert "_tape[t] = " not in text
    assert "h_loop(xs[t], W @ h, b, h_tape[t + 1])" in main_of(state)


def test_rows_are_read_where_they_are():
    assert "z_loop(xs[t], b, ys[t])" in main_of(stored)
    for function in (changed, overwritten):
        assert "ys[t] = z" in main_of(function)


def test_what_is_returned_has_memory_of_its_own():
    args = arguments(3, 4)
    found, text = plain(value_and_grad(returned, backend="numba", has_aux=True), args)
    (_, h), _ = found(*args)
    assert h.base is None
    assert "_tape[t + 1])" in text


@pytest.mark.parametrize("seed", random.Random(5).sample(range(100_000), 3))
def test_random_programs(seed, tmp_path):
    assert outcome(seed, tmp_path) in ("filled", "ok", "refused")
