"""Choices between values: where, clip.

    np.where(c, a, b)       grad_a = np.where(c, grad_y, 0.0)    # no NaN from the branch not taken
"""

from __future__ import annotations

import numpy as np

from flatgrad.ir.types import make
from flatgrad.primitives.registry import call, linear, primitive, vjp
from flatgrad.primitives.samples import A, I
from flatgrad.primitives.typerules import broadcast, promoted

_MASK = I([True, False, True])


@primitive(
    np.where,
    samples=lambda: [
        call(_MASK, A(3), A(3)), call(_MASK, A(3), 0.0), call(_MASK, A(), A(2, 3)),
        call(I([[True], [False]]), A(2, 3), A(3)), call(I(True), A(3), A(3)),
    ],
)  # fmt: skip
def _(condition, a, b, /):
    shape = broadcast(condition.shape, a.shape, b.shape, names=("condition", "a", "b"))
    return make(promoted(np.add, a, b)[0], shape)


linear(np.where, "a", "b")


@vjp(np.where)
def _(grad_y, y, condition, a, b):
    return None, np.where(condition, grad_y, 0.0), np.where(condition, 0.0, grad_y)
