"""Products of many matrices at once, as a loop over products of two, with what belongs to each.

    c = x[:, None, :] - means                       x_T = np.ascontiguousarray(x.T)
    y = np.einsum("kab,nkb->nka", F, c)      ->     for i in range(len(F)):
    s = np.sum(y * y, axis=2)                           c = x_T - means[i][:, None]
                                                        y = F[i] @ c
                                                        s_rows[i] = np.sum(y * y, axis=0)
                                                    s = s_rows.T

What `batch_groups` finds becomes the body of a loop over the batch axis: the arrays of one trip
stay in the cache, and their products are BLAS calls without copies. In a trip, axes that stood
before the batch come last: they count samples, are long, and loops over them vectorise. What is
read after the loop is written into rows; cheap maps that a second loop needs are computed again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Function,
    Op,
    Operand,
    Origin,
    Slot,
    Value,
    substitute,
)
from flatgrad.ir.types import Scalar
from flatgrad.primitives.core import ASTYPE
from flatgrad.primitives.index import SET_ITEM
from flatgrad.primitives.symbolic import (
    Symbol,
    apply_function,
    apply_primitive,
    operand_of,
    symbol_of,
)
from flatgrad.primitives.tiny import TINY_LEFT_OP, TINY_RIGHT_OP
from flatgrad.transform.batch_axes import Label, Labels, peeled
from flatgrad.transform.batch_groups import Batch, Batches, ordered
from flatgrad.transform.clone import with_blocks
from flatgrad.transform.dce import swept
from flatgrad.transform.fuse_spaces import Lengths, is_map, is_reduction, reduced_axes
from flatgrad.transform.tape import dtype_keyword

WHOLE = slice(None)
FADING = frozenset("exp exp2 sigmoid softplus silu gelu erfc normal_cdf".split())  # noqa: SIM905
"""Functions whose values get arbitrarily close to 0."""
Rows = dict[Value, tuple[Value, tuple[Label | None, ...]]]


def batch_loops(fn: Function) -> Function:
    """The function with such loops."""
    walk = _Walk(fn, Lengths(fn))
    return replace(fn, body=swept(walk.block(swept(fn.body))))


class _Walk:
    """Visits the blocks of a function."""

    def __init__(self, fn: Function, lengths: Lengths) -> None:
        self.fn = fn
        self.lengths = lengths

    def block(self, block: Block) -> Block:
        ops = [with_blocks(op, self.block) for op in block.ops]
        block = Block(block.params, ops, block.yields)
        return with_loops(block, self.fn, Batches(block, self.lengths))


def with_loops(block: Block, fn: Function, batches: Batches) -> Block:
    """The block with the loops that were found in it."""
    if not batches.groups:
        return block
    order = ordered(block, batches.of)
    assert order is not None, "a loop needs what needs it"
    rows: Rows = {}
    hoisted: dict[tuple[Value, Labels], tuple[Any, Labels]] = {}
    found: list[Op] = []
    for node in order:
        if isinstance(node, Batch):
            found += _Loop(fn, batches, node, rows, hoisted).written()
        else:
            found.append(node)
    return Block(block.params, _in_sweeps(found, batches), block.yields)


def _in_sweeps(ops: list[Op], batches: Batches) -> list[Op]:
    """What is computed before a loop of both sweeps stands in the first, too."""
    mixed = {
        member.result
        for group in batches.groups
        if len({member.origin.sweep for member in group.members}) > 1
        for member in group.members
    }
    if not mixed:
        return ops
    loops = [isinstance(op, For) and op.origin.sweep == "forward" for op in ops]
    last = max(k for k, found in enumerate(loops) if found)
    return [
        replace(op, origin=replace(op.origin, sweep="forward"))
        if k < last and isinstance(op, Apply) and op.origin.sweep == "backward"
        else op
        for k, op in enumerate(ops)
    ]


def _in_order(shapes: list[list[Label]]) -> list[Label]:
    """Labels in the order of the first of the longest lists that have them."""
    longest = sorted(shapes, key=len, reverse=True)
    return list(dict.fromkeys(x for labels in longest for x in labels))


class _Loop:
    """One loop; `rows` are the arrays with a row for each trip that loops before it have left.

    `hoisted` are arrays in the order of a trip that loops before it have needed.
    """

    def __init__(
        self, fn: Function, batches: Batches, group: Batch, rows: Rows,
        hoisted: dict[tuple[Value, Labels], tuple[Any, Labels]],
    ) -> None:  # fmt: skip
        self.batches = batches
        self.axes = batches.axes
        self.made = batches.made
        self.group = group
        self.rows = rows
        self.builder = Builder(Block(), fn.lengths)
        self.before, self.body, self.after = Block(), Block(), Block()
        self.order = self.trip_order()
        self.local: dict[Value, tuple[Any, Labels]] = {}
        self.hoisted = hoisted
        self.carried: list[tuple[Operand, Value, Value]] = []
        origins = [member.origin for member in group.members]
        self.origin = next((one for one in origins if one.sweep == "forward"), origins[0])
        taken = {value.name for value in (*fn.params, *batches.maker)}
        name = next((one for one in "ijkl" if one not in taken), "i")
        self.index = Value(Scalar("int64", weak=True), name)

    def trip_order(self) -> dict[Label, int]:
        """The places of the axes in a trip: those that stood before the batch axis come last."""
        batch = self.group.label
        shapes = [
            self.axes.labels(value)
            for member in self.group.members
            for value in (*member.operands, member.result)
            if isinstance(value, Value)
        ]
        before = {x for labels in shapes if batch in labels for x in labels[: labels.index(batch)]}
        before |= self.batches.samples
        inner = _in_order([[x for x in labels if x not in before] for labels in shapes])
        last = _in_order([[x for x in labels if x in before] for labels in shapes])
        return {x: k for k, x in enumerate(x for x in [*inner, *last] if x != batch)}

    def sorted(self, labels: Sequence[Label]) -> Labels:
        """Labels in the order of a trip, each once."""
        return tuple(sorted(set(labels) - {self.group.label}, key=self.order.__getitem__))

    # The loop.

    def written(self) -> list[Op]:
        """What stands before the loop, the loop, and what stands after it."""
        with self.builder.inside(self.body):
            for member in self.group.members:
                self.member(member)
        with self.builder.inside(self.after):
            for member in self.group.members:
                self.finish(member)
        with self.builder.inside(self.before), self.builder.at(self.origin):
            trips = self.length(self.group.label)
        inits = tuple([init for init, _, _ in self.carried])
        results = tuple([result for _, _, result in self.carried])
        body = Block(self.body.params, self.body.ops, self.body.yields)
        body.params = (self.index, *body.params)
        stop = trips.value if isinstance(trips, Symbol) else Const(trips)
        loop = For(Const(0), stop, Const(1), inits, body, results, origin=self.origin)
        return [*self.before.ops, loop, *self.after.ops]

    def at(self, member: Apply) -> Any:
        """Operations come from where the member does; a loop as a whole is of one sweep."""
        origin: Origin = replace(member.origin, sweep=self.origin.sweep)
        return self.builder.at(origin, member.result.part or member.result.name)

    def member(self, member: Apply) -> None:
        """One operation in the loop, and what is kept of it."""
        value = member.result
        with self.at(member):
            symbol, labels = self.computed(member)
            total = self.batches.is_total(member, self.group.label)
            if self.body.ops[-1].results == (symbol.value,):
                symbol.value.name, symbol.value.of = value.name, value.of
                symbol.value.kept = value.kept and self.batches.is_read_in(member, self.group)
            self.local[value] = symbol, labels
            if total:
                self.accumulate(value, symbol, labels)
            elif self.batches.is_read_outside(value, self.group):
                self.keep(value, symbol, labels)

    def computed(self, member: Apply) -> tuple[Any, Labels]:
        """The result of an operation for one trip."""
        if is_map(member):
            return self.map(member)
        if is_reduction(member):
            return self.sum(member)
        return self.product(member)

    def map(self, op: Apply) -> tuple[Any, Labels]:
        parts = {o: self.part(o) for o in op.operands if isinstance(o, Value) and o.type.ndim}
        wanted = self.sorted([x for _, labels in parts.values() for x in labels])

        def pick(k: int) -> Any:
            operand = op.operands[k]
            if isinstance(operand, Value) and operand in parts:
                return self.fitted(*parts[operand], wanted)
            return symbol_of(operand, self.builder)

        args, kwargs = op.primitive.call_form(substitute(op.arguments, pick))
        return apply_primitive(op.primitive, args, kwargs, self.builder), wanted

    def sum(self, op: Apply) -> tuple[Any, Labels]:
        source = op.operands[0]
        assert isinstance(source, Value)
        of, gone = self.axes.of(source), reduced_axes(op)
        symbol, labels = self.part(source)
        axes = [k for k, x in enumerate(labels) if x in [of[axis] for axis in gone]]
        if not axes:
            return symbol, labels
        axis = axes[0] if len(axes) == 1 else tuple(axes)
        whole = len(axes) == len(labels)
        summed = np.sum(symbol) if whole else np.sum(symbol, axis=axis)
        return summed, tuple([x for k, x in enumerate(labels) if k not in axes])

    def product(self, op: Apply) -> tuple[Any, Labels]:
        found = self.batches.product(op, self.group.label)
        assert found is not None
        (a, la), (b, lb) = (self.part(operand) for operand in op.operands)
        wanted = self.sorted(found[2])
        (summed,) = set(la) & set(lb)
        if wanted and wanted[0] not in la:
            (a, la), (b, lb) = (b, lb), (a, la)
        left = a if la[-1] == summed else a.T
        right = b if lb[0] == summed else b.T
        made = left @ right
        if a.ndim == b.ndim == 2 and not self.batches.scaled:
            self.note_tiny(op, left, right)
        return made, wanted

    def note_tiny(self, op: Apply, left: Any, right: Any) -> None:
        """An adjoint may hold subnormal numbers: weights of what is far away."""
        adjoints = [self.part(operand)[0] for operand in op.operands if self.is_adjoint(operand)]
        last = self.builder.block.ops[-1]
        if len(adjoints) != 1 or not isinstance(last, Apply) or op.result.type.dtype != "float64":
            return
        arguments = {"a": Slot(0), "b": Slot(1)}
        for symbol, primitive in ((left, TINY_LEFT_OP), (right, TINY_RIGHT_OP)):
            if symbol.value is adjoints[0].value:
                last = replace(last, primitive=primitive, arguments=arguments)
        self.builder.block.ops[-1] = last

    def is_adjoint(self, operand: Operand) -> bool:
        """Whether an operand is what the loop itself computes of an adjoint."""
        op = self.group.made.get(operand) if isinstance(operand, Value) else None
        if op is None or not is_map(op) or op.origin.sweep != "backward":
            return False
        made = self.made.values()
        return any(one.primitive.name in FADING for one in made)

    # Operands.

    def part(self, operand: Operand) -> tuple[Any, Labels]:
        """What a trip reads of an array, its axes in the order of a trip."""
        assert isinstance(operand, Value)
        if operand in self.local:
            return self.local[operand]
        under = peeled(operand, self.made)
        assert isinstance(under, Value)
        if under in self.local:
            return self.local[under]
        if self.batches.is_cheap(under):
            op = self.made[under]
            with self.at(op):
                self.local[under] = self.map(op)
                symbol = self.local[under][0]
                symbol.value.name, symbol.value.kept = under.name, under.kept
            return self.local[under]
        if self.group.label not in self.axes.labels(under):
            return self.invariant(under)
        array, of = self.rows.get(under, (under, self.axes.of(under)))
        place, labels = of.index(self.group.label), tuple([x for x in of if x is not None])
        index = self.entries(array, place)
        cut = Symbol(array, self.builder)[index[0] if len(index) == 1 else tuple(index)]
        left = tuple([x for x in labels if x != self.group.label])
        self.local[under] = self.arranged(cut, left, place == 0)
        return self.local[under]

    def entries(self, array: Value, place: int | None) -> list[Any]:
        """The index that takes a trip's part, and element 0 of axes of length 1."""
        index: list[Any] = [0 if n == 1 else WHOLE for n in array.type.shape]
        if place is not None:
            index[place] = Symbol(self.index, self.builder)
        while isinstance(index[-1], slice):
            index.pop()
        return index

    def invariant(self, value: Value) -> tuple[Any, Labels]:
        """An array that is the same in all trips, in their order of axes."""
        labels = self.axes.labels(value)
        key = value, self.sorted(labels)
        if key not in self.hoisted:
            with self.builder.inside(self.before):
                symbol = Symbol(value, self.builder)
                if 1 in value.type.shape:
                    symbol = symbol[tuple(self.entries(value, None))]
                self.hoisted[key] = self.arranged(symbol, labels, True)
            made = operand_of(self.hoisted[key][0])
            if isinstance(made, Value) and made is not value and value.kept:
                made.name, made.kept = f"{value.name}_T", True
        symbol, labels = self.hoisted[key]
        return symbol_of(operand_of(symbol), self.builder), labels

    def arranged(self, symbol: Any, labels: Labels, dense: bool) -> tuple[Any, Labels]:
        """The array with its axes in the order of a trip, its elements next to each other."""
        wanted = self.sorted(labels)
        if not wanted:
            return symbol, wanted
        if wanted != labels:
            axes = tuple([labels.index(x) for x in wanted])
            symbol = symbol.T if len(axes) == 2 else np.transpose(symbol, axes)
        if not dense or wanted != labels:
            symbol = apply_function(np.ascontiguousarray, (symbol,), {}, self.builder)
        return symbol, wanted

    def fitted(self, symbol: Any, labels: Labels, wanted: Labels) -> Any:
        """The array with axes of length 1 for those that it lacks."""
        if labels == wanted or not labels:
            return symbol
        first = wanted.index(labels[0])
        missing = [k - first for k in range(first, len(wanted)) if wanted[k] not in labels]
        if not missing:
            return symbol
        return np.expand_dims(symbol, missing[0] if len(missing) == 1 else tuple(missing))

    def length(self, label: Label) -> Any:
        """The length of an axis, from an array that exists before the loop."""
        for member in self.group.members:
            for value in [*member.operands, *self.below(member)]:
                if isinstance(value, Value) and value not in self.group.made:
                    array, labels = self.rows.get(value, (value, self.axes.of(value)))
                    if label in labels and not self.batches.is_cheap(value):
                        return Symbol(array, self.builder).shape[labels.index(label)]
        raise AssertionError("an axis that no array has")

    def below(self, member: Apply) -> list[Operand]:
        """What is read by maps that are computed again."""
        found: list[Operand] = []
        todo = list(member.operands)
        while todo:
            operand = peeled(todo.pop(), self.made)
            found.append(operand)
            if isinstance(operand, Value) and self.batches.is_cheap(operand):
                todo += self.made[operand].operands
        return found

    # Results.

    def variable(self, init: Any, name: str | None) -> tuple[Any, Value]:
        """A carried variable: what a trip reads, and what there is after the loop."""
        start = operand_of(init)
        if isinstance(start, Value):
            start.name, start.kept = name, True
        kind = start.type if isinstance(start, Value) else Scalar("float64")
        param, result = (Value(kind, name, kept=True) for _ in range(2))
        self.carried.append((start, param, result))
        self.body.params = (*self.body.params, param)
        return Symbol(param, self.builder), result

    def keep(self, value: Value, symbol: Any, labels: Labels) -> None:
        """Write the part of a trip into a row."""
        batch = self.group.label
        same = self.axes.of(value) == (batch, *labels)
        with self.builder.inside(self.before):
            shape = tuple([self.length(x) for x in (batch, *labels)])
            init = apply_function(np.empty, (shape,), dtype_keyword(value.type), self.builder)
        name = value.name if same else f"{value.name or value.part or 'value'}_rows"
        param, result = self.variable(init, name)
        done = apply_function(
            SET_ITEM, (param, symbol, Symbol(self.index, self.builder)), {}, self.builder
        )
        done.value.name, done.value.kept = name, True
        self.body.yields = (*self.body.yields, done.value)
        self.rows[value] = result, (batch, *labels)

    def accumulate(self, value: Value, symbol: Any, labels: Labels) -> None:
        """Add the part of a trip to a sum, in float64."""
        with self.builder.inside(self.before):
            shape = tuple([self.length(x) for x in labels])
            init = apply_function(np.zeros, (shape,), {}, self.builder) if shape else 0.0
        single = value.type.dtype == "float32"
        name = f"{value.name or value.part or 'value'}_sum" if single else value.name
        param, result = self.variable(init, name)
        done = param + symbol
        done.value.name, done.value.kept = name, True
        self.body.yields = (*self.body.yields, done.value)
        self.rows[value] = result, labels

    def finish(self, member: Apply) -> None:
        """The result as the program has it: its axes in their order."""
        value = member.result
        if value not in self.rows:
            return
        array, labels = self.rows[value]
        of = self.axes.of(value)
        with self.at(member):
            symbol: Any = Symbol(array, self.builder)
            if array.type.dtype != value.type.dtype:
                symbol = apply_function(ASTYPE, (symbol, np.float32), {}, self.builder)
            natural = [x for x in of if x is not None]
            if list(labels) != natural:
                axes = tuple([labels.index(x) for x in natural])
                symbol = symbol.T if len(axes) == 2 else np.transpose(symbol, axes)
                symbol = apply_function(np.ascontiguousarray, (symbol,), {}, self.builder)
            units = tuple([k for k, x in enumerate(of) if x is None])
            if units:
                symbol = np.expand_dims(symbol, units if len(units) > 1 else units[0])
        self.renamed(array, symbol, value)

    def renamed(self, array: Value, symbol: Any, value: Value) -> None:
        """Let the program's value be what the last operation makes, or the loop itself."""
        if symbol.value is not array:
            last = self.after.ops[-1]
            assert isinstance(last, Apply)
            self.after.ops[-1] = replace(last, results=(value,))
            return
        place = next(k for k, (_, _, result) in enumerate(self.carried) if result is array)
        init, param, _ = self.carried[place]
        self.carried[place] = init, param, value
        self.rows[value] = value, self.rows[value][1]
