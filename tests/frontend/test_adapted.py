"""Derivatives of methods, of partial functions and of objects with `__call__`."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import FlatgradError, grad

X = np.array([1.0, 2.0, -3.0])


@dataclass
class Model:
    w: np.ndarray
    power: int = 2

    def loss(self, x, /, y=1.0, *, scale: float = 2.0):
        """Its docstring."""
        return np.sum(self.w * x**self.power) * y * scale

    def __call__(self, function):
        return self.loss(function)

    def many(self, *args):
        return args[0]


def scaled(w, x, b=1.0):
    return np.sum(w * x * x) * b


def test_method():
    model = Model(np.ones(3))
    derived = grad(model.loss, "x")
    np.testing.assert_allclose(derived(X), 4 * X)
    np.testing.assert_allclose(derived(X, scale=3.0), 6 * X)
    assert derived.__doc__ == "Its docstring."
    assert derived.source().startswith("def loss_grad(x, y, scale, w):")
    model.w, model.power = np.full(3, 5.0), 3
    np.testing.assert_allclose(derived(X, 2.0), 60 * X**2)
    assert grad(model.loss)(X)._fields == ("x", "y", "scale")


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_object_and_partial(backend):
    model = Model(np.ones(3))
    np.testing.assert_allclose(grad(model, backend=backend)(X), 4 * X)
    part = functools.partial(functools.partial(scaled, np.arange(3.0)), b=2.0)
    np.testing.assert_allclose(grad(part, "x", backend=backend)(X), 4 * np.arange(3) * X)


def test_modes_of_a_method():
    model = Model(np.ones(3))
    np.testing.assert_allclose(fg.hvp(model.loss, (X,), (X,), "x"), 4 * X)
    np.testing.assert_allclose(fg.hessian(model)(X), 4 * np.eye(3))
    assert fg.jvp(model, (X,), (X,)) == (28.0, 56.0)

    def around(x):
        return np.sum(grad(model.loss, "x")(x) * x)

    np.testing.assert_allclose(grad(around)(X), 8 * X)


def test_refused():
    for function in (Model(X).many, np.sin, len):
        with pytest.raises(FlatgradError):
            grad(function)(X)
