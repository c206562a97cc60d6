"""Products of the rows of an array, one in each trip of a loop, become one product before it.

    for t in range(len(xs)):                    xs_W = xs @ W
        h = np.tanh(xs[t] @ W + h)     ->       for t in range(len(xs)):
                                                    h = np.tanh(xs_W[t] + h)

Only where there are as many trips as rows, and the product is taken in every trip: otherwise rows
would be multiplied for nothing. The array must not change in the loop, and the products must not
take much more memory than the array and the tapes of the loop do.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.dims import Size
from flatgrad.ir.ops import Apply, Block, For, Function, Op, Operand, Slot, Value
from flatgrad.primitives.index import SET_ITEM
from flatgrad.primitives.symbolic import Symbol, apply_function, rule_arguments
from flatgrad.transform.clone import with_blocks
from flatgrad.transform.dce import swept
from flatgrad.transform.tape import weight
from flatgrad.transform.trip_rows import Rows, TripRows, is_tape

SHARE = 4
"""The products take at most so many times the memory of the rows and tapes."""

Key = tuple[Value, tuple[Operand, ...], Value, bool]


def products_before_loops(fn: Function) -> Function:
    """The function with products of all rows of an array computed before the loop over them."""
    return replace(fn, body=swept(_Walk(fn).block(fn.body)))


class _Walk:
    """Visits the loops of a function, inner ones first."""

    def __init__(self, fn: Function) -> None:
        self.lengths = fn.lengths
        self.builder = Builder(Block(), fn.lengths)
        self.made: dict[Value, Op] = {}

    def block(self, block: Block) -> Block:
        ops: list[Op] = []
        for op in block.ops:
            op = with_blocks(op, self.block)
            new = [op]
            if isinstance(op, For):
                new = self.loop(op)
            for one in new:
                self.made.update(dict.fromkeys(one.results, one))
            ops += new
        return Block(block.params, ops, block.yields)

    def loop(self, op: For) -> list[Op]:
        """The products that leave a loop, and the loop."""
        inner = {value: one for one in op.body.ops for value in one.results}
        with self.builder.inside(Block()):
            trips = TripRows.of(op, self.made, inner, self.builder)
        if trips is None:
            return [op]
        room = SHARE * _written_to_tapes(op)
        found: dict[Key, Value] = {}
        before = Block()
        change = partial(self.read_instead, trips, inner, room, found, before)
        ops = [change(one) for one in op.body.ops]
        if not found:
            return [op]
        return [*before.ops, replace(op, body=Block(op.body.params, ops, op.body.yields))]

    def read_instead(
        self, trips: TripRows, inner: Mapping[Value, Op], room: int, found: dict[Key, Value],
        before: Block, op: Op,
    ) -> Op:  # fmt: skip
        """`op`, or the read of its result from the products of all rows."""
        factors = self.factors(op, trips)
        if factors is None:
            return op
        assert isinstance(op, Apply)
        row, matrix, is_left = factors
        rows = trips.read(row)
        if rows is None or rows.first is not None:
            return op
        if weight(op.result.type) > room + SHARE * weight(row.type):
            return op
        key = rows.array, rows.at, matrix, is_left
        if key not in found:
            found[key] = self.product(op, rows, trips, matrix, is_left, before)
        read = inner[row]
        assert isinstance(read, Apply)
        with self.builder.inside(Block()) as scratch, self.builder.at(op.origin, op.result.part):
            _, static = rule_arguments(read, self.builder)
            entries = static["index"] if isinstance(static["index"], tuple) else (static["index"],)
            apply_function(
                operator.getitem, (Symbol(found[key], self.builder), entries[-1]), {}, self.builder
            )
        (made,) = scratch.ops
        assert isinstance(made, Apply)
        return replace(made, results=op.results)

    def factors(self, op: Op, trips: TripRows) -> tuple[Value, Value, bool] | None:
        """The row, the matrix that it is multiplied with, and whether the row stands left."""
        if not isinstance(op, Apply) or op.primitive.function not in (operator.matmul, np.dot):
            return None
        left, right = op.operands
        if not isinstance(left, Value) or not isinstance(right, Value):
            return None
        if not self.is_checked(left.type.shape) or not self.is_checked(right.type.shape):
            return None
        if right.type.ndim == 2 and left.type.ndim in (1, 2) and trips.is_outside(right):
            return left, right, True
        if left.type.ndim == 2 and right.type.ndim == 1 and trips.is_outside(left):
            return right, left, False
        return None

    def is_checked(self, shape: tuple[Size, ...]) -> bool:
        """Whether lengths follow from those of the arguments, which are checked on entry.

        Then the product fits, even if no trip is made.
        """
        return all(isinstance(n, int) or n.atoms <= self.lengths.keys() for n in shape)

    def product(
        self, op: Apply, rows: Rows, trips: TripRows, matrix: Value, is_left: bool, before: Block
    ) -> Value:
        """The products of all rows, before the loop."""
        name = f"{rows.array.name}_{matrix.name}"
        if not (rows.array.kept and matrix.kept):
            name = f"{op.result.name or op.result.part or 'value'}_rows"
        with self.builder.inside(before), self.builder.at(op.origin, name):
            array = rows.symbol(trips.trips, self.builder)
            factor = Symbol(matrix, self.builder)
            made: Any = array @ (factor if is_left else factor.T)
        made.value.name, made.value.kept = name, True
        value = made.value
        assert isinstance(value, Value)
        return value


def _written_to_tapes(op: For) -> int:
    """About how many bytes a trip keeps on tapes."""
    total = 0
    for one in op.body.ops:
        if isinstance(one, Apply) and one.primitive.function is SET_ITEM:
            tape, slot = one.operands[0], one.arguments["value"]
            if is_tape(tape) and isinstance(slot, Slot):
                total += weight(one.operands[slot.index].type)
    return total
