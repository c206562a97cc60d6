"""Cheap elements that a later nest computes itself, from an array that is kept in any case.

    h, d = h_loop(x)                        h = h_loop(x)
    grad_W = h.T @ g                  ->    grad_W = h.T @ g
    grad_x = grad_x_loop(p, d)              grad_x = grad_x_loop(p, h)

where `d` is `1 - h * h` and the last nest computes `p * d`, then `p * (1 - h * h)`.

One array less is written, and no more are read.
"""

from __future__ import annotations

from dataclasses import replace

from flatgrad.ir.ops import Apply, Block, Op, Operand, Value
from flatgrad.transform.clone import cloned, rewired_apply
from flatgrad.transform.dce import read_by
from flatgrad.transform.fuse_groups import Group, Grouping, Member
from flatgrad.transform.fuse_spaces import ARITHMETIC, data_operands, is_array, operand_form

CHEAP = 3
"""Operations that cost less than to write an array."""


def compute_later(grouping: Grouping) -> Block:
    """The block of a grouping, whose groups hand on fewer arrays."""
    later = _Later(grouping)
    for group in [*grouping.groups]:
        for member in reversed([*group.members]):
            later.visit(group, member)
    grouping.groups = [group for group in grouping.groups if group.members]
    return Block(grouping.block.params, later.ops, grouping.block.yields)


class _Later:
    """`readers` of a value are the operations of the block that read it, `out` what it yields."""

    def __init__(self, grouping: Grouping) -> None:
        self.grouping = grouping
        self.ops: list[Op] = list(grouping.block.ops)
        self.out = {item for item in grouping.block.yields if isinstance(item, Value)}
        self.readers: dict[Value, list[Op]] = {}
        self.written: set[Value] = set()
        for op in self.ops:
            for value in read_by(op):
                self.readers.setdefault(value, []).append(op)
            if not isinstance(op, Apply) or op.primitive.in_place:
                self.written |= read_by(op)

    def visit(self, group: Group, member: Member) -> None:
        """Have the group that reads a member compute it, if one does and if that is better."""
        value = member.op.result
        target = self.target(group, value)
        if target is None:
            return
        chain: list[Member] = []
        leaves: set[Value] = set()
        if not self.follow(group, value, chain, leaves) or len(chain) > CHEAP:
            return
        full = {leaf for leaf in leaves if leaf.type.ndim == group.rank} - target.inputs
        if leaves & self.written or len(full) > (value.type.dtype != "bool"):
            return
        self.move(group, value, chain, target)

    def target(self, group: Group, value: Value) -> Group | None:
        """The one other group in which a value is read, element by element."""
        outside = [op for op in self.readers.get(value, []) if not self.is_in(op, group)]
        groups = {self.grouping.of.get(op.results[0]) if op.results else None for op in outside}
        target = groups.pop() if len(groups) == 1 else None
        if target is None or value in self.out or value not in target.inputs:
            return None
        if not self.grouping.lengths.alike(group.space, target.space):
            return None
        return target if all(self.reads_elements(op, value, target) for op in outside) else None

    def is_in(self, op: Op, group: Group) -> bool:
        member = group.made.get(op.results[0]) if len(op.results) == 1 else None
        return member is not None and member.op is op

    def reads_elements(self, op: Op, value: Value, target: Group) -> bool:
        """Whether a member of `target` reads the element of its own place."""
        member = target.made.get(op.results[0])
        if member is None or member.op is not op:
            return False
        full = tuple(range(target.rank))
        if member.into:
            return member.source == full
        return operand_form(member.op, value, member.form, self.grouping.lengths) == full

    def follow(
        self, group: Group, value: Value, chain: list[Member], leaves: set[Value]
    ) -> bool:
        """Collect what computes a value from arrays that are there in any case."""
        member = group.made[value]
        full = member.level == "full" and member.into is None
        if not full or member.op.primitive.name not in ARITHMETIC:
            return False
        if member.form != tuple(range(group.rank)):
            return False
        for operand in data_operands(member.op):
            if not isinstance(operand, Value) or not is_array(operand):
                continue
            if operand not in group.made or self.is_kept(group, operand):
                leaves.add(operand)
            elif group.made[operand] not in chain and not self.follow(
                group, operand, chain, leaves
            ):
                return False
        chain.append(member)
        return True

    def is_kept(self, group: Group, value: Value) -> bool:
        """Whether a value is read outside of its group."""
        readers = self.readers.get(value, [])
        return value in self.out or not all(self.is_in(op, group) for op in readers)

    def move(self, group: Group, value: Value, chain: list[Member], target: Group) -> None:
        """Repeat the chain in `target`."""
        known: dict[Value, Operand] = {}
        copies = [replace(m, op=cloned(m.op, known, m.op.origin.sweep)) for m in chain]
        readers = [op for op in self.readers[value] if not self.is_in(op, group)]
        for op in readers:
            self.reread(op, known, target)
        result = copies[-1].op.result
        first = next(k for k, m in enumerate(target.members) if result in m.op.operands)
        at = min(self.ops.index(op) for op in self.readers[result])
        target.members[first:first] = copies
        self.ops[at:at] = [copy.op for copy in copies]
        for copy in copies:
            target.made[copy.op.result] = copy
            self.grouping.of[copy.op.result] = target
            read = {one for one in read_by(copy.op) if is_array(one)}
            target.inputs |= read - target.made.keys()
            for one in read_by(copy.op):
                self.readers.setdefault(one, []).append(copy.op)
        target.inputs.discard(value)
        self.readers[value] = [op for op in self.readers[value] if op not in readers]
        for member in reversed(chain):
            self.drop(group, member)

    def reread(self, op: Op, known: dict[Value, Operand], target: Group) -> None:
        """Have a member of `target` read what is computed there."""
        assert isinstance(op, Apply)
        new = rewired_apply(op, known)
        self.ops[self.ops.index(op)] = new
        member = replace(target.made[op.result], op=new)
        target.members = [member if one.op is op else one for one in target.members]
        target.made[op.result] = member
        for value in read_by(new):
            found = self.readers.setdefault(value, [])
            self.readers[value] = [*[one for one in found if one is not op], new]

    def drop(self, group: Group, member: Member) -> None:
        """Take away a member that nobody reads any more."""
        value = member.op.result
        if self.readers.get(value) or value in self.out or member not in group.members:
            return
        group.members.remove(member)
        del group.made[value]
        self.ops.remove(member.op)
        for operand in read_by(member.op):
            self.readers[operand] = [op for op in self.readers[operand] if op is not member.op]
