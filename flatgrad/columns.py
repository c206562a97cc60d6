"""The Jacobian as one function: the tangents of all inputs in one sweep.

    f_jacfwd(a, b):                       f_jacfwd(x):
        s = a * b                             dot_x = np.eye(x.shape[0])
        dot_s_a = b                           y = x * np.sum(x)
        dot_s_b = a                           dot_y = dot_x * np.sum(x) + ...     # a row per input
        return (dot_s_a, dot_s_b)             return dot_y.T

Of few inputs each has tangents of its own, in which what is 0 or 1 does not appear; of many, stacks
of tangents are carried (`transform/vector_forward.py`).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

import numpy as np

from flatgrad.derivatives import (
    BETWEEN,
    ELSEWHERE,
    Direction,
    Request,
    all_ops,
    cleaned,
    mapped,
    order,
    parameters,
    renumber,
    stamp_tangents,
)
from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    Function,
    Operand,
    Origin,
    Slot,
    Value,
    blocks_of,
)
from flatgrad.ir.types import Type
from flatgrad.primitives.core import ASTYPE, IDENTITY
from flatgrad.primitives.index import SET_ITEM
from flatgrad.primitives.registry import PRIMITIVES
from flatgrad.primitives.symbolic import Symbol, apply_function, operand_of, symbol_of
from flatgrad.transform.forward import forward, unit_of
from flatgrad.transform.stack_sums import add_products
from flatgrad.transform.vector_forward import stacked

FEW = 8
"""Up to so many inputs, each has tangents of its own."""

BY_STACKS = 512
"""Up to so many inputs, stacks of as many tangents are carried; more would grow too big."""

KINDS = ("jacfwd", "value_and_jacfwd")


def directions(
    kind: str, values: dict[str, Any], wrt: Sequence[str]
) -> tuple[Direction, ...] | None:
    """The inputs by which a Jacobian has tangents of their own; None if they are carried as stacks.

    That is so if they are many, or an array among them is empty.
    """
    shapes = {name: np.shape(values[name]) for name in wrt}
    sizes = [math.prod(shape) for shape in shapes.values()]
    if kind not in KINDS or sum(sizes) > FEW or 0 in sizes:
        return None
    return tuple(
        (name, (index, shapes[name]) if shapes[name] else None)
        for name in wrt
        for index in np.ndindex(shapes[name])
    )


def jacobian_function(fn: Function, request: Request) -> Function:
    """With the Jacobians of all float results by all of `wrt`."""
    wrt = parameters(fn, request)
    if request.directions is None:
        fn, columns = by_stack(fn, wrt)
    else:
        fn, columns = one_by_one(fn, wrt, request)
    with_value = request.kind == "value_and_jacfwd"
    results: list[Operand] = list(fn.results) if with_value else []

    def row(k: int) -> Any:
        if k not in columns:
            return None
        results.extend(columns[k])
        first = len(results) - len(wrt)
        return mapped(request.form, lambda j: Slot(first + j))

    blocks = mapped(fn.tree, row, None)
    tree = (fn.tree, blocks) if with_value else blocks
    fn = replace(fn, body=Block(fn.params, fn.body.ops, tuple(results)), tree=tree)
    return fn if request.directions is not None else add_products(cleaned(fn))


ELSEWHERE.update(dict.fromkeys(KINDS, jacobian_function))

Columns = dict[int, list[Operand]]
"""For each float result, its Jacobians by each of `wrt`."""


@dataclass(slots=True)
class Draft:
    """A function under construction, and the parameters by which is differentiated."""

    fn: Function
    builder: Builder
    wrt: Sequence[Value]

    def finished(self) -> Function:
        """The function with what was built."""
        requirements = self.fn.requirements + self.builder.requirements
        return replace(self.fn, body=self.builder.block, requirements=requirements)

    def last_origin(self) -> Origin:
        """That of tangents of the last sweep: nothing that comes after needs a heading."""
        sweep = self.builder.block.ops[-1].origin.sweep
        if not sweep.endswith("tangent"):
            sweep = "tangent" if sweep == "forward" else f"{sweep} tangent"
        return Origin(None, sweep, "jacobian")

    def dtype_of(self, result: Operand, param: Value) -> str:
        """The dtype of a Jacobian: NumPy's for both, where Python's floats adapt."""
        strict = [kind.dtype for kind in (result.type, param.type) if not kind.weak]
        return np.result_type(*strict).name if strict else "float64"

    def block(self, found: Any, result: Operand, param: Value) -> Operand:
        """A Jacobian in its dtype, under its name."""
        dtype = self.dtype_of(result, param)
        if isinstance(found, Symbol) and found.type.dtype != dtype:
            kind = np.dtype(dtype).type
            found = apply_function(ASTYPE, (found, kind), {}, self.builder)
        if isinstance(found, Symbol) and found.ndim and not found.value.kept:
            found.value.name = "jacobian" + (f"_{param.name}" if len(self.wrt) > 1 else "")
            found.value.kept = True
        return operand_of(found)

    def lengths(self, operand: Operand) -> tuple[Any, ...]:
        """The lengths of the axes of a value."""
        return symbol_of(operand, self.builder).shape if operand.type.ndim else ()


def one_by_one(fn: Function, wrt: Sequence[Value], request: Request) -> tuple[Function, Columns]:
    """A sweep for each direction, all in one."""
    assert request.directions is not None
    before, number = set(all_ops(fn.body)), order(fn, "dot")
    among = {value for op in before for value in op.results} | set(fn.params)
    among |= {p for op in before for inner in blocks_of(op) for p in inner.params}
    named = {param.name: param for param in wrt}
    count = len(fn.params)
    tangents: list[list[Operand]] = []
    for name, unit in reversed(request.directions):  # each puts its tangents before the others'
        along = name + ("_".join(map(str, unit[0])) if unit else "")
        single = len(request.directions) == 1
        units = {named[name]: unit} if unit else {}
        fn, found = forward(
            fn, [named[name]], among=among, along="" if single else along, units=units
        )
        tangents.insert(0, found)
    seeds = fn.params[count:][::-1]
    draft = Draft(fn, Builder(Block(fn.params[:count]), fn.lengths), wrt)
    pairs = zip(seeds, request.directions, strict=True)
    for seed, (name, unit) in pairs:
        _plant(draft, seed, named[name], unit[0] if unit else None)
    draft.builder.block.ops += fn.body.ops
    stamp_tangents(replace(fn, body=draft.builder.block), before)
    renumber(replace(fn, body=draft.builder.block), before, "dot", number)
    columns: Columns = {}
    for k, result in enumerate(fn.results):
        if result.type.differentiable:
            found = [of_direction[k] for of_direction in tangents]
            columns[k] = [_gathered(draft, found, result, p, request) for p in wrt]
    flat = [item for parts in columns.values() for item in parts]
    draft.builder.block.yields = (*fn.results, *flat)
    fn = draft.finished()
    for run in BETWEEN:
        fn = run(fn)
    return _taken_back(fn, columns)


def _taken_back(fn: Function, columns: Columns) -> tuple[Function, Columns]:
    """The function without the Jacobians among its results, and these as they are now."""
    total = sum(len(parts) for parts in columns.values())
    own = len(fn.results) - total
    rest = iter(fn.results[own:])
    columns = {k: [next(rest) for _ in parts] for k, parts in columns.items()}
    return replace(fn, body=Block(fn.params, fn.body.ops, fn.results[:own])), columns


def _plant(draft: Draft, seed: Value, param: Value, index: tuple[int, ...] | None) -> None:
    """The tangent of a parameter in one direction: 1 for one element."""
    builder, origin = draft.builder, Origin(None, "tangent", "seed")
    with builder.at(origin, seed.name):
        if index is None:
            one = unit_of(param.type)
            made = Apply(PRIMITIVES[IDENTITY], (Const(one),), {"x": Slot(0)}, (seed,), origin)
        else:
            zeros: Any = np.zeros_like(Symbol(param, builder))
            zeros.value.name, zeros.value.kept = seed.name, True
            place = index[0] if len(index) == 1 else index
            apply_function(SET_ITEM, (zeros, 1.0, place), {}, builder)
            last = builder.block.ops.pop()
            assert isinstance(last, Apply)
            made = replace(last, results=(seed,))
    builder.block.ops.append(made)


def _gathered(
    draft: Draft, tangents: list[Operand], result: Operand, param: Value, request: Request
) -> Operand:
    """The Jacobian of a result by a parameter from the tangents in the directions of it."""
    assert request.directions is not None
    builder = draft.builder
    with builder.at(draft.last_origin(), "jacobian"):
        found = [
            symbol_of(tangent, builder)
            for tangent, (name, _) in zip(tangents, request.directions, strict=True)
            if name == param.name
        ]
        if not param.type.ndim:
            return draft.block(found[0], result, param)
        rank = result.type.ndim
        made = apply_function(np.stack, (found,), {"axis": rank}, builder) if rank else (
            apply_function(np.array, (found,), {}, builder)
        )
        if param.type.ndim > 1:
            made = np.reshape(made, (*draft.lengths(result), *draft.lengths(param)))
        return draft.block(made, result, param)


def by_stack(fn: Function, wrt: Sequence[Value]) -> tuple[Function, Columns]:
    """One sweep with stacks of the unit vectors of all parameters."""
    before, number = set(all_ops(fn.body)), order(fn, "dot")
    count, own = len(fn.params), len(fn.results)
    fn, tangents = forward(fn, wrt)
    stamp_tangents(fn, before)
    renumber(fn, before, "dot", number)
    fn = cleaned(replace(fn, body=Block(fn.params, fn.body.ops, (*fn.results, *tangents))))
    dots = fn.params[count:]
    draft = Draft(fn, Builder(Block(fn.params[:count]), fn.lengths), wrt)
    many, starts = _unit_vectors(draft, dots)
    rows = stacked(fn, many, range(own, 2 * own), draft.builder)
    columns: Columns = {}
    for k, result in enumerate(rows[:own]):
        if result.type.differentiable:
            stack = Symbol(rows[own + k], draft.builder)  # type: ignore[arg-type]
            columns[k] = [
                _turned(draft, stack, result, param, starts[j]) for j, param in enumerate(wrt)
            ]
    draft.builder.block.yields = rows[:own]
    return draft.finished(), columns


def _unit_vectors(
    draft: Draft, dots: Sequence[Value]
) -> tuple[dict[Value, Symbol], list[tuple[Any, Any]]]:
    """The stack of tangents of each parameter, and which rows are its own: from, to."""
    builder = draft.builder
    many: dict[Value, Symbol] = {}
    starts: list[tuple[Any, Any]] = []
    with builder.at(Origin(None, "tangent", "seed"), "unit"):
        ends: list[Any] = []
        for param in draft.wrt:
            size = product(draft.lengths(param))
            ends.append(size if not ends else ends[-1] + size)
        total = ends[-1]
        eye = apply_function(np.eye, (total,), {}, builder)
        for j, (param, dot) in enumerate(zip(draft.wrt, dots, strict=True)):
            start, end = ends[j - 1] if j else None, ends[j] if j + 1 < len(ends) else None
            starts.append((start, end))
            rows = eye
            if len(ends) > 1 or not param.type.ndim:
                rows = eye[:, slice(start, end) if param.type.ndim else first(start)]
            if param.type.ndim > 1:
                rows = np.reshape(rows, (total, *draft.lengths(param)))
            if param.type.dtype != "float64":
                kind = np.dtype(param.type.dtype).type
                rows = apply_function(ASTYPE, (rows, kind), {}, builder)
            many[dot] = named(rows, dot, builder)
    return many, starts


def product(lengths: Sequence[Any]) -> Any:
    """The number of elements of a shape, without factors of 1."""
    found = [length for length in lengths if isinstance(length, Symbol) or length != 1]
    return reduce(operator.mul, found) if found else 1


def first(start: Any) -> Any:
    """The first row of some that start at a place; None is the first of all."""
    return 0 if start is None else start


def named(rows: Any, dot: Value, builder: Builder) -> Symbol:
    """A stack under the name of the tangent whose place it takes."""
    copied = apply_function(IDENTITY, (rows,), {}, builder)
    copied.value.name, copied.value.kept, copied.value.of = dot.name, True, dot.of
    assert isinstance(copied, Symbol)
    return copied


def _turned(
    draft: Draft, stack: Symbol, result: Operand, param: Value, rows: tuple[Any, Any]
) -> Operand:
    """The Jacobian of a result by a parameter: its rows of the stack, as last axes."""
    kind: Type = param.type
    with draft.builder.at(draft.last_origin(), "jacobian"):
        if not kind.ndim:
            return draft.block(stack[first(rows[0])], result, param)
        own: Any = stack if len(draft.wrt) == 1 else stack[rows[0] : rows[1]]
        rank = result.type.ndim
        if rank:
            own = own.T if rank == 1 else np.moveaxis(own, 0, -1)
        if kind.ndim > 1:
            own = np.reshape(own, (*draft.lengths(result), *draft.lengths(param)))
        return draft.block(own, result, param)
