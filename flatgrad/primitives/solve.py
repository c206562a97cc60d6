"""Functions of square matrices: trace, inverse, solutions, determinants.

    x = np.linalg.solve(A, b)       grad_b = np.linalg.solve(A.T, grad_x)
                                    grad_A = -np.outer(grad_b, x)

Each takes a matrix, or a batch of them in the last two axes. A matrix that NumPy finds singular
raises LinAlgError in the derivative as well, also where only the derivative inverts it (det).
"""

from __future__ import annotations

import operator

import numpy as np

from flatgrad.ir.types import Array, make
from flatgrad.primitives.linalg import (
    require_arrays,
    transposed,
    unit_matrix,
)
from flatgrad.primitives.registry import call, composite, jvp, linear, method, primitive, vjp
from flatgrad.primitives.samples import A
from flatgrad.primitives.shape import rank_of
from flatgrad.primitives.symbolic import Symbol, operation
from flatgrad.primitives.typerules import (
    TypingContext,
    broadcast,
    fail,
    named,
    normalize_axis,
    promoted,
    require_same,
    typing_call,
)


class Dominant(A):
    """Square matrices whose diagonal outweighs the rest: invertible, and positive definite."""

    __slots__ = ()

    def draw(self, rng):
        """Values of `A` with a large diagonal added."""
        values = A.draw(self, rng)
        size = self.shape[-1]
        return values + (1 + 2 * size) * np.eye(size, dtype=values.dtype)


def matrices(*extra):
    """Samples for functions of one square matrix."""
    return lambda: [
        call(Dominant(3, 3)), call(Dominant(1, 1)), call(Dominant(2, 3, 3)),
        call(Dominant(1, 2, 2, 2)), call(Dominant(2, 2, dtype="float32")), *extra,
    ]  # fmt: skip


def require_square(name, a, param="a"):
    """The last two axes have the same length."""
    require_arrays(name, a)
    words = named(param)
    if a.ndim < 2:
        raise fail("operand-type", f"`{name}` of {words}, which is no matrix")
    require_same(
        a.shape[-2],
        a.shape[-1],
        lambda m, n: f"`{name}` takes square matrices: {words} has {m} rows and {n} columns",
    )


def float_dtype(*kinds):
    """What LAPACK computes in: float32 only if all operands have it."""
    return "float32" if all(kind.dtype == "float32" for kind in kinds) else "float64"


def column(x):
    """Numbers for each matrix of a batch, with two axes to multiply the matrices by."""
    return np.expand_dims(x, (-2, -1)) if rank_of(x) else x


@primitive(
    np.trace,
    samples=lambda: [
        call(A(3, 3)), call(A(2, 4)), call(A(4, 2), offset=-1), call(A(3, 4), offset=2),
        call(A(2, 3), offset=5), call(A(2, 3, 3), 0, 1, 2), call(A(3, 4, 2), axis1=1, axis2=0),
        call(A(3, 2, 4, 3), offset=1, axis1=-1, axis2=0), call(A(1, 1)), call(A(1, 3), offset=1),
        call(A(2, 2, dtype="float32")), call(A(2, 3, 2, dtype="float32"), axis1=0, axis2=-1),
    ],
)  # fmt: skip
def _(a, /, offset=0, axis1=0, axis2=1):
    require_arrays("np.trace", a)
    if a.ndim < 2:
        raise fail("operand-type", f"`np.trace` of {named('a')}, which is no matrix")
    pair = normalize_axis(axis1, a.ndim), normalize_axis(axis2, a.ndim)
    if pair[0] == pair[1]:
        raise fail("axis-out-of-range", "`np.trace` needs two different axes")
    dtype, _ = promoted(np.sum, Array(a.dtype, (2,)))
    return make(dtype, tuple(size for axis, size in enumerate(a.shape) if axis not in pair))


linear(np.trace)


@vjp(np.trace)
def _(grad_y, y, a, *, offset=0, axis1=0, axis2=1):
    first, second = normalize_axis(axis1, a.ndim), normalize_axis(axis2, a.ndim)
    if first > second:
        first, second, offset = second, first, -offset
    square = a.type.shape[first] == a.type.shape[second]
    ones = unit_matrix(a, a.shape[first], None if square else a.shape[second], offset)
    if a.ndim == 2:
        return grad_y * ones
    others = tuple(axis for axis in range(a.ndim) if axis not in (first, second))
    return np.expand_dims(grad_y, (first, second)) * np.expand_dims(ones, others)


@primitive(np.linalg.inv, samples=matrices())
def _(a, /):
    require_square("np.linalg.inv", a)
    return Array(float_dtype(a), a.shape)


@vjp(np.linalg.inv)
def _(grad_y, y, a):
    return -transposed(y) @ grad_y @ transposed(y)


@jvp(np.linalg.inv)
def _(dots, y, a):
    return -y @ dots[0] @ y


@primitive(
    np.linalg.solve,
    samples=lambda: [
        call(Dominant(3, 3), A(3)), call(Dominant(3, 3), A(3, 2)), call(Dominant(2, 3, 3), A(3)),
        call(Dominant(2, 3, 3), A(2, 3, 4)), call(Dominant(3, 3), A(2, 3, 4)),
        call(Dominant(1, 3, 3), A(2, 3, 1)), call(Dominant(2, 1, 2, 2), A(3, 2, 2)),
        call(Dominant(2, 3, 3), A(3, 2)), call(Dominant(1, 1), A(1)), call(Dominant(1, 3, 3), A(3)),
        call(Dominant(2, 2, dtype="float32"), A(2, dtype="float32")),
        call(Dominant(2, 2, dtype="float32"), A(2)),
    ],
)  # fmt: skip
def _(a, b, /):
    require_square("np.linalg.solve", a)
    require_arrays("np.linalg.solve", b)
    if b.ndim == 0:
        raise fail("operand-type", f"`np.linalg.solve` for a number, {named('b')}")
    left, right = named("a"), named("b")
    word = "elements" if b.ndim == 1 else "rows"
    require_same(
        a.shape[-1],
        b.shape[0 if b.ndim == 1 else -2],
        lambda m, n: f"{left} has {m} columns, {right} has {n} {word}",
    )
    dtype = float_dtype(a, b)
    if b.ndim == 1:
        return make(dtype, a.shape[:-1])
    batch = broadcast(a.shape[:-2], b.shape[:-2], names=("a", "b"))
    return make(dtype, (*batch, a.shape[-1], b.shape[-1]))


def _solved(a, b, vector):
    """`a` solved for `b`: `vector` says that the last axis of `b` holds vectors, in a batch too."""
    if vector and b.ndim > 1:
        return np.squeeze(np.linalg.solve(a, np.expand_dims(b, -1)), -1)
    return np.linalg.solve(a, b)


@vjp(np.linalg.solve)
def _(grad_y, y, a, b):
    vector = b.ndim == 1
    grad_b = _solved(transposed(a), grad_y, vector)
    if not vector:
        return -grad_b @ transposed(y), grad_b
    if y.ndim == 1:
        return -np.outer(grad_b, y), grad_b
    return -np.expand_dims(grad_b, -1) * np.expand_dims(y, -2), grad_b


@jvp(np.linalg.solve)
def _(dots, y, a, b):
    dot_a, dot_b = dots
    vector = b.ndim == 1
    if dot_a is None:
        return np.linalg.solve(a, dot_b)
    many = vector and y.ndim > 1
    moved = np.squeeze(dot_a @ np.expand_dims(y, -1), -1) if many else dot_a @ y
    return _solved(a, -moved if dot_b is None else dot_b - moved, vector)


@primitive(np.linalg.det, samples=matrices(call(A(3, 3)), call(A(2, 2))))
def _(a, /):
    require_square("np.linalg.det", a)
    return make(float_dtype(a), a.shape[:-2])


@vjp(np.linalg.det)
def _(grad_y, y, a):
    return column(grad_y * y) * transposed(np.linalg.inv(a))


@jvp(np.linalg.det)
def _(dots, y, a):
    return y * np.trace(np.linalg.solve(a, dots[0]), axis1=-2, axis2=-1)


def SIGN_OF_DET(a):
    """The sign of the determinant; written `np.linalg.slogdet(a)[0]`."""
    return np.linalg.slogdet(a)[0]


def LOG_OF_DET(a):
    """The logarithm of the determinant's magnitude; written `np.linalg.slogdet(a)[1]`."""
    return np.linalg.slogdet(a)[1]


def _slogdet_type(a, /):
    require_square("np.linalg.slogdet", a)
    return make(float_dtype(a), a.shape[:-2])


primitive(
    SIGN_OF_DET, name="sign_of_det", text="np.linalg.slogdet", derivative=False, samples=matrices()
)(_slogdet_type)
primitive(
    LOG_OF_DET,
    name="log_of_det",
    text="np.linalg.slogdet",
    samples=matrices(call(A(3, 3)), call(A(2, 2))),
)(_slogdet_type)


@vjp(LOG_OF_DET)
def _(grad_y, y, a):
    return column(grad_y) * transposed(np.linalg.inv(a))


@jvp(LOG_OF_DET)
def _(dots, y, a):
    return np.trace(np.linalg.solve(a, dots[0]), axis1=-2, axis2=-1)


@composite(np.linalg.slogdet)
def _(a):
    return operation(SIGN_OF_DET)(a), operation(LOG_OF_DET)(a)


@composite(np.linalg.matrix_power)
def _(a, n):
    exponent = operator.index(n)
    if not isinstance(a, Symbol):
        raise fail("operand-type", "`np.linalg.matrix_power` takes an array")
    words = f"`{a.value.name}`" if a.value.name else "an operand"
    with typing_call(TypingContext(a.builder.origin.span, {"a": words})) as context:
        require_square("np.linalg.matrix_power", a.type)
    a.builder.requirements += context.requirements
    if exponent < 0:
        a, exponent = np.linalg.inv(a), -exponent
    if exponent == 0:
        return np.zeros_like(a) + unit_matrix(a, a.shape[-1])
    if exponent == 3:
        return a @ a @ a
    square, result = a, None
    while True:
        exponent, odd = divmod(exponent, 2)
        if odd:
            result = square if result is None else result @ square
        if not exponent:
            return result
        square = square @ square


@composite(np.linalg.multi_dot)
def _(arrays):
    if not isinstance(arrays, tuple | list) or len(arrays) < 2:
        raise fail("unsupported-call", "`np.linalg.multi_dot` takes a list of two or more arrays")
    ends = {rank_of(arrays[0]), rank_of(arrays[-1])}
    if not ends <= {1, 2} or any(rank_of(one) != 2 for one in arrays[1:-1]):
        raise fail(
            "operand-type",
            "`np.linalg.multi_dot` takes matrices, and vectors at the two ends",
            "use `@` for batches",
        )
    first, *others = arrays
    if rank_of(arrays[-1]) == 1:  # from the right, each product is one with a vector
        *others, result = arrays
        for one in reversed(others):
            result = one @ result
        return result
    for one in others:
        first = first @ one
    return first


method("trace")
