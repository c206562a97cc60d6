"""Which operations become a loop over an axis that a product of matrices has as a batch.

    c = x[:, None, :] - means                 # for each k: centred points,
    y = einsum("kab,nkb->nka", F, c)          # their product with a matrix,
    s = sum(y * y, axis=2)                    # and its squares, summed up

The seed is a product whose batch axis stands inside one of its arrays, so that they would have to
be copied for it. What makes its operands, and what is made of its result, joins if it works on each
part along the axis by itself, and if all can stand in one place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from flatgrad.analysis.nests import FLOATS
from flatgrad.ir.ops import Apply, Block, Op, Value
from flatgrad.primitives.einsum import EINSUM, Subscripts
from flatgrad.transform.batch_axes import Axes, Label, Labels, peeled
from flatgrad.transform.dce import has_effect, read_by
from flatgrad.transform.fuse_spaces import (
    FUNCTIONS,
    PASSING,
    Lengths,
    is_map,
    is_reduction,
)
from flatgrad.transform.order import in_order

FULL = 3
"""What joins a product has at least so many axes longer than 1."""
CHEAP = 3
"""Operations that are done again in a second loop rather than kept from the first."""


@dataclass(eq=False)
class Batch:
    """Operations that run in one loop over the axis `label`."""

    label: Label
    members: list[Apply] = field(default_factory=list)

    @property
    def made(self) -> dict[Value, Apply]:
        """The members by their results."""
        return {op.result: op for op in self.members}


class Batches:
    """The loops of one block; if `front`, also for products whose batch stands first everywhere.

    The axes of `samples` come last in a trip, too; `scaled` says that no adjoint is subnormal.
    """

    def __init__(self, block: Block, lengths: Lengths, front: bool = False) -> None:
        self.block = block
        self.front = front
        self.samples: set[Label] = set()
        self.scaled = False
        self.axes = Axes(block, lengths)
        self.place = {op: k for k, op in enumerate(block.ops)}
        self.maker = {value: op for op in block.ops for value in op.results}
        self.made = {v: op for v, op in self.maker.items() if isinstance(op, Apply)}
        self.readers: dict[Value, list[Op]] = {}
        for op in block.ops:
            for value in read_by(op):
                self.readers.setdefault(value, []).append(op)
        self.yielded = {item for item in block.yields if isinstance(item, Value)}
        self.groups: list[Batch] = []
        self.of: dict[Op, Batch] = {}
        for op in block.ops:
            if isinstance(op, Apply) and op not in self.of:
                label = self.seed(op)
                if label is not None:
                    self.begin(op, label)

    def begin(self, op: Apply, label: Label) -> None:
        """A loop for a product, or one more product in a loop that is there."""
        for group in self.groups:
            if group.label == label and self.joins(op, group):
                break
        else:
            group = Batch(label)
            self.groups.append(group)
            if not self.joins(op, group):
                self.groups.remove(group)
                return
        self.grow(group)
        self.prune(group)

    def joins(self, op: Apply, group: Batch) -> bool:
        """Add an operation, if all operations can then be ordered."""
        if op in self.of:
            return False
        group.members.append(op)
        self.of[op] = group
        if ordered(self.block, self.of) is None:
            group.members.remove(op)
            del self.of[op]
            return False
        group.members.sort(key=self.place.__getitem__)
        return True

    def grow(self, group: Batch) -> None:
        """Add what makes the operands of members, and what reads their results."""
        grew = True
        while grew:
            grew = False
            for member in list(group.members):
                for op in [*self.makers(member, group), *self.followers(member, group)]:
                    grew = self.joins(op, group) or grew

    def prune(self, group: Batch) -> None:
        """Leave out maps that are read outside alone, where what they are made of is kept anyway.

        Of `-y` and `y / s` the loop would keep two arrays in the place of one.
        """
        while True:
            last = [op for op in group.members if is_map(op) and not self.is_read_in(op, group)]
            roots = {op: self.roots(op, group) for op in last}
            count = Counter(value for found in roots.values() for value in found)
            for op, found in roots.items():
                if found and all(count[v] > 1 or self.is_read_outside(v, group) for v in found):
                    group.members.remove(op)
                    del self.of[op]
                    break
            else:
                return

    def is_read_in(self, op: Apply, group: Batch) -> bool:
        return any(self.of.get(one) is group for one in self.readers.get(op.result, []))

    def is_read_outside(self, value: Value, group: Batch) -> bool:
        """Whether something after the loop reads what it makes."""
        readers = self.readers.get(value, [])
        return value in self.yielded or any(self.of.get(one) is not group for one in readers)

    def roots(self, op: Apply, group: Batch) -> set[Value]:
        """What a map is made of: members that are no maps, or that others read, too."""
        found: set[Value] = set()
        for operand in op.operands:
            made = group.made.get(operand) if isinstance(operand, Value) else None
            if made is None or not self.is_full(made.result):
                continue
            alone = len(self.readers[made.result]) == 1 and made.result not in self.yielded
            found |= self.roots(made, group) if alone and is_map(made) else {made.result}
        return found

    def makers(self, member: Apply, group: Batch) -> Iterator[Apply]:
        """Maps whose results are read in the loop alone."""
        for operand in member.operands:
            op = self.made.get(operand) if isinstance(operand, Value) else None
            if op is None or op in self.of or not self.is_part(op, group.label):
                continue
            assert isinstance(operand, Value)
            alone = all(self.reads_parts(one, group) for one in self.readers[operand])
            if self.is_full(operand) and alone and operand not in self.yielded:
                yield op

    def reads_parts(self, op: Op, group: Batch) -> bool:
        """Whether an operation is in the loop, or is one that follows there."""
        if self.of.get(op) is group:
            return True
        if not isinstance(op, Apply) or op in self.of:
            return False
        return self.is_sum(op) or self.product(op, group.label) is not None

    def followers(self, member: Apply, group: Batch) -> Iterator[Apply]:
        """What is made of the result, part by part."""
        for op in self.readers.get(member.result, []):
            if not isinstance(op, Apply) or op in self.of or self.is_total(member, group.label):
                continue
            if is_map(op):
                arrays = [o for o in op.operands if isinstance(o, Value) and self.is_full(o)]
                inside = all(self.is_at_hand(o, group) for o in arrays)
                if inside and self.is_part(op, group.label) and self.is_full(op.result):
                    yield op
            elif self.is_sum(op) or self.product(op, group.label) is not None:
                yield op

    def is_at_hand(self, value: Value, group: Batch) -> bool:
        return value in group.made or self.is_cheap(value)

    # What can stand in a loop.

    def is_full(self, value: Value) -> bool:
        """Whether an array has as many axes as those of a product."""
        return len(self.axes.labels(value)) >= FULL

    def is_clear(self, value: Value) -> bool:
        """Whether no two axes of an array are the same."""
        labels = self.axes.labels(value)
        return len(set(labels)) == len(labels)

    def is_part(self, op: Apply, label: Label) -> bool:
        """Whether this is a map of floats along the axis."""
        return (
            is_map(op)
            and op.primitive.function not in PASSING
            and op.result.type.dtype in FLOATS
            and label in self.axes.labels(op.result)
            and self.is_clear(op.result)
        )

    def is_sum(self, op: Apply) -> bool:
        """Whether this is a sum of floats that leaves no axes of length 1."""
        source = op.operands[0] if op.operands else None
        return (
            is_reduction(op)
            and op.primitive.function is np.sum
            and not op.arguments.get("keepdims")
            and isinstance(source, Value)
            and source.type.dtype == op.result.type.dtype in FLOATS
            and self.is_clear(source)
        )

    def is_total(self, op: Apply, label: Label) -> bool:
        """Whether a member adds up what all trips have: its result is known after the loop."""
        return label not in self.axes.labels(op.result)

    def is_cheap(self, value: Value) -> bool:
        """Whether an array is computed again rather than kept: few operations on smaller ones."""
        return self.cost(value) <= CHEAP

    def cost(self, value: Value) -> float:
        op = self.made.get(value)
        if op is None or not is_map(op) or op.primitive.function in PASSING:
            return float("inf")
        if op.primitive.name in FUNCTIONS or op.result.type.dtype not in FLOATS:
            return float("inf")
        total, own = 1.0, self.axes.labels(value)
        for operand in op.operands:
            under = peeled(operand, self.made)
            if isinstance(under, Value) and len(self.axes.labels(under)) >= len(own):
                total += self.cost(under)
        return total

    # Products.

    def seed(self, op: Apply) -> Label | None:
        """The batch axis of a product of matrices that does not stand first in all its arrays."""
        if op.primitive.function is not EINSUM or len(op.operands) != 2:
            return None
        letters = Subscripts.read(op.arguments["subscripts"])
        batch = [c for c in letters.inputs[0] if c in letters.inputs[1] and c in letters.output]
        if len(batch) != 1 or not op.result.type.ndim:
            return None
        values = [o for o in (*op.operands, op.result) if isinstance(o, Value)]
        if len(values) != 3 or not all(map(self.is_full, values)):
            return None
        label = self.axes.of(values[0])[letters.inputs[0].index(batch[0])]
        first = all(term.startswith(batch[0]) for term in (*letters.inputs, letters.output))
        if label is None or (first and not self.front) or self.product(op, label) is None:
            return None
        return label

    def product(self, op: Apply, label: Label) -> tuple[Labels, Labels, Labels] | None:
        """The labels of two factors and of their product, without the batch; None if unfit.

        One axis is summed over, beside the batch perhaps; each other axis is that of one factor.
        """
        if op.primitive.function is not EINSUM or len(op.operands) != 2:
            return None
        values = [v for v in (*op.operands, op.results[0]) if isinstance(v, Value)]
        if len(values) != 3 or not one_float_dtype(values):
            return None
        if not all(1 not in v.type.shape and self.is_clear(v) for v in values):
            return None
        one, other, both = [self.axes.labels(v) for v in values]
        if label not in one or label not in other:
            return None
        a, b, y = (tuple(x for x in labels if x != label) for labels in (one, other, both))
        shared = [x for x in a if x in b]
        fits = len(shared) == 1 and shared[0] not in y and max(len(a), len(b)) <= 2
        return (a, b, y) if fits and len(y) == len(a) + len(b) - 2 else None


def one_float_dtype(values: Iterable[Value]) -> bool:
    """Whether arrays are all float64, or all float32."""
    dtypes = {value.type.dtype for value in values}
    return len(dtypes) == 1 and dtypes <= {*FLOATS}


def ordered(block: Block, of: dict[Op, Batch]) -> list[Op | Batch] | None:
    """The operations with each loop as one, in an order that is possible; None if there is none.

    A loop stands where the last of its members stood.
    """
    last = {group: place for place, op in enumerate(block.ops) if (group := of.get(op))}
    alone = [(place, op) for place, op in enumerate(block.ops) if op not in of]
    loops = [(place, group) for group, place in last.items()]
    nodes: list[tuple[int, Op | Batch]] = sorted([*alone, *loops], key=lambda node: node[0])
    number = {node: k for k, (_, node) in enumerate(nodes)}
    maker = {v: number[of.get(op, op)] for op in block.ops for v in op.results}
    needs: list[set[int]] = [set() for _ in nodes]
    effect: int | None = None
    for op in block.ops:
        k = number[of.get(op, op)]
        needs[k] |= {maker[value] for value in read_by(op) if value in maker} - {k}
        if has_effect(op):
            needs[k] |= set() if effect is None else {effect}
            effect = k
    return in_order([node for _, node in nodes], needs)
