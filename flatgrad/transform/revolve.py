"""Loops that keep a given number of snapshots, replaced on the way back by the binomial schedule.

    places = revolve_places(n, s)                for i in range(n - 1, -1, -1):
    for k in range(s):                               while places[top] > i:
        u_snapshots[k] = u                               top -= 1
        for i in range(places[k], places[k + 1]):    first, u = places[top], u_snapshots[top]
            u = step(u)                              while first < i:  # go on to trip i, keeping
                                                         ...           # the state in free places
                                                     ...               # trip i, and its adjoints

What follows the loop counts as the last step of the chain, so the forward sweep's own trips are the
first ones of the schedule, and the trips in all are the fewest possible (`primitives/revolve.py`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from flatgrad.errors import error
from flatgrad.ir.copies import copied_block, twin
from flatgrad.ir.ops import Block, Const, For, If, Op, Operand, Origin, Value, While
from flatgrad.ir.types import Array, Scalar
from flatgrad.primitives.index import SET_ITEM
from flatgrad.primitives.revolve import revolve_next, revolve_places
from flatgrad.primitives.symbolic import Symbol, apply_function, operand_of, symbol_of
from flatgrad.primitives.typerules import fresh_size
from flatgrad.transform.checkpoint import named, outer, rerun, silent, unchanged
from flatgrad.transform.clone import rewired_block
from flatgrad.transform.dce import reads, swept
from flatgrad.transform.tape import MANY, Supply, length, varies

if TYPE_CHECKING:
    from flatgrad.transform.structured import Context


def revolved(
    context: Context, op: For, back: Block, visible: tuple[Value, ...],
    inits: list[Operand], targets: list[Value],
) -> tuple[tuple[Value, ...], For]:  # fmt: skip
    """The backward loop, and what it hands on; the forward loop is replaced in the context."""
    index, forward = back.params[0], unchanged(op)
    again = rerun(context.rebuilt(op.body), back)
    states = _States(context, op, visible)
    given: dict[Value, Operand] = {op.body.params[0]: index}
    trip = Supply(context, forward, again, given, visible, states).run()  # type: ignore[arg-type]
    return _Schedule(context, op, states).loops(trip, inits, targets)


class _States:
    """The carried variables of which snapshots are kept; in place of a tape, for `Supply`."""

    factor = MANY
    back_params: tuple[Value, ...] = ()
    back_yields: tuple[Operand, ...] = ()

    def __init__(self, context: Context, op: For, scope: tuple[Value, ...]) -> None:
        self.context = context
        self.op = op
        self.scope = scope
        self.read: dict[Value, Value] = {}

    @property
    def prelude(self) -> Block:
        """A new block for what comes first in a backward trip."""
        return Block()

    def is_ragged(self, value: Value) -> bool:
        """Snapshots are of one shape: others are refused."""
        return False

    def record(self, value: Value, supply: Supply) -> Operand:
        """What stands for a carried variable in the trip that is gone back over."""
        if value not in self.op.body.params or varies(self.context, value, self.scope):
            raise error(
                "bad-checkpoint", f"`{value.name}` has other lengths from trip to trip, of which "
                "no snapshots are kept", self.op.origin.span,
                help="leave out `snapshots`, or keep it in an array of its final length",
            )  # fmt: skip
        self.read[value] = twin(value)
        return self.read[value]

    def following(self, kept: set[Any]) -> dict[Value, Value]:
        """Nothing: the state after a trip is in no later row."""
        return {}

    def lengthen(self, values: set[Value], followed: dict[Value, Value]) -> None:
        """Snapshots have no rows to add."""

    def needed(self) -> list[int]:
        """The carried variables from which those that are read follow, by position."""
        params, body = self.op.body.params[1:], self.op.body
        keep = [k for k, param in enumerate(params) if param in self.read]
        while True:
            found = reads(swept(_narrowed(body, keep)))
            wider = [k for k, param in enumerate(params) if k in keep or param in found]
            if wider == keep:
                return keep
            keep = wider
            for k in keep:
                if params[k] not in self.read:
                    self.record(params[k], None)  # type: ignore[arg-type]


def _narrowed(body: Block, keep: list[int]) -> Block:
    return Block(body.params, body.ops, tuple([body.yields[k] for k in keep]))


class _Schedule:
    """Writes the forward loop that keeps snapshots, and the backward loop that uses them."""

    def __init__(self, context: Context, op: For, states: _States) -> None:
        self.context = context
        self.builder = context.builder
        self.op = op
        self.states = states
        self.keep = states.needed()
        self.params = [op.body.params[1 + k] for k in self.keep]
        assert op.snapshots is not None
        self.slots = symbol_of(op.snapshots, self.builder)

    def loops(
        self, trip: Block, inits: list[Operand], targets: list[Value]
    ) -> tuple[tuple[Value, ...], For]:
        """The backward loop over the trips; the forward loop goes into the context."""
        origin = Origin(self.op.origin.span)
        with self.builder.at(origin):
            places, snapshots = self.forward()
        return self.backward(trip, inits, targets, [places, *snapshots])

    def forward(self) -> tuple[Value, list[Value]]:
        """Replace the forward loop; the places and the snapshots that it leaves."""
        op, builder = self.op, self.builder
        with builder.inside(Block()) as before:
            trips = symbol_of(op.stop, builder)
            places = apply_function(revolve_places, (trips, self.slots), {}, builder)
            named(places, f"{_name(op)}_places")
            empty = [self.empty(param) for param in self.params]
        pairs = list(zip(op.body.params[1:], op.inits, strict=True))
        carried = tuple([outer(param, init) for param, init in pairs])
        entering = tuple([_twin_of(item) for item in empty])
        results = tuple([outer(result, init) for result, (_, init) in zip(
            op.results, pairs, strict=True)])
        k = Value(_int(), "snapshot", kept=True)
        with builder.inside(Block((k, *carried, *entering))) as body:
            at = Symbol(k, builder)
            kept = [
                self.stored(Symbol(one, builder), Symbol(carried[j], builder), at)
                for one, j in zip(entering, self.keep, strict=True)
            ]
            first, last = places[at], places[at + 1]
            body.ops.append(replace(
                op, start=first.value, stop=last.value, inits=carried, results=results,
                checkpoint=None, snapshots=None,
            ))  # fmt: skip
        body.yields = (*results, *kept)
        leaving = tuple([_twin_of(item) for item in empty])
        slots = operand_of(self.slots)
        loop = For(
            Const(0), slots, Const(1), (*op.inits, *[item.value for item in empty]), body,
            (*op.results, *leaving), origin=op.origin,
        )  # fmt: skip
        self.context.replaced[op] = [*before.ops, loop]
        return places.value, list(leaving)

    def empty(self, param: Value) -> Any:
        """An array with a place for each snapshot of a variable."""
        lengths = [length(self.context, size, self.states.scope) for size in param.type.shape]
        kind = param.type.dtype
        dtype = {} if kind == "float64" else {"dtype": np.dtype(kind).type}
        shape = (self.slots, *lengths) if lengths else self.slots
        made = apply_function(np.empty, (shape,), dtype, self.builder)
        named(made, f"{param.name or 'state'}_snapshots")
        return made

    def stored(self, snapshots: Any, value: Any, at: Any) -> Value:
        """The snapshots with one more."""
        made = apply_function(SET_ITEM, (snapshots, value, at), {}, self.builder)
        named(made, snapshots.value.name)
        return operand_of(made)  # type: ignore[return-value]

    def backward(
        self, trip: Block, inits: list[Operand], targets: list[Value], memory: list[Value]
    ) -> tuple[tuple[Value, ...], For]:
        """A loop down over the trips."""
        builder, op = self.builder, self.op
        index, adjoints = trip.params[0], trip.params[1:]
        top = Value(_int(), "top", kept=True)
        held = tuple([twin(value) for value in memory])
        with builder.inside(Block((index, *adjoints, top, *held))) as body:
            at = self.nearest(Symbol(top, builder), held[0], index)
            places = Symbol(held[0], builder)
            first = places[at]
            states = [self.restored(one, at, param) for one, param in zip(
                held[1:], self.params, strict=True)]
            found = self.advanced(index, first, at, held, states)
            renamed = {
                self.states.read[param]: state
                for param, state in zip(self.params, found[-len(states) :], strict=False)
            } if states else {}
            body.ops += trip.ops
        block = rewired_block(Block((), body.ops, trip.yields), renamed)
        body = Block(body.params, block.ops, (*block.yields, *found[1 : 2 + len(held)]))
        results = tuple([self.context.adjoint_of(value) for value in targets])
        rest = (_twin(top), *[twin(value) for value in held])
        last = symbol_of(op.stop, builder) - 1
        start = operand_of(self.slots - 1)
        loop = For(
            operand_of(last), Const(-1), Const(-1), (*inits, start, *memory), body,
            (*results, *rest), origin=builder.origin,
        )  # fmt: skip
        return results, loop

    def nearest(self, top: Any, places: Value, index: Value) -> Any:
        """The last snapshot that is not after the trip."""
        builder = self.builder
        seen, param, result = (_twin(top.value) for _ in range(3))
        with builder.inside(Block((seen,))) as test:
            later = Symbol(places, builder)[Symbol(seen, builder)] > Symbol(index, builder)
        test.yields = (later.value,)
        with builder.inside(Block((param,))) as body:
            after = Symbol(param, builder) - 1
            named(after, "top")
        body.yields = (after.value,)
        builder.block.ops.append(
            While((top.value,), test, body, (result,), origin=builder.origin)
        )
        return Symbol(result, builder)

    def restored(self, snapshots: Value, at: Any, param: Value) -> Value:
        """A variable as it was when the snapshot was taken."""
        found = Symbol(snapshots, self.builder)[at]
        kind = param.type
        if self.context.narrow and isinstance(kind, Scalar) and kind.weak:
            python = {"float64": float, "int64": int, "bool": bool}[kind.dtype]
            found = apply_function(python, (found,), {}, self.builder)
        if isinstance(kind, Array):  # its place may be taken by another state
            found = apply_function(np.copy, (found,), {}, self.builder, spelling="method")
            found.value.type = kind
        found.value.name, found.value.kept, found.value.of = param.name, param.kept, param.of
        return operand_of(found)  # type: ignore[return-value]

    def advanced(
        self, index: Value, first: Any, top: Any, held: tuple[Value, ...], states: list[Value]
    ) -> list[Value]:
        """Run on to the trip, keeping states in free places; all that is carried on the way."""
        builder = self.builder
        entering = [named(first, "first").value, top.value, *held, *states]
        seen, params, results = ([_elsewhere(one) for one in entering] for _ in range(3))
        with builder.inside(Block(tuple(seen))) as test:
            before = Symbol(seen[0], builder) < Symbol(index, builder)
        test.yields = (before.value,)
        count = 2 + len(held)
        with builder.inside(Block(tuple(params))) as body:
            here, place = Symbol(params[0], builder), Symbol(params[1], builder)
            wanted = (here, Symbol(index, builder), self.slots - place)
            last = named(apply_function(revolve_next, wanted, {}, builder), "mark")
            states = self.run(here, last, params[count:])
            free = last < Symbol(index, builder)
            kept = self.keep_state(free, last, params[1:count], states)
        body.yields = (last.value, *kept, *states)
        builder.block.ops.append(
            While(tuple(entering), test, body, tuple(results), origin=builder.origin)
        )
        return results

    def run(self, first: Any, last: Any, states: list[Value]) -> list[Value]:
        """The trips from `first` to `last`, without a tape."""
        narrow = _narrowed(self.op.body, self.keep)
        narrow = swept(Block(narrow.params, narrow.ops, narrow.yields))
        params = (narrow.params[0], *self.params)
        quiet = silent(Block(params, narrow.ops, narrow.yields))
        body = copied_block(quiet, {}, "backward")
        results = tuple([_elsewhere(state) for state in states])
        self.builder.block.ops.append(For(
            first.value, last.value, Const(1), tuple(states), body, results,
            origin=self.builder.origin,
        ))  # fmt: skip
        return list(results)

    def keep_state(
        self, free: Any, last: Any, memory: list[Value], states: list[Value]
    ) -> list[Value]:
        """The next free place takes the state, unless it is gone back over at once."""
        builder = self.builder
        top, places, *snapshots = (Symbol(one, builder) for one in memory)
        with builder.inside(Block()) as then:
            after = named(top + 1, "top")
            kept = [after.value, self.stored(places, last, after)]
            kept += [
                self.stored(one, Symbol(state, builder), after)
                for one, state in zip(snapshots, states, strict=True)
            ]
        then.yields = tuple(kept)
        results = tuple([_elsewhere(one) for one in memory])
        ops: list[Op] = builder.block.ops
        orelse = Block((), [], tuple(memory))
        ops.append(If(free.value, then, orelse, results, origin=builder.origin))
        return list(results)


def _name(op: For) -> str:
    return op.body.params[0].name or "trip"


def _int() -> Scalar:
    return Scalar("int64", weak=True, size=fresh_size())


def _twin_of(symbol: Any) -> Value:
    return twin(symbol.value)


def _twin(value: Value) -> Value:
    return _elsewhere(value)


def _elsewhere(value: Value) -> Value:
    """A new version of a variable, its int of unknown value."""
    made = twin(value)
    kind = value.type
    if isinstance(kind, Scalar) and kind.dtype == "int64":
        made.type = replace(kind, size=fresh_size())
    return made
