"""Derivatives of calls: the function that is called gets a forward and a backward function.

    h = layer(x, w)                h, t = layer_forward(x, w)        # t: what its backward reads
    L = sum(h)               ->    L = sum(h)
                                   grad_h = ...
                                   grad_x, grad_w = layer_backward(h, t, x, w, grad_h)

Both are made once for all calls of which the same derivatives are asked. A checkpointed function
keeps nothing: its backward function gets the arguments, and computes the values again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flatgrad.errors import error
from flatgrad.ir.builder import Builder
from flatgrad.ir.dims import Dim, Size, substituted
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    Function,
    Operand,
    Origin,
    Requirement,
    Slot,
    Value,
    size_of,
)
from flatgrad.ir.types import Scalar, Type
from flatgrad.primitives.callee import Callee, call_of, function_of
from flatgrad.primitives.core import ASTYPE
from flatgrad.primitives.symbolic import Symbol, apply_function, operand_of
from flatgrad.primitives.typerules import fresh_size
from flatgrad.transform.clone import all_ops
from flatgrad.transform.cse import merge_common
from flatgrad.transform.dce import eliminate_dead, reads
from flatgrad.transform.functions import again, copied, finished, own_lengths
from flatgrad.transform.numbering import heading, order, prefixed, renumber, stamp_tangents
from flatgrad.transform.simplify import simplify
from flatgrad.transform.split import split

if TYPE_CHECKING:
    from flatgrad.transform.forward import _Push
    from flatgrad.transform.reverse import _Sweep

Transform = Callable[..., tuple[Function, list[Operand]]]

CLEAN = (eliminate_dead, simplify, merge_common, simplify, merge_common, eliminate_dead)


@dataclass(frozen=True, slots=True)
class Halves:
    """The two functions of a derivative in two halves.

    The early one returns the results, then the values `kept`. The late one takes what `given` says,
    then the seeds: ("param", k) is an argument of the early one, ("result", k) a result of it.
    """

    early: Callee
    late: Callee
    kept: tuple[Value, ...]
    given: tuple[tuple[str, int], ...]


# Reverse mode.


def visit_call(sweep: _Sweep, op: Apply, reverse: Transform) -> None:
    """The contributions of a call; the call itself becomes one that returns what is read of it."""
    callee: Callee = op.primitive
    outs = tuple([k for k, result in enumerate(op.results) if result in sweep.adjoint])
    wrt = tuple(
        [
            j
            for j, operand in enumerate(op.operands)
            if operand in sweep.active and any(j in callee.reach[k] for k in outs)
        ]
    )
    if not wrt:
        return
    halves = pulled(callee, wrt, outs, reverse)
    builder = sweep.builder
    lengths = Lengths(op, builder.lengths)
    call = lengths.early_call(halves, op)
    if call is not op:
        sweep.context.replaced[op] = [call]
    first = op.operands[wrt[0]]
    assert isinstance(first, Value)
    with builder.at(Origin(op.origin.span, "backward", callee.name), f"grad_{first.name}"):
        builder.requirements += lengths.requirements(halves.late.called)
        seeds = [
            _strong(sweep.adjoint[op.results[k]], op.results[k].type, builder) for k in outs
        ]
        results = []
        for j, found in zip(wrt, halves.late.called.results, strict=True):
            operand = op.operands[j]
            assert isinstance(operand, Value)
            name = f"grad_{operand.name}"
            results.append(Value(as_computed(operand.type, found.type), name, part=name))
        append(builder, halves.late, (*late_operands(halves, call), *seeds), tuple(results))
    for j, result in zip(wrt, results, strict=True):
        operand = op.operands[j]
        assert isinstance(operand, Value)
        sweep.contributions[operand].append(Symbol(result, builder))


def late_operands(halves: Halves, call: Apply) -> list[Operand]:
    """What a call of the late half gets, of an early one."""
    where: dict[str, tuple[Operand, ...]] = {"param": call.operands, "result": call.results}
    return [where[kind][k] for kind, k in halves.given]


def append(
    builder: Builder, callee: Callee, operands: tuple[Operand, ...], results: tuple[Value, ...]
) -> None:
    """Append a call."""
    op = call_of(callee, operands, results, builder.origin)
    builder.block.ops.append(op)
    for value in results:
        builder.made[value] = op


def as_computed(kind: Type, found: Type) -> Type:
    """The type of an adjoint or tangent of something of type `kind`, computed as a `found`."""
    return replace(kind, weak=found.weak, size=None) if isinstance(kind, Scalar) else kind


def _strong(adjoint: Any, kind: Type, builder: Builder) -> Operand:
    """An adjoint or tangent in the very type of the parameter that takes it."""
    found = adjoint.type if isinstance(adjoint, Symbol) else Const(adjoint).type
    if kind.ndim == 0 and kind.dtype == "float32" and (found.weak or found.dtype != kind.dtype):
        if not isinstance(adjoint, Symbol):
            return Const(np.float32(adjoint))
        return operand_of(apply_function(ASTYPE, (adjoint, np.float32), {}, builder))
    return operand_of(float(adjoint) if not isinstance(adjoint, Symbol) else adjoint)


class Lengths:
    """The lengths inside a function in the words of one call of it."""

    def __init__(self, op: Apply, lengths: dict[str, tuple[Value, int]]) -> None:
        self.callee: Callee = op.primitive
        self.known: dict[Size, Size] = {}
        self.lengths = lengths
        for param, operand in zip(self.callee.called.params, op.operands, strict=True):
            for inner, outer in zip(param.type.shape, operand.type.shape, strict=True):
                self.known.setdefault(inner, outer)
            here, there = size_of(param), size_of(operand)
            if here is not None and there is not None:
                self.known.setdefault(here, there)

    def early_call(self, halves: Halves, op: Apply) -> Apply:
        """The call of the early half, with a new value for each that it keeps."""
        if halves.early is op.primitive:
            return op
        kept = [Value(self.typed(one.type), one.name, part=one.part) for one in halves.kept]
        return call_of(halves.early, op.operands, (*op.results, *kept), op.origin)

    def typed(self, kind: Type) -> Type:
        """A type inside the function as seen from outside."""
        if isinstance(kind, Scalar):
            return replace(kind, size=self.size(kind.size)) if kind.size is not None else kind
        return replace(kind, shape=tuple(self.size(size) for size in kind.shape))

    def size(self, size: Size) -> Size:
        """A length; one that nothing tells is a new one."""
        if isinstance(size, int):
            return size
        if size not in self.known:
            try:
                self.known[size] = substituted(size, self.atom)
            except KeyError:
                self.known[size] = fresh_size()
        return self.known[size]

    def atom(self, name: str) -> Size:
        """A length that a parameter has as its own."""
        return self.known[Dim.atom(name)]

    def requirements(self, fn: Function) -> list[Requirement]:
        """What rules of the user's require, in lengths that can be checked before running.

        Raises
        ------
        ShapeError
            If one of them cannot.
        """
        found = []
        for one in fn.requirements:
            left, right = self.size(one.left), self.size(one.right)
            if left == right:
                continue
            atoms = {a for side in (left, right) if isinstance(side, Dim) for a in side.atoms}
            if atoms <= self.lengths.keys():
                found.append(replace(one, left=left, right=right))
            elif one.guard:
                raise error("data-dependent-static", one.message({}), one.span)
        return found


def pulled(
    callee: Callee, wrt: tuple[int, ...], outs: tuple[int, ...], reverse: Transform
) -> Halves:
    """The forward and backward function for adjoints of the results `outs`."""
    key = ("backward", wrt, outs)
    if key not in callee.known:
        fn = copied(callee.called)
        fn.requirements = []
        number = order(fn, "grad")
        seeds: dict[int, Operand] = {}
        for k in outs:
            result = fn.results[k]
            assert isinstance(result, Value)
            name = f"{prefixed('grad', number)}_{result.name or 'value'}"
            seeds[k] = seed = Value(result.type, name, kept=True)
            seed.of = (prefixed("grad", number), result)
        new = [seed for seed in seeds.values() if isinstance(seed, Value)]
        before = set(all_ops(fn.body))
        results = fn.results
        inputs = [fn.params[j] for j in wrt]
        body = Block((*fn.params, *new), fn.body.ops, fn.body.yields)
        fn, adjoints = reverse(replace(fn, body=body), inputs, seeds=seeds)
        renumber(fn, before, "grad", number)
        fn = replace(fn, body=Block(fn.params, fn.body.ops, (*results, *adjoints)))
        callee.known[key] = in_halves(
            callee, fn, new, len(results), ("forward", "backward"), heading("grad", number)
        )
    found: Halves = callee.known[key]
    return found


def in_halves(
    callee: Callee,
    fn: Function,
    waiting: Sequence[Value],
    count: int,
    names: tuple[str, str],
    sweep: str,
) -> Halves:
    """The derivative `fn` of a function in two halves; the first `count` results are the early."""
    early_name, late_name = (f"{callee.name}_{name}" for name in names)
    for run in CLEAN:
        fn = run(fn)
    facts: dict[str, Any] = {"checkpoint": callee.checkpoint, "comments": callee.comments}
    fn = replace(fn, tree=tuple(Slot(k) for k in range(len(fn.results))))
    early, late = split(fn, waiting, count, sweep)
    there = {*early.params, *[value for op in early.body.ops for value in op.results]}
    mixed = any(isinstance(item, Value) and item not in there for item in early.results)
    if callee.checkpoint or mixed:  # mixed: values that are computed together with tangents
        late = function_late(again(fn, count), late_name, waiting)
        order_of = {param: k for k, param in enumerate(fn.params)}
        given = [("param", order_of[one]) for one in late.params[: -len(waiting)]]
        role = f"The {names[1]} sweep of `{callee.name}`, which computes its values again."
        again_made = finished(function_of(late, role=role, **facts))
        return Halves(callee, again_made, (), tuple(given))
    outputs = list(fn.results[:count])
    made = [value for op in early.body.ops for value in op.results]
    read = late.params[: -len(waiting)]
    params = [value for value in early.params if value in read]
    results = [
        v for v in outputs if isinstance(v, Value) and v in read and v not in early.params
    ]
    kept = [value for value in made if value in read and value not in outputs]
    given = [("param", early.params.index(value)) for value in params]
    given += [("result", outputs.index(value)) for value in results]
    given += [("result", count + k) for k in range(len(kept))]
    late = replace(
        late, body=Block((*params, *results, *kept, *waiting), late.body.ops, late.results)
    )  # fmt: skip
    role = f"The {names[1]} sweep of `{callee.name}`."
    late_made = finished(function_of(function_late(late, late_name, waiting), role=role, **facts))
    if not kept:
        return Halves(callee, late_made, (), tuple(given))
    body = Block(early.params, early.body.ops, (*outputs, *kept))
    early = replace(early, name=early_name, body=body, tree=_tree(count + len(kept)))
    role = f"`{callee.name}`, and what its {names[1]} sweep reads."
    early_made = finished(function_of(early, role=role, **facts))
    return Halves(early_made, late_made, tuple(kept), tuple(given))


def function_late(fn: Function, name: str, waiting: Sequence[Value]) -> Function:
    """The late half as a function of what it reads, then `waiting`."""
    read = reads(fn.body)
    params = [one for one in fn.params if one in read and one not in waiting]
    body = Block((*params, *waiting), fn.body.ops, fn.results)
    return replace(
        fn, name=name, body=body, tree=_tree(len(fn.results)), lengths=own_lengths(body.params)
    )


def _tree(count: int) -> Any:
    return Slot(0) if count == 1 else tuple(Slot(k) for k in range(count))


# Forward mode.


def push_call(push: _Push, op: Apply, forward: Transform, *, halves: bool) -> None:
    """A call with the tangents of its results: one call for both, or two for halves."""
    callee: Callee = op.primitive
    builder = push.builder
    dots = [push.of(operand) for operand in op.operands]
    wrt = tuple([j for j, dot in enumerate(dots) if dot is not None])
    outs = tuple(
        [
            k
            for k, (result, reach) in enumerate(zip(op.results, callee.reach, strict=True))
            if result in push.varied and not reach.isdisjoint(wrt)
        ]
    )
    if not outs:
        builder.block.ops.append(op)
        return
    seeds = [_strong(dots[j], op.operands[j].type, builder) for j in wrt]
    made = pushed(callee, wrt, outs, forward, halves)
    found = made.called if isinstance(made, Callee) else made.late.called
    results = []
    for k, tangent in zip(outs, found.results[-len(outs) :], strict=True):
        value = op.results[k]
        name = f"{push.prefix}_{value.name}"
        kind = as_computed(value.type, tangent.type)
        dot = Value(kind, name, kept=value.kept, part=name)
        if value.kept:
            dot.of = (push.prefix, value)
        push.tangent[value] = Symbol(dot, builder)
        results.append(dot)
    if isinstance(made, Callee):
        operands, both = (*op.operands, *seeds), (*op.results, *results)
        builder.block.ops.append(call_of(made, operands, both, op.origin))
        return
    call = Lengths(op, builder.lengths).early_call(made, op)
    builder.block.ops.append(call)
    with builder.at(Origin(op.origin.span, "tangent", callee.name)):
        append(builder, made.late, (*late_operands(made, call), *seeds), tuple(results))


def pushed(
    callee: Callee, wrt: tuple[int, ...], outs: tuple[int, ...], forward: Transform, halves: bool
) -> Callee | Halves:
    """The function with tangents of the results `outs`, or both halves of it."""
    key = ("tangent", wrt, outs, halves)
    if key not in callee.known:
        fn = copied(callee.called)
        number = order(fn, "dot")
        before = set(all_ops(fn.body))
        count, results = len(fn.params), fn.results
        inputs = [fn.params[j] for j in wrt]
        fn, tangents = forward(fn, inputs, halves=halves)
        stamp_tangents(fn, before)
        renumber(fn, before, "dot", number)
        dots = fn.params[count:]
        for dot, param in zip(dots, inputs, strict=True):
            dot.name, dot.of = f"{prefixed('dot', number)}_{param.name}", ("dot", param)
        new = (*results, *[tangents[k] for k in outs])
        fn = replace(fn, body=Block(fn.params, fn.body.ops, new), requirements=[])
        if halves:
            callee.known[key] = in_halves(
                callee, fn, dots, len(results), ("forward", "tangent"), "tangent"
            )
        else:
            for run in CLEAN:
                fn = run(fn)
            fn = replace(fn, name=f"{callee.name}_jvp", tree=_tree(len(new)))
            callee.known[key] = finished(
                function_of(
                    fn, checkpoint=callee.checkpoint, comments=callee.comments,
                    role=f"`{callee.name}` and the tangents of its results.",
                )
            )  # fmt: skip
    found: Callee | Halves = callee.known[key]
    return found
