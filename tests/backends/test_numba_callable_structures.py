"""Derived functions of tuples and named tuples, called from `@njit` code."""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
import pytest

from flatgrad import grad, optim, value_and_grad

compiled = numba.njit(error_model="numpy")


class Layer(NamedTuple):
    W: np.ndarray
    b: np.ndarray


class Net(NamedTuple):
    hidden: Layer
    out: tuple
    scale: float


def loss(net, X, y):
    h = np.tanh(X @ net.hidden.W + net.hidden.b)
    s = h @ net.out[0] * net.scale + net.out[1]
    return np.mean((s - y) ** 2)


def arguments(dtype="float64"):
    rng = np.random.default_rng(0)
    hidden = Layer(rng.normal(size=(3, 4)).astype(dtype), rng.normal(size=4).astype(dtype))
    kind = np.dtype(dtype).type
    net = Net(hidden, (rng.normal(size=4).astype(dtype), kind(0.5)), kind(2))
    return net, rng.normal(size=(5, 3)).astype(dtype), rng.normal(size=5).astype(dtype)


def same(one, other, tolerance):
    if isinstance(other, tuple):
        assert type(one) is type(other)
        for x, y in zip(one, other, strict=True):
            same(x, y, tolerance)
    else:
        assert np.asarray(one).dtype == np.asarray(other).dtype
        np.testing.assert_allclose(one, other, rtol=tolerance)


@pytest.mark.parametrize("dtype, tolerance", [("float64", 1e-12), ("float32", 2e-5)])
def test_gradient_has_the_structure(dtype, tolerance):
    args = arguments(dtype)
    expected = value_and_grad(loss, argnums="net")(*args)
    derived = value_and_grad(loss, argnums="net", backend="numba")
    value, found = compiled(lambda net, X, y: derived(net, X, y))(*args)
    np.testing.assert_allclose(value, expected[0], rtol=tolerance)
    assert isinstance(found.hidden, Layer)
    if dtype == "float64":
        same(found, expected[1], tolerance)
    for one, other in zip((*found.hidden, found.out[0]), (*expected[1].hidden, expected[1].out[0])):
        assert one.dtype == dtype
        np.testing.assert_allclose(one, other, rtol=tolerance)


def test_several_parameters_and_no_names():
    """By default every parameter: a plain tuple of them, as before, with the structures in it."""
    args = arguments()
    expected = grad(loss)(*args)
    derived = grad(loss, backend="numba")
    found = compiled(lambda net, X, y: derived(net, X, y))(*args)
    same(found, tuple(expected), 1e-12)


@grad(argnums=("pair",), backend="numba")
def of_counts(pair, x):
    array, n, other = pair
    total = 0.0
    for i in range(n):
        total += array[i] * x
    return total if other is None else total * other[0]


def test_counts_and_what_is_no_parameter():
    x = np.array([1.0, 2.0, 3.0])
    run = compiled(lambda x, n: of_counts((x, n, None), 2.0))
    ((found, count, other),) = run(x, 2)
    assert found.tolist() == [2, 2, 0]
    assert (count, other) == (None, None)
    literal = compiled(lambda x: of_counts((x, 3, (0.5,)), y_of(x)))
    ((found, count, other),) = literal(x)
    assert found.tolist() == [0.5, 0.5, 0.5]
    assert other == (6.0,)


@compiled
def y_of(x):
    return x.size / 3.0


@grad(argnums="x", backend="numba")
def of_shape(x, shape):
    return np.sum(x.reshape(shape)[0])


@grad(argnums="p", backend="numba")
def along(p):
    total = np.sum(p[0], axis=p[1])
    return total[0]


def test_values_that_must_be_known_are_literals():
    """The numbers that stand for others while compiling are never used in their place."""
    x = np.arange(6.0)
    assert compiled(lambda x: of_shape(x, (2, 3)))(x).tolist() == [1, 1, 1, 0, 0, 0]
    with pytest.raises(numba.TypingError, match="the value of `shape` must be known"):
        compiled(lambda x, n: of_shape(x, (n, 3)))(x, 2)
    X = x.reshape(2, 3)
    assert compiled(lambda X: along((X, 1)))(X)[0].tolist() == [[1, 1, 1], [0, 0, 0]]
    with pytest.raises(numba.TypingError, match=r"the value of `p\[1\]` must be known"):
        compiled(lambda X, k: along((X, k)))(X, 1)
    with pytest.raises(numba.TypingError, match="`p` is of Numba type"):
        compiled(lambda X, on: along((X, on)))(X, True)


def test_lengths_and_axes_of_length_one_are_checked():
    net, X, y = arguments()
    derived = grad(loss, argnums="net", backend="numba")
    run = compiled(lambda net, X, y: derived(net, X, y))
    with pytest.raises(ValueError, match=r"`net\.hidden\.b` do not broadcast"):
        run(net._replace(hidden=Layer(net.hidden.W, np.ones(3))), X, y)
    with pytest.raises(ValueError, match="an axis of length 1"):
        run(net._replace(hidden=Layer(np.ones((3, 1)), np.ones(1))), X, y)


def written(pair, x):
    pair[0][0] = x
    return np.sum(pair[0] * pair[1])


def test_shared_memory_is_refused():
    derived = grad(written, argnums="x", backend="numba")
    run = compiled(lambda a, b: derived((a, b), 2.0))
    a, b = np.ones(3), np.array([3.0, 1.0, 1.0])
    assert run(a, b) == 3.0
    assert a[0] == 1.0
    with pytest.raises(ValueError, match="shares memory with"):
        run(a, a)


def test_whole_training_loop():
    """Gradients of a structure, and steps with them, in one compiled function."""
    step = value_and_grad(loss, argnums="net", backend="numba")

    @compiled
    def train(net, X, y, steps):
        state = optim.adam_init(net)
        for k in range(steps):
            value, grads = step(net, X, y)
            net, state = optim.adam(net, grads, state, 0.05 * 0.99**k)
        return net, value

    args = arguments()
    found, value = train(*args, 60)
    expected, wanted = train.py_func(*args, 60)
    same(found, expected, 1e-9)
    assert value == pytest.approx(wanted, rel=1e-9)
    assert value < 0.2 * step(*args)[0]
