"""Loops of both sweeps in one: the same results, and which pairs stay two."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import value_and_grad
from tests.emitted import assert_same, floats_of, numba_text
from tests.transform.test_vector_loops import option

RNG = np.random.default_rng(12)


def through_an_array(x, w):
    y = np.empty(len(x))
    for i in range(len(x)):
        y[i] = np.tanh(w * x[i])
    total = 0.0
    for i in range(len(x)):
        total += y[i] * np.exp(y[i])
    return total


def squared_sum(x):
    t = 0.0
    for i in range(len(x)):
        t += np.sin(x[i])
    return t * t


def other_range(x):
    t = 0.0
    for i in range(1, len(x)):
        t += x[i] * x[i]
    s = 0.0
    for i in range(len(x)):
        s += x[i] * x[i] * x[i]
    return t + s


def neighbours(x):
    y = np.zeros(len(x))
    for i in range(1, len(x)):
        y[i] = np.exp(x[i])
    total = 0.0
    for i in range(1, len(x)):
        total += y[i - 1] * y[i]
    return total


def overwritten(x):
    y = x.copy()
    total = 0.0
    for i in range(len(x)):
        total += y[i] * np.exp(y[i])
    y[0] = 2.0
    return total * y[1] * y[0]


def in_a_loop(x, n):
    total = 0.0
    for k in range(n):
        part = 0.0
        for i in range(len(x)):
            part += np.exp(k * x[i])
        total += part
    return total



CASES = [
    (option, (1.5, 2.0, 0.3, RNG.normal(size=9)), 1),
    (option, (1.5, 2.0, 0.3, RNG.normal(size=0)), 1),
    (through_an_array, (RNG.normal(size=6), 0.7), 3),
    (squared_sum, (RNG.normal(size=6),), 2),
    (other_range, (RNG.normal(size=6),), 3),
    (neighbours, (RNG.normal(size=7),), 4),
    (overwritten, (RNG.normal(size=5),), 2),
    (in_a_loop, (RNG.normal(size=5), 3), 4),
]


@pytest.mark.parametrize("function, args, loops", CASES, ids=lambda v: getattr(v, "__name__", None))
def test_results_and_loops(function, args, loops):
    expected = value_and_grad(function, argnums=floats_of(function, args))(*args)
    run, text = numba_text(function, args)
    assert_same(run(*args), expected)
    assert text.count("for i in ") + text.count("for k in ") == loops, text


def test_what_both_compute_is_computed_once():
    _, text = numba_text(option, CASES[0][1])
    assert text.count("exp_f64(") == 1
    assert text.count("s = S * s_exp") == 1
