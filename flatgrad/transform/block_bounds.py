"""How many blocks there are of rows or samples, and where each begins and ends.

    size = block_size(rows, 8 * X.shape[1])          before the loop
    blocks = len(range(0, np.maximum(rows, 1), size))
    for block in range(blocks):
        first = block * size                         in it
        width = min(size, rows - first)
        last = first + width
"""

from __future__ import annotations

import operator
from collections.abc import Container
from typing import Any

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Value
from flatgrad.ir.types import Scalar
from flatgrad.primitives.core import SMALLER, TRIPS
from flatgrad.primitives.segments import block_size
from flatgrad.primitives.symbolic import Symbol, apply_function


class Bounds:
    """The numbers of a loop over blocks; `taken` are names that its index may not have."""

    def __init__(self, builder: Builder, taken: Container[str | None]) -> None:
        self.builder = builder
        name = next((one for one in ("block", "part", "chunk") if one not in taken), "k")
        self.index = Value(Scalar("int64", weak=True), name, kept=True)

    def make(self, function: Any, *args: Any) -> Any:
        return apply_function(function, args, {}, self.builder)

    def measure(self, count: Any, name: str, row: Any) -> Any:
        """How many blocks `count` rows of `row` bytes are; none are one block."""
        self.count = named(count, name)
        self.size = named(self.make(block_size, self.count, row), "size")
        at_least = self.make(np.maximum, self.count, 1)
        return named(self.make(TRIPS, 0, at_least, self.size), "blocks")

    def take(self) -> tuple[Any, Any, Any]:
        """Where the block begins, how many rows it has, and where it ends."""
        first = named(Symbol(self.index, self.builder) * self.size, "first")
        rest = self.make(operator.sub, self.count, first)
        width = named(self.make(SMALLER, self.size, rest), "width")
        return first, width, named(first + width, "last")


def named(symbol: Any, name: str) -> Any:
    """The same, with a name of its own if it is made here."""
    if isinstance(symbol, Symbol) and symbol.value.name is None:
        symbol.value.name, symbol.value.kept = name, True
    return symbol
