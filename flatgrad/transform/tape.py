"""What the backward sweep reads of a loop or branch: read again, recomputed or taped.

    for i in range(n):                      y_tape = np.empty(n)
        y = y * np.sin(x + i)        ->     for i in range(n):
                                                y_tape[i] = y
                                                y = y * np.sin(x + i)

`Supply` finds what a backward block reads of its forward block, has the cheapest set of values
recorded from which the rest can be computed again, and puts reads and computations in front.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flatgrad.analysis.activity import carried_params
from flatgrad.analysis.cut import cheapest_cut
from flatgrad.ir.dims import Dim, Size
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    If,
    Op,
    Operand,
    Origin,
    Slot,
    Value,
    While,
    operands_of,
)
from flatgrad.ir.types import Array, Scalar, Type
from flatgrad.primitives.core import ASTYPE, IDENTITY, PUSH, TRIPS
from flatgrad.primitives.index import SET_ITEM
from flatgrad.primitives.registry import PRIMITIVES
from flatgrad.primitives.symbolic import (
    DIM,
    SIZE,
    Symbol,
    apply_function,
    operand_of,
    symbol_of,
)
from flatgrad.primitives.typerules import fresh_size
from flatgrad.transform.clone import all_ops, cloned, defined_in, picked, rewired_block, twin
from flatgrad.transform.dce import swept

if TYPE_CHECKING:
    from flatgrad.transform.structured import Context

LIKE = {np.zeros_like: np.zeros, np.ones_like: np.ones, np.empty_like: np.empty}
"""Functions that read only the shape of their operand, and the same with the shape given."""

CHEAP = {
    operator.getitem, ASTYPE, IDENTITY, TRIPS, DIM, SIZE, float, int, bool, np.where, np.transpose,
    np.reshape, np.ravel, np.broadcast_to, np.expand_dims, np.squeeze, np.swapaxes, np.zeros,
    np.ones, np.empty, np.full, np.arange, np.eye, *LIKE,
}  # fmt: skip
"""What is computed again rather than taped, besides elementwise operations."""

MANY = 1000
"""What a length that is not known while compiling counts as."""


def estimate(size: Size) -> int:
    """About how large a length is."""
    if isinstance(size, int):
        return max(1, size)
    total = sum(factor * MANY ** len(monomial) for monomial, factor in size.terms)
    return max(1, total)


def weight(kind: Type) -> int:
    """About how many bytes a value takes."""
    total = np.dtype(kind.dtype).itemsize
    for size in kind.shape:
        total *= estimate(size)
    return total


def length(context: Context, size: Size, scope: tuple[Value, ...]) -> Any:
    """A length as a number or symbol, computed from what `scope` holds; None if it cannot be."""
    builder = context.builder
    if isinstance(size, int):
        return size
    if size.is_atom and size.name in builder.lengths:
        param, axis = builder.lengths[size.name]
        return apply_function(DIM, (Symbol(param, builder), axis), {}, builder)
    for value in scope:
        if isinstance(value.type, Scalar) and value.type.size == size:
            return Symbol(value, builder)
    for value in scope:
        if size in value.type.shape:
            axis = value.type.shape.index(size)
            return apply_function(DIM, (Symbol(value, builder), axis), {}, builder)
    return None if size.is_atom else _polynomial(context, size, scope)


def _polynomial(context: Context, size: Dim, scope: tuple[Value, ...]) -> Any:
    total: Any = 0
    for monomial, factor in size.terms:
        term: Any = factor
        for atom in monomial:
            known = length(context, Dim.atom(atom), scope)
            if known is None:
                return None
            term = known if isinstance(term, int) and term == 1 else term * known
        total = term if isinstance(total, int) and total == 0 else total + term
    return total


class Supply:
    """Makes everything that `back` reads of `forward` available in it.

    `given` maps values of `forward` that are available already (the index); `scope` is what both
    see from outside. `run` returns the new backward block.
    """

    def __init__(
        self,
        context: Context,
        forward: Block,
        back: Block,
        given: dict[Value, Operand],
        scope: tuple[Value, ...],
        tape: LoopTape | BranchTape,
    ) -> None:
        self.context = context
        self.builder = context.builder
        self.forward = forward
        self.back = swept(back)
        self.scope = scope
        self.tape = tape
        self.mapping: dict[Value, Operand] = dict(given)
        self.prelude = tape.prelude
        self.made: dict[Value, Op | None] = {value: None for value in forward.params}
        self.made |= {value: op for op in forward.ops for value in op.results}
        self.sizes: dict[tuple[Value, int], Any] = {}

    def run(self) -> Block:
        """The backward block with reads, computations and what stood there."""
        needed, shaped = self.reads()
        for value in shaped:
            needed |= self.measure(value)
        kept = self.keep(needed)
        # Numbers first: the lengths among them are needed to read arrays back.
        for value in sorted([v for v in self.made if v in kept], key=lambda v: v.type.ndim > 0):
            self.mapping[value] = self.tape.record(value, self)
        with self.builder.inside(self.prelude):
            for value in [v for v in self.made if v in needed]:
                self.recompute(value)
            block = self.resized(self.back)
        ops = [*self.prelude.ops, *block.ops]
        mapped = rewired_block(Block((), ops, block.yields), self.mapping)
        params = (*self.back.params, *self.tape.back_params)
        yields = (*mapped.yields, *[picked(o, self.mapping) for o in self.tape.back_yields])
        return swept(Block(params, mapped.ops, yields))

    def reads(self) -> tuple[set[Value], list[Value]]:
        """The values of the forward block that are read, and those whose shape alone is."""
        needed: set[Value] = {o for o in self.back.yields if o in self.made}  # type: ignore[misc]
        shaped: dict[Value, None] = {}
        for op in all_ops(self.back):
            for k, operand in enumerate(operands_of(op)):
                if operand not in self.made or operand in self.mapping:
                    continue
                assert isinstance(operand, Value)
                if _reads_shape(op, k):
                    shaped[operand] = None
                else:
                    needed.add(operand)
        for inner in all_blocks(self.back):
            needed |= {o for o in inner.yields if o in self.made}  # type: ignore[misc]
        needed -= self.mapping.keys()
        return needed, [value for value in shaped if value not in needed]

    def measure(self, value: Value) -> set[Value]:
        """Have the lengths of a value available; the ints of the forward block needed for them."""
        needed = set()
        with self.builder.inside(self.prelude):
            for axis, size in enumerate(value.type.shape):
                found = length(self.context, size, self.scope)
                if found is None:
                    measured = self.measured(value, axis)
                    found = Symbol(measured, self.builder)
                    needed.add(measured)
                self.sizes[value, axis] = found
        return needed - self.mapping.keys()

    def measured(self, value: Value, axis: int) -> Value:
        """An int of the forward block that is the length of an axis."""
        size = value.type.shape[axis]
        for known in self.made:
            if isinstance(known.type, Scalar) and known.type.size == size:
                return known
        op = Apply(
            PRIMITIVES[DIM], (value,), {"x": Slot(0), "axis": axis},
            (Value(Scalar("int64", weak=True, size=size), f"{value.name}_length"),),
            Origin(None, "tape"),
        )  # fmt: skip
        self.forward.ops.insert(self.place_after(value), op)
        self.made[op.result] = op
        return op.result

    def place_after(self, value: Value) -> int:
        """The position in the forward block where a value has just been defined."""
        op = self.made[value]
        return 0 if op is None else self.forward.ops.index(op) + 1

    def keep(self, needed: set[Value]) -> set[Value]:
        """The values to record, with the lengths of those whose shape differs from trip to trip."""
        while True:
            kept = cheapest_cut(
                [v for v in self.made if v in needed], self.made_from, self.cost  # type: ignore[arg-type]
            )
            mine = {value for value in kept if value in self.made}
            more: set[Value] = set()
            if isinstance(self.tape, LoopTape):
                for value in [v for v in self.made if v in mine]:
                    if self.tape.is_ragged(value):
                        more |= self.measure(value)
            if more <= needed:
                return mine  # type: ignore[return-value]
            needed |= more

    def cost(self, value: Any) -> int:
        """What keeping a value costs: a place per trip, or for one from outside, one in all."""
        return weight(value.type) * (self.tape.factor if value in self.made else 1)

    def made_from(self, value: Any) -> list[Value] | None:
        """What a value can be computed from again; None if it must be recorded."""
        if value in self.mapping:
            return []
        op = self.made.get(value)
        if not isinstance(op, Apply) or len(op.results) != 1 or op.primitive.effect:
            return None
        if not (op.primitive.elementwise or op.primitive.function in CHEAP):
            return None
        found = []
        for k, operand in enumerate(op.operands):
            if _reads_shape(op, k) and operand in self.made:
                assert isinstance(operand, Value)
                if not self.measurable(operand):
                    return None
                continue
            if isinstance(operand, Value) and self.is_volatile(operand):
                found.append(operand)
        return found

    def measurable(self, value: Value) -> bool:
        """Whether the lengths of a value follow from what is outside."""
        with self.builder.inside(Block()):
            found = [length(self.context, size, self.scope) for size in value.type.shape]
        return all(one is not None for one in found)

    def is_volatile(self, value: Value) -> bool:
        """Whether a value differs from trip to trip, of this loop or one around it."""
        return value in self.made or value not in self.context.stable

    def recompute(self, value: Value) -> None:
        """Compute a value again from what is available."""
        if value in self.mapping or value not in self.made:
            return
        op = self.made[value]
        assert isinstance(op, Apply)
        for k, operand in enumerate(op.operands):
            if isinstance(operand, Value) and operand in self.made:
                if _reads_shape(op, k):
                    self.measure(operand)
                else:
                    self.recompute(operand)
        (copy,) = self.resized_ops([cloned(op, self.mapping, "backward")]) or (None,)
        if copy is not None:
            self.prelude.ops.append(copy)

    def resized(self, block: Block) -> Block:
        """The block with lengths in place of arrays of which only the shape is read."""
        return Block(block.params, self.resized_ops(block.ops), block.yields)

    def resized_ops(self, ops: list[Op]) -> list[Op]:
        found: list[Op] = []
        for op in ops:
            match op:
                case Apply():
                    found += self.resized_op(op)
                case If():
                    then, orelse = self.resized(op.then), self.resized(op.orelse)
                    found.append(replace(op, then=then, orelse=orelse))
                case For():
                    found.append(replace(op, body=self.resized(op.body)))
                case While():
                    found.append(replace(op, body=self.resized(op.body)))
        return found

    def resized_op(self, op: Apply) -> list[Op]:
        x = op.operands[0] if op.operands else None
        if not isinstance(x, Value) or not _reads_shape(op, 0) or (x, 0) not in self.sizes:
            return [op]
        if x in self.mapping:  # available anyway
            return [op]
        sizes = [self.sizes[x, axis] for axis in range(x.type.ndim)]
        function = op.primitive.function
        if function is DIM:
            self.mapping[op.result] = self.final(sizes[op.arguments["axis"]])
            return []
        with self.builder.inside(Block()) as scratch:
            if function is SIZE:
                made: Any = 1
                for size in sizes:
                    made = size if isinstance(made, int) and made == 1 else made * size
                self.mapping[op.result] = operand_of(made)
            else:
                dtype = np.dtype(op.result.type.dtype).type
                shape = tuple(sizes) if len(sizes) > 1 else sizes[0]
                keywords = {} if dtype is np.float64 else {"dtype": dtype}
                made = apply_function(LIKE[function], (shape,), keywords, self.builder)
                last = scratch.ops[-1]
                assert isinstance(last, Apply)
                scratch.ops[-1] = replace(last, results=op.results)
        self.mapping = _closed(self.mapping)
        return scratch.ops

    def final(self, size: Any) -> Operand:
        """The operand for a length, as it will be read."""
        return picked(operand_of(size), self.mapping)


def _closed(mapping: dict[Value, Operand]) -> dict[Value, Operand]:
    return {key: picked(item, mapping) for key, item in mapping.items()}


def all_blocks(block: Block) -> list[Block]:
    """The blocks inside a block, at any depth."""
    from flatgrad.ir.ops import blocks_of

    return [inner for op in all_ops(block) for inner in blocks_of(op)]


def _reads_shape(op: Op, position: int) -> bool:
    if not isinstance(op, Apply) or position > 0:
        return False
    return op.primitive.function in LIKE or op.primitive.function in (DIM, SIZE)


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
        if all(isinstance(o, Const) for o in (op.start, op.stop, op.step)):
            return max(1, TRIPS(op.start.value, op.stop.value, op.step.value))  # type: ignore[union-attr]
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
        with self.builder.inside(Block()):
            found = [length(self.context, size, self.scope) for size in value.type.shape]
        return any(one is None for one in found)

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
            flat = Symbol(value, builder)
            count = flat.size
            flat = flat if value.type.ndim == 1 else np.ravel(flat)  # type: ignore[call-overload]
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
            bounds = [symbol_of(o, self.builder) for o in (op.start, op.stop, op.step)]
            self.total = apply_function(TRIPS, bounds, {}, self.builder)
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

    @property
    def prelude(self) -> Block:
        """A new block for what comes first in a backward branch."""
        return Block()

    def record(self, value: Value, supply: Supply) -> Operand:
        """Make a value of the branch a result of the `If`."""
        result = twin(value)
        self.extra[self.side].append(value)
        self.extra[1 - self.side].append(self.placeholder(value))
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
