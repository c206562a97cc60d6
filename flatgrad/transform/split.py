"""Splits a function in two: what can be computed early, and what must wait for some parameters.

    f_vjp(x, grad_y):                 f_vjp(x):                 pullback(y, grad_y):
        y = tanh(x)           ->          y = tanh(x)     +         grad_x = grad_y * (1 - y * y)
        grad_x = ...                      return y, y               return grad_x

What the late half reads of the early half are the *residuals*. It may run many times, and after its
caller changed the arguments: residuals are copies of what is not the early half's own.

A loop or branch that computes values and, in step with them, their tangents is in both halves. The
early one has it without the tangents; the late one goes through the values again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from flatgrad.analysis.dependence import dependent
from flatgrad.ir.dims import Dim
from flatgrad.ir.ops import Apply, Block, Function, Op, Slot, Value, blocks_of, operands_of
from flatgrad.ir.types import Array
from flatgrad.primitives.core import IDENTITY
from flatgrad.primitives.symbolic import DIM, SIZE
from flatgrad.transform.clone import all_ops, with_blocks
from flatgrad.transform.dce import swept

CHEAP = (np.transpose, np.broadcast_to, np.expand_dims, np.swapaxes, IDENTITY)
"""Views of all of an array: it is kept itself, not the view."""


def split(
    fn: Function, waiting: Sequence[Value], early_results: int, sweep: str | None = None
) -> tuple[Function, Function]:
    """The early half, without the parameters `waiting`, and the late half.

    The first `early_results` results are those of the early half, which returns the residuals after
    them. The late half takes the residuals, then `waiting`, and returns the other results. What
    belongs to `sweep` waits with it: that half runs once.
    """
    depends = dependent(fn.body, waiting, lengths=True)
    waits = {op for op in fn.body.ops if any(result in depends for result in op.results)}
    early_effects, late_effects = _effects(fn, waits)
    waits |= {op for op in fn.body.ops if op in late_effects}
    outputs = list(fn.results[:early_results])
    late = waits | _sunk(fn.body.ops, waits, {o for o in outputs if isinstance(o, Value)}, sweep)
    rest = fn.results[early_results:]
    late_ops = [op for op in fn.body.ops if op in late]
    late_body = swept(Block((), _without(late_ops, early_effects), rest))
    made = {value for op in late_body.ops for value in op.results}
    read = [value for op in late_body.ops for value in reads(op)]
    read += [item for item in rest if isinstance(item, Value)]
    residuals = [v for v in dict.fromkeys(read) if v not in made and v not in waiting]
    count = len(residuals)
    slots = tuple(Slot(early_results + k) for k in range(count))
    params = tuple(p for p in fn.params if p not in waiting)
    early_ops = [op for op in fn.body.ops if op not in waits or not isinstance(op, Apply)]
    early_ops = _without(early_ops, late_effects)
    early_body = swept(Block(params, early_ops, (*outputs, *residuals)))
    early = replace(fn, body=early_body, tree=(*fn.tree[:1], *slots))
    body = Block((*residuals, *waiting), late_body.ops, rest)
    tree = tuple(Slot(k) for k in range(len(rest))) if len(rest) != 1 else Slot(0)
    lengths = _measured(fn, body.params)
    return early, replace(fn, body=body, tree=tree, lengths=lengths, requirements=[], hidden=())


def _measured(fn: Function, params: Sequence[Value]) -> dict[str, tuple[Value, int]]:
    """Which axis of these parameters a length is, of those that are an axis of one."""
    return {
        size.name: (param, axis)
        for param in reversed(params) if isinstance(param.type, Array)
        for axis, size in enumerate(param.type.shape)
        if isinstance(size, Dim) and size.is_atom and size.name in fn.lengths
    }  # fmt: skip


def reads(op: Op) -> Iterator[Value]:
    """The values that an operation and the blocks in it read from outside it."""
    yield from (operand for operand in operands_of(op) if isinstance(operand, Value))
    for block in blocks_of(op):
        inside = set(block.params)
        for inner in block.ops:
            yield from (value for value in reads(inner) if value not in inside)
            inside.update(inner.results)
        yield from (v for v in block.yields if isinstance(v, Value) and v not in inside)


def _without(ops: Sequence[Op], unwanted: set[Op]) -> list[Op]:
    """Operations without some, which may stand inside their blocks."""

    def inside(block: Block) -> Block:
        return Block(block.params, _without(block.ops, unwanted), block.yields)

    return [with_blocks(op, inside) for op in ops if op not in unwanted]


def _effects(fn: Function, waits: set[Op]) -> tuple[set[Op], set[Op]]:
    """What only has an effect: in the early half, and in the sweep that waits."""
    found: set[Op] = {
        op for op in all_ops(fn.body)
        if isinstance(op, Apply) and op.primitive.effect and not op.results
    }  # fmt: skip
    sweeps = {op.origin.sweep for op in waits} - {"forward"}
    late = {op for op in found if op in waits or op.origin.sweep in sweeps}
    return found - late, late


def _sunk(
    ops: Sequence[Op], late: set[Op], outputs: set[Value], sweep: str | None
) -> set[Op]:
    """Early operations that only the late half reads, and that it can do at no cost."""
    early_reads = set(outputs)
    late_reads = {value for op in late for value in reads(op)}
    found: set[Op] = set()
    for op in reversed(ops):
        if op in late:
            continue
        moves = op.origin.sweep == sweep or _is_cheap(op, late_reads)
        if moves and early_reads.isdisjoint(op.results):
            found.add(op)
            late_reads.update(reads(op))
        else:
            early_reads.update(reads(op))
    return found


def _is_cheap(op: Op, late_reads: set[Value]) -> bool:
    if not isinstance(op, Apply) or late_reads.isdisjoint(op.results):
        return False
    if op.primitive.function in (DIM, SIZE):
        return any(operand in late_reads for operand in op.operands)
    return op.primitive.function in CHEAP
