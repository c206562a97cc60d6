"""Vector forward mode: several tangents in one sweep, as the rows of arrays with one more axis.

    f_jvp(x, w, dot_x):                      f_jvp(x, w, dot_x):       # a row for each tangent
        s = w * x                      ->        s = w * x
        dot_s = dot_x * w                        dot_s = dot_x * w
        L = np.sum(s)                            L = np.sum(s)
        dot_L = np.sum(dot_s)                    dot_L = np.sum(dot_s, axis=1)

Only what depends on the tangents changes: each of its operations gets the one for stacks
(`stack_rules.py`), or, where there is none, is run row by row.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

import flatgrad.transform.stack_products  # noqa: F401  (its rules)
from flatgrad.analysis.activity import carried_params, carried_yields, slots
from flatgrad.analysis.dependence import LENGTHS, dependent
from flatgrad.errors import error
from flatgrad.ir.builder import Builder
from flatgrad.ir.dims import Dim, Size
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
from flatgrad.ir.types import Array, Scalar, Type
from flatgrad.primitives.core import ASTYPE, IDENTITY, PUSH
from flatgrad.primitives.index import SET_ITEM
from flatgrad.primitives.registry import PRIMITIVES
from flatgrad.primitives.symbolic import (
    DIM,
    Symbol,
    apply_function,
    apply_primitive,
    operand_of,
    symbol_of,
)
from flatgrad.primitives.typerules import fresh_size
from flatgrad.transform.clone import all_ops, twin
from flatgrad.transform.stack_rules import EVERY, RULES, by_elements


def stacked_parameters(
    fn: Function, dots: Sequence[Value], tangents: Sequence[int], *, one: bool
) -> Function:
    """The function for a stack of tangents: its parameters `dots` become stacks.

    `tangents` are the numbers of the results that are stacks in any case; `one`: there is a single
    row.
    """
    first = dots[0]
    count: Size = 1 if one else Dim.atom(f"{first.name}.shape[0]")
    rows = {dot: twin(dot) for dot in dots}
    for dot, made in rows.items():
        made.type = Array(dot.type.dtype, (count, *dot.type.shape))
    lengths = dict(fn.lengths)
    if isinstance(count, Dim):
        lengths[count.name] = (rows[first], 0)
    body = Block(tuple([rows.get(param, param) for param in fn.params]))
    builder = Builder(body, lengths)
    many = {dot: Symbol(made, builder) for dot, made in rows.items()}
    body.yields = stacked(fn, many, tangents, builder)
    requirements = fn.requirements + builder.requirements
    return replace(fn, body=body, lengths=lengths, requirements=requirements)


def stacked(
    fn: Function, many: dict[Value, Symbol], tangents: Sequence[int], builder: Builder
) -> tuple[Operand, ...]:
    """Append the operations of a function for stacks in place of some values; its results."""
    stacker = Stacker(builder, fn.body, many)
    stacker.walk(fn.body)
    results: list[Operand] = []
    for k, result in enumerate(fn.results):
        is_stack = k in tangents or result in stacker.many
        with builder.at(Origin(None, "tangent", "zero"), "dot"):
            results.append(stacker.full(result).value if is_stack else result)
    return tuple(results)


class Stacker:
    """The stacks found so far: `many` has the one for each value that depends on the tangents.

    A stack has its rows along axis 0. A growing tape, which is indexed by the trip first, has them
    along axis 1.
    """

    def __init__(self, builder: Builder, body: Block, many: dict[Value, Symbol]) -> None:
        self.builder = builder
        self.first = next(iter(many.values())).value
        self.depends = dependent(body, many)
        self.tapes = _tapes(body, self.depends)
        self.many = dict(many)
        self.made: dict[Value, Apply] = {}

    @property
    def count(self) -> Any:
        """The number of rows."""
        size = self.first.type.shape[0]
        if isinstance(size, int):
            return size
        return apply_function(DIM, (Symbol(self.first, self.builder), 0), {}, self.builder)

    def of(self, operand: Operand) -> Symbol | None:
        """The stack of an operand; None if it is the same for all tangents."""
        return self.many.get(operand) if isinstance(operand, Value) else None

    def plain(self, operand: Operand) -> Any:
        """An operand that is the same for all tangents, as rules see it."""
        return symbol_of(operand, self.builder)

    def walk(self, block: Block) -> None:
        """Append the operations of a block, those on tangents as ones on stacks."""
        for op in block.ops:
            match op:
                case Apply():
                    self.visit(op)
                case If():
                    self.visit_if(op)
                case For() | While():
                    self.visit_loop(op)

    def visit(self, op: Apply) -> None:
        """One operation."""
        stacks = [operand for operand in op.operands if self.of(operand) is not None]
        if not stacks:
            self.builder.block.ops.append(op)
            self.made.update((value, op) for value in op.results)
            self.builder.made.update((value, op) for value in op.results)
            return
        with np.errstate(all="ignore"), self.builder.at(op.origin, _part(op)):
            if op.primitive.function in LENGTHS:
                self.visit_length(op)
                return
            found = self.stack_of(op)
        value = op.result
        if found.type.ndim != value.type.ndim + 1:
            raise error("internal", f"a stack of {op.primitive.name} is a {found.type}")
        if not found.value.kept:
            found.value.name, found.value.kept = value.name, value.kept
            found.value.part, found.value.of = value.part, value.of
        self.many[value] = found

    def stack_of(self, op: Apply) -> Symbol:
        """The rows of the result of an operation."""
        if op.primitive.opaque or len(op.results) != 1:
            return self.row_by_row(op)
        if op.result in self.tapes or any(operand in self.tapes for operand in op.operands):
            return self.on_tape(op)
        rule = RULES.get(op.primitive.function)
        if rule is None and op.primitive.elementwise:
            rule = by_elements
        found = rule(self, op) if rule is not None else None
        if found is None:
            return self.row_by_row(op)
        return self.cast(found, op.result.type)

    def cast(self, found: Any, target: Type) -> Symbol:
        """A stack in the dtype of its value, as a value of its own."""
        if found.type.dtype != target.dtype:
            kind = np.dtype(target.dtype).type
            found = apply_function(ASTYPE, (found, kind), {}, self.builder)
        if found.value.kept or found.value not in self.builder.made:
            found = self.second(found)
        return found

    def second(self, found: Symbol) -> Symbol:
        """A second name for a value."""
        copied = apply_function(IDENTITY, (found,), {}, self.builder)
        assert isinstance(copied, Symbol)
        return copied

    def renamed(self, found: Any, results: tuple[Value, ...], origin: Origin) -> Apply:
        """The operation that gives a value the name of another."""
        return Apply(PRIMITIVES[IDENTITY], (operand_of(found),), {"x": Slot(0)}, results, origin)

    def visit_length(self, op: Apply) -> None:
        """A length of a row, or its number of elements."""
        stack = self.of(op.operands[0])
        assert stack is not None
        shape = stack.shape
        lengths = (shape[0], *shape[2:]) if op.operands[0] in self.tapes else shape[1:]
        if op.primitive.function is DIM:
            found = lengths[op.arguments["axis"] % len(lengths)]
        else:
            found = 1
            for length in lengths:
                found = found * length
        self.builder.block.ops.append(self.renamed(found, op.results, op.origin))

    def on_tape(self, op: Apply) -> Any:
        """A growing tape that is written or read: its rows are along axis 1."""
        function = op.primitive.function
        index = substitute(op.arguments.get("index"), lambda k: self.plain(op.operands[k]))
        if function is PUSH:
            tape, value = op.operands[:2]
            row: Any = self.full(value)
            if row.ndim == self.full(tape).ndim and value not in self.tapes:
                row = np.moveaxis(row, 0, 1)
            position = substitute(
                op.arguments["position"], lambda k: self.plain(op.operands[k])
            )
            found = apply_function(PUSH, (self.full(tape), row, position), {}, self.builder)
        elif function is operator.getitem and not isinstance(index, tuple):
            found = self.full(op.operands[0])[index]
            if isinstance(index, slice):
                found = np.moveaxis(found, 1, 0)
        else:
            raise error("internal", f"{op.primitive.name} of a growing tape of stacks")
        return found

    def full(self, operand: Operand) -> Symbol:
        """The stack of an operand, equal rows if it is the same for all tangents."""
        known = self.of(operand)
        if known is not None:
            return known
        value, kind = self.plain(operand), operand.type
        made = self.made.get(operand) if isinstance(operand, Value) else None
        source = made.primitive.function if made is not None else None
        dtype = {} if kind.dtype == "float64" else {"dtype": np.dtype(kind.dtype).type}
        if operand in self.tapes:
            if source not in (np.empty, np.zeros, np.zeros_like):
                raise error("internal", "a growing tape of stacks that does not start empty")
            shape = (value.shape[0], self.count, *value.shape[1:])
            return self.created(np.empty, shape, dtype)
        shape = (self.count, *(value.shape if kind.ndim else ()))
        is_zero = isinstance(operand, Const) and operand.value == 0
        if is_zero or source in (np.zeros, np.zeros_like):
            return self.created(np.zeros, shape, dtype)
        if kind.ndim:
            found = np.broadcast_to(value, shape)
        else:
            found = apply_function(np.full, (shape, value), {}, self.builder)
        assert isinstance(found, Symbol)
        return found

    def created(self, function: Callable[..., Any], shape: Any, dtype: Any) -> Symbol:
        """A new array."""
        found = apply_function(function, (shape,), dtype, self.builder)
        assert isinstance(found, Symbol)
        return found

    def aligned(self, operand: Operand, rank: int) -> Any:
        """An operand that broadcasts as its value does against others of up to `rank` axes."""
        stack = self.of(operand)
        return self.plain(operand) if stack is None else self.spaced(stack, rank)

    def spaced(self, stack: Symbol, rank: int) -> Symbol:
        """A stack whose rows have `rank` axes, new ones in front."""
        missing = rank + 1 - stack.ndim
        if missing <= 0:
            return stack
        found = stack[(EVERY,) + (None,) * missing]
        assert isinstance(found, Symbol)
        return found

    def row_by_row(self, op: Apply) -> Symbol:
        """A loop that runs the operation for each row and writes what it gives into an array."""
        value = op.result
        lengths = self.lengths_of(value.type)
        if lengths is None:
            lengths = self.run_on(op, 0).shape
        kind = {} if value.type.dtype == "float64" else {"dtype": np.dtype(value.type.dtype).type}
        start = self.created(np.empty, (self.count, *lengths), kind)
        count = self.count
        index = Value(Scalar("int64", weak=True, size=fresh_size()), "row", kept=True)
        entering, result = (Value(start.type, value.name, part=value.part) for _ in range(2))
        with self.builder.inside(Block((index, entering))) as body:
            row = self.run_on(op, Symbol(index, self.builder))
            args = (Symbol(entering, self.builder), row, Symbol(index, self.builder))
            body.yields = (apply_function(SET_ITEM, args, {}, self.builder).value,)
        bounds = Const(0), count.value if isinstance(count, Symbol) else Const(count), Const(1)
        inits = (start.value,)
        loop = For(*bounds, inits, body, (result,), origin=self.builder.origin)
        self.builder.block.ops.append(loop)
        return self.second(Symbol(result, self.builder))

    def run_on(self, op: Apply, row: Any) -> Any:
        """The operation on one row of its stacks."""

        def pick(k: int) -> Any:
            stack = self.of(op.operands[k])
            return self.plain(op.operands[k]) if stack is None else stack[row]

        args, kwargs = op.primitive.call_form(substitute(op.arguments, pick))
        return apply_primitive(op.primitive, args, kwargs, self.builder)

    def lengths_of(self, kind: Type) -> tuple[Any, ...] | None:
        """The lengths of a value, where they follow from those of the parameters."""
        found: list[Any] = []
        for size in kind.shape:
            if isinstance(size, int):
                found.append(size)
            elif size.is_atom and size.name in self.builder.lengths:
                param, axis = self.builder.lengths[size.name]
                found.append(self.plain(param).shape[axis])
            else:
                return None
        return tuple(found)

    def entering(self, value: Value) -> Value:
        """A new value that a loop or branch hands on as the stack of `value`."""
        made = twin(value)
        made.type = self.type_of(value)
        self.many[value] = Symbol(made, self.builder)
        return made

    def type_of(self, value: Value) -> Type:
        """The type of the stack of a value."""
        count, shape = self.first.type.shape[0], value.type.shape
        if value in self.tapes:
            return Array(value.type.dtype, (shape[0], count, *shape[1:]))
        return Array(value.type.dtype, (count, *shape))

    def inside(self, block: Block, stacks: Sequence[int]) -> Block:
        """A nested block whose yields number `stacks` are stacks."""
        made, self.builder.made = self.builder.made, dict(self.builder.made)
        with self.builder.inside(Block(block.params)) as new:
            self.walk(block)
            with self.builder.at(Origin(None, "tangent", "yield"), "dot"):
                new.yields = tuple([
                    self.full(item).value if k in stacks else item
                    for k, item in enumerate(block.yields)
                ])  # fmt: skip
        self.builder.made = made
        return new

    def visit_if(self, op: If) -> None:
        """A branch yields stacks where either branch does."""
        stacks = [k for k, result in enumerate(op.results) if result in self.depends]
        then, orelse = (self.inside(block, stacks) for block in (op.then, op.orelse))
        results = [self.entering(r) if r in self.depends else r for r in op.results]
        self.builder.block.ops.append(
            replace(op, then=then, orelse=orelse, results=tuple(results))
        )

    def visit_loop(self, op: For | While) -> None:
        """A loop carries stacks where it carried tangents."""
        carried = carried_params(op)
        stacks = [k for k, param in enumerate(carried) if param in self.depends]
        with self.builder.at(Origin(None, "tangent", "init"), "dot"):
            inits = tuple([
                self.full(init).value if k in stacks else init for k, init in enumerate(op.inits)
            ])  # fmt: skip
        params = [self.entering(p) if p in self.depends else p for p in op.body.params]
        flags = len(op.body.yields) - len(carried_yields(op))
        body = self.inside(op.body, [flags + k for k in stacks])
        body.params = tuple(params)
        results = tuple([self.entering(r) if r in self.depends else r for r in op.results])
        new: Op
        if isinstance(op, For):
            new = replace(op, inits=inits, body=body, results=results)
        else:
            seen = [self.entering(p) if p in self.depends else p for p in op.condition.params]
            test = Block(tuple(seen), op.condition.ops, op.condition.yields)
            new = replace(op, inits=inits, condition=test, body=body, results=results)
        self.builder.block.ops.append(new)


def _part(op: Apply) -> str | None:
    return op.results[0].name or op.results[0].part if op.results else None


def _tapes(block: Block, depends: set[Value]) -> set[Value]:
    """The growing tapes of values that depend on the tangents, under all their names."""
    found: set[Value] = set()
    ops = list(all_ops(block))
    for op in ops:
        if isinstance(op, Apply) and op.primitive.function is PUSH and op.result in depends:
            found.update(o for o in (op.result, op.operands[0]) if isinstance(o, Value))
    before = -1
    while found and before != len(found):
        before = len(found)
        for op in ops:
            groups: list[tuple[Operand, ...]] = []
            if isinstance(op, For | While):
                groups = list(slots(op))
            elif isinstance(op, If):
                groups = list(zip(op.results, op.then.yields, op.orelse.yields, strict=True))
            for group in groups:
                if any(value in found for value in group):
                    found.update(value for value in group if isinstance(value, Value))
    return found
