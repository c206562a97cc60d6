"""Operations on arrays whose axis of samples stands last.

    c = x[:, None, :] - means            c = x_T[None] - means[:, :, None]
    y = einsum("kab,nkb->nka", F, c)     y = einsum("kab,kbn->kan", F, c)
    s = sum(y * y, axis=2)          ->   s = sum(y * y, axis=1)
    m = max(s, axis=1)                   m = max(s, axis=0)

The other axes keep their order, so what no longer has the samples is the array that it was.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.copies import twin
from flatgrad.ir.dims import Size
from flatgrad.ir.ops import Apply, Operand, Slot, Value
from flatgrad.ir.types import Array
from flatgrad.primitives.einsum import EINSUM, Subscripts
from flatgrad.primitives.symbolic import Symbol, operand_of
from flatgrad.transform.batch_axes import is_view
from flatgrad.transform.fuse_spaces import data_operands, is_reduction, reduced_axes
from flatgrad.transform.sample_axes import Samples

WHOLE = slice(None)


def last(axis: int, rank: int) -> tuple[int, ...]:
    """All axes, this one last."""
    return (*[k for k in range(rank) if k != axis], axis)


class SamplesLast:
    """Builds the operations of a block; `moved` are its arrays by those of the program."""

    def __init__(self, samples: Samples, builder: Builder) -> None:
        self.samples = samples
        self.builder = builder
        self.width: Size | None = None
        self.moved: dict[Value, Value] = {}

    def place(self, value: Value) -> int | None:
        """The axis of the samples."""
        labels = self.samples.axes.of(value)
        return labels.index(self.samples.label) if self.samples.label in labels else None

    def type_of(self, value: Value) -> Any:
        """The type of a block's array."""
        kind, place = value.type, self.place(value)
        if not isinstance(kind, Array) or place is None:
            return kind
        assert self.width is not None
        others = [size for k, size in enumerate(kind.shape) if k != place]
        return Array(kind.dtype, (*others, self.width))

    def done(self, op: Apply) -> Value:
        """The operation in a block: what it makes there."""
        if is_view(op):
            made = self.view(op)
        elif is_reduction(op):
            made = self.sum(op)
        elif op.primitive.function is EINSUM:
            made = self.product(op)
        else:
            made = self.map(op)
        self.moved[op.result] = made
        return made

    def append(self, op: Apply, operands: tuple[Operand, ...], arguments: dict[str, Any]) -> Value:
        made = twin(op.result)
        made.type = self.type_of(op.result)
        done = replace(op, operands=operands, arguments=arguments, results=(made,))
        self.builder.block.ops.append(done)
        return made

    def inside(self, operand: Operand) -> Operand:
        return self.moved.get(operand, operand) if isinstance(operand, Value) else operand

    def map(self, op: Apply) -> Value:
        """Operands are moved alike; those without the samples get an axis of length 1 for them."""
        place, rank = self.place(op.result), op.result.type.ndim
        assert place is not None
        operands = list(op.operands)
        data = set(data_operands(op))
        with self.builder.at(op.origin, op.result.part or op.result.name):
            for k, operand in enumerate(op.operands):
                if isinstance(operand, Value) and operand.type.ndim and operand in data:
                    operands[k] = self.aligned(operand, place - rank + operand.type.ndim)
        arguments = op.arguments
        shape = arguments.get("shape")
        if isinstance(shape, tuple):
            sizes = [shape[k] for k in last(place, rank)]
            if isinstance(sizes[-1], Slot):
                operands[sizes[-1].index] = self.samples_here()
            arguments = {**arguments, "shape": tuple(sizes)}
        return self.append(op, tuple(operands), arguments)

    def aligned(self, operand: Value, axis: int) -> Operand:
        """An operand of a map with this axis, which may be before its first one, last."""
        if operand in self.moved:
            return self.moved[operand]
        symbol: Any = Symbol(operand, self.builder)
        if axis < 0:
            return operand_of(np.expand_dims(symbol, operand.type.ndim))
        if axis == operand.type.ndim - 1:
            return operand
        order = last(axis, operand.type.ndim)  # an axis of length 1
        return operand_of(np.transpose(symbol, order))

    def samples_here(self) -> Operand:
        """How many samples the block has."""
        value = next(iter(self.samples.given))
        part: Any = Symbol(self.moved[value], self.builder)
        return operand_of(part.shape[part.ndim - 1])

    def view(self, op: Apply) -> Value:
        """Only axes of length 1 come and go."""
        source = op.operands[0]
        assert isinstance(source, Value)
        labels = self.samples.axes.of(source)
        place = labels.index(self.samples.label)
        index = tuple([0 if labels[k] is None else WHOLE for k in last(place, len(labels))])
        of = self.samples.axes.of(op.result)
        at = of.index(self.samples.label)
        units = tuple([j for j, k in enumerate(last(at, len(of))) if of[k] is None])
        with self.builder.at(op.origin, op.result.part or op.result.name):
            symbol: Any = Symbol(self.moved[source], self.builder)
            if 0 in index:
                symbol = symbol[index]
            if units:
                symbol = np.expand_dims(symbol, units if len(units) > 1 else units[0])
        made: Value = symbol.value
        if made is not self.moved[source]:
            made.type, made.name, made.kept = self.type_of(op.result), op.result.name, False
        return made

    def sum(self, op: Apply) -> Value:
        """The axes over which a sum or an extreme goes are elsewhere."""
        source = op.operands[0]
        assert isinstance(source, Value)
        place = self.place(source)
        assert place is not None
        order = last(place, source.type.ndim)
        gone = sorted(order.index(axis) for axis in reduced_axes(op))
        arguments = dict(op.arguments)
        if len(gone) < source.type.ndim or arguments.get("axis") is not None:
            arguments["axis"] = gone[0] if len(gone) == 1 else tuple(gone)
        return self.append(op, (self.moved[source],), arguments)

    def product(self, op: Apply) -> Value:
        """The letters of the samples stand last."""
        letters = Subscripts.read(op.arguments["subscripts"])
        terms = []
        for term, value in zip((*letters.inputs, letters.output), (*op.operands, op.result),
                               strict=True):  # fmt: skip
            place = self.place(value) if isinstance(value, Value) else None
            order = range(len(term)) if place is None else last(place, len(term))
            terms.append("".join([term[k] for k in order]))
        text = f"{','.join(terms[:-1])}->{terms[-1]}"
        operands = tuple([self.inside(operand) for operand in op.operands])
        return self.append(op, operands, {**op.arguments, "subscripts": text})
