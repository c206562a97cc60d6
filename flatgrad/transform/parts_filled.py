"""Parts of an array that one nest computes are filled by the nest.

    grad_g, grad_i = grad_loop(z, ...)           grad_z = grad_loop(z, ...)
    grad_z = np.zeros_like(z)            ->          grad_z = np.zeros_like(z)
    grad_z[n:] += grad_g                             for i in range(n):
    grad_z[:n] += grad_i                                 grad_z[n + i] += ...
                                                         grad_z[i] += ...

So the adjoint of an array is made that was read in parts of equal lengths. A part must begin at 0
or a known multiple of the number of trips, so that the index is seen to be natural.
"""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass, replace

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
    is_const,
    operands_of,
    size_of,
    substitute,
)
from flatgrad.primitives.callee import Callee, call_of, function_of
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.primitives.symbolic import (
    DIM,
    REQUIRE_EQUAL,
    apply_function,
    operand_of,
    symbol_of,
)
from flatgrad.transform.clone import with_blocks

MESSAGE = "operands could not be broadcast together"


def fill_parts(fn: Function) -> Function:
    """The function with such nests."""
    uses = Counter(all_reads(fn.body))
    return replace(fn, body=_block(fn.body, uses))


@dataclass(slots=True)
class _Chain:
    """Zeros, and what a call gives for parts of them, one after the other."""

    zeros: Apply
    call: Apply
    adds: list[Apply]


def _block(block: Block, uses: Counter[Operand]) -> Block:
    ops: list[Op] = [
        op if isinstance(op, Apply) else with_blocks(op, lambda one: _block(one, uses))
        for op in block.ops
    ]
    block = Block(block.params, ops, block.yields)
    while True:
        for chain in _chains(block, uses):
            made = _filling(chain)
            if made is not None:
                block = _replaced(block, chain, made)
                break
        else:
            return block


def _chains(block: Block, uses: Counter[Operand]) -> list[_Chain]:
    """The chains of a block; each value in them is read once, by the next."""
    makers = {value: op for op in block.ops for value in op.results}
    found = []
    for zeros in block.ops:
        if not isinstance(zeros, Apply) or zeros.primitive.function is not np.zeros_like:
            continue
        if len(zeros.operands) != 1:
            continue
        adds: list[Apply] = []
        call: Op | None = None
        value = zeros.result
        while uses[value] == 1:
            reader = next((op for op in block.ops if value in operands_of(op)), None)
            if not isinstance(reader, Apply) or reader.primitive.function is not ADD_ITEM:
                break
            term = reader.operands[reader.arguments["value"].index]
            maker = makers.get(term)
            if not isinstance(term, Value) or uses[term] != 1 or reader.operands[0] is not value:
                break
            if call is not None and maker is not call:
                break
            call = maker
            adds.append(reader)
            value = reader.result
        if adds and _is_nest(call):
            assert isinstance(call, Apply)
            found.append(_Chain(zeros, call, adds))
    return [chain for chain in found if len(chain.adds) > 1 and _is_early(block, chain)]


def _is_nest(op: Op | None) -> bool:
    return isinstance(op, Apply) and isinstance(op.primitive, Callee) and op.primitive.nest


def _is_early(block: Block, chain: _Chain) -> bool:
    """Whether all that the chain reads is there before the call."""
    there = {value for op in block.ops[block.ops.index(chain.call) :] for value in op.results}
    read = [*chain.zeros.operands]
    for add in chain.adds:
        read += [o for o in add.operands[1:] if o not in chain.call.results]
    return not any(operand in there for operand in read)


def _filling(chain: _Chain) -> tuple[Callee, tuple[Value, ...]] | None:
    """The nest that fills the array, and which values its results are; None if it cannot."""
    fn = chain.call.primitive.called
    loops = [op for op in fn.body.ops if not isinstance(op, Apply)]
    if len(loops) != 1 or not isinstance(loops[0], For) or fn.places:
        return None
    (loop,) = loops
    array = chain.zeros.result.type
    if array.ndim != 1 or any(not isinstance(op, Apply) for op in loop.body.ops):
        return None
    if loop.exits or not is_const(loop.start, 0) or not is_const(loop.step, 1):
        return None
    known = dict(zip(chain.call.operands, fn.params, strict=True))
    like = known.get(chain.zeros.operands[0])
    if like is None:
        return None
    parts = _parts(chain, fn, loop)
    counted = None if parts is None else _counted(fn, loop, [start for start, _ in parts.values()])
    if parts is None or counted is None:
        return None
    return _written(chain, fn, loop, like, parts, counted)


Parts = dict[int, tuple[Size, slice]]
"""For each result of a loop that is a part: the size of where it begins, and the slice."""


def _parts(chain: _Chain, fn: Function, loop: For) -> Parts | None:
    found: Parts = {}
    for add in chain.adds:
        term = add.operands[add.arguments["value"].index]
        index = substitute(add.arguments["index"], add.operands.__getitem__)
        result = fn.results[chain.call.results.index(term)]
        if result not in loop.results or not isinstance(index, slice) or index.step is not None:
            return None
        if term.type.dtype != add.result.type.dtype or term.type.shape == (1,):
            return None
        start = 0 if index.start is None else _size(index.start)
        k = loop.results.index(result)
        if start is None or k in found or not _is_filled(fn, loop, k):
            return None
        found[k] = start, index
    return found


def _size(bound: object) -> Size | None:
    return bound if isinstance(bound, int) else size_of(bound)  # type: ignore[arg-type]


def _is_filled(fn: Function, loop: For, k: int) -> bool:
    """Whether the loop sets the elements of an empty array, each once, and reads none."""
    param, init, item = loop.body.params[k + 1], loop.inits[k], loop.body.yields[k]
    makers = {value: op for op in fn.body.ops for value in op.results}
    made = makers.get(init)  # type: ignore[arg-type]
    if not isinstance(made, Apply) or made.primitive.function is not np.empty:
        return False
    others = [op for op in fn.body.ops if init in operands_of(op) and op is not loop]
    readers = [op for op in loop.body.ops if param in operands_of(op) or item in operands_of(op)]
    if len(readers) != 1 or others or loop.inits.count(init) > 1:
        return False
    if loop.body.yields.count(item) > 1:
        return False
    (write,) = readers
    assert isinstance(write, Apply)
    index = substitute(write.arguments["index"], write.operands.__getitem__) if (
        write.primitive.function is SET_ITEM
    ) else None
    entries = index if isinstance(index, tuple) else (index,)
    return (
        write.primitive.function is SET_ITEM and write.result is item
        and write.operands[0] is param and entries == (loop.body.params[0],)
        and [*fn.results].count(loop.results[k]) == 1
    )  # fmt: skip


def _required(fn: Function, loop: For) -> list[Operand]:
    """The number of trips, and the lengths that are required to equal it."""
    found = [loop.stop]
    pairs = [
        op.operands for op in fn.body.ops[: fn.body.ops.index(loop)]
        if isinstance(op, Apply) and op.primitive.function is REQUIRE_EQUAL
    ]  # fmt: skip
    for one in found:
        for pair in pairs:
            found += [other for other in pair if one in pair and other not in found]
    return found


def _counted(fn: Function, loop: For, starts: list[Size]) -> tuple[Value, list[int]] | None:
    """A length that the number of trips is required to equal, and each start as its multiple."""
    for one in _required(fn, loop):
        size = size_of(one)
        if not isinstance(one, Value) or size is None:
            continue
        factors = [next((k for k in range(9) if size * k == start), -1) for start in starts]
        if min(factors) >= 0:
            return one, factors
    return None


def _written(
    chain: _Chain, fn: Function, loop: For, like: Value, parts: Parts,
    counted: tuple[Value, list[int]],
) -> tuple[Callee, tuple[Value, ...]]:  # fmt: skip
    """The nest with the array in the place of its parts."""
    stop, factors = counted
    known = dict(zip(chain.call.operands, fn.params, strict=True))
    extra: dict[Operand, Value] = {}

    def own(operand: Operand) -> Operand:
        if not isinstance(operand, Value):
            return operand
        if operand not in known:
            extra[operand] = known[operand] = Value(operand.type, operand.name, kept=True)
        return known[operand]

    before: list[Op] = []
    builder = Builder(Block((), before))
    zeros = replace(chain.zeros, operands=(like,), results=(_like(chain.adds[-1].result),))
    equal = {size_of(one) for one in _required(fn, loop)}
    with builder.inside(Block((), before)):
        builder.origin = chain.call.origin
        before.append(zeros)
        whole = symbol_of(zeros.result, builder)
        for add in chain.adds:
            term = add.arguments["value"].index
            given = [
                None if k in (0, term) else symbol_of(own(operand), builder)
                for k, operand in enumerate(add.operands)
            ]
            index = substitute(add.arguments["index"], given.__getitem__)
            count = len(before)
            part = apply_function(operator.getitem, (whole, index), {}, builder)
            if part.type.shape[0] in equal:
                del before[count:]
                continue
            length = apply_function(DIM, (part, 0), {}, builder)
            apply_function(REQUIRE_EQUAL, (length, symbol_of(stop, builder), MESSAGE), {}, builder)
    made = _loop(loop, zeros.result, stop, dict(zip(parts, factors, strict=True)), chain)
    gone = {init for k, init in enumerate(loop.inits) if k in parts}
    rest = [op for op in fn.body.ops if not gone & {*op.results}]
    at = rest.index(loop)
    ops = [*rest[:at], *before, made, *rest[at + 1 :]]
    terms = {add.operands[add.arguments["value"].index] for add in chain.adds}
    kept = [k for k, value in enumerate(chain.call.results) if value not in terms]
    results = (*[fn.results[k] for k in kept], made.results[-1])
    outer = (*[chain.call.results[k] for k in kept], chain.adds[-1].result)
    tree = Slot(0) if len(results) == 1 else tuple([Slot(k) for k in range(len(results))])
    body = Block((*fn.params, *extra.values()), ops, results)
    callee = function_of(replace(fn, body=body, tree=tree), nest=True)
    chain.call = replace(chain.call, operands=(*chain.call.operands, *extra))
    return callee, outer


def _like(value: Value) -> Value:
    return Value(value.type, value.name, kept=value.kept)


def _loop(
    loop: For, zeros: Value, stop: Value, factors: dict[int, int], chain: _Chain
) -> For:
    """The loop that carries the whole array, and adds to its elements."""
    index = loop.body.params[0]
    whole = version = _like(zeros)
    parts = {loop.body.yields[k]: factor for k, factor in factors.items()}
    ops: list[Op] = []
    builder = Builder(Block((), ops))
    for op in loop.body.ops:
        if not isinstance(op, Apply) or not op.results or op.result not in parts:
            ops.append(op)
            continue
        with builder.inside(Block((), ops)):
            builder.origin = op.origin
            place = symbol_of(index, builder)
            factor = parts[op.result]
            if factor:
                first = symbol_of(stop, builder)
                if factor > 1:
                    first = apply_function(operator.mul, (factor, first), {}, builder)
                place = apply_function(operator.add, (first, place), {}, builder)
            term = symbol_of(op.operands[op.arguments["value"].index], builder)
            given = (symbol_of(version, builder), term, place)
            made = operand_of(apply_function(ADD_ITEM, given, {}, builder))
            assert isinstance(made, Value)
            version = made
    kept = [k for k in range(len(loop.inits)) if k not in factors]
    body = Block(
        (index, *[loop.body.params[k + 1] for k in kept], whole), ops,
        (*[loop.body.yields[k] for k in kept], version),
    )  # fmt: skip
    return replace(
        loop, stop=stop, inits=(*[loop.inits[k] for k in kept], zeros), body=body,
        results=(*[loop.results[k] for k in kept], _like(zeros)),
    )  # fmt: skip


def _replaced(block: Block, chain: _Chain, made: tuple[Callee, tuple[Value, ...]]) -> Block:
    callee, results = made
    ops: list[Op] = []
    for op in block.ops:
        if isinstance(op, Apply) and op.primitive is chain.call.primitive and (
            op.results == chain.call.results
        ):
            ops.append(call_of(callee, chain.call.operands, results, chain.call.origin))
        elif op is not chain.zeros and op not in chain.adds:
            ops.append(op)
    return Block(block.params, ops, block.yields)
