"""In which loop over a row each operation of a group stands.

    m = max(x, axis=1);  e = exp(x - m);  s = sum(e, axis=1);  p = e / s

    phase 0: m        phase 1: e, s        phase 2: p, which reads the e that phase 1 has left

A number per row is at hand from the loop after the one that computes it. An operation stands in
the earliest loop that can have it, unless it is only read later.
"""

from __future__ import annotations

from flatgrad.ir.ops import Operand, Value
from flatgrad.transform.fuse_groups import Group, Member
from flatgrad.transform.fuse_spaces import FUNCTIONS, PASSING, data_operands

CHEAP = 3
"""Operations that are repeated in a later loop rather than kept in an array of one row."""
DEAR = 10


class Phases:
    """The phases of a group; `stored` values are kept in an array of one row."""

    def __init__(self, group: Group, wanted: set[Value]) -> None:
        self.group = group
        self.wanted = wanted
        self.phase: dict[Value, int] = {}
        self.ready: dict[Value, int] = {}
        self.stored: set[Value] = set()
        for member in group.members:
            self.place(member)
        self.delay()
        self.count = max([*self.phase.values(), *self.ready.values()])
        self.store()

    def at_row(self, phase: int) -> list[Member]:
        """What is computed once per row, before the loop of this phase."""
        return [m for m in self.group.members if m.op.result not in self.phase
                and self.ready[m.op.result] == phase]

    def at_cells(self, phase: int) -> list[Member]:
        """What stands in the loop of this phase."""
        return [m for m in self.group.members if self.phase.get(m.op.result) == phase]

    def operands(self, member: Member) -> list[Operand]:
        """The operands whose elements a member reads."""
        op = member.op
        return [op.operands[0]] if member.into else data_operands(op)

    def place(self, member: Member) -> None:
        value = member.op.result
        soonest = 0
        for operand in self.operands(member):
            if isinstance(operand, Value):
                soonest = max(soonest, self.ready.get(operand, self.phase.get(operand, 0)))
        if member.level == "row":
            self.ready[value] = soonest
            return
        self.phase[value] = soonest
        if member.into == "row":
            self.ready[value] = soonest + 1

    def delay(self) -> None:
        """What is read later only, and by nobody outside, is computed later."""
        readers: dict[Value, list[int]] = {}
        for member in reversed(self.group.members):
            value = member.op.result
            if value not in self.phase:
                continue
            if member.into is None and value not in self.wanted and value in readers:
                self.phase[value] = min(readers[value])
            for operand in self.operands(member):
                if isinstance(operand, Value):
                    readers.setdefault(operand, []).append(self.phase[value])

    def store(self) -> None:
        """Decide what is kept for a later loop."""
        last: dict[Value, int] = {}
        for member in self.group.members:
            for operand in self.operands(member):
                if isinstance(operand, Value) and member.op.result in self.phase:
                    phase = self.phase[member.op.result]
                    last[operand] = max(last.get(operand, 0), phase)
        cost: dict[Value, int] = {}
        for member in self.group.members:
            value = member.op.result
            if member.into is not None or member.level == "row":
                continue
            own = 0 if member.op.primitive.function in PASSING else 1
            own = DEAR if member.op.primitive.name in FUNCTIONS else own
            total = own + sum(cost.get(o, 0) for o in self.operands(member) if isinstance(o, Value))
            later = last.get(value, 0) > self.phase[value]
            if later and total > CHEAP and value not in self.wanted:
                self.stored.add(value)
            kept = later and (value in self.wanted or value in self.stored)
            cost[value] = 0 if kept else total
