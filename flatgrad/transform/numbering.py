"""Names for the adjoints and tangents of each sweep: the second is `grad2_x`, `dot2_x`.

    grad_s = ...      # the backward sweep
    grad2_s = ...     # that of the second derivative
"""

from __future__ import annotations

import re
from dataclasses import replace

from flatgrad.ir.ops import Function, Op
from flatgrad.transform.clone import all_ops


def order(fn: Function, prefix: str) -> int:
    """Which derivative of this direction comes next: 1, or more if some were taken."""
    taken = [0]
    values = [*fn.params, *(value for op in all_ops(fn.body) for value in op.results)]
    for value in values:
        if value.of is not None and value.of[0].startswith(prefix):
            number = re.match(r"\d*", value.of[0].removeprefix(prefix))
            taken.append(int((number and number[0]) or 1))
    return max(taken) + 1


def prefixed(prefix: str, number: int) -> str:
    """`grad`, `grad2`, `grad3`."""
    return prefix if number == 1 else f"{prefix}{number}"


def heading(prefix: str, number: int) -> str:
    """The sweep in which derivative number `number` is computed."""
    last = "backward" if prefix == "grad" else "tangent"
    return last if number == 1 else f"{SWEEPS.get(number, f'{number}th')} {last}"


SWEEPS = {2: "second", 3: "third", 4: "fourth", 5: "fifth"}


def renumber(fn: Function, before: set[Op], prefix: str, number: int) -> None:
    """Name what the sweep number `number` made `grad2_x` instead of `grad_x`, and its heading.

    Only values and operations that are not in `before` are touched; they belong to no one else yet.
    """
    if number == 1:
        return
    old, new = f"{prefix}_", f"{prefixed(prefix, number)}_"
    for value in (v for op in all_ops(fn.body) if op not in before for v in op.results):
        if value.name is not None and value.name.startswith(old):
            value.name = new + value.name.removeprefix(old)
        if value.part is not None and value.part.startswith(old):
            value.part = new + value.part.removeprefix(old)
        if value.of is not None and f"{value.of[0]}_".startswith(old):
            value.of = (f"{new}{value.of[0][len(old):]}".rstrip("_"), value.of[1])
    ops = fn.body.ops
    for k, op in enumerate(ops):
        if op not in before and op.origin.sweep == "backward":
            ops[k] = replace(op, origin=replace(op.origin, sweep=heading("grad", number)))


def stamp_tangents(fn: Function, before: set[Op]) -> None:
    """Say of tangents to which sweep they belong: to that of the values that they follow."""
    sweep = "forward"
    ops = fn.body.ops
    for k, op in enumerate(ops):
        if op in before:
            sweep = op.origin.sweep
        elif sweep != "forward" and not sweep.endswith("tangent"):
            ops[k] = replace(op, origin=replace(op.origin, sweep=f"{sweep} tangent"))
