"""Records values of loops and branches for the backward sweep.

    for i in range(n):                  y_tape = np.empty(n)
        y = y * w                 ->    for i in range(n):
                                            y_tape[i] = y
                                            y = y * w

A row per trip where the number of trips is known on entry and the shape is the same in each; else
one buffer that grows. Values of a branch become results of the `If`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flatgrad.ir.ops import (
    Block,
    Const,
    For,
    If,
    Op,
    Operand,
    Origin,
    Value,
    While,
)
from flatgrad.ir.types import Array, Scalar, Type
from flatgrad.primitives.core import PUSH, TRIPS
from flatgrad.primitives.index import SET_ITEM
from flatgrad.primitives.symbolic import Symbol, apply_function, operand_of, symbol_of
from flatgrad.primitives.typerules import fresh_size
from flatgrad.transform.clone import twin
from flatgrad.transform.tape import MANY, estimate, length, varies

if TYPE_CHECKING:
    from flatgrad.transform.structured import Context
    from flatgrad.transform.tape import Supply


class LoopTape:
    """Records values of a loop's trips, and rebuilds the loop with its tapes."""

    def __init__(
        self, context: Context, op: For | While, forward: Block, index: Value,
        scope: tuple[Value, ...],
    ) -> None:  # fmt: skip
        self.context = context
        self.builder = context.builder
        self.op = op
        self.forward = forward
        self.index = index
        self.scope = scope
        self.counted = isinstance(op, While) or op.exits
        self.before, self.prelude = Block(), Block()
        self.at_start: list[Op] = []
        self.inits: list[Operand] = []
        self.params: list[Value] = []
        self.yields: list[Operand] = []
        self.results: list[Value] = []
        self.back_inits: list[Operand] = []
        self.back_params: list[Value] = []
        self.back_yields: list[Operand] = []
        self.back_results: list[Value] = []
        self.trip: Any = None
        self.total: Any = None
        if self.counted:
            self.count_trips()
        self.factor = MANY if self.counted or isinstance(op, While) else self.expected()

    def expected(self) -> int:
        """About how many trips the loop makes."""
        op = self.op
        assert isinstance(op, For)
        known = [o.value for o in (op.start, op.stop, op.step) if isinstance(o, Const)]
        if len(known) == 3:
            return max(1, TRIPS(*known))
        size = op.stop.type.size if isinstance(op.stop.type, Scalar) else None
        return estimate(size) if size is not None else MANY

    def count_trips(self) -> None:
        """Carry the number of trips taken."""
        kind = Scalar("int64", weak=True)
        param = Value(kind, "trips", kept=True)
        with self.builder.inside(Block()) as block:
            after = Symbol(param, self.builder) + 1
        after.value.name, after.value.kept = "trips", True
        self.forward.ops += block.ops
        result = self.carry(Const(0), param, after.value)
        self.trip, self.total = Symbol(param, self.builder), Symbol(result, self.builder)

    def carry(self, init: Operand, param: Value, item: Operand, growing: bool = False) -> Value:
        """Another carried variable; its result."""
        kind = _grown(param.type) if growing else param.type
        result = Value(kind, param.name, kept=True)
        self.inits.append(init)
        self.params.append(param)
        self.yields.append(item)
        self.results.append(result)
        return result

    @property
    def plain(self) -> bool:
        """Whether the index counts the trips itself."""
        op = self.op
        return isinstance(op, For) and (_is(op.start, 0), _is(op.step, 1)) == (True, True)

    def bounds(self) -> tuple[Operand, Operand, Operand]:
        """The bounds of the backward loop, computed where it stands."""
        op, builder = self.op, self.builder
        if self.counted:
            return operand_of(self.total - 1), Const(-1), Const(-1)
        assert isinstance(op, For)
        start, stop, step = (symbol_of(o, builder) for o in (op.start, op.stop, op.step))
        if _is(op.step, 1):
            return operand_of(stop - 1), operand_of(start - 1), Const(-1)
        if _is(op.step, -1):
            return operand_of(stop + 1), operand_of(start + 1), Const(1)
        trips = apply_function(TRIPS, (start, stop, step), {}, builder)
        last = start + (trips - 1) * step
        return operand_of(last), operand_of(start - step), operand_of(-step)

    def index_in_backward(self) -> Any:
        """The index of the forward loop, in the trips of the backward loop."""
        mine = Symbol(self.index, self.builder)
        if not self.counted or self.plain:
            return mine
        assert isinstance(self.op, For)
        with self.builder.inside(self.prelude):
            start = symbol_of(self.op.start, self.builder)
            step = symbol_of(self.op.step, self.builder)
            scaled = mine if _is(self.op.step, 1) else mine * step
            return scaled if _is(self.op.start, 0) else start + scaled

    def position(self, index: Any) -> Any:
        """The number of the trip with this index."""
        if self.counted or self.plain:
            return index
        assert isinstance(self.op, For)
        start = symbol_of(self.op.start, self.builder)
        shifted = index if _is(self.op.start, 0) else index - start
        if _is(self.op.step, 1):
            return shifted
        return shifted // symbol_of(self.op.step, self.builder)

    def is_ragged(self, value: Value) -> bool:
        """Whether the shape of a value may differ from trip to trip."""
        return varies(self.context, value, self.scope)

    def record(self, value: Value, supply: Supply) -> Operand:
        """Tape a value in every trip; what stands for it in the backward trip."""
        with self.builder.at(Origin(self.op.origin.span, "tape", "tape"), _tape_name(value)):
            read = self.ragged(value, supply) if self.is_ragged(value) else self.row(value)
        made = read.value
        if self.context.narrow and isinstance(value.type, Scalar) and value.type.weak:
            python = {"float64": float, "int64": int, "bool": bool}[value.type.dtype]
            with self.builder.inside(self.prelude):
                made = apply_function(python, (read,), {}, self.builder).value
        made.type, made.name, made.kept, made.of = value.type, value.name, value.kept, value.of
        made.part = value.part
        assert isinstance(made, Value)
        return made

    def row(self, value: Value) -> Any:
        """A tape with a row per trip."""
        builder = self.builder
        with builder.inside(self.before):
            lengths = [length(self.context, size, self.scope) for size in value.type.shape]
            rows = 0 if self.counted else self.trips()
            shape = (rows, *lengths) if lengths else rows
            init = apply_function(np.empty, (shape,), _dtype(value.type), builder)
        init.value.name = _tape_name(value)
        kind = _grown(init.type) if self.counted else init.type
        param = Value(kind, init.value.name, kept=True)
        function = PUSH if self.counted else SET_ITEM
        start = self.op.body.params[0]
        forward_index = self.trip if self.counted else Symbol(start, builder)
        with builder.inside(Block()) as block:
            k = self.position(forward_index)
            args = (Symbol(param, builder), Symbol(value, builder), k)
            item = apply_function(function, args, {}, builder)
        self.insert(value, block.ops)
        item.value.name, item.value.kept = param.name, True
        result = self.carry(init.value, param, item.value, self.counted)
        with builder.inside(self.prelude):
            return Symbol(result, builder)[self.position(Symbol(self.index, builder))]

    def ragged(self, value: Value, supply: Supply) -> Any:
        """One buffer that grows by each trip's elements, read back from its end."""
        builder = self.builder
        with builder.inside(self.before):
            init = apply_function(np.empty, (0,), _dtype(value.type), builder)
        init.value.name = _tape_name(value)
        param = Value(_grown(init.type), init.value.name, kept=True)
        place = Value(Scalar("int64", weak=True), f"{value.name}_end", kept=True)
        with builder.inside(Block()) as block:
            flat: Any = Symbol(value, builder)
            count = flat.size
            flat = flat if value.type.ndim == 1 else np.ravel(flat)
            args = (Symbol(param, builder), flat, Symbol(place, builder))
            item = apply_function(PUSH, args, {}, builder)
            end = Symbol(place, builder) + count
        self.insert(value, block.ops)
        item.value.name, item.value.kept = param.name, True
        end.value.name, end.value.kept = place.name, True
        result = self.carry(init.value, param, item.value, growing=True)
        last = self.carry(Const(0), place, end.value)
        back = twin(place)
        with builder.inside(self.prelude):
            sizes = [supply.sizes[value, axis] for axis in range(value.type.ndim)]
            for size in sizes:
                if isinstance(size, Symbol):
                    supply.recompute(size.value)
            total = sizes[0]
            for size in sizes[1:]:
                total = total * size
            first = Symbol(back, builder) - total
            read = Symbol(result, builder)[first : Symbol(back, builder)]
            if value.type.ndim > 1:
                read = np.reshape(read, tuple(sizes))
        first.value.name, first.value.kept = place.name, True
        self.back_inits.append(last)
        self.back_params.append(back)
        self.back_yields.append(first.value)
        self.back_results.append(twin(place))
        return read

    def trips(self) -> Any:
        """The number of trips, computed before the loop."""
        if self.total is None:
            op = self.op
            assert isinstance(op, For)
            if op.checkpoint == "trip" and self.plain:  # segments, counted already
                self.total = symbol_of(op.stop, self.builder)
                return self.total
            bounds = [symbol_of(o, self.builder) for o in (op.start, op.stop, op.step)]
            self.total = apply_function(TRIPS, bounds, {}, self.builder)
            if isinstance(self.total, Symbol) and isinstance(self.total.type, Scalar):
                size = self.total.type.size
                if size is not None:
                    self.context.trips[size] = (op.start, op.stop, op.step)
        return self.total

    def insert(self, value: Value, ops: list[Op]) -> None:
        """Put operations where a value has just been defined."""
        for k, op in enumerate(self.forward.ops):
            if value in op.results:
                self.forward.ops[k + 1 : k + 1] = ops
                return
        self.at_start += ops

    def rebuilt(self) -> list[Op]:
        """The loop with its tapes, and what prepares them."""
        op = self.op
        flag = self.forward.yields[: len(self.forward.yields) - len(op.inits)]
        own = self.forward.yields[len(flag) :]
        body = Block(
            (*self.forward.params, *self.params),
            [*self.at_start, *self.forward.ops],
            (*flag, *own, *self.yields),
        )
        inits, results = (*op.inits, *self.inits), (*op.results, *self.results)
        new: Op
        if isinstance(op, For):
            new = replace(op, inits=inits, body=body, results=results)
        else:
            params = (*op.condition.params, *[twin(param) for param in self.params])
            condition = Block(params, op.condition.ops, op.condition.yields)
            new = replace(op, inits=inits, condition=condition, body=body, results=results)
        return [*self.before.ops, new]


def _is(operand: Operand, number: int) -> bool:
    return isinstance(operand, Const) and operand.value == number


def _grown(kind: Type) -> Type:
    """The type for another version of a growing tape: its length is its own."""
    return Array(kind.dtype, (fresh_size(), *kind.shape[1:]))


def _tape_name(value: Value) -> str:
    """The name of the tape; the tape of an inner loop lends its own."""
    name = value.name or "value"
    return name if name.endswith("_tape") else f"{name}_tape"


def _dtype(kind: Type) -> dict[str, Any]:
    return {} if kind.dtype == "float64" else {"dtype": np.dtype(kind.dtype).type}


class BranchTape:
    """Hands values out of the branch that ran; the other branch yields something in their place."""

    factor = 1
    back_params: tuple[Value, ...] = ()
    back_yields: tuple[Operand, ...] = ()

    def __init__(
        self, context: Context, op: If, forwards: list[Block], scope: tuple[Value, ...]
    ) -> None:
        self.context = context
        self.op = op
        self.forwards = forwards
        self.scope = scope
        self.side = 0
        self.extra: tuple[list[Operand], list[Operand]] = ([], [])
        self.results: list[Value] = []

    def is_ragged(self, value: Value) -> bool:
        """A branch runs once: a value's shape is what it is."""
        return False

    @property
    def prelude(self) -> Block:
        """A new block for what comes first in a backward branch."""
        return Block()

    def record(self, value: Value, supply: Supply) -> Operand:
        """Make a value of the branch a result of the `If`."""
        instead = self.placeholder(value)
        result = twin(value)
        if value.type.ndim and varies(self.context, value, self.scope):
            # What stands in for it has other lengths, so these are not the result's.
            result.type = Array(value.type.dtype, tuple(fresh_size() for _ in value.type.shape))
        self.extra[self.side].append(value)
        self.extra[1 - self.side].append(instead)
        self.results.append(result)
        return result

    def placeholder(self, value: Value) -> Operand:
        """Something of the same type that is never read."""
        kind = value.type
        if not kind.ndim:
            return Const(np.dtype(kind.dtype).type(0).item())
        builder = self.context.builder
        with builder.inside(Block()) as block, builder.at(Origin(None, "tape"), value.name):
            sizes = [length(self.context, size, self.scope) for size in kind.shape]
            shape = (0,) * kind.ndim if any(n is None for n in sizes) else tuple(sizes)
            made = apply_function(np.empty, (shape,), _dtype(kind), builder)
        self.forwards[1 - self.side].ops += block.ops
        assert isinstance(made, Symbol)
        return made.value

    def rebuilt(self) -> Op:
        """The `If` with these results."""
        then, orelse = (
            Block((), forward.ops, (*forward.yields, *extra))
            for forward, extra in zip(self.forwards, self.extra, strict=True)
        )
        return replace(self.op, then=then, orelse=orelse, results=(*self.op.results, *self.results))
