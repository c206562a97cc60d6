"""Products of vectors and matrices: the instructions of a call of BLAS.

    a @ b       b @ v       np.dot(u, v)       np.outer(u, v)

The order of checks and calls is Numba's: a product with a matrix of one row or one column is one
of a matrix and a vector. The product of a transposed matrix with a narrow one, `X.T @ s`, is
computed as `(s.T @ X).T` where that is faster.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.core.typing import signature
from numba.np import linalg
from numba.np.arrayobj import load_item, make_array

from flatgrad.backends.numba_lean import LEAN, Lean, clear, empty, raise_if

RANKS = {(2, 2): 2, (2, 1): 1, (1, 2): 1, (1, 1): 0}
NAMES = {1: "vector", 2: "matrix"}
LARGEST = 2**31 - 1


def _sign(args: Any, kws: Any) -> Any:
    """The signature of a product of two arrays of floats of one type."""
    if kws or len(args) != 2 or not all(type(one) is types.Array for one in args):
        return None
    a, b = args
    fitting = a.dtype == b.dtype and a.dtype in (types.float64, types.float32)
    if not fitting or (a.ndim, b.ndim) not in RANKS:
        return None
    rank = RANKS[a.ndim, b.ndim]
    return signature(types.Array(a.dtype, rank, "C") if rank else a.dtype, a, b)


def _product(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """Copy what has gaps, and multiply."""
    linalg.ensure_blas()
    with linalg.make_contiguous(context, builder, sig, args) as (sig, args):
        return _contiguous_product(context, builder, sig, args)


def _contiguous_product(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    a_type, b_type = sig.args
    a, b = (
        make_array(kind)(context, builder, one) for kind, one in zip(sig.args, args, strict=True)
    )
    a_shape, b_shape = (cgutils.unpack_tuple(builder, one.shape) for one in (a, b))
    differ = builder.icmp_signed("!=", a_shape[-1], b_shape[0])
    kinds = f"{NAMES[a_type.ndim]} * {NAMES[b_type.ndim]}"
    message = f"incompatible array sizes for np.dot(a, b) ({kinds})"
    raise_if(context, builder, differ, ValueError, message)
    lengths = [*a_shape, *b_shape[1:]]
    for length in lengths:
        large = builder.icmp_signed(">", length, length.type(LARGEST))
        raise_if(context, builder, large, OverflowError, "array size too large to fit in C int")
    if not RANKS[a_type.ndim, b_type.ndim]:
        out = cgutils.alloca_once(builder, context.get_value_type(a_type.dtype))
        linalg.call_xxdot(context, builder, False, a_type.dtype, a_shape[0], a.data, b.data, out)
        return builder.load(out)
    shape = [*a_shape[:-1], *b_shape[1:]]
    result = empty(context, builder, sig.return_type, shape)
    nothing = cgutils.false_bit
    for length in lengths:
        none = builder.icmp_signed("==", length, length.type(0))
        nothing = builder.or_(nothing, none)
    with builder.if_else(nothing, likely=False) as (without, otherwise):
        with without:
            clear(builder, result)
        with otherwise:
            one = (a_type, a_shape, a.data), (b_type, b_shape, b.data)
            _call(context, builder, *one, (sig.return_type, shape, result.data))
    return result._getvalue()


def _call(context: Any, builder: Any, a: Any, b: Any, out: Any) -> None:
    """Call the function of BLAS for the ranks, or for the lengths if they are of rank 2."""
    if a[0].ndim == 1:
        _times_vector(context, builder, b, a, out, transposed=b[0].layout == "F")
        return
    if b[0].ndim == 1:
        _times_vector(context, builder, a, b, out, transposed=a[0].layout == "C")
        return
    one_row, one_column = (
        builder.icmp_signed("==", length, length.type(1)) for length in (a[1][0], b[1][1])
    )
    with builder.if_else(one_column) as (vector, matrix):
        with vector, builder.if_else(one_row) as (vectors, mixed):
            with vectors:
                linalg.call_xxdot(
                    context, builder, False, a[0].dtype, a[1][1], a[2], b[2], out[2]
                )
            with mixed:
                _times_vector(context, builder, a, b, out, transposed=a[0].layout == "C")
        with matrix, builder.if_else(one_row) as (mixed, matrices):
            with mixed:
                _times_vector(context, builder, b, a, out, transposed=b[0].layout == "F")
            with matrices:
                _times_matrix(context, builder, a, b, out)


def _times_matrix(context: Any, builder: Any, a: Any, b: Any, out: Any) -> None:
    """Two matrices; `X.T @ s` the other way round if `s` is narrow."""
    if not (a[0].layout == "F" and b[0].layout == "C" and a[0].dtype == types.float64):
        linalg.call_xxgemm(context, builder, *a, *b, *out)
        return
    with builder.if_else(_is_narrow(builder, a[1], b[1])) as (narrow, other):
        with narrow:
            _turned(context, builder, a, b, out)
        with other:
            linalg.call_xxgemm(context, builder, *a, *b, *out)


def _is_narrow(builder: Any, a_shape: Any, b_shape: Any) -> Any:
    """Whether `s.T @ X` is faster, by the columns of `s` and the size of `X`: as measured."""
    rows, columns = a_shape[0], b_shape[1]
    size = builder.mul(a_shape[0], a_shape[1])

    def within(least: int, most: int, elements: int) -> Any:
        found = builder.icmp_signed(">=", size, size.type(elements))
        found = builder.and_(found, builder.icmp_signed(">=", columns, columns.type(least)))
        return builder.and_(found, builder.icmp_signed("<=", columns, columns.type(most)))

    fits = builder.or_(within(8, 24, 50_000), within(2, 32, 250_000))
    tall = builder.icmp_signed(">=", rows, builder.mul(columns, columns.type(3)))
    return builder.and_(fits, tall)


def _turned(context: Any, builder: Any, a: Any, b: Any, out: Any) -> None:
    """`a @ b` as the transposed product of `b.T` and `a.T`, which are there without a copy."""
    (rows, inner), columns, kind = a[1], b[1][1], out[0]
    flat = empty(context, builder, kind, [columns, rows])
    transposed = types.Array(kind.dtype, 2, "F")
    left, right = (transposed, [columns, inner], b[2]), (kind, [inner, rows], a[2])
    linalg.call_xxgemm(context, builder, *left, *right, kind, [columns, rows], flat.data)
    with cgutils.for_range(builder, rows) as outer:
        row = builder.gep(out[2], [builder.mul(outer.index, columns)])
        with cgutils.for_range(builder, columns) as within:
            place = builder.add(builder.mul(within.index, rows), outer.index)
            item = builder.load(builder.gep(flat.data, [place]))
            builder.store(item, builder.gep(row, [within.index]))
    context.nrt.decref(builder, kind, flat._getvalue())


def _times_vector(
    context: Any, builder: Any, matrix: Any, vector: Any, out: Any, *, transposed: bool
) -> None:
    kind, shape, data = matrix
    linalg.call_xxgemv(context, builder, transposed, kind, shape, data, vector[2], out[2])


LEAN[operator.matmul] = LEAN[np.dot] = Lean(_sign, _product)


def _sign_outer(args: Any, kws: Any) -> Any:
    """`np.outer(a, b)` of two vectors of floats of one type."""
    if kws or len(args) != 2 or not all(type(one) is types.Array for one in args):
        return None
    a, b = args
    fitting = a.dtype == b.dtype and a.dtype in (types.float64, types.float32)
    if not fitting or (a.ndim, b.ndim) != (1, 1):
        return None
    return signature(types.Array(a.dtype, 2, "C"), a, b)


def _outer(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """A row for each element of the first vector: the second, times that element."""
    a, b = (
        make_array(kind)(context, builder, one) for kind, one in zip(sig.args, args, strict=True)
    )
    [rows], [columns] = (cgutils.unpack_tuple(builder, one.shape) for one in (a, b))
    result = empty(context, builder, sig.return_type, [rows, columns])

    def element(kind: Any, array: Any, index: Any) -> Any:
        place = cgutils.get_item_pointer(context, builder, kind, array, [index])
        return load_item(context, builder, kind, place)

    with cgutils.for_range(builder, rows) as outer:
        left = element(sig.args[0], a, outer.index)
        row = builder.gep(result.data, [builder.mul(outer.index, columns)])
        with cgutils.for_range(builder, columns) as inner:
            right = element(sig.args[1], b, inner.index)
            builder.store(builder.fmul(left, right), builder.gep(row, [inner.index]))
    return result._getvalue()


LEAN[np.outer] = Lean(_sign_outer, _outer)
