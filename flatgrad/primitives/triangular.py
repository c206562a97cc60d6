"""Cholesky factors and other lower triangles: their derivatives, and systems of equations.

    L = np.linalg.cholesky(a)  grad_a = fold_lower(inv(L).T @ half_lower(L.T @ grad_L) @ inv(L))

    half_lower(x)              the lower triangle, with half of the diagonal
    fold_lower(x)              x + x.T below the diagonal, x on it
    mirror_lower(x)            the symmetric matrix with this lower triangle
    solve_lower(a, b)          np.linalg.solve(np.tril(a), b)
    inverse_lower(a)           np.linalg.inv(np.tril(a))

The last two take the place of NumPy's functions where a matrix is known to be a lower triangle
(transform/triangular.py). The text of all travels with the emitted code.
"""

from __future__ import annotations

import numpy as np

from flatgrad.ir.types import Array
from flatgrad.primitives.linalg import require_arrays
from flatgrad.primitives.linalg import transposed as flipped
from flatgrad.primitives.registry import call, foreign, jvp, linear, primitive, vjp
from flatgrad.primitives.samples import A
from flatgrad.primitives.solve import Dominant, float_dtype, matrices, require_square
from flatgrad.primitives.symbolic import operation
from flatgrad.primitives.typerules import fail, named, require_same


def half_lower(x: np.ndarray) -> np.ndarray:
    """The lower triangle of `x`, with half of its diagonal."""
    return (np.tril(x) + np.tril(x, -1)) / 2


def fold_lower(x: np.ndarray) -> np.ndarray:
    """What is above the diagonal of `x`, added to its mirror image below."""
    return np.tril(x) + np.tril(np.swapaxes(x, -1, -2), -1)


def mirror_lower(x: np.ndarray) -> np.ndarray:
    """What is below the diagonal of `x`, above it as well."""
    return np.tril(x) + np.swapaxes(np.tril(x, -1), -1, -2)


def squares():
    """Samples for functions of one square matrix."""
    return [call(A(3, 3)), call(A(1, 1)), call(A(2, 4, 4)), call(A(2, 2, dtype="float32"))]


def _square(x, /):
    require_square("half_lower", x, "x")
    return x


for function in (half_lower, fold_lower, mirror_lower):
    primitive(function, helper=True, samples=squares)(_square)
    linear(function)


@vjp(half_lower)
def _(grad_y, y, x):
    return operation(half_lower)(grad_y)


@vjp(fold_lower)
def _(grad_y, y, x):
    return operation(mirror_lower)(grad_y)


@vjp(mirror_lower)
def _(grad_y, y, x):
    return operation(fold_lower)(grad_y)


def solve_lower(a: np.ndarray, b: np.ndarray, transposed: bool = False) -> np.ndarray:
    """The lower triangle of `a`, or its transpose, solved for `b`."""
    return np.linalg.solve(np.tril(a).T if transposed else np.tril(a), b)


def inverse_lower(a: np.ndarray) -> np.ndarray:
    """The inverse of the lower triangle of `a`."""
    return np.tril(np.linalg.inv(np.tril(a)))


@primitive(
    solve_lower,
    helper=True,
    samples=lambda: [
        call(Dominant(3, 3), A(3)), call(Dominant(3, 3), A(3), transposed=True),
        call(Dominant(1, 1), A(1)), call(Dominant(9, 9), A(9), transposed=True),
        call(Dominant(7, 7), A(7, 2)), call(Dominant(7, 7), A(7, 2), transposed=True),
        call(Dominant(2, 2, dtype="float32"), A(2, dtype="float32")),
        call(Dominant(2, 2, dtype="float32"), A(2, 3)), call(Dominant(3, 3), A(3, 1)),
    ],
)  # fmt: skip
def _(a, b, /, transposed=False):
    require_square("np.linalg.solve", a)
    require_arrays("np.linalg.solve", b)
    if a.ndim != 2 or b.ndim not in (1, 2):
        raise fail("operand-type", f"many systems at once, with {named('a')} and {named('b')}")
    left, right = named("a"), named("b")
    require_same(a.shape[0], b.shape[0], lambda m, n: f"{left} has {m} rows, {right} has {n}")
    return Array(float_dtype(a, b), b.shape)


@vjp(solve_lower)
def _(grad_y, y, a, b, *, transposed=False):
    grad_b = operation(solve_lower)(a, grad_y, transposed=not transposed)
    left, right = (y, grad_b) if transposed else (grad_b, y)
    return -np.tril(np.outer(left, right) if y.ndim == 1 else left @ right.T), grad_b


@jvp(solve_lower)
def _(dots, y, a, b, *, transposed=False):
    dot_a, dot_b = dots
    if dot_a is not None:
        lower = np.tril(dot_a)
        moved = (lower.T if transposed else lower) @ y
        dot_b = -moved if dot_b is None else dot_b - moved
    return operation(solve_lower)(a, dot_b, transposed=transposed)


@primitive(
    inverse_lower,
    helper=True,
    samples=lambda: [
        call(Dominant(3, 3)), call(Dominant(1, 1)), call(Dominant(9, 9)),
        call(Dominant(2, 2, dtype="float32")),
    ],
)  # fmt: skip
def _(a, /):
    require_square("np.linalg.inv", a)
    if a.ndim != 2:
        raise fail("operand-type", f"many matrices at once, in {named('a')}")
    return Array(float_dtype(a), a.shape)


@vjp(inverse_lower)
def _(grad_y, y, a):
    return -np.tril(y.T @ grad_y @ y.T)


@jvp(inverse_lower)
def _(dots, y, a):
    return -y @ np.tril(dots[0]) @ y


@primitive(np.linalg.cholesky, samples=matrices())
def _(a, /):
    require_square("np.linalg.cholesky", a)
    return Array(float_dtype(a), a.shape)


@vjp(np.linalg.cholesky)
def _(grad_y, y, a):
    # NumPy reads the lower triangle of `a` only: the whole cotangent goes there, which for a
    # symmetric change of `a` is the same as half of it in each triangle.
    inverse = np.linalg.inv(y)
    half = operation(half_lower)(flipped(y) @ grad_y)
    return operation(fold_lower)(flipped(inverse) @ half @ inverse)


@jvp(np.linalg.cholesky)
def _(dots, y, a):
    inverse = np.linalg.inv(y)
    symmetric = operation(mirror_lower)(dots[0])
    return y @ operation(half_lower)(inverse @ symmetric @ flipped(inverse))


@foreign("scipy.linalg", "solve_triangular")
def _(a, b, trans=0, lower=False, *, overwrite_b=False, check_finite=True):
    if trans not in (0, 1, 2, "N", "T", "C"):
        raise fail("unsupported-argument", f"trans={trans!r}: 0, 1, 2, 'N', 'T' or 'C'")
    flip = trans not in (0, "N")
    if lower:
        return operation(solve_lower)(a, b, transposed=flip)
    return operation(solve_lower)(flipped(a), b, transposed=not flip)


@foreign("scipy.linalg", "cholesky")
def _(a, lower=False, *, overwrite_a=False, check_finite=True):
    return np.linalg.cholesky(a) if lower else flipped(np.linalg.cholesky(flipped(a)))


@foreign("scipy.linalg", "cho_solve")
def _(c_and_lower, b, *, overwrite_b=False, check_finite=True):
    factor, lower = c_and_lower
    factor = factor if lower else flipped(factor)
    half = operation(solve_lower)(factor, b)
    return operation(solve_lower)(factor, half, transposed=True)
