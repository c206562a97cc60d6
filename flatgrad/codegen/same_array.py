"""Which results are written, from the start, into the arrays that are given for them.

    out_w[...] = 0.0
    for i in range(n):
        out_w[i] += grad_s * x[i]       # in place: the result is `out_w`
    return out_w

Where the plan of buffers has a loop write into a copy, or hand on another array, the result is
somewhere else.
"""

from __future__ import annotations

from collections.abc import Iterable

from flatgrad.codegen.buffers import Buffers, written_operand
from flatgrad.ir.ops import Apply, Block, For, Function, If, Op, Operand, Value, While, blocks_of


def astray(fn: Function, buffers: Buffers, numbers: Iterable[int]) -> set[int]:
    """Of the results with these numbers, each with its place, those that may be in other memory."""
    known = _Arrays(fn, buffers)
    pairs = zip(numbers, fn.places, strict=True)
    return {k for k, place in pairs if known.array_of(fn.results[k]) is not place}


class _Arrays:
    """Finds the array that a value is a version of, in the same memory."""

    def __init__(self, fn: Function, buffers: Buffers) -> None:
        self.buffers = buffers
        self.makers: dict[Value, Op] = {}
        self.note(fn.body)

    def note(self, block: Block) -> None:
        for op in block.ops:
            self.makers |= dict.fromkeys(op.results, op)
            for inner in blocks_of(op):
                self.note(inner)

    def array_of(self, value: Operand) -> Operand:
        """The first version of `value` that is sure to be the same memory."""
        while isinstance(value, Value):
            before = self.before(value)
            if before is None:
                break
            value = before
        return value

    def before(self, value: Value) -> Operand | None:
        op = self.makers.get(value)
        match op:
            case Apply():
                return _base(op) if op in self.buffers.in_place else None
            case If():
                k = op.results.index(value)
                one, other = (self.array_of(b.yields[k]) for b in (op.then, op.orelse))
                return one if one is other else None
            case For() | While():
                k = op.results.index(value)
                params = op.body.params[1:] if isinstance(op, For) else op.body.params
                item = op.body.yields[int(op.exits) :][k]
                copied = {(op, k, True), (op, k, False)} & self.buffers.copied
                stays = not copied and self.array_of(item) is params[k]
                return op.inits[k] if stays else None
        return None


def _base(op: Apply) -> Operand:
    """The array that is written, or added to: `y += e`."""
    written = written_operand(op)
    return op.operands[0] if written is None else written
