"""Replaces groups of array operations by calls of functions that are loop nests.

    p = x * w                           L, grad_x = L_loop(x, w)
    L = sum(sin(p))             ->
    c = cos(p);  grad_x = c * w         func L_loop(%x, %w): for i: ...

An array that only the nest reads is never made: its elements are numbers. What `fuse_groups` finds
is legal, so where nothing is found, or the lengths of a loop cannot be told, the program stays.
"""

from __future__ import annotations

import operator
from dataclasses import replace

from flatgrad.ir.dims import Dim
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    Function,
    Op,
    Origin,
    Value,
    size_of,
)
from flatgrad.primitives.callee import call_of
from flatgrad.primitives.core import IDENTITY
from flatgrad.primitives.index import ADD_ITEM
from flatgrad.primitives.symbolic import DIM, SIZE
from flatgrad.transform.clone import with_blocks
from flatgrad.transform.dce import has_effect, read_by, swept
from flatgrad.transform.fuse_groups import Group, Grouping
from flatgrad.transform.fuse_later import compute_later
from flatgrad.transform.fuse_nest import Unbound, nest_of
from flatgrad.transform.fuse_spaces import Lengths, is_map
from flatgrad.transform.order import in_order


def fuse(fn: Function) -> Function:
    """The function with loop nests in the place of what they compute."""
    lengths = Lengths(fn)
    measured = Block(fn.body.params, _measure(fn.body, fn, {}), fn.body.yields)
    return replace(fn, body=swept(_fused(swept(measured), lengths, {})))


def _fused(block: Block, lengths: Lengths, outer: dict[Value, Const]) -> Block:
    known = outer | _constants(block)
    ops = [with_blocks(op, lambda inner: _fused(inner, lengths, known)) for op in block.ops]
    block = Block(block.params, ops, block.yields)
    grouping = Grouping(block, lengths)
    block = compute_later(grouping)
    groups = [one for one in grouping.groups if one.is_worth_it() or _is_added(one, block)]
    calls: dict[Group, Op] = {}
    for group in groups:
        wanted = _wanted(group, block)
        try:
            nest, operands = nest_of(group, wanted, lengths, known)
        except Unbound:
            continue
        calls[group] = call_of(nest, tuple(operands), tuple(wanted), _origin(group))
    return Block(block.params, _in_sweeps(_ordered(block, calls), calls), block.yields)


def _is_added(group: Group, block: Block) -> bool:
    """Whether a trip of a loop adds a product to a part of an array, and does no more with it.

    The nest adds it there, where the statement would make an array of it first. So that nothing
    stands between them, the nest moves to where the sum is.
    """
    if len(group.members) != 1 or not block.params:
        return False
    op = group.members[0].op
    readers = [one for one in block.ops if op.result in read_by(one)]
    if op.primitive.function is not operator.mul or op.result in block.yields:
        return False
    write = readers[0] if len(readers) == 1 else None
    if not isinstance(write, Apply) or write.primitive.function is not ADD_ITEM:
        return False
    at, end = block.ops.index(op), block.ops.index(write)
    if op.result.type.ndim != 1 or not _stay(op, block.ops[:at], block.ops[at + 1 : end]):
        return False
    group.last = end
    return True


def _stay(op: Apply, before: list[Op], between: list[Op]) -> bool:
    """Whether what an operation reads is not written to by those that follow."""
    parts = {
        one.result: one.operands[0] for one in before
        if isinstance(one, Apply) and one.primitive.function is operator.getitem
    }  # fmt: skip
    arrays = {parts.get(one, one) for one in op.operands if isinstance(one, Value)}
    arrays |= {*op.operands}
    return all(
        isinstance(one, Apply) and (one.primitive.in_place is None or not arrays & {*one.operands})
        for one in between
    )


def _constants(block: Block) -> dict[Value, Const]:
    """Names of constants: the seed `grad_L = 1.0`."""
    found = {}
    for op in block.ops:
        if isinstance(op, Apply) and op.primitive.function is IDENTITY:
            (operand,) = op.operands
            if isinstance(operand, Const) and operand.type == op.result.type:
                found[op.result] = operand
    return found


def _origin(group: Group) -> Origin:
    """A nest that serves both sweeps stands in the first."""
    origins = [member.op.origin for member in group.members]
    return next((o for o in origins if o.sweep == "forward"), origins[0])


def _wanted(group: Group, block: Block) -> list[Value]:
    """The values of a group that something outside reads, in order."""
    inside = {member.op for member in group.members}
    read = {item for item in block.yields if isinstance(item, Value)}
    for op in block.ops:
        if op not in inside:
            read |= read_by(op)
    return [member.op.result for member in group.members if member.op.result in read]


def _ordered(block: Block, calls: dict[Group, Op]) -> list[Op]:
    """The operations, each call where the last member of its group stood, after what it reads."""
    member_of = {member.op: group for group in calls for member in group.members}
    nodes: list[tuple[int, Op]] = [
        (place, op) for place, op in enumerate(block.ops) if op not in member_of
    ]
    nodes = sorted([*nodes, *[(group.last, op) for group, op in calls.items()]], key=_place)
    maker = {result: k for k, (_, op) in enumerate(nodes) for result in op.results}
    needs: list[set[int]] = []
    effect: int | None = None
    for k, (_, op) in enumerate(nodes):
        needed = {maker[value] for value in read_by(op) if value in maker}
        if has_effect(op):
            needed |= set() if effect is None else {effect}
            effect = k
        needs.append(needed)
    found = in_order([op for _, op in nodes], needs)
    assert found is not None, "a group needs what needs it"
    return found


def _in_sweeps(ops: list[Op], calls: dict[Group, Op]) -> list[Op]:
    """What is computed before a nest of both sweeps stands in the first, too."""
    mixed = {
        call
        for group, call in calls.items()
        if len({member.op.origin.sweep for member in group.members}) > 1
    }
    last = max([k for k, op in enumerate(ops) if op in mixed], default=-1)
    return [
        replace(op, origin=replace(op.origin, sweep="forward"))
        if k < last and isinstance(op, Apply) and op.origin.sweep == "backward"
        else op
        for k, op in enumerate(ops)
    ]


def _place(node: tuple[int, Op]) -> int:
    return node[0]


# Lengths of arrays that the nests will not make are those of arrays that exist.


def _measure(block: Block, fn: Function, outer: dict[Value, Apply]) -> list[Op]:
    """The operations of a block, with `x.shape[0]` for the length of what is made from `x`."""
    made = dict(outer)
    found: list[Op] = []
    for op in block.ops:
        if isinstance(op, Apply) and op.primitive.function in (DIM, SIZE):
            op = _measured(op, fn, made)
        elif not isinstance(op, Apply):
            op = with_blocks(
                op, lambda inner: Block(inner.params, _measure(inner, fn, made), inner.yields)
            )
        found.append(op)
        if isinstance(op, Apply) and len(op.results) == 1:
            made[op.result] = op
    return found


def _measured(op: Apply, fn: Function, made: dict[Value, Apply]) -> Apply:
    """The same length, of a parameter or of an operand that has it."""
    source = op.operands[0]
    sizes = source.type.shape
    while isinstance(source, Value) and source in made and is_map(made[source]):
        alike = [
            operand
            for operand in made[source].operands
            if isinstance(operand, Value) and operand.type.shape == sizes and sizes
        ]
        if not alike:
            break
        source = alike[0]
    if op.primitive.function is DIM:
        size = size_of(op.results[0])
        if isinstance(size, Dim) and size.is_atom and size.name in fn.lengths:
            source, axis = fn.lengths[size.name]
            return replace(op, operands=(source,), arguments={**op.arguments, "axis": axis})
    elif isinstance(source, Value):
        for param in fn.params:
            if param.type.ndim and param.type.shape == sizes:
                source = param
                break
    return op if source is op.operands[0] else replace(op, operands=(source,))

