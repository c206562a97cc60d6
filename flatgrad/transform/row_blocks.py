"""A product with a matrix and one with its transpose are done for some rows at a time.

    z = X @ w                            for block in range(blocks):
    L = np.sum(np.log1p(np.exp(z)))          X_block = X[first:last]
    grad_z = 1 / (1 + np.exp(-z))    ->      z = X_block @ w
    grad_w = X.T @ grad_z                    L += np.sum(np.log1p(np.exp(z)))
                                             grad_z = 1 / (1 + np.exp(-z))
                                             grad_w += X_block.T @ grad_z

So `X`, which both products read from end to end, is read from memory once: a block is still in the
cache when its transpose is needed. It is right where all that is done with the rows between the two
is done for each row by itself, and what is left are sums over the rows. A sum must not be read by
what is done for the rows; no array with an entry for each row may be handed out.
"""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.copies import twin
from flatgrad.ir.dims import opaque
from flatgrad.ir.ops import Apply, Block, Const, For, Function, Op, Operand, Slot, Value, all_reads
from flatgrad.ir.types import Array
from flatgrad.primitives.registry import PRIMITIVES
from flatgrad.primitives.symbolic import DIM, SIZE, Symbol, apply_function, operand_of, symbol_of
from flatgrad.transform.block_bounds import Bounds, named
from flatgrad.transform.clone import picked, with_blocks
from flatgrad.transform.dce import read_by, swept
from flatgrad.transform.fuse_spaces import Lengths, data_operands, is_map

FLOATS = ("float64", "float32")


def row_blocks(fn: Function) -> Function:
    """The function with such loops."""
    lengths = Lengths(fn)
    uses = Counter(all_reads(fn.body))

    def visit(block: Block) -> Block:
        ops = [with_blocks(op, visit) for op in block.ops]
        block = Block(block.params, ops, block.yields)
        for op in ops:
            if isinstance(op, Apply) and _is_product(op):
                matrix = op.operands[0]
                assert isinstance(matrix, Value)
                rows = _Rows(matrix, block, lengths, uses)
                if rows.found():
                    return _Loop(fn, rows).written(block)
        return block

    return replace(fn, body=swept(visit(fn.body)))


def _is_product(op: Apply) -> bool:
    """Whether it is `X @ w`, with an element for each row of `X`."""
    if op.primitive.function not in (operator.matmul, np.matmul) or len(op.operands) != 2:
        return False
    kinds = [operand.type for operand in op.operands]
    plain = all(isinstance(one, Value) for one in op.operands)
    plain = plain and all(kind.dtype == op.result.type.dtype for kind in kinds)
    return (
        plain and op.result.type.dtype in FLOATS and [kind.ndim for kind in kinds] == [2, 1]
        and 1 not in kinds[0].shape and not opaque(kinds[0].shape[0])
    )  # fmt: skip


@dataclass
class _Rows:
    """What is done for each row of `matrix` by itself, in a block.

    `members` in their order make `made`, which have an element for each row, and `totals`, sums
    over them. `given` are the arrays from outside with an element for each row, `measured` the
    operations that only ask how many rows there are.
    """

    matrix: Value
    block: Block
    lengths: Lengths
    uses: Counter[Operand]
    members: list[Apply] = field(default_factory=list)
    made: set[Operand] = field(default_factory=set)
    totals: set[Operand] = field(default_factory=set)
    given: dict[Value, None] = field(default_factory=dict)
    measured: list[Apply] = field(default_factory=list)

    def found(self) -> bool:
        """Whether it all fits, and the transpose is read as well."""
        self.makers = {
            op.result: op for op in self.block.ops if isinstance(op, Apply) and len(op.results) == 1
        }
        self.counted = self.matrix.type.shape[0]
        chosen = {op for op in self.makers.values() if self.joins(op)}
        self.gather(chosen)
        self.members = [op for op in self.block.ops if isinstance(op, Apply) and op in chosen]
        for op in self.members:
            if op.result in self.made and not _is_product(op):
                self.given |= {
                    value: None for value in data_operands(op)
                    if isinstance(value, Value) and self.per_row(value) and value not in self.made
                }  # fmt: skip
        back = any(op.result in self.totals and self.is_back(op) for op in self.members)
        return back and self.is_closed()

    def joins(self, op: Apply) -> bool:
        """Whether an operation works on rows that there are, and on each by itself."""
        if _is_product(op) and not self.is_back(op):
            fits = op.operands[0] is self.matrix and op.operands[1] not in self.made
            if fits:
                self.made.add(op.result)
            return fits
        if not any(operand in self.made for operand in data_operands(op)):
            return False
        if self.is_back(op) or self.is_sum(op):
            self.totals.add(op.result)
            return True
        if is_map(op) and self.is_by_row(op):
            self.made.add(op.result)
            return True
        return False

    def is_by_row(self, op: Apply) -> bool:
        """Whether the result and all arrays that it is computed of have an element per row."""
        arrays = [one for one in data_operands(op) if one.type.ndim and one.type.shape != (1,)]
        return self.per_row(op.result) and all(self.per_row(one) for one in arrays)

    def per_row(self, value: Operand) -> bool:
        kind = value.type
        return kind.ndim == 1 and kind.shape != (1,) and (
            value in self.made or self.lengths.equal(kind.shape[0], self.counted)
        )  # fmt: skip

    def is_sum(self, op: Apply) -> bool:
        """Whether it is the sum or mean of an element for each row."""
        return (
            op.primitive.function in (np.sum, np.mean) and op.operands[0] in self.made
            and not op.arguments.get("keepdims") and not op.result.type.ndim
            and op.result.type.dtype == op.operands[0].type.dtype
            and op.result.type.dtype in FLOATS
        )  # fmt: skip

    def is_back(self, op: Apply) -> bool:
        """Whether it is `X.T @ r`, of the rows' own `r`."""
        if op.primitive.function not in (operator.matmul, np.matmul):
            return False
        one, other = op.operands
        turned = self.makers.get(one) if isinstance(one, Value) else None
        return (
            turned is not None and turned.primitive.function is np.transpose
            and turned.operands == (self.matrix,) and other in self.made
            and turned.arguments.get("axes") is None
            and other.type.ndim == 1 and other.type.dtype == op.result.type.dtype
        )  # fmt: skip

    def gather(self, chosen: set[Apply]) -> None:
        """Take in what is computed from row to row before, and is read here alone."""
        for op in reversed([*self.makers.values()]):
            if op in chosen or not is_map(op) or not self.is_by_row(op):
                continue
            maps = [one for one in chosen if not _is_product(one)]
            readers = [one for one in maps for item in data_operands(one) if item is op.result]
            if len(readers) == self.uses[op.result]:
                chosen.add(op)
                self.made.add(op.result)

    def is_closed(self) -> bool:
        """Whether nobody else reads an element of a row, and no row what is made of a sum."""
        inside = set(self.members)
        late = set(self.totals)
        for op in self.block.ops:
            if late & {*read_by(op)}:
                if op in inside:
                    return False
                late |= {*op.results}
            if op in inside or not any(value in self.made for value in read_by(op)):
                continue
            if not isinstance(op, Apply) or op.primitive.function not in (DIM, SIZE):
                return False
            self.measured.append(op)
        return not any(item in self.made for item in self.block.yields)


class _Loop:
    """Writes the loop over blocks of rows."""

    def __init__(self, fn: Function, rows: _Rows) -> None:
        self.rows = rows
        self.builder = Builder(Block(), fn.lengths)
        self.before, self.body, self.after = Block(), Block(), Block()
        self.moved: dict[Value, Value] = {}
        taken = {param.name for param in fn.params} | {
            value.name for op in rows.block.ops for value in op.results
        }
        self.bounds = Bounds(self.builder, taken)
        self.carried: list[tuple[Operand, Value, Operand, Value]] = []
        self.origin = replace(rows.members[0].origin, span=None)

    def make(self, function: Any, *args: Any, **attributes: Any) -> Any:
        return apply_function(function, args, attributes, self.builder)

    def written(self, block: Block) -> Block:
        """The block with the loop; what needs its sums comes after it."""
        with self.builder.at(self.origin):
            with self.builder.inside(self.before):
                matrix = symbol_of(self.rows.matrix, self.builder)
                count = named(matrix.shape[0], "rows")
                item = np.dtype(self.rows.matrix.type.dtype).itemsize
                row = self.make(operator.mul, item, matrix.shape[1])
                blocks = self.bounds.measure(count, "rows", row)
            with self.builder.inside(self.body):
                self.take_parts()
            for member in self.rows.members:
                self.member(member)
        params = (self.bounds.index, *[param for _, param, _, _ in self.carried])
        yields = tuple([item for _, _, item, _ in self.carried])
        loop = For(
            Const(0), operand_of(blocks), Const(1), tuple([init for init, *_ in self.carried]),
            Block(params, self.body.ops, yields), tuple([result for *_, result in self.carried]),
            origin=self.origin,
        )  # fmt: skip
        early, late = self.others()
        ops = [*early, *self.before.ops, loop, *self.after.ops, *late]
        return Block(block.params, ops, block.yields)

    def others(self) -> tuple[list[Op], list[Op]]:
        """The operations that are no members: those that need no sum, and those that do."""
        members, measured = set(self.rows.members), set(self.rows.measured)
        needing = set(self.rows.totals)
        early: list[Op] = []
        late: list[Op] = []
        for op in self.rows.block.ops:
            if op in members:
                continue
            if op in measured:
                assert isinstance(op, Apply)
                arguments = {"x": Slot(0), "axis": 0}
                op = replace(
                    op, primitive=PRIMITIVES[DIM], operands=(self.rows.matrix,), arguments=arguments
                )
            if needing & {*read_by(op)} or (late and _has_effect(op)):
                needing |= {*op.results}
                late.append(op)
            elif isinstance(op, Apply) and op.origin.sweep == "backward":
                early.append(replace(op, origin=replace(op.origin, sweep=self.origin.sweep)))
            else:
                early.append(op)
        return early, late

    def take_parts(self) -> None:
        """The rows of a block, of the matrix and of each array from outside."""
        first, self.width, last = self.bounds.take()
        length: Any = None
        for value in (self.rows.matrix, *self.rows.given):
            part = Symbol(value, self.builder)[first:last].value
            length = part.type.shape[0] if length is None else length
            part.name, part.kept = f"{value.name or 'value'}_block", True
            part.type = Array(part.type.dtype, (length, *part.type.shape[1:]))
            self.moved[value] = part
        self.length = length

    def member(self, member: Apply) -> None:
        """One operation for the rows of a block."""
        value = member.result
        with self.builder.inside(self.body):
            if self.rows.is_back(member):
                turned = Symbol(self.moved[self.rows.matrix], self.builder).T
                self.add_up(value, turned @ self.own(member.operands[1]))
            elif value in self.rows.totals:
                self.add_up(value, self.make(np.sum, self.own(member.operands[0])))
                if member.primitive.function is np.mean:
                    self.divided(value, member)
            else:
                self.moved[value] = self.copied(member)

    def own(self, operand: Operand) -> Any:
        return symbol_of(picked(operand, self.moved), self.builder)

    def copied(self, member: Apply) -> Value:
        """The same operation on the rows of a block."""
        made = twin(member.result)
        made.type = Array(made.type.dtype, (self.length,))
        operands = [picked(operand, self.moved) for operand in member.operands]
        if _is_product(member):
            operands[1] = member.operands[1]  # also where it has as many elements
        if member.primitive.function is np.broadcast_to:
            slots = [item for item in (member.arguments["shape"],) if isinstance(item, tuple)]
            for slot in [one for item in slots for one in item if isinstance(one, Slot)]:
                operands[slot.index] = operand_of(self.width)
        self.body.ops.append(replace(member, operands=tuple(operands), results=(made,)))
        return made

    def add_up(self, value: Value, part: Any) -> None:
        """Add what a block has to a sum."""
        with self.builder.inside(self.before):
            if value.type.ndim:
                like = symbol_of(self.rows.matrix, self.builder).shape[1]
                dtype = {} if value.type.dtype == "float64" else {"dtype": np.float32}
                init = self.make(np.zeros, like, **dtype)
            else:
                init = 0.0 if value.type.dtype == "float64" else self.make(np.float32, 0.0)
        start = operand_of(init)
        if isinstance(start, Value):
            start.name, start.kept = value.name, True
        param = twin(value)
        param.kept = True
        part.value.name = f"{value.name or 'value'}_part"
        done = self.make(operator.add, Symbol(param, self.builder), part).value
        done.name, done.kept, done.type = value.name, True, value.type
        self.carried.append((start, param, done, value))

    def divided(self, value: Value, member: Apply) -> None:
        """A mean is a sum that is divided after the loop."""
        init, param, done, _ = self.carried[-1]
        total = twin(value)
        total.name = f"{value.name or 'value'}_sum"
        for one in (param, done):
            one.name = total.name  # type: ignore[union-attr]
        self.carried[-1] = init, param, done, total
        with self.builder.inside(self.after):
            made = self.make(operator.truediv, Symbol(total, self.builder), self.bounds.count)
            op = self.after.ops[-1]
            assert isinstance(op, Apply)
            assert made.value.type.dtype == value.type.dtype
            self.after.ops[-1] = replace(op, results=(value,), origin=member.origin)


def _has_effect(op: Op) -> bool:
    return not isinstance(op, Apply) or bool(op.primitive.effect) or not op.results
