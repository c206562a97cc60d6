"""Rewrites of minus signs, which `simplify.py` applies.

    grad_y * -sin(u)      -grad_y * sin(u)              -(-g * a / b)      g * a / b
    a + -b                a - b                         np.sum(-x)         -np.sum(x)
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import numpy as np

from flatgrad.ir.ops import Apply
from flatgrad.primitives.symbolic import Symbol, symbol_of

if TYPE_CHECKING:
    from flatgrad.transform.simplify import _Simplifier


def equals(value: Any, number: float) -> bool:
    """Whether a constant is this number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value == number


def negative_factor(s: _Simplifier, op: Apply) -> Any:
    """`a * -1` and `a * -b` have the sign in front."""
    a, b = s.symbols(op)
    if equals(b, -1):
        return s.call(operator.neg, a)
    negated = s.negated(b)
    if negated is not None and isinstance(a, Symbol):
        b = symbol_of(negated.operands[0], s.builder)
        return s.call(operator.mul, s.call(operator.neg, a), b)
    return None


def negative_sum(s: _Simplifier, op: Apply) -> Any:
    """`sum(-x)` is `-sum(x)`, which negates fewer elements."""
    negated = s.negated(op.operands[0])
    if negated is None:
        return None
    keywords = {key: item for key, item in op.arguments.items() if key != "x"}
    x = symbol_of(negated.operands[0], s.builder)
    return s.call(operator.neg, s.call(np.sum, x, **keywords))


def double_negation(s: _Simplifier, op: Apply) -> Any:
    """`-(-x)`, and `-(-a * b / c)`, whose first factor is negative."""
    (x,) = s.symbols(op)
    inner = s.definition(x, operator.neg)
    if inner is not None:
        return symbol_of(inner.operands[0], s.builder)
    return _without_minus(s, x) if op.result.type.dtype.startswith("float") else None


def sum_with_negative(s: _Simplifier, op: Apply) -> Any:
    """`a + -b` is `a - b`, and `a + -b * c` is `a - b * c`."""
    a, b = s.symbols(op)
    negated = s.negated(b)
    if negated is not None:
        return s.call(operator.sub, a, symbol_of(negated.operands[0], s.builder))
    product = s.definition(b, operator.mul)
    if product is not None and s.single(product):
        left, right = s.symbols(product)
        negated = s.negated(left)
        if negated is not None:
            (x,) = s.symbols(negated)
            return s.call(operator.sub, a, s.call(operator.mul, x, right))
    return None


def _without_minus(s: _Simplifier, operand: Any) -> Any:
    """`a * b / c` for `-a * b / c`, a chain that is read once; None for anything else."""
    for function in (operator.mul, operator.truediv):
        chain = s.definition(operand, function)
        if chain is None or not s.single(chain):
            continue
        first, other = s.symbols(chain)
        negated = s.negated(first)
        if negated is None:
            positive = _without_minus(s, first)
        else:
            positive = symbol_of(negated.operands[0], s.builder)
        return None if positive is None else s.call(function, positive, other)
    return None
