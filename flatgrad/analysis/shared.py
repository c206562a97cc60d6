"""What the trips of a loop share, so that they can be made in ranges at the same time.

    for i in range(n):
        x = u[i] - c[0]           u and c are only read
        out[i] = x * x            "filled": each trip has a row of its own
        total = total + x         "number": a sum that nothing else reads
        for j in range(d):
            grad_w[j] += x        "added": an array to which the trips add, at places of any trip

Anything else is None: a trip then needs what another has done. The versions of a variable are
followed in their order, so a range can write an array where it is.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field

from flatgrad.analysis.activity import slots
from flatgrad.analysis.affine import Affine, Integers
from flatgrad.analysis.dependence import LENGTHS
from flatgrad.analysis.independent import element_index
from flatgrad.ir.ops import Apply, Block, For, If, Op, Operand, Value, blocks_of, operands_of
from flatgrad.primitives.core import FILL, PLUS
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM

FILLED, NUMBER, ADDED = "filled", "number", "added"
SUMS = (operator.add, operator.sub, PLUS)
WRITES = (SET_ITEM, ADD_ITEM, FILL)


@dataclass(slots=True)
class Shared:
    """One carried variable; `offset`: how far the row of a trip is from its index."""

    param: Value
    kind: str
    offset: int = 0


def shared(loop: For, integers: Integers) -> list[Shared] | None:
    """What the loop carries, in order; None if its trips depend on each other."""
    found = []
    for _, param, _, _ in slots(loop):
        versions = Versions(loop, integers, param, param)
        kind = versions.kind() if versions.follow(loop.body) else None
        if kind is None:
            return None
        found.append(Shared(param, kind, versions.offset))
    return found


def row_of(entry: Affine, index: Value) -> int | None:
    """The distance of an index from that of the loop; None if it is not one."""
    rest = entry.plus(Affine(frozenset({(index, 1)})), -1)
    return None if rest.terms else rest.constant


@dataclass(slots=True)
class Versions:
    """One variable in the body of a loop; `current` is its version at this point.

    `accesses`: what reads or writes an element of it, in order.
    """

    loop: For
    integers: Integers
    param: Value
    current: Value
    all: set[Operand] = field(default_factory=set)
    writes: set[object] = field(default_factory=set)
    reads: bool = False
    indices: set[tuple[Affine, ...]] = field(default_factory=set)
    accesses: list[Apply] = field(default_factory=list)
    offset: int = 0

    def follow(self, block: Block) -> bool:
        """Whether all that happens in a block is understood."""
        self.all.add(self.current)
        return all(self.operation(op) for op in block.ops)

    def operation(self, op: Op) -> bool:
        match op:
            case Apply():
                return self.call(op)
            case For():
                return self.inner(op)
            case If():
                return self.branches(op)
        return not self.all & _reads((op,))

    def call(self, op: Apply) -> bool:
        used = [k for k, operand in enumerate(op.operands) if operand in self.all]
        function = op.primitive.function
        if not used or function in LENGTHS:
            return True
        if len(used) > 1 or op.operands[used[0]] is not self.current:
            return False
        if not self.current.type.ndim:
            return function in SUMS and used == [0] and self.step(op, function)
        if function is not operator.getitem and function not in WRITES:
            return False
        index = element_index(op, self.integers)
        if index is None:
            return False
        self.indices.add(index)
        self.accesses.append(op)
        if function is operator.getitem:
            self.reads = True
            return True
        return used == [op.arguments["x"].index] and self.step(op, function)

    def step(self, op: Apply, function: object) -> bool:
        """The operation makes the next version."""
        self.writes.add(function)
        self.current = op.result
        self.all.add(self.current)
        return True

    def inner(self, op: For) -> bool:
        """A loop inside, which carries the variable on, or at most reads it."""
        if not self.all & _reads((op,)):
            return True
        places = [k for k, init in enumerate(op.inits) if init is self.current]
        outside = [operand for operand in operands_of(op) if operand in self.all]
        if op.exits or len(outside) != len(places):
            return False
        if not places:
            before = self.current
            alone = self.follow(op.body) and self.current is before
            return alone and not self.all & {*op.body.yields}
        if len(places) > 1 or self.all & {*_reads(tuple(op.body.ops)), *op.body.yields}:
            return False
        (k,) = places
        self.current = op.body.params[k + 1]
        if not self.follow(op.body) or not self.handed(op.body, k):
            return False
        self.current = op.results[k]
        self.all.add(self.current)
        return True

    def branches(self, op: If) -> bool:
        """Two branches, after which the variable is a result of both."""
        if not self.all & _reads((op,)):
            return True
        start = self.current
        if op.condition in self.all:
            return False
        ends: list[Value] = []
        for block in (op.then, op.orelse):
            self.current = start
            if not self.follow(block):
                return False
            ends.append(self.current)
        found = [[k for k, item in enumerate(block.yields) if item in self.all]
                 for block in blocks_of(op)]
        self.current = start
        if found == [[], []]:
            return ends == [start, start]
        if found[0] != found[1] or len(found[0]) != 1:
            return False
        (k,) = found[0]
        if [block.yields[k] for block in blocks_of(op)] != ends:
            return False
        self.current = op.results[k]
        self.all.add(self.current)
        return True

    def handed(self, block: Block, k: int) -> bool:
        """Whether a body hands on the current version, in its place alone."""
        places = [j for j, item in enumerate(block.yields) if item in self.all]
        return places == [k] and block.yields[k] is self.current

    def kind(self) -> str | None:
        """What the variable is to the trips."""
        place = self.loop.body.params.index(self.param) - 1
        if self.current is self.param or not self.handed(self.loop.body, place):
            return None
        summable = self.param.type.dtype.startswith("float")
        if not self.param.type.ndim:
            return NUMBER if summable or self.param.type.dtype == "int64" else None
        index = self.loop.body.params[0]
        rows = {row_of(entries[0], index) for entries in self.indices}
        if len(rows) == 1 and None not in rows:
            self.offset = rows.pop() or 0
            return FILLED
        still = not any(entry.factor(index) for entries in self.indices for entry in entries)
        adds = self.writes == {ADD_ITEM} and not self.reads
        return ADDED if adds and still and summable else None


def _reads(ops: tuple[Op, ...]) -> set[Operand]:
    """What operations read, in the blocks that they hold as well."""
    found: set[Operand] = set()
    for op in ops:
        found |= {*operands_of(op)}
        for inner in blocks_of(op):
            found |= {*inner.yields, *_reads(tuple(inner.ops))}
    return found

