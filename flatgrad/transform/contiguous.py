"""Parts of arrays whose elements are not next to each other, copied for nests that do much.

    c, h = c_loop(z[:, :H], z[:, H:], c)
        ->      c, h = c_loop(np.ascontiguousarray(z[:, :H]), np.ascontiguousarray(z[:, H:]), c)

Of such an array a compiled loop takes one element after the other, and so computes one exponential
after the other. Where a nest only adds and multiplies, the copy would cost what it saves.
"""

from __future__ import annotations

import operator
from dataclasses import replace

from flatgrad.ir.copies import twin
from flatgrad.ir.ops import Apply, Block, Function, Op, Operand, Slot, Value
from flatgrad.primitives.callee import Callee
from flatgrad.transform.clone import all_ops, rewired_apply, with_blocks
from flatgrad.transform.fuse_spaces import is_heavy
from flatgrad.transform.layouts import contiguous

WHOLE = slice(None)


def copy_strided_parts(fn: Function) -> Function:
    """The function with copies of such parts before nests that call elementary functions."""
    return replace(fn, body=_block(fn.body, set()))


def _block(block: Block, strided: set[Value]) -> Block:
    strided = set(strided)
    ops: list[Op] = []
    copies: dict[Value, Operand] = {}
    for op in block.ops:
        if not isinstance(op, Apply):
            op = with_blocks(op, lambda inner: _block(inner, strided))
        elif _is_cut(op):
            strided.add(op.result)
        elif _computes_much(op):
            for operand in dict.fromkeys(op.operands):
                if isinstance(operand, Value) and operand in strided - copies.keys():
                    copies[operand] = _copied(operand, op, ops)
            op = rewired_apply(op, copies)
        ops.append(op)
    return Block(block.params, ops, block.yields)


def _is_cut(op: Apply) -> bool:
    """Whether the result is a part of an array that leaves gaps: `z[:, :H]`, but not `z[1:]`."""
    if op.primitive.function is not operator.getitem or op.result.type.ndim < 2:
        return False
    index = op.arguments["index"]
    entries = list(index) if isinstance(index, tuple) else [index]
    if any(entry is None or entry is Ellipsis for entry in entries):
        return False
    slices = [entry for entry in entries if isinstance(entry, slice)]
    numbers = len(entries) - len(slices)
    plain = all(isinstance(entry, int | Slot) for entry in entries[:numbers])
    if not plain or not all(isinstance(entry, slice) for entry in entries[numbers:]):
        return False
    return any(entry != WHOLE for entry in slices[1:]) or any(entry.step for entry in slices)


def _computes_much(op: Apply) -> bool:
    """Whether this calls a nest with an elementary function in it."""
    primitive = op.primitive
    if not isinstance(primitive, Callee) or not primitive.nest or primitive.body is None:
        return False
    inside = all_ops(primitive.body.body)
    return any(isinstance(one, Apply) and is_heavy(one) for one in inside)


def _copied(value: Value, op: Apply, ops: list[Op]) -> Value:
    made = twin(value)
    made.kept = False
    ops.append(contiguous(value, made, op.origin))
    return made
