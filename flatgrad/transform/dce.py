"""Removes operations whose results nobody reads, and what loops and branches carry for nobody.

    a = x * x;  b = x + 1;  return b        ->        b = x + 1;  return b

What is needed is marked first, from the results and effects back to what they read; a carried
variable is needed if its result is read or some trip needs it for one that stays. Then the block is
built anew, once, however deep its loops are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

from flatgrad.analysis.activity import carried_params, carried_yields, slots
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
    return _Needed(block).kept(block, block.params, block.yields)


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


class _Needed:
    """What a block needs for its yields and for the effects in it."""

    def __init__(self, block: Block) -> None:
        self.by_value: dict[Value, Sequence[Operand]] = {}
        self.effective: set[Op] = set()
        self.live: set[Value] = set()
        self.roots: list[Operand] = list(block.yields)
        self.note(block)
        self.mark(self.roots)

    def note(self, block: Block) -> bool:
        """Remember what each value needs directly; whether the block has an effect."""
        found = False
        for op in block.ops:
            if isinstance(op, Apply):
                effect = bool(op.primitive.effect)
                needs: Sequence[Operand] = op.operands
                for result in op.results:
                    self.add(result, needs)
            else:
                inside = [self.note(inner) for inner in blocks_of(op)]
                effect = any(inside)
                needs = self.note_structured(op)
            if effect:
                self.effective.add(op)
                self.roots += needs
                found = True
        return found

    def note_structured(self, op: If | For | While) -> Sequence[Operand]:
        """The same for the results of a branch or loop; what it needs whatever is read of it."""
        if isinstance(op, If):
            for result, *yields in zip(op.results, op.then.yields, op.orelse.yields, strict=True):
                self.add(result, (op.condition, *yields))
            return (op.condition,)
        flag = op.body.yields[:1] if op.exits else ()
        if isinstance(op, For):
            snapshots = () if op.snapshots is None else (op.snapshots,)
            always = op.start, op.stop, op.step, *snapshots, *flag
            tested: Sequence[Value | None] = [None] * len(op.results)
        else:
            always, tested = (*op.condition.yields, *flag), op.condition.params
        for (init, param, value, result), test in zip(slots(op), tested, strict=True):
            self.add(param, (init, value))
            self.add(result, (*always, init, value))
            if test is not None:
                self.add(test, (init, value))
        return always

    def add(self, value: Value, needs: Sequence[Operand]) -> None:
        """`value` needs these, beside what another copy of its operation needs."""
        known = self.by_value.get(value)
        self.by_value[value] = needs if known is None else (*known, *needs)

    def mark(self, pending: Iterable[Operand]) -> None:
        """Whatever these operands need is live."""
        waiting = [one for one in pending if isinstance(one, Value)]
        while waiting:
            value = waiting.pop()
            if value not in self.live:
                self.live.add(value)
                needs = self.by_value.get(value, ())
                waiting += [one for one in needs if isinstance(one, Value)]

    def kept(self, block: Block, params: tuple[Value, ...], yields: tuple[Operand, ...]) -> Block:
        """A block with these parameters and yields, and of its operations what is needed."""
        return Block(params, [self.narrowed(op) for op in block.ops if self.is_needed(op)], yields)

    def is_needed(self, op: Op) -> bool:
        return op in self.effective or not self.live.isdisjoint(op.results)

    def narrowed(self, op: Op) -> Op:
        """`op` without results and carried variables that nobody needs."""
        if isinstance(op, Apply):
            return op
        if isinstance(op, If):
            keep = [k for k, result in enumerate(op.results) if result in self.live]
            then, orelse = (
                self.kept(inner, inner.params, _chosen(inner.yields, keep))
                for inner in (op.then, op.orelse)
            )
            return replace(op, then=then, orelse=orelse, results=_chosen(op.results, keep))
        params, yields = carried_params(op), carried_yields(op)
        keep = [k for k, slot in enumerate(slots(op)) if self.is_carried(op, k, slot[1], slot[3])]
        first = op.body.params[: len(op.body.params) - len(params)]
        flag = op.body.yields[:1] if op.exits else ()
        body = self.kept(op.body, (*first, *_chosen(params, keep)), (*flag, *_chosen(yields, keep)))
        inits, results = _chosen(op.inits, keep), _chosen(op.results, keep)
        if isinstance(op, For):
            return replace(op, inits=inits, body=body, results=results)
        test = _chosen(op.condition.params, keep)
        condition = self.kept(op.condition, test, op.condition.yields)
        return replace(op, inits=inits, condition=condition, body=body, results=results)

    def is_carried(self, op: For | While, k: int, param: Value, result: Value) -> bool:
        """Whether a carried variable stays."""
        if param in self.live or result in self.live:
            return True
        return isinstance(op, While) and op.condition.params[k] in self.live


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
