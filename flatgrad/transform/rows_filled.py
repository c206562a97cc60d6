"""Rows that nests fill although they are read afterwards, and states that stand in their tape.

    tape = np.empty((n, m))                    tape = np.empty((n + 1, m))
    for t in range(n):                         tape[0] = h
        tape[t] = h                    ->      for t in range(n):
        z = z_loop(h)                              rows[t] = z_loop(tape[t])
        rows[t] = z                                z = rows[t]
        h = h_loop(z)                              tape[t + 1] = h_loop(z)
    return h                                   return tape[n]

The writes that are left can be done by the nests themselves (codegen/destinations.py). A state is
moved like that where each trip stores it before it makes the next one from it, and a nest makes it;
the array has the states of all trips then, and the last.
"""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.copies import twin
from flatgrad.ir.ops import (
    Apply,
    Block,
    For,
    Function,
    Op,
    Operand,
    Slot,
    Value,
    all_reads,
    is_const,
    operands_of,
    reads_of,
    substitute,
)
from flatgrad.primitives.callee import Callee
from flatgrad.primitives.index import SET_ITEM, set_item
from flatgrad.primitives.symbolic import Symbol, apply_function, symbol_of
from flatgrad.transform.clone import rewired, with_blocks


def fill_rows(fn: Function) -> Function:
    """The function with such rows."""
    return replace(fn, body=_Rows(fn).block(fn.body))


@dataclass(frozen=True, slots=True)
class _State:
    """What a loop carries as number `k`, stores by `write` in the array of number `tape`.

    `made` is where in the body the next one is made; with `longer` the array gets one more row.
    """

    k: int
    tape: int
    write: Apply
    made: int
    longer: bool


class _Rows:
    """Changes the blocks of one function."""

    def __init__(self, fn: Function) -> None:
        self.uses = Counter(all_reads(fn.body))
        self.builder = Builder(Block(), fn.lengths)
        self.made: dict[Operand, Apply] = {}

    def block(self, block: Block) -> Block:
        ops: list[Op] = []
        mapping: dict[Value, Operand] = {}
        stored: dict[Value, tuple[Value, Operand]] = {}
        for one in block.ops:
            if isinstance(one, Apply) and _is_last(one, stored):
                mapping[one.result] = one.operands[0]
                continue
            op = with_blocks(rewired(one, mapping), self.block)
            if isinstance(op, For):
                ops += self.with_states(op, block, stored)
                continue
            if isinstance(op, Apply):
                self.made |= dict.fromkeys(op.results, op)
            ops.append(op)
        yields = tuple([mapping.get(one, one) for one in block.yields])  # type: ignore[arg-type]
        return _read_back(Block(block.params, ops, yields), self.builder)

    def with_states(
        self, loop: For, block: Block, stored: dict[Value, tuple[Value, Operand]]
    ) -> list[Op]:
        """The loop with all of its states in their tapes, and what stands around it."""
        before: list[Op] = []
        after: list[Op] = []
        while (state := self.state(loop, block)) is not None:
            last = loop.results[state.tape], (loop.results[state.k], loop.stop)
            head, loop, tail = self.moved(loop, state, block)
            stored |= [last]
            before += head
            after += tail
        return [*before, loop, *after]

    def state(self, loop: For, block: Block) -> _State | None:
        """The next state that can be moved."""
        if loop.exits or loop.vector or not (is_const(loop.start, 0) and is_const(loop.step, 1)):
            return None
        makers: dict[Operand, int] = {}
        for at, op in enumerate(loop.body.ops):
            if _is_nest(op):
                makers |= dict.fromkeys(op.results, at)
        count = Counter(all_reads(loop.body))
        for op in loop.body.ops:
            if not isinstance(op, Apply) or op.primitive.function is not SET_ITEM:
                continue
            array, index = op.operands[0], op.arguments["index"]
            value = _written(op)
            if value not in loop.body.params or array not in loop.body.params:
                continue
            if count[array] > 1 or not _is_slot_of(op, index, loop.body.params[0]):
                continue
            k, tape = (loop.body.params.index(one) - 1 for one in (value, array))
            made = makers.get(loop.body.yields[k])
            if made is None or loop.body.yields[tape] is not op.result:
                continue
            if not _has_room(op, value) or not _is_read_before(loop.body, value, op, made):
                continue
            rows = self.rows(loop, tape)
            if rows is not None and not (rows and loop.results[tape] in block.yields):
                return _State(k, tape, op, made, rows)
        return None

    def rows(self, loop: For, tape: int) -> bool | None:
        """Whether a new array has as many rows as there are trips; False: one more."""
        array = loop.inits[tape]
        empty = self.made.get(array)
        if empty is None or empty.primitive.function is not np.empty or self.uses[array] > 1:
            return None
        shape = empty.arguments["shape"]
        if not isinstance(shape, tuple) or not isinstance(shape[0], Slot):
            return None
        length = empty.operands[shape[0].index]
        if length is loop.stop:
            return True
        total = self.made.get(length)
        if total is None or total.primitive.function is not operator.add:
            return None
        return False if total.operands[0] is loop.stop and is_const(total.operands[1], 1) else None

    def moved(self, loop: For, state: _State, block: Block) -> tuple[list[Op], For, list[Op]]:
        """The loop that reads the state in the tape, and what stands before and behind it."""
        builder = self.builder
        k, tape, write = state.k, state.tape, state.write
        body = loop.body
        trip, following = body.params[0], body.yields[k]
        assert isinstance(following, Value)
        with builder.inside(Block()) as head, builder.at(write.origin, write.result.part):
            first = loop.inits[tape]
            if state.longer:
                first = self.longer(self.made[first], loop.stop)
            assert isinstance(first, Value)
            begun = set_item(Symbol(first, builder), symbol_of(loop.inits[k], builder), 0)
        array, written, whole = (
            _like(one, begun.type) if state.longer else one
            for one in (body.params[tape + 1], write.result, loop.results[tape])
        )
        with builder.inside(Block()) as inner, builder.at(write.origin, write.result.part):
            place = apply_function(operator.add, (Symbol(trip, builder), 1), {}, builder)
            _read(body.params[k + 1], array, Symbol(trip, builder), builder)
            start = list(inner.ops)
            set_item(Symbol(array, builder), Symbol(following, builder), place)
            moved = replace(inner.ops[-1], results=(written,))
        ops = [*start, *body.ops[: state.made + 1], moved, *body.ops[state.made + 1 :]]
        ops.remove(write)
        with builder.inside(Block()) as tail, builder.at(write.origin, write.result.part):
            if state.longer:
                stop = symbol_of(loop.stop, builder)
                _read(loop.results[tape], whole, slice(None, stop, None), builder)
            _read(loop.results[k], whole, symbol_of(loop.stop, builder), builder)
            if loop.results[k] in block.yields:
                self.copied(loop.results[k])

        def kept(given: tuple[Any, ...], ahead: int = 0) -> tuple[Any, ...]:
            return tuple([one for at, one in enumerate(given) if at != k + ahead])

        def swapped(given: tuple[Any, ...], new: Any, ahead: int = 0) -> tuple[Any, ...]:
            found = [new if at == tape + ahead else one for at, one in enumerate(given)]
            return kept(tuple(found), ahead)

        params, yields = swapped(body.params, array, 1), swapped(body.yields, written)
        inner_block = _read_back(Block(params, ops, yields), builder)
        results, inits = swapped(loop.results, whole), swapped(loop.inits, begun.value)
        new = replace(loop, inits=inits, body=inner_block, results=results)
        return list(head.ops), new, list(tail.ops)

    def longer(self, empty: Apply, count: Operand) -> Value:
        """The array with one more row."""
        builder = self.builder
        given = {
            name: substitute(value, lambda k: symbol_of(empty.operands[k], builder))
            for name, value in empty.arguments.items()
        }
        more = apply_function(operator.add, (symbol_of(count, builder), 1), {}, builder)
        given["shape"] = (more, *given["shape"][1:])
        made: Value = apply_function(np.empty, (), given, builder).value
        made.name = empty.result.name
        return made

    def copied(self, value: Value) -> None:
        """What leaves the block has memory of its own."""
        read = self.builder.block.ops[-1]
        row = twin(value)
        self.builder.block.ops[-1] = replace(read, results=(row,))
        np.copy(Symbol(row, self.builder))
        made = self.builder.block.ops[-1]
        self.builder.block.ops[-1] = replace(made, results=(value,))


def _like(value: Value, kind: Any) -> Value:
    """The value with another type."""
    made = Value(kind, value.name, kept=value.kept, part=value.part)
    made.of = value.of
    return made


def _read(result: Value, array: Value, index: Any, builder: Builder) -> None:
    """Append a read of which the result is known already."""
    apply_function(operator.getitem, (Symbol(array, builder), index), {}, builder)
    made = builder.block.ops[-1]
    assert isinstance(made, Apply)
    builder.block.ops[-1] = replace(made, results=(result,))


def _written(op: Apply) -> Operand | None:
    value = op.arguments["value"]
    return op.operands[value.index] if isinstance(value, Slot) else None


def _is_slot_of(op: Apply, index: Any, operand: Operand) -> bool:
    return isinstance(index, Slot) and op.operands[index.index] is operand


def _is_nest(op: Op) -> bool:
    return isinstance(op, Apply) and isinstance(op.primitive, Callee) and op.primitive.nest


def _is_last(op: Apply, stored: dict[Value, tuple[Value, Operand]]) -> bool:
    """Whether the last state is stored, which the loop has done."""
    if op.primitive.function is not SET_ITEM or op.operands[0] not in stored:
        return False
    value, count = stored[op.operands[0]]
    return _written(op) is value and _is_slot_of(op, op.arguments["index"], count)


def _has_room(write: Apply, value: Operand) -> bool:
    """Whether a whole row is written, of the value's rank and dtype."""
    row, kind = write.result.type, value.type
    if not kind.ndim or 1 in kind.shape or 1 in row.shape or row.dtype != kind.dtype:
        return False
    index = write.arguments["index"]
    entries = index if isinstance(index, tuple) else (index,)
    return len(entries) + kind.ndim == row.ndim and all(
        isinstance(entry, int)
        or (isinstance(entry, Slot) and write.operands[entry.index].type.ndim == 0)
        for entry in entries
    )


def _is_read_before(body: Block, value: Operand, write: Apply, made: int) -> bool:
    """Whether a state is read to make the next one, and no more, and is not yielded."""
    rest = [op for op in body.ops[made + 1 :] if value in reads_of(op) and op is not write]
    return not rest and value not in body.yields


def _read_back(body: Block, builder: Builder) -> Block:
    """The block in which what a nest makes and a row gets is read there."""
    ops = list(body.ops)
    for write in body.ops:
        if not isinstance(write, Apply) or write.primitive.function is not SET_ITEM:
            continue
        value, array = _written(write), write.operands[0]
        if not isinstance(value, Value) or array not in body.params or not value.type.ndim:
            continue
        made = next((at for at, op in enumerate(ops) if _is_nest(op) and value in op.results), None)
        if made is None or not _has_room(write, value) or value in body.yields:
            continue
        if not _is_kept(ops, body, write, value, made):
            continue
        row = twin(value)
        with builder.inside(Block()) as inner, builder.at(write.origin, write.result.part):
            symbols = [symbol_of(one, builder) for one in write.operands]
            index = substitute(write.arguments["index"], symbols.__getitem__)
            _read(row, write.result, index, builder)
        ops.remove(write)
        rest = [rewired(op, {value: row}) for op in ops[made + 1 :]]
        ops = [*ops[: made + 1], write, *inner.ops, *rest]
    return Block(body.params, ops, body.yields)


def _is_kept(ops: list[Op], body: Block, write: Apply, value: Value, made: int) -> bool:
    """Whether a row stays as it is to the end of the trip, is there before, and is read later."""
    readers = [op for op in ops if value in reads_of(op)]
    if len(readers) < 2 or any(_changes(op, value) for op in readers if op is not write):
        return False
    if [*all_reads(body)].count(write.operands[0]) > 1 + _reads_before(ops, write, made):
        return False
    if sum(write.result in reads_of(op) for op in ops) or write.result not in body.yields:
        return False
    later = {result for op in ops[made:] for result in op.results}
    return not any(one in later for one in operands_of(write) if one is not value)


def _reads_before(ops: list[Op], write: Apply, made: int) -> int:
    """How often the array is read before the nest is done."""
    array = write.operands[0]
    return sum([*reads_of(op)].count(array) for op in ops[: made + 1])


def _changes(op: Op, value: Value) -> bool:
    """Whether an operation writes to the value."""
    if not isinstance(op, Apply):
        return True
    slot = op.primitive.in_place and op.arguments[op.primitive.in_place]
    return isinstance(slot, Slot) and op.operands[slot.index] is value
