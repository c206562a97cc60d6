"""Which axes of the arrays of a block are the same axis, by the operations that read them together.

    c = x[:, None, :] - means             x: (n, b), means: (k, b), c: (n, k, b)
    y = einsum("kab,nkb->nka", F, c)      F: (k, a, b), y: (n, k, a)

A *label* stands for one axis in all arrays; what has length 1 has none. `labels` are those of an
array in the order of its axes.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np

from flatgrad.ir.ops import Apply, Block, Operand, Value
from flatgrad.primitives.core import IDENTITY
from flatgrad.primitives.einsum import EINSUM, Subscripts
from flatgrad.transform.fuse_spaces import (
    Form,
    Lengths,
    data_operands,
    is_map,
    is_reduction,
    operand_form,
    reduced_axes,
)

Label = tuple[Value, int]
Labels = tuple[Label, ...]
WHOLE = slice(None)


class Axes:
    """The labels of the arrays of one block."""

    def __init__(self, block: Block, lengths: Lengths) -> None:
        self.lengths = lengths
        self.parent: dict[Label, Label] = {}
        for op in block.ops:
            if isinstance(op, Apply) and len(op.results) == 1 and op.result.type.ndim:
                for value, form in self.forms(op):
                    for own, axis in enumerate(form):
                        if axis is not None and value.type.shape[own] != 1:
                            self.unite((value, own), (op.result, axis))
            if isinstance(op, Apply) and op.primitive.function is EINSUM:
                self.unite_letters(op)

    def of(self, value: Value) -> tuple[Label | None, ...]:
        """The label of each axis; None for those of length 1."""
        return tuple(
            [None if n == 1 else self.find((value, k)) for k, n in enumerate(value.type.shape)]
        )

    def labels(self, value: Value) -> Labels:
        """The labels of the axes that are longer than 1."""
        return tuple([label for label in self.of(value) if label is not None])

    def find(self, label: Label) -> Label:
        """The label that stands for all that are the same."""
        path = []
        while label in self.parent:
            path.append(label)
            label = self.parent[label]
        for one in path[:-1]:
            self.parent[one] = label  # so that the next search is short
        return label

    def unite(self, one: Label, other: Label) -> None:
        """Two axes are the same."""
        one, other = self.find(one), self.find(other)
        if one != other:
            self.parent[one] = other

    def unite_letters(self, op: Apply) -> None:
        """The axes with one letter are the same."""
        letters = Subscripts.read(op.arguments["subscripts"])
        first: dict[str, Label] = {}
        terms = [*zip(letters.inputs, op.operands, strict=True), (letters.output, op.results[0])]
        for term, item in terms:
            if isinstance(item, Value) and item.type.ndim:
                for k, letter in enumerate(term):
                    if item.type.shape[k] != 1:
                        self.unite(first.setdefault(letter, (item, k)), (item, k))

    def forms(self, op: Apply) -> Iterator[tuple[Value, Form]]:
        """The array operands, and for each of their axes that of the result which runs with it."""
        if is_view(op):
            yield _viewed(op)
        elif is_map(op):
            whole: Form = tuple(range(op.result.type.ndim))
            for operand in data_operands(op):
                form = operand_form(op, operand, whole, self.lengths)
                if isinstance(operand, Value) and form:
                    yield operand, form
        elif is_reduction(op) and not op.arguments.get("keepdims"):
            source, gone = op.operands[0], reduced_axes(op)
            if isinstance(source, Value):
                kept = [k for k in range(source.type.ndim) if k not in gone]
                yield source, tuple(
                    [None if k in gone else kept.index(k) for k in range(source.type.ndim)]
                )


def is_view(op: Apply) -> bool:
    """Whether only axes of length 1 are added or taken away: `x[:, None, :]`."""
    function = op.primitive.function
    if function in (np.expand_dims, np.squeeze, IDENTITY):
        return isinstance(op.operands[0], Value) and op.operands[0].type.ndim > 0
    if function is not operator.getitem or not op.operands[0].type.ndim:
        return False
    index = op.arguments["index"]
    entries = index if isinstance(index, tuple) else (index,)
    return all(entry is None or entry == WHOLE for entry in entries if not _is_number(entry)) and (
        not any(map(_is_number, entries))
    )


def _is_number(entry: Any) -> bool:
    return not (entry is None or isinstance(entry, slice))


def _viewed(op: Apply) -> tuple[Value, Form]:
    """The array under a view; axes longer than 1 keep their order."""
    source = op.operands[0]
    assert isinstance(source, Value)
    long = iter([k for k, n in enumerate(op.result.type.shape) if n != 1])
    return source, tuple([None if n == 1 else next(long) for n in source.type.shape])


def peeled(operand: Operand, made: dict[Value, Apply]) -> Operand:
    """The array under views of it."""
    while isinstance(operand, Value) and operand in made and is_view(made[operand]):
        operand = made[operand].operands[0]
    return operand
