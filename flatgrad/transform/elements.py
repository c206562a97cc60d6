"""Small arrays of known shape taken apart into numbers.

    a = point - camera[3:6]           a_0 = point[0] - camera[3]
    s = a @ a                ->       a_1 = point[1] - camera[4]
    return s                          a_2 = point[2] - camera[5]
                                      s = a_0 * a_0 + a_1 * a_1 + a_2 * a_2

In a function of a few numbers an array of three costs more than all arithmetic on it. Where an
operation needs an array as a whole, it is put together from its elements. Loops of a few trips,
whose number is known, are unrolled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from flatgrad.errors import FlatgradError
from flatgrad.ir.builder import Builder
from flatgrad.ir.copies import twin
from flatgrad.ir.dims import Dim
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Function,
    If,
    Op,
    Operand,
    Origin,
    Slot,
    Value,
    While,
    substitute,
)
from flatgrad.ir.types import Scalar, Type
from flatgrad.primitives.core import IDENTITY
from flatgrad.primitives.registry import PRIMITIVES
from flatgrad.primitives.symbolic import (
    NeedInteger,
    NeedStatic,
    Symbol,
    apply_function,
    operand_of,
)
from flatgrad.transform.clone import all_ops, picked
from flatgrad.transform.dce import eliminate_dead
from flatgrad.transform.element_rules import NotByElements, by_elements

MOST = 64
"""Arrays of more elements stay arrays."""

TRIPS = 16
"""Loops of up to so many trips are unrolled."""

GROWTH = 20_000
"""A function that would have more operations stays as it is."""

TakenApart = np.ndarray[Any, Any]
"""The elements of a value: an array of Symbols and numbers, in its shape."""


def take_apart(fn: Function) -> Function:
    """The function on numbers, where its arrays are small; as it is if it has other floats."""
    values = [*fn.params, *[value for op in all_ops(fn.body) for value in op.results]]
    if any(value.type.dtype == "float32" for value in values):
        return fn  # Python's floats, which stand for elements that are known, would adapt to it
    block = Block(fn.params)
    builder = Builder(block, fn.lengths)
    apart = _Apart(builder)
    for param in fn.params:
        apart.read(param)
    try:
        apart.walk(fn.body)
    except _TooLong:
        return fn
    block.yields = tuple([apart.pick(item) for item in fn.results])
    requirements = fn.requirements + builder.requirements
    return eliminate_dead(replace(fn, body=block, requirements=requirements))


def is_small(kind: Any) -> bool:
    """Whether values of a type are taken apart."""
    shape = known_shape(kind)
    return shape is not None and bool(shape) and 0 < math.prod(shape) <= MOST


def known_shape(kind: Type) -> tuple[int, ...] | None:
    """The lengths of a type, if all are known while compiling."""
    found = [size for size in kind.shape if isinstance(size, int)]
    return tuple(found) if len(found) == kind.ndim else None


def blank(kind: Type) -> TakenApart:
    """A place for each element of a small array."""
    shape = known_shape(kind)
    assert shape is not None
    made: TakenApart = np.empty(shape, dtype=object)
    return made


class _TooLong(Exception):
    pass


class _Apart:
    """A function that is written again: `now` has what stands for each of its values.

    `parts` has the elements of the arrays that are taken apart, those among them that were read
    from an array which is there anyway are in `arrays`.
    """

    def __init__(self, builder: Builder) -> None:
        self.builder = builder
        self.now: dict[Value, Operand] = {}
        self.parts: dict[Value, TakenApart] = {}
        self.arrays: set[Operand] = set()
        self.count = 0

    def pick(self, operand: Operand) -> Operand:
        """What stands for an operand."""
        return picked(operand, self.now)

    def walk(self, block: Block) -> None:
        """Append the operations of a block."""
        for op in block.ops:
            self.count += 1
            if self.count > GROWTH:
                raise _TooLong
            match op:
                case Apply():
                    self.visit(op)
                case If() if isinstance(condition := self.pick(op.condition), Const):
                    self.follow(op, op.then if condition.value else op.orelse)
                case If():
                    self.visit_if(op)
                case For() if (trips := self.few_trips(op)) is not None:
                    self.unroll(op, trips)
                case _:
                    self.visit_loop(op)

    def visit(self, op: Apply) -> None:
        """One operation, and its result by elements."""
        operands = tuple([self.pick(operand) for operand in op.operands])
        known = _number_of(op, operands)
        if known is not None:
            self.now[op.result] = known
            return
        results = tuple([self.renewed(value) for value in op.results])
        self.now.update(zip(op.results, results, strict=True))
        new = replace(op, operands=operands, results=results)
        with self.builder.at(op.origin, _statement(results)), np.errstate(all="ignore"):
            found = self.found(new) if self.is_candidate(new) else None
            if found is None:
                whole = tuple([self.whole(operand) for operand in operands])
                self.builder.block.ops.append(replace(new, operands=whole))
                for result in results:
                    self.read(result)
                return
            (result,) = results
            self.builder.block.ops.append(new)
            if isinstance(found, np.ndarray):
                self.parts[result] = self.named(found, result)
            else:
                self.now[op.result] = self.number(found, result)

    def is_candidate(self, op: Apply) -> bool:
        """Whether the result of an operation may be had by elements."""
        if op.primitive.effect or len(op.results) != 1:
            return False
        arrays = any(operand in self.parts for operand in op.operands)
        return is_small(op.result.type) or (not op.result.type.ndim and arrays)

    def whole(self, operand: Operand) -> Operand:
        """An array for an operation that needs it as a whole: put together from its elements."""
        parts = self.parts.get(operand) if isinstance(operand, Value) else None
        if parts is None or operand in self.arrays:
            return operand
        if not any(isinstance(part, Symbol) for part in parts.flat):
            return operand  # a constant array, which is there
        made = apply_function(np.array, (parts.tolist(),), {}, self.builder)
        if made.type != operand.type:
            return operand
        assert isinstance(operand, Value)
        made.value.name, made.value.kept = operand.name, operand.kept
        self.parts[made.value] = parts
        self.arrays.add(made.value)
        return operand_of(made)

    def renewed(self, value: Value) -> Value:
        """A new value for one that may be made several times; its length is not that of another."""
        made = twin(value)
        if isinstance(made.type, Scalar) and not self.is_lasting(made.type.size):
            made.type = replace(made.type, size=None)
        return made

    def is_lasting(self, size: Any) -> bool:
        """Whether a length is the same in each trip of a loop."""
        return not isinstance(size, Dim) or set(size.atoms) <= self.builder.lengths.keys()

    def found(self, op: Apply) -> Any:
        """The elements of the result of an operation; None if they are read from it."""
        ops = self.builder.block.ops
        start = len(ops)
        try:
            return by_elements(op, self.parts, self.builder)
        except (
            NotByElements, FlatgradError, NeedStatic, NeedInteger,
            ArithmeticError, IndexError, ValueError, TypeError,
        ):  # fmt: skip
            del ops[start:]
            return None

    def number(self, found: Any, result: Value) -> Operand:
        """A number that an operation on arrays gives, under the name that it had."""
        operand = operand_of(found)
        if not result.kept and operand.type.dtype == result.type.dtype:
            return operand
        fresh = isinstance(operand, Value) and not operand.kept
        copied = found if fresh else apply_function(IDENTITY, (found,), {}, self.builder)
        if not isinstance(copied, Symbol):
            with_name = Value(result.type, result.name, kept=True, part=result.part)
            self.builder.block.ops.append(_constant(with_name, found, self.builder.origin))
            return with_name
        copied.value.name, copied.value.kept, copied.value.of = result.name, True, result.of
        return copied.value

    def named(self, found: TakenApart, result: Value) -> TakenApart:
        """The elements of a variable carry its name."""
        for index, item in np.ndenumerate(found) if result.kept else ():
            fresh = isinstance(item, Symbol) and item.value.name != result.name
            if fresh and not item.value.kept:
                item.value.name = "_".join([str(result.name), *map(str, index)])
                item.value.kept = True
        return found

    def read(self, value: Value) -> None:
        """Elements are read from the array."""
        if not is_small(value.type):
            return
        self.arrays.add(value)
        made = blank(value.type)
        array = Symbol(value, self.builder)
        with self.builder.at(self.builder.origin, value.name or value.part):
            for index in np.ndindex(*made.shape):
                made[index] = array[index if len(index) > 1 else index[0]]
        self.parts[value] = made

    def inside(self, block: Block, params: Sequence[Value], splits: Any) -> Block:
        """A nested block that hands on elements, too, for the yields that `splits` names."""
        new = Block(tuple(params))
        saved = dict(self.now)
        with self.builder.inside(new):
            self.walk(block)
            yields = [self.pick(item) for item in block.yields]
            new.yields = (*yields, *self.elements([yields[k] for k in splits]))
        self.now = saved
        return new

    def elements(self, operands: Sequence[Operand]) -> list[Operand]:
        """The elements of some arrays, one after the other."""
        found: list[Operand] = []
        for operand in operands:
            assert isinstance(operand, Value)
            if operand not in self.parts:
                self.read(operand)
            found += [operand_of(part) for part in self.parts[operand].flat]
        return found

    def handed_on(self, values: Sequence[Value]) -> list[Value]:
        """New numbers for the elements of arrays that a branch or a loop hands on."""
        made: list[Value] = []
        for value in values:
            parts = blank(value.type)
            for index in np.ndindex(*parts.shape):
                name = "_".join([str(value.name or value.part or "x"), *map(str, index)])
                part = Value(Scalar(value.type.dtype), name, kept=value.kept, part=value.part)
                made.append(part)
                parts[index] = Symbol(part, self.builder)
            self.parts[value] = parts
        return made

    def visit_if(self, op: If) -> None:
        """Branches yield the elements of small arrays beside these."""
        versions = zip(op.results, op.then.yields, op.orelse.yields, strict=True)
        splits = [k for k, all_of in enumerate(versions) if all(is_small(v.type) for v in all_of)]
        then, orelse = (self.inside(block, block.params, splits) for block in (op.then, op.orelse))
        results = [self.renewed(value) for value in op.results]
        self.now.update(zip(op.results, results, strict=True))
        more = self.handed_on([results[k] for k in splits])
        new = replace(
            op, condition=self.pick(op.condition), then=then, orelse=orelse,
            results=(*results, *more),
        )  # fmt: skip
        self.builder.block.ops.append(new)

    def visit_loop(self, op: For | While) -> None:
        """A loop carries the elements of small arrays beside these."""
        inits = [self.pick(item) for item in op.inits]
        offset = 1 if op.exits else 0
        lead = 1 if isinstance(op, For) else 0
        versions = zip(
            op.inits, op.body.params[lead:], op.body.yields[offset:], op.results, strict=True
        )
        splits = [k for k, all_of in enumerate(versions) if all(is_small(v.type) for v in all_of)]
        more = self.elements([inits[k] for k in splits])

        def written(block: Block, lead: int, yields: list[int]) -> Block:
            params = [self.renewed(value) for value in block.params]
            self.now.update(zip(block.params, params, strict=True))
            extra = self.handed_on([params[lead + k] for k in splits])
            return self.inside(block, (*params, *extra), yields)

        body = written(op.body, lead, [offset + k for k in splits])
        results = [self.renewed(value) for value in op.results]
        new: Op
        if isinstance(op, For):
            start, stop, step = (self.pick(item) for item in (op.start, op.stop, op.step))
            new = replace(op, start=start, stop=stop, step=step, body=body)
            if op.snapshots is not None:
                new = replace(new, snapshots=self.pick(op.snapshots))
        else:
            new = replace(op, condition=written(op.condition, 0, []), body=body)
        self.now.update(zip(op.results, results, strict=True))
        extra = self.handed_on([results[k] for k in splits])
        new = replace(new, inits=(*inits, *more), results=(*results, *extra))
        self.builder.block.ops.append(new)

    def follow(self, op: If, side: Block) -> None:
        """The branch that is taken for sure."""
        self.walk(side)
        taken = [self.pick(item) for item in side.yields]
        self.now.update(zip(op.results, taken, strict=True))

    def few_trips(self, op: For) -> range | None:
        """The trips of a loop that is unrolled; lengths in it do not depend on the trip."""
        bounds = [self.pick(item) for item in (op.start, op.stop, op.step)]
        numbers = [item.value for item in bounds if isinstance(item, Const)]
        if len(numbers) < 3 or op.exits or op.checkpoint is not None:
            return None
        trips = range(*numbers)
        values = [*op.body.params, *[v for inner in all_ops(op.body) for v in inner.results]]
        lasting = all(self.is_lasting(size) for value in values for size in value.type.shape)
        return trips if len(trips) <= TRIPS and lasting else None

    def unroll(self, op: For, trips: range) -> None:
        """The trips one after the other."""
        carried: list[Operand] = [self.pick(item) for item in op.inits]
        for index in trips:
            self.now.update(zip(op.body.params, [Const(index), *carried], strict=True))
            self.walk(op.body)
            carried = [self.pick(item) for item in op.body.yields]
        self.now.update(zip(op.results, carried, strict=True))


def _statement(results: Sequence[Value]) -> str | None:
    """The variable to whose statement an operation belongs."""
    return results[0].name or results[0].part if results else None


def _number_of(op: Apply, operands: Sequence[Operand]) -> Const | None:
    """The int or bool that an operation on constants gives, as in an unrolled loop."""
    if op.primitive.effect or len(op.results) != 1 or not operands:
        return None
    if op.result.type.ndim or op.result.type.dtype not in ("int64", "bool"):
        return None
    if not all(isinstance(operand, Const) for operand in operands):
        return None
    numbers = [
        np.bool_(now.value) if own.type.dtype == "bool" and not own.type.weak else now.value
        for own, now in zip(op.operands, operands, strict=True) if isinstance(now, Const)
    ]  # fmt: skip
    try:
        found = op.primitive.evaluate(substitute(op.arguments, numbers.__getitem__))
    except (ArithmeticError, ValueError, TypeError):
        return None
    return Const(found.item() if isinstance(found, np.generic) else found)


def _constant(result: Value, number: Any, origin: Origin) -> Apply:
    return Apply(PRIMITIVES[IDENTITY], (Const(number),), {"x": Slot(0)}, (result,), origin)
