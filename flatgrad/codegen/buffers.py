"""Which versions of an array share memory in the emitted code.

    a1 = set_item(a0, i, v)      ->   a[i] = v             # a0 is dead and its memory is ours
                                 ->   a_1 = a.copy(); a_1[i] = v     # else
"""

from __future__ import annotations

import operator

from flatgrad.ir.ops import Apply, Block, Op, Slot, Value, blocks_of, operands_of, substitute
from flatgrad.primitives.index import is_advanced


def written_operand(op: Apply) -> Value | None:
    """The array of which an in-place operation makes the next version."""
    if op.primitive.in_place is None:
        return None
    slot = op.arguments[op.primitive.in_place]
    operand = op.operands[slot.index]
    return operand if isinstance(operand, Value) else None


def in_place_writes(block: Block) -> set[Apply]:
    """The writes that may be done in place: nobody reads the old version or a view of it later."""
    last: dict[Value, int] = {}
    for k, op in enumerate(block.ops):
        for value in _all_reads(op):
            last[value] = k
    for item in block.yields:
        if isinstance(item, Value):
            last[item] = len(block.ops)
    source = {result: op for op in block.ops for result in op.results}
    users: dict[Value, list[Value]] = {}
    for op in block.ops:
        shared = aliased_operand(op)
        if shared is not None:
            users.setdefault(shared, []).append(op.results[0])
    found: set[Apply] = set()
    for k, op in enumerate(block.ops):
        if not isinstance(op, Apply):
            continue
        base = written_operand(op)
        if base is None or not _owned(base, source, found):
            continue
        if all(last.get(value, -1) <= k for value in _sharing(base, users)):
            found.add(op)
    return found


def overlapping_writes(block: Block) -> set[Apply]:
    """The writes of an array that may share memory with the array it is written to."""
    roots: dict[Value, Value] = {}
    found: set[Apply] = set()
    for op in block.ops:
        shared = aliased_operand(op)
        if shared is not None:
            roots[op.results[0]] = roots.get(shared, shared)
        base = written_operand(op) if isinstance(op, Apply) else None
        if base is None or not isinstance(op, Apply):
            continue
        value = substitute(op.arguments["value"], op.operands.__getitem__)
        if value.type.ndim and roots.get(value, value) is roots.get(base, base):
            found.add(op)
    return found


def aliased_operand(op: Op) -> Value | None:
    """The operand whose memory the result of `op` may share."""
    if not isinstance(op, Apply) or op.primitive.alias is None or _is_element(op):
        return None
    if op.primitive.function is operator.getitem and is_copied(op):
        return None
    slot = op.arguments[op.primitive.alias]
    operand = op.operands[slot.index] if isinstance(slot, Slot) else None
    return operand if isinstance(operand, Value) else None


def _is_element(op: Apply) -> bool:
    """Whether `x[i, j]` is a number; with `...` it is a view without axes."""
    if op.primitive.function is not operator.getitem or op.result.type.ndim:
        return False
    index = op.arguments["index"]
    return all(entry is not Ellipsis for entry in (index if isinstance(index, tuple) else (index,)))


def is_copied(read: Apply) -> bool:
    """Whether `x[index]` is a copy: an array among the indices makes it one."""
    index = substitute(read.arguments["index"], lambda k: read.operands[k].type)
    entries = index if isinstance(index, tuple) else (index,)
    return any(is_advanced(entry) for entry in entries)


def _owned(value: Value, source: dict[Value, Op], in_place: set[Apply]) -> bool:
    """Whether the memory of `value` was made in this block."""
    op = source.get(value)
    return isinstance(op, Apply) and op.primitive.alias is None


def _sharing(value: Value, users: dict[Value, list[Value]]) -> list[Value]:
    """`value` and everything that may share its memory."""
    found = [value]
    for item in found:
        found += users.get(item, [])
    return found


def _all_reads(op: Op) -> list[Value]:
    found = [operand for operand in operands_of(op) if isinstance(operand, Value)]
    for inner in blocks_of(op):
        found += [item for item in inner.yields if isinstance(item, Value)]
        for nested in inner.ops:
            found += _all_reads(nested)
    return found
