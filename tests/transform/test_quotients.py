"""Quotients of the backward sweep that share their division."""

from __future__ import annotations

import numpy as np

from flatgrad import grad, value_and_grad
from tests.emitted import assert_same, numba_text


def of_elements(x, a):
    total = 0.0
    for i in range(len(x)):
        total += a * x[i] / (1 + x[i] * x[i])
    return total


def of_arrays(x, a):
    return np.sum(np.sin(x * a) / (1 + a * x * x))


def by_hand(g, k, s):
    """The user's own quotients: they have the same form, and stay."""
    first = g / s
    second = -g * k / s
    return np.sum(first * second)


def test_one_division_less():
    x = np.linspace(-1.0, 2.0, 7)
    for function in (of_elements, of_arrays):
        run, text = numba_text(function, (x, 0.3))
        plain = grad(function).source(x, 0.3)
        assert text.count(" / ") < value_and_grad(function).source(x, 0.3).count(" / "), plain
        with np.errstate(over="ignore"):  # the sine, of what it does not choose
            found = run(x, 0.3)
        assert_same(found, value_and_grad(function)(x, 0.3), rtol=1e-13)


def test_what_the_user_divides_stays():
    args = (np.array([3.0, 1e200]), np.array([2.0, 1e-200]), np.array([7.0, 1e250]))
    run, text = numba_text(by_hand, args)
    forward = text[: text.index("grad_")]
    assert forward.count(" / ") == 2 or "g_i / s_i" in text
    assert run(*args)[0] == value_and_grad(by_hand)(*args)[0]


def test_infinities_and_zeros():
    for x in (0.0, -0.0, np.inf, -np.inf, np.nan, 1e-320, 1e308):
        args = (np.array([1.0, x]), 0.5)
        with np.errstate(all="ignore"):
            for function in (of_elements, of_arrays):
                run, _ = numba_text(function, args)
                assert_same(run(*args), value_and_grad(function)(*args))
