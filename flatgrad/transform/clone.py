"""Copies of operations that read other operands, blocks included.

    rewired(y = f(x), {x: a})     ->    y = f(a)          # the same results
    cloned(y = f(x), {x: a})      ->    y' = f(a)         # new results, entered into the mapping
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from flatgrad.ir.copies import twin
from flatgrad.ir.ops import (
    Apply,
    Block,
    For,
    If,
    Op,
    Operand,
    Value,
    While,
    blocks_of,
)

Mapped = Mapping[Value, Operand]


def picked(operand: Operand, mapping: Mapped) -> Operand:
    """The replacement of an operand."""
    return mapping.get(operand, operand) if isinstance(operand, Value) else operand


def rewired(op: Op, mapping: Mapped) -> Op:
    """`op` reading the replacements, also inside its blocks; its results stay."""
    if not mapping:
        return op
    return with_blocks(rewired_outside(op, mapping), lambda block: rewired_block(block, mapping))


def rewired_apply(op: Apply, mapping: Mapped) -> Apply:
    """A call reading the replacements."""
    if not any(operand in mapping for operand in op.operands):
        return op
    return replace(op, operands=tuple([picked(operand, mapping) for operand in op.operands]))


def rewired_outside(op: Op, mapping: Mapped) -> Op:
    """`op` itself reading the replacements, its blocks as they are."""

    def swap(operands: tuple[Operand, ...]) -> tuple[Operand, ...]:
        return tuple([picked(operand, mapping) for operand in operands])

    match op:
        case Apply():
            return rewired_apply(op, mapping)
        case If():
            return replace(op, condition=picked(op.condition, mapping))
        case For():
            start, stop, step = swap((op.start, op.stop, op.step))
            count = None if op.snapshots is None else picked(op.snapshots, mapping)
            return replace(
                op, start=start, stop=stop, step=step, inits=swap(op.inits), snapshots=count
            )
        case While():
            return replace(op, inits=swap(op.inits))


def with_blocks(op: Op, change: Callable[[Block], Block]) -> Op:
    """`op` with each of its blocks changed."""
    match op:
        case Apply():
            return op
        case If():
            return replace(op, then=change(op.then), orelse=change(op.orelse))
        case For():
            return replace(op, body=change(op.body))
        case While():
            return replace(op, condition=change(op.condition), body=change(op.body))


def rewired_block(block: Block, mapping: Mapped) -> Block:
    """The block with its operations and yields reading the replacements."""
    ops = [rewired(op, mapping) for op in block.ops]
    return Block(block.params, ops, tuple([picked(item, mapping) for item in block.yields]))


def cloned(op: Apply, mapping: dict[Value, Operand], sweep: str) -> Apply:
    """A copy of `op` with new results, which replace the old ones in `mapping`."""
    operands = tuple([picked(operand, mapping) for operand in op.operands])
    results = tuple([twin(value) for value in op.results])
    mapping.update(zip(op.results, results, strict=True))
    return replace(op, operands=operands, results=results, origin=replace(op.origin, sweep=sweep))


def copied_block(
    block: Block, mapping: dict[Value, Operand], new: Callable[[Value], Value]
) -> Block:
    """A copy of a block and all blocks in it, `new(value)` in the place of each value in it."""

    def made(values: tuple[Value, ...]) -> tuple[Value, ...]:
        found = tuple([new(value) for value in values])
        mapping.update(zip(values, found, strict=True))
        return found

    params = made(block.params)
    ops: list[Op] = []
    for op in block.ops:
        read = rewired_outside(op, mapping)
        inner = with_blocks(read, lambda nested: copied_block(nested, mapping, new))
        ops.append(replace(inner, results=made(op.results)))
    return Block(params, ops, tuple([picked(item, mapping) for item in block.yields]))


def all_ops(block: Block) -> Iterator[Op]:
    """Every operation in a block and in the blocks inside it."""
    for op in block.ops:
        yield op
        for inner in blocks_of(op):
            yield from all_ops(inner)


def defined_in(block: Block) -> list[Value]:
    """The values defined on the level of a block itself, in order."""
    return [*block.params, *[value for op in block.ops for value in op.results]]
