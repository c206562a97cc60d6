"""Appends operations to a block, stamping each with where it comes from.

    builder = Builder(block)
    with builder.at(Origin(span)):
        value = builder.apply(primitive, operands, arguments, type)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from flatgrad.ir.dims import Dim, Size, natural
from flatgrad.ir.ops import Apply, Block, CallSite, Operand, Origin, Requirement, Value
from flatgrad.ir.types import Type

NOUNS = {
    "add": "sum", "sub": "diff", "mul": "prod", "truediv": "ratio", "pow": "power",
    "matmul": "product", "getitem": "item", "amax": "max", "amin": "min", "sum": "total",
    "dim": "length", "expand_dims": "column", "identity": "copy", "lt": "mask", "le": "mask",
    "gt": "mask", "ge": "mask", "eq": "mask", "ne": "mask",
}  # fmt: skip
"""What a temporary is called by the operation that makes it, where its name is no noun."""


class Builder:
    """A block under construction; `lengths` tells which parameter's axis an atom measures.

    `trips` are the symbolic values of the indices of loops, each with the first one and the end.
    """

    def __init__(
        self, block: Block, lengths: dict[str, tuple[Value, int]] | None = None
    ) -> None:
        self.block = block
        self.lengths = lengths if lengths is not None else {}
        self.requirements: list[Requirement] = []
        self.origin = Origin()
        self.site: CallSite | None = None
        self.part: str | None = None
        self.prefer_math = False
        self.made: dict[Value, Apply] = {}
        self.trips: dict[str, tuple[int, Size]] = {}

    @contextmanager
    def at(
        self, origin: Origin, part: str | None = None, *, prefer_math: bool = False
    ) -> Iterator[None]:
        """Operations built inside come from `origin` and belong to the statement of `part`."""
        saved = self.origin, self.part, self.prefer_math
        if self.site is not None and origin.site is None:
            origin = replace(origin, site=self.site)
        self.origin, self.part, self.prefer_math = origin, part, prefer_math
        try:
            yield
        finally:
            self.origin, self.part, self.prefer_math = saved

    @contextmanager
    def calling(self, site: CallSite) -> Iterator[None]:
        """Operations built inside belong to the function that is called there."""
        saved, self.site = self.site, site
        try:
            yield
        finally:
            self.site = saved

    @contextmanager
    def inside(self, block: Block) -> Iterator[Block]:
        """Operations built inside go to another block."""
        saved, self.block = self.block, block
        try:
            yield block
        finally:
            self.block = saved

    def is_index(self, place: Dim, length: Size) -> bool:
        """Whether the trips of the loop, if `place` moves with one, all find it on the axis."""
        for atom, (first, end) in self.trips.items():
            moved = place - Dim.atom(atom)
            if isinstance(moved, int):
                return first + moved >= 0 and natural(length - (end + moved))
        return False

    def hint(self, primitive: Any) -> str | None:
        """The name of a temporary: after the statement that it is part of, and what it is."""
        if self.part is None:
            return None
        return f"{self.part}_{NOUNS.get(primitive.name, primitive.name)}"

    def apply(
        self,
        primitive: Any,
        operands: tuple[Operand, ...],
        arguments: dict[str, Any],
        type: Type | None,
        spelling: str | None = None,
    ) -> Value | None:
        """Append one call; None as type is a call without a result."""
        results = () if type is None else (Value(type, self.hint(primitive), part=self.part),)
        op = Apply(primitive, operands, arguments, results, self.origin, spelling)
        self.block.ops.append(op)
        for value in results:
            self.made[value] = op
        return results[0] if results else None
