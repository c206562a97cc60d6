"""Groups of array operations that become one loop nest.

    s = x - m;  e = exp(s);  t = sum(e, axis=1)        one group over the axes of x

A group is legal if nothing between its members depends on one of them and is read by another: then
all of it can stand where its last member stands. An operation joins the group of what it reads, or
one that reads the same arrays, if its elements are those of the group's axes (*full*) or of its
leading axes alone (*row*: what is left of a sum over the others).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from flatgrad.ir.ops import Apply, Block, Op, Slot, Value, blocks_of, operands_of
from flatgrad.primitives.core import IDENTITY
from flatgrad.transform.dce import has_effect, reads
from flatgrad.transform.fuse_spaces import (
    PASSING,
    Form,
    Lengths,
    Shape,
    data_operands,
    is_array,
    is_heavy,
    is_map,
    is_reduction,
    operand_form,
    reduced_axes,
)

MAX_MEMBERS = 120
MAX_RANK = 4


@dataclass(slots=True)
class Member:
    """One operation of a group; `form` says how its result is indexed in the nest.

    `source` is the form of what a reduction reduces.

    `level` is "full" or "row" by the elements that it reads; `into` is for reductions only: "row"
    where the result is a number per row, "total" for one number, "array" for all else.
    """

    op: Apply
    level: str
    form: Form
    into: str | None = None
    source: Form = ()

    @property
    def is_row(self) -> bool:
        """Whether the result is a number per row."""
        return self.into == "row" or (self.into is None and self.level == "row")


@dataclass(slots=True, eq=False)
class Group:
    """Operations over one iteration space; `outer` of its axes are those of the rows."""

    space: Shape
    bit: int
    outer: int | None = None
    members: list[Member] = field(default_factory=list)
    made: dict[Value, Member] = field(default_factory=dict)
    inputs: set[Value] = field(default_factory=set)
    deps: int = 0
    closed: bool = False
    last: int = 0

    @property
    def rank(self) -> int:
        """The number of axes."""
        return len(self.space)

    def forms(self) -> Iterator[tuple[str, Form]]:
        """How arrays of the group can be indexed."""
        yield "full", tuple(range(self.rank))
        if self.outer:
            leading = tuple(range(self.outer))
            yield "row", leading
            yield "row", (*leading, *[None] * (self.rank - self.outer))

    def is_worth_it(self) -> bool:
        """Whether a nest is better than the statements."""
        real = [m for m in self.members if m.op.primitive.function not in PASSING]
        return len(real) > 1 or any(is_heavy(m.op) for m in real)


class Grouping:
    """The groups of one block, in the order in which they were begun."""

    def __init__(self, block: Block, lengths: Lengths) -> None:
        self.block = block
        self.lengths = lengths
        self.groups: list[Group] = []
        self.of: dict[Value, Group] = {}
        self.mask: dict[Value, int] = {}
        self.roots: dict[Value, Value] = {}
        self.effects = 0
        self.carried = set(block.params)
        self.places: dict[Op, int] = {op: place for place, op in enumerate(block.ops)}
        self.count = 0
        self.read = {value for op in block.ops for value in _read_by(op)}
        for place, op in enumerate(block.ops):
            self.visit(place, op)

    def visit(self, place: int, op: Op) -> None:
        """Put an operation into a group, or note what it depends on."""
        read = [value for value in _read_by(op) if isinstance(value, Value)]
        needs = 0
        for value in read:
            needs |= self.mask.get(value, 0)
        if isinstance(op, Apply) and self.is_candidate(op):
            group = self.group_for(op, read)
            if group is not None:
                group.last = place
                self.depend(group, self.closure(needs) & ~group.bit)
                self.of[op.results[0]] = group
                self.mask[op.results[0]] = group.bit
                return
        if has_effect(op):
            needs |= self.effects
            self.effects = needs
        for result in op.results:
            self.mask[result] = needs
        if isinstance(op, Apply):
            self.note_memory(op)

    def is_candidate(self, op: Apply) -> bool:
        """Whether the operation can stand in a nest.

        A last `a += e` on an array of the loop stays a statement, which needs no new array.
        """
        if not (is_map(op) or is_reduction(op)):
            return False
        first = op.operands[0]
        added = op.primitive.operator in ("+", "-") and first in self.carried
        named = isinstance(first, Value) and first.name == op.result.name
        return not (added and named and op.result not in self.read)

    def closure(self, mask: int) -> int:
        """All groups on which something depends that depends on these."""
        found = mask
        for group in self.groups:
            if mask & group.bit:
                found |= group.deps
        return found

    def depend(self, group: Group, needs: int) -> None:
        """The group needs the results of others, so all that need it do."""
        group.deps |= needs
        for other in self.groups:
            if other.deps & group.bit:
                other.deps |= needs

    def note_memory(self, op: Apply) -> None:
        """Writing into an array ends the groups that read it: they would have to come after."""
        name = op.primitive.in_place or op.primitive.alias
        slot = op.arguments.get(name) if name else None
        if not isinstance(slot, Slot) or len(op.results) != 1:
            return
        base = op.operands[slot.index]
        if not isinstance(base, Value):
            return
        root = self.roots.get(base, base)
        self.roots[op.results[0]] = root
        if op.primitive.in_place:
            for group in self.groups:
                if any(self.roots.get(value, value) is root for value in group.inputs):
                    group.closed = True

    # Joining.

    def group_for(self, op: Apply, read: list[Value]) -> Group | None:
        """The group that the operation joins, or a new one."""
        self.merge_makers(read)
        makers = [self.of[value] for value in read if value in self.of]
        arrays = {value for value in read if is_array(value)}
        sharing = [group for group in self.groups if group.inputs & arrays]
        for group in dict.fromkeys([*reversed(makers), *reversed(sharing)]):
            if self.joins(op, read, group):
                return group
        if op.primitive.function is IDENTITY:
            return None
        source = op.operands[0] if is_reduction(op) else op.result
        group = Group(source.type.shape, 1 << self.count)
        if not 0 < group.rank <= MAX_RANK or self.member(op, group) is None:
            return None
        self.count += 1
        self.groups.append(group)
        self.joins(op, read, group)
        return group

    def merge_makers(self, read: list[Value]) -> None:
        """Make one group of those that make what is read, where neither needs the other."""
        kept: list[Group] = []
        for one in dict.fromkeys([self.of[value] for value in read if value in self.of]):
            other = next((group for group in kept if self.mergeable(one, group)), None)
            if other is None:
                kept.append(one)
            else:
                self.merge(one, other)

    def mergeable(self, one: Group, other: Group) -> bool:
        """Whether two groups can be one; `outer` of a group without rows may be anything."""
        return not (
            one.closed
            or other.closed
            or one.deps & other.bit
            or other.deps & one.bit
            or not self.lengths.alike(one.space, other.space)
            or not (one.outer is None or other.outer in (None, one.outer))
            or len(one.members) + len(other.members) > MAX_MEMBERS
        )

    def merge(self, one: Group, other: Group) -> None:
        """Move the members of `one` into `other`."""
        self.groups.remove(one)
        for value in one.made:
            self.of[value] = other
        other.members += one.members
        other.members.sort(key=lambda member: self.places[member.op])
        other.made |= one.made
        other.inputs = (one.inputs | other.inputs) - other.made.keys()
        other.bit |= one.bit
        other.outer = one.outer if other.outer is None else other.outer
        other.last = max(one.last, other.last)
        self.depend(other, one.deps)

    def joins(self, op: Apply, read: list[Value], group: Group) -> bool:
        """Add the operation to the group if that is legal."""
        if group.closed or len(group.members) >= MAX_MEMBERS:
            return False
        for value in read:
            outside = self.of.get(value) is not group
            if outside and self.closure(self.mask.get(value, 0)) & group.bit:
                return False
        member = self.member(op, group)
        if member is None:
            return False
        if member.into == "row" and group.outer is None:
            group.outer = len(member.form) if not _keeps(op) else _leading(member.form)
        group.members.append(member)
        group.made[op.result] = member
        group.inputs |= {value for value in read if is_array(value) and value not in group.made}
        return True

    def member(self, op: Apply, group: Group) -> Member | None:
        """How the operation stands in the group; None if it cannot."""
        return self.reduction(op, group) if is_reduction(op) else self.map(op, group)

    def map(self, op: Apply, group: Group) -> Member | None:
        shape = op.result.type.shape
        for level, form in group.forms():
            if not self.fits(shape, form, group):
                continue
            parts = [(o, operand_form(op, o, form, self.lengths)) for o in data_operands(op)]
            if level == "row" and not any(part in group.made for part, _ in parts):
                continue
            if all(own is not None and self.readable(part, own, group) for part, own in parts):
                return Member(op, level, form)
        return None

    def fits(self, shape: Shape, form: Form, group: Group) -> bool:
        """Whether an array of this shape can be indexed by this form."""
        if len(shape) != len(form):
            return False
        sizes = [1 if axis is None else group.space[axis] for axis in form]
        return self.lengths.alike(shape, tuple(sizes))

    def readable(self, operand: object, form: Form, group: Group) -> bool:
        """Whether an element with these indices is at hand: what the group makes, by its form."""
        if not isinstance(operand, Value) or operand not in group.made:
            return True
        maker = group.made[operand]
        return maker.into in (None, "row") and maker.form == form

    def reduction(self, op: Apply, group: Group) -> Member | None:
        source = op.operands[0]
        axes = reduced_axes(op)
        for level, form in group.forms():
            fits = self.fits(source.type.shape, form, group)
            made = source in group.made
            if not fits or (level == "row" and not made):
                continue
            if not self.readable(source, form, group):
                continue
            keeps = bool(op.arguments.get("keepdims"))
            left = tuple(
                None if k in axes else axis
                for k, axis in enumerate(form)
                if keeps or k not in axes
            )
            return Member(op, level, left, self.into(axes, form, level, group), form)
        return None

    def into(self, axes: tuple[int, ...], form: Form, level: str, group: Group) -> str:
        if all(axis is None or k in axes for k, axis in enumerate(form)):
            return "total"
        outer = len(form) - len(axes)
        trailing = axes == tuple(range(outer, len(form)))
        if level == "full" and trailing and group.outer in (None, outer):
            return "row"
        return "array"


def _keeps(op: Apply) -> bool:
    return bool(op.arguments.get("keepdims"))


def _leading(form: Form) -> int:
    return sum(axis is not None for axis in form)


def _read_by(op: Op) -> Iterator[object]:
    """What an operation reads, in the blocks that it holds as well."""
    yield from operands_of(op)
    for inner in blocks_of(op):
        yield from reads(inner)
