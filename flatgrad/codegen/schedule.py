"""Decides which values become statements and which are written inside what reads them.

    t = x * w;  L = sum(t)      ->   L = np.sum(x * w)      # t is read once
    t = x + i;  y = sin(t);  g = cos(t)                     # t is read twice: a statement
    t = exp(w);  for ...: y = y * t                         # read in a loop: a statement before it

A user's variable always stays a statement. An expression is not moved past a write in place, nor
past the place where a variable that it reads gets its next value.
"""

from __future__ import annotations

import operator
from bisect import bisect_right
from dataclasses import dataclass, field

import numpy as np

from flatgrad.codegen.buffers import aliased_operand, written_operand
from flatgrad.ir.ops import Apply, Block, Const, For, If, Op, Operand, Value, While, operands_of
from flatgrad.ir.types import Scalar
from flatgrad.primitives.core import IDENTITY
from flatgrad.primitives.symbolic import DIM, SIZE

MAX_WIDTH = 76
"""Characters of an expression above which its longest part becomes a statement of its own."""

Loops = tuple[For | While, ...]


@dataclass(slots=True)
class Schedule:
    """`inline`: values written where they are read, some of them `atoms`; `uses`: times read."""

    inline: set[Value] = field(default_factory=set)
    uses: dict[Value, int] = field(default_factory=dict)
    width: dict[Value, int] = field(default_factory=dict)
    atoms: set[Value] = field(default_factory=set)


@dataclass(slots=True)
class _Read:
    """A place where a value is read; `by` is the operation, None for the end of a block."""

    position: int
    loops: Loops
    by: Op | None


def is_atom(op: Apply) -> bool:
    """Cheap, short expressions that are repeated rather than named: `x.shape[0]`, `x.T`."""
    function = op.primitive.function
    return function in (DIM, SIZE) or (function is np.transpose and "axes" not in op.arguments)


def is_offset(op: Apply) -> bool:
    """`i - 1`, `2 * n`: a named int and a constant are as short as a name for them."""
    if op.primitive.operator not in ("+", "-", "*") or not _is_int(op.result):
        return False
    numbers = [o for o in op.operands if isinstance(o, Const)]
    names = [o for o in op.operands if isinstance(o, Value) and o.kept and _is_int(o)]
    return len(numbers) == len(names) == 1


def _is_int(value: Value) -> bool:
    return isinstance(value.type, Scalar) and value.type.dtype == "int64" and value.type.weak


def schedule(body: Block) -> Schedule:
    """Plan the statements of a function's body and of the blocks nested in it."""
    scan = _Scan()
    scan.block(body, ())
    plan = Schedule(uses=scan.uses)
    crossing = _crossing(scan)
    written = {written_operand(op) for op, _, _ in scan.applied}
    for op, _, loops in scan.applied:
        if len(op.results) != 1:
            continue
        reads = scan.reads.get(op.result, [])
        is_read = any(read.by is not None for read in reads) or op.result in scan.tested
        repeats = any(read.loops != loops for read in reads) and not _is_free(op)
        stays = op in crossing or op.result in written or repeats
        _plan(op, plan, stays or not (is_read or op.origin.sweep == "return"))
    return plan


class _Scan:
    """Numbers the places of a function in the order of its text and finds all reads."""

    def __init__(self) -> None:
        self.reads: dict[Value, list[_Read]] = {}
        self.uses: dict[Value, int] = {}
        self.tested: set[Value] = set()
        self.applied: list[tuple[Apply, int, Loops]] = []
        self.end: dict[Op, int] = {}
        self.made: dict[Value, int] = {}
        self.rebound: list[tuple[Value, Operand]] = []
        self.roots: dict[Value, Value] = {}
        self.place = 0

    def read(self, operand: Operand, loops: Loops, by: Op | None, weight: int = 1) -> None:
        if isinstance(operand, Value):
            self.uses[operand] = self.uses.get(operand, 0) + weight
            self.reads.setdefault(operand, []).append(_Read(self.place, loops, by))

    def block(self, block: Block, loops: Loops, tested: int = 0) -> None:
        """Scan a block; its first `tested` yields are conditions, the others become variables."""
        for op in block.ops:
            self.place += 1
            for operand in operands_of(op):
                self.read(operand, loops, op)
            match op:
                case Apply():
                    self.applied.append((op, self.place, loops))
                    self.share(aliased_operand(op), op.results)
                    self.share(written_operand(op), op.results)
                case If():
                    self.branches(op, loops)
                case For() | While():
                    self.loop(op, loops)
            self.end[op] = self.place
            for result in op.results:
                self.made[result] = self.place
        self.place += 1
        for k, item in enumerate(block.yields):
            if k < tested and isinstance(item, Value):
                self.tested.add(item)
            self.read(item, loops, None, weight=1 if k < tested else 2)

    def branches(self, op: If, loops: Loops) -> None:
        self.block(op.then, loops)
        self.block(op.orelse, loops)
        self.place += 1
        for branch in (op.then, op.orelse):
            for item, result in zip(branch.yields, op.results, strict=True):
                self.share(item, (result,))
                if isinstance(item, Value) and item.name == result.name:
                    self.rebound.append((item, result))

    def loop(self, op: For | While, loops: Loops) -> None:
        inner = (*loops, op)
        carried = op.body.params
        start = self.place
        if isinstance(op, While):
            self.block(op.condition, inner, tested=1)
            for param, seen in zip(op.body.params, op.condition.params, strict=True):
                self.share(param, (seen,))
        else:
            carried = carried[1:]
        self.block(op.body, inner, tested=int(op.exits))
        self.place += 1
        yields = op.body.yields[int(op.exits) :]
        for init, param, item, result in zip(op.inits, carried, yields, op.results, strict=True):
            self.share(init, (param, result))
            self.share(item, (param,))
            self.rebound.append((param, item))
            if isinstance(init, Value):
                self.made[param] = start
                self.rebound.append((init, param))

    def share(self, source: Operand | None, results: tuple[Value, ...]) -> None:
        """`results` may have the memory of `source`."""
        for result in results:
            if isinstance(source, Value):
                one, other = self.root(source), self.root(result)
                if one is not other:
                    self.roots[other] = one

    def root(self, value: Value) -> Value:
        """The representative of all that may share memory with `value`."""
        while value in self.roots:
            value = self.roots[value]
        return value


def _crossing(scan: _Scan) -> set[Apply]:
    """Operations that, written where their result is read, would see a later write to an array.

    Also those that would keep the old value of a variable alive beyond its next one. Taken
    backwards, as an expression may be read by an expression that is itself written later.
    """
    changes: dict[Value, list[int]] = {}
    for op, place, _ in scan.applied:
        base = written_operand(op)
        if base is not None:
            changes.setdefault(scan.root(base), []).append(place)
    rebindings: dict[Value, list[int]] = {}
    for old, new in scan.rebound:
        if isinstance(new, Value) and new is not old and new in scan.made:
            rebindings.setdefault(old, []).append(scan.made[new])
    for places in rebindings.values():
        places.sort()
    found: set[Apply] = set()
    if not changes and not rebindings:
        return found
    where: dict[Op, int] = {}
    for op, place, loops in reversed(scan.applied):
        if len(op.results) != 1:
            continue
        last = place
        for read in scan.reads.get(op.result, ()):
            last = max(last, where.get(read.by, read.position) if read.by else read.position)
            if len(read.loops) > len(loops):
                last = max(last, scan.end[read.loops[len(loops)]])
        parts = [operand for operand in op.operands if isinstance(operand, Value)]
        if any(
            _between(place, changes.get(scan.root(part), ()), last)
            or _between(place, rebindings.get(part, ()), last)
            for part in parts
        ):
            found.add(op)
        elif not (op.result.kept or op.primitive.in_place or op.primitive.effect):
            where[op] = last
    return found


def _between(first: int, places: list[int] | tuple[()], last: int) -> bool:
    """Whether one of the sorted places lies strictly between two others."""
    k = bisect_right(places, first)
    return k < len(places) and places[k] < last


def _is_free(op: Apply) -> bool:
    """Whether writing the expression again in every trip of a loop repeats no work."""
    return is_atom(op) or is_offset(op) or op.primitive.function is IDENTITY


def _plan(op: Apply, plan: Schedule, stays: bool) -> None:
    value = op.result
    width = _width(op, plan)
    plan.width[value] = len(value.name or "value")
    if value.kept or op.primitive.in_place or op.primitive.effect or stays:
        return
    repeated = _is_free(op) or op.origin.sweep == "return"
    if not repeated and plan.uses.get(value, 0) != 1:
        return
    plan.inline.add(value)
    plan.width[value] = width
    if is_atom(op):
        plan.atoms.add(value)


def _width(op: Apply, plan: Schedule) -> int:
    """The width of an expression; where it is too wide, its widest part is taken out."""
    parts = [o for o in op.operands if isinstance(o, Value)]
    written_short = op.primitive.operator or op.primitive.function is operator.getitem
    own = 3 if written_short or op.primitive.in_place else len(op.primitive.text) + 2
    static = [item for item in op.arguments.items() if isinstance(item[1], bool | int | str)]
    own += sum(len(key) + len(repr(tree)) + 3 for key, tree in static)
    total = own + sum(plan.width.get(part, len(part.name or "value")) + 2 for part in parts)
    # What fills an array stays in the statement: a product writes into it, without an array before.
    fills = op.primitive.in_place and op.arguments.get("index") is Ellipsis
    if total > MAX_WIDTH and not fills:
        inlined = [part for part in parts if part in plan.inline and plan.width[part] > 12]
        inlined = [part for part in inlined if part not in plan.atoms]  # may have a shorter text
        if inlined:
            widest = max(inlined, key=lambda part: plan.width[part])
            plan.inline.discard(widest)
            total -= plan.width[widest] - len(widest.name or "value")
            plan.width[widest] = len(widest.name or "value")
    return total
