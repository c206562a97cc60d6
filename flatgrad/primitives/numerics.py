"""Functions of numerical analysis, written with those that have rules: diff, interp, median, ...

    np.diff(y)                 y[1:] - y[:-1]
    np.trapezoid(y, x)         np.sum((x[1:] - x[:-1]) * (y[1:] + y[:-1])) / 2
    np.interp(t, x, y)         the line through the two entries around t
"""

from __future__ import annotations

import numpy as np

from flatgrad.ir.types import make
from flatgrad.primitives.reduce import given
from flatgrad.primitives.registry import call, composite, primitive
from flatgrad.primitives.samples import A, I
from flatgrad.primitives.shape import rank_of
from flatgrad.primitives.symbolic import apply_function
from flatgrad.primitives.typerules import fail, normalize_axis


def part(x, axis, index):
    """`x` indexed along one axis."""
    where = normalize_axis(axis, x.ndim)
    return x[(*(slice(None),) * where, index)] if where else x[index]


def _array(x, function, rank=None):
    """Refuse numbers, and other ranks than `rank` if it is given."""
    if rank_of(x) == 0 or rank not in (None, rank_of(x)):
        wanted = f"an array with {rank} axis" if rank == 1 else "an array"
        raise fail("operand-type", f"`np.{function}` takes {wanted}")


@composite(np.diff)
def _(a, n=1, axis=-1):
    _array(a, "diff")
    if n < 0:
        raise fail("operand-type", f"`np.diff` of order {n}")
    for _ in range(n):
        a = part(a, axis, slice(1, None)) - part(a, axis, slice(None, -1))
    return a


@composite(np.ediff1d)
def _(ary):
    flat = np.ravel(ary)
    return flat[1:] - flat[:-1]


@composite(np.trapezoid)
def _(y, x=None, dx=1.0, axis=-1):
    _array(y, "trapezoid")
    pairs = part(y, axis, slice(1, None)) + part(y, axis, slice(None, -1))
    if x is None:
        return np.sum(pairs, axis=axis) * (dx / 2)
    widths = np.diff(x, axis=axis if rank_of(x) == y.ndim else -1)
    if rank_of(x) != y.ndim:
        widths = np.reshape(widths, (-1,) + (1,) * (y.ndim - 1 - normalize_axis(axis, y.ndim)))
    return np.sum(widths * pairs, axis=axis) / 2


@composite(np.gradient)
def _(f, *varargs, axis=None, edge_order=1):
    if axis is None and rank_of(f) == 1:
        axis = -1
    if not isinstance(axis, int) or len(varargs) > 1 or edge_order != 1:
        raise fail(
            "unsupported-argument", "`np.gradient` along several axes, or with edge_order=2",
            "call it once for each axis, with axis=",
        )  # fmt: skip
    spacing = varargs[0] if varargs else 1.0
    if rank_of(spacing):
        raise fail(
            "unsupported-argument", "`np.gradient` with coordinates",
            "pass the spacing, one number",
        )  # fmt: skip
    inner = (part(f, axis, slice(2, None)) - part(f, axis, slice(None, -2))) / (2.0 * spacing)
    first = (part(f, axis, slice(1, 2)) - part(f, axis, slice(0, 1))) / spacing
    last = (part(f, axis, slice(-1, None)) - part(f, axis, slice(-2, -1))) / spacing
    return np.concatenate((first, inner, last), axis=normalize_axis(axis, f.ndim))


def _one_axis(function, a, axis):
    """The array and the axis along which its order is asked."""
    _array(a, function)
    if axis is None:
        return (a if a.ndim == 1 else np.ravel(a)), 0
    if not isinstance(axis, int):
        raise fail("unsupported-argument", f"`np.{function}` over several axes", "reshape first")
    return a, normalize_axis(axis, a.ndim)


@composite(np.median)
def _(a, axis=None, *, keepdims=False):
    if keepdims:
        raise fail("unsupported-keyword", "`keepdims` of `np.median`", "use np.expand_dims")
    a, axis = _one_axis("median", a, axis)
    ordered = np.sort(a, axis=axis)
    n = a.shape[axis]
    return (part(ordered, axis, (n - 1) // 2) + part(ordered, axis, n // 2)) / 2


@composite(np.quantile)
def _(a, q, axis=None):
    return _quantile("quantile", a, q, axis)


@composite(np.percentile)
def _(a, q, axis=None):
    _number("percentile", q)
    return _quantile("percentile", a, q / 100, axis)


def _number(function, q):
    if not isinstance(q, int | float):
        raise fail(
            "unsupported-argument", f"`np.{function}` with q that is no constant number",
            "write the number",
        )  # fmt: skip


def _quantile(function, a, q, axis):
    """Linear between the two entries around place q * (n - 1) of the sorted array."""
    _number(function, q)
    if not 0 <= q <= 1:
        raise fail("operand-type", f"`np.{function}` with q out of range")
    a, axis = _one_axis(function, a, axis)
    ordered = np.sort(a, axis=axis)
    last = a.shape[axis] - 1
    if q in (0, 1):
        return part(ordered, axis, 0 if q == 0 else -1)
    place = last * float(q)
    below = np.floor(place)
    if isinstance(below, float):
        low, high = int(below), min(int(below) + 1, last)
    else:
        low = apply_function(int, (below,), {}, below.builder)
        high = low + (low < last)
    weight = place - below
    first, second = part(ordered, axis, low), part(ordered, axis, high)
    return first + weight * (second - first)


def _valid(x):
    """Where there is no NaN; the derivative passes only there."""
    return ~np.isnan(x)


@composite(np.nansum)
def _(a, axis=None, *, keepdims=False):
    return np.sum(np.where(_valid(a), a, 0.0), **given(axis, keepdims))


@composite(np.nanmean)
def _(a, axis=None, *, keepdims=False):
    over, valid = given(axis, keepdims), _valid(a)
    return np.sum(np.where(valid, a, 0.0), **over) / np.sum(valid, **over)


@composite(np.nanmax)
def _(a, axis=None, *, keepdims=False):
    return np.max(np.where(_valid(a), a, -np.inf), **given(axis, keepdims))


@composite(np.nanmin)
def _(a, axis=None, *, keepdims=False):
    return np.min(np.where(_valid(a), a, np.inf), **given(axis, keepdims))


@primitive(
    np.searchsorted,
    derivative=False,
    samples=lambda: [
        call(I([0.0, 1.0, 2.5]), A(4)), call(I([0.0, 1.0, 2.5]), A(), side="right"),
        call(I([0, 2, 2, 5]), I([[1, 2], [5, 7]]), side="left"),
    ],
)  # fmt: skip
def _(a, v, /, side="left"):
    if a.ndim != 1:
        raise fail("operand-type", "`np.searchsorted` takes a sorted array with 1 axis")
    return make("int64", v.shape)


@composite(np.interp)
def _(x, xp, fp):
    """Constant outside of the table, as NumPy's; between two entries the line through them."""
    _array(xp, "interp", 1)
    _array(fp, "interp", 1)
    last = xp.shape[0] - 2
    inside = np.clip(x, xp[0], xp[-1])
    k = np.clip(np.searchsorted(xp, inside, side="right") - 1, 0, last)
    weight = (inside - xp[k]) / (xp[k + 1] - xp[k])
    return fp[k] + weight * (fp[k + 1] - fp[k])


@composite(np.select)
def _(condlist, choicelist, default=0):
    if len(condlist) != len(choicelist) or not condlist:
        raise fail("operand-type", "`np.select` takes as many choices as conditions")
    found = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        found = np.where(condition, choice, found)
    return found


@composite(np.logspace)
def _(start, stop, num=50, *, endpoint=True, base=10.0):
    return base ** np.linspace(start, stop, num, endpoint=endpoint)


@composite(np.polyval)
def _(p, x):
    if not isinstance(p, list | tuple):
        raise fail(
            "unsupported-argument", "`np.polyval` with coefficients in an array",
            "pass a list of the coefficients, or write Horner's loop",
        )  # fmt: skip
    value = 0.0
    for coefficient in p:
        value = value * x + coefficient
    return value


@composite(np.vecdot)
def _(x1, x2):
    return np.sum(x1 * x2, axis=-1)


@composite(np.matvec)
def _(x1, x2):
    return np.sum(x1 * np.expand_dims(x2, -2), axis=-1)


@composite(np.linalg.outer)
def _(x1, x2):
    return np.outer(x1, x2)


@composite(np.matrix_transpose, np.linalg.matrix_transpose)
def _(x):
    return np.swapaxes(x, -1, -2)

