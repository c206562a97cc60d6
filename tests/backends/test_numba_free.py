"""Loops whose trips may be made in any order: which are, what it brings, any length."""

from __future__ import annotations

import platform

import numba
import numpy as np
import pytest

from flatgrad import sigmoid, value_and_grad
from flatgrad.analysis.side_by_side import runs_side_by_side
from flatgrad.backends import numba_cpu
from flatgrad.ir.ops import called_functions
from tests.emitted import assert_same, floats_of, named
from tests.frontend.lowered import lowered

if numba_cpu.RELEASE not in numba_cpu.TUNED:
    pytest.skip("other releases of Numba have their own passes", allow_module_level=True)

from flatgrad.backends.numba_compiler import FastCompiler

RNG = np.random.default_rng(7)


def gates(x, y, z, w, steps):
    c = np.zeros_like(x)
    for _ in range(steps):
        a = np.tanh(x * c + y)
        c = c * sigmoid(z + a) + a * np.exp(-w * c)
    return np.sum(c * c)


def rows(x, w):
    y = np.tanh(x * w)
    return np.sum(y / np.sum(y * y, axis=1)[:, None])


@pytest.mark.parametrize("n", [0, 1, 2, 3, 4, 5, 7, 8, 9, 14, 16, 17, 31, 33])
def test_any_length(n):
    args = (*[RNG.normal(size=n) for _ in range(4)], 3)
    assert_same(value_and_grad(gates, backend="numba")(*args), value_and_grad(gates)(*args))
    x, w = RNG.normal(size=(3, n)) + 3.0, RNG.uniform(0.5, 1.0, n)
    if n:
        assert_same(value_and_grad(rows, backend="numba")(x, w), value_and_grad(rows)(x, w))


@pytest.mark.parametrize(
    ("function", "args"),
    [
        (gates, (*[np.ones(3) for _ in range(4)], 3)),
        (rows, (np.ones((3, 4)), np.ones(4))),
    ],
)
def test_nests_are_free(function, args):
    derived = value_and_grad(function, argnums=floats_of(function, args), backend="numba")
    graph = derived.__flatgrad__.specialise(named(function, args)).compiled.graph
    nests = [one for one in called_functions(graph.body) if one.nest]
    assert nests
    assert all(runs_side_by_side(nest.called) for nest in nests)


# --- which loops are not: the function itself stands for a nest


def own_elements(x):
    y = np.zeros_like(x)
    for i in range(len(x)):
        y[i] = np.tanh(x[i])
    return y


def any_reads(x, places):
    y = np.zeros_like(x)
    total = 0.0
    for i in range(len(x)):
        total += x[places[i]]
        y[i] = x[len(x) - 1 - i]
    return total * y


def column_sums(x):
    y = np.zeros(x.shape[1])
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            y[j] += x[i, j]
    return y


def recurrence(x):
    y = np.zeros_like(x)
    for i in range(1, len(x)):
        y[i] = y[i - 1] + x[i]
    return y


def histogram(x, places):
    y = np.zeros_like(x)
    for i in range(len(x)):
        y[places[i]] += x[i]
    return y


def one_place(x):
    y = np.zeros_like(x)
    for i in range(len(x)):
        y[0] = y[0] * x[i]
    return y


def neighbours(x):
    y = np.zeros_like(x)
    for i in range(len(x) - 1):
        y[i] += x[i]
        y[i + 1] += x[i]
    return y


def from_the_end(x):
    y = np.zeros_like(x)
    for i in range(-1, len(x) - 1):
        y[i] = x[i + 1]
    return y


def carried_number(x):
    y = np.zeros_like(x)
    last = 1.0
    for i in range(len(x)):
        last = last * x[i]
        y[i] = last
    return y


def no_loop(x):
    return x + 1.0


PLACES = np.array([0, 0, 2, 1])


@pytest.mark.parametrize(
    ("function", "args", "free"),
    [
        (own_elements, (np.ones(4),), True),
        (any_reads, (np.ones(4), PLACES), True),
        (column_sums, (np.ones((3, 4)),), True),
        (recurrence, (np.ones(4),), False),
        (histogram, (np.ones(4), PLACES), False),
        (one_place, (np.ones(4),), False),
        (neighbours, (np.ones(4),), False),
        (from_the_end, (np.ones(4),), False),
        (carried_number, (np.ones(4),), False),
        (no_loop, (np.ones(4),), False),
    ],
)
def test_which_loops_are_free(function, args, free):
    fn, *_ = lowered(function, args)
    assert runs_side_by_side(fn) is free


# --- what the marks bring


def many(a, b, c, d, e, f, g, h, p, q, r, s, t, u, v, w, x, y, z):
    for i in range(p.size):
        p[i] = a[i] * b[i]
        q[i] = c[i] * d[i]
        r[i] = e[i] * f[i]
        s[i] = g[i] * h[i]
        t[i] = a[i] * h[i]
        u[i] = b[i] * g[i]
        v[i] = c[i] * f[i]
        w[i] = d[i] * e[i]
        x[i] = a[i] * g[i]
        y[i] = b[i] * f[i]
        z[i] = c[i] * e[i]


def compiled(*, free):
    dispatcher = numba.njit(error_model="numpy")(many)
    dispatcher._compiler.pipeline_class = FastCompiler
    if free:
        many.has_short_loops = True
    arrays = [RNG.normal(size=11) for _ in range(19)]
    dispatcher(*arrays)
    assert np.array_equal(arrays[8], arrays[0] * arrays[1])
    assert np.array_equal(arrays[-1], arrays[2] * arrays[4])
    return next(iter(dispatcher.inspect_asm().values()))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the instructions of one machine")
def test_many_arrays_are_no_hindrance():
    assert "mulpd" not in compiled(free=False)
    assert "mulpd" in compiled(free=True)
