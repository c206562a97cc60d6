"""Sorting: each cotangent goes back to the element that its value came from.

    y = np.sort(x)      grad_x = grad_y[np.argsort(np.argsort(x, kind="stable"), kind="stable")]

Equal elements keep the order of their positions: the first of them has the first cotangent.
"""

from __future__ import annotations

import numpy as np

from flatgrad.ir.types import Array
from flatgrad.primitives.rearrange import mesh, positions
from flatgrad.primitives.registry import call, jvp, method, primitive, vjp
from flatgrad.primitives.samples import A, I
from flatgrad.primitives.typerules import argument, fail, fresh_size, normalize_axis


@primitive(
    np.argsort,
    derivative=False,
    samples=lambda: [call(A(5)), call(A(2, 3), axis=0, kind="stable")],
)
def _(a, /, axis=-1, kind=None):
    return Array("int64", _sorted(a, axis).shape)


@primitive(
    np.flatnonzero,
    derivative=False,
    samples=lambda: [call(I([True, False, True, True])), call(I([[0, 3], [2, 0]]))],
)
def _(a, /):
    mask = argument("a")
    is_mask = a.ndim == 1 and a.dtype == "bool" and mask is not None
    return Array("int64", (fresh_size(("mask", mask) if is_mask else None),))


@primitive(
    np.sort,
    samples=lambda: [
        call(A(5, distinct=True)), call(A(2, 3, distinct=True)),
        call(A(3, 2, distinct=True), axis=0), call(A(2, 3, 2, distinct=True), axis=1), call(A(1)),
    ],
)  # fmt: skip
def _(a, /, axis=-1, kind=None):
    return _sorted(a, axis)


def _sorted(a, axis):
    if axis is None:
        raise fail("unsupported-argument", "sorting with `axis=None`", "ravel the array first")
    if a.ndim == 0:
        raise fail("operand-type", "sorting of a number")
    normalize_axis(axis, a.ndim)
    return a


def _along(x, order, axis):
    """The elements of `x` in an order given for each line along an axis."""
    if x.ndim == 1:
        return x[order]
    index = [positions(size, x) for size in x.shape]
    index = list(mesh(index))
    index[axis] = order
    return x[tuple(index)]


@vjp(np.sort)
def _(grad_y, y, a, *, axis=-1, kind=None):
    where = normalize_axis(axis, a.ndim)
    return _along(grad_y, _order(_order(a, where), where), where)


def _order(x, axis):
    """The positions of the elements in their order; of equal ones the first comes first."""
    if axis == x.ndim - 1:
        return np.argsort(x, kind="stable")
    return np.argsort(x, axis=axis, kind="stable")


@jvp(np.sort)
def _(dots, y, a, *, axis=-1, kind=None):
    where = normalize_axis(axis, a.ndim)
    return _along(dots[0], _order(a, where), where)


method("argsort")
