"""The product of all elements but one: the slope of `np.prod`, right also where elements are 0.

    y = np.prod(x)        grad_x = grad_y * product_of_others(x)
"""

from __future__ import annotations

import numpy as np

from flatgrad.primitives.registry import call, jvp, primitive, vjp
from flatgrad.primitives.samples import A
from flatgrad.primitives.symbolic import operation
from flatgrad.primitives.typerules import normalize_axes


def product_of_others(x: np.ndarray, axis: int | tuple[int, ...] | None = None) -> np.ndarray:
    """For each element of `x`, the product of all others along `axis` (None: of all others)."""
    axes = tuple(range(np.ndim(x))) if axis is None else np.atleast_1d(axis)
    kept, last = np.ndim(x) - len(axes), tuple(range(-len(axes), 0))
    moved = np.moveaxis(x, axes, last)
    rows = moved.reshape((*moved.shape[:kept], int(np.prod(moved.shape[kept:]))))
    first = np.ones_like(rows[..., :1])
    before = np.cumprod(np.concatenate([first, rows[..., :-1]], axis=-1), axis=-1)
    after = np.cumprod(np.concatenate([first, rows[..., :0:-1]], axis=-1), axis=-1)[..., ::-1]
    return np.moveaxis((before * after).reshape(moved.shape), last, axes)[()]


@primitive(
    product_of_others,
    helper=True,
    samples=lambda: [
        call(A(4)), call(A(1)), call(A(2, 3)), call(A(3, 2), axis=0), call(A(3, 2), axis=-1),
        call(A(2, 3, 2), axis=(0, 2)), call(A(3, dtype="float32")),
    ],
)  # fmt: skip
def _(x, /, axis=None):
    normalize_axes(axis, x.ndim)
    return x


def _as_rows(x, axis):
    """The elements that are multiplied with each other along the last axis."""
    axes = normalize_axes(axis, x.ndim)
    kept = [k for k in range(x.ndim) if k not in axes]
    if kept + list(axes) != list(range(x.ndim)):
        x = np.transpose(x, (*kept, *axes))
    if len(axes) == 1:
        return x
    length = 1
    for size in x.shape[len(kept) :]:
        length = length * size
    return np.reshape(x, (*x.shape[: len(kept)], length))


def _from_rows(rows, x, axis):
    """The inverse of `_as_rows`, for an array of the shape of `x`."""
    axes = normalize_axes(axis, x.ndim)
    order = [*[k for k in range(x.ndim) if k not in axes], *axes]
    if len(axes) > 1:
        rows = np.reshape(rows, tuple(x.shape[k] for k in order))
    if order == list(range(x.ndim)):
        return rows
    return np.transpose(rows, tuple(order.index(k) for k in range(x.ndim)))


def _pairs(x, axis):
    """For each two elements in a row, whether they are one; and the product of all but the two.

    This takes memory for all pairs. No quotient and no sum of fewer terms is right where several
    elements are 0.
    """
    rows = _as_rows(x, axis)
    same = operation(np.eye)(rows.shape[-1], dtype=bool)
    left_out = np.where(same, 1.0, rows[..., None, :])
    return same, operation(product_of_others)(left_out, axis=-1)


def _no_others(x, axis):
    return all(
        isinstance(n, int) and n == 1 for n in (x.shape[k] for k in normalize_axes(axis, x.ndim))
    )


@vjp(product_of_others)
def _(grad_y, y, x, *, axis=None):
    if _no_others(x, axis):
        return None
    same, others = _pairs(x, axis)
    terms = np.where(same, 0.0, _as_rows(grad_y, axis)[..., None] * others)
    return _from_rows(np.sum(terms, axis=-2), x, axis)


@jvp(product_of_others)
def _(dots, y, x, *, axis=None):
    if _no_others(x, axis):
        return None
    same, others = _pairs(x, axis)
    terms = np.where(same, 0.0, _as_rows(dots[0], axis)[..., None, :] * others)
    return _from_rows(np.sum(terms, axis=-1), x, axis)
