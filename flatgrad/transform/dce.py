"""Removes operations whose results nobody reads.

    a = x * x;  b = x + 1;  return b        ->        b = x + 1;  return b
"""

from __future__ import annotations

from dataclasses import replace

from flatgrad.ir.ops import Apply, Block, Function, Op, Operand, Value, blocks_of, operands_of


def eliminate_dead(fn: Function) -> Function:
    """The function without what neither its results nor an effect needs."""
    return replace(fn, body=_swept(fn.body, set()))


def _swept(block: Block, outside: set[Value]) -> Block:
    live = outside | _values(block.yields)
    kept: list[Op] = []
    for op in reversed(block.ops):
        effect = isinstance(op, Apply) and op.primitive.effect
        if not (effect or any(result in live for result in op.results)):
            continue
        live |= _values(tuple(operands_of(op)))
        for inner in blocks_of(op):
            live |= _reads(inner)
        kept.append(op)
    return Block(block.params, kept[::-1], block.yields)


def _reads(block: Block) -> set[Value]:
    found = _values(block.yields)
    for op in block.ops:
        found |= _values(tuple(operands_of(op)))
        for inner in blocks_of(op):
            found |= _reads(inner)
    return found


def _values(operands: tuple[Operand, ...]) -> set[Value]:
    return {operand for operand in operands if isinstance(operand, Value)}
