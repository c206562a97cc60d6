"""The options of how a derivative is compiled: what they change in the text and in the numbers."""

import math

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import FlatgradError, grad, value_and_grad

RNG = np.random.default_rng(11)


def mixed(x, w):
    u = np.exp(w * x) * np.tanh(x)
    return np.sum(u * u)


X, W = RNG.normal(size=301), RNG.normal(size=301)


def text(f=mixed, args=(X, W), **options):
    derived = value_and_grad(f, backend="numba", **options)
    derived.__flatgrad__.specialise(dict(zip(("x", "w"), args, strict=False)))
    return derived.lower(*args)["emitted"]


def test_without_fusion_statements_stay():
    assert "for i in range" in text()
    plain = text(fuse=False)
    assert "for i in range" not in plain.partition("def mixed")[2]
    assert "np.exp(" in plain


def test_fuse_is_about_numba_alone():
    one, other = grad(mixed), grad(mixed, fuse=False)
    one(X, W), other(X, W)
    assert one.source() == other.source()


@pytest.mark.parametrize("options", [
    {}, {"fuse": False}, {"precise": True}, {"deterministic": True},
    {"precise": True, "deterministic": True},
], ids=str)  # fmt: skip
def test_same_results(options):
    value, grads = value_and_grad(mixed, **options)(X, W)
    found, others = value_and_grad(mixed, backend="numba", **options)(X, W)
    assert found == pytest.approx(value, rel=1e-12)
    for one, other in zip(others, grads, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def test_precise_functions_are_those_of_the_c_library():
    def f(x):
        return np.sum(np.exp(x) * x)

    assert "exp_f64(" in text(f, (X,))
    assert "exp_f64(" not in text(f, (X,), precise=True)
    x = RNG.normal(size=2000) * 30
    found = grad(lambda x: np.sum(np.exp(x)), backend="numba", precise=True)(x)
    assert found.tolist() == [math.exp(number) for number in x]


def test_deterministic_sums_are_taken_in_order():
    """To the bit what Python computes from left to right, whatever the vectors of the machine."""

    def f(x, w):
        return np.sum(x * w + x)

    x, w = RNG.normal(size=1003) * 10.0 ** RNG.integers(-8, 8, size=1003), RNG.normal(size=1003)
    total = 0.0
    for x_i, w_i in zip(x.tolist(), w.tolist(), strict=True):
        total += x_i * w_i + x_i
    value, grads = value_and_grad(f, backend="numba", deterministic=True)(x, w)
    assert value == total
    assert grads.x.tolist() == (w + 1.0).tolist()
    assert "plus(" in text(f, (x, w))
    plain = text(f, (x, w), deterministic=True)
    assert "plus(" not in plain
    assert "fastmath" not in plain


def test_sums_of_float32_are_taken_in_float64():
    x = np.full(1 << 20, 0.1, np.float32)
    exact = float(np.float32(0.1)) * x.size

    def f(x):
        y = x * x / x
        return np.sum(y) + np.mean(y)

    for options in ({}, {"deterministic": True}, {"fuse": False}):
        value, grads = value_and_grad(f, backend="numba", **options)(x)
        assert value == pytest.approx(exact + 0.1, rel=1e-6)
        assert grads.dtype == np.float32


@pytest.mark.parametrize("options", [{}, {"precise": True}, {"deterministic": True}], ids=str)
def test_nan_and_inf_keep_their_meaning(options):
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e308, 5e-324, 1.0, 800.0, -800.0])

    def elements(x):
        y = np.exp(x) / (1.0 + np.exp(x)) + np.maximum(x, 0.0) - x / (x * x)
        return np.sum(np.where(x > 1.0, y, np.log(x) * x))

    def extremes(x):
        y = np.tanh(x) * x
        return np.max(y) + np.min(y)

    for f in (elements, extremes):
        for k in range(len(x)):
            for given in (x[k : k + 1], x[k:], x[: k + 1]):
                with np.errstate(all="ignore"):
                    value, gradient = value_and_grad(f)(given)
                    found, other = value_and_grad(f, backend="numba", **options)(given)
                np.testing.assert_allclose(found, value, rtol=1e-12)
                np.testing.assert_allclose(other, gradient, rtol=1e-12)


@pytest.mark.parametrize("derive", [
    lambda f, **options: fg.jvp(f, **options),
    lambda f, **options: fg.hvp(f, **options),
    lambda f, **options: fg.vjp(f, X, W, **options)[1],
    lambda f, **options: fg.linearize(f, X, W, **options)[1],
], ids=["jvp", "hvp", "vjp", "linearize"])  # fmt: skip
def test_all_modes_take_them(derive):
    with pytest.raises(FlatgradError, match="unknown option `fast`"):
        derive(mixed, fast=True)
    derive(mixed, backend="numba", fuse=False, precise=True, deterministic=True)


def test_jacobians_take_them():
    def f(x):
        return np.exp(x) * x

    expected = fg.jacobian(f)(X[:5])
    for make in (fg.jacfwd, fg.jacrev, fg.jacobian):
        found = make(f, backend="numba", precise=True, deterministic=True)(X[:5])
        np.testing.assert_allclose(found, expected, rtol=1e-13)


@pytest.mark.parametrize(("options", "message"), [
    ({"fused": True}, "unknown option `fused`"),
    ({"fuse": 1}, "`fuse` is True or False"),
    ({"precise": "yes"}, "`precise` is True or False"),
    ({"backend": "fortran"}, "unknown backend"),
])  # fmt: skip
def test_unknown_options_are_refused(options, message):
    with pytest.raises(FlatgradError, match=message) as caught:
        grad(mixed, **options)
    assert caught.value.code == "bad-option"
