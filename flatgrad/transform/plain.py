"""Leaves out what only a backward sweep asks for, once it has been made.

    %h_1 = adjoint(%h, [])                                ->     %h in place of %h_1
    for %i in (0, %n, 1) carrying (...) checkpoint sqrt   ->     for %i in (0, %n, 1) carrying (...)
"""

from __future__ import annotations

from dataclasses import replace

from flatgrad.ir.copies import Mapping
from flatgrad.ir.ops import Apply, Block, For, Function, Op, Operand, Value
from flatgrad.transform.clone import all_ops, picked, rewired_outside, with_blocks


def released(block: Block, groups: set[object], known: Mapping) -> Block:
    """The block without the hooks in `groups`; `known` gets what stands for their results."""
    if not groups:
        return block
    ops: list[Op] = []
    for op in block.ops:
        if isinstance(op, Apply) and op.primitive.hook in groups:
            first = picked(op.operands[0], known)
            known[op.result] = first
            _take_name(first, op.result)
        else:
            op = rewired_outside(op, known)
            ops.append(with_blocks(op, lambda block: released(block, groups, known)))
    return Block(block.params, ops, tuple([picked(item, known) for item in block.yields]))


def _take_name(first: Operand, hooked: Value) -> None:
    if isinstance(first, Value) and hooked.kept and not first.kept:
        first.name, first.kept = hooked.name, True


def without_marks(fn: Function) -> Function:
    """The function with ordinary loops and without hooks."""
    applied = [op for op in all_ops(fn.body) if isinstance(op, Apply)]
    groups = {op.primitive.hook for op in applied if op.primitive.hook is not None}
    return replace(fn, body=_plain(released(fn.body, groups, {})))


def _plain(block: Block) -> Block:
    ops: list[Op] = []
    for op in block.ops:
        op = with_blocks(op, _plain)
        if isinstance(op, For) and op.checkpoint is not None:
            op = replace(op, checkpoint=None, snapshots=None)
        ops.append(op)
    return Block(block.params, ops, block.yields)
