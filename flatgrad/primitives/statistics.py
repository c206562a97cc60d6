"""Spread and size: var, std, norm.

    v = np.var(x)               grad_x = grad_v * 2 / x.size * (x - np.mean(x))
    n = np.linalg.norm(x)       grad_x = grad_n / np.where(n == 0, np.inf, n) * x

Where they have no derivative (std of equal numbers, the norm of zeros) it is taken as 0, of every
order: the division is by inf there.
"""

from __future__ import annotations

import math

import numpy as np

from flatgrad.primitives.reduce import count, given, over, over_axes, restore_axes, shared, slopes
from flatgrad.primitives.registry import call, method, primitive
from flatgrad.primitives.samples import A
from flatgrad.primitives.typerules import fail, reduced


def _with_ddof():
    return [
        *over_axes()(),
        call(A(5), ddof=1), call(A(3, 4), axis=0, ddof=1), call(A(2, 3, 2), axis=(0, 1), ddof=2),
        call(A(3, 4), axis=-1, ddof=0.5, keepdims=True),
    ]  # fmt: skip


def _spreading():
    """Without rows of a single element, where the standard deviation has a kink."""
    return [one for one in _with_ddof() if one.args[0].shape != (3, 1, 2)] + [
        call(A(3, 1, 2), axis=(-2, 0)),
        call(A(3, 1, 2), axis=1, smooth=False),
    ]


def _degrees(x, axis, ddof):
    return count(x, axis) - ddof if ddof else count(x, axis)


@primitive(np.var, samples=_with_ddof)
def _(x, /, axis=None, *, ddof=0, keepdims=False):
    return reduced(np.var, x, axis, keepdims)


@slopes(np.var)
def _(y, x, *, axis, keepdims, ddof=0):
    return 2 / _degrees(x, axis, ddof), x - np.mean(x, **over(axis))


@primitive(np.std, samples=_spreading)
def _(x, /, axis=None, *, ddof=0, keepdims=False):
    return reduced(np.std, x, axis, keepdims)


@slopes(np.std)
def _(y, x, *, axis, keepdims, ddof=0):
    # Not y == 0: rounding of the mean can leave a y of 1e-17 for equal numbers.
    over_all = given(axis, keepdims)
    safe = np.where(np.max(x, **over_all) == np.min(x, **over_all), np.inf, y)
    return 1 / (_degrees(x, axis, ddof) * safe), x - np.mean(x, **over(axis))


def _norms():
    vector, matrix = A(4, distinct=True, low=-3.0), A(3, 4, distinct=True, low=-3.0)
    return [
        *over_axes()()[:4],
        *[call(vector, ord=p) for p in (1, 2, 2.5, 3, math.inf, -math.inf)],
        *[call(matrix, ord=p, axis=0) for p in (1, 2, 1.5, math.inf, -math.inf)],
        call(matrix, ord=3, axis=-1, keepdims=True),
        call(matrix, ord=math.inf, axis=1, keepdims=True),
        call(matrix, ord="fro"), call(A(2, 3, 2), axis=(0, 2)), call(A(2, 3, 2)), call(A()),
        call(A(2, 3, 2), ord="fro", axis=(-1, 0), keepdims=True), call(A(3, 1), axis=1),
        call(A(3, dtype="float32")), call(A(3, 4, dtype="float32"), axis=1, ord=3),
    ]  # fmt: skip


@primitive(np.linalg.norm, samples=_norms)
def _(x, /, ord=None, axis=None, keepdims=False):
    _power(x.ndim, ord, axis)
    return reduced(np.linalg.norm, x, axis, keepdims)


def _power(rank, ord, axis):
    """The p of the p-norm that `np.linalg.norm` takes; Frobenius is the 2-norm of all elements.

    Raises
    ------
    UnsupportedError
        For norms of matrices other than Frobenius and for p below 1.
    """
    reduced_axes = 1 if isinstance(axis, int) else rank if axis is None else len(axis)
    if ord is None and (axis is None or reduced_axes <= 2):
        return 2
    if reduced_axes == 2 and ord == "fro":
        return 2
    if reduced_axes == 2:
        raise fail(
            "unsupported-argument",
            f"`np.linalg.norm` of a matrix with ord={ord!r}",
            help="the Frobenius norm (no ord) is supported, and every norm of vectors with axis=",
        )
    if reduced_axes != 1 or isinstance(ord, str):
        raise fail("operand-type", f"`np.linalg.norm` with ord={ord!r} over {reduced_axes} axes")
    if ord < 1 and ord != -math.inf:
        raise fail(
            "unsupported-argument",
            f"`np.linalg.norm` with ord={ord!r}",
            help="ord can be None, a number of at least 1, inf or -inf",
        )
    return ord


@slopes(np.linalg.norm)
def _(y, x, *, axis=None, keepdims=False, ord=None):
    p = _power(x.ndim, ord, axis)
    if p == 1:
        return None, np.sign(x)
    if math.isinf(p):
        factor, winners = shared(y, np.abs(x), axis, keepdims)
        return factor, winners * np.sign(x)
    safe = np.where(y == 0, np.inf, y)
    if p == 2:
        return 1 / safe, x
    return None, np.sign(x) * (np.abs(x) / restore_axes(safe, x, axis, keepdims)) ** (p - 1)


method("var", "std")
