"""Rearrangements: transpose, reshape, expand_dims, broadcast_to and kin.

    y = np.expand_dims(x, 1)      grad_x = np.squeeze(grad_y, 1)
"""

from __future__ import annotations

import numpy as np

from flatgrad.ir.types import Array, make
from flatgrad.primitives.registry import call, linear, method, primitive, vjp
from flatgrad.primitives.samples import A
from flatgrad.primitives.typerules import as_size, broadcast, fail, normalize_axes, normalize_axis


@primitive(
    np.transpose,
    alias="x",
    samples=lambda: [call(A(3)), call(A(2, 3)), call(A(2, 3, 1)), call(A(2, 3, 4), axes=(1, 2, 0))],
)
def _(x, /, axes=None):
    order = [normalize_axis(axis, x.ndim) for axis in axes or range(x.ndim)[::-1]]
    return make(x.dtype, tuple(x.shape[axis] for axis in order))


linear(np.transpose)


@vjp(np.transpose)
def _(grad_y, y, x, *, axes=None):
    if axes is None:
        return grad_y.T
    inverse = np.argsort([normalize_axis(axis, x.ndim) for axis in axes])
    return np.transpose(grad_y, tuple(int(axis) for axis in inverse))


@primitive(
    np.swapaxes, alias="x", samples=lambda: [call(A(2, 3), 0, 1), call(A(2, 3, 4), -1, 0)]
)
def _(x, /, axis1, axis2):
    shape = list(x.shape)
    one, other = normalize_axis(axis1, x.ndim), normalize_axis(axis2, x.ndim)
    shape[one], shape[other] = shape[other], shape[one]
    return Array(x.dtype, tuple(shape))


linear(np.swapaxes)


@vjp(np.swapaxes)
def _(grad_y, y, x, *, axis1, axis2):
    return np.swapaxes(grad_y, axis1, axis2)


@primitive(
    np.expand_dims,
    alias="x",
    samples=lambda: [call(A(3), 0), call(A(2, 3), -1), call(A(2, 3), (0, 2))],
)
def _(x, /, axis):
    rank = x.ndim + (len(axis) if isinstance(axis, tuple | list) else 1)
    axes = normalize_axes(axis, rank)
    sizes = iter(x.shape)
    return make(x.dtype, tuple(1 if k in axes else next(sizes) for k in range(rank)))


linear(np.expand_dims)


@vjp(np.expand_dims)
def _(grad_y, y, x, *, axis):
    return np.squeeze(grad_y, axis)


@primitive(
    np.squeeze,
    alias="x",
    samples=lambda: [call(A(1, 3)), call(A(1, 3, 1), axis=2), call(A(1, 1))],
)
def _(x, /, axis=None):
    if axis is None:
        return make(x.dtype, tuple(size for size in x.shape if size != 1))
    axes = normalize_axes(axis, x.ndim)
    for one in axes:
        if x.shape[one] != 1:
            raise fail("shape-mismatch", f"`np.squeeze` of axis {one}, whose length is not 1")
    return make(x.dtype, tuple(size for k, size in enumerate(x.shape) if k not in axes))


linear(np.squeeze)


@vjp(np.squeeze)
def _(grad_y, y, x, *, axis=None):
    axes = [k for k, size in enumerate(x.shape) if isinstance(size, int) and size == 1]
    return np.expand_dims(grad_y, tuple(axes) if axis is None else axis)


@primitive(
    np.broadcast_to,
    dynamic=("shape",),
    alias="x",
    samples=lambda: [call(A(3), (2, 3)), call(A(), (2, 3)), call(A(3, 1), (2, 3, 4))],
)
def _(x, /, shape):
    sizes = tuple(as_size(n) for n in (shape if isinstance(shape, tuple | list) else (shape,)))
    result = broadcast(x.shape, sizes, names=("x", "shape"))
    return make(x.dtype, result)


linear(np.broadcast_to)


@vjp(np.broadcast_to)
def _(grad_y, y, x, *, shape):
    return grad_y  # the reverse transform sums over broadcast axes


method("transpose", "swapaxes", "squeeze")
