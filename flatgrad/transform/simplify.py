"""Algebraic clean-up of what derivative rules wrote; the user's own statements stay as they are.

    grad_s = grad_L * ((1 - L) * L)                  ->   grad_s = grad_L * (1 - L) * L
    grad_a = grad_y * (1 / a)                        ->   grad_a = grad_y / a
    grad_b = grad_y * -sin(u)                        ->   grad_b = -grad_y * sin(u)
    grad_x = broadcast_to(g, x.shape) * x            ->   grad_x = g * x

Each rewrite is a function from an operation to the operand that replaces its result, or None.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Apply, Block, Const, Function, Operand, Slot, Value, all_reads
from flatgrad.primitives.core import ASTYPE, IDENTITY
from flatgrad.primitives.registry import PRIMITIVES
from flatgrad.primitives.symbolic import DIM, SIZE, Symbol, apply_function, symbol_of
from flatgrad.transform.branches import where_once
from flatgrad.transform.clone import (
    picked,
    rewired_apply,
    rewired_outside,
    with_blocks,
)
from flatgrad.transform.simplify_arrays import (
    broadcast_once,
    double_transpose,
    op_rest,
    same_dtype,
    spread_shape,
    squeezed_sum,
    transposed_product,
    unneeded_broadcast,
)
from flatgrad.transform.simplify_signs import (
    double_negation,
    equals,
    negative_factor,
    negative_sum,
    sum_with_negative,
)


def simplify(fn: Function) -> Function:
    """The function with the derivative operations simplified."""
    return _Simplifier(fn).run()


class _Simplifier:
    """One walk over a block, in order; an operation sees its operands already simplified."""

    def __init__(self, fn: Function) -> None:
        self.fn = fn
        self.replaced: dict[Value, Operand] = {}
        self.builder = Builder(Block(fn.params), fn.lengths)
        self.uses = _count_uses(fn)
        self.created: set[Value] = set()
        self.by_shape: dict[Any, Value] = {}
        self.mixed = _mixes_precision(fn)
        for param in fn.params:
            self.see(param)

    def run(self) -> Function:
        block = self.builder.block
        self.walk(self.fn.body)
        yields = tuple([picked(item, self.replaced) for item in self.fn.results])
        return replace(self.fn, body=Block(self.fn.params, block.ops, yields))

    def walk(self, block: Block) -> None:
        """Append the operations of a block to the builder's, simplified."""
        for op in block.ops:
            if isinstance(op, Apply):
                self.visit(rewired_apply(op, self.replaced))
            else:
                new = with_blocks(rewired_outside(op, self.replaced), self.inside)
                self.builder.block.ops.append(new)

    def inside(self, block: Block) -> Block:
        """A block of a branch or loop, simplified: what is seen in it is not known outside."""
        by_shape, self.by_shape = self.by_shape, dict(self.by_shape)
        made, self.builder.made = self.builder.made, {}
        with self.builder.inside(Block(block.params)) as new:
            self.walk(block)
        new.yields = tuple([picked(item, self.replaced) for item in block.yields])
        self.by_shape, self.builder.made = by_shape, made
        return new

    def see(self, value: Value) -> None:
        """Remember the first array with a name for each shape."""
        if value.kept and value.type.ndim:
            self.by_shape.setdefault(value.type.shape, value)

    def visit(self, op: Apply) -> None:
        """Append `op`, or what replaces it."""
        if op.origin.sweep != "forward" and len(op.results) == 1:
            with self.builder.at(op.origin, op.result.part):
                for rewrite in REWRITES.get(op.primitive.function, ANYWHERE):
                    if op.origin.rule is None and rewrite in ROUNDED_OTHERWISE:
                        continue  # computed again: the same number as in the forward sweep
                    new = rewrite(self, op)
                    if new is not None and self.may_replace(new, op.result):
                        self.replace(op, new)
                        return
        self.builder.block.ops.append(op)
        for value in op.results:
            if len(op.results) == 1:
                self.builder.made[value] = op
            self.see(value)

    def may_replace(self, new: Any, old: Value) -> bool:
        """Whether what reads `old` computes the same from `new`.

        A Python number leaves the float32 that it meets as it is, where a float64 one makes it
        float64.
        """
        kind = new.type if isinstance(new, Symbol) else Const(new).type
        return same_kind(new, old) and not (self.mixed and kind.weak and not old.type.weak)

    def replace(self, op: Apply, new: Any) -> None:
        """Let `new` stand for the result of `op`, under its name where that must be kept."""
        old = op.result
        operand = new.value if isinstance(new, Symbol) else Const(new)
        if not old.kept:
            if isinstance(operand, Value):
                if operand in self.created and not operand.kept:
                    operand.name, operand.of = old.name, old.of
                self.uses[operand] = self.uses.get(operand, 0) + self.uses.get(old, 0) - 1
            self.replaced[old] = operand
            return
        made = self.builder.made.get(operand) if isinstance(operand, Value) else None
        ops = self.builder.block.ops
        # Renamed only if nothing else reads it.
        fresh = made is not None and not made.result.kept and self.uses.get(made.result, 0) <= 1
        if made is not None and fresh and ops[-1] is made:
            ops[-1] = self.builder.made[old] = replace(made, results=op.results)
        else:
            self.builder.block.ops.append(
                Apply(PRIMITIVES[IDENTITY], (operand,), {"x": Slot(0)}, op.results, op.origin)
            )

    def definition(self, operand: Any, function: Any) -> Apply | None:
        """The operation `function(...)` that made an operand, if it is one and unnamed."""
        value = operand.value if isinstance(operand, Symbol) else operand
        op = self.builder.made.get(value)
        if op is None or op.primitive.function is not function or op.result.kept:
            return None
        return op

    def single(self, op: Apply) -> bool:
        """Whether the result of `op` is read once, so that taking it apart repeats no work."""
        return self.uses.get(op.result, 0) <= 1

    def negated(self, operand: Any) -> Apply | None:
        """The negation that made an operand, read once and not of an int that wraps around."""
        op = self.definition(operand, operator.neg)
        return op if op is not None and self.single(op) and not _may_overflow(op) else None

    def symbols(self, op: Apply) -> list[Any]:
        """The operands as rules see them."""
        return [symbol_of(operand, self.builder) for operand in op.operands]

    def call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """A simplified call: the rewrites apply to it as well."""
        result = apply_function(function, args, kwargs, self.builder)
        if not isinstance(result, Symbol):
            return result
        self.uses[result.value] = 1
        self.created.add(result.value)
        op = self.builder.block.ops.pop()
        assert isinstance(op, Apply)
        del self.builder.made[op.result]
        self.visit(op)
        return symbol_of(self.replaced.get(op.result, op.result), self.builder)


def _count_uses(fn: Function) -> dict[Value, int]:
    uses: dict[Value, int] = {}
    for operand in all_reads(fn.body):
        if isinstance(operand, Value):
            uses[operand] = uses.get(operand, 0) + 1
    return uses


def _mixes_precision(fn: Function) -> bool:
    """Whether anything is float32, and so may meet a float64."""
    results = [value for op in fn.body.ops if isinstance(op, Apply) for value in op.results]
    return any(value.type.dtype == "float32" for value in [*fn.params, *results])


def same_kind(new: Any, old: Value) -> bool:
    """Whether a replacement has the dtype and shape of what it replaces."""
    kind = new.type if isinstance(new, Symbol) else Const(new).type
    return (kind.dtype, kind.shape) == (old.type.dtype, old.type.shape)


def drop_unit(s: _Simplifier, op: Apply) -> Any:
    """`x * 1`, `1 * x`, `x / 1`, `x ** 1`."""
    a, b = s.symbols(op)
    if equals(b, 1):
        return a
    return b if equals(a, 1) and op.primitive.function is operator.mul else None


def flat_product(s: _Simplifier, op: Apply) -> Any:
    """`a * (b * c)` and `a * (b / c)` become chains, unless that repeats work over an array."""
    a, b = s.symbols(op)
    if not isinstance(a, Symbol) or not isinstance(b, Symbol):
        return None
    for function in (operator.mul, operator.truediv):
        inner = s.definition(b, function)
        if inner is not None and function is operator.truediv and s.single(inner):
            one, divisor = s.symbols(inner)
            if equals(one, 1):
                return s.call(operator.truediv, a, divisor)
        if inner is None or not s.single(inner) or _may_overflow(inner):
            continue
        if _extent(inner.result) != _extent(op.result):
            continue
        left, right = s.symbols(inner)
        return s.call(function, s.call(operator.mul, a, left), right)
    return None


def _may_overflow(op: Apply) -> bool:
    """Whether the result is an int of few bits, which floats would not have."""
    dtype = op.result.type.dtype
    return "int" in dtype and dtype != "int64"


def _extent(value: Value) -> tuple[bool, ...]:
    """Which axes are longer than 1: of two operands, these decide which repeats work."""
    return tuple(size != 1 for size in value.type.shape)


def constant_first(s: _Simplifier, op: Apply) -> Any:
    """`(x * 2) * 3` is one product, and in `(g * x) * 2` the number joins the scalar `g`."""
    a, b = s.symbols(op)
    inner = s.definition(a, operator.mul)
    if inner is None or not s.single(inner) or not isinstance(b, int | float):
        return None
    if _may_overflow(inner):
        return None
    left, right = s.symbols(inner)
    if isinstance(right, int | float):
        return s.call(operator.mul, left, right * b)
    if isinstance(left, Symbol) and left.ndim == 0 and right.ndim > 0:
        return s.call(operator.mul, s.call(operator.mul, left, b), right)
    return None


def one_offset(s: _Simplifier, op: Apply) -> Any:
    """`(n - 1) - 1` of ints is `n - 2`, and `(i + 1) - 1` is `i`."""
    a, less = s.symbols(op)
    if not isinstance(less, int) or op.result.type.dtype != "int64":
        return None
    for function, sign in ((operator.sub, 1), (operator.add, -1)):
        inner = s.definition(a, function)
        if inner is None:
            continue
        x, shift = s.symbols(inner)
        if isinstance(x, Symbol) and isinstance(shift, int):
            total = less + sign * shift
            return x if not total else s.call(operator.sub, x, total) if total > 0 else None
    return None


def plain_operand(s: _Simplifier, op: Apply) -> Any:
    """An elementwise operation broadcasts by itself: no `broadcast_to` under it."""
    if not (op.primitive.elementwise or op.primitive.function is np.where):
        return None
    args = s.symbols(op)
    for k, operand in enumerate(op.operands):
        spread = s.definition(operand, np.broadcast_to)
        if spread is None:
            continue
        trial = list(args)
        trial[k] = symbol_of(spread.operands[0], s.builder)
        before = len(s.builder.block.ops)
        result = apply_function(op.primitive.function, trial, {}, s.builder)
        if not (isinstance(result, Symbol) and same_kind(result, op.result)):
            del s.builder.block.ops[before:]
            continue
        made = s.builder.block.ops.pop()
        assert isinstance(made, Apply)
        s.uses[made.result] = 1
        s.created.add(made.result)
        s.visit(made)
        return symbol_of(s.replaced.get(made.result, made.result), s.builder)
    return None


def spread_last(s: _Simplifier, op: Apply) -> Any:
    """`broadcast_to(g, x.shape) * 2` is a broadcast of `g * 2`; also through `expand_dims`."""
    function = op.primitive.function
    if not (op.primitive.elementwise or function is np.expand_dims):
        return None
    scalars: list[Any] = []
    shape: Any = None
    for operand in op.operands:
        spread = s.definition(operand, np.broadcast_to)
        if spread is not None:
            operand = spread.operands[0]
            shape = spread_shape(s, spread, op) or shape
        if operand.type.ndim:
            return None
        scalars.append(symbol_of(operand, s.builder))
    if shape is None:
        return None
    inner = scalars[0] if function is np.expand_dims else s.call(function, *scalars)
    if not isinstance(inner, Symbol) and all(isinstance(size, int) for size in shape):
        return None  # it would be evaluated, to an array
    return apply_function(np.broadcast_to, (inner, shape), {}, s.builder)


def flat_sum(s: _Simplifier, op: Apply) -> Any:
    """`a + (b + c)` and `a + (b - c)` become chains, unless that repeats work over an array."""
    a, b = s.symbols(op)
    for function in (operator.add, operator.sub):
        inner = s.definition(b, function)
        if inner is None or not s.single(inner) or _extent(inner.result) != _extent(op.result):
            continue
        if _may_overflow(inner):
            continue
        left, right = s.symbols(inner)
        return s.call(function, s.call(operator.add, a, left), right)
    return None


def doubled(s: _Simplifier, op: Apply) -> Any:
    """`a + a` is `a * 2`."""
    a, b = op.operands
    if a is b and isinstance(a, Value):
        s.uses[a] = max(1, s.uses.get(a, 2) - 1)
        return s.call(operator.mul, symbol_of(a, s.builder), 2)
    return None


def named_shape(s: _Simplifier, op: Apply) -> Any:
    """The length or size of a temporary is read off a named array of the same shape."""
    x = op.operands[0]
    known = s.by_shape.get(x.type.shape)
    if not isinstance(x, Value) or x.kept or known is x:
        return None
    axes = [op.arguments["axis"]] if "axis" in op.arguments else range(x.type.ndim)
    if known is not None:
        return s.call(op.primitive.function, symbol_of(known, s.builder), *op_rest(op))
    lengths = [length_of(s, x, axis) for axis in axes]
    if any(length is None for length in lengths):
        return None
    return reduce(lambda a, b: s.call(operator.mul, a, b), lengths)


def length_of(s: _Simplifier, x: Value, axis: int) -> Any:
    """A length as a number or read off the parameter that it measures; None if neither is known."""
    size = x.type.shape[axis]
    if isinstance(size, int):
        return size
    if not (size.is_atom and size.name in s.fn.lengths):
        return None
    param, where = s.fn.lengths[size.name]
    if param is x:
        return None
    return apply_function(DIM, (Symbol(param, s.builder), where), {}, s.builder)


Rewrite = Callable[[_Simplifier, Apply], Any]
ANYWHERE: tuple[Rewrite, ...] = (plain_operand, spread_last)
ROUNDED_OTHERWISE = (constant_first, flat_product, flat_sum)
"""Rewrites that take factors or terms in another order."""
REWRITES: dict[Any, tuple[Rewrite, ...]] = {
    operator.mul: (
        drop_unit,
        plain_operand,
        spread_last,
        constant_first,
        negative_factor,
        flat_product,
    ),
    operator.truediv: (drop_unit, plain_operand, spread_last),
    operator.pow: (drop_unit, plain_operand),
    operator.neg: (double_negation, plain_operand),
    operator.sub: (plain_operand, spread_last, one_offset),
    operator.add: (plain_operand, doubled, sum_with_negative, flat_sum),
    np.where: (plain_operand, where_once),
    np.sum: (negative_sum,),
    np.squeeze: (squeezed_sum,),
    DIM: (named_shape,),
    SIZE: (named_shape,),
    np.transpose: (double_transpose, transposed_product,),
    np.broadcast_to: (unneeded_broadcast, broadcast_once,),
    ASTYPE: (same_dtype,),
}
