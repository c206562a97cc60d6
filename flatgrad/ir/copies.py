"""Copies of operations with values of their own, blocks included.

    mapping = {x: a}
    copied_ops([y = f(x)], mapping)     ->     [y' = f(a)], and mapping[y] is y'
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from flatgrad.ir.ops import Apply, Block, For, If, Op, Operand, Value, While

Mapping = dict[Value, Operand]


def twin(value: Value) -> Value:
    """A new value that looks the same."""
    made = Value(value.type, value.name, kept=value.kept, part=value.part)
    made.of = value.of
    return made


def copied_ops(ops: Iterable[Op], mapping: Mapping, sweep: str) -> list[Op]:
    """Operations that read the replacements in `mapping`, which gets their results."""
    return [_copied(op, mapping, sweep) for op in ops]


def copied_block(block: Block, mapping: Mapping, sweep: str) -> Block:
    """A block with parameters and operations of its own; what is outside it is read as it is."""
    inner = dict(mapping)
    params = _twins(block.params, inner)
    ops = copied_ops(block.ops, inner, sweep)
    return Block(params, ops, tuple([_pick(item, inner) for item in block.yields]))


def _copied(op: Op, mapping: Mapping, sweep: str) -> Op:
    def pick(operands: tuple[Operand, ...]) -> tuple[Operand, ...]:
        return tuple([_pick(operand, mapping) for operand in operands])

    new: Op
    match op:
        case Apply():
            new = replace(op, operands=pick(op.operands))
        case If():
            then, orelse = (copied_block(block, mapping, sweep) for block in (op.then, op.orelse))
            (condition,) = pick((op.condition,))
            new = replace(op, condition=condition, then=then, orelse=orelse)
        case For():
            start, stop, step = pick((op.start, op.stop, op.step))
            new = replace(
                op, start=start, stop=stop, step=step, inits=pick(op.inits),
                body=copied_block(op.body, mapping, sweep),
                snapshots=None if op.snapshots is None else _pick(op.snapshots, mapping),
            )  # fmt: skip
        case While():
            condition_block = copied_block(op.condition, mapping, sweep)
            body = copied_block(op.body, mapping, sweep)
            new = replace(op, inits=pick(op.inits), condition=condition_block, body=body)
    results = _twins(op.results, mapping)
    return replace(new, results=results, origin=replace(op.origin, sweep=sweep))


def _pick(operand: Operand, mapping: Mapping) -> Operand:
    return mapping.get(operand, operand) if isinstance(operand, Value) else operand


def _twins(values: tuple[Value, ...], mapping: Mapping) -> tuple[Value, ...]:
    made = tuple([twin(value) for value in values])
    mapping.update(zip(values, made, strict=True))
    return made
