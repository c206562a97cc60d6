"""Reductions: sum, mean, prod, max and kin; running sums; positions, counts and tests.

    y = np.sum(x, axis=0)       grad_x = np.broadcast_to(np.expand_dims(grad_y, 0), x.shape)
    y = np.max(x)               grad_x = grad_y * (x == y) / np.sum(x == y)     # ties share

Most reductions state one rule, `slopes`: the partial derivatives of the result by each element,
in the shape of the data. Both modes follow from it.
"""

from __future__ import annotations

import functools

import numpy as np

from flatgrad.ir.dims import product
from flatgrad.ir.types import Array, Scalar, make
from flatgrad.primitives.arith import as_factor
from flatgrad.primitives.products import product_of_others
from flatgrad.primitives.registry import (
    call,
    composite,
    jvp,
    linear,
    method,
    primitive,
    vjp,
)
from flatgrad.primitives.samples import A, I
from flatgrad.primitives.symbolic import operation
from flatgrad.primitives.typerules import (
    fail,
    normalize_axes,
    normalize_axis,
    promoted,
    reduced,
)


def over_axes(*extra, distinct=False, low=-2.0, **keywords):
    """Samples over every kind of axis argument, also over axes of length 1."""
    make_a = functools.partial(A, distinct=distinct, low=low)
    a, b = make_a(3, 4), make_a(2, 3, 2)
    return lambda: [
        call(make_a(5), **keywords),
        call(a, **keywords),
        call(a, axis=0, **keywords),
        call(a, axis=-1, keepdims=True, **keywords),
        call(b, axis=(0, 2), **keywords),
        call(b, axis=(0, -1), keepdims=True, **keywords),
        call(b, keepdims=True, **keywords),
        call(make_a(3, 1, 2), axis=(-2, 0), **keywords),
        call(make_a(3, 1, 2), axis=1, keepdims=True, **keywords),
        call(make_a(3, 4, dtype="float32"), axis=1, **keywords),
        *extra,
    ]


def restore_axes(reduced_value, x, axis, keepdims):
    """Put the axes that a reduction of `x` over `axis` removed back, with length 1."""
    if keepdims or axis is None or getattr(reduced_value, "ndim", 0) == 0:
        return reduced_value
    axes = normalize_axes(axis, x.ndim)
    return np.expand_dims(reduced_value, axes if len(axes) > 1 else axes[0])


def over(axis):
    """Keywords of a reduction whose result broadcasts against the data."""
    return {} if axis is None else {"axis": axis, "keepdims": True}


def given(axis, keepdims):
    """The keywords that differ from the defaults."""
    return ({} if axis is None else {"axis": axis}) | ({"keepdims": True} if keepdims else {})


def count(x, axis):
    """How many elements a reduction over `axis` takes together."""
    if axis is None:
        return x.size
    total = 1
    for one in normalize_axes(axis, x.ndim):
        total = total * x.shape[one]
    return total


def slopes(function):
    """The partial derivatives of a reduction: rule(y, x, *, axis, keepdims, **static).

    It gives a pair: a factor in the shape of `y` (None for 1) and an array in the shape of `x`.
    """

    def register(rule):
        @vjp(function)
        def _(grad_y, y, x, *, axis=None, keepdims=False, **static):
            factor, slope = rule(y, x, axis=axis, keepdims=keepdims, **static)
            scaled = grad_y if factor is None else grad_y * factor
            return restore_axes(scaled, x, axis, keepdims) * slope

        @jvp(function)
        def _(dots, y, x, *, axis=None, keepdims=False, **static):
            factor, slope = rule(y, x, axis=axis, keepdims=keepdims, **static)
            dot_y = np.sum(dots[0] * slope, **given(axis, keepdims))
            return dot_y if factor is None else dot_y * factor

        return rule

    return register


def reduction_type(function, axes=None):
    """The type rule of a reduction; with `axes=1` it takes one axis at a time."""

    def rule(x, /, axis=None, *, keepdims=False):
        if axes == 1 and isinstance(axis, tuple | list):
            raise fail("operand-type", f"`np.{function.__name__}` takes one axis, not {axis}")
        return reduced(function, x, axis, keepdims)

    return rule


primitive(np.sum, samples=over_axes(call(A())))(reduction_type(np.sum))
linear(np.sum)


@vjp(np.sum)
def _(grad_y, y, x, *, axis=None, keepdims=False):
    return np.broadcast_to(restore_axes(grad_y, x, axis, keepdims), x.shape)


primitive(np.mean, samples=over_axes(call(A())))(reduction_type(np.mean))
linear(np.mean)


@vjp(np.mean)
def _(grad_y, y, x, *, axis=None, keepdims=False):
    return np.broadcast_to(restore_axes(grad_y / count(x, axis), x, axis, keepdims), x.shape)


primitive(np.prod, samples=over_axes(call(A())))(reduction_type(np.prod))


@slopes(np.prod)
def _(y, x, *, axis, keepdims):
    return None, operation(product_of_others)(x, **given(axis, False))  # not y / x: x may be 0


def shared(y, x, axis, keepdims):
    """As slopes: 1 where an element of `x` is the chosen value `y`; ties share it evenly."""
    winners = as_factor(x == restore_axes(y, x, axis, keepdims), x)
    return 1 / np.sum(winners, **given(axis, keepdims)), winners


for _function in (np.max, np.min):
    primitive(_function, samples=over_axes(distinct=True))(reduction_type(_function))

    @slopes(_function)
    def _(y, x, *, axis, keepdims):
        return shared(y, x, axis, keepdims)


@composite(np.amax)
def _(a, axis=None, *, keepdims=False):
    return np.max(a, **given(axis, keepdims))


@composite(np.amin)
def _(a, axis=None, *, keepdims=False):
    return np.min(a, **given(axis, keepdims))


@composite(np.ptp)
def _(a, axis=None, *, keepdims=False):
    return np.max(a, **given(axis, keepdims)) - np.min(a, **given(axis, keepdims))


@composite(np.average)
def _(a, axis=None, weights=None, *, keepdims=False):
    """Weights that sum to 0 give inf or nan here, where NumPy raises."""
    if weights is None:
        return np.mean(a, **given(axis, keepdims))
    if _along_one_axis(a, weights, axis):
        after = tuple(range(1, a.ndim - normalize_axis(axis, a.ndim)))
        spread = np.expand_dims(weights, after) if after else weights
        return np.sum(a * spread, **given(axis, keepdims)) / np.sum(weights)
    total = np.sum(a * weights, **given(axis, keepdims))
    return total / np.sum(weights, **given(axis, keepdims))


def _along_one_axis(a, weights, axis):
    """Whether the weights are a vector along `axis`, not an array of the shape of the data.

    Raises
    ------
    FlatgradError
        If they are neither: NumPy does not let weights broadcast.
    """
    if not (hasattr(weights, "ndim") and hasattr(a, "ndim")):
        raise fail("operand-type", "`np.average` needs arrays here", "wrap the list in np.array")
    along = weights.ndim == 1 and a.ndim > 1 and isinstance(axis, int)
    if not along and weights.ndim != a.ndim:
        raise fail(
            "unsupported-argument",
            "the weights of `np.average` must be shaped like the data, or be a vector with axis=",
        )
    sizes = a.shape[normalize_axis(axis, a.ndim) :][:1] if along else a.shape
    if any(_is_one(n) != _is_one(m) for n, m in zip(sizes, weights.shape, strict=True)):
        raise fail("shape-mismatch", "the weights of `np.average` have another shape than the data")
    return along


def _is_one(length):
    return isinstance(length, int) and length == 1


@primitive(
    np.cumsum,
    samples=lambda: [
        call(A(5)), call(A()), call(A(1), axis=0), call(A(3, 4), axis=0), call(A(3, 4), axis=-1),
        call(A(2, 3, 4), axis=1), call(A(3, 4)), call(A(4, dtype="float32")),
    ],
)  # fmt: skip
def _(x, /, axis=None):
    dtype, _ = promoted(np.cumsum, Array(x.dtype, (2,)))
    if axis is None:
        return Array(dtype, (product(x.shape),))
    normalize_axis(axis, x.ndim)
    return Array(dtype, x.shape)


linear(np.cumsum)


@vjp(np.cumsum)
def _(grad_y, y, x, *, axis=None):
    if axis is None:
        grad_x = np.cumsum(grad_y[::-1])[::-1]
        return np.reshape(grad_x, x.shape) if x.ndim > 1 else grad_x
    leading = (slice(None),) * normalize_axis(axis, x.ndim)
    backwards = slice(None, None, -1)
    index = (*leading, backwards) if leading else backwards
    return np.cumsum(grad_y[index], axis=axis)[index]


def _positions():
    return [
        call(A(5, distinct=True)), call(A(3, 4, distinct=True)),
        call(A(3, 4, distinct=True), axis=-1), call(A(2, 3, 2, distinct=True), axis=1),
        call(A(3, 4, distinct=True), axis=0, keepdims=True), call(I([3, 1, 2])),
    ]  # fmt: skip


for _position in (np.argmax, np.argmin):
    primitive(_position, derivative=False, samples=_positions)(reduction_type(_position, axes=1))


def _tests():
    mask = I([[True, False, True], [False, False, True]])
    return [
        call(mask), call(mask, axis=0), call(mask, axis=(0, -1)), call(I([0, 1, 2])),
        call(mask, axis=1, keepdims=True), call(mask, keepdims=True), call(A(3)),
        call(I([True, False]), axis=0),
    ]  # fmt: skip


for _test in (np.any, np.all):
    primitive(_test, derivative=False, samples=_tests)(reduction_type(_test))


@primitive(np.count_nonzero, derivative=False, samples=_tests)
def _(x, /, axis=None, *, keepdims=False):
    if axis is None and not keepdims:
        # Older versions of NumPy give a Python int here, and only here.
        return Scalar(*promoted(np.count_nonzero, Array(x.dtype, (2,))))
    return make("int64", reduced(np.sum, x, axis, keepdims).shape)


method("sum", "mean", "prod", "max", "min", "cumsum", "argmax", "argmin", "any", "all")
