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
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from flatgrad.analysis.cut import cheapest_cut
from flatgrad.ir.builder import Builder
from flatgrad.ir.dims import Dim, Size, SliceLength
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
    all_reads,
    blocks_of,
    operands_of,
    size_of,
)
from flatgrad.ir.types import Scalar, Type
from flatgrad.primitives.core import ASTYPE, IDENTITY, TRIPS
from flatgrad.primitives.registry import PRIMITIVES
from flatgrad.primitives.symbolic import (
    DIM,
    SIZE,
    Symbol,
    apply_function,
    operand_of,
    symbol_of,
)
from flatgrad.transform.clone import all_ops, cloned, picked, rewired_block
from flatgrad.transform.dce import swept

if TYPE_CHECKING:
    from flatgrad.transform.branch_tape import BranchTape
    from flatgrad.transform.record import LoopTape
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


def dtype_keyword(kind: Type) -> dict[str, Any]:
    """The `dtype=` of a new array; float64 goes without saying."""
    return {} if kind.dtype == "float64" else {"dtype": np.dtype(kind.dtype).type}


class Measuring(Protocol):
    """What `length` needs: where to put operations, and which lengths count the trips of loops."""

    builder: Builder
    trips: dict[Size, tuple[Operand, ...]]


def length(context: Measuring, size: Size, scope: tuple[Value, ...]) -> Any:
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
    bounds = [_bound(context, bound, scope) for bound in context.trips.get(size, ())]
    if bounds and all(bound is not None for bound in bounds):
        return apply_function(TRIPS, bounds, {}, builder)
    for value in scope:
        if size in value.type.shape:
            axis = value.type.shape.index(size)
            return apply_function(DIM, (Symbol(value, builder), axis), {}, builder)
    if size.is_atom:
        atom = size.name
        if not isinstance(atom, SliceLength):
            return None
        return _measuring(_of_slice(context, atom, scope), size)
    return _polynomial(context, size, scope)


def _bound(context: Measuring, bound: Operand, scope: tuple[Value, ...]) -> Any:
    """The bound of a loop, computed from what `scope` holds; None if it cannot be."""
    if isinstance(bound, Const) or bound in scope:
        return symbol_of(bound, context.builder)
    size = size_of(bound)
    return None if size is None else length(context, size, scope)


def _of_slice(context: Measuring, atom: SliceLength, scope: tuple[Value, ...]) -> Any:
    """The length of `[a:b]` with bounds that are known, or of `[-a:]`; None for others."""
    start, stop, step = atom.bounds
    whole = length(context, atom.size, scope)
    if step is not None or whole is None or isinstance(start, Dim) or isinstance(stop, Dim):
        return None

    def trips(first: Any, last: Any) -> Any:
        return apply_function(TRIPS, (0, last - first, 1), {}, context.builder)

    if start is not None and start < 0:
        return whole - trips(-start, whole) if stop is None else None
    if stop is not None and stop < 0:
        return None
    end = whole if stop is None else whole - trips(stop, whole)
    return trips(start, end) if start else end


def _measuring(found: Any, size: Size) -> Any:
    """A newly computed length, known to be `size`."""
    if isinstance(found, Symbol) and found.value in found.builder.made:
        found.value.type = Scalar("int64", weak=True, size=size)
    return found


def _polynomial(context: Measuring, size: Dim, scope: tuple[Value, ...]) -> Any:
    total: Any = 0
    for monomial, factor in size.terms:
        term: Any = factor
        for atom in monomial:
            known = length(context, Dim.atom(atom), scope)
            if known is None:
                return None
            term = known if isinstance(term, int) and term == 1 else term * known
        if isinstance(total, int) and total == 0:
            total = term
        else:
            total = total - -term if isinstance(term, int) and term < 0 else total + term
    return total


def varies(context: Context, value: Value, scope: tuple[Value, ...]) -> bool:
    """Whether the shape of a value does not follow from what `scope` holds."""
    with context.builder.inside(Block()):
        return any(length(context, size, scope) is None for size in value.type.shape)


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
        self.made: dict[Value, Op | None] = dict.fromkeys(forward.params)
        self.made |= {value: op for op in forward.ops for value in op.results}
        self.sizes: dict[tuple[Value, int], Any] = {}
        self.followed: dict[Value, Value] = {}
        self.held: set[Value] = set()
        self.read_anyway = set(all_reads(self.back))

    def run(self) -> Block:
        """The backward block with reads, computations and what stood there."""
        needed, shaped = self.reads()
        for value in shaped:
            needed |= self.measure(value)
        kept = self.keep(needed)
        self.tape.lengthen(self.recomputed(needed, kept) & self.followed.keys(), self.followed)
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
        needed: set[Value] = {o for o in self.back.yields if o in self.made}
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
            needed |= {o for o in inner.yields if o in self.made}
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
            self.followed, self.held = {}, set()
            kept = self.cut(needed)
            self.held = {v for v in kept if v in self.made and v in self.context.lasting}
            if self.held:
                kept = self.cut(needed)
            self.followed = self.tape.following(kept)
            if self.followed:
                kept = set(self.followed.values()) | self.cut(needed)
            mine = {value for value in kept if value in self.made}
            more: set[Value] = set()
            for value in [v for v in self.made if v in mine]:
                if self.tape.is_ragged(value):
                    more |= self.measure(value)
            if more <= needed:
                return mine
            needed |= more

    def cut(self, needed: set[Value]) -> set[Any]:
        """What it costs least to keep."""
        return cheapest_cut([v for v in self.made if v in needed], self.made_from, self.cost)

    def cost(self, value: Any) -> int:
        """What keeping a value costs: a place per trip, or for one from outside, one in all.

        One from outside that the backward block reads anyway costs nothing more. An array from
        outside is kept rather than as many elements of it: a loop around keeps it once for all.
        """
        if value in self.made:
            return weight(value.type) * self.tape.factor
        if value in self.read_anyway:
            return 0
        return weight(value.type) - (self.tape.factor > 1 and value.type.ndim > 0)

    def made_from(self, value: Any) -> list[Value] | None:
        """What a value can be computed from again; None if it must be recorded."""
        if value in self.mapping or value in self.followed:
            return []
        place = self.context.lasting.get(value)
        if place is not None and (value in self.held or not place.stored):
            return [o for o in place.index if self.is_volatile(o)]
        op = self.made.get(value)
        if not isinstance(op, Apply) or len(op.results) != 1 or op.primitive.effect:
            return None
        if not (op.primitive.elementwise or op.primitive.function in CHEAP):
            return None
        found = []
        for k, operand in enumerate(op.operands):
            if _reads_shape(op, k) and operand in self.made:
                assert isinstance(operand, Value)
                if varies(self.context, operand, self.scope):
                    return None
                continue
            if isinstance(operand, Value) and self.is_volatile(operand):
                found.append(operand)
        return found

    def recomputed(self, needed: set[Value], kept: set[Value]) -> set[Value]:
        """The values that are computed again, or read from a later row."""
        found: set[Value] = set()
        waiting: list[Any] = [value for value in self.made if value in needed]
        while waiting:
            value = waiting.pop()
            if value in found or value in kept or value not in self.made:
                continue
            found.add(value)
            waiting += self.made_from(value) or ()
        return found

    def is_volatile(self, value: Value) -> bool:
        """Whether a value differs from trip to trip, of this loop or one around it."""
        return value in self.made or value not in self.context.stable

    def recompute(self, value: Value) -> None:
        """Compute a value again from what is available."""
        if value in self.mapping or value not in self.made:
            return
        if value in self.followed:
            self.mapping[value] = self.tape.after(value, self.followed[value])
            return
        op = self.made[value]
        place = self.context.lasting.get(value)
        if place is not None and (value in self.held or not place.stored):
            op = place.read
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
            self.mapping = _closed(self.mapping)  # a copy's result stands for the original's
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
    return [inner for op in all_ops(block) for inner in blocks_of(op)]


def _reads_shape(op: Op, position: int) -> bool:
    if not isinstance(op, Apply) or position > 0:
        return False
    return op.primitive.function in LIKE or op.primitive.function in (DIM, SIZE)
