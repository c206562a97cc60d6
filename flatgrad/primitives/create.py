"""New arrays: zeros, ones, full, arange, linspace and kin, and copies.

    np.zeros_like(x)              # a constant: no derivative passes it
    y = np.linspace(a, b, n)      # grad_b = grad_y @ np.linspace(0.0, 1.0, num=n)

Lengths may be ints at run time; the bounds of `arange` are ints, or floats known while compiling.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flatgrad.ir.dims import Dim
from flatgrad.ir.types import Array, Scalar, make
from flatgrad.primitives.join import dtype_name
from flatgrad.primitives.registry import call, composite, linear, method, primitive, vjp
from flatgrad.primitives.samples import A, I
from flatgrad.primitives.shape import lengths, rank_of
from flatgrad.primitives.symbolic import apply_function
from flatgrad.primitives.typerules import as_size, broadcast, fail, fresh_size, promoted


def passes(dtype):
    """Whether an array of this dtype can carry a derivative; None is that of the operand."""
    return dtype is None or np.dtype(dtype).kind == "f"


_models: tuple[Any, ...] = (np.zeros_like, np.ones_like, np.empty_like)
for _function in _models:

    @primitive(
        _function,
        derivative=False,
        samples=lambda: [call(A(2, 3)), call(A(3, dtype="float32"), dtype=np.int64)],
    )
    def _(x, /, dtype=None):
        return make(dtype_name(dtype or x.dtype), x.shape)


_creators: tuple[Any, ...] = (np.zeros, np.ones, np.empty)
for _function in _creators:

    @primitive(
        _function,
        dynamic=("shape",),
        derivative=False,
        creates=True,
        samples=lambda: [call((2, 3)), call(4, dtype=np.float32), call((2, I(1)))],
    )
    def _(shape, dtype=None):
        return make(dtype_name(dtype or float), lengths(shape))


@primitive(
    np.full,
    creates=True,
    samples=lambda: [
        call((2, 3), A()), call(3, 2.0), call((2, 3), A(3)), call((I(2),), A(), dtype=np.float32),
        call((2, 3), A(2, 1)),
    ],
)  # fmt: skip
def _(shape, fill_value, /, dtype=None):
    sizes = lengths(shape)
    broadcast(fill_value.shape, sizes, names=("fill_value", "shape"))
    return make(dtype_name(dtype or fill_value.dtype), sizes)


linear(np.full, "fill_value")


@vjp(np.full)
def _(grad_y, y, shape, fill_value, *, dtype=None):
    return None, grad_y if passes(dtype) else None


@primitive(
    np.full_like,
    samples=lambda: [
        call(A(2, 3), A()), call(A(2, 3), 2.0), call(A(2, 3), A(3)), call(A(2, 1), A(2, 1)),
        call(A(3, dtype="float32"), A(), dtype=np.float64),
    ],
)  # fmt: skip
def _(x, value, /, dtype=None):
    broadcast(value.shape, x.shape, names=("value", "x"))
    return make(dtype_name(dtype or x.dtype), x.shape)


linear(np.full_like, "value")


@vjp(np.full_like)
def _(grad_y, y, x, value, *, dtype=None):
    return None, grad_y if passes(dtype) else None


@primitive(
    np.eye,
    dynamic=("N", "M"),
    derivative=False,
    creates=True,
    samples=lambda: [call(3), call(2, 4, k=1), call(I(2), dtype=np.float32), call(2, M=3, k=-1)],
)
def _(N, M=None, k=0, dtype=float):
    return Array(dtype_name(dtype or float), lengths((N, N if M is None else M)))


@primitive(np.identity, dynamic=("n",), derivative=False, creates=True, samples=lambda: [call(3)])
def _(n, dtype=None):
    return Array(dtype_name(dtype or float), lengths((n, n)))


@primitive(
    np.arange,
    dynamic=("start_or_stop", "stop", "step"),
    derivative=False,
    creates=True,
    samples=lambda: [
        call(5), call(1, 7), call(1, 8, 3), call(0.0, 1.0, 0.25), call(I(3)), call(I(2), I(9), 2),
        call(5, dtype=np.float64), call(4, 0, -1), call(3, 1), call(2.5), call(-3),
    ],
)  # fmt: skip
def _(start_or_stop, stop=None, step=1, *, dtype=None):
    parts = (0, start_or_stop, step) if stop is None else (start_or_stop, stop, step)
    kinds = [np.dtype(p.dtype if isinstance(p, Scalar) else type(p)) for p in parts]
    if any(isinstance(p, Scalar) and k.kind not in "iu" for p, k in zip(parts, kinds, strict=True)):
        raise fail(
            "unsupported-argument",
            "`np.arange` whose bounds are floats at run time: its length would depend on them",
            "use `start + step * np.arange(n)`, or np.linspace",
        )
    name = np.result_type(*kinds).name if dtype is None else dtype_name(dtype)
    return Array(name, (_count(*parts),))


def _count(start, stop, step):
    """The length of an arange."""
    if not any(isinstance(part, Scalar) for part in (start, stop, step)):
        return len(np.arange(start, stop, step))
    first, last = (as_size(part) if isinstance(part, Scalar) else part for part in (start, stop))
    if isinstance(step, int) and step == 1 and isinstance(first, int | Dim):
        length = last - first if isinstance(last, int | Dim) else fresh_size()
        return max(0, length) if isinstance(length, int) else length
    return fresh_size()


@primitive(
    np.linspace,
    dynamic=("num",),
    creates=True,
    samples=lambda: [
        call(A(), A(), num=5), call(0.0, A(), num=4, endpoint=False), call(A(), 1, num=1),
        call(A(dtype="float32"), A()), call(A(), 2.0, num=I(3)), call(0, 1, num=3),
    ],
)  # fmt: skip
def _(start, stop, /, num=50, endpoint=True):
    if start.ndim or stop.ndim:
        raise fail("operand-type", "`np.linspace` between arrays", "its ends are numbers here")
    return Array(promoted(_between, start, stop)[0], (as_size(num),))


def _between(start, stop):
    return np.linspace(start, stop, 2)


_between.__name__ = "linspace"

linear(np.linspace, "start", "stop")


@vjp(np.linspace)
def _(grad_y, y, start, stop, *, num=50, endpoint=True):
    options = {"num": num} if endpoint else {"num": num, "endpoint": False}
    share = apply_function(np.linspace, (0.0, 1.0), options, grad_y.builder)
    return grad_y @ (1 - share), grad_y @ share


@composite(np.meshgrid)
def _(*xi, indexing="xy"):
    if indexing not in ("xy", "ij") or any(rank_of(x) != 1 for x in xi):
        raise fail("unsupported-argument", "`np.meshgrid` takes vectors here, indexed 'xy' or 'ij'")
    order = list(range(len(xi)))
    if indexing == "xy" and len(xi) > 1:
        order[:2] = [1, 0]
    shape = tuple(xi[order[k]].shape[0] for k in range(len(xi)))
    grids = []
    for k, x in enumerate(xi):
        place = tuple(slice(None) if order[axis] == k else None for axis in range(len(xi)))
        grids.append(np.broadcast_to(x[place], shape).copy())
    return tuple(grids)


@primitive(np.copy, text="np.copy", samples=lambda: [call(A(2, 3)), call(A())])
def _(x, /):
    return make(x.dtype, x.shape)


linear(np.copy)


@vjp(np.copy)
def _(grad_y, y, x):
    return grad_y


method("copy", of=np.copy)
