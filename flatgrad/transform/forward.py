"""Forward mode: a function in which the tangent of every varied value follows the value.

    s = w * x                 s = w * x
    L = tanh(s)       ->      dot_s = dot_w * x + dot_x * w
                              L = tanh(s)
                              dot_L = dot_s * (1 - L * L)
"""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from flatgrad.analysis.activity import carried_params, varied
from flatgrad.errors import error
from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Function,
    If,
    Op,
    Operand,
    Origin,
    Slot,
    Value,
    While,
    substitute,
)
from flatgrad.ir.types import Type
from flatgrad.primitives.core import ASTYPE, IDENTITY, PUSH
from flatgrad.primitives.registry import PRIMITIVES, Primitive
from flatgrad.primitives.symbolic import (
    Symbol,
    apply_function,
    apply_primitive,
    is_number,
    rule_arguments,
)
from flatgrad.transform.calls import push_call
from flatgrad.transform.clone import twin
from flatgrad.transform.fitting import times

Unit = tuple[tuple[int, ...], tuple[int, ...]]
"""An index, and the shape of what it is an index into."""


def forward(
    fn: Function,
    wrt: Sequence[Value],
    *,
    among: Collection[Value] | None = None,
    along: str = "",
    units: Mapping[Value, Unit] | None = None,
    halves: bool = False,
) -> tuple[Function, list[Operand]]:
    """Add tangents: a parameter `dot_x` for each of `wrt`, after the others.

    Returns the function, whose results are unchanged, and the tangents of its results, in order.
    `halves`: what computes tangents will be split from the rest, also in calls.
    With `among` only these values get tangents, with `along` they are called `dot_<along>_x`: so
    several tangents of the same values can be added one after the other. `units` tells of arrays in
    `wrt` that their tangent is 0 but for a 1 at an index: elements that are read singly are then
    known.

    Raises
    ------
    UnsupportedError
        If a varied value passes through an operation without a derivative rule.
    """
    prefix = f"dot_{along}" if along else "dot"
    dots = [Value(value.type, f"{prefix}_{value.name}", kept=True) for value in wrt]
    body = Block((*fn.params, *dots), [], fn.body.yields)
    builder = Builder(body, fn.lengths)
    reached = varied(fn.body, wrt)
    chosen = reached if among is None else reached.intersection(among)
    pushed = _Push(builder, chosen, prefix, halves)
    pushed.units = dict(units or {})
    pushed.tangent = {
        value: Symbol(dot, builder) for value, dot in zip(wrt, dots, strict=True)
    }
    pushed.walk(fn.body)
    tangents = [pushed.of_result(result) for result in fn.results]
    requirements = fn.requirements + builder.requirements
    return replace(fn, body=body, requirements=requirements), tangents


def unit_of(kind: Type) -> Any:
    """The number 1 as a tangent: a Python float takes the place of a float64."""
    return 1.0 if kind.dtype == "float64" else np.dtype(kind.dtype).type(1)


class _Push:
    """The tangents found so far."""

    def __init__(
        self, builder: Builder, varied_values: set[Value], prefix: str, halves: bool
    ) -> None:
        self.builder = builder
        self.halves = halves
        self.varied = varied_values
        self.prefix = prefix
        self.units: dict[Value, Unit] = {}
        self.tangent: dict[Value, Symbol] = {}

    def walk(self, block: Block) -> None:
        """Append the operations of a block, each followed by its tangents."""
        for op in block.ops:
            match op:
                case Apply() if op.primitive.body is not None:
                    push_call(self, op, forward, halves=self.halves)
                case Apply():
                    self.builder.block.ops.append(op)
                    if op.primitive.derivative and len(op.results) == 1:
                        self.visit(op)
                case If():
                    self.visit_if(op)
                case For() | While():
                    self.visit_loop(op)

    def inside(self, block: Block, extra: Sequence[int]) -> Block:
        """A nested block that yields also the tangents of its yields number `extra`."""
        with self.builder.inside(Block(block.params)) as new:
            self.walk(block)
            dots = [self.of_result(block.yields[k]) for k in extra]
        new.yields = (*block.yields, *dots)
        return new

    def carried(self, value: Value) -> Value:
        """A new value that a loop or branch hands on as the tangent of `value`."""
        dot = Value(value.type, f"{self.prefix}_{value.name}", kept=True)
        dot.of = (self.prefix, value)
        self.tangent[value] = Symbol(dot, self.builder)
        return dot

    def visit_if(self, op: If) -> None:
        """The tangents of what a branch yields are yields of it."""
        extra = [k for k, result in enumerate(op.results) if result in self.varied]
        then, orelse = (self.inside(block, extra) for block in (op.then, op.orelse))
        dots = tuple([self.carried(op.results[k]) for k in extra])
        new = replace(op, then=then, orelse=orelse, results=(*op.results, *dots))
        self.builder.block.ops.append(new)

    def visit_loop(self, op: For | While) -> None:
        """The tangents of varied carried variables are carried, too."""
        params = carried_params(op)
        extra = [k for k, param in enumerate(params) if param in self.varied]
        inits = tuple([self.of_result(op.inits[k]) for k in extra])
        entering = tuple([self.carried(params[k]) for k in extra])
        flags = len(op.body.yields) - len(params)
        body = self.inside(op.body, [flags + k for k in extra])
        body.params = (*op.body.params, *entering)
        results = (*op.results, *[self.carried(op.results[k]) for k in extra])
        new: Op
        if isinstance(op, For):
            new = replace(op, inits=(*op.inits, *inits), body=body, results=results)
        else:
            seen = (*op.condition.params, *[twin(dot) for dot in entering])
            test = Block(seen, op.condition.ops, op.condition.yields)
            new = replace(
                op, inits=(*op.inits, *inits), condition=test, body=body, results=results
            )
        self.builder.block.ops.append(new)

    def visit(self, op: Apply) -> None:
        """The tangent of the result of one operation."""
        value = op.result
        if value not in self.varied or all(self.of(operand) is None for operand in op.operands):
            return
        name = f"{self.prefix}_{value.name}"
        origin = Origin(op.origin.span, "forward", op.primitive.name)
        is_math = op.primitive.text.startswith("math.")
        tangent_origin = replace(origin, sweep="tangent")
        with (
            np.errstate(all="ignore"),
            self.builder.at(tangent_origin, name, prefer_math=is_math),
        ):
            unit = self.unit_element(op)
            dot = self.push(op) if unit is None else unit
            if dot is None or (is_number(dot) and dot == 0):
                return
            if op.primitive.function is not PUSH:  # the length of a growing tape is not known
                dot = self.fitted(dot, value)
        if isinstance(dot, Symbol):
            if value.kept and not dot.value.kept:
                dot.value.name, dot.value.kept = name, True
                dot.value.of = (self.prefix, value)
            elif dot.value.of is None and not dot.value.kept and dot.value in self.builder.made:
                dot.value.name, dot.value.of = name, (self.prefix, value)
            self.tangent[value] = dot

    def unit_element(self, op: Apply) -> Any:
        """What is read from a tangent of which only one element is 1; None if that is not known."""
        x = op.operands[0] if op.operands else None
        if op.primitive.function is not operator.getitem or x not in self.units:
            return None
        index = op.arguments["index"]
        entries = index if isinstance(index, tuple) else (index,)
        place, shape = self.units[x]
        if len(entries) != len(shape) or not all(type(entry) is int for entry in entries):
            return None
        found = tuple([entry % length for entry, length in zip(entries, shape, strict=True)])
        if found != place:
            return 0
        one = Const(unit_of(op.result.type))
        value = self.builder.apply(PRIMITIVES[IDENTITY], (one,), {"x": Slot(0)}, one.type)
        assert value is not None
        return Symbol(value, self.builder)

    def push(self, op: Apply) -> Any:
        """What the forward rule of an operation says."""
        primitive: Primitive = op.primitive
        y = Symbol(op.result, self.builder)
        args, static = rule_arguments(op, self.builder)
        if primitive.partials is not None:
            partials = primitive.partials(y, *args, **static)
            partials = partials if isinstance(partials, tuple) else (partials,)
            dots = [self.of(operand) for operand in op.operands]
            terms = [
                times(dot, partial)
                for dot, partial in zip(dots, partials, strict=True)
                if dot is not None
            ]
            return _total(terms)
        if primitive.linear:
            return self.push_linear(op)
        if primitive.bilinear:
            a, b = op.operands
            terms = []
            pairs = ((self.of(a), args[1]), (args[0], self.of(b)))
            terms = [
                apply_function(primitive.function, pair, static, self.builder)
                for pair in pairs
                if pair[0] is not None and pair[1] is not None
            ]
            return _total(terms)
        if primitive.jvp is not None:
            dots_by_argument = tuple(
                substitute(op.arguments[name], lambda k: self.of(op.operands[k]))
                for name in primitive.operand_names
                if name in op.arguments
            )
            return primitive.jvp(dots_by_argument, y, *args, **static)
        raise error(
            "no-derivative",
            f"`{primitive.text}` has no forward rule",
            op.origin.span,
            help="register one with flatgrad.defjvp",
        )

    def push_linear(self, op: Apply) -> Any:
        """The function itself, on tangents; zeros where a linear operand has none."""
        primitive: Primitive = op.primitive
        tree: dict[str, Any] = {}
        for name, argument in op.arguments.items():
            is_linear = name in primitive.linear

            def pick(k: int, is_linear: bool = is_linear) -> Any:
                operand = op.operands[k]
                if not is_linear:
                    plain = operand.value if isinstance(operand, Const) else None
                    return plain if isinstance(operand, Const) else Symbol(operand, self.builder)
                dot = self.of(operand)
                return dot if dot is not None else self.zero(operand)

            tree[name] = substitute(argument, pick)
        args, kwargs = primitive.call_form(tree)
        return apply_primitive(primitive, args, kwargs, self.builder)

    def zero(self, operand: Operand) -> Any:
        """The tangent of something that does not vary."""
        if isinstance(operand, Const) or operand.type.ndim == 0:
            return np.float32(0.0) if operand.type.dtype == "float32" else 0.0
        return np.zeros_like(Symbol(operand, self.builder))

    def of(self, operand: Operand) -> Symbol | None:
        """The tangent of an operand, None for zero."""
        return self.tangent.get(operand) if isinstance(operand, Value) else None

    def fitted(self, dot: Any, value: Value) -> Any:
        """A tangent in the shape and dtype of its value."""
        target = value.type
        if is_number(dot) or dot.type.shape != target.shape:
            shape = Symbol(value, self.builder).shape
            dot = np.broadcast_to(dot, shape) if shape else dot
        if isinstance(dot, Symbol) and dot.type.dtype != target.dtype and not dot.type.weak:
            kind = np.dtype(target.dtype).type
            function, args = (float, (dot,)) if target.weak else (ASTYPE, (dot, kind))
            dot = apply_function(function, args, {}, self.builder)
        return dot

    def of_result(self, result: Operand) -> Operand:
        """The tangent of a result; zeros if it does not vary."""
        dot = self.of(result)
        if dot is not None:
            return dot.value
        with self.builder.at(Origin(None, "tangent", "zero"), "dot"):
            zero = self.zero(result)
        return zero.value if isinstance(zero, Symbol) else Const(zero)


def _total(terms: list[Any]) -> Any:
    terms = [term for term in terms if term is not None]
    if not terms:
        return None
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total



