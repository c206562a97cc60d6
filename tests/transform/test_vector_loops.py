"""Loops in the form that vectorises: the same results, and which loops stay as they are."""

from __future__ import annotations

import re

import numpy as np
import pytest

from benchmarks.workloads.steps import heat, heat_nonlinear
from flatgrad import grad, value_and_grad
from tests.emitted import assert_same, floats_of, numba_text

RNG = np.random.default_rng(11)


def option(S, K, vol, z):
    total = 0.0
    for i in range(len(z)):
        s = S * np.exp(vol * z[i])
        if s > K:
            total += s - K
    return total / 7


def two_sided(x, a):
    total = 0.0
    for i in range(len(x)):
        if x[i] > a:
            y = x[i] * x[i]
        elif x[i] < -a:
            y = a * x[i]
        else:
            y = a
        total -= y * a
    return total


def wide_stencil(u):
    n = len(u)
    w = np.zeros(n)
    for i in range(2, n - 3):
        w[i] = u[i + 3] * u[i - 2] + np.sin(u[i])
    return np.sum(w * w)


def grid(u):
    n, m = u.shape
    w = np.zeros((n, m))
    for i in range(1, n - 1):
        for j in range(1, m - 1):
            w[i, j] = (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1]) * u[i, j]
    return np.sum(w * w)


def triangle(u):
    n = len(u)
    total = 0.0
    for i in range(n):
        for j in range(1, i):
            total += u[j - 1] * u[j] * u[i]
    return total


def around_the_corner(u):
    total = 0.0
    for i in range(len(u)):
        total += u[i - 1] * u[i]
    return total


def recurrence(u):
    v = u.copy()
    for i in range(1, len(u)):
        v[i] = v[i - 1] * u[i]
    return v[-1]


def both_ends(u):
    v = np.zeros(len(u))
    n = len(u)
    for i in range(-n, n):
        v[i] = u[i] * i
    return np.sum(v * v)


def down(u):
    w = np.empty(len(u))
    for i in range(len(u) - 1, -1, -1):
        w[i] = np.tanh(u[i])
    return np.sum(w * w)


def in_a_branch(u, flag):
    n = len(u)
    w = np.zeros(n)
    if flag > 0:
        for i in range(1, n - 1):
            w[i] = u[i - 1] * u[i + 1]
    return np.sum(w * u)


def stored_sum(u):
    total = 0.0
    partial = np.empty(len(u))
    for i in range(len(u)):
        total += u[i] * u[i]
        partial[i] = total
    return np.sum(partial)


def leaves_early(u):
    total = 0.0
    for i in range(len(u)):
        total += u[i] * u[i]
        if total > 3.0:
            break
    return total


def rows(x):
    total = 0.0
    for i in range(x.shape[0]):
        total += np.sum(np.exp(x[i]) * np.tanh(x[i]))
    return total


def A(*shape):
    return RNG.normal(size=shape)


CASES = [
    (option, (1.5, 2.0, 0.3, A(9))), (option, (1.5, 2.0, 0.3, A(0))),
    (two_sided, (A(9), 0.4)), (down, (A(6),)), (in_a_branch, (A(7), 1.0)),
    (in_a_branch, (A(7), -1.0)), (stored_sum, (A(5),)), (leaves_early, (A(9),)),
    *[(wide_stencil, (A(n),)) for n in (0, 4, 5, 6, 7, 20)],
    *[(grid, (A(n, m),)) for n, m in ((0, 3), (2, 2), (3, 3), (4, 20), (20, 4))],
    *[(triangle, (A(n),)) for n in (0, 1, 3, 8)],
    *[(around_the_corner, (A(n),)) for n in (0, 2, 5)],
    *[(recurrence, (A(n),)) for n in (2, 5)], (both_ends, (A(4),)),
    *[(f, (A(n), 0.2, 3)) for f in (heat, heat_nonlinear) for n in (0, 2, 3, 4, 5, 30)],
    (heat_nonlinear, (A(9), 0.2, 0)), (rows, (A(3, 4),)),
]  # fmt: skip


@pytest.mark.parametrize("function, args", CASES, ids=lambda v: getattr(v, "__name__", None))
def test_results_are_those_of_numpy(function, args):
    expected = value_and_grad(function, argnums=floats_of(function, args))(*args)
    run, _ = numba_text(function, args)
    with np.errstate(all="ignore"):
        assert_same(run(*args), expected)


@pytest.mark.parametrize(
    "function, args",
    [(heat_nonlinear, (A(30), 0.2, 4)), (option, (1.5, 2.0, 0.3, A(40))), (two_sided, (A(33), 0.4)),
     (grid, (A(20, 19),))],
    ids=lambda v: getattr(v, "__name__", None),
)  # fmt: skip
def test_compiled(function, args):
    floats = floats_of(function, args)
    expected = value_and_grad(function, argnums=floats)(*args)
    assert_same(value_and_grad(function, argnums=floats, backend="numba")(*args), expected)


@pytest.mark.parametrize("function, args", [
    (around_the_corner, (A(5),)),  # u[-1] is an element of another trip, too
    (recurrence, (A(5),)),
], ids=lambda v: getattr(v, "__name__", None))  # fmt: skip
def test_what_depends_on_other_trips_runs_backwards(function, args):
    _, text = numba_text(function, args)
    assert "_row" not in text
    assert re.search(r"range\(.*-1\)", text)


def test_an_array_with_two_names_for_an_element_keeps_its_order():
    _, text = numba_text(both_ends, (A(4),))
    assert re.search(r"range\(n - 1, .*-1\)", text)


def test_a_sum_that_is_stored_keeps_its_order():
    _, text = numba_text(stored_sum, (A(5),))
    assert "plus(total" not in text


def test_a_nan_of_the_other_branch_stays_there():
    def root(x):
        total = 0.0
        for i in range(len(x)):
            if x[i] > 0:
                total += np.sqrt(x[i])
        return total

    x = np.array([4.0, -1.0, 0.0, 1.0])
    value, slope = value_and_grad(root, backend="numba")(x)
    assert value == 3.0
    np.testing.assert_array_equal(slope, [0.25, 0.0, 0.0, 0.5])


def test_rows_are_made_once():
    _, text = numba_text(heat, (A(30), 0.2, 4))
    before, _, inside = text.partition("# backward")[2].partition("for _ in")
    assert "_row = np.zeros(" in before
    assert "np.zeros(" not in inside


def test_second_derivatives_of_gathered_loops():
    def slope_sum(u):
        return np.sum(grad(wide_stencil)(u) ** 2)

    u = A(12)
    expected = grad(slope_sum)(u)
    found = grad(slope_sum, backend="numba")(u)
    np.testing.assert_allclose(found, expected, rtol=1e-11)


def test_a_variable_may_be_called_like_a_helper():
    def weighted(plus, x):
        total = 0.0
        for i in range(len(x)):
            total += plus[i] * np.exp(x[i])
        return total

    args = (A(4), A(4))
    run, _ = numba_text(weighted, args)
    assert_same(run(*args), value_and_grad(weighted)(*args))
