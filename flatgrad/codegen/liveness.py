"""Which values are still read later, at each place of the emitted text.

    y1 = y0 * x          # y0 is dead after this line: y1 may take over its name
    t = x + i            # inside a loop, x is live throughout: the next trip reads it

An expression is read where it is printed: an inlined value counts as a read of what it is made of.
Sets of values are bit masks, so that programs of some thousand lines stay cheap.
"""

from __future__ import annotations

from collections.abc import Iterable

from flatgrad.ir.ops import (
    Apply,
    Block,
    For,
    Function,
    If,
    Op,
    Operand,
    Value,
    While,
    blocks_of,
    operands_of,
)


class Liveness:
    """`at_def`: what is live where a value is defined; `after`: what is live after an operation.

    `through`: what is live all through a loop, because a later trip or what follows reads it.
    Invariant: two values of which neither is in the other's `at_def` can share a variable.
    """

    def __init__(self, fn: Function, inline: set[Value]) -> None:
        self.inline = inline
        self.bits: dict[Value, int] = {}
        self.values: list[Value] = []
        self.at_def: dict[Value, int] = {}
        self.after: dict[Op, int] = {}
        self.through: dict[Op, int] = {}
        self.depth: dict[Value, int] = {}
        self._free: dict[Op, int] = {}
        self._number(fn.body, 0)
        live = self._block(fn.body, self.read(fn.results))
        self._define_together(fn.params, live)

    def read(self, operands: Iterable[Operand]) -> int:
        """The values that these expressions read."""
        found = 0
        for operand in operands:
            if isinstance(operand, Value):
                found |= self.bits[operand]
        return found

    def _number(self, block: Block, depth: int) -> tuple[int, int]:
        """Number the values; what is read and what is defined inside the block."""
        defined = self._new(block.params, depth)
        read = 0
        for op in block.ops:
            if isinstance(op, Apply) and len(op.results) == 1 and op.result in self.inline:
                self.bits[op.result] = self.read(op.operands)
                continue
            read |= self.read(operands_of(op))
            free = 0
            for inner in blocks_of(op):
                nested_read, nested_defined = self._number(inner, depth + 1)
                defined |= nested_defined
                free |= nested_read & ~nested_defined
            self._free[op] = free
            read |= free
            defined |= self._new(op.results, depth)
        return read | self.read(block.yields), defined

    def _new(self, values: Iterable[Value], depth: int) -> int:
        mask = 0
        for value in values:
            self.bits[value] = 1 << len(self.values)
            self.values.append(value)
            self.depth[value] = depth
            mask |= self.bits[value]
        return mask

    def _define_together(self, values: tuple[Value, ...], live: int) -> None:
        """Values that come into being at the same time all need a place of their own."""
        together = live | self.read(values)
        for value in values:
            self.at_def[value] = together & ~self.bits[value]

    def _block(self, block: Block, live: int) -> int:
        """Walk a block backwards from what is live after it; what is live before it."""
        for op in reversed(block.ops):
            if isinstance(op, Apply) and len(op.results) == 1 and op.result in self.inline:
                continue
            self.after[op] = live
            together = live | (self.read(op.results) if isinstance(op, Apply) else 0)
            for result in op.results:
                self.at_def[result] = together & ~self.bits[result]
            outside = live & ~self.read(op.results)
            match op:
                case Apply():
                    live = outside | self.read(op.operands)
                case If():
                    live = self._if(op, outside)
                case For() | While():
                    live = self._loop(op, outside)
        return live

    def _if(self, op: If, outside: int) -> int:
        then = self._block(op.then, outside | self.read(op.then.yields))
        orelse = self._block(op.orelse, outside | self.read(op.orelse.yields))
        return self.read((op.condition,)) | then | orelse

    def _loop(self, op: For | While, outside: int) -> int:
        """A trip reads what the body reads from outside, so that stays live all through."""
        through = outside | self._free[op]
        self.through[op] = through
        entering = self._block(op.body, through | self.read(op.body.yields))
        if isinstance(op, For):
            # The bounds are evaluated after the carried variables have got their first values.
            entering |= self.read((op.start, op.stop, op.step))
        self._define_together(op.body.params, entering)
        if isinstance(op, While):
            held = through | self.read(op.condition.params) | self.read(op.condition.yields)
            entering = self._block(op.condition, held | (entering & ~self.read(op.body.params)))
            self._define_together(op.condition.params, entering)
        return through | self.read(operands_of(op))
