"""New arrays: zeros, ones, full, arange and kin.

    np.zeros_like(x)       # a constant: no derivative passes it
"""

from __future__ import annotations

import numpy as np

from flatgrad.ir.types import Array, make
from flatgrad.primitives.registry import call, linear, method, primitive, vjp
from flatgrad.primitives.samples import A
from flatgrad.primitives.typerules import as_size


def _shape(shape):
    entries = shape if isinstance(shape, tuple | list) else (shape,)
    return tuple(as_size(entry) for entry in entries)


for _function in (np.zeros_like, np.ones_like, np.empty_like):

    @primitive(_function, derivative=False, samples=lambda: [call(A(2, 3))])
    def _(x, /, dtype=None):
        return make(np.dtype(dtype or x.dtype).name, x.shape)


for _function in (np.zeros, np.ones, np.empty):

    @primitive(
        _function, dynamic=("shape",), derivative=False, creates=True, samples=lambda: [call((2, 3))]
    )
    def _(shape, dtype=float):
        return Array(np.dtype(dtype).name, _shape(shape))


@primitive(
    np.full_like, derivative=True, samples=lambda: [call(A(2, 3), A()), call(A(2, 3), 2.0)]
)
def _(x, value, /, dtype=None):
    return make(np.dtype(dtype or x.dtype).name, x.shape)


linear(np.full_like, "value")


@vjp(np.full_like)
def _(grad_y, y, x, value, *, dtype=None):
    return None, grad_y


@primitive(np.copy, text="np.copy", samples=lambda: [call(A(2, 3))])
def _(x, /):
    return x


linear(np.copy)


@vjp(np.copy)
def _(grad_y, y, x):
    return grad_y


method("copy", of=np.copy)
