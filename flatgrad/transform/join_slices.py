"""Slices of an array that are added to one after the other become one sum over neighbours.

    g = grad_u[1:-1]                    row[2:-2] = grad_u[1:-1]
    grad_u[1:-1] = 0.0                  next = a * row[:-2] + a * row[2:]
    grad_u[2:] += a * g          ->     next[:1] += grad_u[:1];  next[-1:] += grad_u[-1:]
    grad_u[:-2] += a * g                grad_u, next = next, grad_u

That is the backward sweep of a stencil in array statements. Each element is written once instead of
once for each neighbour, and what is added is an expression for one loop nest. The row has zeros at
both ends, for elements that have fewer neighbours; it and the second array are made before the loop
over the steps. Values never change, so all this is right whoever shares memory with whom.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.dims import Size
from flatgrad.ir.ops import Apply, Block, For, Function, Op, Operand, Value
from flatgrad.ir.types import Array
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.primitives.symbolic import Symbol, apply_function, symbol_of
from flatgrad.transform.building import call_into
from flatgrad.transform.clone import picked, with_blocks
from flatgrad.transform.dce import read_by
from flatgrad.transform.gather import AGAIN, MOST_AGAIN, vanish_with
from flatgrad.transform.slice_chains import (
    Chain,
    Cut,
    chains_of,
    cuts_of,
    edges_of,
    plain,
    slices_of,
    trims_of,
)


def join_slices(fn: Function) -> Function:
    """The function with such additions joined, in loops."""
    builder = Builder(Block(fn.params), fn.lengths)
    return replace(fn, body=_block(fn.body, builder))


def _block(block: Block, builder: Builder) -> Block:
    ops: list[Op] = []
    for op in block.ops:
        op = with_blocks(op, lambda inner: _block(inner, builder))
        joining = _Joining(op, builder, ops) if isinstance(op, For) else None
        ops.append(joining.loop() if joining else op)
        ops += joining.after if joining else []
    return Block(block.params, ops, block.yields)


class _Joining:
    """Joins the chains in the body of one loop.

    What it needs goes before the loop, and what is left to do is `after` it.
    """

    def __init__(self, loop: For, builder: Builder, before: list[Op]) -> None:
        self.op = loop
        self.builder = builder
        self.before = before
        self.made = {value: op for op in loop.body.ops for value in op.results}
        self.extra: list[tuple[Operand, Value, Operand]] = []
        self.results = list(loop.results)
        self.known: dict[Value, Operand] = {}
        self.moved: dict[Op, list[Op]] = {}
        self.after: list[Op] = []

    def loop(self) -> For:
        """The loop with all its chains joined."""
        loop = self.op
        gone: set[Op] = set()
        at: dict[Op, list[Op]] = {}
        for chain in chains_of(loop.body):
            start = self.start(chain.base)
            if start is not None:
                gone |= {*chain.ops}
                at[chain.ops[-1]] = self.joined(chain, start)
        if not at:
            return loop
        ops: list[Op] = []
        for op in loop.body.ops:
            if op in at:
                ops += at[op]
            elif op in self.moved:
                ops += self.moved[op]
            elif op not in gone:
                ops.append(op)
        inits, params, yields = zip(*self.extra, strict=True)
        items = [picked(item, self.known) for item in loop.body.yields]
        body = Block((*loop.body.params, *params), ops, (*items, *yields))
        return replace(
            loop, inits=(*loop.inits, *inits), body=body, results=tuple(self.results)
        )

    def start(self, base: Value) -> Operand | None:
        """What the loop starts from for the array; None if it is not one that the loop carries."""
        value: Operand = base
        while isinstance(value, Value) and value in self.made:
            op = self.made[value]
            if not isinstance(op, Apply) or op.primitive.in_place is None:
                return None
            value = op.operands[op.arguments[op.primitive.in_place].index]
        params = self.op.body.params[1:]
        if value not in params:
            return None
        init = self.op.inits[params.index(value)]
        same = isinstance(init, Value) and init.type == value.type == base.type
        return init if same else None

    def make(self, function: Any, *args: Any) -> Any:
        return apply_function(function, args, {}, self.builder)

    def symbol(self, value: Operand) -> Symbol:
        assert isinstance(value, Value)
        return Symbol(value, self.builder)

    def carry(self, init: Any, name: str) -> Value:
        """A further variable of the loop."""
        param = Value(init.value.type, name, kept=True)
        init.value.name, init.value.kept = name, True
        self.extra.append((init.value, param, param))
        self.results.append(Value(param.type, name))
        return param

    def carried_on(self, param: Value, item: Value) -> None:
        """What the variable is in the next trip."""
        place = next(k for k, (_, one, _) in enumerate(self.extra) if one is param)
        init, _, _ = self.extra[place]
        self.extra[place] = (init, param, item)

    def joined(self, chain: Chain, init: Operand) -> list[Op]:
        """The operations in the place of a chain."""
        self.builder.origin = chain.ops[-1].origin
        sources, steps = self.sources([value for _, value in chain.terms])
        if self.is_all_inside(chain, sources):
            return self.inside(chain, init, sources[0], steps)
        ops: list[Op] = []
        trims = trims_of(chain.terms[0][0])
        with self.builder.inside(Block((), self.before)):
            rows = {value: self.row(value, init, trims) for value in sources}
            spare = self.carry(
                self.make(np.empty_like, self.symbol(init)), f"{chain.base.name or 'value'}_next"
            )
        with self.builder.inside(Block((), ops)):
            for value, row in rows.items():
                filled = self.make(
                    SET_ITEM, self.symbol(row), self.symbol(value), plain(_middle(trims))
                )
                filled.value.name, filled.value.kept = row.name, True
                self.carried_on(row, filled.value)
                rows[value] = filled.value
            total = self.total(chain, rows, steps)
            if chain.cleared is None:
                total = self.symbol(chain.base) + total
            total.value.name = chain.result.name
            self.written(chain, spare, total)
        self.carried_on(spare, chain.base)
        return ops

    def total(self, chain: Chain, rows: dict[Value, Value], steps: list[Apply]) -> Any:
        """What is added to each element of the array."""
        trims = trims_of(chain.terms[0][0])
        terms = [self.term(cuts, value, trims, rows, steps) for cuts, value in chain.terms]
        return reduce(operator.add, terms)

    def row(self, value: Value, init: Operand, trims: tuple[int, ...]) -> Value:
        """An array of zeros with a margin around the room for a value."""
        return self.carry(
            self.zeros(init, trims), f"{value.name or value.part or 'value'}_row"
        )

    def zeros(self, init: Operand, trims: tuple[int, ...]) -> Any:
        """Zeros in the shape of an array with so many more on each axis."""
        sides = zip(self.symbol(init).shape, trims, strict=True)
        lengths = tuple([length + trim if trim else length for length, trim in sides])
        dtype = init.type.dtype
        keywords = {} if dtype == "float64" else {"dtype": np.dtype(dtype).type}
        shape = lengths if len(lengths) > 1 else lengths[0]
        return apply_function(np.zeros, (shape,), keywords, self.builder)

    def term(
        self,
        cuts: tuple[Cut, ...],
        value: Value,
        trims: tuple[int, ...],
        rows: dict[Value, Value],
        steps: list[Apply],
    ) -> Symbol:
        """What is added to each element of the array: 0 where the slice does not reach."""
        index = _window(cuts, trims)
        known: dict[Operand, Any] = {}
        for source, row in rows.items():
            part = self.symbol(row)[plain(index)]
            part.value.name = source.name
            known[source] = part
        for step in steps if value not in known else ():
            given = [known[o] if o in known else symbol_of(o, self.builder) for o in step.operands]
            known[step.result] = self.make(step.primitive.function, *given)
            known[step.result].value.name = step.result.name
        found: Symbol = known[value]
        return found

    def sources(self, added: list[Value]) -> tuple[list[Value], list[Apply]]:
        """The values to keep in rows, and the steps by which the others follow from them.

        Those that are added, or the one from which all follow by a few products and sums.
        """
        shape = added[0].type.shape
        found: dict[Value, None] = {}
        steps: list[Apply] = []

        def search(value: Operand) -> None:
            if not isinstance(value, Value) or not value.type.ndim:
                return
            op = self.made.get(value)
            if not isinstance(op, Apply) or not self.is_simple(op, shape):
                found[value] = None
            elif op not in steps:
                for operand in op.operands:
                    search(operand)
                steps.append(op)

        for value in added:
            search(value)
        (one, *more) = found
        alike = isinstance(one.type, Array) and one.type == added[0].type
        few = not more and len(steps) <= MOST_AGAIN
        if alike and few and vanish_with([one], steps, added):
            return [one], steps
        return list(dict.fromkeys(added)), []

    def is_simple(self, op: Apply, shape: tuple[Size, ...]) -> bool:
        """Whether the operation is a sum or product of arrays of this shape and of numbers."""
        arrays = [o for o in op.operands if o.type.ndim]
        return op.primitive.name in AGAIN and all(o.type.shape == shape for o in arrays)

    def written(self, chain: Chain, spare: Value, total: Symbol) -> None:
        """`next[:] = total`, and the ends that were not set to 0 as they were."""
        whole = slice(None)
        edges = list(edges_of(chain.cleared)) if chain.cleared else []
        parts: list[tuple[Any, Symbol, Any]] = [(SET_ITEM, total, whole)]
        for index in edges:
            end = self.symbol(chain.base)[plain(index)]
            end.value.name = f"{chain.base.name or 'value'}_end"
            parts.append((ADD_ITEM, end, plain(index)))
        version = spare
        for k, (function, value, index) in enumerate(parts):
            made = chain.result if k == len(parts) - 1 else Value(
                chain.result.type, chain.result.name, kept=True
            )
            call_into(made, function, (self.symbol(version), value, index), self.builder)
            version = made

    # An array of which the trips read nothing but the part that they clear.

    def is_all_inside(self, chain: Chain, sources: list[Value]) -> bool:
        """Whether the part can be kept in the row itself from trip to trip."""
        body = self.op.body
        if chain.cleared is None or chain.base not in body.params or len(sources) > 1:
            return False
        place = body.params.index(chain.base) - 1 + int(self.op.exits)
        reads = [op for op in body.ops if chain.base in read_by(op) and op is not chain.ops[0]]
        return (
            [item in (chain.base, chain.result) for item in body.yields].count(True) == 1
            and body.yields[place] is chain.result
            and not any(chain.result in read_by(op) for op in body.ops)
            and sources[0] in [result for op in reads for result in op.results]
            and all(self.is_part(op, chain) for op in reads)
        )

    def is_part(self, op: Op, chain: Chain) -> bool:
        """Whether this reads the part that is cleared."""
        is_read = isinstance(op, Apply) and op.primitive.function is operator.getitem
        return is_read and cuts_of(op) == chain.cleared  # type: ignore[arg-type]

    def inside(
        self, chain: Chain, init: Operand, source: Value, steps: list[Apply]
    ) -> list[Op]:
        """The part is in a row with zeros around it, and the next one is computed into a second.

        What falls on the ends is added to them, and the row is 0 there again.
        """
        assert chain.cleared is not None
        trims, name = trims_of(chain.cleared), f"{chain.base.name or 'value'}_row"
        part, middle = plain(slices_of(chain.cleared)), plain(_middle(trims))
        window = plain(_window(chain.cleared, trims))
        with self.builder.inside(Block((), self.before)):
            value = self.symbol(init)[part]
            row = self.carry(self.make(SET_ITEM, self.zeros(init, trims), value, middle), name)
            second = self.carry(self.zeros(init, trims), f"{name}_next")
        ops: list[Op] = []
        with self.builder.inside(Block((), ops)):
            total = self.total(chain, {source: row}, steps)
            total.value.name = chain.result.name
            filled = self.version(second, SET_ITEM, second, total, window)
            kept = chain.base
            edges = list(edges_of(chain.cleared))
            for end in edges:
                found = self.symbol(filled)[window][plain(end)]
                found.value.name = f"{chain.base.name or 'value'}_end"
                kept = self.version(chain.result, ADD_ITEM, kept, found, plain(end))
                place = plain(_shifted(end, chain.cleared, trims))
                filled = self.version(second, SET_ITEM, filled, 0.0, place)
        self.known[chain.result] = kept
        self.carried_on(row, filled)
        self.carried_on(second, row)
        for op in self.op.body.ops:
            if chain.base in read_by(op) and op is not chain.ops[0]:
                with self.builder.inside(Block((), self.moved.setdefault(op, []))):
                    given = (self.symbol(row), middle)
                    call_into(op.results[0], operator.getitem, given, self.builder)
        self.finish(self.op.body.params.index(chain.base) - 1, row, part, middle)
        return ops

    def version(self, like: Value, function: Any, base: Value, value: Any, index: Any) -> Value:
        """The array after a write, under the name of another version."""
        made = Value(base.type, like.name, kept=True)
        call_into(made, function, (self.symbol(base), value, index), self.builder)
        return made

    def finish(self, place: int, row: Value, part: Any, middle: Any) -> None:
        """After the loop, the array gets its part from the row."""
        result = self.results[place]
        ends = self.results[place] = Value(result.type, result.name, kept=True)
        first = len(self.op.results)
        last = self.results[first + [param for _, param, _ in self.extra].index(row)]
        with self.builder.inside(Block((), self.after)):
            value = self.symbol(last)[middle]
            call_into(result, SET_ITEM, (self.symbol(ends), value, part), self.builder)


def _middle(trims: tuple[int, ...]) -> tuple[slice, ...]:
    """The part of a row between its margins."""
    return tuple([slice(trim or None, -trim or None) for trim in trims])


def _window(cuts: tuple[Cut, ...], trims: tuple[int, ...]) -> tuple[slice, ...]:
    """The part of a row that stands for the whole array, for slices with these cuts."""
    return tuple(
        [slice(trim - first or None, -first or None)
         for (first, _), trim in zip(cuts, trims, strict=True)]
    )  # fmt: skip


def _shifted(
    end: tuple[slice, ...], cuts: tuple[Cut, ...], trims: tuple[int, ...]
) -> tuple[slice, ...]:
    """Where an end of the array is in the row."""
    found = []
    for entry, (first, last), trim in zip(end, cuts, trims, strict=True):
        start, stop = trim - first, -first
        if entry == slice(None, first) and first:
            stop = trim
        elif entry == slice(-last, None) and last:
            start = -trim
        elif entry != slice(None):
            start, stop = trim, -trim
        found.append(slice(start or None, stop or None))
    return tuple(found)
