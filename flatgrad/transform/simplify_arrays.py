"""Rewrites of transposes, broadcasts, casts and sums, which `simplify.py` applies.

    x.T.T                                              x
    (a.T @ b).T                                        b.T @ a
    squeeze(sum(x, axis=1, keepdims=True), axis=1)     sum(x, axis=1)
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from flatgrad.ir.ops import Apply, substitute
from flatgrad.ir.types import Array
from flatgrad.primitives.symbolic import Symbol, symbol_of
from flatgrad.primitives.typerules import normalize_axes

if TYPE_CHECKING:
    from flatgrad.transform.simplify import _Simplifier


def op_rest(op: Apply) -> list[Any]:
    """The arguments of a call after its array."""
    return [item for key, item in op.arguments.items() if key != "x"]


def double_transpose(s: _Simplifier, op: Apply) -> Any:
    """`x.T.T`."""
    inner = s.definition(op.operands[0], np.transpose)
    if inner is None or "axes" in inner.arguments or "axes" in op.arguments:
        return None
    return symbol_of(inner.operands[0], s.builder)


def transposed_product(s: _Simplifier, op: Apply) -> Any:
    """`(a.T @ b).T` is `b.T @ a`, and `(a @ b.T).T` is `b @ a.T`."""
    inner = s.definition(op.operands[0], operator.matmul)
    if inner is None or not s.single(inner) or "axes" in op.arguments:
        return None
    a, b = inner.operands
    turned = [s.definition(one, np.transpose) for one in (a, b)]
    plain = [one for one in turned if one is not None and "axes" not in one.arguments]
    if not plain or a.type.ndim != 2 or b.type.ndim != 2:
        return None
    left, right = (s.call(np.transpose, symbol_of(one, s.builder)) for one in (b, a))
    return s.call(operator.matmul, left, right)


def same_dtype(s: _Simplifier, op: Apply) -> Any:
    """A cast to the dtype that a value has."""
    x = s.symbols(op)[0]
    same = isinstance(x, Symbol) and isinstance(x.type, Array) and x.type == op.result.type
    return x if same else None


def unneeded_broadcast(s: _Simplifier, op: Apply) -> Any:
    """A broadcast to the shape that a value has."""
    x = symbol_of(op.operands[0], s.builder)
    return x if isinstance(x, Symbol) and x.type == op.result.type else None


def squeezed_sum(s: _Simplifier, op: Apply) -> Any:
    """`squeeze(sum(x, axis=1, keepdims=True), axis=1)` is `sum(x, axis=1)`, also under a minus."""
    x = op.operands[0]
    negated = s.negated(x)
    if negated is not None:
        inner = s.call(np.squeeze, symbol_of(negated.operands[0], s.builder), *op_rest(op))
        return s.call(operator.neg, inner)
    total = s.definition(x, np.sum)
    if total is None or not s.single(total) or not total.arguments.get("keepdims"):
        return None
    rank, axis = x.type.ndim, op.arguments.get("axis")
    if axis is None or normalize_axes(axis, rank) != normalize_axes(total.arguments["axis"], rank):
        return None
    summed = symbol_of(total.operands[0], s.builder)
    return s.call(np.sum, summed, axis=total.arguments["axis"])


def broadcast_once(s: _Simplifier, op: Apply) -> Any:
    """A broadcast of a broadcast goes to the last shape at once."""
    inner = s.definition(op.operands[0], np.broadcast_to)
    if inner is None:
        return None
    shape = substitute(op.arguments["shape"], lambda k: symbol_of(op.operands[k], s.builder))
    return s.call(np.broadcast_to, symbol_of(inner.operands[0], s.builder), shape)


def spread_shape(s: _Simplifier, spread: Apply, op: Apply) -> tuple[Any, ...] | None:
    """The lengths of the result of `op`, if those of the broadcast that it reads tell them."""
    symbols = s.symbols(spread)
    given = substitute(spread.arguments["shape"], symbols.__getitem__)
    shape = tuple(given) if isinstance(given, tuple | list) else (given,)
    if op.primitive.function is np.expand_dims:
        for axis in sorted(normalize_axes(op.arguments["axis"], op.result.type.ndim)):
            shape = (*shape[:axis], 1, *shape[axis:])
        return shape
    return shape if spread.result.type.shape == op.result.type.shape else None
