"""A part of an array that is set to 0 and then added to is set at once.

    row = g[q]                       row = g[q]
    g[q] = 0.0                ->     g[q] = cell(row)
    g[q] += cell(row)

So the adjoint of a row looks that each step of a loop replaces: what the step read of it comes back
into the place of what it wrote. In between other parts may be read and written that are known to be
apart. Elements stay as they are, as the passes for loops over elements know them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from flatgrad.analysis.apart import Places
from flatgrad.ir.ops import (
    Apply,
    Block,
    Function,
    Op,
    Operand,
    Value,
    all_reads,
    is_const,
    operands_of,
)
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.primitives.registry import PRIMITIVES
from flatgrad.transform.clone import rewired_block, with_blocks


def replace_rows(fn: Function) -> Function:
    """The function with such parts set at once."""
    return replace(fn, body=_Rows(fn).block(fn.body))


@dataclass(slots=True)
class _Pair:
    """A write of 0 and an addition to the same part."""

    cleared: Apply
    added: Apply


class _Rows:
    """Changes the blocks of one function."""

    def __init__(self, fn: Function) -> None:
        self.places = Places.of_function(fn)
        self.uses = Counter(all_reads(fn.body))

    def block(self, block: Block) -> Block:
        pairs = [pair for pair in self.pairs(block) if pair is not None]
        gone = {pair.cleared for pair in pairs}
        sets = {pair.added for pair in pairs}
        ops: list[Op] = []
        for op in block.ops:
            if op in gone:
                continue
            if isinstance(op, Apply):
                made = replace(op, primitive=PRIMITIVES[SET_ITEM]) if op in sets else op
                ops.append(made)
            else:
                ops.append(with_blocks(op, self.block))
        before: dict[Value, Operand] = {}
        for cleared in [op for op in block.ops if op in gone]:
            assert isinstance(cleared, Apply)
            base = cleared.operands[0]
            before[cleared.result] = before.get(base, base) if isinstance(base, Value) else base
        return rewired_block(Block(block.params, ops, block.yields), before)

    def pairs(self, block: Block) -> Iterator[_Pair | None]:
        """The pairs of a block."""
        makers = {
            op.result: op for op in block.ops if isinstance(op, Apply) and len(op.results) == 1
        }
        for op in block.ops:
            if isinstance(op, Apply) and op.primitive.function is ADD_ITEM:
                value = op.operands[op.arguments["value"].index]
                if value.type.ndim:
                    yield self.pair(block, op, makers)

    def pair(self, block: Block, added: Apply, makers: dict[Value, Apply]) -> _Pair | None:
        """The write of 0 that an addition follows, if nobody sees the zeros."""
        version = added.operands[0]
        reader: Apply = added
        while isinstance(version, Value):
            write = makers.get(version)
            if write is None or write.primitive.function not in (SET_ITEM, ADD_ITEM):
                return None
            if not self.read_apart(block, version, reader, added):
                return None
            if self.places.same(write, added):
                return _Pair(write, added) if _clears(write) else None
            if not self.places.apart(write, added):
                return None
            reader, version = write, write.operands[0]
        return None

    def read_apart(self, block: Block, version: Value, reader: Apply, added: Apply) -> bool:
        """Whether a version is read by the next write, and other parts of it by whoever else."""
        readers = [op for op in block.ops if version in operands_of(op)]
        if len(readers) != self.uses[version] or reader not in readers:
            return False
        return all(
            op is reader
            or (
                isinstance(op, Apply)
                and op.primitive.name == "getitem"
                and self.places.apart(op, added)
            )
            for op in readers
        )


def _clears(write: Apply) -> bool:
    value = write.arguments["value"]
    if write.primitive.function is not SET_ITEM:
        return False
    given = write.operands[value.index] if hasattr(value, "index") else value
    return given == 0 if isinstance(given, int | float) else is_const(given, 0)
