"""A loop with one loop inside it: what stands before and after it, and what all three share.

    for j in range(m):
        s = 0.0                       s: "own" to each trip of j, handed to the inner loop
        for i in range(n):
            s += A[i, j] * x[i]
        total += s * s                total: carried by what comes after

The outer loop can be made as three loops, of what comes before, of the inner loop, and of what
comes after, if each variable that it carries belongs to one of them, or is an array of which each
trip has elements of its own.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from dataclasses import dataclass, field

from flatgrad.analysis.activity import slots
from flatgrad.analysis.apart import Places
from flatgrad.analysis.dependence import LENGTHS
from flatgrad.analysis.directions import Directions
from flatgrad.analysis.independent import WRITES, element_index
from flatgrad.analysis.shared import Versions
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Op,
    Operand,
    Value,
    While,
    blocks_of,
    reads_of,
)
from flatgrad.ir.types import Scalar
from flatgrad.primitives.core import IDENTITY

BEFORE, INNER, AFTER = range(3)
INT_SUMS = (operator.add, operator.sub, operator.mul, operator.neg, IDENTITY)


class Stays(Exception):
    """The loops have to stay as they are."""


@dataclass(frozen=True, slots=True)
class Line:
    """What the outer loop carries in one variable, and the version of it before each part.

    `versions`: at the start, before the inner loop, after it, and at the end.
    """

    init: Operand
    param: Value
    item: Operand
    result: Value
    versions: tuple[Operand, Operand, Operand, Operand]

    def is_written(self, part: int) -> bool:
        """Whether a part makes new versions."""
        return self.versions[part] is not self.versions[part + 1]


@dataclass(frozen=True, slots=True)
class Own:
    """A number that each trip of the outer loop starts anew and that the inner loop carries."""

    init: Operand
    param: Value
    item: Operand
    result: Value


@dataclass(slots=True)
class Pair:
    """The two loops taken apart; raises Stays where that cannot be done.

    `still` does not depend on the trips; `indices` are sums of indices, which cost nothing to do
    again; `numbers` are lines that only the part before or after carries.
    """

    outer: For
    inner: For
    places: Places
    ordered: bool
    still: list[Apply] = field(default_factory=list)
    indices: list[Apply] = field(default_factory=list)
    before: list[Op] = field(default_factory=list)
    after: list[Op] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    numbers: dict[Value, int] = field(default_factory=dict)
    own: list[Own] = field(default_factory=list)

    @staticmethod
    def of(outer: For, places: Places, ordered: bool) -> Pair | None:
        """The pair of a loop; None if there is not one loop in it."""
        loops = [op for op in outer.body.ops if isinstance(op, For | While)]
        if len(loops) != 1 or not isinstance(loops[0], For):
            return None
        if not all(is_ordinary(loop) for loop in (outer, loops[0])):
            return None
        return Pair(outer, loops[0], places, ordered)

    def take_apart(self) -> None:
        """Find all parts, and prove that they may be made one after the other."""
        self.sort()
        inside = defined_in_loop(self.outer)
        lengths = [op for op in all_calls(self.outer.body) if op.primitive.function in LENGTHS]
        if not is_plain(self.outer.body, self.places):
            raise Stays
        if not inside.isdisjoint(operand for op in lengths for operand in op.operands):
            raise Stays
        for init, param, item, result in slots(self.outer):
            self.line(init, param, item, result)
        self.find_own()
        self.prove()

    # What stands where.

    def sort(self) -> None:
        place = self.outer.body.ops.index(self.inner)
        inside = defined_in_loop(self.outer)
        for op in self.outer.body.ops[:place]:
            if isinstance(op, Apply) and is_sum_of_ints(op):
                if inside.isdisjoint(op.operands):
                    self.still.append(op)
                    inside.difference_update(op.results)
                    continue
                allowed = {self.outer.body.params[0], *[each.result for each in self.indices]}
                if all(each in allowed for each in op.operands if each in inside):
                    self.indices.append(op)
                    continue
            self.before.append(op)
        self.after = self.outer.body.ops[place + 1 :]
        if not inside.isdisjoint((self.inner.start, self.inner.stop)):
            raise Stays

    @property
    def is_perfect(self) -> bool:
        """Whether all is done in the inner loop."""
        return not (self.before or self.after or self.own or self.numbers)

    @property
    def parts(self) -> tuple[list[Op], list[Op], list[Op]]:
        """The operations of each part."""
        return self.before, [self.inner], self.after

    def reads(self, part: int) -> set[Operand]:
        """What a part reads of what is outside of it, or makes itself."""
        return {operand for op in self.parts[part] for operand in reads_of(op)}

    # What the outer loop carries.

    def line(self, init: Operand, param: Value, item: Operand, result: Value) -> None:
        if not param.type.ndim and self.number(param, item):
            return
        line = Versions(self.outer, self.places.integers, param, param)
        versions: list[Operand] = [param]
        line.all.add(param)
        for part in self.parts:
            if not all(line.operation(op) for op in part):
                raise Stays
            versions.append(line.current)
        k = self.outer.body.params.index(param) - 1
        if line.current is not item or not line.handed(self.outer.body, k):
            raise Stays
        made = Line(init, param, item, result, tuple(versions))  # type: ignore[arg-type]
        if param.type.ndim:
            self.prove_array(line.accesses, made)
        elif self.ordered and param.type.dtype != "int64":
            raise Stays
        self.lines.append(made)

    def number(self, param: Value, item: Operand) -> bool:
        """Whether a number belongs to what stands before or after the inner loop."""
        read = [param in self.reads(part) for part in range(3)]
        if read == [False, True, False] and item in self.inner.results:
            return False
        made = {value for op in self.after for value in op.results} | {*self.inner.results}
        if not read[BEFORE] and not read[INNER]:
            self.numbers[param] = AFTER
        elif item not in made:
            self.numbers[param] = BEFORE
        else:
            raise Stays
        return True

    def find_own(self) -> None:
        """The numbers that the inner loop carries for one trip of the outer one."""
        linked = {line.versions[INNER + 1] for line in self.lines if line.is_written(INNER)}
        for init, param, item, result in slots(self.inner):
            if result not in linked:
                if param.type.ndim:
                    raise Stays
                self.own.append(Own(init, param, item, result))

    # Proofs.

    def prove_array(self, accesses: list[Apply], line: Line) -> None:
        directions = self.directions()
        parts = [{*all_calls(Block((), part))} for part in self.parts]
        by_part = [[op for op in accesses if op in part] for part in parts]
        if sum(map(bool, by_part)) > 1 and not directions.has_own_elements(accesses):
            raise Stays
        if by_part[INNER] and not directions.may_swap(by_part[INNER]):
            raise Stays

    def directions(self) -> Directions:
        """The two loops, for questions about elements."""
        inside = defined_in_loop(self.outer)
        inside -= {op.result for op in self.still}
        return Directions(self.outer, self.inner, inside, self.places, self.ordered)

    def prove(self) -> None:
        """What each part needs must be there when it is made as a whole."""
        late = [p for p, part in self.numbers.items() if part == AFTER]
        for _, param, item, _ in slots(self.outer):
            if param in self.numbers and self.numbers[param] == BEFORE and item in late:
                raise Stays
        results = {one.result for one in self.own}
        if results & {line.item for line in self.lines}:
            raise Stays
        numbers = [*self.numbers, *[one.param for one in self.own]]
        numbers += [value for op in self.before for value in op.results]
        if is_narrow(self.outer.body) and any(is_python_float(one) for one in numbers):
            raise Stays


def is_ordinary(loop: For) -> bool:
    """Whether a loop goes through all its trips, by steps that are known."""
    marks = loop.exits or loop.checkpoint or loop.snapshots or loop.vector or loop.apart
    return not marks and isinstance(loop.step, Const) and loop.step.value != 0


def is_sum_of_ints(op: Apply) -> bool:
    """Whether an operation is a length, or a sum or product of ints."""
    if op.primitive.function in LENGTHS:
        return True
    return op.primitive.function in INT_SUMS and all(
        not value.type.ndim and value.type.dtype == "int64"
        for value in (*op.operands, *op.results)
    )


def is_plain(block: Block, places: Places) -> bool:
    """Whether all is done with numbers, and can at most fail because of an index."""
    for op in block.ops:
        if isinstance(op, While) or (isinstance(op, For) and not is_ordinary(op)):
            return False
        if not all(is_plain(inner, places) for inner in blocks_of(op)):
            return False
        if isinstance(op, Apply) and not _is_plain_call(op, places):
            return False
    return True


def _is_plain_call(op: Apply, places: Places) -> bool:
    function = op.primitive.function
    if op.primitive.effect or op.primitive.body is not None or op.primitive.opaque:
        return False
    if function in LENGTHS:
        return True
    if function is not operator.getitem and function not in WRITES:
        return not any(one.type.ndim for one in (*op.operands, *op.results))
    base = op.operands[0]
    if not isinstance(base, Value) or not base.type.ndim:
        return False
    return element_index(op, places.integers) is not None


def is_narrow(block: Block) -> bool:
    """Whether there are float32 numbers, to which a Python float adapts, but none from a row."""
    return any(
        one.type.dtype == "float32"
        for op in all_calls(block) for one in (*op.operands, *op.results)
    )  # fmt: skip


def is_python_float(value: Value) -> bool:
    """Whether a value is a number that adapts to what it meets."""
    return isinstance(value.type, Scalar) and value.type.weak and value.type.differentiable


def all_calls(block: Block) -> Iterable[Apply]:
    """The calls in a block and in the blocks inside it."""
    for op in block.ops:
        if isinstance(op, Apply):
            yield op
        for inner in blocks_of(op):
            yield from all_calls(inner)


def defined_in_loop(loop: For) -> set[Operand]:
    """The values of the body of a loop, those inside its blocks included."""
    found: set[Operand] = set()
    blocks = [loop.body]
    while blocks:
        block = blocks.pop()
        found.update(block.params)
        for op in block.ops:
            found.update(op.results)
            blocks += blocks_of(op)
    return found


