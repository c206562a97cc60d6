"""`assert` and `raise` under run-time conditions: the derivative raises what the function raises."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import grad, hvp, value_and_grad, vjp
from flatgrad.errors import FlatgradError
from tests.frontend.numeric import check


def told(x, n):
    assert x[0] < 100, f"x0 is {x[0]:.2f} and {{braces}} n={n!r}"
    if n < 0:
        raise ValueError("negative")
    s = 0.0
    for i in range(n):
        if x[i] > 50:
            raise RuntimeError
        elif x[i] > 10:
            y = doubled(x[i])
        else:
            y = x[i]
        s += y * y
    else:
        if s > 1e3:
            raise OverflowError(f"s is {s}")
    return s


def doubled(v):
    if v > 20:
        if v > 30:
            raise ValueError("30")
        else:
            raise KeyError("20")
    return v * 2


BAD = [
    ([200.0, 1.0], 2), ([1.0, 2.0], -1), ([60.0, 1.0], 2), ([35.0, 1.0], 2), ([25.0, 1.0], 2),
    ([1.0, 15.9], 2), ([19.0, 19.0], 2),
]  # fmt: skip


def error_of(f, *args):
    try:
        f(*args)
    except Exception as caught:
        return caught
    raise AssertionError("no error")


@pytest.mark.parametrize("x, n", BAD)
def test_same_error_in_the_derivative(x, n):
    x = np.array(x)
    expected = error_of(told, x, n)
    derived = [grad(told, "x"), value_and_grad(told, "x")]
    if n >= 0:  # a captured int is known while compiling
        derived.append(lambda x, n: vjp(lambda x: told(x, n), x))
        derived.append(lambda x, n: hvp(lambda x: told(x, n), (x,), (x,)))
    for f in derived:
        found = error_of(f, x, n)
        assert type(found) is type(expected)
        # pytest appends a line of its own to the message of an `assert`
        assert str(found) == str(expected).split("\n")[0]


def test_gradients_where_nothing_is_raised():
    check(told, np.array([1.0, -2.0, 15.0]), 3)
    check(told, np.array([1.0]), 0)


def test_emitted_as_written():
    source = grad(told, "x")
    source(np.ones(2), 2)
    lines = source.source().splitlines()
    assert "    if n < 0:" in lines
    assert "            raise RuntimeError" in lines
    assert "        raise OverflowError(f's is {s}')" in lines


def found_at(x, limit):
    for i in range(len(x)):
        if x[i] > limit:
            return x[i] * x[i]
    raise LookupError("nothing there")


def test_raise_after_a_search():
    x = np.array([0.5, 2.0, 3.0])
    check(found_at, x, 1.0)
    assert str(error_of(grad(found_at, "x"), x, 9.0)) == "nothing there"


def newton(a):
    y = a
    for _ in range(20):
        step = (y * y - a) / (2 * y)
        y = y - step
        if abs(step) < 1e-12:
            break
    else:
        raise ArithmeticError("no convergence")
    return y


def test_raise_in_the_else_of_a_loop():
    check(newton, 2.0)
    assert str(error_of(grad(newton), float("nan"))) == "no convergence"


def conditional(x):
    return doubled(x) if x > 1 else x * x


def test_raise_in_a_conditional_expression():
    check(conditional, 3.0)
    check(conditional, 0.5)
    assert isinstance(error_of(grad(conditional), 25.0), KeyError)


def test_numba():
    derived = grad(told, "x", backend="numba")
    np.testing.assert_allclose(derived(np.array([1.0, -2.0, 15.0]), 3), [2.0, -4.0, 120.0])
    for x, n in BAD:
        found, expected = error_of(derived, np.array(x), n), error_of(told, np.array(x), n)
        assert type(found) is type(expected)
    assert str(error_of(derived, np.ones(2), -1)) == "negative"


class Custom(Exception):
    pass


@pytest.mark.parametrize(
    "f, code",
    [
        (lambda x: always(x), "unsupported-statement"),
        (lambda x: custom(x), "unsupported-statement"),
        (lambda x: two_parts(x), "unsupported-statement"),
        (lambda x: chained(x), "unsupported-statement"),
        (lambda x: never(x), "static-evaluation"),
    ],
)
def test_refused(f, code):
    with pytest.raises(FlatgradError) as caught:
        grad(f)(1.0)
    assert caught.value.code == code


def always(x):
    if x > 0:
        raise ValueError("one")
    raise ValueError("other")


def custom(x):
    if x < 0:
        raise Custom("mine")
    return x


def two_parts(x):
    if x < 0:
        raise ValueError("x", x)
    return x


def chained(x):
    if x < 0:
        raise ValueError("x") from Custom()
    return x


def never(x):
    assert x is None, "x is given"
    return x
