"""An adjoint that each step moves into a row stays in the row from step to step.

    for _ in range(steps):                      two rows, with zeros at their ends
        for i in range(1, n - 1):               for _ in range(steps):
            e = grad_v[i]                           for i in range(n):
            grad_v[i] = 0.0                             next_row[i + 1] = row[i] + row[i + 2]
            row[i + 1] = e                 ->       what is at the ends goes to grad_u
        for i in range(n):                          row, next_row = next_row, row
            grad_u[i] += row[i] + row[i + 2]        grad_u, grad_v = grad_v, grad_u
        grad_u, grad_v = grad_v, grad_u         grad_u gets its middle from the row

What the first loop clears in one array is 0 in the other at the start of each step, if it was at
first: so what the second loop adds there is what is there. `gather.py` makes such loops of a
scheme in two buffers.
"""

from __future__ import annotations

import operator
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flatgrad.analysis.affine import Affine, Integers, number
from flatgrad.analysis.independent import element_index
from flatgrad.ir.builder import Builder
from flatgrad.ir.copies import copied_ops, twin
from flatgrad.ir.ops import Apply, Block, Const, For, Function, Op, Operand, Value, all_reads
from flatgrad.ir.types import Array
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.primitives.symbolic import Symbol, apply_function, operand_of, symbol_of
from flatgrad.transform.building import rebuilt
from flatgrad.transform.clone import rewired, with_blocks
from flatgrad.transform.dce import swept
from flatgrad.transform.gather import row_size

ZEROS = (np.zeros, np.zeros_like)


def carry_rows(fn: Function) -> Function:
    """The function with such arrays in rows."""
    walk = _Walk(Integers.of_function(fn), Builder(Block(fn.params), fn.lengths), fn)
    return replace(fn, body=swept(walk.block(fn.body, ())))


@dataclass(frozen=True, slots=True)
class _Moved:
    """Two loops in the body of a loop over steps, and the places of what they carry.

    `filling` moves `array` into `row`; `summing` adds to the array at the place `other`. An element
    i is at `i + shift` in the row. The first loop runs from `low` to `high`, the second begins
    `before` elements earlier and ends `behind` elements later.
    """

    filling: For
    summing: For
    item: Apply
    array: int
    other: int
    row: int
    low: Affine
    high: Affine
    shift: Affine
    before: int
    behind: int


Uses = Counter[Value]
Around = tuple[tuple[For, Uses], ...]
"""The loops around a block, the outermost first, and how often the block of each reads a value."""


class _Walk:
    """A walk over all blocks."""

    def __init__(self, integers: Integers, builder: Builder, fn: Function) -> None:
        self.integers = integers
        self.builder = builder
        self.makers: dict[Value, Apply] = {
            op.results[0]: op for op in fn.body.ops if isinstance(op, Apply) and op.results
        }
        self.known = {*fn.params, *[value for op in fn.body.ops for value in op.results]}

    def block(self, block: Block, around: Around) -> Block:
        uses = Counter(one for one in all_reads(block) if isinstance(one, Value))
        ops: list[Op] = []
        for op in block.ops:
            if not isinstance(op, For) or op.vector:
                ops.append(with_blocks(op, lambda one: self.block(one, ())))
                continue
            moved = self.moved(op, around, uses)
            if moved is None:
                within = (*around, (op, uses))
                ops.append(replace(op, body=self.block(op.body, within)))
            else:
                ops += _Rows(op, moved, self.builder).ops()
        return Block(block.params, ops, block.yields)

    def moved(self, loop: For, around: Around, uses: Uses) -> _Moved | None:
        """The loops in the body of a loop that move an array into a row and add up from it."""
        if loop.exits:
            return None
        loops = [op for op in loop.body.ops if isinstance(op, For) and op.vector]
        for filling in loops:
            for summing in loops:
                found = self.pair(loop, filling, summing)
                if found is not None and self.is_private(loop, found, around, uses):
                    return found
        return None

    def pair(self, loop: For, filling: For, summing: For) -> _Moved | None:
        """The two loops, if the second adds up what the first moves, and nobody else sees it."""
        params = loop.body.params[1:]
        if len(summing.inits) != 1 or not _by_one(filling) or not _by_one(summing):
            return None
        target = summing.inits[0]
        if target not in params or target.type.ndim != 1 or target.type.dtype != "float64":
            return None
        uses = Counter(one for one in all_reads(loop.body) if isinstance(one, Value))
        calls = [op for op in summing.body.ops if isinstance(op, Apply)]
        read = {op.operands[0] for op in calls if op.primitive.function is operator.getitem}
        rows = [k for k, result in enumerate(filling.results) if result in read]
        if len(rows) != 1 or not self.adds(summing):
            return None
        (r,) = rows
        found = self.move(filling, r)
        if found is None:
            return None
        item, a, shift = found
        array, row = filling.inits[a], filling.inits[r]
        if array not in params or row not in params or array.type != target.type:
            return None
        p, q, w = (params.index(one) for one in (array, target, row))
        yields = loop.body.yields
        swapped = yields[p] is summing.results[0] and yields[q] is filling.results[a]
        inside = Counter(one for one in all_reads(summing.body) if isinstance(one, Value))
        once = (array, target, row, filling.results[a], summing.results[0])
        if not swapped or yields[w] is not filling.results[r] or any(uses[v] != 1 for v in once):
            return None
        if uses[filling.results[r]] != 1 + inside[filling.results[r]] or len({p, q, w}) != 3:
            return None
        low, high = self.integers.of(filling.start), self.integers.of(filling.stop)
        before = low.plus(self.integers.of(summing.start), -1)
        behind = self.integers.of(summing.stop).plus(high, -1)
        margin = low.plus(shift)
        if before.terms or behind.terms or margin.terms:
            return None
        made = _Moved(
            filling, summing, item, p, q, w, low, high, shift, before.constant, behind.constant
        )
        fits = 0 <= made.before <= margin.constant and 0 <= made.behind <= margin.constant
        size = row_size(filling, margin.constant)
        return made if fits and row.type == Array("float64", (size,)) else None

    def adds(self, loop: For) -> bool:
        """Whether a loop adds to the element of its own index, reads no array but rows, once."""
        index, param = loop.body.params
        calls = [op for op in loop.body.ops if isinstance(op, Apply)]
        uses = [op for op in calls if param in op.operands]
        if len(uses) != 1 or len(calls) != len(loop.body.ops):
            return False
        (added,) = uses
        return (
            added.primitive.function is ADD_ITEM
            and loop.body.yields == (added.result,)
            and added.operands[0] is param
            and added.operands[1].type.dtype == "float64"
            and added.operands.count(param) == 1
            and element_index(added, self.integers) == (_term(index),)
        )

    def move(self, loop: For, r: int) -> tuple[Apply, int, Affine] | None:
        """What is moved, the place of its array, and how far: `row[i + shift] = array[i]`."""
        ops = [op for op in loop.body.ops if isinstance(op, Apply)]
        index, *params = loop.body.params
        filled = [op for op in ops if params[r] in op.operands]
        if len(ops) != len(loop.body.ops) or len(filled) != 1 or not _is(filled[0], SET_ITEM):
            return None
        (write,) = filled
        place = element_index(write, self.integers)
        item = next((op for op in ops if write.operands[1] in op.results), None)
        if place is None or place[0].factor(index) != 1:
            return None
        if item is None or item.primitive.function is not operator.getitem:
            return None
        if item.operands[0] not in params or loop.body.yields[r] is not write.result:
            return None
        a = params.index(item.operands[0])
        others = [op for op in ops if params[a] in op.operands and op is not item]
        if len(others) != 1 or not _is(others[0], SET_ITEM):
            return None
        (clear,) = others
        cleared = isinstance(clear.operands[1], Const) and clear.operands[1].value == 0.0
        if not cleared or loop.body.yields[a] is not clear.result or params[r] is params[a]:
            return None
        if any(element_index(one, self.integers) != (_term(index),) for one in (item, clear)):
            return None
        uses = Counter(one for one in all_reads(loop.body) if isinstance(one, Value))
        if uses[clear.result] != 1 or uses[write.result] != 1:
            return None
        return item, a, place[0].plus(_term(index), -1)

    # What is known of the loops around.

    def is_private(self, loop: For, found: _Moved, around: Around, uses: Uses) -> bool:
        """Whether the other array starts as zeros, and nobody else reads the row."""
        terms = [*found.low.terms, *found.high.terms, *found.shift.terms]
        return (
            all(value in self.known for value, _ in terms)
            and self.starts_as_zeros(loop, found.other, around)
            and self.starts_as_zeros(loop, found.row, around)
            and _unread(loop, found.row, around, uses)
        )

    def starts_as_zeros(self, loop: For, place: int, around: Around) -> bool:
        """Whether what a loop carries is zeros at first, or what the loop itself has left."""
        init = loop.inits[place]
        made = self.makers.get(init) if isinstance(init, Value) else None
        if made is not None and made.primitive.function in ZEROS:
            return True
        if not around or init not in around[-1][0].body.params[1:]:
            return False
        outer, _ = around[-1]
        k = outer.body.params.index(init) - 1
        handed_on = not outer.exits and outer.body.yields[k] is loop.results[place]
        return handed_on and self.starts_as_zeros(outer, k, around[:-1])


def _unread(loop: For, place: int, around: Around, uses: Uses) -> bool:
    """Whether nobody reads what the loop leaves there, but the loop itself the next time."""
    result, init = loop.results[place], loop.inits[place]
    if not uses[result]:
        return True
    if not around or uses[result] != 1 or not isinstance(init, Value) or uses[init] != 1:
        return False
    outer, outside = around[-1]
    places = [k for k, param in enumerate(outer.body.params[1:]) if param is init]
    if outer.exits or not places or outer.body.yields[places[0]] is not result:
        return False
    return _unread(outer, places[0], around[:-1], outside)


def _by_one(loop: For) -> bool:
    return isinstance(loop.step, Const) and loop.step.value == 1 and not loop.exits


def _is(op: Op | None, function: Any) -> bool:
    return isinstance(op, Apply) and op.primitive.function is function


def _term(value: Value) -> Affine:
    return Affine(frozenset({(value, 1)}))


class _Rows:
    """Writes a loop over steps anew, and what comes before and after it."""

    def __init__(self, loop: For, moved: _Moved, builder: Builder) -> None:
        self.loop = loop
        self.moved = moved
        self.builder = builder

    def ops(self) -> list[Op]:
        loop, moved = self.loop, self.moved
        with self.builder.at(replace(loop.origin, span=None)):
            with self.builder.inside(Block()) as before:
                self.low, self.high = self.bound(moved.low), self.bound(moved.high)
                start, row = self.into_row()
                second = self.make(np.zeros_like, Symbol(row, self.builder)).value
                second.name, second.kept = f"{row.name}_next", True
                self.ends = self.end_bounds()
            inits = list(loop.inits)
            inits[moved.array], inits[moved.row] = start, row
            results = [*loop.results]
            results[moved.array] = twin(results[moved.array])
            made = replace(
                loop, inits=(*inits, second), body=self.body(second),
                results=(*results, twin(second)),
            )  # fmt: skip
            with self.builder.inside(Block()) as after:
                self.out_of_row(results[moved.array], results[moved.row])
        return [*before.ops, made, *after.ops]

    def make(self, function: Any, *args: Any) -> Any:
        return apply_function(function, args, {}, self.builder)

    def bound(self, affine: Affine) -> Operand:
        return operand_of(rebuilt(affine, self.builder))

    def symbol(self, operand: Operand) -> Any:
        return symbol_of(operand, self.builder)

    def end_bounds(self) -> list[tuple[Operand, Operand]]:
        """The ranges of the elements outside the middle, which are what the first loop leaves."""
        moved = self.moved
        low, high = self.symbol(self.low), self.symbol(self.high)
        start = self.symbol(self.bound(moved.low.plus(number(-moved.before))))
        stop = self.symbol(self.bound(moved.high.plus(number(moved.behind))))
        found = []
        if moved.before:
            first = self.make(np.minimum, low, stop)
            found.append((operand_of(start), operand_of(self.named(first, "first_part"))))
        if moved.behind:
            last = self.make(np.maximum, high, low)
            found.append((operand_of(self.named(last, "last_part")), operand_of(stop)))
        return found

    def named(self, symbol: Any, name: str) -> Any:
        if isinstance(symbol, Symbol):
            symbol.value.name = name
        return symbol

    def place(self, index: Value) -> Any:
        """Where the element is in the row."""
        return self.named(rebuilt(_term(index).plus(self.moved.shift), self.builder), "place")

    def version(self, like: Value, function: Any, *args: Any) -> Value:
        made: Value = self.make(function, *args).value
        made.name, made.kept = like.name, like.kept
        return made

    def each(self, bounds: tuple[Operand, Operand], inits: list[Value], write: Any) -> list[Value]:
        """`for i in range(...)` with arrays that `write` gives the next versions of."""
        old = self.moved.summing.body.params[0]
        index = Value(old.type, old.name, kept=old.kept)
        params = [twin(one) for one in inits]
        with self.builder.inside(Block()) as body:
            here = Symbol(index, self.builder)
            arrays = [Symbol(one, self.builder) for one in params]
            body.yields = tuple(write(here, self.place(index), *arrays))
        body.params = (index, *params)
        results = [twin(one) for one in inits]
        self.builder.block.ops.append(
            For(*bounds, Const(1), tuple(inits), body, tuple(results),
                origin=self.builder.origin, vector=True)
        )  # fmt: skip
        return results

    def into_row(self) -> list[Value]:
        """The array without its middle, and the row with it."""
        moved = self.moved
        array, row = self.loop.inits[moved.array], self.loop.inits[moved.row]
        assert isinstance(array, Value)
        assert isinstance(row, Value)

        def write(i: Any, place: Any, values: Symbol, row_of: Symbol) -> list[Value]:
            item = self.make(operator.getitem, values, i)
            filled = self.version(row, SET_ITEM, row_of, item, place)
            return [self.version(array, SET_ITEM, values, 0.0, i), filled]

        return self.each((self.low, self.high), [array, row], write)

    def out_of_row(self, array: Value, row: Value) -> None:
        """The array gets its middle back, as the result that the loop had."""

        def write(i: Any, place: Any, values: Symbol) -> list[Value]:
            item = self.make(operator.getitem, Symbol(row, self.builder), place)
            return [self.version(array, SET_ITEM, values, item, i)]

        self.each((self.low, self.high), [array], write)
        last = self.builder.block.ops[-1]
        assert isinstance(last, For)
        self.builder.block.ops[-1] = replace(last, results=(self.loop.results[self.moved.array],))

    # The steps.

    def body(self, second: Value) -> Block:
        loop, moved = self.loop, self.moved
        params = loop.body.params[1:]
        row, other = params[moved.row], params[moved.other]
        spare = twin(second)
        ops: list[Op] = []
        kept: list[Value] = []
        for op in loop.body.ops:
            with self.builder.inside(Block((), ops)):
                if op is moved.filling:
                    self.rest(row)
                elif op is moved.summing:
                    kept = self.summed(row, spare, other)
                else:
                    ops.append(op)
        target, filled = kept
        yields = list(loop.body.yields)
        yields[moved.array], yields[moved.other] = target, params[moved.array]
        yields[moved.row] = filled
        return Block((*loop.body.params, spare), ops, (*yields, row))

    def rest(self, row: Value) -> None:
        """What else the first loop does."""
        filling, moved = self.moved.filling, self.moved
        params = filling.body.params[1:]
        a = next(k for k, one in enumerate(params) if one is moved.item.operands[0])
        keep = [k for k, init in enumerate(filling.inits) if init is not row and k != a]
        if not keep:
            return
        index = filling.body.params[0]
        with self.builder.inside(Block()) as body:
            item = self.version(moved.item.result, operator.getitem,
                                self.symbol(row), self.place(index))  # fmt: skip
            gone = {params[a], *[params[k] for k, one in enumerate(filling.inits) if one is row]}
            for op in filling.body.ops:
                if not (isinstance(op, Apply) and gone & {*op.operands}):
                    body.ops.append(rewired(op, {moved.item.result: item}))
        body.params = (index, *[params[k] for k in keep])
        yields = [filling.body.yields[k] for k in keep]
        body.yields = tuple([item if one is moved.item.result else one for one in yields])
        self.builder.block.ops.append(
            replace(
                filling, inits=tuple([filling.inits[k] for k in keep]), body=body,
                results=tuple([filling.results[k] for k in keep]),
            )
        )  # fmt: skip

    def summed(self, row: Value, spare: Value, other: Value) -> list[Value]:
        """The next row; what falls on the ends goes to the array, and the row is 0 there."""
        summing, moved = self.moved.summing, self.moved
        index = summing.body.params[0]
        r = next(k for k, init in enumerate(moved.filling.inits) if init is row)
        mapping: dict[Value, Operand] = {moved.filling.results[r]: row}
        param = twin(spare)
        with self.builder.inside(Block()) as body:
            added = next(op for op in summing.body.ops if _is(op, ADD_ITEM))
            steps = [op for op in summing.body.ops if op is not added]
            body.ops += copied_ops(steps, mapping, summing.origin.sweep)
            assert isinstance(added, Apply)
            total = added.operands[1]
            value = mapping.get(total, total) if isinstance(total, Value) else total
            filled = self.version(
                spare, SET_ITEM, Symbol(param, self.builder), self.symbol(value), self.place(index)
            )
        body.params, body.yields = (index, param), (filled,)
        made = twin(spare)
        self.builder.block.ops.append(
            replace(summing, inits=(spare,), body=body, results=(made,))
        )

        def write(i: Any, place: Any, values: Symbol, row_of: Symbol) -> list[Value]:
            item = self.make(operator.getitem, row_of, place)
            item.value.name = f"{other.name or 'value'}_end"
            cleared = self.version(spare, SET_ITEM, row_of, 0.0, place)
            return [self.version(other, ADD_ITEM, values, item, i), cleared]

        kept = [other, made]
        for bounds in self.ends:
            kept = self.each(bounds, kept, write)
        return kept
