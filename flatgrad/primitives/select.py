"""Choices between values: where, clip.

    np.where(c, a, b)       grad_a = np.where(c, grad_y, 0.0)    # no NaN from the branch not taken
    np.clip(x, 0, 1)        grad_x = grad_y * ((0 < x) & (x < 1))

At a bound itself, `clip` follows the bound: the slope in x is 0 there.
"""

from __future__ import annotations

import numpy as np

from flatgrad.ir.types import make
from flatgrad.primitives.registry import (
    call,
    composite,
    linear,
    method,
    partials,
    primitive,
    vjp,
)
from flatgrad.primitives.samples import A, I
from flatgrad.primitives.symbolic import operation
from flatgrad.primitives.typerules import broadcast, elementwise_type, promoted

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


def CLIP(x, low, high):
    """np.clip with both bounds, in this order."""
    return np.clip(x, low, high)


@primitive(
    CLIP, name="clip", text="np.clip", elementwise=True,
    samples=lambda: [
        call(A(6), -0.5, 0.5), call(A(2, 3, dtype="float32"), 0.0, 1.0), call(A(), 0.0, 1.0),
        call(A(3, 4), A(4, low=-1.0, high=0.0), A(3, 1, low=0.0, high=1.0)),
        call(A(5, low=-0.2, high=0.2), A(low=0.5, high=1.0), A(low=1.2)), call(A(), A(), A()),
        call(A(4), A(4, low=1.1), A(4, high=0.9)),
    ],
)  # fmt: skip
def _(x, low, high, /):
    return elementwise_type(CLIP, x, low, high)


@partials(CLIP)
def _(y, x, low, high):
    # Where the bounds cross, the result is the upper one.
    inside = (low < x) & (x < high)
    return inside, (x <= low) & (low < high), (x >= high) | (low >= high)


@composite(np.clip)
def _(a, a_min=None, a_max=None, *, min=None, max=None):
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    if low is None and high is None:
        return np.copy(a)
    if low is None:
        return np.minimum(a, high)
    return np.maximum(a, low) if high is None else operation(CLIP)(a, low, high)


method("clip")
