"""What arrays have after the loops that fill them is read from them; the rest is recorded."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import grad
from flatgrad.testing import check_grads
from tests.transform.random_recurrences import outcome


def from_own_elements(x, n):
    """Each element from the one before it, and a sum over all before it."""
    y = np.zeros(n + 1)
    y[0] = x
    for i in range(n):
        y[i + 1] = np.sin(y[i]) + 0.1 * np.sum(y[:i] * y[:i])
    return np.sum(y * y)


def downward(x, n):
    y = np.zeros(n + 1)
    y[n] = x
    for i in range(n - 1, -1, -1):
        y[i] = y[i + 1] * y[i + 1]
    return np.sum(y)


def rows(x, n):
    """A row that is stored, and the one before it."""
    y = np.zeros((n + 1, 3))
    y[0] = x
    for t in range(n):
        s = np.tanh(y[t] * y[t])
        y[t + 1] = s
    return np.sum(y)


def triangular(x, n):
    y = np.zeros((n, n))
    for i in range(n):
        y[i, i] = x
        for j in range(i):
            y[i, j] = y[i - 1, j] * y[i, i] + y[j, j] * y[i - 1, j]
    return np.sum(y)


def in_a_branch(x, n):
    y = np.ones(n + 1) * x
    for i in range(n):
        if y[i] < 0.5:
            y[i + 1] = y[i] * y[i]
        else:
            y[i + 1] = y[i] / (1.0 + y[i])
    return np.sum(y)


def carried(x, n):
    """The state has a name of its own; each is stored."""
    y = np.zeros(n + 1)
    y[0] = x
    state = x
    for i in range(n):
        state = state + 0.1 * state * state
        y[i + 1] = state
    return np.sum(y * y)


def carried_vector(x, n):
    y = np.zeros((n + 3, 3))
    state = x.copy()
    y[2] = x
    for i in range(2, n + 2):
        state = state * state[::-1]
        y[i + 1] = state
    return np.sum(y)


LASTING = [(carried, 0.3), (carried_vector, np.ones(3) * 0.7),
           (from_own_elements, 0.3), (downward, 0.9), (rows, np.ones(3) * 0.4), (triangular, 0.7),
           (in_a_branch, 0.8)]  # fmt: skip


@pytest.mark.parametrize(("f", "x"), LASTING, ids=[f.__name__ for f, _ in LASTING])
def test_nothing_is_recorded(f, x):
    derived = grad(f)
    derived(x, 5)
    assert "_tape" not in derived.source(x, 5)
    check_grads(f, (x, 5))


def written_again(x, n):
    """The element is written a second time, in the next trip."""
    y = np.ones(n + 1) * x
    for i in range(n):
        y[i + 1] = y[i] * y[i]
        y[i] = 0.5 * x
    return np.sum(y)


def ahead(x, n):
    """The next trip writes what this one has read."""
    y = np.ones(n + 2) * x
    for i in range(n):
        y[i] = y[i + 1] * y[i + 1]
    return np.sum(y)


def from_the_end(x, n):
    """The first trip reads the last element, which the last trip writes."""
    y = np.ones(n) * x
    for i in range(n):
        y[i] = y[i - 1] * y[i - 1]
    return np.sum(y)


def second_round(x, n):
    y = np.ones(n + 1) * x
    for _ in range(2):
        for i in range(n):
            y[i + 1] = y[i] * y[i]
    return np.sum(y)


def unknown_place(x, n):
    """The place of a write is known only while running."""
    y = np.ones(n + 1) * x
    places = np.arange(n)[::-1]
    for i in range(n):
        y[places[i]] = y[i] * y[i]
    return np.sum(y)


def only_if(x, n):
    """What is stored in a branch is not stored in every trip."""
    y = np.ones(n + 1) * x
    for i in range(n):
        s = np.exp(y[i] * y[i] * x)
        if i % 2 == 0:
            y[i + 1] = s
    return np.sum(y)


def other_start(x, n):
    """What is in the array before the first trip is not what the state starts from."""
    y = np.ones(n + 1) * x
    state = 0.5 * x
    for i in range(n):
        state = state * state
        y[i + 1] = state
    return np.sum(y)


def other_state(x, n):
    """What is stored is not what the next trip gets."""
    y = np.ones(n + 1) * x
    y[0] = x
    state = x
    for i in range(n):
        next_state = state * state
        y[i + 1] = next_state
        state = next_state * 0.9
    return np.sum(y)


def start_overwritten(x, n):
    y = np.ones(n + 1) * x
    y[0] = x
    state = x
    for i in range(n):
        state = state * state
        y[i + 1] = state
        y[0] = 2.0 * state
    return np.sum(y)


OVERWRITTEN = [other_start, other_state, start_overwritten, written_again, ahead, from_the_end, second_round, unknown_place, only_if]


@pytest.mark.parametrize("f", OVERWRITTEN, ids=[f.__name__ for f in OVERWRITTEN])
def test_what_may_be_overwritten_is_recorded(f):
    derived = grad(f)
    derived(0.8, 5)
    assert f is only_if or "_tape" in derived.source(0.8, 5)
    check_grads(f, (0.8, 5))


def after_the_loop(x, n):
    """A write after the loop is no concern: the array at its end is another value."""
    y = np.ones(n + 1) * x
    for i in range(n):
        y[i + 1] = y[i] * y[i]
    y[1] = 3.0
    y *= 2.0
    return np.sum(y)


def test_a_write_after_the_loop_changes_nothing():
    check_grads(after_the_loop, (0.8, 5))


def test_a_product_of_all_rows_takes_the_array_itself():
    def states(A, n):
        h = np.ones((n + 1, 3))
        for t in range(n):
            h[t + 1] = np.tanh(A @ h[t])
        return np.sum(h * h)

    derived = grad(states, argnums="A", backend="numba")
    assert "grad_h_product_rows.T @ h[:n]" in derived.source(np.ones((3, 3)), 4)


@pytest.mark.parametrize("first", range(0, 40, 10))
def test_random_recurrences(first, tmp_path):
    with np.errstate(all="ignore"):
        found = [outcome(seed, tmp_path) for seed in range(first, first + 10)]
    assert all(one in ("ok", "lasting", "wild", "refused") for one in found), found
    assert "lasting" in found
