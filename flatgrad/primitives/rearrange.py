"""Elements moved, repeated or left out: flip, roll, pad, tile, repeat, diag, triu and kin.

y = np.roll(x, 1)             grad_x = np.roll(grad_y, -1)
y = np.pad(x, 1)              grad_x = grad_y[1:-1]
y = np.repeat(x, 2)           grad_x = grad_y.reshape(x.shape[0], 2).sum(axis=1)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flatgrad.ir.dims import product, slice_length, without
from flatgrad.ir.types import Array, Scalar, make
from flatgrad.primitives.index import add_item
from flatgrad.primitives.registry import call, composite, jvp, linear, method, primitive, vjp
from flatgrad.primitives.samples import A
from flatgrad.primitives.shape import distinct_axes, rank_of
from flatgrad.primitives.symbolic import apply_function
from flatgrad.primitives.typerules import (
    as_size,
    fail,
    normalize_axes,
    normalize_axis,
)


def positions(count, like):
    """`np.arange(count)` in the program of the symbol `like`."""
    return apply_function(np.arange, (count,), {}, like.builder)


def _array(x, name):
    if x.ndim == 0:
        raise fail("operand-type", f"`{name}` of a number")
    return x


@primitive(
    np.flip,
    alias="m",
    samples=lambda: [
        call(A(4)), call(A(2, 3)), call(A(2, 3), axis=0), call(A(2, 1, 3), axis=(0, -1)),
    ],
)  # fmt: skip
def _(m, /, axis=None):
    normalize_axes(axis, _array(m, "np.flip").ndim)
    return m


linear(np.flip)


@vjp(np.flip)
def _(grad_y, y, m, *, axis=None):
    return np.flip(grad_y) if axis is None else np.flip(grad_y, axis=axis)


@composite(np.flipud)
def _(m):
    return np.flip(m, axis=0)


@composite(np.fliplr)
def _(m):
    if m.ndim < 2:
        raise fail("axis-out-of-range", "`np.fliplr` of an array with fewer than 2 axes")
    return np.flip(m, axis=1)


@composite(np.rot90)
def _(m, k=1, axes=(0, 1)):
    one, other = distinct_axes(axes, m.ndim)
    match k % 4:
        case 0:
            return m
        case 1:
            return np.swapaxes(np.flip(m, axis=other), one, other)
        case 2:
            return np.flip(m, axis=(one, other))
    return np.flip(np.swapaxes(m, one, other), axis=other)


@primitive(
    np.roll,
    dynamic=("shift",),
    samples=lambda: [
        call(A(5), 2), call(A(2, 3), -1), call(A(2, 3), 1, axis=0), call(A(2, 3, 4), 2, axis=-1),
        call(A(3, 4), (1, 2), axis=(0, 1)), call(A(3, 4), 1, axis=(0, 1)), call(A(3), 7, axis=0),
    ],
)  # fmt: skip
def _(a, /, shift, axis=None):
    if axis is not None:
        axes = [axis] if isinstance(axis, int) else axis
        for one in axes:
            normalize_axis(one, a.ndim)
    for entry in shift if isinstance(shift, tuple | list) else (shift,):
        _count(entry, "`shift` of `np.roll`")
    return _array(a, "np.roll")


linear(np.roll)


@vjp(np.roll)
def _(grad_y, y, a, *, shift, axis=None):
    back = tuple(-one for one in shift) if isinstance(shift, tuple | list) else -shift
    return np.roll(grad_y, back) if axis is None else np.roll(grad_y, back, axis=axis)


def _count(entry, what):
    """An int, known now or at run time.

    Raises
    ------
    TypeInferenceError
        If it is an array or no integer.
    """
    if isinstance(entry, Scalar) and np.dtype(entry.dtype).kind in "iu":
        return as_size(entry)
    if isinstance(entry, int | np.integer) and not isinstance(entry, bool):
        return int(entry)
    raise fail("operand-type", f"{what} is no integer")


@primitive(
    np.tile,
    dynamic=("reps",),
    samples=lambda: [
        call(A(3), 2), call(A(2, 3), 2), call(A(2, 3), (2, 1)), call(A(3), (2, 3)),
        call(A(2, 1, 2), (2, 3)), call(A(), 3), call(A(1), 4), call(A(2), 1), call(A(3), 0),
    ],
)  # fmt: skip
def _(A, /, reps):
    entries = reps if isinstance(reps, tuple | list) else (reps,)
    times = [_count(entry, "`reps` of `np.tile`") for entry in entries]
    rank = max(A.ndim, len(times))
    sizes = (1,) * (rank - A.ndim) + A.shape
    times = [1] * (rank - len(times)) + times
    return make(A.dtype, tuple(n * size for n, size in zip(times, sizes, strict=True)))


linear(np.tile)


@vjp(np.tile)
def _(grad_y, y, A, *, reps):
    if A.ndim == 0:
        return grad_y
    times = list(reps) if isinstance(reps, tuple | list) else [reps]
    times = [1] * (A.ndim - len(times)) + times
    lead = len(times) - A.ndim
    shape: list[Any] = []
    axes: list[int] = []
    for k, n in enumerate(times):
        if not (isinstance(n, int) and n == 1):
            axes.append(len(shape))
            shape.append(n)
        if k >= lead:
            shape.append(A.shape[k - lead])
    if not axes:
        return grad_y.reshape(A.shape) if lead else grad_y
    return np.sum(grad_y.reshape(tuple(shape)), axis=axes[0] if len(axes) == 1 else tuple(axes))


@primitive(
    np.repeat,
    dynamic=("repeats",),
    samples=lambda: [
        call(A(3), 2), call(A(2, 3), 2), call(A(2, 3), 2, axis=0), call(A(2, 3), 3, axis=-1),
        call(A(), 3), call(A(1, 2), 1, axis=0), call(A(3), 0), call(A(1), 4),
    ],
)  # fmt: skip
def _(a, /, repeats, axis=None):
    if isinstance(repeats, tuple | list) or rank_of(repeats):
        raise fail(
            "unsupported-argument", "`np.repeat` with a count for each element",
            "index with the positions to take, `x[indices]`",
        )  # fmt: skip
    times = _count(repeats, "`repeats` of `np.repeat`")
    if axis is None:
        return Array(a.dtype, (product(a.shape) * times,))
    where = normalize_axis(axis, a.ndim)
    return Array(a.dtype, (*a.shape[:where], a.shape[where] * times, *a.shape[where + 1 :]))


linear(np.repeat)


@vjp(np.repeat)
def _(grad_y, y, a, *, repeats, axis=None):
    if a.ndim == 0:
        return grad_y
    where = a.ndim - 1 if axis is None else normalize_axis(axis, a.ndim)
    shape = (*a.shape[: where + 1], repeats, *a.shape[where + 1 :])
    return np.sum(grad_y.reshape(shape), axis=where + 1)


MODES = ("constant", "edge", "reflect", "symmetric", "wrap")


@primitive(
    np.pad,
    dynamic=("pad_width",),
    samples=lambda: [
        call(A(3), 2), call(A(2, 3), 1), call(A(2, 3), (1, 0)), call(A(2, 3), ((1, 2), (0, 1))),
        call(A(2, 3), ((0, 2),)), call(A(3), (1, 2), constant_values=5.0),
        call(A(2, 1), 1, mode="constant", constant_values=((1, 2), (3, 4))),
        call(A(3), (4, 2), mode="edge"), call(A(3), (2, 7), mode="reflect"),
        call(A(3, 2), ((1, 4), (3, 0)), mode="symmetric"), call(A(2, 3), (2, 5), mode="wrap"),
    ],
)  # fmt: skip
def _(array, /, pad_width, mode="constant", *, constant_values=0):
    if mode not in MODES:
        raise fail(
            "unsupported-argument", f"`np.pad` with mode {mode!r}", f"one of {', '.join(MODES)}"
        )
    if mode != "constant" and not (isinstance(constant_values, int) and constant_values == 0):
        raise fail("unsupported-argument", f"`constant_values` of `np.pad` with mode {mode!r}")
    _array(array, "np.pad")
    sizes = []
    for size, pair in zip(array.shape, widths(pad_width, array.ndim), strict=True):
        before, after = (_count(entry, "`pad_width` of `np.pad`") for entry in pair)
        sizes.append(size + before + after)
    return Array(array.dtype, tuple(sizes))


def widths(pad_width, rank):
    """A pair (before, after) for each axis, by NumPy's rules."""
    if not isinstance(pad_width, tuple | list):
        return [(pad_width, pad_width)] * rank
    entries = list(pad_width)
    if not any(isinstance(entry, tuple | list) for entry in entries):
        if len(entries) > 2:
            raise fail("shape-mismatch", "`pad_width` is a number, a pair, or a pair for each axis")
        return [(entries[0], entries[-1])] * rank
    pairs = [tuple(e) if isinstance(e, tuple | list) else (e,) for e in entries]
    if len(pairs) not in (1, rank) or any(len(pair) not in (1, 2) for pair in pairs):
        raise fail("shape-mismatch", f"`pad_width` has {len(pairs)} pairs for {rank} axes")
    return [(pair[0], pair[-1]) for pair in (pairs * rank if len(pairs) == 1 else pairs)]


@vjp(np.pad)
def _(grad_y, y, array, *, pad_width, mode="constant", constant_values=0):
    pairs = widths(pad_width, array.ndim)
    if mode == "constant":
        index = [_inside(pair, size) for pair, size in zip(pairs, array.shape, strict=True)]
        return grad_y[tuple(index) if len(index) > 1 else index[0]]
    sources = [
        np.pad(positions(size, grad_y), pair[0] if pair[0] is pair[1] else pair, mode=mode)
        for pair, size in zip(pairs, array.shape, strict=True)
    ]
    return add_item(np.zeros_like(array), grad_y, mesh(sources))


def _inside(pair, size):
    """The slice of the padded axis that holds the array."""
    before, after = pair
    if isinstance(after, int):
        known = isinstance(before, int) and before == 0
        return slice(None if known else before, -after if after else None)
    return slice(before, before + size)


def mesh(indices):
    """An index that picks every combination of entries of one index array per axis."""
    if len(indices) == 1:
        return indices[0]
    return tuple(
        index[(slice(None),) + (None,) * (len(indices) - 1 - k)] if k < len(indices) - 1 else index
        for k, index in enumerate(indices)
    )


@jvp(np.pad)
def _(dots, y, array, *, pad_width, mode="constant", constant_values=0):
    return np.pad(dots[0], pad_width, mode=mode)


for _function in (np.triu, np.tril):

    @primitive(
        _function,
        dynamic=("k",),
        samples=lambda: [
            call(A(3, 3)), call(A(2, 4, 3), k=1), call(A(3, 1)), call(A(3, 4), k=-1), call(A(1, 3))
        ],
    )  # fmt: skip
    def _(m, /, k=0):
        if m.ndim < 2:
            raise fail("operand-type", "`np.triu` and `np.tril` take arrays with at least 2 axes")
        _count(k, "`k`")
        return m

    linear(_function)

    @vjp(_function)
    def _(grad_y, y, m, *, k=0, _function=_function):
        return _function(grad_y) if isinstance(k, int) and k == 0 else _function(grad_y, k=k)


def MATRIX(v, k=0):
    """A matrix with `v` on a diagonal; written `np.diag(v, k)`."""
    return np.diag(v, k)


def DIAGONAL(v, k=0):
    """A diagonal of a matrix; written `np.diag(v, k)`."""
    return np.diag(v, k)


@composite(np.diag)
def _(v, k=0):
    if v.ndim not in (1, 2):
        raise fail("operand-type", "`np.diag` takes an array with 1 or 2 axes")
    function = MATRIX if v.ndim == 1 else DIAGONAL
    return apply_function(function, (v,), {"k": k} if k else {}, v.builder)


@primitive(
    MATRIX, name="diag", text="np.diag",
    samples=lambda: [call(A(3)), call(A(2), k=1), call(A(1)), call(A(2), k=-2)],
)  # fmt: skip
def _(v, /, k=0):
    size = v.shape[0] + abs(k)
    return Array(v.dtype, (size, size))


linear(MATRIX)


@vjp(MATRIX)
def _(grad_y, y, v, *, k=0):
    return np.diag(grad_y, k)


@primitive(
    DIAGONAL, name="diag", text="np.diag", alias="v",
    samples=lambda: [
        call(A(3, 3)), call(A(2, 4)), call(A(4, 2)), call(A(2, 4), k=1), call(A(4, 2), k=-1),
        call(A(3, 3), k=2), call(A(3, 3), k=-1), call(A(1, 3)), call(A(3, 1), k=-2),
        call(A(1, 1)),
    ],
)  # fmt: skip
def _(v, /, k=0):
    return Array(v.dtype, (diagonal_length(v.shape[0], v.shape[1], k),))


def diagonal_length(rows, columns, k):
    """The length of the diagonal number `k`."""
    rows, columns = without(rows, max(-k, 0)), without(columns, max(k, 0))
    return slice_length(rows, None, columns, None)


linear(DIAGONAL)


@vjp(DIAGONAL)
def _(grad_y, y, v, *, k=0):
    return _on_diagonal(grad_y, v, k)


def _on_diagonal(grad, x, k):
    """Zeros in the shape of `x`, with `grad` on the diagonal `k` of its last two axes."""
    if x.ndim == 2 and k == 0 and x.type.shape[0] == x.type.shape[1]:
        return np.diag(grad)
    steps = positions(grad.shape[-1], grad)
    place = (steps - k if k < 0 else steps, steps + k if k > 0 else steps)
    return add_item(np.zeros_like(x), grad, place if x.ndim == 2 else (Ellipsis, *place))


@primitive(
    np.diagonal,
    alias="a",
    samples=lambda: [
        call(A(3, 3)), call(A(2, 4), offset=1), call(A(2, 3, 4)), call(A(2, 3, 2), 0, 0, 2),
        call(A(2, 3, 4), offset=-1, axis1=-1, axis2=1), call(A(1, 3)),
    ],
)  # fmt: skip
def _(a, /, offset=0, axis1=0, axis2=1):
    one, other = distinct_axes((axis1, axis2), a.ndim)
    rest = tuple(size for k, size in enumerate(a.shape) if k not in (one, other))
    return Array(a.dtype, (*rest, diagonal_length(a.shape[one], a.shape[other], offset)))


linear(np.diagonal)


@vjp(np.diagonal)
def _(grad_y, y, a, *, offset=0, axis1=0, axis2=1):
    if a.ndim == 2 and axis1 % 2 < axis2 % 2:
        return _on_diagonal(grad_y, a, offset)
    moved = _on_diagonal(grad_y, np.moveaxis(a, (axis1, axis2), (-2, -1)), offset)
    return np.moveaxis(moved, (-2, -1), (axis1, axis2))


method("repeat", "diagonal")
