"""The backward sweep through `If`, `For` and `While`.

    for i in range(n):                      for i in range(n - 1, -1, -1):
        y = y * w                   ->          grad_w += grad_y * y_tape[i]
                                                grad_y = grad_y * w

A loop carries the adjoints of its carried variables down, and a sum for every value from outside
that it reads; a branch hands on the sums so far. What the sweep reads is then supplied by `tape`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from flatgrad.analysis.activity import carried_params, carried_yields, slots
from flatgrad.analysis.lasting import lasting
from flatgrad.ir.builder import Builder
from flatgrad.ir.dims import Size
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
    Value,
    While,
    blocks_of,
)
from flatgrad.ir.types import Scalar
from flatgrad.primitives.core import ASTYPE
from flatgrad.primitives.symbolic import Symbol, apply_function, operand_of
from flatgrad.primitives.typerules import fresh_size
from flatgrad.transform.branch_tape import BranchTape
from flatgrad.transform.checkpoint import rerun, unchanged
from flatgrad.transform.clone import all_ops, defined_in, rewired_block
from flatgrad.transform.plain import released
from flatgrad.transform.record import LoopTape
from flatgrad.transform.revolve import revolved
from flatgrad.transform.tape import Supply

if TYPE_CHECKING:
    from flatgrad.transform.reverse import _Sweep


class Context:
    """What the sweeps over the blocks of one function share."""

    def __init__(
        self, fn: Function, builder: Builder, wrt: set[Value], active: set[Value]
    ) -> None:
        self.fn = fn
        self.builder = builder
        self.wrt = wrt
        self.active = active
        self.named: set[Value] = set()
        self.replaced: dict[Op, list[Op]] = {}
        self.stable = set(defined_in(fn.body))
        self.fixed = set(self.stable)
        for op in all_ops(fn.body):
            if isinstance(op, Apply) and all(
                isinstance(o, Const) or o in self.fixed for o in op.operands
            ):
                self.fixed |= set(op.results)
        self.stable |= {op.body.params[0] for op in all_ops(fn.body) if isinstance(op, For)}
        values = [*fn.params, *[value for op in all_ops(fn.body) for value in op.results]]
        self.narrow = any(value.type.dtype == "float32" for value in values)
        self.awaited: dict[Op, list[Value]] = {}
        self.carried: set[Value] = set()
        self.trips: dict[Size, tuple[Operand, ...]] = {}
        self.hooks: set[object] = set()
        self.released: dict[Value, Operand] = {}
        self.lasting = lasting(fn.body)

    def rebuilt(self, block: Block) -> Block:
        """The block with the operations that record for the backward sweep."""
        ops = [new for op in block.ops for new in self.replaced.get(op, [op])]
        new = Block(block.params, ops, block.yields)
        return released(new, self.hooks, self.released)

    def awaiting(self, op: Op) -> list[Value]:
        """The active values that get adjoints from `op`, once each."""
        if op not in self.awaited:
            self.awaited[op] = self.find_awaiting(op)
        return self.awaited[op]

    def adjoint_of(self, value: Value) -> Value:
        """A new value that a loop or branch hands on as the adjoint of `value`."""
        made = Value(value.type, f"grad_{value.name}", kept=True)
        made.of = ("grad", value)
        self.carried.add(made)
        return made

    def carries(self, adjoint: Value, value: Value) -> bool:
        """Whether `adjoint`, handed on by a loop or branch, needs no second name for `value`."""
        if adjoint not in self.carried:
            return False
        return adjoint.name == f"grad_{value.name}" or value not in self.wrt

    def find_awaiting(self, op: Op) -> list[Value]:
        if not any(result in self.active for result in op.results):
            return []
        if isinstance(op, Apply):
            found = [o for o in op.operands if isinstance(o, Value) and o in self.active]
            return list(dict.fromkeys(found))
        entering: list[Operand] = []
        if isinstance(op, For | While):
            entering = [op.inits[k] for k in self.active_slots(op)]
        inits = [o for o in entering if isinstance(o, Value) and o in self.active]
        return list(dict.fromkeys([*self.free(op), *inits]))

    def active_slots(self, op: For | While) -> list[int]:
        """The carried variables that have adjoints."""
        return [
            k
            for k, (_, param, _, result) in enumerate(slots(op))
            if param in self.active or result in self.active
        ]

    def free(self, op: Op) -> list[Value]:
        """The active values from outside to which the blocks of `op` contribute."""
        found: dict[Value, None] = {}
        for block in (op.body,) if isinstance(op, While) else blocks_of(op):
            inside = set(defined_in(block))
            reads = [value for inner in block.ops for value in self.awaiting(inner)]
            if isinstance(op, If):
                pairs = zip(block.yields, op.results, strict=True)
                yields = [item for item, result in pairs if result in self.active]
            else:
                assert isinstance(op, For | While)
                yields = [carried_yields(op)[k] for k in self.active_slots(op)]
            reads += [item for item in yields if isinstance(item, Value) and item in self.active]
            found.update(dict.fromkeys(value for value in reads if value not in inside))
        return list(found)


def visit_structured(sweep: _Sweep, op: Op) -> None:
    """The contributions of a branch or loop; its adjoint operation is appended."""
    span = op.origin.span
    with sweep.builder.at(Origin(span, "backward", type(op).__name__.lower())):
        if isinstance(op, If):
            _visit_if(sweep, op)
        else:
            assert isinstance(op, For | While)
            _visit_loop(sweep, op)


def zero(value: Value, builder: Builder) -> Any:
    """A zero adjoint."""
    if value.type.ndim:
        return np.zeros_like(Symbol(value, builder))
    return np.float32(0.0) if value.type.dtype == "float32" else 0.0


def _so_far(sweep: _Sweep, value: Value) -> Any:
    """The sum of the contributions of `value` until now, as an array of its own."""
    total = sweep.partial(value)
    return sweep.owned(total, value) if total is not None and value.type.ndim else total


def _visit_if(sweep: _Sweep, op: If) -> None:
    context, builder = sweep.context, sweep.builder
    free = context.free(op)
    start = {value: _so_far(sweep, value) for value in free}
    backs, tapes = [], []
    forwards: list[Block] = []
    for branch in (op.then, op.orelse):
        back = Block()
        inner = sweep.nested(branch, op)
        with builder.inside(back):
            for value in free:
                if start[value] is not None:
                    inner.contributions[value].append(start[value])
            for result, item in zip(op.results, branch.yields, strict=True):
                bar = sweep.adjoint.get(result)
                if bar is not None and isinstance(item, Value) and item in context.active:
                    inner.contributions[item].append(bar)
            inner.settle_planted()
            inner.run()
            outs = [_given(inner.adjoint.get(value), value, builder) for value in free]
        back.yields = tuple(outs)
        backs.append(back)
        forwards.append(context.rebuilt(branch))
        tapes.append(inner.visible)
    tape = BranchTape(context, op, forwards, tapes[0])
    for k, (forward, visible) in enumerate(zip(forwards, tapes, strict=True)):
        tape.side = k
        backs[k] = rewired_block(backs[k], context.released)
        backs[k] = Supply(context, forward, backs[k], {}, visible, tape).run()
    new = tape.rebuilt()
    context.replaced[op] = [new]
    results = tuple([context.adjoint_of(value) for value in free])
    then, orelse = backs
    builder.block.ops.append(If(op.condition, then, orelse, results, builder.origin))
    for value, result in zip(free, results, strict=True):
        sweep.contributions[value].append(Symbol(result, builder))


def _given(found: Any, value: Value, builder: Builder) -> Operand:
    operand = operand_of(found if found is not None else zero(value, builder))
    if value.type.ndim or operand.type.dtype == value.type.dtype:
        return operand
    kind = np.dtype(value.type.dtype).type
    if isinstance(operand, Const):  # the 1.0 that a float32 result starts from
        return Const(kind(operand.value))
    return operand_of(apply_function(ASTYPE, (Symbol(operand, builder), kind), {}, builder))


def _visit_loop(sweep: _Sweep, op: For | While) -> None:
    context, builder = sweep.context, sweep.builder
    params, yields = carried_params(op), carried_yields(op)
    active, free = context.active_slots(op), context.free(op)
    starts = [sweep.adjoint.get(op.results[k]) for k in active]
    inits = [
        *[
            _given(sweep.owned(bar, op.results[k]), op.results[k], builder)
            for k, bar in zip(active, starts, strict=True)
        ],
        *[_given(_so_far(sweep, value), value, builder) for value in free],
    ]
    inner = sweep.nested(op.body, op)
    targets = [params[k] for k in active] + free
    carried = [context.adjoint_of(value) for value in targets]
    name = op.body.params[0].name if isinstance(op, For) else "trip"
    index = Value(Scalar("int64", weak=True, size=fresh_size()), name, kept=True)
    back = Block((index, *carried))
    with builder.inside(back):
        for k, bar in zip(active, carried, strict=False):
            item = yields[k]
            if item in context.active:
                assert isinstance(item, Value)
                inner.contributions[item].append(Symbol(bar, builder))
        for value, total in zip(free, carried[len(active) :], strict=True):
            inner.contributions[value].append(Symbol(total, builder))
        inner.settle_planted()
        inner.run()
        back.yields = tuple([_given(inner.adjoint.get(v), v, builder) for v in targets])
    context.rebuilt(op.body)  # so that hooks are out of the way
    back = rewired_block(back, context.released)
    if isinstance(op, For) and op.checkpoint == "revolve":
        results, loop = revolved(context, op, back, inner.visible, inits, targets)
    else:
        results, loop = _taped(context, op, back, inner.visible, inits, targets)
    for k, result in zip(active, results, strict=False):
        if result.type.ndim:  # as long as what enters, whatever the lengths in the trips
            result.type = op.inits[k].type
    builder.block.ops.append(loop)
    for value, result in zip(free, results[len(active) :], strict=True):
        sweep.contributions[value].append(Symbol(result, builder))
    for k, result in zip(active, results, strict=False):
        init = op.inits[k]
        if init in context.active:
            assert isinstance(init, Value)
            sweep.contributions[init].append(Symbol(result, builder))


def _taped(
    context: Context, op: For | While, back: Block, visible: tuple[Value, ...],
    inits: list[Operand], targets: list[Value],
) -> tuple[tuple[Value, ...], For]:  # fmt: skip
    """The backward loop that reads tapes, and what it hands on."""
    forward, index = context.rebuilt(op.body), back.params[0]
    again = False
    if isinstance(op, For) and op.checkpoint == "trip":
        again = True
        back, forward = rerun(forward, back), unchanged(op)
    tape = LoopTape(context, op, forward, index, visible)
    given = tape.counters()
    if isinstance(op, For):
        given[op.body.params[0]] = operand_of(tape.index_in_backward())
    back = Supply(context, forward, back, given, visible, tape).run()
    context.replaced[op] = tape.rebuilt()
    results = tuple([context.adjoint_of(value) for value in targets])
    start, stop, step = tape.bounds()
    loop = For(
        start, stop, step, (*inits, *tape.back_inits), back,
        (*results, *tape.back_results), origin=context.builder.origin,
        checkpoint="trip" if again else None,
    )  # fmt: skip
    return results, loop
