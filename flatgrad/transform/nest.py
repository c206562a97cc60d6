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
from typing import Any

import numpy as np

from flatgrad.analysis.activity import carried_params, carried_yields
from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Apply, Block, For, Op, Operand, Slot, Value, While, blocks_of, operands_of
from flatgrad.primitives.index import SET_ITEM
from flatgrad.primitives.symbolic import Symbol, apply_function, rule_arguments
from flatgrad.transform.clone import all_ops, all_reads, rewired_block, with_blocks
from flatgrad.transform.dce import has_effect

Loop = For | While


def nest_tapes(body: Block, builder: Builder) -> Block:
    """The block with the tapes of inner loops written where the outer loop keeps them."""
    return _merged_reads(_nested(body, builder, in_loop=False), builder)


def _nested(block: Block, builder: Builder, *, in_loop: bool) -> Block:
    """The blocks inside first, so that a tape moves out one loop after the other."""
    ops = []
    for op in block.ops:
        is_loop = isinstance(op, Loop)
        ops.append(with_blocks(op, lambda b, inside=is_loop: _nested(b, builder, in_loop=inside)))
    block = Block(block.params, ops, block.yields)
    if not in_loop or not any(isinstance(op, Loop) for op in ops):
        return block
    for op in [op for op in ops if _is_tape(op, SET_ITEM)]:
        block = _Move(block, builder).taken(op) or block
    return block


def _is_tape(op: Op | None, function: Any) -> bool:
    return isinstance(op, Apply) and op.primitive.function is function and (
        op.origin.sweep == "tape"
    )


class _Move:
    """Tries to have an inner loop write straight into the tape of the block around it."""

    def __init__(self, block: Block, builder: Builder) -> None:
        self.block = block
        self.builder = builder
        self.uses = Counter(item for item in all_reads(block) if isinstance(item, Value))
        self.made = {value: op for op in block.ops for value in op.results}

    def taken(self, write: Op) -> Block | None:
        """The block without `write`, which copies an inner tape into a row; None if it does not."""
        assert isinstance(write, Apply)
        (base, row), static = rule_arguments(write, self.builder)
        base, row = _value(base), _value(row)
        index = static["index"]
        if base not in self.block.params or row is None or isinstance(index, tuple):
            return None
        last = self.made.get(row)
        if self.uses[row] != 1 or self.uses[base] != 1:
            return None
        if _is_tape(last, SET_ITEM):  # the last row, written after the loop
            row = last.operands[0]
            if self.uses[row] != 1:
                return None
        else:
            last = None
        loop = self.made.get(row)
        if not isinstance(loop, Loop):
            return None
        k = loop.results.index(row)
        start = self.made.get(loop.inits[k]) if isinstance(loop.inits[k], Value) else None
        if start is None or not _is_tape(start, np.empty) or self.uses[start.results[0]] != 1:
            return None
        if not self.follows(loop, k):
            return None
        early = self.computed_late(_value(index), loop)
        if early is None:
            return None
        moved = self.widened(loop, k, base, index)
        end = moved.results[k]
        ops: list[Op] = []
        for op in self.block.ops:
            if op is loop:
                ops += [*early, moved]
            elif op is last:
                ops.append(self.element(op, end, index))
                end = ops[-1].results[0]
            elif op not in (start, write, *early):
                ops.append(op)
        done = Block(self.block.params, ops, self.block.yields)
        return rewired_block(done, {write.result: end})

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
            made = apply_function(SET_ITEM, (Symbol(base, self.builder), value, whole), {}, self.builder)
        made.value.name, made.value.kept = base.name, True
        (op,) = scratch.ops
        assert isinstance(op, Apply)
        return op


def _merged_reads(body: Block, builder: Builder) -> Block:
    """Elements of rows of a tape are read from the tape itself."""
    rows = {
        op.results[0]: op
        for op in all_ops(body)
        if _is_tape(op, operator.getitem) and (op.results[0].name or "").endswith("_tape")
        and op.results[0].type.ndim and _of_numbers(op.arguments["index"])
    }  # fmt: skip
    for op in all_ops(body):
        element = isinstance(op, Apply) and op.primitive.function is operator.getitem
        whole = not element or not _of_numbers(op.arguments["index"])
        for operand in operands_of(op) if whole else ():
            rows.pop(operand, None)
    if not rows:
        return body
    for item in all_yields(body):
        rows.pop(item, None)
    return _with_elements(body, rows, builder)


def _of_numbers(index: Any) -> bool:
    entries = index if isinstance(index, tuple) else (index,)
    return all(isinstance(entry, Slot) for entry in entries)


def _with_elements(block: Block, rows: dict[Value, Apply], builder: Builder) -> Block:
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
