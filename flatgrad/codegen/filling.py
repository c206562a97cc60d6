"""The variant of a nest that fills what it is handed.

    y = np.empty(x.shape)                    # y is a parameter
    for i in range(x.shape[0]):       ->     for i in range(x.shape[0]):
        y[i] = x[i] * x[i]                       y[i] = x[i] * x[i]
    return y

Of a place that is added to, `y[i] += x[i] * x[i]`; of one that `x` was a part of before,
`y[i] = y[i] * y[i]`.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

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
    all_reads,
    operands_of,
    reads_of,
    substitute,
)
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM, set_item
from flatgrad.primitives.registry import PRIMITIVES
from flatgrad.primitives.symbolic import DIM, REQUIRE_EQUAL, Symbol, apply_function, symbol_of


@dataclass(frozen=True, slots=True)
class Place:
    """What a nest fills, or adds to: a part with these lengths.

    With `index`, slices with known bounds, it is handed the whole of an array of this `name`, and
    takes the part itself. With `read`, the number of a parameter, it reads there what it was handed
    as that parameter before it writes.
    """

    sizes: tuple[Size, ...]
    index: Any = None
    name: str | None = None
    adds: bool = False
    read: int | None = None


CREATED: tuple[Any, ...] = (np.empty, np.zeros, np.zeros_like)


def filling(
    fn: Function, places: dict[int, Place], created: tuple[Any, ...]
) -> tuple[Function, dict[Value, Place]] | None:
    """The function with the arrays that it makes for some results as parameters.

    Zeros are written at the start, unless all is added to what is there. None where a result is
    not an array that loops begin with, or is to be added, or set where the nest reads, and is not
    set element by element.
    """
    makers = {result: op for op in fn.body.ops for result in op.results}
    filled: dict[Value, tuple[Value, Place]] = {}
    block = fn.body
    for k, place in sorted(places.items()):
        made = _made_new(fn.results[k], makers)
        if made is None or made.result in filled or made.primitive.function not in created:
            return None
        zeros = made.primitive.function is not np.empty
        if place.adds or place.read is not None:
            read = None if place.read is None else fn.params[place.read]
            followed = _followed(block, made, fn.results[k], read)
            if followed is None:
                return None
            block = followed
        clears = zeros and not place.adds
        param = Value(made.result.type, made.result.name) if clears else made.result
        filled[made.result] = param, place
    ops: list[Op] = []
    builder = Builder(Block((), ops))
    for op in block.ops:
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
    read_there = {fn.params[one.read] for one in places.values() if one.read is not None}
    params = (*[param for param in fn.params if param not in read_there], *given)
    tree = Slot(0) if len(kept) == 1 else tuple([Slot(k) for k in range(len(kept))])
    body = Block(params, _needed(ops, results), results)
    return replace(fn, body=body, tree=tree, places=(*fn.places, *given)), given


def _made_new(result: Operand, makers: dict[Value, Op]) -> Apply | None:
    """The new array from which loops make a result."""
    while isinstance(result, Value):
        op = makers.get(result)
        if isinstance(op, For):
            result = op.inits[op.results.index(result)]
            continue
        is_new = isinstance(op, Apply) and op.primitive.function in CREATED
        return op if is_new else None  # type: ignore[return-value]
    return None


def _followed(body: Block, made: Apply, result: Operand, read: Value | None) -> Block | None:
    """The block where what is written to a new array is added to what there is in its place.

    That is right where each element of an empty array is set once, or where all is added to zeros;
    and where nothing else is done with the array. With `read`, elements are set as before, and
    those of `read` are the ones that are in the place; each must be read just before it is set.
    """
    follower = _Follower(made.primitive.function is not np.empty, read)
    found = follower.block(body, made.result, ())
    if found is None or found[1] is not result:
        return None
    if read is None:
        return found[0]
    lengths = [op for op in body.ops if isinstance(op, Apply) and op.primitive.function is DIM]
    measured = sum(read in op.operands for op in lengths)
    if follower.replaced + measured != [*all_reads(body)].count(read):
        return None
    ops = [  # the new array will be a parameter
        replace(op, operands=(made.result,)) if op in lengths and read in operands_of(op) else op
        for op in found[0].ops
    ]
    return Block(body.params, ops, found[0].yields)


class _Follower:
    """Follows the versions of an array through a block, and has all writes add.

    With `read`, they set, and what was read of that is read of the array.
    """

    def __init__(self, zeros: bool, read: Value | None) -> None:
        self.zeros = zeros
        self.read = read
        self.seen: set[Operand] = set()
        self.replaced = 0

    def block(
        self, block: Block, version: Value, around: tuple[Value, ...]
    ) -> tuple[Block, Value] | None:
        """The block and the last version; `around` are the indices of the loops entered."""
        self.seen.add(version)
        ops: list[Op] = []
        steps = 0
        for op in block.ops:
            read = [one for one in reads_of(op) if one in self.seen]
            if read:
                if isinstance(op, Apply) and self.read is not None:
                    ops = [self.read_there(one, op, version) for one in ops]
                following = self.step(op, version, around) if read == [version] else None
                if following is None:
                    return None
                op, version = following
                self.seen.add(version)
                steps += 1
            ops.append(op)
        if steps > 1 and not self.zeros:
            return None
        if [one for one in block.yields if one in self.seen] != [version]:
            return None
        return Block(block.params, ops, block.yields), version

    def read_there(self, op: Op, write: Apply, version: Value) -> Op:
        """An operation before a write, which reads the element that is written then."""
        if not isinstance(op, Apply) or op.primitive.function is not operator.getitem:
            return op
        if op.operands[0] is not self.read or _entries(op) != _entries(write):
            return op
        self.replaced += 1
        return replace(op, operands=(version, *op.operands[1:]))

    def step(self, op: Op, version: Value, around: tuple[Value, ...]) -> tuple[Op, Value] | None:
        """What becomes of an operation that makes the next version."""
        if isinstance(op, For) and version in op.inits and not op.exits:
            k = op.inits.index(version)
            found = self.block(op.body, op.body.params[k + 1], (*around, op.body.params[0]))
            if found is None or found[1] is not op.body.yields[k]:
                return None
            return replace(op, body=found[0]), op.results[k]
        if not isinstance(op, Apply) or op.primitive.in_place != "x" or not around:
            return None
        if self.zeros:
            adds = op.primitive.function is ADD_ITEM and self.read is None
            return (op, op.result) if adds else None
        entries = _entries(op)
        if op.primitive.function is not SET_ITEM or len(entries) != len(around):
            return None
        if any(entry not in around for entry in entries) or len({*entries}) < len(around):
            return None
        primitive = PRIMITIVES[ADD_ITEM] if self.read is None else op.primitive
        return replace(op, primitive=primitive), op.result


def _entries(op: Apply) -> tuple[Any, ...]:
    index = substitute(op.arguments["index"], op.operands.__getitem__)
    return index if isinstance(index, tuple) else (index,)


def _compared(op: Apply, place: Value, builder: Builder) -> None:
    """A place must have the lengths of the array that it replaces: the loops look at no bounds."""
    if op.primitive.function is np.zeros_like:
        like = symbol_of(op.operands[0], builder)
        shape: Any = tuple(
            [apply_function(DIM, (like, axis), {}, builder) for axis in range(op.result.type.ndim)]
        )
    else:
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
        read |= {*reads_of(op)}
        kept.append(op)
    return kept[::-1]
