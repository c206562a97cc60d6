"""Which axis counts samples, and what is done for each sample by itself.

    c = x[:, None, :] - means            # x: (n, b), means: (k, b)
    y = einsum("kab,nkb->nka", F, c)     # n is the axis before the batch k
    s = sum(y * y, axis=2)               # for each sample
    L = sum(s)                           # a sum over the samples

Whatever has the axis must be of a kind that works on each sample by itself, or add up what they
have. A sum must not be read by what is done for the samples: then all of them could not stand in
one loop. It pays where a sample's numbers for all k meet, as in a maximum over them that each is
compared with: arrays over n and k must be there as a whole. Otherwise `batch_loops.py` needs none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flatgrad.analysis.nests import FLOATS
from flatgrad.ir.dims import opaque
from flatgrad.ir.ops import Apply, Block, Op, Value
from flatgrad.primitives.einsum import EINSUM, Subscripts
from flatgrad.transform.batch_axes import Axes, Label, is_view
from flatgrad.transform.batch_groups import Batch, Batches, one_float_dtype, ordered
from flatgrad.transform.dce import read_by
from flatgrad.transform.fuse_spaces import Lengths, is_map, is_reduction, reduced_axes

KEPT_RANK = 2
"""What is handed out for each sample has at most so many axes."""


@dataclass(slots=True)
class Samples:
    """What stands in a loop over the samples.

    `members` in order; `made` their results that have the axis, `totals` those that are sums over
    it, `kept` what others read of the former. `given` are the arrays from outside that have it,
    with its place, `outside` an array from outside for each axis. `early` and `late` are the
    operations before and after the loop, `maker` tells what makes a value.
    """

    label: Label
    axes: Axes
    members: list[Apply]
    made: list[Value]
    totals: set[Value]
    kept: set[Value]
    given: dict[Value, int]
    outside: dict[Label, tuple[Value, int]]
    early: list[Op]
    late: list[Op]
    maker: dict[Value, Op]


def samples_of(block: Block, lengths: Lengths) -> Samples | None:
    """The samples of the first product that has some, if all that is done with them is fit."""
    batches = Batches(block, lengths)
    axes = batches.axes
    _unite_kept(block, axes)
    for op in block.ops:
        label = batches.seed(op) if isinstance(op, Apply) else None
        if isinstance(op, Apply) and label is not None:
            batch = axes.find(label)
            for value in (*op.operands, op.result):
                labels = axes.labels(value) if isinstance(value, Value) else ()
                before = labels[: labels.index(batch)] if batch in labels else ()
                if len(before) == 1:
                    found = _Walk(block, batches, before[0], batch).samples()
                    if found is not None:
                        return found
    return None


def _unite_kept(block: Block, axes: Axes) -> None:
    """The axes that a sum with `keepdims` leaves are those of its operand."""
    for op in block.ops:
        if isinstance(op, Apply) and is_reduction(op) and op.arguments.get("keepdims"):
            source = op.operands[0]
            assert isinstance(source, Value)
            for k, size in enumerate(source.type.shape):
                if k not in reduced_axes(op) and size != 1:
                    axes.unite((source, k), (op.result, k))


class _Walk:
    """Collects what has the axis `label`, of products with the axis `batch`."""

    def __init__(self, block: Block, batches: Batches, label: Label, batch: Label) -> None:
        self.block = block
        self.batches = batches
        self.axes = batches.axes
        self.label = label
        self.batch = batch
        self.members: list[Apply] = []
        self.made: dict[Value, None] = {}
        self.totals: set[Value] = set()

    def samples(self) -> Samples | None:
        """All of it, or None if something does not fit."""
        for op in self.block.ops:
            if isinstance(op, Apply) and len(op.results) == 1 and self.is_fit(op):
                self.members.append(op)
                if self.has(op.result):
                    self.made[op.result] = None
                else:
                    self.totals.add(op.result)
        kept = self.read_outside()
        given = self.given()
        seeds = [op for op in self.members if op.primitive.function is EINSUM]
        if kept is None or not given or len(seeds) < 2 or not self.meet():
            return None
        if any(value in self.totals for member in self.members for value in member.operands):
            return None
        outside = self.outside() | {self.label: next(iter(given.items()))}
        wanted = [x for value in (*self.made, *self.totals) for x in self.axes.labels(value)]
        if any(x not in outside for x in wanted):
            return None
        ops = self.placed()
        if ops is None:
            return None
        return Samples(
            self.label, self.axes, self.members, list(self.made), self.totals, kept, given, outside,
            *ops, self.batches.maker,
        )  # fmt: skip

    def has(self, value: Any) -> bool:
        """Whether an array has the axis."""
        return isinstance(value, Value) and self.label in self.axes.labels(value)

    def meet(self) -> bool:
        """Whether something for a sample and a part of the batch reads what all parts make."""
        met: set[Value] = set()
        for member in self.members:
            of_all = any(value in met for value in member.operands)
            if self.batch in self.axes.labels(member.result):
                if of_all:
                    return True
            elif of_all or any(self.has_both(value) for value in member.operands):
                met.add(member.result)
        return False

    def has_both(self, value: Any) -> bool:
        return self.has(value) and self.batch in self.axes.labels(value)

    def is_fit(self, op: Apply) -> bool:
        """Whether an operation works on each sample by itself, or adds them up."""
        arrays = [v for v in op.operands if isinstance(v, Value) and self.has(v)]
        if not arrays or not all(self.is_clear(v) for v in (*arrays, op.result)):
            return False
        if is_map(op) or is_view(op):
            return self.has(op.result) and isinstance(op.arguments.get("shape", ()), tuple)
        if is_reduction(op):
            return self.has(op.result) or self.is_total(op)
        if op.primitive.function is not EINSUM or len(op.operands) != 2:
            return False
        values = [one for one in (*op.operands, op.result) if isinstance(one, Value)]
        return one_float_dtype(values) and self.has_letter(op)

    def is_total(self, op: Apply) -> bool:
        """Whether a sum over the samples is left."""
        plain = op.primitive.function is np.sum and not op.arguments.get("keepdims")
        return plain and op.operands[0].type.dtype == op.result.type.dtype in FLOATS

    def has_letter(self, op: Apply) -> bool:
        """Whether the axis is in the product or summed over, and no factor has length 1 there."""
        letters = Subscripts.read(op.arguments["subscripts"])
        found = set()
        for term, value in zip(letters.inputs, op.operands, strict=True):
            if self.has(value):
                found.add(term[self.axes.of(value).index(self.label)])  # type: ignore[arg-type]
        if len(found) != 1:
            return False
        (letter,) = found
        for term, value in zip(letters.inputs, op.operands, strict=True):
            if letter in term and not self.has(value):
                return False
        return (letter in letters.output) == self.has(op.result)

    def is_clear(self, value: Value) -> bool:
        """Whether an array has the axis once, or not at all."""
        return self.axes.of(value).count(self.label) <= 1 if value.type.ndim else True

    def given(self) -> dict[Value, int]:
        """The arrays from outside that have the axis, all certainly of one length."""
        found: dict[Value, int] = {}
        for member in self.members:
            for value in member.operands:
                if self.has(value) and value not in self.made:
                    assert isinstance(value, Value)
                    found[value] = self.axes.of(value).index(self.label)
        sizes = [value.type.shape[axis] for value, axis in found.items()]
        same = all(self.axes.lengths.equal(one, sizes[0]) for one in sizes)
        return found if same and not any(isinstance(n, int) or opaque(n) for n in sizes) else {}

    def read_outside(self) -> set[Value] | None:
        """What others read that has the axis; None if that cannot be handed out."""
        inside = set(self.members)
        yields = self.block.yields
        read = {item for item in yields if isinstance(item, Value) and item in self.made}
        for op in self.block.ops:
            if op not in inside:
                read |= {value for value in read_by(op) if value in self.made}
        for value in read:
            if len(self.axes.of(value)) > KEPT_RANK or value.type.dtype not in FLOATS:
                return None
        return read

    def outside(self) -> dict[Label, tuple[Value, int]]:
        """An array from outside for each axis."""
        found: dict[Label, tuple[Value, int]] = {}
        for member in self.members:
            for value in member.operands:
                if isinstance(value, Value) and value.type.ndim and value not in self.made:
                    for k, label in enumerate(self.axes.of(value)):
                        if label is not None and value not in self.totals:
                            found.setdefault(label, (value, k))
        return found

    def placed(self) -> tuple[list[Op], list[Op]] | None:
        """The operations before and after the loop, if it can stand in one place."""
        loop = Batch(self.label, self.members)
        order = ordered(self.block, dict.fromkeys(self.members, loop))
        if order is None:
            return None
        place = order.index(loop)
        early, late = order[:place], order[place + 1 :]
        return early, late  # type: ignore[return-value]
