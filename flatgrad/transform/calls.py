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

from flatgrad.analysis.activity import varied
from flatgrad.errors import error
from flatgrad.ir.builder import Builder
from flatgrad.ir.dims import Dim, Size, substituted
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
    Requirement,
    Slot,
    Value,
    While,
)
from flatgrad.ir.types import Scalar, Type
from flatgrad.primitives.callee import Callee, call_of, function_of
from flatgrad.primitives.core import ASTYPE, IDENTITY
from flatgrad.primitives.effects import PRINT
from flatgrad.primitives.symbolic import Symbol, apply_function, operand_of
from flatgrad.primitives.typerules import fresh_size
from flatgrad.transform.clone import all_ops, copied_block, with_blocks
from flatgrad.transform.cse import merge_common
from flatgrad.transform.dce import eliminate_dead, has_effect, reads
from flatgrad.transform.numbering import order, prefixed, renumber, stamp_tangents
from flatgrad.transform.results import separate_results
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


def finished(callee: Callee) -> Callee:
    """The primitive with what follows from its function, whose results are new arrays."""
    fn = separate_results(_without_views(eliminate_dead(callee.called)))
    callee.body = fn
    callee.reach = tuple([frozenset() for _ in fn.results])
    for k, param in enumerate(fn.params):
        if param.type.differentiable:
            found = varied(fn.body, [param])
            callee.reach = tuple(
                [
                    reach | {k} if result in found else reach
                    for reach, result in zip(callee.reach, fn.results, strict=True)
                ]
            )
    callee.effect = any(has_effect(op) for op in fn.body.ops)
    return callee


def _without_views(fn: Function) -> Function:
    """With copies of results that are views: their elements may coincide, or lie in a parameter."""
    made: dict[Value, Op] = {value: op for op in all_ops(fn.body) for value in op.results}
    block = Block(fn.params, list(fn.body.ops))
    builder = Builder(block, fn.lengths)
    results: list[Operand] = []
    for item in fn.results:
        if isinstance(item, Value) and item.type.ndim and _is_view(item, made, set()):
            with builder.at(Origin(None, "return", "copy"), item.name):
                x = Symbol(item, builder)
                item = apply_function(np.copy, (x,), {}, builder, spelling="method").value
        results.append(item)
    block.yields = tuple(results)
    return replace(fn, body=block)


def _is_view(value: Operand, made: dict[Value, Op], seen: set[Value]) -> bool:
    if not isinstance(value, Value) or value in seen:
        return False
    seen.add(value)
    op = made.get(value)
    if isinstance(op, Apply):
        slot = op.arguments.get(op.primitive.alias or op.primitive.in_place)
        source = op.operands[slot.index] if isinstance(slot, Slot) else None
        if source is None or not isinstance(source, Value):
            return False
        plain = op.primitive.alias is None or op.primitive.function is IDENTITY
        return _is_view(source, made, seen) if plain else True
    if op is None:
        return False
    sources: list[Operand] = []
    k = op.results.index(value)
    if isinstance(op, If):
        sources = [op.then.yields[k], op.orelse.yields[k]]
    else:
        assert isinstance(op, For | While)
        sources = [op.inits[k], op.body.yields[k + int(op.exits)]]
    return any(_is_view(source, made, seen) for source in sources)


def copied(fn: Function) -> Function:
    """The function with values of its own."""
    mapping: dict[Value, Operand] = {}

    def twin(value: Value) -> Value:
        made = Value(value.type, value.name, kept=value.kept, part=value.part)
        made.of = value.of
        return made

    body = copied_block(fn.body, mapping, twin)
    for made in mapping.values():
        if isinstance(made, Value) and made.of is not None:
            prefix, primal = made.of
            known = mapping.get(primal)
            made.of = (prefix, known if isinstance(known, Value) else primal)
    lengths = _lengths(body.params)
    return replace(fn, body=body, lengths=lengths)


def _lengths(params: Sequence[Value]) -> dict[str, tuple[Value, int]]:
    """The lengths that parameters have as their own."""
    found: dict[str, tuple[Value, int]] = {}
    for param in params:
        for axis, size in enumerate(param.type.shape):
            if isinstance(size, Dim) and size.is_atom:
                found.setdefault(size.name, (param, axis))
    return found


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
        for j in wrt:
            operand = op.operands[j]
            assert isinstance(operand, Value)
            name = f"grad_{operand.name}"
            results.append(Value(operand.type, name, part=name))
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
            sizes = [getattr(kind, "size", None) for kind in (param.type, operand.type)]
            if sizes[0] is not None and sizes[1] is not None:
                self.known.setdefault(*sizes)

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
        callee.known[key] = in_halves(callee, fn, new, len(results), ("forward", "backward"))
    found: Halves = callee.known[key]
    return found


def in_halves(
    callee: Callee,
    fn: Function,
    waiting: Sequence[Value],
    count: int,
    names: tuple[str, str],
) -> Halves:
    """The derivative `fn` of a function in two halves; the first `count` results are the early."""
    early_name, late_name = (f"{callee.name}_{name}" for name in names)
    for run in CLEAN:
        fn = run(fn)
    facts: dict[str, Any] = {"checkpoint": callee.checkpoint, "comments": callee.comments}
    if callee.checkpoint:
        late = function_late(again(fn, count), late_name, waiting)
        order_of = {param: k for k, param in enumerate(fn.params)}
        given = [("param", order_of[one]) for one in late.params[: -len(waiting)]]
        role = f"The {names[1]} sweep of `{callee.name}`, which computes its values again."
        made = finished(function_of(late, role=role, **facts))
        return Halves(callee, made, (), tuple(given))
    fn = replace(fn, tree=tuple(Slot(k) for k in range(len(fn.results))))
    early, late = split(fn, waiting, count)
    outputs, kept, given = list(fn.results[:count]), [], []
    for value in late.params[: -len(waiting)]:
        if value in early.params:
            given.append(("param", early.params.index(value)))
        elif value in outputs:
            given.append(("result", outputs.index(value)))
        else:
            given.append(("result", count + len(kept)))
            kept.append(value)
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
    params = [p for p in fn.params if p in read and p not in waiting]
    body = Block((*params, *waiting), fn.body.ops, fn.results)
    return replace(
        fn, name=name, body=body, tree=_tree(len(fn.results)), lengths=_lengths(body.params)
    )


def again(fn: Function, count: int) -> Function:
    """The derivative with its forward sweep, without the first results and what is printed."""
    body = Block(fn.params, without_prints(fn.body).ops, fn.results[count:])
    return eliminate_dead(replace(fn, body=body))


def without_prints(block: Block) -> Block:
    """A block that prints nothing: what it computes was printed before."""
    kept = [
        with_blocks(op, without_prints)
        for op in block.ops
        if not (isinstance(op, Apply) and op.primitive.function is PRINT)
    ]
    return Block(block.params, kept, block.yields)


def _tree(count: int) -> Any:
    return Slot(0) if count == 1 else tuple(Slot(k) for k in range(count))


# Forward mode.


def push_call(push: _Push, op: Apply, forward: Transform, *, halves: bool) -> None:
    """A call with the tangents of its results: one call for both, or two for halves."""
    callee: Callee = op.primitive
    builder = push.builder
    dots = [push.of(operand) for operand in op.operands]
    wrt = tuple([j for j, dot in enumerate(dots) if dot is not None])
    outs = tuple([k for k, reach in enumerate(callee.reach) if not reach.isdisjoint(wrt)])
    if not outs:
        builder.block.ops.append(op)
        return
    seeds = [_strong(dots[j], op.operands[j].type, builder) for j in wrt]
    results = []
    for k in outs:
        value = op.results[k]
        dot = Value(value.type, f"dot_{value.name}", kept=value.kept, part=f"dot_{value.name}")
        if value.kept:
            dot.of = ("dot", value)
        push.tangent[value] = Symbol(dot, builder)
        results.append(dot)
    made = pushed(callee, wrt, outs, forward, halves)
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
    key = ("tangent", wrt, halves)
    if key not in callee.known:
        fn = copied(callee.called)
        number = order(fn, "dot")
        before = set(all_ops(fn.body))
        count, results = len(fn.params), fn.results
        inputs = [fn.params[j] for j in wrt]
        fn, tangents = forward(fn, inputs)
        stamp_tangents(fn, before)
        renumber(fn, before, "dot", number)
        dots = fn.params[count:]
        for dot, param in zip(dots, inputs, strict=True):
            dot.name, dot.of = f"{prefixed('dot', number)}_{param.name}", ("dot", param)
        new = (*results, *[tangents[k] for k in outs])
        fn = replace(fn, body=Block(fn.params, fn.body.ops, new), requirements=[])
        if halves:
            callee.known[key] = in_halves(callee, fn, dots, len(results), ("forward", "tangent"))
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
