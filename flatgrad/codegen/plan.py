"""The plan for the text of a function: all that is decided before a line is written."""

from __future__ import annotations

from flatgrad.codegen.buffers import Buffers, plan_buffers
from flatgrad.codegen.coalesce import Variables, yields_written_late
from flatgrad.codegen.liveness import Liveness
from flatgrad.codegen.schedule import schedule
from flatgrad.ir.ops import Function, Value

Plan = tuple[set[Value], Buffers, Variables]
"""What is written inside expressions, what is written in place, and who shares a variable."""


def plan_text(fn: Function) -> Plan:
    """The plan for the text of a function."""

    def plan(inline: set[Value]) -> Plan:
        live = Liveness(fn, inline)
        buffers = plan_buffers(fn, live)
        return inline, buffers, Variables(fn, live, buffers)

    first = plan(schedule(fn.body).inline)
    late = yields_written_late(fn.body, first[0], first[2])
    if not late:
        return first
    second = plan(first[0] | late)
    return second if second[2].apart <= first[2].apart - len(late) else first
