"""Products of many matrices with many samples are done for some samples at a time.

    c = x[:, None, :] - means                    for block in range(blocks):
    y = np.einsum("kab,nkb->nka", F, c)              x_block = x[first:last]
    L = np.sum(np.exp(-y * y))                       c = x_block[:, None, :] - means
    grad_y = -2 * np.exp(-y * y) * y       ->        y = np.einsum("kab,nkb->nka", F, c)
    grad_F = np.einsum("nka,nkb->kab", grad_y, c)    L += np.sum(np.exp(-y * y))
                                                     grad_y = ...
                                                     grad_F += np.einsum(...)

Whatever has the axis of the samples is done in the loop, forward and backward sweep; what a block
leaves are sums over its samples, or rows of its own. So arrays with an entry for each sample and
each matrix are those of one block, which stay in the cache. `sample_axes.py` says where that is
right. In a block the samples come last (`sample_order.py`): loops over them are long, and
vectorise. How many samples a block has is found out while running. `sample_seeds.py` keeps adjoints
away from subnormal numbers.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.copies import twin
from flatgrad.ir.ops import Apply, Block, Const, For, Function, Op, Operand, Value
from flatgrad.primitives.core import ASTYPE
from flatgrad.primitives.einsum import EINSUM
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.primitives.symbolic import Symbol, apply_function, operand_of
from flatgrad.transform.batch_axes import Label
from flatgrad.transform.batch_groups import Batches
from flatgrad.transform.batch_loops import with_loops
from flatgrad.transform.block_bounds import Bounds, named
from flatgrad.transform.clone import with_blocks
from flatgrad.transform.dce import swept
from flatgrad.transform.fuse_spaces import Lengths
from flatgrad.transform.sample_axes import Samples, samples_of
from flatgrad.transform.sample_order import SamplesLast, last
from flatgrad.transform.sample_seeds import Seeds
from flatgrad.transform.strip_seeds import times
from flatgrad.transform.tape import dtype_keyword
from flatgrad.transform.wide_sums import wide_twin

WHOLE = slice(None)


def sample_blocks(fn: Function) -> Function:
    """The function with such loops."""
    lengths = Lengths(fn)

    def visit(block: Block) -> Block:
        ops = [with_blocks(op, visit) for op in block.ops]
        block = Block(block.params, ops, block.yields)
        if not any(isinstance(op, Apply) and op.primitive.function is EINSUM for op in ops):
            return block
        found = samples_of(block, lengths)
        return block if found is None else _Blocks(fn, found, lengths).written(block)

    return replace(fn, body=swept(visit(fn.body)))


class _Blocks:
    """Writes the loop over the blocks of samples."""

    def __init__(self, fn: Function, samples: Samples, lengths: Lengths) -> None:
        self.fn = fn
        self.samples = samples
        self.lengths = lengths
        self.builder = Builder(Block(), fn.lengths)
        self.order = SamplesLast(samples, self.builder)
        self.seeds = Seeds(samples)
        self.before, self.body = Block(), Block()
        self.carried: list[tuple[Operand, Value, Operand, Value]] = []
        self.wide: dict[Value, Value] = {}
        taken = {v.name for v in (*fn.params, *samples.maker)}
        self.bounds = Bounds(self.builder, taken)
        origins = [member.origin for member in samples.members]
        self.origin = next((one for one in origins if one.sweep == "forward"), origins[0])
        self.origin = replace(self.origin, span=None)

    def written(self, block: Block) -> Block:
        """The block with the loop where the last member stood."""
        with self.builder.at(self.origin):
            with self.builder.inside(self.before):
                count = self.measure()
            with self.builder.inside(self.body):
                self.take_parts()
            for member in self.samples.members:
                self.member(member)
        params = (self.bounds.index, *[param for _, param, _, _ in self.carried])
        yields = tuple([item for _, _, item, _ in self.carried])
        body = swept(Block(params, self.body.ops, yields))
        batches = Batches(body, self.lengths, front=True)
        part = self.order.moved[next(iter(self.samples.given))]
        batches.samples = set(batches.axes.labels(part)[-1:])
        batches.scaled = self.seeds.fits
        loop = For(
            Const(0), operand_of(count), Const(1), tuple([init for init, _, _, _ in self.carried]),
            with_loops(body, self.fn, batches),
            tuple([result for *_, result in self.carried]), origin=self.origin, reuses=True,
        )  # fmt: skip
        loops: list[Op] = [loop]
        if self.seeds.fits:
            with self.builder.at(self.origin):
                loops = self.seeds.attempts(loop, self.builder)
        with self.builder.at(self.origin), self.builder.inside(Block((), loops)):
            self.narrow()
        early = [_in_sweep(op, self.origin.sweep) for op in self.samples.early]
        return Block(
            block.params, [*early, *self.before.ops, *loops, *self.samples.late], block.yields
        )

    def make(self, function: Any, *args: Any) -> Any:
        return apply_function(function, args, {}, self.builder)

    def measure(self) -> Any:
        """How many blocks there are."""
        count = named(self.length(self.samples.label), "samples")
        most: list[Label] = max((self.rest(v) for v in self.samples.made), key=len)
        single = all(value.type.dtype == "float32" for value in self.samples.made)
        row: Any = reduce(operator.mul, [self.length(label) for label in most], 4 if single else 8)
        return self.bounds.measure(count, "samples", row)

    def rest(self, value: Value) -> list[Label]:
        """The axes of an array beside that of the samples."""
        return [x for x in self.samples.axes.labels(value) if x != self.samples.label]

    def length(self, label: Label) -> Any:
        """The length of an axis, of an array from outside."""
        value, axis = self.samples.outside[label]
        return self.make_length(value, axis)

    def make_length(self, value: Value, axis: int) -> Any:
        return Symbol(value, self.builder).shape[axis]

    def take_parts(self) -> None:
        """The part that a block has of each array from outside, its samples last."""
        self.first, _, self.last = self.bounds.take()
        for value, axis in self.samples.given.items():
            part = Symbol(value, self.builder)[self.rows(axis)]
            self.order.width = self.order.width or part.value.type.shape[axis]
            part.value.name = f"{value.name or 'value'}_block"
            if axis < value.type.ndim - 1:
                rank = value.type.ndim
                part = part.T if rank == 2 else np.transpose(part, last(axis, rank))
                part = self.make(np.ascontiguousarray, part)
                part.value.name = f"{value.name or 'value'}_block_T"
            part.value.kept, part.value.type = True, self.order.type_of(value)
            self.order.moved[value] = part.value

    def rows(self, axis: int) -> Any:
        """The index of the rows of a block."""
        index = (*[WHOLE] * axis, slice(self.first, self.last))
        return index if len(index) > 1 else index[0]

    def member(self, member: Apply) -> None:
        """One operation for the samples of a block, and what is left of it."""
        value = member.result
        with self.builder.inside(self.body):
            made = self.order.done(member)
        if value in self.samples.totals:
            self.accumulate(value, made)
        elif value in self.samples.kept:
            self.keep(value, made)

    def narrow(self) -> None:
        """Sums of float32 that the blocks added up in float64, in their own dtype."""
        for value, total in self.wide.items():
            given = Symbol(total, self.builder), np.float32
            apply_function(ASTYPE, given, {}, self.builder)
            made = self.builder.block.ops[-1]
            assert isinstance(made, Apply)
            self.builder.block.ops[-1] = replace(made, results=(value,))

    def widened(self, value: Value) -> Value:
        """The sum of a float32 in float64; any other as it is."""
        if value.type.dtype != "float32":
            return value
        self.wide[value] = total = wide_twin(value)
        self.samples.totals.add(total)
        self.seeds.degree[total] = self.seeds.of(value)
        return total

    def variable(self, init: Any, value: Value) -> Value:
        """What the loop carries for a result."""
        start = operand_of(init)
        if isinstance(start, Value):
            start.name, start.kept = value.name, True
        param = twin(value)
        param.kept = True
        self.carried.append((start, param, start, value))
        return param

    def empty(self, function: Any, value: Value, **keywords: Any) -> Any:
        with self.builder.inside(self.before):
            lengths = [
                1 if label is None else self.length(label)
                for label in self.samples.axes.of(value)
            ]
            return apply_function(function, (tuple(lengths),), keywords, self.builder)

    def accumulate(self, value: Value, part: Value) -> None:
        """Add what a block has to a sum."""
        init = self.empty(np.zeros, value) if value.type.ndim else 0.0
        value = self.widened(value)
        param = self.variable(init, value)
        with self.builder.inside(self.body):
            if value.type.ndim > 1:
                done = self.make(ADD_ITEM, *self.symbols(param, part), WHOLE)
            else:
                done = self.make(operator.add, *self.symbols(param, part))
        self.end(done.value, value)

    def keep(self, value: Value, part: Value) -> None:
        """Put what a block has into its rows of an array."""
        init = self.empty(np.empty, value, **dtype_keyword(value.type))
        param = self.variable(init, value)
        axis = self.samples.axes.of(value).index(self.samples.label)
        with self.builder.inside(self.body):
            given, made = self.symbols(param, part)
            if self.seeds.fits and self.seeds.of(value) == 1:
                made = times(made, Symbol(self.seeds.inverse, self.builder))
            if axis < value.type.ndim - 1:
                made = made.T  # of two axes at most
            done = self.make(SET_ITEM, given, made, self.rows(axis))
        self.end(done.value, value)

    def symbols(self, *values: Value) -> list[Symbol]:
        return [Symbol(value, self.builder) for value in values]

    def end(self, done: Value, value: Value) -> None:
        done.name, done.kept, done.type = value.name, True, value.type
        init, param, _, result = self.carried[-1]
        self.carried[-1] = init, param, done, result


def _in_sweep(op: Op, sweep: str) -> Op:
    """What is computed before a loop stands in its sweep."""
    if isinstance(op, Apply) and op.origin.sweep == "backward" and sweep == "forward":
        return replace(op, origin=replace(op.origin, sweep=sweep))
    return op
