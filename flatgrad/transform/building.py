"""Operations that passes make: sums of ints in their shortest form, results under given values.

    n - 1 moved by 1       n                 shifted
    {i: 1, n: -1} + 2      i - n + 2         rebuilt
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from flatgrad.analysis.affine import Affine
from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Apply, Const, Op, Operand, Value
from flatgrad.primitives.symbolic import apply_function, symbol_of


def call_into(
    result: Value, function: Callable[..., Any], args: Sequence[Any], builder: Builder
) -> None:
    """Append a call whose result is a value that is known already."""
    apply_function(function, args, {}, builder)
    made = builder.block.ops[-1]
    assert isinstance(made, Apply)
    builder.block.ops[-1] = replace(made, results=(result,))


def plus(symbol: Any, constant: int, builder: Builder) -> Any:
    """`symbol + constant`, written as a difference where the number is negative."""
    if constant == 0:
        return symbol
    if isinstance(symbol, int):
        return symbol + constant
    function = operator.add if constant > 0 else operator.sub
    return apply_function(function, (symbol, abs(constant)), {}, builder)


def shifted(operand: Operand, constant: int, made: Mapping[Value, Op], builder: Builder) -> Any:
    """`operand + constant`, where `made` tells that the operand is a sum with a number itself."""
    op = made.get(operand) if isinstance(operand, Value) else None
    if isinstance(op, Apply) and op.primitive.function in (operator.add, operator.sub):
        base, other = op.operands
        if isinstance(other, Const):
            sign = 1 if op.primitive.function is operator.add else -1
            return plus(symbol_of(base, builder), sign * other.value + constant, builder)
    return plus(symbol_of(operand, builder), constant, builder)


def rebuilt(entry: Affine, builder: Builder) -> Any:
    """The operations that compute a sum, what is subtracted and the number last."""
    total: Any = None
    for value, factor in sorted(entry.terms, key=lambda term: -term[1]):
        term = symbol_of(value, builder)
        if abs(factor) != 1:
            term = apply_function(operator.mul, (abs(factor), term), {}, builder)
        if total is None:
            total = term if factor > 0 else apply_function(operator.neg, (term,), {}, builder)
        else:
            function = operator.add if factor > 0 else operator.sub
            total = apply_function(function, (total, term), {}, builder)
    return entry.constant if total is None else plus(total, entry.constant, builder)
