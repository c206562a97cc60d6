"""Loops of a nest under construction: what they carry, and where elements are at hand.

    loop(nest, [0, 1], [total], body)      ->      for i in range(n): for j in range(m): body
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Block, Const, For, Operand, Origin, Value
from flatgrad.ir.types import Scalar
from flatgrad.transform.fuse_spaces import Form

INDICES = "ijkl"


@dataclass(slots=True)
class Place:
    """A block, and the elements that are known in it by what they are elements of."""

    block: Block
    elements: dict[Any, Operand] = field(default_factory=dict)


class Variable:
    """An array that is filled or a number that grows: its newest version.

    `model` has its name and type; `form` says where the array is written.
    """

    __slots__ = ("current", "form", "model")

    def __init__(self, current: Operand, form: Form, model: Value) -> None:
        self.current = current
        self.form = form
        self.model = model

    def version(self) -> Value:
        """A new version, which becomes the current one."""
        self.current = Value(self.model.type, self.model.name, kept=self.model.kept)
        return self.current


class Writer(Protocol):
    """What `loop` needs to know of the nest."""

    builder: Builder
    bounds: list[Operand]
    index: list[Operand]
    origin: Origin


def loop(
    nest: Writer, axes: Sequence[int], variables: list[Variable], body: Callable[[], None]
) -> None:
    """Loops over these axes, the first outermost, that carry the variables; `body` fills them."""
    if not axes:
        body()
        return
    axis = axes[0]
    index = Value(Scalar("int64", weak=True), INDICES[axis])
    nest.index[axis] = index
    inits = tuple([variable.current for variable in variables])
    block = Block((index, *[variable.version() for variable in variables]))
    with nest.builder.inside(block):
        loop(nest, axes[1:], variables, body)
    block.yields = tuple([variable.current for variable in variables])
    results = tuple([variable.version() for variable in variables])
    bound = nest.bounds[axis]
    nest.builder.block.ops.append(
        For(Const(0), bound, Const(1), inits, block, results, origin=nest.origin)
    )
