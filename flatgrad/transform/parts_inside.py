"""Nests take the parts of arrays that they read themselves.

    u_loop(u[1:-1], u[:-2], u[2:])      ->      u_loop(u)
                                                    u_item = u[1:-1]; u_item_1 = u[:-2]; ...

A compiled call that is handed a view counts who refers to its memory, which for a hundred elements
costs more than the loop over them. Only slices are moved, which are right for any length: an index
is checked where it stands, and a nest checks none.
"""

from __future__ import annotations

import operator
from dataclasses import replace

from flatgrad.ir.dims import opaque
from flatgrad.ir.ops import Apply, Block, Const, Function, Op, Operand, Value, size_of
from flatgrad.primitives.callee import Callee, call_of, function_of
from flatgrad.transform.clone import rewired_apply, with_blocks


def take_parts_inside(fn: Function) -> Function:
    """The function with such slices in the nests."""
    return replace(fn, body=_block(fn.body))


def _block(block: Block) -> Block:
    ops: list[Op] = []
    makers: dict[Operand, Apply] = {}
    roots: dict[Operand, Operand] = {}
    for op in block.ops:
        if not isinstance(op, Apply):
            op = with_blocks(op, _block)
            makers.clear()  # what is in there may change any array
        elif isinstance(op.primitive, Callee) and op.primitive.nest:
            op = _with_parts(op, {o: makers[o] for o in op.operands if o in makers})
        elif op.primitive.in_place is not None:
            base = op.operands[op.arguments[op.primitive.in_place].index]
            root = roots[op.results[0]] = roots.get(base, base)
            makers = {
                part: maker for part, maker in makers.items()
                if roots.get(maker.operands[0], maker.operands[0]) is not root
            }  # fmt: skip
        elif _is_part(op):
            makers[op.result] = op
        ops.append(op)
    return Block(block.params, ops, block.yields)


def _is_part(op: Apply) -> bool:
    """Whether this is `x[a:b]`, with bounds that are known or lengths of the program."""
    if op.primitive.function is not operator.getitem or not isinstance(op.operands[0], Value):
        return False
    index = op.arguments["index"]
    entries = index if isinstance(index, tuple) else (index,)
    if not all(isinstance(entry, slice) for entry in entries):
        return False
    return all(
        isinstance(bound, Const) or (size_of(bound) is not None and not opaque(size_of(bound) or 0))
        for bound in op.operands[1:]
    )


def _with_parts(call: Apply, parts: dict[Operand, Apply]) -> Apply:
    """The call of a nest that takes these parts of its operands itself."""
    if not parts:
        return call
    fn = call.primitive.called
    sides = list(zip(call.operands, fn.params, strict=True))
    given = {operand: own for operand, own in sides if operand not in parts}
    params: dict[Value, Operand] = {}
    ops: list[Op] = []
    for operand, own in sides:
        maker = parts.get(operand)
        if maker is None:
            params[own] = operand
            continue
        for needed in maker.operands:
            if isinstance(needed, Value):
                made = given.setdefault(needed, Value(needed.type, needed.name, kept=True))
                params[made] = needed
        origin = replace(maker.origin, sweep=call.origin.sweep)
        ops.append(replace(rewired_apply(maker, given), results=(own,), origin=origin))  # type: ignore[arg-type]
    body = Block(tuple(params), [*ops, *fn.body.ops], fn.body.yields)
    callee = function_of(replace(fn, body=body), nest=True)
    return call_of(callee, tuple(params.values()), call.results, call.origin)
