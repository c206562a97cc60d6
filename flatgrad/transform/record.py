"""Records values of loops and branches for the backward sweep.

    for i in range(n):                  y_tape = np.empty(n)
        y = y * w                 ->    for i in range(n):
                                            y_tape[i] = y
                                            y = y * w

A row per trip where the number of trips is known on entry and the shape is the same in each; else
one buffer that grows.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flatgrad.analysis.activity import carried_params, carried_yields
from flatgrad.ir.dims import natural
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    If,
    Op,
    Operand,
    Origin,
    Value,
    While,
    is_const,
    size_of,
)
from flatgrad.ir.types import Array, Scalar, Type
from flatgrad.primitives.core import PUSH, TRIPS
from flatgrad.primitives.index import SET_ITEM
from flatgrad.primitives.symbolic import Symbol, apply_function, operand_of, symbol_of
from flatgrad.primitives.typerules import fresh_size
from flatgrad.transform.clone import twin
from flatgrad.transform.tape import MANY, dtype_keyword, estimate, length, varies

if TYPE_CHECKING:
    from flatgrad.transform.structured import Context
    from flatgrad.transform.tape import Supply


FEW = 2
"""So many places of a tape may stay empty, that the others are where the index says."""


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
        self.before, self.prelude, self.after_loop = Block(), Block(), Block()
        self.longer: set[Value] = set()
        self.tapes: dict[Value, Value] = {}
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
        """About how many places a value takes: one for each trip.

        Where loops around change the bounds, the tape grows and has ends to keep: that is dearer.
        """
        op = self.op
        assert isinstance(op, For)
        known = [o.value for o in (op.start, op.stop, op.step) if isinstance(o, Const)]
        if len(known) == 3:
            return max(1, TRIPS(*known))
        size = op.stop.type.size if isinstance(op.stop.type, Scalar) else None
        trips = estimate(size) if size is not None else MANY
        bounds = [o for o in (op.start, op.stop, op.step) if isinstance(o, Value)]
        return trips if all(o in self.context.fixed for o in bounds) else 2 * trips

    def count_trips(self) -> None:
        """Carry the number of trips taken."""
        kind = Scalar("int64", weak=True)
        param = Value(kind, "trips", kept=True)
        with self.builder.inside(Block()) as block:
            after = Symbol(param, self.builder) + 1
        after.value.name, after.value.kept = "trips", True
        ops = self.forward.ops
        last = ops[-1] if ops else None
        leaves = isinstance(last, If) and self.op.exits and self.forward.yields[0] in last.results
        place = len(ops) - leaves  # before the `break`
        ops[place:place] = block.ops
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
        return isinstance(op, For) and (is_const(op.start, 0), is_const(op.step, 1)) == (True, True)

    def bounds(self) -> tuple[Operand, Operand, Operand]:
        """The bounds of the backward loop, computed where it stands."""
        op, builder = self.op, self.builder
        if self.counted:
            return operand_of(self.total - 1), Const(-1), Const(-1)
        assert isinstance(op, For)
        start, stop, step = (symbol_of(o, builder) for o in (op.start, op.stop, op.step))
        if is_const(op.step, 1):
            return operand_of(stop - 1), operand_of(start - 1), Const(-1)
        if is_const(op.step, -1):
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
            scaled = mine if is_const(self.op.step, 1) else mine * step
            return scaled if is_const(self.op.start, 0) else start + scaled

    @property
    def direct(self) -> bool:
        """Whether the place on the tape is the index itself: a place or two at most stay empty."""
        op = self.op
        if self.counted or not isinstance(op, For) or not isinstance(op.start, Const):
            return False
        return is_const(op.step, 1) and 0 <= op.start.value <= FEW

    def counters(self) -> dict[Value, Operand]:
        """Ints that grow by the same in every trip, from the number of the trip."""
        found: dict[Value, Operand] = {}
        made = {value: op for op in self.forward.ops for value in op.results}
        pairs = zip(self.op.inits, carried_params(self.op), carried_yields(self.op), strict=True)
        for init, param, item in pairs:
            step = _growth(made.get(item) if isinstance(item, Value) else None, param)
            if step is None or step in made or step in self.forward.params:
                continue
            with self.builder.inside(self.prelude):
                grown = self.number()
                if not is_const(step, 1):
                    grown = symbol_of(step, self.builder) * grown
                whole = grown if is_const(init, 0) else grown + symbol_of(init, self.builder)
            if whole.value is not self.index:
                whole.value.name, whole.value.kept = param.name, param.kept
            found[param] = operand_of(whole)
        return found

    def number(self) -> Any:
        """The number of the trip, in the backward trip."""
        mine = Symbol(self.index, self.builder)
        if self.counted or self.plain:
            return mine
        assert isinstance(self.op, For)
        start = symbol_of(self.op.start, self.builder)
        if is_const(self.op.step, -1):
            return start - mine
        shifted = mine if is_const(self.op.start, 0) else mine - start
        if is_const(self.op.step, 1):
            return shifted
        return shifted // symbol_of(self.op.step, self.builder)

    def position(self, index: Any) -> Any:
        """The place on the tape for the trip with this index."""
        if self.counted or self.direct:
            return index
        assert isinstance(self.op, For)
        start = symbol_of(self.op.start, self.builder)
        if is_const(self.op.step, -1):
            return start - index
        shifted = index if is_const(self.op.start, 0) else index - start
        if is_const(self.op.step, 1):
            return shifted
        return shifted // symbol_of(self.op.step, self.builder)

    def is_ragged(self, value: Value) -> bool:
        """Whether the shape of a value may differ from trip to trip."""
        return varies(self.context, value, self.scope)

    def following(self, kept: set[Any]) -> dict[Value, Value]:
        """What the carried variables that are kept become in a trip: it is their next row."""
        pairs = zip(carried_params(self.op), carried_yields(self.op), strict=True)
        return {
            item: param
            for param, item in pairs
            if param in kept and isinstance(item, Value) and item not in self.forward.params
            and item.type == param.type and not self.is_ragged(param)
        }  # fmt: skip

    def lengthen(self, values: set[Value], followed: dict[Value, Value]) -> None:
        """Give the tapes of which a later row is read one row more, for what the loop ends with."""
        self.longer |= {followed[value] for value in values}

    def after(self, value: Value, param: Value) -> Operand:
        """The value of `param` after the trip, read from the row of the next trip."""
        with self.builder.at(Origin(self.op.origin.span, "tape", "tape"), _tape_name(param)):
            with self.builder.inside(self.prelude):
                place = self.position(Symbol(self.index, self.builder)) + 1
                read = Symbol(self.tapes[param], self.builder)[place]
            return self.named(read, value)

    def close(self, value: Value, result: Value) -> Value:
        """The tape with what the loop ends with in its last row."""
        k = carried_params(self.op).index(value)
        with self.builder.inside(self.after_loop):
            end = Symbol(self.op.results[k], self.builder)
            args = (Symbol(result, self.builder), end, self.trips())
            done = apply_function(PUSH if self.counted else SET_ITEM, args, {}, self.builder)
        done.value.name, done.value.kept = result.name, True
        found: Value = done.value
        return found

    def record(self, value: Value, supply: Supply) -> Operand:
        """Tape a value in every trip; what stands for it in the backward trip."""
        with self.builder.at(Origin(self.op.origin.span, "tape", "tape"), _tape_name(value)):
            read = self.ragged(value, supply) if self.is_ragged(value) else self.row(value)
        return self.named(read, value)

    def named(self, read: Any, value: Value) -> Value:
        """A row that is read back, as the value that it holds."""
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
            if value in self.longer and not self.counted:
                rows = rows + 1
            shape = (rows, *lengths) if lengths else rows
            init = apply_function(np.empty, (shape,), dtype_keyword(value.type), builder)
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
        if value in self.longer:
            result = self.close(value, result)
        self.tapes[value] = result
        with builder.inside(self.prelude):
            return Symbol(result, builder)[self.position(Symbol(self.index, builder))]

    def ragged(self, value: Value, supply: Supply) -> Any:
        """One buffer that grows by each trip's elements, read back from its end."""
        builder = self.builder
        with builder.inside(self.before):
            init = apply_function(np.empty, (0,), dtype_keyword(value.type), builder)
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
        """The number of places on a tape, computed before the loop."""
        if self.total is None:
            op = self.op
            assert isinstance(op, For)
            if op.checkpoint == "trip" and self.plain:  # segments, counted already
                self.total = symbol_of(op.stop, self.builder)
                return self.total
            bounds = (Const(0) if self.direct else op.start, op.stop, op.step)
            given = [symbol_of(o, self.builder) for o in bounds]
            size = size_of(op.stop)
            if self.direct and size is not None and natural(size):
                self.total = given[1]
                return self.total
            self.total = apply_function(TRIPS, given, {}, self.builder)
            if isinstance(self.total, Symbol) and isinstance(self.total.type, Scalar):
                self.total.value.name = "trips"
                size = self.total.type.size
                if size is not None:
                    self.context.trips[size] = bounds
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
        return [*self.before.ops, new, *self.after_loop.ops]


def _growth(op: Op | None, param: Value) -> Operand | None:
    """What an int is increased by, if `op` does that to `param`."""
    if not isinstance(op, Apply) or op.primitive.function is not operator.add:
        return None
    if not all(o.type.dtype == "int64" and o.type.weak and not o.type.ndim for o in op.operands):
        return None
    one, other = op.operands
    return other if one is param else one if other is param else None


def _grown(kind: Type) -> Type:
    """The type for another version of a growing tape: its length is its own."""
    return Array(kind.dtype, (fresh_size(), *kind.shape[1:]))


def _tape_name(value: Value) -> str:
    """The name of the tape; the tape of an inner loop lends its own."""
    name = value.name or "value"
    return name if name.endswith("_tape") else f"{name}_tape"
