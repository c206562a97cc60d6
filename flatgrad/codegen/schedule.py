"""Decides which values become statements and which are written inside what reads them.

    t = x * w;  L = sum(t)      ->   L = np.sum(x * w)      # t is read once
    t = x + i;  y = sin(t);  g = cos(t)                     # t is read twice: a statement

A user's variable always stays a statement. An expression is not moved past a write in place.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from flatgrad.codegen.buffers import aliased_operand, written_operand
from flatgrad.ir.ops import Apply, Block, Op, Value, blocks_of, operands_of
from flatgrad.primitives.core import IDENTITY
from flatgrad.primitives.symbolic import DIM, SIZE

MAX_WIDTH = 76
"""Characters of an expression above which its longest part becomes a statement of its own."""


@dataclass(slots=True)
class Schedule:
    """`inline`: values written where they are read, some of them `atoms`; `uses`: times read."""

    inline: set[Value] = field(default_factory=set)
    uses: dict[Value, int] = field(default_factory=dict)
    width: dict[Value, int] = field(default_factory=dict)
    atoms: set[Value] = field(default_factory=set)


def is_atom(op: Apply) -> bool:
    """Cheap, short expressions that are repeated rather than named: `x.shape[0]`, `x.T`."""
    function = op.primitive.function
    return function in (DIM, SIZE) or (function is np.transpose and "axes" not in op.arguments)


def schedule(block: Block) -> Schedule:
    """Plan the statements of a block."""
    plan = Schedule()
    readers: dict[Value, list[int]] = {}
    for k, op in enumerate(block.ops):
        for operand in _reads(op):
            plan.uses[operand] = plan.uses.get(operand, 0) + 1
            readers.setdefault(operand, []).append(k)
    for item in block.yields:
        if isinstance(item, Value):
            plan.uses[item] = plan.uses.get(item, 0) + 2
    crossing = _crossing(block, readers)
    written = {written_operand(op) for op in block.ops if isinstance(op, Apply)}
    for op in block.ops:
        if isinstance(op, Apply) and len(op.results) == 1:
            is_read = op.result in readers or op.origin.sweep == "return"
            stays = op in crossing or op.result in written or not is_read
            _plan(op, plan, stays)
    return plan


def _crossing(block: Block, readers: dict[Value, list[int]]) -> set[Apply]:
    """Operations that, written where their result is read, would see a later write to an array.

    Taken backwards, as an expression may be read by an expression that is itself written later.
    """
    roots: dict[Value, Value] = {}
    writes: list[tuple[int, Value]] = []
    for k, op in enumerate(block.ops):
        base = written_operand(op) if isinstance(op, Apply) else None
        if base is not None:
            writes.append((k, roots.get(base, base)))
        shared = aliased_operand(op)
        if shared is not None:
            roots[op.results[0]] = roots.get(shared, shared)
    found: set[Apply] = set()
    where = list(range(len(block.ops)))
    for k in range(len(block.ops) - 1, -1, -1):
        op = block.ops[k]
        if not writes or not isinstance(op, Apply) or len(op.results) != 1:
            continue
        used = readers.get(op.results[0], [])
        last = max((where[reader] for reader in used), default=k)
        reads = {roots.get(o, o) for o in op.operands if isinstance(o, Value)}
        if any(k < position < last and base in reads for position, base in writes):
            found.add(op)
        elif not (op.results[0].kept or op.primitive.in_place or op.primitive.effect):
            where[k] = last
    return found


def _plan(op: Apply, plan: Schedule, stays: bool) -> None:
    value = op.result
    width = _width(op, plan)
    plan.width[value] = len(value.name or "value")
    if value.kept or op.primitive.in_place or op.primitive.effect or stays:
        return
    repeated = is_atom(op) or op.primitive.function is IDENTITY or op.origin.sweep == "return"
    if not repeated and plan.uses.get(value, 0) != 1:
        return
    plan.inline.add(value)
    plan.width[value] = width
    if is_atom(op):
        plan.atoms.add(value)


def _width(op: Apply, plan: Schedule) -> int:
    """The width of an expression; where it is too wide, its widest part is taken out."""
    parts = [o for o in op.operands if isinstance(o, Value)]
    own = 3 if op.primitive.operator else len(op.primitive.text) + 2
    static = [item for item in op.arguments.items() if isinstance(item[1], bool | int | str)]
    own += sum(len(key) + len(repr(tree)) + 3 for key, tree in static)
    total = own + sum(plan.width.get(part, len(part.name or "value")) + 2 for part in parts)
    if total > MAX_WIDTH:
        inlined = [part for part in parts if part in plan.inline and plan.width[part] > 12]
        inlined = [part for part in inlined if part not in plan.atoms]  # may have a shorter text
        if inlined:
            widest = max(inlined, key=lambda part: plan.width[part])
            plan.inline.discard(widest)
            total -= plan.width[widest] - len(widest.name or "value")
            plan.width[widest] = len(widest.name or "value")
    return total


def _reads(op: Op) -> list[Value]:
    found = [operand for operand in operands_of(op) if isinstance(operand, Value)]
    for inner in blocks_of(op):
        found += [item for item in inner.yields if isinstance(item, Value)]
        for nested in inner.ops:
            found += _reads(nested)
    return found
