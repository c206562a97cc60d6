"""Functions of what all strips have in common are computed once, in a table.

    for start in range(0, n, 64):            q_exp = np.empty((k, d))
        for c in range(k):                   for once in range(min(1, n)):
            for a in range(d):                   for c in range(k):
                y_exp = exp(q[c, a])                 for a in range(d):
                for lane in range(64):   ->              q_exp[c, a] = exp(q[c, a])
                    ... y_exp ...            for start in range(0, n, 64):
                                                 for c in range(k):
                                                     for a in range(d):
                                                         y_exp = q_exp[c, a]
                                                         ...

An exponential takes as long as to add up a strip. It goes into a table where all that it is
computed from is there before the strips, but for indices of loops whose bounds are: then each trip
of such a loop finds its element, and no more is computed than in one strip. Both sweeps share a
table. Without a strip nothing is read, as before.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from flatgrad.analysis.dependence import LENGTHS
from flatgrad.analysis.threads import defined_inside, scalar_entries
from flatgrad.ir.builder import Builder
from flatgrad.ir.copies import twin
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Function,
    Op,
    Operand,
    Value,
    is_const,
)
from flatgrad.ir.types import Scalar
from flatgrad.primitives.core import SMALLER
from flatgrad.primitives.index import SET_ITEM
from flatgrad.primitives.symbolic import apply_function, operand_of, symbol_of
from flatgrad.transform.building import call_into, shifted
from flatgrad.transform.clone import cloned
from flatgrad.transform.strip_lanes import INT, short
from flatgrad.transform.tape import dtype_keyword

HEAVY = frozenset(
    """
    exp exp2 expm1 log log2 log1p log10 sin cos tan tanh sinh cosh arcsin arccos arctan sigmoid
    softplus erf erfc pow power cbrt lgamma digamma
    """.split()  # noqa: SIM905
)
"""Functions that take longer than to read an element."""
LIGHT = frozenset("add sub mul neg truediv sqrt square".split())  # noqa: SIM905
MOST_AXES = 3


def with_tables(ops: list[Op], made: dict[Value, Apply], fn: Function) -> list[Op]:
    """The operations of which the last is a loop over strips, with tables before it."""
    *before, loop = ops
    if not isinstance(loop, For):
        return ops
    tables = _Tables(loop, {**made, **_made(before)}, fn)
    body = tables.block(loop.body, ())
    return [*before, *tables.ops, replace(loop, body=body)] if tables.ops else ops


def _made(ops: list[Op]) -> dict[Value, Apply]:
    return {value: op for op in ops if isinstance(op, Apply) for value in op.results}


class _Tables:
    """The tables of one loop; `ops` fill them."""

    def __init__(self, loop: For, made: dict[Value, Apply], fn: Function) -> None:
        self.loop = loop
        self.made = made
        self.inside = defined_inside(loop.body)
        self.builder = Builder(Block(), fn.lengths)
        self.builder.origin = replace(loop.origin, span=None)
        self.ops: list[Op] = []
        self.known: dict[Any, Value] = {}

    def block(self, block: Block, loops: tuple[For, ...]) -> Block:
        """A block, in loops that are the same for all lanes, with tables read in it."""
        ops: list[Op] = []
        for op in block.ops:
            if isinstance(op, For) and not op.vector and not op.exits:
                op = replace(op, body=self.block(op.body, (*loops, op)))
            elif isinstance(op, Apply):
                for value in op.results:
                    self.made[value] = op
                if op.primitive.name in HEAVY and _is_float(op):
                    op = self.looked_up(op, loops) or op
            ops.append(op)
        return Block(block.params, ops, block.yields)

    def looked_up(self, op: Apply, loops: tuple[For, ...]) -> Op | None:
        """The element of a table in the place of a function; None where there can be none."""
        steps: dict[Apply, None] = {}
        indices: set[Value] = set()
        if not self.follow(op, loops, steps, indices):
            return None
        used = [loop for loop in loops if loop.body.params[0] in indices]
        bounds: dict[For, tuple[int, Operand]] = {}
        for loop in loops:
            length = self.length(loop)
            if length is None:
                return None
            bounds[loop] = (_lowest(loop), length)
        if not 0 < len(used) <= MOST_AXES:
            return None
        key = self.key(op, bounds, used)
        if key not in self.known:
            self.known[key] = self.fill(op, list(steps), used, bounds)
        ops: list[Op] = []
        with self.builder.inside(Block((), ops)), self.builder.at(op.origin):
            places = tuple([symbol_of(loop.body.params[0], self.builder) for loop in used])
            table = symbol_of(self.known[key], self.builder)
            call_into(op.result, operator.getitem, (table, short(places)), self.builder)
        return ops[0]

    def follow(
        self, op: Apply, loops: tuple[For, ...], steps: dict[Apply, None], indices: set[Value]
    ) -> bool:
        """Whether an operation can be done before the strips; what it needs goes into `steps`."""
        for operand in op.operands:
            if not isinstance(operand, Value) or operand not in self.inside:
                continue
            if any(loop.body.params[0] is operand for loop in loops):
                indices.add(operand)
                continue
            needed = self.made.get(operand)
            if needed is None or not _is_simple(needed):
                return False
            if needed not in steps and not self.follow(needed, loops, steps, indices):
                return False
        steps[op] = None
        return True

    def length(self, loop: For) -> Operand | None:
        """The length of an axis for the indices of a loop; None if it is not known before."""
        if not isinstance(loop.step, Const):
            return None
        if loop.step.value == 1 and isinstance(loop.start, Const) and loop.start.value >= 0:
            end: Any = symbol_of(loop.stop, self.builder)
        elif loop.step.value == -1 and isinstance(loop.stop, Const) and loop.stop.value >= -1:
            end = shifted(loop.start, 1, self.made, self.builder)
        else:
            return None
        found = operand_of(end)
        return found if isinstance(found, Const) or self.is_length(found) else None

    def is_length(self, operand: Operand) -> bool:
        """Whether a number is the length of an array from before, and so not below zero."""
        op = self.made.get(operand) if isinstance(operand, Value) else None
        known = op is not None and op.primitive.function in LENGTHS
        return known and operand not in self.inside

    def key(self, op: Apply, loops: dict[For, tuple[int, Operand]], used: list[For]) -> Any:
        """What two operations have in common that have one table."""
        places = {loop.body.params[0]: k for k, loop in enumerate(used)}

        def of(operand: Operand) -> Any:
            if isinstance(operand, Const):
                return "number", operand.type.dtype, operand.value
            if operand in places:
                return "index", places[operand]
            found = self.made.get(operand)
            return operand if operand not in self.inside or found is None else call(found)

        def call(one: Apply) -> Any:
            return one.primitive.name, repr(one.arguments), *[of(item) for item in one.operands]

        return call(op), *[(*bounds, loop in used) for loop, bounds in loops.items()]

    def fill(
        self, op: Apply, steps: list[Apply], used: list[For], bounds: dict[For, tuple[int, Operand]]
    ) -> Value:
        """Write the loops that fill a table."""
        mapping: dict[Value, Operand] = {}

        def element(table: Value) -> Value:
            return self.element(op, steps, used, table, mapping)

        with self.builder.inside(Block((), self.ops)):
            shape = short(tuple([symbol_of(bounds[loop][1], self.builder) for loop in used]))
            kind = dtype_keyword(op.result.type)
            empty = apply_function(np.empty, (shape,), kind, self.builder).value
            empty.name, empty.kept = f"{op.result.part or op.result.name or 'value'}_table", True
            around = [(self.loop.start, self.loop.stop)]
            for loop, (lowest, length) in bounds.items():
                if loop not in used:
                    around.append((Const(lowest), length))
            inner = [(loop.body.params[0], *bounds[loop]) for loop in used]
            return self.once(around, empty, lambda one: self.nested(inner, one, element, mapping))

    def once(
        self, around: list[tuple[Operand, Operand]], table: Value, fill: Callable[[Value], Value]
    ) -> Value:
        """Fill a table, if there is a strip, and trips of all loops around."""
        if not around:
            return fill(table)
        (start, stop), *rest = around
        if isinstance(start, Const) and isinstance(stop, Const) and stop.value > start.value:
            return self.once(rest, table, fill)
        room = symbol_of(stop, self.builder)
        if not is_const(start, 0):
            room = room - symbol_of(start, self.builder)
        count = operand_of(apply_function(SMALLER, (1, room), {}, self.builder))
        index = Value(INT, "once", kept=True)
        return self.loop_over(Const(0), count, index, table, lambda one: self.once(rest, one, fill))

    def nested(
        self, loops: list[tuple[Value, int, Operand]], table: Value,
        fill: Callable[[Value], Value], mapping: dict[Value, Operand],
    ) -> Value:  # fmt: skip
        """One loop in the other, upwards, and `fill` in the last."""
        if not loops:
            return fill(table)
        (index, lowest, length), *rest = loops
        mapping[index] = made = twin(index)
        return self.loop_over(
            Const(lowest), length, made, table, lambda one: self.nested(rest, one, fill, mapping)
        )

    def loop_over(
        self, start: Operand, stop: Operand, index: Value, table: Value,
        fill: Callable[[Value], Value],
    ) -> Value:  # fmt: skip
        """A loop that carries a table."""
        param, result = twin(table), twin(table)
        ops: list[Op] = []
        with self.builder.inside(Block((), ops)):
            filled = fill(param)
        body = Block((index, param), ops, (filled,))
        origin = self.builder.origin
        made = For(start, stop, Const(1), (table,), body, (result,), origin=origin)
        self.builder.block.ops.append(made)
        return result

    def element(
        self, op: Apply, steps: list[Apply], used: list[For], table: Value,
        mapping: dict[Value, Operand],
    ) -> Value:  # fmt: skip
        """One element of a table, computed as it would be in a strip."""
        self.builder.block.ops += [cloned(one, mapping, one.origin.sweep) for one in steps]
        made = twin(table)
        places = tuple([symbol_of(mapping[loop.body.params[0]], self.builder) for loop in used])
        value = symbol_of(mapping[op.result], self.builder)
        call_into(
            made, SET_ITEM, (symbol_of(table, self.builder), value, short(places)), self.builder
        )
        return made


def _lowest(loop: For) -> int:
    """The least index of a loop that has trips."""
    assert isinstance(loop.step, Const)
    upwards = loop.step.value == 1
    end = loop.start if upwards else loop.stop
    assert isinstance(end, Const)
    return int(end.value) if upwards else int(end.value) + 1


def _is_float(op: Apply) -> bool:
    kind = op.result.type
    return isinstance(kind, Scalar) and kind.dtype in ("float64", "float32")


def _is_simple(op: Apply) -> bool:
    """Whether an operation on numbers may be done at another time."""
    if len(op.results) != 1 or op.result.type.ndim:
        return False
    if op.primitive.function is operator.getitem:
        return scalar_entries(op) is not None
    return op.primitive.name in HEAVY | LIGHT
