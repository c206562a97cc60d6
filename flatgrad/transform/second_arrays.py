"""A part of an array that is computed from its neighbours goes to a second array.

    for _ in range(n):                          u_next = u.copy()
        u[1:-1] = u_loop(u[1:-1], u[2:])  ->    for _ in range(n):
                                                    u_next[1:-1] = u_loop(u[1:-1], u[2:])
                                                    u, u_next = u_next, u

A nest that reads an array cannot write into it, so its result would be an array of its own, and be
copied. Outside the part both arrays are the same: they are at first, and if no trip writes anything
else they remain so.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Apply, Block, For, Function, Op, Slot, Value, operands_of
from flatgrad.primitives.callee import Callee
from flatgrad.primitives.index import SET_ITEM
from flatgrad.primitives.symbolic import Symbol
from flatgrad.transform.building import call_into
from flatgrad.transform.clone import rewired_apply, with_blocks
from flatgrad.transform.dce import read_by


def with_second_arrays(fn: Function) -> Function:
    """The function with second arrays where loops need them."""
    return replace(fn, body=_block(fn.body))


def _block(block: Block) -> Block:
    ops: list[Op] = []
    for op in block.ops:
        op = with_blocks(op, _block)
        if isinstance(op, For):
            op = _doubled(op, ops)
        ops.append(op)
    return Block(block.params, ops, block.yields)


def _doubled(loop: For, before: list[Op]) -> For:
    """The loop with a second array for each that it updates so."""
    for k, param in enumerate(loop.body.params[1:]):
        write = _only_write(loop, param, k)
        if write is None or not _reads_itself(loop, write, param):
            continue
        init = loop.inits[k]
        assert isinstance(init, Value)
        name = f"{param.name or 'value'}_next"
        start, second = (Value(param.type, name, kept=True) for _ in range(2))
        builder = Builder(Block((), before))
        builder.origin = replace(loop.origin, span=None)
        call_into(start, np.copy, (Symbol(init, builder),), builder)
        moved = rewired_apply(write, {param: second})
        body = Block(
            (*loop.body.params, second),
            [moved if op is write else op for op in loop.body.ops],
            (*loop.body.yields, param),
        )
        loop = replace(
            loop, inits=(*loop.inits, start), body=body,
            results=(*loop.results, Value(param.type, name)),
        )  # fmt: skip
    return loop


def _only_write(loop: For, param: Value, k: int) -> Apply | None:
    """The write that makes the next trip's array, if it is one of the same part in every trip."""
    item = loop.body.yields[k + int(loop.exits)]
    write = next((op for op in loop.body.ops if item in op.results), None)
    if not isinstance(write, Apply) or write.primitive.function is not SET_ITEM:
        return None
    if not isinstance(write.arguments["value"], Slot):
        return None
    inside = {value for op in loop.body.ops for value in op.results} | {loop.body.params[0]}
    value = write.arguments["value"].index
    place = write.arguments["x"].index
    others = [o for j, o in enumerate(write.operands) if j not in (value, place)]
    if write.operands[place] is not param or any(
        one in inside or one in loop.body.params for one in others
    ):
        return None
    return write if loop.inits[k].type == param.type and param.type.ndim else None


def _reads_itself(loop: For, write: Apply, param: Value) -> bool:
    """Whether what is written is the result of a nest that reads the array, and of it alone."""
    value = write.operands[write.arguments["value"].index]
    makers = {result: op for op in loop.body.ops for result in op.results}
    call = makers.get(value) if isinstance(value, Value) else None
    if not isinstance(call, Apply) or not isinstance(call.primitive, Callee):
        return False
    readers = [op for op in loop.body.ops if value in read_by(op)]
    if not call.primitive.nest or readers != [write]:
        return False
    seen = [*operands_of(call)]
    for operand in seen:
        op = makers.get(operand) if isinstance(operand, Value) else None
        if operand is param:
            return True
        if isinstance(op, Apply) and op.primitive.alias is not None:
            seen += operands_of(op)
    return False
