"""Parts of arrays that are copied before nests, and those that are not."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import value_and_grad
from tests.emitted import assert_same, floats_of, numba_text


def gates(z, c):
    H = c.shape[1]
    i = np.tanh(z[:, :H])
    f = np.exp(z[:, H : 2 * H])
    return np.sum(f * c + i)


def every_second(z):
    return np.sum(np.exp(z[::2]) * z[1::2])


def inner_rows(x, n):
    total = 0.0
    for k in range(n):
        total += np.sum(np.tanh(x[k, 1:, :2]) * x[k, :-1, 1:])
    return total


def sums_only(z):
    return np.sum(z[:, 1:] * z[:, :-1] + z[:, 1:])


def whole_rows(z):
    return np.sum(np.exp(z[1:]) * z[:-1])


def of_a_row(z):
    return np.sum(np.exp(z[0, 1:]) * z[1, 1:])


RNG = np.random.default_rng(2)
COPIED = [
    (gates, (RNG.normal(size=(3, 8)), RNG.normal(size=(3, 4))), 2),
    (every_second, (RNG.normal(size=(6, 3)),), 2),
    (inner_rows, (RNG.normal(size=(2, 4, 3)), 2), 2),
    (sums_only, (RNG.normal(size=(3, 5)),), 0),
    (whole_rows, (RNG.normal(size=(4, 3)),), 0),
    (of_a_row, (RNG.normal(size=(2, 5)),), 0),
]


@pytest.mark.parametrize("function, args, copies", COPIED, ids=lambda v: getattr(v, "__name__", None))
def test_copies(function, args, copies):
    expected = value_and_grad(function, argnums=floats_of(function, args))(*args)
    run, text = numba_text(function, args)
    assert_same(run(*args), expected)
    assert (text.count("np.ascontiguousarray(") > 0) == (copies > 0), text


def test_compiled():
    function, args, _ = COPIED[0]
    expected = value_and_grad(function)(*args)
    assert_same(value_and_grad(function, backend="numba")(*args), expected)


def test_a_part_that_two_nests_read_is_copied_once():
    def both(z, c):
        H = c.shape[1]
        part = z[:, :H]
        total = np.sum(np.exp(part) * c)
        c = c @ c.T @ c
        return total * np.sum(np.tanh(part) * c)

    _, text = numba_text(both, (RNG.normal(size=(3, 6)), RNG.normal(size=(3, 3))))
    assert text.count("np.ascontiguousarray(") == 1
