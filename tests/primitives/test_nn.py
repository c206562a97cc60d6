"""Activations and losses: stable at any size, second order, emitted text, scipy's twins."""

from __future__ import annotations

import math
import subprocess
import sys

import numpy as np
import pytest
import scipy.special
from scipy.special import log_softmax as scipy_log_softmax

from flatgrad import (
    ShapeError,
    UnsupportedError,
    activations,
    elu,
    gelu,
    grad,
    leaky_relu,
    log_softmax,
    logsumexp,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
    value_and_grad,
)
from flatgrad.primitives.registry import PRIMITIVES, call
from flatgrad.primitives.samples import A
from tests.primitives.harness import Case
from tests.primitives.second_order import assert_reverse_twice, assert_second_order
from tests.primitives.test_reduce import backward, differences

RNG = np.random.default_rng(0)
EXTREME = np.array([-1e5, -1000.0, -750.0, -40.0, 0.0, 40.0, 750.0, 1000.0, 1e5])

# The derivative far to the left and far to the right.
SLOPES = {
    "sigmoid": (0, 0), "relu": (0, 1), "leaky_relu": (0.01, 1), "elu": (0, 1), "softplus": (0, 1),
    "gelu": (0, 1), "silu": (0, 1), "normal_cdf": (0, 0),
}  # fmt: skip


def both_modes(function, x, **keywords):
    """Value, pulled and pushed ones for an elementwise function or one along axes."""
    case = Case(PRIMITIVES[function], call(A(*x.shape, dtype=x.dtype.name), **keywords))
    case.values = [x]
    y = case.output()
    _, (pulled,) = case.pulled(np.ones_like(y))
    return y, pulled, case.pushed([np.ones_like(x)])


@pytest.mark.parametrize("name", activations.ELEMENTWISE)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_elementwise_is_stable(name, dtype):
    x = EXTREME.astype(dtype)
    with np.errstate(all="raise", under="ignore"):
        y, pulled, pushed = both_modes(getattr(activations, name), x)
    assert y.dtype == pulled.dtype == pushed.dtype == dtype
    np.testing.assert_allclose(pulled, pushed, rtol=1e-6)
    left, right = SLOPES[name]
    np.testing.assert_allclose(pulled[:4], left, atol=1e-12, rtol=1e-6)
    np.testing.assert_allclose(pulled[-4:], right, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_along_axis_is_stable(dtype):
    x = np.array([[1000, -1000, 0], [-1000, -1000, -1000], [1000, 1000, 999]], dtype)
    p = np.exp(x - x.max(axis=1, keepdims=True))
    p = p / p.sum(axis=1, keepdims=True)
    weights = np.array([1.0, 2.0, 4.0], dtype)
    for function, expected in (
        (softmax, p * (weights - np.sum(p * weights, axis=1, keepdims=True))),
        (log_softmax, weights - p * 7),
    ):
        case = Case(PRIMITIVES[function], call(A(3, 3, dtype=dtype)))
        case.values = [x]
        with np.errstate(all="raise", under="ignore"):
            y = case.output()
            _, (pulled,) = case.pulled(np.broadcast_to(weights, (3, 3)))
            pushed = case.pushed([np.broadcast_to(weights, (3, 3))])
        assert y.dtype == pulled.dtype == pushed.dtype == dtype
        np.testing.assert_allclose(pulled, expected, rtol=1e-5, atol=1e-6)
        assert np.all(np.isfinite(pushed))
    with np.errstate(all="raise", under="ignore"):
        y, pulled, pushed = both_modes(logsumexp, x, axis=1)
    np.testing.assert_allclose(pulled, p, rtol=1e-5, atol=1e-30)
    np.testing.assert_allclose(pushed, np.ones(3), rtol=1e-6)


def test_logsumexp_of_a_row_that_is_minus_infinity():
    x = np.array([[-np.inf, -np.inf], [-np.inf, 2.0]])
    _, pulled, _ = both_modes(logsumexp, x, axis=1)
    np.testing.assert_array_equal(pulled, [[0.5, 0.5], [0, 1]])


def test_kinks():
    zero = np.zeros(3)

    def f(x):
        return np.sum(relu(x))

    def g(x):
        return np.sum(leaky_relu(x, 0.25))

    np.testing.assert_array_equal(grad(f)(zero), zero)
    np.testing.assert_array_equal(grad(g)(zero), zero + 0.25)


@pytest.mark.parametrize(
    ("function", "sample"),
    [
        (sigmoid, call(A(4))), (relu, call(A(4))), (softplus, call(A(4))), (silu, call(A(4))),
        (gelu, call(A(4))), (activations.normal_cdf, call(A(4))), (elu, call(A(4))),
        (leaky_relu, call(A(4))), (elu, call(A(2, 4), A(4, low=0.1))),
        (leaky_relu, call(A(2, 4), A(2, 1, low=0.1))), (softmax, call(A(3, 4))),
        (softmax, call(A(3, 4), axis=None)), (log_softmax, call(A(3, 4), axis=0)),
        (logsumexp, call(A(3, 4))), (logsumexp, call(A(2, 3, 2), axis=(0, 2))),
        (logsumexp, call(A(3, 4), axis=1, keepdims=True)),
    ],
)  # fmt: skip
def test_second_order(function, sample):
    assert_second_order(function, sample)
    assert_reverse_twice(function, sample)


# Emitted text


def rows(x):
    p = softmax(x, axis=1)
    y = np.sum(p * p)
    return y


def log_rows(x):
    p = log_softmax(x)
    y = np.sum(p * p)
    return y


def all_of(x):
    y = logsumexp(x)
    return y


def leaky(x):
    y = np.sum(leaky_relu(x, 0.1))
    return y


def gaussian(x):
    y = np.sum(gelu(x))
    return y


@pytest.mark.parametrize(
    ("function", "last"),
    [
        (rows, "grad_x = p * (grad_p - np.sum(grad_p * p, axis=1, keepdims=True))"),
        (log_rows, "grad_x = grad_p - np.exp(p) * grad_p.sum(axis=-1, keepdims=True)"),
        (all_of, "grad_x = grad_y * softmax(x, axis=None)"),
        (leaky, "grad_x = np.where(x > 0, grad_y, grad_y * 0.1)"),
    ],
)
def test_emitted_like_a_textbook(function, last):
    assert backward(function, RNG.normal(size=(3, 4)))[-1] == last


def test_helpers_travel_with_the_text():
    derived = grad(gaussian)
    derived(RNG.normal(size=3))
    assert derived.backward_source().count("normal_cdf(x)") == 1


# End to end


def test_cross_entropy_both_ways():
    labels = np.array([0, 3, 1])
    index = np.arange(3)

    def direct(x):
        return -np.mean(log_softmax(x)[index, labels])

    def by_hand(x):
        return -np.mean(np.log(softmax(x)[index, labels]))

    def by_logsumexp(x):
        return np.mean(logsumexp(x, axis=1) - x[index, labels])

    x = RNG.normal(size=(3, 4))
    one_hot = np.eye(4)[labels]
    for f in (direct, by_hand, by_logsumexp):
        np.testing.assert_allclose(grad(f)(x), (softmax(x) - one_hot) / 3, atol=1e-15)


def test_active_parameters():
    def f(x, slope, alpha):
        return np.sum(leaky_relu(x, slope) * elu(x, alpha=alpha)) + leaky_relu(-2.0, alpha)

    x = RNG.normal(size=(3, 4))
    slope = np.array([0.1, 0.2, 0.3, 0.4])
    grad_x, grad_slope, grad_alpha = grad(f)(x, slope, 0.7)
    np.testing.assert_allclose(grad_x, differences(lambda x: f(x, slope, 0.7), x), atol=1e-7)
    np.testing.assert_allclose(grad_slope, differences(lambda s: f(x, s, 0.7), slope), atol=1e-7)
    assert abs(grad_alpha - (f(x, slope, 0.701) - f(x, slope, 0.699)) / 0.002) < 1e-6


@pytest.mark.parametrize("name", activations.ELEMENTWISE)
def test_numbers(name):
    function = getattr(activations, name)

    def f(x):
        return function(x) * function(2 * x)

    for x in (-1.3, 0.4):
        slope = (f(x + 1e-6) - f(x - 1e-6)) / 2e-6
        assert abs(grad(f)(x) - slope) < 1e-8
        assert grad(f)(np.float32(x)).dtype == np.float32


def test_an_int_is_not_rounded():
    def f(x, n: int):
        return x * leaky_relu(n) + x * elu(n) + x * gelu(n)

    expected = leaky_relu(-3) + elu(-3) + gelu(-3)
    assert abs(grad(f, argnums="x")(1.0, -3) - expected) < 1e-15


# scipy.special


def scipy_chain(x):
    p = scipy.special.softmax(x, axis=1) + scipy.special.expit(x)
    q = scipy_log_softmax(x, axis=0) * scipy.special.ndtr(x)
    return np.sum(p * q) + np.sum(scipy.special.logsumexp(x, axis=1, keepdims=True) ** 2)


def scipy_defaults(x):
    total = scipy.special.logsumexp(x) + np.sum(scipy_log_softmax(x) ** 2)
    return total + np.sum(scipy.special.softmax(x) ** 2)


@pytest.mark.parametrize("function", [scipy_chain, scipy_defaults])
def test_scipy(function):
    x = RNG.normal(size=(3, 4))
    value, gradient = value_and_grad(function)(x)
    assert abs(value - function(x)) < 1e-12
    np.testing.assert_allclose(gradient, differences(function, x), rtol=1e-6, atol=1e-8)


def weighted(x):
    return scipy.special.logsumexp(x, b=x)


def signed(x):
    return scipy.special.logsumexp(x, return_sign=True)[0]


@pytest.mark.parametrize(("function", "word"), [(weighted, "'b'"), (signed, "'return_sign'")])
def test_scipy_keywords_are_refused(function, word):
    with pytest.raises(UnsupportedError, match=word):
        grad(function)(np.ones(3))


def test_wrong_axis_is_refused():
    def f(x):
        return np.sum(softmax(x, axis=2))

    with pytest.raises(ShapeError, match="axis 2"):
        grad(f)(np.ones((2, 3)))


def test_rules_do_not_load_scipy():
    code = "import flatgrad.primitives.rules, sys; assert 'scipy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_gelu_is_exact():
    def f(x):
        return gelu(x)

    x = 0.7
    cdf = 0.5 * math.erfc(-x / math.sqrt(2))
    density = math.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    assert abs(grad(f)(x) - (cdf + x * density)) < 1e-15
