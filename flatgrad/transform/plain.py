"""Leaves out what only a backward sweep asks for, before code is written.

    for %i in (0, %n, 1) carrying (...) checkpoint sqrt {     ->     for %i in (0, %n, 1) carrying
"""

from __future__ import annotations

from dataclasses import replace

from flatgrad.ir.ops import Block, For, Function, Op
from flatgrad.transform.clone import with_blocks


def without_marks(fn: Function) -> Function:
    """The function with ordinary loops."""
    return replace(fn, body=_plain(fn.body))


def _plain(block: Block) -> Block:
    ops: list[Op] = []
    for op in block.ops:
        op = with_blocks(op, _plain)
        if isinstance(op, For) and op.checkpoint is not None:
            op = replace(op, checkpoint=None, snapshots=None)
        ops.append(op)
    return Block(block.params, ops, block.yields)
