"""Reductions: sum, mean, max and kin.

    sum over axis 0 of (N, D)   reverse: the cotangent broadcast back over axis 0
"""

from __future__ import annotations

import numpy as np

from flatgrad.primitives.registry import call, jvp, linear, method, primitive, vjp
from flatgrad.primitives.samples import A
from flatgrad.primitives.typerules import normalize_axes, reduced


def over_axes(*extra, distinct=False, low=-2.0, **keywords):
    """Samples over every kind of axis argument."""
    a = A(3, 4, distinct=distinct, low=low)
    b = A(2, 3, 2, distinct=distinct, low=low)
    return lambda: [
        call(A(5, distinct=distinct, low=low), **keywords),
        call(a, **keywords),
        call(a, axis=0, **keywords),
        call(a, axis=-1, keepdims=True, **keywords),
        call(b, axis=(0, 2), **keywords),
        call(b, axis=(0, -1), keepdims=True, **keywords),
        call(b, keepdims=True, **keywords),
        call(A(3, 1, dtype="float32", distinct=distinct, low=low), axis=1, **keywords),
        *extra,
    ]


def restore_axes(reduced_value, x, axis, keepdims):
    """Put the axes that a reduction of `x` over `axis` removed back, with length 1."""
    if keepdims or axis is None or reduced_value.ndim == 0:
        return reduced_value
    return np.expand_dims(reduced_value, normalize_axes(axis, x.ndim))


def count(x, axis):
    """How many elements a reduction over `axis` takes together."""
    if axis is None:
        return x.size
    total = 1
    for one in normalize_axes(axis, x.ndim):
        total = total * x.shape[one]
    return total


@primitive(np.sum, samples=over_axes())
def _(x, /, axis=None, *, keepdims=False):
    return reduced(np.sum, x, axis, keepdims)


linear(np.sum)


@vjp(np.sum)
def _(grad_y, y, x, *, axis=None, keepdims=False):
    return np.broadcast_to(restore_axes(grad_y, x, axis, keepdims), x.shape)


@primitive(np.mean, samples=over_axes())
def _(x, /, axis=None, *, keepdims=False):
    return reduced(np.mean, x, axis, keepdims)


linear(np.mean)


@vjp(np.mean)
def _(grad_y, y, x, *, axis=None, keepdims=False):
    return np.broadcast_to(restore_axes(grad_y / count(x, axis), x, axis, keepdims), x.shape)


def _extreme_vjp(grad_y, y, x, *, axis=None, keepdims=False):
    """The cotangent goes to the winners; a tie is split evenly."""
    winners = x == restore_axes(y, x, axis, keepdims)
    ties = np.sum(winners, axis=axis, keepdims=True) if axis is not None else np.sum(winners)
    return restore_axes(grad_y, x, axis, keepdims) * (winners / ties)


def _extreme_jvp(dots, y, x, *, axis=None, keepdims=False):
    winners = x == restore_axes(y, x, axis, keepdims)
    ties = np.sum(winners, axis=axis, keepdims=keepdims)
    return np.sum(dots[0] * winners, axis=axis, keepdims=keepdims) / ties


for _function in (np.max, np.min):

    @primitive(_function, samples=over_axes(distinct=True))
    def _(x, /, axis=None, *, keepdims=False, _function=_function):
        return reduced(_function, x, axis, keepdims)

    vjp(_function)(_extreme_vjp)
    jvp(_function)(_extreme_jvp)

method("sum", "mean", "max", "min")
