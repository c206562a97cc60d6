"""Hands values of a branch on to the backward sweep.

    if c:                                if c:
        y = np.sin(t)                        t_1 = t
    else:                       ->       else:
        y = 0.0                              t_1 = 0.0        # never read

What the backward branch reads becomes a result of the `If`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flatgrad.ir.ops import Block, Const, If, Op, Operand, Origin, Value
from flatgrad.ir.types import Array, Scalar
from flatgrad.primitives.symbolic import Symbol, apply_function
from flatgrad.primitives.typerules import fresh_size
from flatgrad.transform.clone import twin
from flatgrad.transform.tape import dtype_keyword, length, varies

if TYPE_CHECKING:
    from flatgrad.transform.structured import Context
    from flatgrad.transform.tape import Supply


class BranchTape:
    """Hands values out of the branch that ran; the other branch yields something in their place."""

    factor = 1
    back_params: tuple[Value, ...] = ()
    back_yields: tuple[Operand, ...] = ()

    def __init__(
        self, context: Context, op: If, forwards: list[Block], scope: tuple[Value, ...]
    ) -> None:
        self.context = context
        self.op = op
        self.forwards = forwards
        self.scope = scope
        self.side = 0
        self.extra: tuple[list[Operand], list[Operand]] = ([], [])
        self.results: list[Value] = []

    def is_ragged(self, value: Value) -> bool:
        """A branch runs once: a value's shape is what it is."""
        return False

    def following(self, kept: set[Any]) -> dict[Value, Value]:
        """Nothing follows."""
        return {}

    def lengthen(self, values: set[Value], followed: dict[Value, Value]) -> None:
        """Nothing to do."""

    def after(self, value: Value, param: Value) -> Operand:
        """Never asked for."""
        raise AssertionError

    @property
    def prelude(self) -> Block:
        """A new block for what comes first in a backward branch."""
        return Block()

    def record(self, value: Value, supply: Supply) -> Operand:
        """Make a value of the branch a result of the `If`."""
        instead = self.placeholder(value)
        result = twin(value)
        if value.type.ndim and varies(self.context, value, self.scope):
            # What stands in for it has other lengths, so these are not the result's.
            result.type = Array(value.type.dtype, tuple(fresh_size() for _ in value.type.shape))
        elif isinstance(value.type, Scalar) and not isinstance(instead, Value):
            result.type = replace(value.type, size=None)  # nor is this the length it seems to be
        self.extra[self.side].append(value)
        self.extra[1 - self.side].append(instead)
        self.results.append(result)
        return result

    def placeholder(self, value: Value) -> Operand:
        """Something of the same type that is never read; a length, which may be, is what it is."""
        kind = value.type
        builder = self.context.builder
        if isinstance(kind, Scalar):
            return self.known_length(kind) or Const(np.dtype(kind.dtype).type(0).item())
        with builder.inside(Block()) as block, builder.at(Origin(None, "tape"), value.name):
            sizes = [length(self.context, size, self.scope) for size in kind.shape]
            shape = (0,) * kind.ndim if any(n is None for n in sizes) else tuple(sizes)
            made = apply_function(np.empty, (shape,), dtype_keyword(kind), builder)
        self.forwards[1 - self.side].ops += block.ops
        assert isinstance(made, Symbol)
        return made.value

    def known_length(self, kind: Scalar) -> Operand | None:
        """The length that an int of this type is, computed in the other branch."""
        builder = self.context.builder
        if kind.dtype != "int64" or kind.size is None:
            return None
        with builder.inside(Block()) as block, builder.at(Origin(None, "tape"), "length"):
            found = length(self.context, kind.size, self.scope)
        if not isinstance(found, Symbol) or found.type != kind:
            return None
        self.forwards[1 - self.side].ops += block.ops
        return found.value

    def rebuilt(self) -> Op:
        """The `If` with these results."""
        then, orelse = (
            Block((), forward.ops, (*forward.yields, *extra))
            for forward, extra in zip(self.forwards, self.extra, strict=True)
        )
        return replace(self.op, then=then, orelse=orelse, results=(*self.op.results, *self.results))
