"""Which values depend on chosen ones at all; loops and branches included.

    def f(x, d):  a = x * x;  b = d * a;  n = b.shape[0];  return n      inputs d
                  # as data: b, not a; not n either, which only reads the length of b
                  # with lengths: b and n, as n cannot be had before there is a b
"""

from __future__ import annotations

from collections.abc import Iterable

from flatgrad.analysis.activity import slots
from flatgrad.ir.ops import Apply, Block, For, If, Value, While
from flatgrad.primitives.symbolic import DIM, SIZE

LENGTHS = (DIM, SIZE)
"""Functions that read the shape of an array and none of its elements."""


def dependent(block: Block, inputs: Iterable[Value], *, lengths: bool = False) -> set[Value]:
    """The values that depend on `inputs`, these and nested ones included.

    With `lengths`, also those that only read a shape of what depends, or are computed in a loop
    whose trips are counted by it.
    """
    found = set(inputs)
    _follow(block, found, lengths)
    return found


def _follow(block: Block, found: set[Value], lengths: bool) -> None:
    for op in block.ops:
        match op:
            case Apply():
                counts = lengths or op.primitive.function not in LENGTHS
                if counts and _any(op.operands, found):
                    found.update(op.results)
            case If():
                _follow(op.then, found, lengths)
                _follow(op.orelse, found, lengths)
                chosen = op.condition in found
                rows = zip(op.results, op.then.yields, op.orelse.yields, strict=True)
                found.update(result for result, *items in rows if chosen or _any(items, found))
            case For() | While():
                _follow_loop(op, found, lengths)


def _follow_loop(op: For | While, found: set[Value], lengths: bool) -> None:
    before = -1
    while before != len(found):
        before = len(found)
        for init, param, item, result in slots(op):
            if init in found or item in found:
                found.update((param, result))
        if isinstance(op, While):
            params = zip(op.body.params, op.condition.params, strict=True)
            found.update(seen for param, seen in params if param in found)
            _follow(op.condition, found, lengths)
        _follow(op.body, found, lengths)
        if lengths and _any(_counting(op), found):
            found.update((*op.results, *op.body.params))


def _counting(op: For | While) -> Iterable[object]:
    """What decides how many trips there are."""
    exits = op.body.yields[:1] if op.exits else ()
    if isinstance(op, While):
        return (*op.condition.yields, *exits)
    return (op.start, op.stop, op.step, *exits)


def _any(operands: Iterable[object], found: set[Value]) -> bool:
    return any(operand in found for operand in operands)
