"""Loops of both sweeps in one: the same results, and which pairs stay two."""

from __future__ import annotations

import re

import numpy as np
import pytest

from flatgrad import value_and_grad

RNG = np.random.default_rng(12)


def option(S, K, vol, z):
    total = 0.0
    for i in range(len(z)):
        s = S * np.exp(vol * z[i])
        if s > K:
            total += s - K
    return total / 7


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



def numba_text(function, args):
    derived = value_and_grad(function, argnums=floats(args), backend="numba")
    text = derived.source(*args)
    module = derived.__flatgrad__.last.compiled.module
    space: dict = {}
    plain = re.sub(r"^@numba\.njit\((?:[^()]|\n)*?\)\n", "", module.text, flags=re.MULTILINE)
    exec(plain, space)
    return space[module.name], text


def floats(args):
    return tuple(k for k, arg in enumerate(args) if not isinstance(arg, int))


def flat(tree):
    if isinstance(tree, tuple):
        return [leaf for item in tree for leaf in flat(item)]
    return [np.asarray(tree)]


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
    expected = value_and_grad(function, argnums=floats(args))(*args)
    run, text = numba_text(function, args)
    given = [float(a) if isinstance(a, float) else a for a in args]
    for one, other in zip(flat(run(*given)), flat(expected), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-13)
    assert text.count("for i in ") + text.count("for k in ") == loops, text


def test_what_both_compute_is_computed_once():
    _, text = numba_text(option, CASES[0][1])
    assert text.count("exp_f64(") == 1
    assert text.count("s = S * s_exp") == 1
