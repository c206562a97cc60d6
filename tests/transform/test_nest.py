"""Tapes of nested loops, a last row, counters: what is emitted, and that it is right."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import grad
from flatgrad.testing import check_grads

CASES = {}


def case(*arguments, wrt=None, has=(), lacks=()):
    """`has` and `lacks` are pieces of the emitted text."""

    def note(function):
        CASES[function.__name__] = function, arguments, wrt, has, lacks
        return function

    return note


def floats(*shape):
    return np.random.default_rng(len(shape)).normal(size=shape)


@case(0.7, 0.3, 4, wrt=(0, 1), has=["h_tape[t, j] = h"], lacks=["h_tape_1"])
def two_deep(w, x, n):
    h = x
    for t in range(n):
        for j in range(3):
            h = np.tanh(w * h) * h
    return h


@case(0.7, 0.3, 2, 3, wrt=(0, 1), has=["h_tape_1[i, j, k] = h", "h = h_tape_1[i, j, k]"])
def three_deep(w, x, n, m):
    h = x
    for i in range(n):
        for j in range(m):
            for k in range(2):
                h = np.tanh(w * h) + k
        h = h * x
    return h


@case(0.7, 0.3, 3, wrt=(0, 1), has=["h_tape[t, 5 - j]"])
def stepping_down(w, x, n):
    h = x
    for t in range(n):
        for j in range(5, 1, -1):
            h = np.tanh(w * h) * h + j * 0.1
    return h


@case(0.7, 0.3, 3, wrt=(0, 1), has=["h_tape[t, j]"])
def starts_at_two(w, x, n):
    h = x
    for t in range(1, n):
        for j in range(2, n + 2):
            h = np.tanh(w * h) * h + j * 0.1
    return h


@case(0.7, 0.3, 0, wrt=(0, 1))
def no_trips(w, x, n):
    h = x
    for t in range(n):
        for j in range(n - 1):
            h = np.tanh(w * h) * h
    return h


@case(0.8, 1.2, wrt=(0, 1), has=["h_tape_1[j] = h", "push_2d"])
def inside_while(w, x):
    h = x
    while h > 0.2:
        for j in range(3):
            h = np.sin(w * h) * h + 0.05 * j
    return h


@case(floats(4, 4), floats(5, 4), 3, wrt=(0, 1), has=["h_tape[e, t] = h", "h_1 = h_tape[e, t + 1]"])
def last_row_nested(W, xs, n):
    h = np.zeros(W.shape[0])
    total = 0.0
    for e in range(n):
        for t in range(len(xs)):
            h = np.tanh(xs[t] + h @ W)
        total += np.sum(h) * total + 1
    return total


@case(floats(3, 4), floats(4, 4), floats(5, 3), has=["h_1 = h_tape[t + 1]", "np.empty((xs.shape[0] + 1, "])
def recurrent(Wx, Wh, xs):
    h = np.zeros(Wh.shape[0])
    for t in range(len(xs)):
        h = np.tanh(xs[t] @ Wx + h @ Wh)
    return np.sum(h * h)


@case(floats(3, 4), floats(4, 4), floats(0, 3))
def recurrent_without_steps(Wx, Wh, xs):
    h = np.ones(Wh.shape[0])
    for t in range(len(xs)):
        h = np.tanh(xs[t] @ Wx + h @ Wh)
    return np.sum(h * h)


@case(floats(4, 4), floats(4), has=["push_2d(h_tape, h, trips)", "h_tape[trip + 1]"])
def last_row_of_while(W, h):
    k = 0
    while k < 3:
        h = np.tanh(W @ h)
        k += 1
    return np.sum(h)


@case(floats(4, 4), floats(4), 5, wrt=(0, 1), has=["break"])
def last_row_with_break(W, h, n):
    for i in range(n):
        h = np.tanh(W @ h)
        if h[0] > 0.3:
            break
    return np.sum(h * h)


@case(0.4, 4, wrt=0, has=["k = 2 * i + 3"], lacks=["k_tape"])
def counter(x, n):
    k = 3
    y = x
    for i in range(n):
        y = np.sin(x * k + y)
        k += 2
    return y


@case(floats(9), lacks=["k_tape"])
def counter_of_while(x):
    k = 0
    y = 1.0
    while k < len(x):
        y = y * np.sin(x[k])
        k += 2
    return y


@case(floats(9), 3, wrt=0, lacks=["k_tape"])
def counter_with_a_step_of_data(x, step):
    k = 0
    y = 1.0
    for i in range(1, 7, 2):
        y = y * np.sin(x[k])
        k += step
    return y


@case(floats(6), 3, wrt=0, lacks=["grad_u.copy()"])
def slices(u0, n):
    u = u0.copy()
    for t in range(n):
        u[1:-1] = u[1:-1] * (u[:-2] - 2.0 * u[1:-1] + u[2:])
    return np.sum(u * u)


@pytest.mark.parametrize("name", CASES)
def test_tapes(name):
    function, args, wrt, has, lacks = CASES[name]
    derived = grad(function, argnums=wrt)
    derived(*args)
    text = derived.source()
    assert [piece for piece in has if piece not in text] == [], text
    assert [piece for piece in lacks if piece in text] == [], text
    check_grads(function, args, argnums=wrt)


@pytest.mark.parametrize("name", ["three_deep", "last_row_nested", "last_row_with_break", "slices"])
def test_compiled(name):
    function, args, wrt, _, _ = CASES[name]
    check_grads(function, args, argnums=wrt, backend="numba")


def test_lengths_that_a_second_trip_needs():
    args = floats(3, 4), floats(5, 4), floats(5, 3)
    with pytest.raises(ValueError, match=r"\[shape-mismatch\]") as caught:
        grad(recurrent)(*args)
    assert "`h` has 4 elements, `Wh` has 5 rows" in str(caught.value)


def growing(x, n):
    y = x
    for i in range(n):
        y = np.concatenate([y, np.sin(y[:2]) * y[0]])
    return np.sum(y * y)


def test_lengths_that_do_change():
    check_grads(growing, (floats(3), 3), argnums=0)
