"""Loops of the function itself that several threads can make, as functions of their own.

    total = 0.0                               total, grad_x = total_loop(x, w)
    for i in range(n):                 ->
        total = total + w * x[i]              func total_loop(x, w): for i: ...
        grad_x[i] = w

Only where the trips are proved to share nothing but arrays that are read, rows of their own and
sums (`analysis/shared.py`). No index may count from the end, and all must be within the arrays, as
no thread can raise an error: what the types do not say about that is asked while running, and if
it is not so the loop runs as it would without threads. The function for a range of it is made in
`range_rows.py`; `codegen/numba_loop_ranges.py` writes the text.
"""

from __future__ import annotations

import functools
import operator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from flatgrad.analysis.activity import slots
from flatgrad.analysis.affine import Affine, Integers, number
from flatgrad.analysis.independent import element_index
from flatgrad.analysis.ranges import Trips, highest, never_above, never_below_zero
from flatgrad.analysis.shared import FILLED, NUMBER, WRITES, Shared, row_of, shared
from flatgrad.ir.builder import Builder
from flatgrad.ir.copies import twin
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Function,
    If,
    Op,
    Operand,
    Slot,
    Value,
    While,
)
from flatgrad.primitives.callee import call_of, function_of
from flatgrad.primitives.symbolic import DIM, apply_function, operand_of, symbol_of
from flatgrad.transform.building import call_into, rebuilt, shifted
from flatgrad.transform.clone import all_ops, picked, rewired, rewired_block
from flatgrad.transform.dce import read_by, swept
from flatgrad.transform.range_rows import Access, RangeRows, inside_of

CREATED = (np.zeros, np.empty, np.full, np.zeros_like, np.empty_like, np.full_like)
ZEROS = (np.zeros, np.zeros_like)


def loops_in_ranges(fn: Function) -> Function:
    """The function with such loops as calls of functions."""
    fn = replace(fn, body=_without_unchanged(fn.body))
    integers = Integers.of_function(fn)
    makers = {op.result: op for op in fn.body.ops if isinstance(op, Apply) and len(op.results) == 1}
    readers: dict[Value, int] = {}
    for op in fn.body.ops:
        for value in read_by(op):
            readers[value] = readers.get(value, 0) + 1
    for item in fn.body.yields:
        if isinstance(item, Value):
            readers[item] = readers.get(item, 0) + 1
    ops: list[Op] = []
    for op in fn.body.ops:
        made = None
        if isinstance(op, For):
            made = _Outlining(fn, op, integers, makers, readers).calls()
        ops += [op] if made is None else made
    return replace(fn, body=swept(Block(fn.body.params, ops, fn.body.yields)))


def _without_unchanged(block: Block) -> Block:
    """The block with what its loops only hand on from trip to trip read from outside."""
    ops: list[Op] = []
    same: dict[Value, Operand] = {}
    for op in block.ops:
        op = rewired(op, same)
        if isinstance(op, For) and not op.exits:
            carried = list(slots(op))
            own = {param: init for init, param, item, _ in carried if item is param}
            same |= {result: init for init, param, item, result in carried if item is param}
            left = [one for one in carried if one[2] is not one[1]]
            params = tuple([param for _, param, _, _ in left])
            body = Block(
                (op.body.params[0], *params), op.body.ops, tuple([item for _, _, item, _ in left])
            )
            op = replace(
                op, inits=tuple([init for init, _, _, _ in left]), body=rewired_block(body, own),
                results=tuple([result for _, _, _, result in left]),
            )  # fmt: skip
        ops.append(op)
    return Block(block.params, ops, tuple([picked(item, same) for item in block.yields]))


@dataclass(slots=True)
class _Outlining:
    """One loop, and what becomes of it; `offsets`: how far its trips look before their own row."""

    fn: Function
    loop: For
    integers: Integers
    makers: dict[Value, Apply]
    readers: dict[Value, int]
    accesses: list[Access] = field(default_factory=list)
    before: list[Op] = field(default_factory=list)
    offsets: dict[Value, int] = field(default_factory=dict)

    def calls(self) -> list[Op] | None:
        """The call in the place of the loop, with what it needs; None if the loop stays."""
        loop = self.loop
        if loop.exits or loop.checkpoint or not loop.inits or not isinstance(loop.step, Const):
            return None
        if abs(loop.step.value) != 1 or not (loop.vector or _has_loop(loop.body)):
            return None
        trips = Trips.of(loop, self.integers)
        found = shared(loop, self.integers) if trips and self.plain(loop.body, (trips,)) else None
        if found is None or not self.is_within():
            return None
        builder = Builder(Block((), self.before), self.fn.lengths)
        builder.origin = loop.origin
        guards = self.guards(builder)
        return None if guards is None else self.called(found, guards, builder)

    # What the loop does.

    def plain(self, block: Block, around: tuple[Trips, ...]) -> bool:
        """Whether all operations are on numbers, and raise nothing but for their indices."""
        for op in block.ops:
            match op:
                case While():
                    return False
                case If():
                    if not (self.plain(op.then, around) and self.plain(op.orelse, around)):
                        return False
                case For():
                    trips = Trips.of(op, self.integers)
                    if trips is None or op.exits or not self.plain(op.body, (*around, trips)):
                        return False
                case Apply():
                    if not self.is_plain(op, around):
                        return False
        return True

    def is_plain(self, op: Apply, around: tuple[Trips, ...]) -> bool:
        function = op.primitive.function
        if op.primitive.effect or op.primitive.body is not None or op.primitive.opaque:
            return False
        if function is DIM:
            return True
        if function is not operator.getitem and function not in WRITES:
            return not any(one.type.ndim for one in (*op.operands, *op.results))
        base = op.operands[op.arguments["x"].index]
        index = element_index(op, self.integers) if base.type.ndim else None
        if index is None or not isinstance(base, Value):
            return False
        self.accesses.append(Access(op, base, index, around))
        return True

    def is_within(self) -> bool:
        """Whether no index is negative; where rows move with the trips, how far they are."""
        index = self.loop.body.params[0]
        for one in self.accesses:
            if not all(never_below_zero(entry, one.around) for entry in one.index):
                return False
            if one.index[0].factor(index):
                offset = row_of(one.index[0], index)
                if offset is None:
                    return False
                root = self.root(one.base)
                self.offsets[root] = min(offset, self.offsets.get(root, offset))
        return True

    def guards(self, builder: Builder) -> list[Any] | None:
        """What tells while running that no index is too large; None if that cannot be told."""
        inside = inside_of(self.loop)
        tests: dict[tuple[Affine, Any], Any] = {}
        for one in self.accesses:
            for axis, entry in enumerate(one.index):
                most = highest(entry, one.around).plus(number(1))
                size = one.base.type.shape[axis]
                if never_above(most, size) or (most, size) in tests:
                    continue
                base = self.outside(one.base)
                if base in inside or any(value in inside for value, _ in most.terms):
                    return None
                length = apply_function(DIM, (symbol_of(base, builder), axis), {}, builder)
                needed = rebuilt(most, builder)
                tests[most, size] = apply_function(operator.le, (needed, length), {}, builder)
        return list(tests.values())

    def root(self, base: Value) -> Value:
        """The array itself, or the carried variable of the loop of which it is a version."""
        if base in self.loop.body.params:
            return base
        for op in all_ops(self.loop.body):
            before: Operand | None = None
            if isinstance(op, For) and base in op.body.params[1:]:
                before = op.inits[op.body.params.index(base) - 1]
            elif base not in op.results:
                continue
            elif isinstance(op, Apply) and op.primitive.function in WRITES:
                before = op.operands[op.arguments["x"].index]
            elif isinstance(op, For):
                before = op.body.params[op.results.index(base) + 1]
            elif isinstance(op, If):
                before = op.then.yields[op.results.index(base)]
            if isinstance(before, Value):
                return self.root(before)
        return base

    def outside(self, base: Value) -> Operand:
        """The array itself, or what the carried variable starts from."""
        root = self.root(base)
        if root not in self.loop.body.params:
            return root
        return self.loop.inits[self.loop.body.params.index(root) - 1]

    # What becomes of it.

    def called(self, found: list[Shared], guards: list[Any], builder: Builder) -> list[Op]:
        """The call of the function that has the loop."""
        fits: Value | None = None
        if guards:
            fits = functools.reduce(partial(_both, builder), guards).value
            fits.name = "fits"
        wrapper: list[Op] = []
        after: list[Op] = []
        inits: list[Operand] = []
        results: list[Value] = []
        for one, init, result in zip(found, self.loop.inits, self.loop.results, strict=True):
            start, whole = self.start(one, init, wrapper)
            inits.append(start)
            results.append(result if whole else twin(result))
            if not whole:
                with builder.inside(Block((), after)):
                    parts = (symbol_of(init, builder), symbol_of(results[-1], builder))
                    call_into(result, operator.add, parts, builder)
        loop = replace(self.upwards(builder), inits=tuple(inits))
        wrapper[:0] = self.bounds(loop)
        name = self.name()
        params = self.params([*wrapper, loop], fits)
        tree: Any = tuple([Slot(k) for k in range(len(results))])
        tree = Slot(0) if len(results) == 1 else tree
        body = Block(params, [*wrapper, loop], loop.results)
        made = function_of(Function(f"{name}_loop", body, tree))
        rows = RangeRows(loop, found, name, fits, self.accesses, self.offsets, self.root)
        made.ranges = rows.ranges()
        call = call_of(made, params, tuple(results), loop.origin)
        return [*self.before, call, *after]

    def start(self, one: Shared, init: Operand, wrapper: list[Op]) -> tuple[Operand, bool]:
        """What the loop starts from in its function; whether its result is then the whole one."""
        if one.kind == NUMBER:
            zero = 0 if one.param.type.dtype == "int64" else 0.0
            return Const(zero), isinstance(init, Const) and init.value == 0
        assert isinstance(init, Value)
        maker = self.makers.get(init)
        wanted = CREATED if one.kind == FILLED else ZEROS
        if maker is not None and maker.primitive.function in wanted and self.readers[init] == 1:
            wrapper.append(maker)
            return init, True
        builder = Builder(Block((), wrapper), self.fn.lengths)
        builder.origin = self.loop.origin
        made = twin(init)
        function = np.copy if one.kind == FILLED else np.zeros_like
        call_into(made, function, (symbol_of(init, builder),), builder)
        return made, one.kind == FILLED

    def upwards(self, builder: Builder) -> For:
        """The loop from its lowest index to its highest."""
        loop = self.loop
        assert isinstance(loop.step, Const)
        if loop.step.value == 1:
            return loop
        start, stop = (
            operand_of(shifted(bound, 1, self.integers.made, builder))
            for bound in (loop.stop, loop.start)
        )
        return replace(loop, start=start, stop=stop, step=Const(1))

    def bounds(self, loop: For) -> list[Op]:
        """The lengths, sums and differences of which the bounds of the loop are made."""
        made = self.makers | {op.results[0]: op for op in self.before if op.results}
        found: list[Op] = []

        def need(operand: Operand) -> None:
            op = made.get(operand) if isinstance(operand, Value) and not operand.kept else None
            if not isinstance(op, Apply) or op in found:
                return
            if op.primitive.function in (operator.add, operator.sub, DIM):
                for inner in op.operands:
                    need(inner)
                found.append(op)

        need(loop.start)
        need(loop.stop)
        return found

    def name(self) -> str:
        values = [*self.loop.results]
        return next((one.name for one in values if one.name), None) or "range"

    def params(self, ops: list[Op], fits: Value | None) -> tuple[Value, ...]:
        """What the function of the loop reads, in the order of the function around it."""
        made = {value for op in ops for value in op.results}
        read = {value for op in ops for value in read_by(op) if value not in made}
        read -= {value for op in ops for value in inside_of(op)}
        known = [*self.fn.params]
        known += [value for op in self.fn.body.ops for value in op.results]
        known += [value for op in self.before for value in op.results if value is not fits]
        found = [value for value in known if value in read]
        return (*found, *([fits] if fits is not None else []))


def _both(builder: Builder, one: Any, other: Any) -> Any:
    return apply_function(operator.and_, (one, other), {}, builder)


def _has_loop(block: Block) -> bool:
    return any(isinstance(op, For) for op in all_ops(block))
