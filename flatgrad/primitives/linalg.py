"""Products of vectors, matrices and batches of them.

    y = a @ b                        grad_a = grad_y @ b.T       grad_b = a.T @ grad_y
    y = np.tensordot(a, b, axes)     each cotangent is a tensordot of grad_y with the other operand

Every product here sums over pairs of axes: `contraction_vjp` writes its cotangents, as products of
matrices and vectors where the operands are such.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from flatgrad.ir.dims import may_be_one, product
from flatgrad.ir.types import Array, Scalar, make
from flatgrad.primitives.registry import PRIMITIVES, bilinear, call, method, primitive, vjp
from flatgrad.primitives.samples import A
from flatgrad.primitives.shape import rank_of
from flatgrad.primitives.symbolic import apply_function
from flatgrad.primitives.typerules import (
    broadcast,
    fail,
    named,
    normalize_axis,
    promoted,
    require_same,
)


def require_arrays(name, *kinds):
    """Operands are arrays or numbers, no sequences."""
    for kind in kinds:
        if not isinstance(kind, Scalar | Array):
            raise fail("operand-type", f"`{name}` takes arrays", "make one with np.array or stack")


def joint_dtype(*kinds):
    """The dtype of functions that make arrays of their operands: Python numbers count in full."""
    return np.result_type(*[np.dtype(kind.dtype) for kind in kinds]).name


def described(kind, axis, owner, count):
    """`X` has 5 columns."""
    axis = normalize_axis(axis, kind.ndim)
    if kind.ndim == 1:
        word = "element"
    elif axis >= kind.ndim - 2:
        word = "row" if axis == kind.ndim - 2 else "column"
    else:
        return f"{owner} has length {count} along axis {axis}"
    return f"{owner} has {count} {word}{'' if count == 1 else 's'}"


def require_contractible(a, b, axis_a, axis_b):
    """The lengths of two axes that are summed over together agree; they do not broadcast."""
    left, right = named("a"), named("b")

    def message(m, n):
        return f"{described(a, axis_a, left, m)}, {described(b, axis_b, right, n)}"

    same_count(a.shape[axis_a], b.shape[axis_b], message)


def same_count(m, n, message):
    """Lengths that do not broadcast agree, even in a derivative that leaves the product out."""
    require_same(m, n, message, guard=may_be_one(m) or may_be_one(n))


def transposed(x):
    """The matrix, or every matrix of a batch, transposed."""
    return x.T if x.ndim == 2 else np.swapaxes(x, -1, -2)


def arranged(x, order):
    """`x` with its axis number i moved to place `order[i]`."""
    if list(order) == list(range(x.ndim)):
        return x
    inverse = tuple(order.index(place) for place in range(x.ndim))
    return x.T if x.ndim == 2 else np.transpose(x, inverse)


def contracted(a, b, axes_a, axes_b):
    """np.tensordot of operands that may be numbers, written the short way where there is one."""
    axes_a, axes_b, count = tuple(axes_a), tuple(axes_b), len(axes_a)
    if rank_of(a) == 0 or rank_of(b) == 0:
        return a * b
    if axes_a == (a.ndim - 1,) and b.ndim <= 2:
        return a @ (b if axes_b == (0,) else b.T)
    if axes_b == tuple(range(count)) and axes_a == tuple(range(a.ndim - count, a.ndim)):
        return np.tensordot(a, b, axes=count)
    return np.tensordot(a, b, axes=(axes_a, axes_b))


def contraction_vjp(grad_y, a, b, axes_a, axes_b):
    """The cotangents of a sum of products over the axes `axes_a` of `a` and `axes_b` of `b`.

    The axes of y are the others of `a`, then the others of `b`, in order.
    """
    if len(axes_a) == 1 and a.ndim <= 2 and b.ndim <= 2:
        return _matrix_vjp(grad_y, a, b, axes_a[0], axes_b[0])
    free_a = [axis for axis in range(a.ndim) if axis not in axes_a]
    free_b = [axis for axis in range(b.ndim) if axis not in axes_b]
    rows = tuple(range(len(free_a)))
    columns = tuple(range(len(rows), len(rows) + len(free_b)))
    order_a = free_a + [axes_a[axes_b.index(axis)] for axis in sorted(axes_b)]
    order_b = [axes_b[axes_a.index(axis)] for axis in sorted(axes_a)] + free_b
    return (
        arranged(contracted(grad_y, b, columns, free_b), order_a),
        arranged(contracted(a, grad_y, free_a, rows), order_b),
    )


def _matrix_vjp(grad_y, a, b, axis_a, axis_b):
    """Products of matrices and vectors, summed over one axis of each: as in a textbook."""
    match a.ndim, b.ndim:
        case 1, 1:
            return grad_y * b, grad_y * a
        case 2, 1 if axis_a == 1:
            return np.outer(grad_y, b), a.T @ grad_y
        case 2, 1:
            return np.outer(b, grad_y), a @ grad_y
        case 1, 2 if axis_b == 0:
            return b @ grad_y, np.outer(a, grad_y)
        case 1, 2:
            return grad_y @ b, np.outer(grad_y, a)
    left = a if axis_a == 1 else a.T  # y = left @ right
    right = b if axis_b == 0 else b.T
    return (
        grad_y @ right.T if axis_a == 1 else right @ grad_y.T,
        left.T @ grad_y if axis_b == 0 else grad_y.T @ left,
    )


def products():
    """Operands of every pair of ranks, with batches that broadcast."""
    shapes = [
        ((3,), (3,)), ((2, 3), (3,)), ((3,), (3, 2)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)),
        ((5, 2, 3), (3,)), ((2, 3), (5, 3, 4)), ((3,), (5, 3, 4)), ((5, 2, 3), (5, 3, 4)),
        ((1, 2, 3), (5, 3, 4)), ((2, 1, 2, 3), (3, 3, 2)), ((2, 1), (1, 3)), ((3,), (2, 5, 3, 1)),
        ((2, 5, 1, 3), (3,)), ((4, 2, 3), (1, 3, 2)), ((4, 1, 2, 3), (1, 5, 3, 2)), ((1,), (1,)),
        ((1, 2, 3), (3,)), ((2, 3), (1, 3, 4)), ((1, 1, 2, 3), (3, 2)), ((2, 0), (0, 3)),
    ]  # fmt: skip
    return [call(A(*a), A(*b)) for a, b in shapes] + [
        call(A(2, 3, dtype="float32"), A(3, 2, dtype="float32")),
        call(A(2, 3, dtype="float32"), A(3)),
    ]


def matmul_type(a, b, /):
    """The type of `a @ b`: a vector is a row or column, axes before the last two broadcast."""
    require_arrays("@", a, b)
    for kind, name in ((a, "a"), (b, "b")):
        if kind.ndim == 0:
            raise fail("operand-type", f"`@` of a number, {named(name)}", "use `*`")
    require_contractible(a, b, -1, -2 if b.ndim > 1 else 0)
    dtype, _ = promoted(np.multiply, a, b)
    batch = broadcast(a.shape[:-2], b.shape[:-2], names=("a", "b"))
    tail = (a.shape[-2:-1] if a.ndim > 1 else ()) + (b.shape[-1:] if b.ndim > 1 else ())
    return make(dtype, batch + tail)


primitive(operator.matmul, operator="@", text="@", samples=products)(matmul_type)
primitive(np.matmul, twin_of=PRIMITIVES[operator.matmul], samples=products)(matmul_type)
bilinear(operator.matmul)


@vjp(operator.matmul)
def _(grad_y, y, a, b):
    match a.ndim, b.ndim:  # ranks are known: this runs at compile time
        case (1, _) | (_, 1) | (_, 2):
            return contraction_vjp(grad_y, a, b, (a.ndim - 1,), (max(b.ndim - 2, 0),))
        case 2, _:
            others = [axis for axis in range(b.ndim) if axis != b.ndim - 2]
            return contracted(grad_y, b, others, others), a.T @ grad_y
    return grad_y @ np.swapaxes(b, -1, -2), np.swapaxes(a, -1, -2) @ grad_y


def of_all_ranks(*extra):
    """Operands for np.dot and np.inner: numbers, vectors, and N-d with M-d."""
    single = A(3, dtype="float32")
    return [
        call(A(), A()), call(A(), A(3)), call(A(2, 3), A()), call(2.0, A(3)), call(A(3), A(3)),
        call(A(2, 3), A(3)), call(A(5, 2, 3), A(3)), call(A(1), A(1)), call(A(4, 1), A(1)),
        call(single, A()), call(single, single), *extra,
    ]  # fmt: skip


@primitive(
    np.dot,
    samples=lambda: of_all_ranks(
        call(A(3), A(3, 2)), call(A(2, 3), A(3, 4)), call(A(5, 2, 3), A(3, 4)),
        call(A(3), A(5, 3, 4)), call(A(2, 3), A(5, 3, 4)), call(A(2, 3, 4), A(1, 3, 4, 2)),
        call(A(2, 3), A(3, 1)), call(A(2, 0), A(0, 3)),
    ),
)  # fmt: skip
def _(a, b, /):
    require_arrays("np.dot", a, b)
    if a.ndim == 0 or b.ndim == 0:
        return make(joint_dtype(a, b), a.shape + b.shape)
    last = max(b.ndim - 2, 0)
    require_contractible(a, b, -1, last)
    return make(joint_dtype(a, b), a.shape[:-1] + b.shape[:last] + b.shape[last + 1 :])


bilinear(np.dot)


@vjp(np.dot)
def _(grad_y, y, a, b):
    if rank_of(a) == 0 or rank_of(b) == 0:
        return grad_y * b, grad_y * a
    return contraction_vjp(grad_y, a, b, (a.ndim - 1,), (max(b.ndim - 2, 0),))


@primitive(
    np.inner,
    samples=lambda: of_all_ranks(
        call(A(3), A(2, 3)), call(A(2, 3), A(4, 3)), call(A(5, 2, 3), A(4, 3)),
        call(A(3), A(5, 4, 3)), call(A(2, 1, 3), A(4, 5, 3)),
    ),
)  # fmt: skip
def _(a, b, /):
    require_arrays("np.inner", a, b)
    if a.ndim == 0 or b.ndim == 0:
        return make(joint_dtype(a, b), a.shape + b.shape)
    require_contractible(a, b, -1, -1)
    return make(joint_dtype(a, b), a.shape[:-1] + b.shape[:-1])


bilinear(np.inner)


@vjp(np.inner)
def _(grad_y, y, a, b):
    if rank_of(a) == 0 or rank_of(b) == 0:
        return grad_y * b, grad_y * a
    return contraction_vjp(grad_y, a, b, (a.ndim - 1,), (b.ndim - 1,))


@primitive(
    np.outer,
    samples=lambda: [
        call(A(3), A(2)), call(A(1), A(4)), call(A(2, 3), A(4)), call(A(3), A(2, 1)),
        call(A(2, 2), A(1, 3)), call(A(), A(3)), call(A(3), A()), call(A(2, 2), 2.0),
        call(A(3, dtype="float32"), A(2, dtype="float32")), call(A(3, dtype="float32"), A()),
        call(A(), A()),
    ],
)  # fmt: skip
def _(a, b, /):
    require_arrays("np.outer", a, b)
    return Array(joint_dtype(a, b), (product(a.shape), product(b.shape)))


bilinear(np.outer)


@vjp(np.outer)
def _(grad_y, y, a, b):
    rows = grad_y @ _flat(b) if rank_of(b) else grad_y * b
    columns = _flat(a) @ grad_y if rank_of(a) else grad_y * a
    return _reshaped(rows, a), _reshaped(columns, b)


def _flat(x):
    return x if x.ndim == 1 else np.ravel(x)


def _reshaped(x, model):
    """In the shape of `model`, which has as many elements; a number's cotangent is summed later."""
    if rank_of(model) == 0 or rank_of(x) == 0 or x.ndim == model.ndim == 1:
        return x
    return x if x.type.shape == model.type.shape else np.reshape(x, model.shape)


@primitive(
    np.vdot,
    samples=lambda: [
        call(A(3), A(3)), call(A(2, 3), A(2, 3)), call(A(2, 3), A(3, 2)), call(A(6), A(2, 3)),
        call(A(), A()), call(A(1, 1), A()), call(A(), A(1)), call(A(3, dtype="float32"), A(3)),
    ],
)  # fmt: skip
def _(a, b, /):
    require_arrays("np.vdot", a, b)
    left, right = named("a"), named("b")
    same_count(
        product(a.shape),
        product(b.shape),
        lambda m, n: f"{left} has {m} elements, {right} has {n}",
    )
    return Scalar(joint_dtype(a, b))


bilinear(np.vdot)


@vjp(np.vdot)
def _(grad_y, y, a, b):
    return grad_y * _reshaped(b, a), grad_y * _reshaped(a, b)


def TENSORDOT(a, b, axes=2):
    """np.tensordot, with a number where NumPy hands out an array without axes."""
    return np.tensordot(a, b, axes=axes)[()]


@primitive(
    TENSORDOT,
    name="tensordot",
    text="np.tensordot",
    samples=lambda: [
        call(A(2, 3), A(3, 4), 1), call(A(3), A(3), axes=1), call(A(2, 3), A(2, 3)),
        call(A(2, 3), A(3, 2), axes=((0, 1), (1, 0))), call(A(3), A(2), axes=0),
        call(A(2, 3), A(4), axes=0), call(A(2, 3), A(2, 4), axes=(0, 0)),
        call(A(2, 3), A(4, 3), axes=(-1, 1)), call(A(2, 3), A(4, 2), axes=([0], [-1])),
        call(A(2, 3, 4), A(4, 3, 5), axes=([1, 2], [1, 0])), call(A(3), A(2, 3), axes=(0, 1)),
        call(A(2, 3), A(2), axes=(0, 0)), call(A(3), A(3, 2), axes=1), call(A(), A(3), axes=0),
        call(A(2, 3, 4, 5), A(4, 2, 1), axes=((0, 2), (1, 0))), call(A(2, 1), A(1, 4), 1),
        call(A(2, 3, 4), A(3, 5, 2), axes=((1, 0), (0, 2))), call(2.0, A(), axes=0),
        call(A(2, 3, dtype="float32"), A(3, 2, dtype="float32"), axes=1),
    ],
)  # fmt: skip
def _(a, b, /, axes=2):
    require_arrays("np.tensordot", a, b)
    axes_a, axes_b = _paired(axes, a, b)
    for axis_a, axis_b in zip(axes_a, axes_b, strict=True):
        require_contractible(a, b, axis_a, axis_b)
    rows = tuple(size for axis, size in enumerate(a.shape) if axis not in axes_a)
    columns = tuple(size for axis, size in enumerate(b.shape) if axis not in axes_b)
    return make(joint_dtype(a, b), rows + columns)


PRIMITIVES[np.tensordot] = PRIMITIVES[TENSORDOT]
bilinear(TENSORDOT)


def _paired(axes, a, b):
    """The axes that `np.tensordot` sums over, non-negative, as two tuples."""
    rank_a, rank_b = rank_of(a), rank_of(b)
    if isinstance(axes, int):
        if not 0 <= axes <= min(rank_a, rank_b):
            raise fail(
                "axis-out-of-range", f"{axes} axes of arrays with {rank_a} and {rank_b} axes"
            )
        return tuple(range(rank_a - axes, rank_a)), tuple(range(axes))
    if not (isinstance(axes, tuple | list) and len(axes) == 2):
        raise fail("unsupported-argument", f"axes={axes!r}: one int, or axes of `a` and of `b`")
    one, other = [item if isinstance(item, tuple | list) else (item,) for item in axes]
    pair = (
        tuple(normalize_axis(axis, rank_a) for axis in one),
        tuple(normalize_axis(axis, rank_b) for axis in other),
    )
    if len(one) != len(other) or any(len(set(found)) < len(found) for found in pair):
        raise fail("shape-mismatch", f"axes={axes!r} does not pair axes of `a` with axes of `b`")
    return pair


@vjp(TENSORDOT)
def _(grad_y, y, a, b, *, axes=2):
    axes_a, axes_b = _paired(axes, a, b)
    if y.ndim == 0 and rank_of(a):
        order_a = [axes_a[axes_b.index(axis)] for axis in range(b.ndim)]
        order_b = [axes_b[axes_a.index(axis)] for axis in range(a.ndim)]
        return grad_y * arranged(b, order_a), grad_y * arranged(a, order_b)
    if rank_of(a) == 0 or rank_of(b) == 0:
        return grad_y * b, grad_y * a
    return contraction_vjp(grad_y, a, b, axes_a, axes_b)


def unit_matrix(x, rows, columns=None, offset=0):
    """np.eye with the dtype of the symbol `x`."""
    facts = {"k": offset} if offset else {}
    if x.dtype != np.float64:
        facts["dtype"] = x.dtype.type
    lengths = (rows,) if columns is None else (rows, columns)
    return apply_function(np.eye, lengths, facts, x.builder)


@primitive(
    np.cross,
    samples=lambda: [
        call(A(3), A(3)), call(A(4, 3), A(3)), call(A(3), A(2, 4, 3)), call(A(4, 1, 3), A(1, 5, 3)),
        call(A(1, 3), A(2, 3)), call(A(2, 3, dtype="float32"), A(2, 3, dtype="float32")),
    ],
)  # fmt: skip
def _(a, b, /):
    require_arrays("np.cross", a, b)
    for kind, name in ((a, "a"), (b, "b")):
        if kind.ndim == 0:
            raise fail("operand-type", f"`np.cross` of a number, {named(name)}")
        require_same(kind.shape[-1], 3, _not_three(named(name)), guard=True)
    return make(joint_dtype(a, b), (*broadcast(a.shape[:-1], b.shape[:-1], names=("a", "b")), 3))


def _not_three(words):
    return lambda m, n: f"`np.cross` takes vectors of 3 elements, {words} has {m}"


bilinear(np.cross)


@vjp(np.cross)
def _(grad_y, y, a, b):
    return np.cross(b, grad_y), np.cross(grad_y, a)


@primitive(
    np.kron,
    samples=lambda: [
        call(A(2), A(3)), call(A(2, 3), A(4, 2)), call(A(2, 3), A(4)), call(A(4), A(2, 1)),
        call(A(), A(3)), call(A(2, 2), 2.0), call(A(2, 1, 3), A(3, 2)), call(A(1, 1), A(2, 2)),
        call(A(2, dtype="float32"), A(2, 2, dtype="float32")),
    ],
)  # fmt: skip
def _(a, b, /):
    require_arrays("np.kron", a, b)
    rank = max(a.ndim, b.ndim)
    left, right = [(1,) * (rank - kind.ndim) + kind.shape for kind in (a, b)]
    return make(joint_dtype(a, b), tuple(m * n for m, n in zip(left, right, strict=True)))


bilinear(np.kron)


@vjp(np.kron)
def _(grad_y, y, a, b):
    if rank_of(a) == 0 or rank_of(b) == 0:
        return grad_y * b, grad_y * a
    lengths: list[Any] = []  # the axes of y taken apart into those of a and b
    of_a: list[int] = []
    of_b: list[int] = []
    for axis in range(-y.ndim, 0):
        for x, places in ((a, of_a), (b, of_b)):
            if -axis <= x.ndim:
                places.append(len(lengths))
                lengths.append(x.shape[axis])
    blocks = np.reshape(grad_y, tuple(lengths))
    return (
        contracted(blocks, b, of_b, range(b.ndim)),
        contracted(a, blocks, range(a.ndim), of_a),
    )


method("dot")
