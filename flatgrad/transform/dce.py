"""Removes operations whose results nobody reads, and what loops and branches carry for nobody.

    a = x * x;  b = x + 1;  return b        ->        b = x + 1;  return b
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from flatgrad.analysis.activity import carried_params, carried_yields
from flatgrad.ir.ops import (
    Apply,
    Block,
    For,
    Function,
    If,
    Op,
    Operand,
    Value,
    While,
    blocks_of,
    operands_of,
)

Item = TypeVar("Item")


def eliminate_dead(fn: Function) -> Function:
    """The function without what neither its results nor an effect needs."""
    return replace(fn, body=swept(fn.body))


def swept(block: Block) -> Block:
    """The block without what neither its yields nor an effect needs."""
    live = _values(block.yields)
    kept: list[Op] = []
    for op in reversed(block.ops):
        if not (has_effect(op) or any(result in live for result in op.results)):
            continue
        op = _narrowed(op, live)
        live |= read_by(op)
        kept.append(op)
    return Block(block.params, kept[::-1], block.yields)


def read_by(op: Op) -> set[Value]:
    """What an operation reads, in the blocks that it holds as well."""
    found: set[Value] = set()
    _add_read(op, found)
    return found


def has_effect(op: Op) -> bool:
    """Whether an operation does more than to compute; a `while` may at least not end."""
    if isinstance(op, Apply):
        return bool(op.primitive.effect)
    return any(has_effect(nested) for inner in blocks_of(op) for nested in inner.ops)


def _narrowed(op: Op, live: set[Value]) -> Op:
    """`op` without results and carried variables that nobody needs, its blocks swept."""
    match op:
        case Apply():
            return op
        case If():
            keep = [k for k, result in enumerate(op.results) if result in live]
            then, orelse = (
                swept(Block(inner.params, inner.ops, _chosen(inner.yields, keep)))
                for inner in (op.then, op.orelse)
            )
            return replace(op, then=then, orelse=orelse, results=_chosen(op.results, keep))
    return _narrowed_loop(op, live)


def _narrowed_loop(op: For | While, live: set[Value]) -> Op:
    """A carried variable stays if its result is read, or some trip needs it for one that stays."""
    params, yields = carried_params(op), carried_yields(op)
    flag = op.body.yields[:1] if op.exits else ()
    keep = [k for k, result in enumerate(op.results) if result in live]
    if isinstance(op, While):
        test = reads(swept(op.condition))
        keep = [k for k, param in enumerate(op.condition.params) if k in keep or param in test]
    while True:
        body = swept(Block(op.body.params, op.body.ops, (*flag, *_chosen(yields, keep))))
        needed = reads(body)
        wider = [k for k, param in enumerate(params) if k in keep or param in needed]
        if wider == keep:
            break
        keep = wider
    body.params = (*op.body.params[: len(op.body.params) - len(params)], *_chosen(params, keep))
    inits, results = _chosen(op.inits, keep), _chosen(op.results, keep)
    if isinstance(op, For):
        return replace(op, inits=inits, body=body, results=results)
    condition = swept(op.condition)
    condition.params = _chosen(condition.params, keep)
    return replace(op, inits=inits, condition=condition, body=body, results=results)


def _chosen(items: Sequence[Item], keep: list[int]) -> tuple[Item, ...]:
    return tuple([items[k] for k in keep])


def reads(block: Block) -> set[Value]:
    """The values that a block reads, itself or in the blocks inside it."""
    found: set[Value] = set()
    _add_reads(block, found)
    return found


def _add_reads(block: Block, found: set[Value]) -> None:
    found.update([operand for operand in block.yields if isinstance(operand, Value)])
    for op in block.ops:
        _add_read(op, found)


def _add_read(op: Op, found: set[Value]) -> None:
    if isinstance(op, Apply):
        found.update([operand for operand in op.operands if isinstance(operand, Value)])
        return
    found.update([operand for operand in operands_of(op) if isinstance(operand, Value)])
    for inner in blocks_of(op):
        _add_reads(inner, found)


def _values(operands: tuple[Operand, ...]) -> set[Value]:
    return {operand for operand in operands if isinstance(operand, Value)}
