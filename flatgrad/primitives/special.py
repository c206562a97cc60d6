"""Functions of `scipy.special`; those that plain NumPy text computes are written so.

    xlogy(a, b)      a * np.log(np.where((a == 0) & (b <= 0), 1.0, b))      # 0 * log(0) is 0
    gammaln(x)       scipy.special.gammaln(x), whose derivative is scipy.special.psi(x)

SciPy is imported when such a function is first called, by whoever calls it.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from flatgrad.primitives.registry import call, elementwise, foreign, partials
from flatgrad.primitives.samples import A
from flatgrad.primitives.symbolic import operation


@foreign("scipy.special", "logit")
def _(x):
    return np.log(x) - np.log1p(-x)


@foreign("scipy.special", "xlogy")
def _(x, y):
    return x * np.log(np.where((x == 0) & (y <= 0), 1.0, y))


@foreign("scipy.special", "xlog1py")
def _(x, y):
    return x * np.log1p(np.where((x == 0) & (y <= -1), 0.0, y))


def _of_scipy(name: str) -> Callable[..., Any]:
    """A function that imports SciPy's when it is called, so that flatgrad need not."""

    def function(*args: Any) -> Any:
        return getattr(importlib.import_module("scipy.special"), name)(*args)

    function.__name__ = name
    function.__module__ = "scipy.special"
    return function


def _known(name: str, low: float, high: float) -> Callable[..., Any]:
    """Register a function of one number."""
    function = _of_scipy(name)
    elementwise(
        function,
        samples=lambda: [
            call(A(low=low, high=high)),
            call(A(4, low=low, high=high)),
            call(A(2, 3, low=low, high=high, dtype="float32")),
        ],
    )

    @foreign("scipy.special", name)
    def _(x):
        return operation(function)(x)

    return function


erf = _known("erf", -2.0, 2.0)
erfc = _known("erfc", -2.0, 2.0)
gammaln = _known("gammaln", 0.5, 4.0)
gamma = _known("gamma", 0.5, 4.0)
psi = _known("psi", 0.5, 4.0)
zeta = _of_scipy("zeta")
elementwise(zeta, arity=2, samples=lambda: [call(2.0, A(3, low=0.5, high=4.0))])
elementwise(math.lgamma, samples=lambda: [call(A(low=0.5, high=4.0))])
elementwise(math.gamma, samples=lambda: [call(A(low=0.5, high=4.0))])


@partials(erf)
def _(y, x):
    return 2 / math.sqrt(math.pi) * np.exp(-x * x)


@partials(erfc)
def _(y, x):
    return -2 / math.sqrt(math.pi) * np.exp(-x * x)


@partials(gammaln)
def _(y, x):
    return operation(psi)(x)


@partials(gamma)
def _(y, x):
    return y * operation(psi)(x)


@partials(psi)
def _(y, x):
    # The Hurwitz zeta function is known right of 0; what is left of it is reflected at 1/2.
    right = x > 0
    z = operation(zeta)(2.0, np.where(right, x, 1 - x))
    return np.where(right, z, (np.pi / np.sin(np.pi * np.where(right, 0.5, x))) ** 2 - z)


@partials(zeta)
def _(y, s, x):
    return None, -s * operation(zeta)(s + 1, x)  # s is a number of the rule for psi


@partials(math.lgamma)
def _(y, x):
    return operation(psi)(x)


@partials(math.gamma)
def _(y, x):
    return y * operation(psi)(x)
