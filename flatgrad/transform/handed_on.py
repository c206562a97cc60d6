"""Loops no longer carry what every trip hands on as it is.

for c in range(k) carrying (g = g0):            for c in range(k):
    for a in range(d) carrying (g1 = g):   ->       for a in range(d):
        s += g1 * x[c, a]                               s += g0 * x[c, a]
"""

from __future__ import annotations

from dataclasses import replace

from flatgrad.ir.ops import Block, For, Op, Operand, Value
from flatgrad.transform.clone import picked, rewired, rewired_block, with_blocks


def without_handed_on(block: Block) -> Block:
    """The block with such variables of its loops replaced by what they start from."""
    known: dict[Value, Operand] = {}
    ops: list[Op] = []
    for op in block.ops:
        op = with_blocks(rewired(op, known), without_handed_on)
        if isinstance(op, For):
            op, same = _narrowed(op)
            known |= same
        ops.append(op)
    return Block(block.params, ops, tuple([picked(item, known) for item in block.yields]))


def _narrowed(op: For) -> tuple[For, dict[Value, Operand]]:
    """The loop without them, and what their results are."""
    params = op.body.params[1:]
    yields = op.body.yields[int(op.exits) :]
    same = [k for k, param in enumerate(params) if yields[k] is param]
    if not same:
        return op, {}
    keep = [k for k in range(len(params)) if k not in same]
    body = Block(
        (op.body.params[0], *[params[k] for k in keep]),
        op.body.ops,
        (*op.body.yields[: int(op.exits)], *[yields[k] for k in keep]),
    )
    body = rewired_block(body, {params[k]: op.inits[k] for k in same})
    loop = replace(
        op,
        inits=tuple([op.inits[k] for k in keep]),
        results=tuple([op.results[k] for k in keep]),
        body=body,
    )
    return loop, {op.results[k]: op.inits[k] for k in same}
