"""A loop of the forward sweep and one of the backward sweep over the same trips become one.

    for i in range(n):                      for i in range(n):
        s = S * exp_f64(z[i])                   s_exp = exp_f64(z[i])
        total = plus(total, s)      ->          total = plus(total, S * s_exp)
    for i in range(n):                          grad_S = plus(grad_S, s_exp)
        s_exp = exp_f64(z[i])
        grad_S = plus(grad_S, s_exp)

Both must be loops whose trips do not depend on each other, and the second must need nothing that
the first has at its end: the seed of a sum is a number that is known before. An array that the
first fills and the second reads, each trip its own element, is no hindrance; if nobody else reads
it, it is not made. What stands between them and needs the first comes after both.
"""

from __future__ import annotations

import operator
from dataclasses import replace

from flatgrad.analysis.affine import Integers
from flatgrad.analysis.independent import Body, element_index
from flatgrad.ir.ops import Apply, Block, For, Function, Op, Operand, Value, operands_of
from flatgrad.transform.clone import picked, rewired_apply, rewired_block, with_blocks
from flatgrad.transform.dce import has_effect, read_by


def join_loops(fn: Function) -> Function:
    """The function with such pairs of loops joined."""
    integers = Integers.of_function(fn)
    return replace(fn, body=_joined(fn.body, integers))


def _joined(block: Block, integers: Integers) -> Block:
    ops = [with_blocks(op, lambda one: _joined(one, integers)) for op in block.ops]
    place = 0
    while place < len(ops):
        found = _with_partner(ops, place, integers)
        if found is None:
            place += 1
        else:
            ops = found
    return Block(block.params, ops, block.yields)


def _with_partner(ops: list[Op], place: int, integers: Integers) -> list[Op] | None:
    """The operations with the loop at `place` joined with a later one; None if there is none."""
    first = ops[place]
    if not isinstance(first, For) or not first.vector or first.origin.sweep != "forward":
        return None
    for other, second in enumerate(ops[place + 1 :], place + 1):
        if has_effect(second):
            return None
        if isinstance(second, For) and second.vector and second.origin.sweep == "backward":
            found = _pair(first, ops[place + 1 : other], second, integers)
            if found is not None:
                return [*ops[:place], *found, *ops[other + 1 :]]
    return None


def _pair(first: For, between: list[Op], second: For, integers: Integers) -> list[Op] | None:
    """What stands in the place of two loops and of what is between them."""
    bounds = [(one.start, one.stop) for one in (first, second)]
    if any(integers.of(a) != integers.of(b) for a, b in zip(*bounds, strict=True)):
        return None
    taken = set(first.results)
    early: list[Op] = []
    late: list[Op] = []
    for op in between:
        if taken & read_by(op):
            late.append(op)
            taken |= set(op.results)
        else:
            early.append(op)
    elements = _elements(first, second, integers)
    if elements is None or (read_by(second) - _own_reads(second, elements)) & taken:
        return None
    if not elements and not _shared(first, second):
        return None
    if _written(early) & read_by(first):
        return None
    early = [_moved(op) for op in early]
    return [*early, _merged(first, second, elements), *late]


def _written(ops: list[Op]) -> set[Value]:
    """The arrays that operations, or loops among them, write in place."""
    found: set[Value] = set()
    for op in ops:
        if not isinstance(op, Apply):
            found |= read_by(op)
        elif op.primitive.in_place is not None:
            slot = op.arguments[op.primitive.in_place]
            found |= {o for o in (op.operands[slot.index],) if isinstance(o, Value)}
    return {value for value in found if value.type.ndim}


def _elements(first: For, second: For, integers: Integers) -> dict[Value, Operand] | None:
    """For what the second loop reads of arrays that the first fills, the elements themselves.

    None if it reads other elements than the trip has just written.
    """
    filled = {}
    body = Body(first, integers)
    for one, result in zip(body.carried(), first.results, strict=True):
        if one.kind == "elements" and len(one.writes) == 1 and not one.reads:
            filled[result] = one.writes[0]
    found: dict[Value, Operand] = {}
    for op in second.body.ops:
        if not isinstance(op, Apply) or op.primitive.function is not operator.getitem:
            continue
        base = op.operands[0]
        write = filled.get(base) if isinstance(base, Value) else None
        if write is None:
            continue
        index = element_index(op, integers)
        old, new = second.body.params[0], first.body.params[0]
        if index is None or tuple(entry.swapped(old, new) for entry in index) != write.index:
            return None
        found[op.result] = write.value
    return found


def _own_reads(second: For, elements: dict[Value, Operand]) -> set[Value]:
    """Arrays of which the second loop reads nothing but such elements."""
    found: set[Value] = set()
    others = {operand for operand in operands_of(second) if isinstance(operand, Value)}
    for op in second.body.ops:
        values = {operand for operand in operands_of(op) if isinstance(operand, Value)}
        if isinstance(op, Apply) and op.results and op.results[0] in elements:
            found |= {value for value in values if value.type.ndim}
        else:
            others |= values
    return found - others


def _shared(first: For, second: For) -> bool:
    """Whether both read elements of the same array, so that one visit serves both."""
    arrays = [{value for value in read_by(loop) if value.type.ndim} for loop in (first, second)]
    return bool(arrays[0] & arrays[1])


def _moved(op: Op) -> Op:
    """An operation of the backward sweep that has come to stand before the loop."""
    if op.origin.sweep != "backward":
        return op
    return replace(op, origin=replace(op.origin, sweep="early"))


def _once(block: Block, other: Block) -> Block:
    """The block with variables that `other` has under the same name as temporaries.

    They are computed again from what the tape holds; equal temporaries are merged afterwards.
    """
    names = {op.results[0].name for op in other.ops if isinstance(op, Apply) and op.results}
    mapping: dict[Value, Operand] = {}
    ops: list[Op] = []
    for op in block.ops:
        if isinstance(op, Apply) and len(op.results) == 1:
            op = rewired_apply(op, mapping)
            value = op.result
            if value.kept and value.name in names and op.primitive.in_place is None:
                plain = Value(value.type, value.name, part=value.part)
                mapping[value] = plain
                op = replace(op, results=(plain,))
        ops.append(op)
    return Block(block.params, ops, tuple([picked(item, mapping) for item in block.yields]))


def _merged(first: For, second: For, elements: dict[Value, Operand]) -> For:
    index = first.body.params[0]
    gone = set(elements)
    kept = [op for op in second.body.ops if not gone.intersection(op.results)]
    rest = Block(second.body.params, kept, second.body.yields)
    rest = rewired_block(rest, {second.body.params[0]: index, **elements})
    rest = _once(rest, first.body)
    return replace(
        first,
        inits=(*first.inits, *second.inits),
        results=(*first.results, *second.results),
        body=Block(
            (*first.body.params, *rest.params[1:]),
            [*first.body.ops, *rest.ops],
            (*first.body.yields, *rest.yields),
        ),
    )
