"""Rules of users for functions of their own."""

from __future__ import annotations

import math

import numpy as np
import pytest

import flatgrad
from flatgrad import ArgumentError, UnsupportedError, check_grads, defjvp, defvjp, grad

X = np.array([0.3, -1.2, 2.0])


def opaque(function):
    """The same function with a body that could not be lowered."""

    def call(*args, **static):
        return eval("function(*args, **static)", {"function": function, **locals()})

    call.__name__ = call.__qualname__ = function.__name__
    call.__signature__ = __import__("inspect").signature(function)
    return call


@opaque
def cube(x):
    return x**3


@defvjp(cube)
def _(grad_y, y, x):
    return grad_y * 3 * x**2


@opaque
def scaled(x, w, *, power=1):
    return np.asarray(x) * w**power


@defvjp(scaled)
def _(grad_y, y, x, w, *, power=1):
    return grad_y * w**power, grad_y * power * y / w


@opaque
def total(x):
    return np.float64(np.sum(np.sin(x)))


defvjp(total, lambda grad_y, y, x: grad_y * np.cos(x), result=lambda x: ((), x.dtype))


@opaque
def rows(x, w):
    return x @ w


defvjp(
    rows,
    lambda grad_y, y, x, w: (np.outer(grad_y, w), x.T @ grad_y),
    result=lambda x, w: (x.shape[:1], x.dtype),
)


def use_cube(x):
    return np.sum(cube(x) * x)


def use_scaled(x, w):
    return np.sum(scaled(x, w, power=2)) + scaled(w, w)


def use_total(x):
    return total(x * x) * 2.0


def use_rows(x, w):
    y = rows(x, w)
    y[0] = 2.0 * y[0]
    return np.sum(y**2)


@pytest.mark.parametrize(
    ("f", "args"),
    [
        (use_cube, (X,)), (use_cube, (0.7,)), (use_scaled, (X, 1.5)), (use_total, (X,)),
        (use_rows, (np.arange(6.0).reshape(3, 2), np.array([0.5, -1.0]))),
    ],
)  # fmt: skip
def test_gradients(f, args):
    check_grads(f, args)


def test_the_rule_is_what_the_emitted_code_reads():
    g = grad(use_cube)
    g(X)
    assert "cube(x)" in g.source()
    assert "x ** 2" in g.source()


def test_a_variable_cannot_take_the_name_of_the_function():
    def f(cube_):
        return inner(cube_)

    def inner(x):
        cube_1 = cube(x)
        return np.sum(cube_1)

    np.testing.assert_allclose(grad(f)(X), 3 * X**2)


def test_saving_is_refused():
    g = grad(use_cube)
    g(X)
    with pytest.raises(UnsupportedError, match="`cube`"):
        g.save("never.py")


def test_numba_is_refused():
    with pytest.raises(UnsupportedError):
        grad(use_cube, backend="numba")(X)


@pytest.mark.parametrize(
    ("returned", "given"),
    [
        (lambda x: x[:1], X), (lambda x: x.astype(np.float32), X), (lambda x: (x, x), X),
        (lambda x: 1, 2.0), (lambda x: x * 1.0, X.astype(np.float32)[:, None] * np.float64(1)),
    ],
)  # fmt: skip
def test_a_result_of_another_type_is_no_silent_matter(returned, given):
    @opaque
    def wrong(x):
        return returned(x)

    defvjp(wrong, lambda grad_y, y, x: grad_y)

    def f(x):
        return np.sum(wrong(x)) * 1.0

    if returned(given) is given or np.shape(returned(given)) == np.shape(given) == (3, 1):
        f_value = grad(f)(given)
        assert np.shape(f_value) == np.shape(given)
        return
    with pytest.raises(ArgumentError, match="declared"):
        grad(f)(given)


RULES = {
    "returns 2 cotangents": lambda grad_y, y, x: (grad_y, grad_y),
    "returns 0 cotangents": lambda grad_y, y, x: (),
    "failed: TypeError": lambda grad_y, y: grad_y,
    "while compiling": lambda grad_y, y, x: grad_y if x > 0 else y,
    "with 2 axes instead of 1": lambda grad_y, y, x: np.outer(grad_y, x),
    "as a str": lambda grad_y, y, x: "no",
}


@pytest.mark.parametrize("message", RULES)
def test_a_rule_that_does_not_fit_is_refused(message):
    @opaque
    def f(x):
        return x * 1.0

    defvjp(f, RULES[message])

    def loss(x):
        return np.sum(f(x))

    with pytest.raises(ArgumentError, match=message):
        grad(loss)(X)


def test_lengths_that_differ_when_running_are_refused():
    @opaque
    def f(x, w):
        return x * 1.0

    defvjp(f, lambda grad_y, y, x, w: (w, None), result="x")

    def loss(x, w):
        return np.sum(f(x, w))

    with pytest.raises(ValueError, match="cotangent of `x`"):
        grad(loss, 0)(X, np.ones(2))


def test_a_function_gets_its_arrays_read_only():
    @opaque
    def writes(x):
        x[0] = 0.0
        return x

    defvjp(writes, lambda grad_y, y, x: grad_y)

    def loss(x):
        return np.sum(writes(x))

    with pytest.raises(ValueError, match="read-only"):
        grad(loss)(X)


def test_a_result_that_is_the_argument_is_a_copy():
    @opaque
    def same(x):
        return x

    defvjp(same, lambda grad_y, y, x: grad_y)

    def loss(x):
        y = same(x)
        y[0] = 5.0
        return np.sum(x * y)

    given = X.copy()
    np.testing.assert_allclose(grad(loss)(given), [5.0, 2 * X[1], 2 * X[2]])
    np.testing.assert_array_equal(given, X)


def test_what_cannot_be_given_rules():
    with pytest.raises(ArgumentError):
        defvjp(np.sin, lambda grad_y, y, x: grad_y)
    with pytest.raises(ArgumentError):
        defvjp(lambda *args: 1.0, lambda grad_y, y, x: grad_y)
    with pytest.raises(ArgumentError, match="already"):
        defvjp(cube, lambda grad_y, y, x: grad_y)
    with pytest.raises(ArgumentError, match="no argument"):
        defvjp(opaque(lambda x: x), lambda grad_y, y, x: grad_y, result="z")


def test_only_the_other_rule_is_no_rule():
    @opaque
    def forward_only(x):
        return math.sin(x)

    defjvp(forward_only, lambda dots, y, x: dots[0] * math.cos(x))

    def loss(x):
        return forward_only(x) * x

    with pytest.raises(UnsupportedError, match="no reverse rule"):
        grad(loss)(0.5)


def test_a_ufunc_of_a_library():
    ufunc = np.frompyfunc(lambda x: x * x, 1, 1)
    defvjp(ufunc, lambda grad_y, y, x: grad_y * 2 * x)

    def loss(x):
        return np.sum(ufunc(x))

    with pytest.raises(ArgumentError, match="object"):
        grad(loss)(X)


def test_public_names():
    assert (flatgrad.defvjp, flatgrad.defjvp) == (defvjp, defjvp)
