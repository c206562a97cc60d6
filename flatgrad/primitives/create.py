"""New arrays: zeros, ones, full, arange and kin.

    np.zeros_like(x)       # a constant: no derivative passes it
"""

from __future__ import annotations

import numpy as np

from flatgrad.ir.types import Array, make
from flatgrad.primitives.registry import call, primitive
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

    @primitive(_function, dynamic=("shape",), derivative=False, samples=lambda: [call((2, 3))])
    def _(*, shape, dtype=float):
        return Array(np.dtype(dtype).name, _shape(shape))
