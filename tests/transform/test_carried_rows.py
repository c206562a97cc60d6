"""Adjoints of schemes in two buffers, which stay in a row from step to step."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import value_and_grad
from tests.emitted import assert_same, numba_text
from tests.transform.random_schemes import outcome

ROWS = [3, 19, 35]


def scheme(u0, a, steps):
    n = len(u0)
    u = u0.copy()
    v = u0.copy()
    for _ in range(steps):
        for i in range(1, n - 1):
            v[i] = u[i] + a * (u[i - 1] - 2 * u[i] + u[i + 1])
        u, v = v, u
    return np.sum(u * u)


def looked_at(u0, a, steps):
    """An element of the array is read in each step, so that its adjoint is not the row's alone."""
    n = len(u0)
    u = u0.copy()
    v = u0.copy()
    total = 0.0
    for _ in range(steps):
        for i in range(1, n - 1):
            v[i] = u[i] + a * (u[i - 1] - 2 * u[i] + u[i + 1])
        u, v = v, u
        total += u[1] * v[2]
    return np.sum(u * u) + total


def both_read(u0, a, steps):
    """The adjoint of the other buffer is not 0 at first."""
    n = len(u0)
    u = u0.copy()
    v = u0.copy()
    for _ in range(steps):
        for i in range(1, n - 1):
            v[i] = u[i] + a * (u[i - 1] - 2 * u[i] + u[i + 1])
        u, v = v, u
    return np.sum(u * v)


def kept(u0, a, steps):
    """No swap: the step reads what the last one has left."""
    n = len(u0)
    u = u0.copy()
    v = u0.copy()
    for _ in range(steps):
        for i in range(1, n - 1):
            v[i] = u[i] + a * (u[i - 1] - 2 * u[i] + u[i + 1])
        u[2] = v[1]
    return np.sum(u * v)


def test_a_step_reads_and_writes_rows():
    run, text = numba_text(scheme, (np.linspace(0.0, 1.0, 6), 0.2, 3))
    backward = text[text.index("# backward") :]
    step = backward[backward.index("for _ in") :]
    assert "grad_v_sum_row_next[" in step
    assert "grad_u[i]" not in step.partition("grad_u, grad_v")[0]
    for n in (0, 2, 3, 7):
        for steps in (0, 1, 2, 5):
            args = (np.linspace(0.0, 1.0, n) ** 2, 0.2, steps)
            assert_same(run(*args), value_and_grad(scheme)(*args))


@pytest.mark.parametrize("function", [looked_at, both_read, kept])
def test_where_somebody_else_reads_the_adjoint(function):
    args = (np.linspace(0.5, 1.0, 7), 0.2, 4)
    run, text = numba_text(function, args)
    assert "_row_next" not in text
    assert_same(run(*args), value_and_grad(function)(*args))


@pytest.mark.parametrize("seed", [1, *ROWS])
def test_random_programs(seed, tmp_path):
    with np.errstate(all="ignore"):
        assert outcome(seed, tmp_path) == ("rows" if seed in ROWS else "ok")
