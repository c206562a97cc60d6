"""Elements of arrays that loops add to, as additions.

    v1 = set_item(v, add(getitem(v, i), t), i)      ->      v1 = add_item(v, t, i)

The same numbers, but the adjoint is one read: what reads an element and writes it has an adjoint
that is read, set to 0 and added to again. Nobody but the sum may need what was read.
"""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass, replace

from flatgrad.analysis.affine import Integers
from flatgrad.analysis.independent import element_index
from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Apply, Block, For, Function, Op, Operand, Value, While, all_reads
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.primitives.symbolic import symbol_of
from flatgrad.transform.building import call_into
from flatgrad.transform.clone import with_blocks


def as_additions(fn: Function) -> Function:
    """The function with such writes as additions, in its loops."""
    if all(isinstance(op, Apply) for op in fn.body.ops):
        return fn
    uses = Counter(each for each in all_reads(fn.body) if isinstance(each, Value))
    walk = _Walk(Integers.of_function(fn), uses, Builder(Block(), fn.lengths))
    return replace(fn, body=walk.block(fn.body, in_loop=False))


@dataclass(slots=True)
class _Walk:
    """One walk over all blocks."""

    integers: Integers
    uses: Counter[Value]
    builder: Builder

    def block(self, block: Block, *, in_loop: bool) -> Block:
        ops: list[Op] = []
        gone: set[Op] = set()
        for op in block.ops:
            inside = in_loop or isinstance(op, For | While)
            ops.append(with_blocks(op, lambda one, inside=inside: self.block(one, in_loop=inside)))  # type: ignore[misc]
            parts = self.parts(op, block) if in_loop and isinstance(op, Apply) else None
            if parts is None or not isinstance(op, Apply):
                continue
            read, total, term = parts
            gone |= {read, total}
            ops.pop()
            with self.builder.inside(Block((), ops)), self.builder.at(op.origin):
                array, value = (symbol_of(each, self.builder) for each in (op.operands[0], term))
                index = self.index(op)
                call_into(op.result, ADD_ITEM, (array, value, index), self.builder)
        return Block(block.params, [op for op in ops if op not in gone], block.yields)

    def index(self, op: Apply) -> object:
        """The index of an access, for an operation on the same element."""
        given = op.arguments["index"]
        entries = given if isinstance(given, tuple) else (given,)
        found = [
            symbol_of(op.operands[entry.index], self.builder) if hasattr(entry, "index") else entry
            for entry in entries
        ]
        return tuple(found) if isinstance(given, tuple) else found[0]

    def parts(self, op: Apply, block: Block) -> tuple[Apply, Apply, Operand] | None:
        """The read, the sum and what is added, if a write is one of a sum with what was there."""
        if op.primitive.function is not SET_ITEM or not op.result.type.differentiable:
            return None
        array, value = op.operands[0], op.operands[op.arguments["value"].index]
        total = self.made_in(value, block)
        if total is None or total.primitive.function is not operator.add:
            return None
        place = element_index(op, self.integers) if array.type.ndim else None
        for first, term in (total.operands, total.operands[::-1]):
            read = self.made_in(first, block)
            if read is None or read.primitive.function is not operator.getitem or place is None:
                continue
            same = read.operands[0] is array and element_index(read, self.integers) == place
            if same and not term.type.ndim and term.type.dtype == array.type.dtype:
                return read, total, term
        return None

    def made_in(self, value: Operand, block: Block) -> Apply | None:
        """The operation of this block that makes a value for one reader."""
        if not isinstance(value, Value) or self.uses[value] != 1:
            return None
        op = self.integers.made.get(value)
        return op if op is not None and op in block.ops else None
