"""A function with branches as one branch over functions without any: each path on its own.

    if c:                              if c:
        p = sin(r)                         p = sin(r)
    else:                  ->              return p / q
        p = r                          p = r
    return p / q                       return p / q

In a short function that is differentiated several times, the derivatives of a path can use all that
was computed on it, and the branch is decided once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from flatgrad.ir.copies import copied_ops, twin
from flatgrad.ir.ops import Apply, Block, Function, If, Op, Operand, Value
from flatgrad.transform.clone import picked

PATHS = 4
"""A function with more paths keeps its branches."""

Change = Callable[[Function], Function]


def on_each_path(fn: Function, change: Change, most: int = PATHS) -> Function:
    """The function whose paths were changed one by one; `change` gives more results to each."""
    place = _first_branch(fn.body.ops)
    if place is None or most < 2:
        return change(fn)
    before, op, after = fn.body.ops[:place], fn.body.ops[place], fn.body.ops[place + 1 :]
    assert isinstance(op, If)
    sides = []
    for side in (op.then, op.orelse):
        path = _path(fn, before, side, op, after)
        changed = on_each_path(path, change, most // 2)
        shared = {id(one) for one in before}
        ops = [one for one in changed.body.ops if id(one) not in shared]
        sides.append((changed, Block((), ops, changed.body.yields)))
    (first, then), (second, orelse) = sides
    results = tuple([
        _joined(one, other) for one, other in zip(then.yields, orelse.yields, strict=True)
    ])  # fmt: skip
    whole = replace(op, then=then, orelse=orelse, results=results)
    known = {id(one) for one in first.requirements}
    requirements = first.requirements + [r for r in second.requirements if id(r) not in known]
    return replace(
        fn, body=Block(fn.params, [*before, whole], results), requirements=requirements
    )


def _first_branch(ops: list[Op]) -> int | None:
    """The place of the first branch, if only calls stand before it."""
    for k, op in enumerate(ops):
        if not isinstance(op, Apply):
            return k if isinstance(op, If) else None
    return None


def _path(fn: Function, before: list[Op], side: Block, op: If, after: list[Op]) -> Function:
    """The function where the branch goes to one side, with operations of its own from there on."""
    mapping: dict[Value, Operand] = {}
    ops = copied_ops(side.ops, mapping, "forward")
    mapping |= {
        result: picked(item, mapping)
        for result, item in zip(op.results, side.yields, strict=True)
    }  # fmt: skip
    ops += copied_ops(after, mapping, "forward")
    yields = tuple([picked(item, mapping) for item in fn.body.yields])
    return replace(fn, body=Block(fn.params, [*before, *ops], yields))


def _joined(one: Operand, other: Operand) -> Value:
    """What the branch gives for two results."""
    strict = [item for item in (one, other) if not item.type.weak] or [one]
    named = next((item for item in (one, other) if isinstance(item, Value)), None)
    made = twin(named) if named is not None else Value(strict[0].type, "entry")
    made.type = strict[0].type
    return made

