"""Accesses to the arrays of a nest of loops, and what a loop inside visits.

x[c, d - 1]        scalar_entries: (c, d - 1); base_of: x
for a in range(d)  covers an axis of length d
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flatgrad.analysis.affine import Affine
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Op,
    Operand,
    Slot,
    Value,
    blocks_of,
    is_const,
    size_of,
    substitute,
)
from flatgrad.ir.types import Scalar

WHOLE = "whole"
"""An axis of which all elements are written, in a fact."""

Entry = Affine | str
Fact = tuple[Entry, ...]


class Dependent(Exception):
    """The trips may depend on each other, or hold what is not followed here."""


@dataclass(slots=True, eq=False)
class Thread:
    """All versions of one array, of which `first` comes into the trip or is made in it.

    `kind`: "made" in the trip, "private" (written before it is read), "restored" (left as the zeros
    that it was found as), "added" to, "elements" (of each trip's own), "same" (never written).
    `result` is what the loop hands on, None for what is made inside.
    """

    first: Value
    result: Value | None = None
    kind: str = "made"
    places: list[tuple[Affine, ...]] = field(default_factory=list)
    reads: int = 0
    sets: int = 0
    adds: int = 0
    early: bool = False
    """Whether an element is read that the trip may not have written."""


@dataclass(frozen=True, slots=True)
class View:
    """A part of an array that is read: `base[entries]`; of a thread, the version of that moment."""

    base: Value
    entries: tuple[Any, ...]


def scalar_entries(op: Apply) -> tuple[Any, ...] | None:
    """The entries of an index that are all ints, as operands or ints; None for another index."""
    index = substitute(op.arguments["index"], op.operands.__getitem__)
    entries = index if isinstance(index, tuple) else (index,)
    while entries and isinstance(entries[-1], slice) and entries[-1] == slice(None):
        entries = entries[:-1]
    for entry in entries:
        if type(entry) is int:
            continue
        kind = getattr(entry, "type", None)
        if not isinstance(kind, Scalar) or kind.dtype != "int64":
            return None
    return entries


def base_of(op: Apply) -> Operand:
    """The array that an access reads or writes."""
    slot = op.arguments[op.primitive.in_place or "x"]
    assert isinstance(slot, Slot)
    return op.operands[slot.index]


def value_of(op: Apply) -> Operand:
    """What a write puts there."""
    slot = op.arguments["value"]
    assert isinstance(slot, Slot)
    return op.operands[slot.index]


def covers(op: For, size: Any) -> bool:
    """Whether a loop visits every index of an axis once."""
    if not isinstance(op.step, Const):
        return False
    if op.step.value == 1:
        return is_const(op.start, 0) and size_of(op.stop) == size
    start = size_of(op.start)
    return op.step.value == -1 and is_const(op.stop, -1) and start is not None and start + 1 == size


def mentions(entry: Entry, values: set[Value]) -> bool:
    return isinstance(entry, Affine) and any(value in values for value, _ in entry.terms)


def defined_inside(block: Block) -> set[Value]:
    """The values that are defined in a block and in the blocks inside it."""
    found = set(block.params)
    for op in block.ops:
        found.update(op.results)
        for inner in blocks_of(op):
            found |= defined_inside(inner)
    return found


def holds_loop(op: Op) -> bool:
    """Whether an operation is a loop, or holds one."""
    return isinstance(op, For) or any(
        holds_loop(nested) for inner in blocks_of(op) for nested in inner.ops
    )
