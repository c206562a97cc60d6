"""Loops over cheap steps, and the loops back over them that read their tapes.

    for t in range(n): tape[t] = u; u = step(u)       the steps: `forward`
    for t in range(n - 1, -1, -1): use(tape[t])       the loop back: `back`

What is asked here is whether both can be done for some steps at a time: trip t writes row t of a
tape and nothing else of it, the loop back reads row t in trip t, and nobody else reads the tape.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flatgrad.analysis.affine import Integers, number
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Function,
    Op,
    Slot,
    Value,
    is_const,
    operands_of,
)
from flatgrad.ir.types import Array
from flatgrad.primitives.index import SET_ITEM
from flatgrad.transform.clone import all_ops
from flatgrad.transform.dce import read_by

COSTS = {
    "add": 1, "sub": 1, "mul": 1, "neg": 1, "add_item": 1, "truediv": 12, "getitem": 0,
    "set_item": 0, "dim": 0, "trips": 0, "copy": 0, "identity": 0,
}  # fmt: skip
"""What a step may consist of, and about how long it takes in units of an addition."""

MOST = 12
"""How much a step may cost for each of its rows on a tape."""

FEWEST = 64
"""Loops of fewer steps than this, where that is known, are left alone."""


@dataclass(slots=True)
class Tape:
    """A tape: the operation that makes it, its place among what the loop carries, its versions."""

    made: Apply
    place: int
    versions: set[Value]


@dataclass(slots=True)
class Pair:
    """A loop over steps, the loop back, and the tapes between them."""

    forward: For
    back: For
    tapes: list[Tape]

    @property
    def states(self) -> list[int]:
        """The places of what else the loop carries."""
        taken = [tape.place for tape in self.tapes]
        return [place for place in range(len(self.forward.inits)) if place not in taken]


def pairs_of(fn: Function) -> list[Pair]:
    """The pairs of a function that can be done for some steps at a time, and gain by it."""
    loops = [op for op in fn.body.ops if isinstance(op, For)]
    found = [_pair(loop, fn) for loop in loops if _counts_up(loop) and _is_plain(loop.body)]
    return [pair for pair in found if pair is not None]


def _pair(forward: For, fn: Function) -> Pair | None:
    makers = {op.results[0]: op for op in fn.body.ops if len(op.results) == 1}
    others = [op for op in fn.body.ops if op is not forward]
    read = {value for op in others for value in read_by(op)} | {*fn.body.yields}
    tapes = []
    for place, init in enumerate(forward.inits):
        made = makers.get(init) if isinstance(init, Value) else None
        if not isinstance(made, Apply) or made.primitive.function is not np.empty:
            if not _is_state(forward, place):
                return None
            continue
        versions = _filled(forward.body, forward.body.params[1 + place], forward.body.params[0])
        if init in read or not versions or forward.body.yields[place] not in versions:
            return None
        if init.type.dtype != "float64":
            return None
        tapes.append(Tape(made, place, versions))
    axes = max([tape.made.result.type.ndim - 1 for tape in tapes], default=0)
    rows = [tape for tape in tapes if tape.made.result.type.ndim - 1 == axes]
    if not axes or _axes(forward.body) > axes or _cost(forward.body) > MOST * len(rows):
        return None
    results = {forward.results[tape.place] for tape in tapes}
    readers = [op for op in others if results & read_by(op)]
    if len(readers) != 1 or results & {*fn.body.yields}:
        return None
    (back,) = readers
    if not isinstance(back, For) or not _counts_down(back, forward, Integers.of_function(fn)):
        return None
    if results & {*operands_of(back)} or not _only_read(back.body, results, back.body.params[0]):
        return None
    return Pair(forward, back, tapes)


def _counts_up(loop: For) -> bool:
    """Whether these are steps from 0 on, perhaps many."""
    few = isinstance(loop.stop, Const) and loop.stop.value < FEWEST
    return (
        is_const(loop.start, 0) and is_const(loop.step, 1) and not few
        and not loop.exits and not loop.vector and loop.checkpoint is None
    )  # fmt: skip


def _counts_down(loop: For, forward: For, integers: Integers) -> bool:
    """Whether a loop goes back over the same steps."""
    if not is_const(loop.stop, -1) or not is_const(loop.step, -1) or loop.exits or loop.vector:
        return False
    return integers.of(loop.start).plus(number(1)) == integers.of(forward.stop)


def _is_state(loop: For, place: int) -> bool:
    """Whether what the loop carries is a number, or an array of the same shape in all trips."""
    handed = loop.inits[place], loop.body.params[1 + place], loop.results[place]
    kinds = [one.type for one in handed]
    return all(kind.dtype == "float64" and kind.shape == kinds[0].shape for kind in kinds)


def _is_plain(block: Block) -> bool:
    """Whether a step is sums, products and quotients of elements and of slices."""
    return all(
        (not op.exits and op.checkpoint is None)
        if isinstance(op, For)
        else isinstance(op, Apply) and _is_cheap(op) and not _by_array(op)
        for op in all_ops(block)
    )


def _is_cheap(op: Apply) -> bool:
    square = op.primitive.name == "pow" and is_const(op.operands[-1], 2)
    return square or op.primitive.name in COSTS


def _by_array(op: Apply) -> bool:
    """Whether elements are read or written by an array of indices."""
    if op.primitive.name not in ("getitem", "set_item", "add_item"):
        return False
    known = {slot.index for key, slot in op.arguments.items() if key != "index" and _is_slot(slot)}
    return any(one.type.ndim for k, one in enumerate(op.operands) if k not in known)


def _is_slot(tree: object) -> bool:
    return isinstance(tree, Slot)


def _cost(block: Block) -> int:
    """How much is done for an element in a step."""
    calls = [op for op in all_ops(block) if isinstance(op, Apply)]
    return sum([COSTS.get(op.primitive.name, 1) for op in calls if _is_float(op)])


def _axes(block: Block) -> int:
    """Over how many axes a step goes: those of arrays, and loops one in the other."""
    inside = [_axes(op.body) + 1 for op in block.ops if isinstance(op, For)]
    whole = [op.result.type.ndim for op in block.ops if isinstance(op, Apply) and _adds(op)]
    return max([0, *inside, *whole])


def _adds(op: Apply) -> bool:
    """Whether elements are computed: an array that is handed on takes no time."""
    return COSTS.get(op.primitive.name, 1) > 0


def _is_float(op: Apply) -> bool:
    return op.result.type.dtype == "float64"


# Rows of a tape.


def row_slot(op: Apply) -> int | None:
    """Which operand is the first index of an access."""
    index = op.arguments["index"]
    first = index[0] if isinstance(index, tuple) and index else index
    return first.index if isinstance(first, Slot) else None


def _at_row(op: Apply, t: Value) -> bool:
    slot = row_slot(op)
    return slot is not None and op.operands[slot] is t and op.operands.count(t) == 1


def _filled(block: Block, tape: Value, t: Value) -> set[Value]:
    """The versions of a tape, if all that is done with it is to write into row t; or nothing."""
    found = {tape}
    for op in block.ops:
        if not found & read_by(op):
            continue
        match op:
            case Apply():
                written = op.primitive.function is SET_ITEM and _at_row(op, t)
                base = op.operands[op.arguments["x"].index] if written else None
                if base not in found or sum([one in found for one in op.operands]) != 1:
                    return set()
                found.add(op.result)
            case For():
                inside = _carried(op, found, t)
                if not inside:
                    return set()
                found |= inside
            case _:
                return set()
    return found


def _carried(loop: For, versions: set[Value], t: Value) -> set[Value]:
    """The versions in a loop that carries the tape once."""
    places = [k for k, init in enumerate(loop.inits) if init in versions]
    if len(places) != 1 or any(one in versions for one in (loop.start, loop.stop, loop.step)):
        return set()
    (place,) = places
    body = loop.body
    inner = _filled(body, body.params[1 + place], t)
    outside = versions & {value for op in body.ops for value in read_by(op)}
    if outside or versions & {*body.yields} or not inner:
        return set()
    if [k for k, item in enumerate(body.yields) if item in inner] != [place]:
        return set()
    return {*inner, loop.results[place]}


def _only_read(block: Block, tapes: set[Value], t: Value) -> bool:
    """Whether all that is done with tapes is to read from row t."""
    if tapes & {*block.yields}:
        return False
    for op in block.ops:
        if isinstance(op, Apply):
            if tapes & {*op.operands} and not (op.primitive.name == "getitem" and _at_row(op, t)):
                return False
        elif isinstance(op, For):
            if tapes & {*operands_of(op)} or not _only_read(op.body, tapes, t):
                return False
        elif tapes & read_by(op):
            return False
    return True


def is_row_of(op: Op, tapes: set[Value]) -> bool:
    """Whether this reads or writes a row of one of the tapes."""
    return isinstance(op, Apply) and any(
        isinstance(one, Value) and one in tapes and isinstance(one.type, Array)
        for one in op.operands
    )
