"""Matrix products.

    y = a @ b       grad_a = grad_y @ b.T       grad_b = a.T @ grad_y
"""

from __future__ import annotations

import operator

import numpy as np

from flatgrad.ir.types import make
from flatgrad.primitives.registry import bilinear, call, primitive, vjp
from flatgrad.primitives.samples import A
from flatgrad.primitives.typerules import broadcast, fail, named, promoted, require_same


def products():
    """Operands of every pair of ranks, with batches that broadcast."""
    shapes = [
        ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)),
        ((5, 2, 3), (3,)), ((2, 3), (5, 3, 4)), ((3,), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)),
        ((1, 2, 3), (5, 3, 4)), ((2, 1, 2, 3), (3, 3, 2)), ((2, 1), (1, 3)),
    ]  # fmt: skip
    return [call(A(*a), A(*b)) for a, b in shapes] + [
        call(A(2, 3, dtype="float32"), A(3, 2, dtype="float32"))
    ]


@primitive(operator.matmul, operator="@", text="@", samples=products)
def matmul_type(a, b, /):
    for kind, name in ((a, "a"), (b, "b")):
        if kind.ndim == 0:
            raise fail("operand-type", f"`@` of a number, {named(name)}", "use `*`")
    rows = b.shape[-2] if b.ndim > 1 else b.shape[0]
    left, right = named("a"), named("b")
    a_axis = "columns" if a.ndim > 1 else "elements"
    b_axis = "rows" if b.ndim > 1 else "elements"
    require_same(
        a.shape[-1], rows, lambda m, n: f"{left} has {m} {a_axis}, {right} has {n} {b_axis}"
    )
    dtype, _ = promoted(np.multiply, a, b)
    batch = broadcast(a.shape[:-2], b.shape[:-2], names=("a", "b"))
    tail = (a.shape[-2:-1] if a.ndim > 1 else ()) + (b.shape[-1:] if b.ndim > 1 else ())
    return make(dtype, batch + tail)


bilinear(operator.matmul)


@vjp(operator.matmul)
def _(grad_y, y, a, b):
    match a.ndim, b.ndim:  # ranks are known: this runs at compile time
        case 1, 1:
            return grad_y * b, grad_y * a
        case 2, 1:
            return np.outer(grad_y, b), a.T @ grad_y
        case 1, 2:
            return b @ grad_y, np.outer(a, grad_y)
        case 2, 2:
            return grad_y @ b.T, a.T @ grad_y
        case _, 1:
            return grad_y[..., None] * b, _summed(a * grad_y[..., None])
        case 1, _:
            return _summed(b @ grad_y[..., None], keep=2)[:, 0], a[:, None] * grad_y[..., None, :]
    return grad_y @ np.swapaxes(b, -1, -2), np.swapaxes(a, -1, -2) @ grad_y


def _summed(x, keep=1):
    """Sum over all but the last axes."""
    return np.sum(x, axis=tuple(range(x.ndim - keep))) if x.ndim > keep else x


@primitive(np.outer, samples=lambda: [call(A(3), A(2)), call(A(1), A(4))])
def _(a, b, /):
    if a.ndim != 1 or b.ndim != 1:
        raise fail("operand-type", "`np.outer` takes vectors here", "ravel the arrays first")
    return make(promoted(np.multiply, a, b)[0], (a.shape[0], b.shape[0]))


bilinear(np.outer)


@vjp(np.outer)
def _(grad_y, y, a, b):
    return grad_y @ b, a @ grad_y
