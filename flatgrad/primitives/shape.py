"""The same elements under another shape: reshape, transpose, expand_dims, broadcast_to and kin.

    y = np.expand_dims(x, 1)      grad_x = np.squeeze(grad_y, 1)
    y = x.reshape(-1)             grad_x = grad_y.reshape(x.shape)

An operand without axes has one element, so a cotangent of any shape is indexed down to a number;
a result without axes has a number as its cotangent, which the reverse transform spreads again.
"""

from __future__ import annotations

import numpy as np

from flatgrad.ir.dims import Dim, Size, SliceLength, may_be_one, product
from flatgrad.ir.types import Array, make
from flatgrad.primitives.registry import call, composite, linear, method, primitive, vjp
from flatgrad.primitives.samples import A
from flatgrad.primitives.typerules import (
    as_size,
    broadcast,
    fail,
    fresh_size,
    named,
    normalize_axis,
    require_same,
)


def only_element(x):
    """The element of an array that holds exactly one."""
    return x[(0,) * x.ndim] if x.ndim else x


def rank_of(x):
    """The number of axes of a symbol, a number or a type."""
    return getattr(x, "ndim", 0)


def distinct_axes(axes, rank):
    """Non-negative axes in the order given; an axis named twice is refused."""
    entries = axes if isinstance(axes, tuple | list) else (axes,)
    found = [normalize_axis(axis, rank) for axis in entries]
    if len(set(found)) != len(found):
        raise fail("axis-out-of-range", f"an axis is named twice in {tuple(entries)}")
    return found


def permutation(axes, rank):
    """The order of axes that `np.transpose` takes."""
    if axes is None:
        return list(range(rank))[::-1]
    if len(axes) != rank:
        raise fail("axis-out-of-range", f"{len(axes)} axes for an array with {rank} axes")
    return distinct_axes(axes, rank)


@primitive(
    np.transpose,
    alias="x",
    samples=lambda: [
        call(A(3)), call(A(2, 3)), call(A(2, 3, 1)), call(A(2, 3, 4), axes=(1, 2, 0)),
        call(A(2, 1, 4), axes=(-1, 0, 1)),
    ],
)  # fmt: skip
def _(x, /, axes=None):
    return make(x.dtype, tuple(x.shape[axis] for axis in permutation(axes, x.ndim)))


linear(np.transpose)


@vjp(np.transpose)
def _(grad_y, y, x, *, axes=None):
    if axes is None:
        return grad_y.T if x.ndim > 1 else grad_y
    order = permutation(axes, x.ndim)
    return np.transpose(grad_y, tuple(order.index(axis) for axis in range(x.ndim)))


@primitive(np.swapaxes, alias="x", samples=lambda: [call(A(2, 3), 0, 1), call(A(2, 3, 4), -1, 0)])
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
    np.moveaxis,
    alias="a",
    samples=lambda: [
        call(A(2, 3, 4), 0, -1), call(A(2, 3, 4), (0, 1), (-1, 0)), call(A(2, 1), 1, 0)
    ],
)  # fmt: skip
def _(a, /, source, destination):
    sources, goals = distinct_axes(source, a.ndim), distinct_axes(destination, a.ndim)
    if len(sources) != len(goals):
        raise fail("axis-out-of-range", "`np.moveaxis` needs as many goals as axes to move")
    order = [axis for axis in range(a.ndim) if axis not in sources]
    for goal, axis in sorted(zip(goals, sources, strict=True)):
        order.insert(goal, axis)
    return Array(a.dtype, tuple(a.shape[axis] for axis in order))


linear(np.moveaxis)


@vjp(np.moveaxis)
def _(grad_y, y, a, *, source, destination):
    return np.moveaxis(grad_y, destination, source)


@composite(np.rollaxis)
def _(a, axis, start=0):
    axis = normalize_axis(axis, a.ndim)
    start = start + a.ndim if start < 0 else start
    if not 0 <= start <= a.ndim:
        raise fail("axis-out-of-range", f"`start` of `np.rollaxis` is {start}")
    goal = start - 1 if axis < start else start
    return a if goal == axis else np.moveaxis(a, axis, goal)


@primitive(
    np.expand_dims,
    alias="x",
    samples=lambda: [
        call(A(3), 0), call(A(2, 3), -1), call(A(2, 3), (0, 2)), call(A(), 0), call(A(), (0, 1))
    ],
)  # fmt: skip
def _(x, /, axis):
    rank = x.ndim + (len(axis) if isinstance(axis, tuple | list) else 1)
    axes = distinct_axes(axis, rank)
    sizes = iter(x.shape)
    return make(x.dtype, tuple(1 if k in axes else next(sizes) for k in range(rank)))


linear(np.expand_dims)


@vjp(np.expand_dims)
def _(grad_y, y, x, *, axis):
    return np.squeeze(grad_y, axis) if x.ndim else only_element(grad_y)


@primitive(
    np.squeeze,
    alias="x",
    samples=lambda: [
        call(A(1, 3)), call(A(1, 3, 1), axis=2), call(A(1, 3, 1), axis=(0, -1)), call(A(2, 3)),
        call(A(1, 1)), call(A(1), 0),
    ],
)  # fmt: skip
def _(x, /, axis=None):
    if axis is None:
        if any(may_be_one(size) and size != 1 for size in x.shape):
            raise fail(
                "data-dependent-static",
                f"`np.squeeze` of {named('x')}, some of whose lengths are run-time data",
                "say which axis to remove: `np.squeeze(x, axis=...)`",
            )
        return make(x.dtype, tuple(size for size in x.shape if size != 1))
    axes = distinct_axes(axis, x.ndim)
    for one in axes:
        if not may_be_one(x.shape[one]):
            raise fail("shape-mismatch", f"`np.squeeze` of axis {one}, whose length is not 1")
    return make(x.dtype, tuple(size for k, size in enumerate(x.shape) if k not in axes))


linear(np.squeeze)


@vjp(np.squeeze)
def _(grad_y, y, x, *, axis=None):
    if x.ndim == grad_y.ndim or grad_y.ndim == 0:
        return grad_y
    if axis is None:
        ones = tuple(k for k, size in enumerate(x.shape) if isinstance(size, int) and size == 1)
        axis = ones[0] if len(ones) == 1 else ones
    return np.expand_dims(grad_y, axis)


@primitive(
    np.broadcast_to,
    dynamic=("shape",),
    alias="x",
    samples=lambda: [call(A(3), (2, 3)), call(A(), (2, 3)), call(A(3, 1), (2, 3, 4)), call(A(), 3)],
)
def _(x, /, shape):
    sizes = lengths(shape)
    if len(sizes) < x.ndim:
        raise fail("shape-mismatch", f"{named('x')} has more axes than the shape it is spread over")
    broadcast(x.shape, sizes, names=("x", "shape"))
    return make(x.dtype, sizes)


linear(np.broadcast_to)


@vjp(np.broadcast_to)
def _(grad_y, y, x, *, shape):
    return grad_y  # the reverse transform sums over broadcast axes


@composite(np.broadcast_arrays)
def _(*args):
    rank = max((rank_of(one) for one in args), default=0)
    shape = [1] * rank
    for axis in range(-rank, 0):
        for one in args:
            size = one.shape[axis] if -axis <= rank_of(one) else 1
            if not (isinstance(size, int) and size == 1):
                shape[axis] = size
                break
    return tuple(np.broadcast_to(one, tuple(shape)) for one in args)


def lengths(shape) -> tuple[Size, ...]:
    """The symbolic lengths for a `shape` argument: one length or a sequence of them."""
    entries = shape if isinstance(shape, tuple | list) else (shape,)
    return tuple(as_size(entry) for entry in entries)


def quotient(total: Size, known: Size) -> Size:
    """The length that `-1` stands for in a reshape, or that of one of `known` equal parts.

    Where division is no polynomial, it is the number of every `known`-th element: the same where
    `known` divides `total`, which NumPy sees to.
    """
    if known == total and known != 0:
        return 1
    if isinstance(known, Dim) and len(known.terms) > 1:
        return _every(total, known)
    ((atoms, factor),) = known.terms if isinstance(known, Dim) else (((), known),)
    terms = total.terms if isinstance(total, Dim) else (((), total),)
    result: Size = 0
    for monomial, count in terms:
        rest = list(monomial)
        if factor == 0 or count % factor or any(rest.count(a) < atoms.count(a) for a in atoms):
            return _every(total, known)
        for atom in atoms:
            rest.remove(atom)
        result = result + _monomial(rest, count // factor)
    return result


def _every(total: Size, known: Size) -> Size:
    if known == 0:
        return fresh_size()
    return Dim.atom(SliceLength(total, (None, None, known)))


def _monomial(atoms, factor) -> Size:
    return Dim(((tuple(atoms), factor),)) if atoms else factor


def _misfit(what):
    def message(count, wanted):
        return f"{what} has {count} elements, which do not fit into {wanted}"

    return message


@primitive(
    np.reshape,
    dynamic=("shape",),
    alias="a",
    samples=lambda: [
        call(A(6), (2, 3)), call(A(2, 3), -1), call(A(2, 3), (3, -1)), call(A(2, 3), (-1, 1, 2)),
        call(A(), (1, 1)), call(A(1, 1), ()), call(A(4, 1), 4), call(A(2, 3, dtype="float32"), 6),
    ],
)  # fmt: skip
def _(a, /, shape):
    sizes = list(lengths(shape))
    free = [k for k, size in enumerate(sizes) if isinstance(size, int) and size < 0]
    total = product(a.shape)
    if len(free) > 1 or any(sizes[k] != -1 for k in free):
        raise fail("shape-mismatch", "a shape can hold one `-1`, and no other negative length")
    known = product(tuple(size for k, size in enumerate(sizes) if k not in free))
    if free:
        sizes[free[0]] = quotient(total, known)
        if isinstance(total, int) and isinstance(known, int) and (not known or total % known):
            raise fail("shape-mismatch", _misfit(named("a"))(total, f"rows of {known}"))
    else:
        require_same(total, known, _misfit(named("a")))
    return make(a.dtype, tuple(sizes))


linear(np.reshape)


@vjp(np.reshape)
def _(grad_y, y, a, *, shape):
    return _back(grad_y, a)


def _back(grad_y, a):
    """The cotangent in the shape of `a`, which has as many elements."""
    if a.ndim == 0:
        return only_element(grad_y)
    if grad_y.ndim == 0 or a.ndim == grad_y.ndim == 1:
        return grad_y
    return grad_y.reshape(a.shape)


@primitive(
    np.ravel, alias="a", samples=lambda: [call(A(3)), call(A(2, 3)), call(A(2, 1, 2)), call(A())]
)
def _(a, /):
    return Array(a.dtype, (product(a.shape),))


linear(np.ravel)


@vjp(np.ravel)
def _(grad_y, y, a):
    return _back(grad_y, a)


def FLATTEN(a):
    """A flat copy; written `a.flatten()`."""
    return np.ravel(a).copy()


@primitive(FLATTEN, name="flatten", samples=lambda: [call(A(3)), call(A(2, 3))])
def _(a, /):
    return Array(a.dtype, (product(a.shape),))


linear(FLATTEN)


@vjp(FLATTEN)
def _(grad_y, y, a):
    return _back(grad_y, a)


@composite(np.atleast_1d)
def _(*arys):
    return _each(arys, 1)


@composite(np.atleast_2d)
def _(*arys):
    return _each(arys, 2)


@composite(np.atleast_3d)
def _(*arys):
    return _each(arys, 3)


def _each(arys, rank):
    return raised(arys[0], rank) if len(arys) == 1 else tuple(raised(one, rank) for one in arys)


def raised(x, rank):
    """With axes of length 1 added until there are `rank`, as `np.atleast_1d` and kin do."""
    missing = rank - rank_of(x)
    if missing <= 0:
        return x
    if rank_of(x) == 0:
        return np.reshape(x, (1,) * rank)
    if rank_of(x) == 1 and rank > 1:
        return np.expand_dims(x, 0 if rank == 2 else (0, 2))
    return np.expand_dims(x, 2)


@primitive(
    np.ascontiguousarray, alias="a", samples=lambda: [call(A(3)), call(A(2, 3, dtype="float32"))]
)
def _(a, /):
    return a if a.ndim else Array(a.dtype, (1,))


linear(np.ascontiguousarray)


@vjp(np.ascontiguousarray)
def _(grad_y, y, a):
    return grad_y if a.ndim else only_element(grad_y)


method("transpose", "swapaxes", "squeeze", "reshape", "ravel")
method("flatten", of=FLATTEN)

__all__ = ["FLATTEN", "distinct_axes", "lengths", "only_element", "rank_of"]
