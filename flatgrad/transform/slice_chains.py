"""Writes to slices of one array after the other.

    grad_u[1:-1] = 0.0;  grad_u[2:] += e;  grad_u[:-2] += e         one chain

All slices of a chain leave out the same number of elements of each axis, so that what is added has
the same shape everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from flatgrad.ir.dims import may_be_one, product
from flatgrad.ir.ops import Apply, Block, Const, Op, Operand, Slot, Value
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.transform.dce import read_by
from flatgrad.transform.gather import FEWEST

Cut = tuple[int, int]
"""How many elements a slice leaves out at both ends of an axis."""


@dataclass(slots=True)
class Chain:
    """Writes to one array after the other: `cleared`, if any, is a slice set to 0 at first."""

    base: Value
    cleared: tuple[Cut, ...] | None = None
    terms: list[tuple[tuple[Cut, ...], Value]] = field(default_factory=list)
    ops: list[Apply] = field(default_factory=list)

    @property
    def result(self) -> Value:
        """The array after all of them."""
        return self.ops[-1].result


def cuts_of(op: Apply) -> tuple[Cut, ...] | None:
    """What the slices of an index leave out; None if it is anything but such slices."""
    index = op.arguments["index"]
    entries = list(index) if isinstance(index, tuple) else [index]
    rank = op.operands[op.arguments["x"].index].type.ndim
    if not all(isinstance(entry, slice) for entry in entries):
        return None
    found: list[Cut] = []
    for entry in [*entries, *[slice(None)] * (rank - len(entries))]:
        first, stop = entry.start or 0, entry.stop
        known = type(first) is int and (stop is None or (type(stop) is int and stop < 0))
        if not known or first < 0 or entry.step not in (None, 1):
            return None
        found.append((first, -(stop or 0)))
    return tuple(found)


def chains_of(block: Block) -> list[Chain]:
    """The chains of a block, of which nobody reads the arrays in between."""
    readers: dict[Operand, list[Op]] = {}
    for op in block.ops:
        for value in read_by(op):
            readers.setdefault(value, []).append(op)
    found: list[Chain] = []
    at_end: dict[Value, Chain] = {}
    for op in block.ops:
        if not isinstance(op, Apply) or op.primitive.function not in (SET_ITEM, ADD_ITEM):
            continue
        base = op.operands[op.arguments["x"].index]
        cuts = cuts_of(op)
        if not isinstance(base, Value) or cuts is None:
            continue
        chain = at_end.pop(base, None)
        if chain is None or len(readers[base]) > 1 or base in block.yields:
            chain = Chain(base)
        if not _added(chain, op, cuts):
            chain = Chain(base)
            if not _added(chain, op, cuts):
                continue
        if chain not in found:
            found.append(chain)
        at_end[op.result] = chain
    return [chain for chain in found if _is_worth_it(chain)]


def _added(chain: Chain, op: Apply, cuts: tuple[Cut, ...]) -> bool:
    """Add a write to a chain, if it fits to the others."""
    value = op.operands[op.arguments["value"].index] if _has_slot(op) else op.arguments["value"]
    others = [cut for cut, _ in chain.terms] + ([chain.cleared] if chain.cleared else [])
    if any(trims_of(other) != trims_of(cuts) for other in others):
        return False
    if op.primitive.function is SET_ITEM:
        zero = (isinstance(value, Const) and value.value == 0) or value == 0.0
        if chain.ops or not zero or not op.result.type.dtype.startswith("float"):
            return False
        chain.cleared = cuts
    else:
        if not isinstance(value, Value) or value.type.ndim != op.result.type.ndim:
            return False
        if value.type.dtype != op.result.type.dtype or 1 in value.type.shape:
            return False
        if any(value.type.shape != other.type.shape for _, other in chain.terms):
            return False
        chain.terms.append((cuts, value))
    chain.ops.append(op)
    return True


def _has_slot(op: Apply) -> bool:
    return isinstance(op.arguments["value"], Slot)


def trims_of(cuts: tuple[Cut, ...]) -> tuple[int, ...]:
    """By how much a part is shorter than the array."""
    return tuple([first + last for first, last in cuts])


def _is_worth_it(chain: Chain) -> bool:
    places = {cuts for cuts, _ in chain.terms}
    if len(places) < 2 or not chain.base.type.dtype.startswith("float"):
        return False
    shape = chain.base.type.shape
    elements = product(shape)
    if isinstance(elements, int) and elements < FEWEST:
        return False
    if chain.cleared is None:
        return True
    # Both ends are kept as they are: they must not overlap.
    return all(
        sum(cut) == 0 or (sum(cut) <= 2 and not may_be_one(size))
        for cut, size in zip(chain.cleared, shape, strict=True)
    )


def plain(index: tuple[slice, ...]) -> Any:
    """The index as one writes it: without a tuple for one axis."""
    return index[0] if len(index) == 1 else index


def slices_of(cuts: tuple[Cut, ...]) -> tuple[slice, ...]:
    """The slices that leave out so much."""
    return tuple([slice(first or None, -last or None) for first, last in cuts])


def edges_of(cuts: tuple[Cut, ...]) -> Iterator[tuple[slice, ...]]:
    """The parts of an array around a part of it, none of which overlap."""
    for axis, (first, last) in enumerate(cuts):
        inner = slices_of(cuts[:axis])
        rest = [slice(None)] * (len(cuts) - axis - 1)
        ends = [slice(None, first)] * bool(first) + [slice(-last, None)] * bool(last)
        yield from [(*inner, end, *rest) for end in ends]
