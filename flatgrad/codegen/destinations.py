"""Nests that write a result where it goes next.

    y = y_loop(x, w)                        y_loop(x, w, tape[t])
    tape[t] = y                  ->

The program stays as it is: it is the text of the call that names the place, and the function gets
a variant that fills what it is handed instead of an array of its own. What is needed for that is
what the plan of buffers says: the write is done in place, the nest reads nothing of that memory,
and nothing between the call and the write touches it.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flatgrad.codegen.buffers import Buffers, is_copied, written_operand
from flatgrad.ir.builder import Builder
from flatgrad.ir.dims import Size
from flatgrad.ir.ops import (
    Apply,
    Block,
    For,
    Function,
    Op,
    Operand,
    Slot,
    Value,
    blocks_of,
    operands_of,
    substitute,
)
from flatgrad.primitives.callee import Callee, function_of
from flatgrad.primitives.index import SET_ITEM, set_item
from flatgrad.primitives.symbolic import DIM, REQUIRE_EQUAL, Symbol, apply_function, symbol_of


@dataclass(frozen=True, slots=True)
class Place:
    """What a nest fills: a part with these lengths.

    With `index`, slices with known bounds, it is handed the whole of an array of this `name`, and
    takes the part itself.
    """

    sizes: tuple[Size, ...]
    index: Any = None
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Placed:
    """A call whose nest fills the places of `writes`; `results` are the others, in order."""

    callee: Callee
    writes: tuple[Apply, ...]
    places: tuple[Place, ...]
    results: tuple[Value, ...]


@dataclass(slots=True)
class Destinations:
    """The calls with places, and the writes that are thereby done.

    Without `zeros`, results that nests add up in zeros are left: threads have zeros of their own.
    """

    zeros: bool = True
    calls: dict[Op, Placed] = field(default_factory=dict)
    done: set[Op] = field(default_factory=set)
    variants: dict[Any, Callee] = field(default_factory=dict)
    parts: dict[Function, dict[Value, Place]] = field(default_factory=dict)

    def callee_of(self, op: Apply) -> Callee:
        """The function that a call of the program becomes a call of."""
        placed = self.calls.get(op)
        return placed.callee if placed else op.primitive

    def note(self, fn: Function, buffers: Buffers) -> None:
        """Find those of a function."""
        search = _Search(self, fn, buffers)
        search.block(fn.body)


class _Search:
    """Looks through the blocks of one function."""

    def __init__(self, found: Destinations, fn: Function, buffers: Buffers) -> None:
        self.found = found
        self.fn = fn
        self.buffers = buffers
        self.uses: dict[Value, int] = {}
        for operand in _all_read(fn.body):
            if isinstance(operand, Value):
                self.uses[operand] = self.uses.get(operand, 0) + 1

    def block(self, block: Block) -> None:
        made: dict[Value, int] = {}
        for at, op in enumerate(block.ops):
            if isinstance(op, Apply) and _is_write(op):
                value = op.operands[op.arguments["value"].index]
                if isinstance(value, Value) and value in made:
                    self.place(block, made[value], at, value)
            if isinstance(op, Apply) and isinstance(op.primitive, Callee) and op.primitive.nest:
                made |= dict.fromkeys(op.results, at)
            for inner in blocks_of(op):
                self.block(inner)

    def place(self, block: Block, first: int, last: int, value: Value) -> None:
        """Have the call at `first` fill the place that is written at `last`, if that is right."""
        call, write = block.ops[first], block.ops[last]
        assert isinstance(call, Apply)
        assert isinstance(write, Apply)
        if self.uses[value] > 1 or not value.type.ndim:
            return
        if not self.is_free(block, first, last, value):
            return
        room = self.room(write, value)
        if room is None:
            return
        known = self.found.calls.get(call)
        results = known.results if known else call.results
        spare = call.results.index(value)
        before = self.filled(call, known)
        callee = self.variant(call.primitive, {**before, spare: room})
        if callee is None:
            return
        writes = dict(zip(before, known.writes, strict=True)) if known else {}
        writes[spare] = write
        self.found.calls[call] = Placed(
            callee,
            tuple([writes[k] for k in sorted(writes)]),
            tuple([place for _, place in sorted({**before, spare: room}.items())]),
            tuple([result for result in results if result is not value]),
        )
        self.found.done.add(write)

    def filled(self, call: Apply, known: Placed | None) -> dict[int, Place]:
        """The places that there are already, by the numbers of the results."""
        found: dict[int, Place] = {}
        for write, place in zip(known.writes, known.places, strict=True) if known else ():
            value = write.operands[write.arguments["value"].index]
            found[call.results.index(value)] = place
        return found

    def is_free(self, block: Block, first: int, last: int, value: Value) -> bool:
        """Whether the write can be done at the call.

        The array is there by then, nobody in between reads or changes it, and what the call reads
        is other memory, as are the other places.
        """
        call, write = block.ops[first], block.ops[last]
        assert isinstance(write, Apply)
        base = _base(write)
        roots = self.buffers.of(base)
        if write not in self.buffers.in_place or not roots:
            return False
        between = block.ops[first + 1 : last]
        made = {result for op in (call, *between) for result in op.results} - {value}
        if any(operand in made for operand in write.operands):
            return False
        known = self.found.calls.get(call)
        others = [_base(one) for one in known.writes] if known else []
        touched = [*operands_of(call), *others]
        for op in between:
            if op not in self.found.done:
                touched += [*operands_of(op), *op.results]
                touched += [one for inner in blocks_of(op) for one in _all_read(inner)]
            elif isinstance(op, Apply) and self.buffers.of(_base(op)) & roots:
                return False
        return not any(self.buffers.of(one) & roots for one in touched)

    def room(self, write: Apply, value: Value) -> Place | None:
        """The part that is written; None where the value is spread or converted."""
        index = write.arguments["index"]
        entries = index if isinstance(index, tuple) else (index,)
        if is_copied(write) or any(entry is None for entry in entries):
            return None
        kind = part_type(write)
        if (kind.ndim, kind.dtype) != (value.type.ndim, value.type.dtype):
            return None
        if 1 in kind.shape or 1 in value.type.shape:
            return None
        known = all(isinstance(entry, slice) for entry in entries) and len(write.operands) == 2
        if not known or all(entry == slice(None) for entry in entries):
            return Place(tuple(kind.shape))
        return Place(tuple(kind.shape), index, _base(write).name)

    def variant(self, callee: Callee, places: dict[int, Place]) -> Callee | None:
        """The nest that fills places for the results of these numbers."""
        key = (callee, str(sorted(places.items())))
        if key not in self.found.variants:
            made = _filling(callee.called, places, CREATED if self.found.zeros else CREATED[:1])
            if made is None:
                return None
            fn, filled = made
            self.found.variants[key] = function_of(fn, nest=True)
            self.found.parts[fn] = {v: place for v, place in filled.items() if place.index}
        return self.found.variants[key]


def part_type(write: Apply) -> Any:
    """The type of the part of an array that is written."""
    builder = Builder(Block())
    index = substitute(write.arguments["index"], lambda k: symbol_of(write.operands[k], builder))
    part = apply_function(operator.getitem, (Symbol(_base(write), builder), index), {}, builder)
    return part.value.type


def _all_read(block: Block) -> Iterator[Operand]:
    for op in block.ops:
        yield from operands_of(op)
        for inner in blocks_of(op):
            yield from _all_read(inner)
    yield from block.yields


def _is_write(op: Apply) -> bool:
    return op.primitive.function is SET_ITEM and isinstance(op.arguments["value"], Slot)


def _base(write: Apply) -> Value:
    base = written_operand(write)
    assert base is not None
    return base


CREATED: tuple[Any, ...] = (np.empty, np.zeros)


def _filling(
    fn: Function, places: dict[int, Place], created: tuple[Any, ...]
) -> tuple[Function, dict[Value, Place]] | None:
    """The function with the arrays that it makes for some results as parameters.

    Zeros are written at the start. None where a result is not an array that loops begin with.
    """
    makers = {result: op for op in fn.body.ops for result in op.results}
    filled: dict[Value, tuple[Value, Place]] = {}
    for k, place in sorted(places.items()):
        made = _made_new(fn.results[k], makers)
        if made is None or made.result in filled or made.primitive.function not in created:
            return None
        zeros = made.primitive.function is np.zeros
        param = Value(made.result.type, made.result.name) if zeros else made.result
        filled[made.result] = param, place
    ops: list[Op] = []
    builder = Builder(Block((), ops))
    for op in fn.body.ops:
        if not isinstance(op, Apply) or not op.results or op.results[0] not in filled:
            ops.append(op)
            continue
        param, place = filled[op.result]
        builder.origin = op.origin
        if place.sizes != op.result.type.shape:
            _compared(op, param, builder)
        if param is not op.result:
            set_item(Symbol(param, builder), 0.0, Ellipsis)
            ops[-1] = replace(ops[-1], results=(op.result,))
    kept = [k for k in range(len(fn.results)) if k not in places]
    results = tuple([fn.results[k] for k in kept])
    given = dict(filled.values())
    params = (*fn.params, *given)
    tree = Slot(0) if len(kept) == 1 else tuple([Slot(k) for k in range(len(kept))])
    body = Block(params, _needed(ops, results), results)
    return replace(fn, body=body, tree=tree, places=(*fn.places, *given)), given


def _made_new(result: Operand, makers: dict[Value, Op]) -> Apply | None:
    """The `np.empty` or `np.zeros` from which loops make a result."""
    while isinstance(result, Value):
        op = makers.get(result)
        if isinstance(op, For):
            result = op.inits[op.results.index(result)]
            continue
        is_new = isinstance(op, Apply) and op.primitive.function in CREATED
        return op if is_new else None  # type: ignore[return-value]
    return None


def _compared(op: Apply, place: Value, builder: Builder) -> None:
    """A place must have the lengths of the array that it replaces: the loops look at no bounds."""
    shape = substitute(op.arguments["shape"], lambda k: symbol_of(op.operands[k], builder))
    for axis, length in enumerate(shape if isinstance(shape, tuple) else (shape,)):
        own = apply_function(DIM, (Symbol(place, builder), axis), {}, builder)
        message = "operands could not be broadcast together"
        apply_function(REQUIRE_EQUAL, (own, length, message), {}, builder)


def _needed(ops: list[Op], results: tuple[Operand, ...]) -> list[Op]:
    """The operations without lengths that only the arrays needed."""
    read = {*results}
    kept: list[Op] = []
    for op in reversed(ops):
        if isinstance(op, Apply) and op.primitive.function is DIM and op.result not in read:
            continue
        read |= {*operands_of(op), *[one for inner in blocks_of(op) for one in _all_read(inner)]}
        kept.append(op)
    return kept[::-1]
