"""The tape of an inner loop becomes part of the tape of the outer one.

    for t in range(T):                              for t in range(T):
        y_tape_1 = np.empty(n)                          for i in range(n):
        for i in range(n):                  ->              y_tape[t, i] = y
            y_tape_1[i] = y
        y_tape[t] = y_tape_1

An axis per enclosing loop and no copy, where the inner loop makes as many trips each time. Its rows
are read back element by element: `y_tape[t][i]` is `y_tape[t, i]`.
"""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import replace
from functools import partial
from typing import Any, TypeGuard

import numpy as np

from flatgrad.analysis.activity import carried_params, carried_yields
from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import (
    Apply,
    Block,
    For,
    Op,
    Operand,
    Slot,
    Value,
    While,
    all_reads,
    blocks_of,
    operands_of,
)
from flatgrad.primitives.index import SET_ITEM
from flatgrad.primitives.symbolic import Symbol, apply_function, rule_arguments
from flatgrad.transform.clone import all_ops, rewired_block, with_blocks
from flatgrad.transform.dce import has_effect

Loop = For | While


def nest_tapes(body: Block, builder: Builder) -> Block:
    """The block with the tapes of inner loops written where the outer loop keeps them."""
    return _merged_reads(_nested(body, builder, in_loop=False), builder)


def _nested(block: Block, builder: Builder, *, in_loop: bool) -> Block:
    """The blocks inside first, so that a tape moves out one loop after the other."""
    ops: list[Op] = []
    for op in block.ops:
        change = partial(_nested, builder=builder, in_loop=isinstance(op, Loop))
        ops.append(with_blocks(op, change))
    block = Block(block.params, ops, block.yields)
    if not in_loop or not any(isinstance(op, Loop) for op in ops):
        return block
    for write in [op for op in ops if _is_tape(op, SET_ITEM)]:
        block = _Move(block, builder).taken(write) or block
    return block


def _is_tape(op: Op | None, function: Any) -> TypeGuard[Apply]:
    """Whether `op` is a call of `function` that belongs to a tape."""
    if not isinstance(op, Apply):
        return False
    return op.origin.sweep == "tape" and op.primitive.function is function


class _Move:
    """Tries to have an inner loop write straight into the tape of the block around it."""

    def __init__(self, block: Block, builder: Builder) -> None:
        self.block = block
        self.builder = builder
        self.uses = Counter(item for item in all_reads(block) if isinstance(item, Value))
        self.made = {value: op for op in block.ops for value in op.results}

    def taken(self, write: Apply) -> Block | None:
        """The block without `write`, which copies an inner tape into a row; None if it does not."""
        (base, row), static = rule_arguments(write, self.builder)
        base, row, index = _value(base), _value(row), static["index"]
        if base not in self.block.params or isinstance(index, tuple):
            return None
        if row is None or self.uses[row] != 1 or self.uses[base] != 1:
            return None
        last = self.made.get(row)
        if _is_tape(last, SET_ITEM):  # the last row, written after the loop
            row = last.operands[0]
        else:
            last = None
        found = self.source(row)
        if found is None:
            return None
        loop, k, start = found
        early = self.computed_late(_value(index), loop)
        if early is None:
            return None
        moved = self.widened(loop, k, base, index)
        end = moved.results[k]
        ops: list[Op] = []
        for op in self.block.ops:
            if op is loop:
                ops += [*early, moved]
            elif last is not None and op is last:
                closing = self.element(last, end, index)
                end = closing.result
                ops.append(closing)
            elif op not in (start, write, *early):
                ops.append(op)
        done = Block(self.block.params, ops, self.block.yields)
        return rewired_block(done, {write.result: end})

    def source(self, row: Operand) -> tuple[Loop, int, Op] | None:
        """The loop that makes a tape, as which of its results, and where the tape is allocated."""
        loop = self.made.get(row) if isinstance(row, Value) and self.uses[row] == 1 else None
        if not isinstance(loop, Loop):
            return None
        k = loop.results.index(row)
        init = loop.inits[k]
        start = self.made.get(init) if isinstance(init, Value) else None
        if start is None or not _is_tape(start, np.empty) or self.uses[start.result] != 1:
            return None
        return (loop, k, start) if self.follows(loop, k) else None

    def follows(self, loop: Loop, k: int) -> bool:
        """Whether the loop, or one inside it, does nothing with a tape but write an element."""
        param, item = carried_params(loop)[k], carried_yields(loop)[k]
        if isinstance(loop, While) and self.uses[loop.condition.params[k]]:
            return False
        if self.uses[param] != 1 or not isinstance(item, Value) or self.uses[item] != 1:
            return False
        for op in loop.body.ops:
            if param not in operands_of(op):
                continue
            if isinstance(op, Loop):
                j = op.inits.index(param) if param in op.inits else -1
                return j >= 0 and op.results[j] is item and self.follows(op, j)
            return _is_tape(op, SET_ITEM) and op.operands[0] is param and op.results[0] is item
        return False

    def computed_late(self, index: Value | None, loop: Loop) -> list[Op] | None:
        """The operations after the start of `loop` that compute `index`; None if it needs more."""
        place = self.block.ops.index(loop)
        late = set(self.block.ops[place:])
        found: set[Op] = set()
        waiting = [index]
        while waiting:
            value = waiting.pop()
            op = self.made.get(value) if value is not None else None
            if op is None or op not in late or op in found:
                continue
            if not isinstance(op, Apply) or has_effect(op):
                return None
            found.add(op)
            waiting += [operand for operand in op.operands if isinstance(operand, Value)]
        return [op for op in self.block.ops[place:] if op in found]

    def widened(self, loop: Loop, k: int, base: Value, index: Any) -> Loop:
        """The loop carrying the outer tape in place of its own."""
        param = Value(base.type, base.name, kept=True)
        result = Value(base.type, base.name, kept=True)
        old = carried_params(loop)[k]
        ops: list[Op] = []
        gone: dict[Value, Operand] = {}
        for op in loop.body.ops:
            if old not in operands_of(op):
                ops.append(op)
            elif isinstance(op, Apply):
                made = self.element(op, param, index)
                gone[op.result] = made.result
                ops.append(made)
            else:
                assert isinstance(op, Loop)
                j = op.inits.index(old)
                inner = self.widened(op, j, param, index)
                gone[op.results[j]] = inner.results[j]
                ops.append(inner)
        first = len(loop.body.params) - len(loop.inits)
        params = _put(loop.body.params, first + k, param)
        body = rewired_block(Block(params, ops, loop.body.yields), gone)
        inits, results = _put(loop.inits, k, base), _put(loop.results, k, result)
        if isinstance(loop, For):
            return replace(loop, inits=inits, body=body, results=results)
        seen = Value(base.type, base.name, kept=True)
        condition = replace(loop.condition, params=_put(loop.condition.params, k, seen))
        return replace(loop, inits=inits, condition=condition, body=body, results=results)

    def element(self, write: Apply, base: Value, index: Any) -> Apply:
        """The write of an element, in a row of the outer tape."""
        (_, value), static = rule_arguments(write, self.builder)
        inner = static["index"]
        whole = (index, *inner) if isinstance(inner, tuple) else (index, inner)
        with self.builder.inside(Block()) as scratch, self.builder.at(write.origin):
            args = (Symbol(base, self.builder), value, whole)
            made = apply_function(SET_ITEM, args, {}, self.builder)
        made.value.name, made.value.kept = base.name, True
        (op,) = scratch.ops
        assert isinstance(op, Apply)
        return op


def _merged_reads(body: Block, builder: Builder) -> Block:
    """Elements of rows of a tape are read from the tape itself."""
    rows: dict[Any, Apply] = {}
    for op in all_ops(body):
        if _is_tape(op, operator.getitem) and _reads_by_numbers(op):
            rows[op.result] = op
    rows = {row: op for row, op in rows.items() if row.type.ndim and _holds_tape(row)}
    for op in all_ops(body):
        if not (isinstance(op, Apply) and _reads_by_numbers(op)):
            for operand in operands_of(op):
                rows.pop(operand, None)
    for item in all_yields(body):
        rows.pop(item, None)
    return _with_elements(body, rows, builder) if rows else body


def _holds_tape(row: Value) -> bool:
    return (row.name or "").endswith("_tape")


def _reads_by_numbers(op: Apply) -> bool:
    """Whether a call is `x[i]` or `x[i, j]` with numbers."""
    if op.primitive.function is not operator.getitem:
        return False
    index = op.arguments["index"]
    entries = index if isinstance(index, tuple) else (index,)
    found = [op.operands[entry.index] for entry in entries if isinstance(entry, Slot)]
    return len(found) == len(entries) and not any(operand.type.ndim for operand in found)


def _with_elements(block: Block, rows: dict[Any, Apply], builder: Builder) -> Block:
    ops: list[Op] = []
    for op in block.ops:
        while isinstance(op, Apply) and op.operands and op.operands[0] in rows:
            op = _element(op, rows[op.operands[0]], builder)
        ops.append(with_blocks(op, lambda inner: _with_elements(inner, rows, builder)))
    return Block(block.params, ops, block.yields)


def _element(read: Apply, row: Apply, builder: Builder) -> Apply:
    """`tape[t][i]` as `tape[t, i]`."""
    (tape,), first = rule_arguments(row, builder)
    _, second = rule_arguments(read, builder)
    index = tuple(
        [
            entry
            for part in (first["index"], second["index"])
            for entry in (part if isinstance(part, tuple) else (part,))
        ]
    )
    with builder.inside(Block()) as scratch, builder.at(read.origin):
        apply_function(operator.getitem, (tape, index), {}, builder)
    (op,) = scratch.ops
    assert isinstance(op, Apply)
    return replace(op, results=read.results)


def all_yields(block: Block) -> list[Operand]:
    """What the blocks of a function hand on, at any depth."""
    inner = [item for op in block.ops for one in blocks_of(op) for item in all_yields(one)]
    return [*block.yields, *inner]


def _value(operand: Any) -> Any:
    return operand.value if isinstance(operand, Symbol) else None


def _put(items: tuple[Any, ...], k: int, item: Any) -> tuple[Any, ...]:
    return (*items[:k], item, *items[k + 1 :])
