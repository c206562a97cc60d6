"""Reverse mode: a function followed by the backward sweep that computes its gradient.

    s = w * x                         s = w * x
    L = tanh(s)          ->           L = tanh(s)
    return L                          grad_L = 1.0
                                      grad_s = grad_L * (1 - L * L)
                                      grad_w = grad_s * x
                                      return grad_w

Unbroadcasting, accumulation and dtypes are dealt with here, once, never in a rule. An adjoint is
written down as soon as its last contribution is known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from flatgrad.analysis.activity import active
from flatgrad.errors import error
from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Apply, Block, Const, Function, Op, Operand, Origin, Slot, Value
from flatgrad.ir.types import Type
from flatgrad.primitives.core import ASTYPE, IDENTITY
from flatgrad.primitives.hooked import Place
from flatgrad.primitives.index import ADD_ITEM
from flatgrad.primitives.registry import PRIMITIVES, Primitive
from flatgrad.primitives.symbolic import (
    Symbol,
    apply_function,
    is_number,
    rule_arguments,
    symbol_of,
)
from flatgrad.transform.branches import Branches
from flatgrad.transform.calls import visit_call
from flatgrad.transform.checkpoint import segmented
from flatgrad.transform.clone import picked, rewired_block
from flatgrad.transform.fitting import cast, times, unbroadcast
from flatgrad.transform.nest import nest_tapes
from flatgrad.transform.structured import Context, visit_structured


def reverse(
    fn: Function,
    wrt: Sequence[Value],
    seed: Operand | None = None,
    output: int = 0,
    seeds: dict[int, Operand] | None = None,
) -> tuple[Function, list[Operand]]:
    """Append the backward sweep of result number `output`, or of those that `seeds` has.

    `seed` is the adjoint of the output, 1 by default. Returns the function, whose results are
    unchanged, and the adjoints of `wrt` in order.

    Raises
    ------
    UnsupportedError
        If an active value passes through an operation without a derivative rule.
    """
    planted = seeds if seeds is not None else {output: Const(1.0) if seed is None else seed}
    outputs = [(fn.results[k], start) for k, start in planted.items()]
    fn = segmented(fn, wrt, [one for one, _ in outputs])
    back = Block()
    builder = Builder(back, fn.lengths)
    context = Context(fn, builder, set(wrt), active(fn.body, wrt, [one for one, _ in outputs]))
    sweep = _Sweep(context, fn.body, visible=())
    sweep.await_all()
    sweep.plant(outputs)
    sweep.run()
    adjoints = [sweep.gradient(value) for value in wrt]
    ops = [*context.rebuilt(fn.body).ops, *back.ops]
    body = rewired_block(Block(fn.params, ops, fn.body.yields), context.released)
    adjoints = [picked(adjoint, context.released) for adjoint in adjoints]
    both = (*body.yields, *adjoints)
    body = nest_tapes(Block(fn.params, body.ops, both), builder)
    body.yields, adjoints = (
        body.yields[: len(fn.body.yields)], list(body.yields[len(fn.body.yields) :]),
    )  # fmt: skip
    return replace(fn, body=body, requirements=fn.requirements + builder.requirements), adjoints


class _Sweep:
    """One backward sweep over a block, writing to the builder's current block."""

    def __init__(self, context: Context, block: Block, visible: tuple[Value, ...]) -> None:
        self.context = context
        self.builder = context.builder
        self.block = block
        self.visible = visible
        self.wrt = context.wrt
        self.active = context.active
        self.pending: dict[Value, int] = defaultdict(int)
        self.contributions: dict[Value, list[Any]] = defaultdict(list)
        self.adjoint: dict[Value, Any] = {}
        self.branches = Branches(self.builder)

    def nested(self, block: Block, op: Op) -> _Sweep:
        """The sweep of a block that `op` holds."""
        before = self.block.ops[: self.block.ops.index(op)]
        results = [value for earlier in before for value in earlier.results]
        inner = _Sweep(self.context, block, (*self.visible, *self.block.params, *results))
        inner.await_all()
        return inner

    def await_all(self) -> None:
        """Count the operations from which each value gets contributions."""
        for op in self.block.ops:
            for value in self.active_operands(op):
                self.pending[value] += 1

    def run(self) -> None:
        """Sweep: afterwards `adjoint` has what was asked of the block's operations."""
        for op in reversed(self.block.ops):
            if any(result in self.adjoint for result in op.results):
                self.visit(op)
            self.finish(op)

    def active_operands(self, op: Op) -> list[Value]:
        """The values that get adjoints from `op`, once each, parameters first."""
        return sorted(self.context.awaiting(op), key=lambda value: value not in self.wrt)

    def plant(self, seeds: list[tuple[Operand, Operand]]) -> None:
        """The adjoints of the outputs themselves; of one that is read on, a first part of it."""
        planted = [(y, seed) for y, seed in seeds if y in self.active]
        for output, seed in planted:
            assert isinstance(output, Value)
            self.contributions[output].append(symbol_of(seed, self.builder))
        for output in dict.fromkeys(output for output, _ in planted):
            assert isinstance(output, Value)
            with self.builder.at(Origin(None, "backward", "seed"), _adjoint_name(output)):
                self.begin(output)

    def begin(self, output: Value) -> None:
        """Settle the adjoint of an output, unless it has further contributions to come."""
        parts = self.contributions[output]
        if self.pending[output]:
            return
        if len(parts) == 1 and isinstance(parts[0], Symbol) and output not in self.wrt:
            self.adjoint[output] = parts[0]  # a parameter has its name already
            return
        if not output.kept and is_number(parts[0]):  # rules take symbols
            parts[0] = self.copied(parts[0], _adjoint_name(output))
        self.settle(output)

    def settle_planted(self) -> None:
        """The adjoints to which no operation of the block will add."""
        for value in list(self.contributions):
            if self.pending[value] == 0:
                with self.builder.at(Origin(None, "backward", "yield"), _part(value)):
                    self.settle(value)

    def copied(self, symbol: Any, name: str) -> Symbol:
        """A second name for a value."""
        kind = symbol.type if isinstance(symbol, Symbol) else Const(symbol).type
        operand = symbol.value if isinstance(symbol, Symbol) else Const(symbol)
        value = self.builder.apply(PRIMITIVES[IDENTITY], (operand,), {"x": Slot(0)}, kind)
        assert value is not None
        value.name, value.kept = name, True
        return Symbol(value, self.builder)

    def visit(self, op: Op) -> None:
        """The contributions of one operation."""
        if not isinstance(op, Apply):
            visit_structured(self, op)
            return
        rule = op.primitive.name
        if op.primitive.body is not None:
            visit_call(self, op, reverse)
            return
        result = op.result
        for operand, contribution in self.pull(op, self.adjoint[result]):
            with self.builder.at(Origin(op.origin.span, "backward", rule), _part(operand)):
                fitted = self.fit(self.branches.passed(op, operand, contribution), operand)
            self.contributions[operand].append(fitted)

    def finish(self, op: Op) -> None:
        """The adjoints that are complete now: also an operation without an adjoint was awaited."""
        for value in self.active_operands(op):
            self.pending[value] -= 1
            if self.pending[value] == 0:
                rule = op.primitive.name if isinstance(op, Apply) else "adjoint"
                origin = Origin(op.origin.span, "backward", rule)
                with self.builder.at(origin, _part(value)):
                    self.settle(value)

    def pull(self, op: Apply, grad_y: Any) -> list[tuple[Value, Any]]:
        """The active operands of `op` with what the reverse rule says for each."""
        primitive: Primitive = op.primitive
        if primitive.hook is not None:
            self.consume(op)
        y = Symbol(op.result, self.builder)
        args, static = rule_arguments(op, self.builder)
        first = self.active_operands(op)[0] if self.active_operands(op) else None
        origin = Origin(op.origin.span, "backward", primitive.name)
        is_math = primitive.text.startswith("math.")
        with (
            np.errstate(all="ignore"),
            self.builder.at(origin, _part(first) if first else None, prefer_math=is_math),
        ):
            if primitive.partials is not None:
                partials = _as_tuple(primitive.partials(y, *args, **static))
                cotangents = [times(grad_y, partial) for partial in partials]
            elif primitive.vjp is not None:
                cotangents = list(_as_tuple(primitive.vjp(grad_y, y, *args, **static)))
            else:
                raise error(
                    "no-derivative",
                    f"`{primitive.text}` has no reverse rule",
                    op.origin.span,
                    help="register one with flatgrad.defvjp",
                )
        if primitive.hook is not None:
            self.same_name(grad_y, cotangents[0])
        self.require_operands(op)
        trees = [op.arguments[name] for name in primitive.operand_names if name in op.arguments]
        return [
            (operand, cotangent)
            for tree, cotangents_of in zip(trees, cotangents, strict=True)
            for operand, cotangent in _leaves(op, tree, cotangents_of)
            if operand in self.active and cotangent is not None
        ]

    def consume(self, op: Apply) -> None:
        """Take a hook out of the program, after this sweep."""
        hook = op.primitive.hook
        if isinstance(hook, Place) and hook.repeated:
            raise error(
                "bad-hook", "a second sweep would run this twice, as the loop is checkpointed",
                op.origin.span, help="leave out `checkpoint`",
            )  # fmt: skip
        self.context.hooks.add(hook)

    def same_name(self, grad_y: Any, cotangent: Any) -> None:
        """What a hook only looked at, or a branch of it made, keeps the name that it has."""
        if not isinstance(cotangent, Symbol):
            return
        same = isinstance(grad_y, Symbol) and grad_y.value is cotangent.value
        if same or cotangent.value not in self.builder.made:
            self.context.carried.add(cotangent.value)

    def require_operands(self, op: Apply) -> None:
        """An active value may only stand where the rule has a cotangent for it."""
        names = set(op.primitive.operand_names)
        for name, tree in op.arguments.items():
            found = [] if name in names else [o for o, _ in _leaves(op, tree, tree)]
            if any(operand in self.active for operand in found):
                raise error(
                    "no-derivative",
                    f"`{op.primitive.text}` has no derivative with respect to `{name}`",
                    op.origin.span,
                    help="make the value an int, or compute it without the differentiated inputs",
                )

    def partial(self, value: Value) -> Any:
        """Take the sum of the contributions so far; None if there are none."""
        self.branches.mixed(value)
        dense: list[Any] = []
        sparse: list[Any] = []
        for contribution in self.contributions.pop(value, []):
            (sparse if self.is_scatter(contribution) else dense).append(contribution)
        if not dense and not sparse:
            return None
        total = dense[0] if dense else None
        for contribution in dense[1:]:
            total = total + contribution
        for contribution in sparse:
            if total is None:
                total = contribution
            elif total.type.shape != contribution.type.shape:  # equal, but not known to be
                total = total + contribution
            else:
                total = self.scattered(total, contribution)
        return total

    def settle(self, value: Value) -> None:
        """Add up the contributions of `value` and give the sum its name."""
        self.branches.settled(value, len(self.contributions.get(value, ())))
        total = self.partial(value)
        if total is None:
            return
        if isinstance(total, Symbol) and self.context.carries(total.value, value):
            self.adjoint[value] = total
            return
        named = self.context.named
        name = f"grad_{value.name}"
        if value in self.wrt and not self.visible:
            total = self.owned(total, value)
        if value.kept or value in self.wrt:
            total = self.name_it(total, name)
        elif isinstance(total, Symbol) and not total.value.kept and total.value not in named:
            total.value.name = name
            named.add(total.value)
        if isinstance(total, Symbol) and total.value.of is None:
            total.value.of = ("grad", value)
        self.adjoint[value] = total

    def owned(self, total: Any, value: Value) -> Any:
        """A gradient that is handed out is an array of its own, no broadcast view."""
        op = self.definition(total)
        if op is None or op.primitive.function is not np.broadcast_to:
            return total
        args, _ = rule_arguments(op, self.builder)
        if isinstance(args[0], Symbol) and args[0].ndim:
            return np.copy(total)
        return np.full_like(Symbol(value, self.builder), args[0])

    def name_it(self, total: Any, name: str) -> Symbol:
        """Carry `name`: directly if the value was just made for it, else as a second name."""
        fresh = (
            isinstance(total, Symbol)
            and not total.value.kept
            and total.value in self.builder.made
        )
        if fresh:
            total.value.name, total.value.kept = name, True
            total.value.of = None  # the user's variable gives the name, no temporary does
            return total
        return self.copied(total, name)

    def is_scatter(self, contribution: Any) -> bool:
        """Whether a contribution was written into fresh zeros by a reading rule."""
        op = self.definition(contribution)
        if op is None or op.primitive.function is not ADD_ITEM or op.result.kept:
            return False
        # The adjoint of an array that was written to is no such thing: its base carries values.
        base = op.operands[op.arguments["x"].index]
        made = self.builder.made.get(base) if isinstance(base, Value) else None
        return made is not None and made.primitive.function is np.zeros_like

    def definition(self, symbol: Any) -> Apply | None:
        """The operation of this sweep that made a value."""
        return self.builder.made.get(symbol.value) if isinstance(symbol, Symbol) else None

    def scattered(self, total: Any, contribution: Any) -> Any:
        """`total` with what `contribution` wrote into zeros written into it instead."""
        op = self.definition(contribution)
        assert op is not None
        args, static = rule_arguments(op, self.builder)
        return ADD_ITEM_CALL(total, args[1], static["index"], self.builder)

    def gradient(self, value: Value) -> Operand:
        """The adjoint of an input; zeros if the output does not depend on it."""
        found = self.adjoint.get(value)
        if found is None:
            name = f"grad_{value.name}"
            with self.builder.at(Origin(None, "backward", "zero"), name):
                if value.type.ndim == 0:
                    found = self.copied(0.0, name)
                else:
                    found = self.name_it(np.zeros_like(Symbol(value, self.builder)), name)
        return found.value if isinstance(found, Symbol) else Const(found)

    def fit(self, contribution: Any, value: Value) -> Any:
        """Sum over broadcast axes and restore the dtype of `value`."""
        target = value.type
        if is_number(contribution):
            contribution = float(contribution)
        summed = self.narrowed(unbroadcast(contribution, target), target)
        kind = summed.type if isinstance(summed, Symbol) else Const(summed).type
        if kind.ndim < target.ndim or (kind.shape != target.shape and kind.ndim == 0):
            summed = np.broadcast_to(summed, Symbol(value, self.builder).shape)
        return cast(summed, target, self.builder)

    def narrowed(self, contribution: Any, target: Type) -> Any:
        """A broadcast number in the dtype of `target`: it is cast before it is spread."""
        op = self.definition(contribution)
        spread = op is not None and op.primitive.function is np.broadcast_to
        if op is None or not spread or contribution.type.dtype == target.dtype:
            return contribution
        (x,), static = rule_arguments(op, self.builder)
        if isinstance(x, Symbol) and x.ndim:
            return contribution
        kind = np.dtype(target.dtype).type
        narrow = apply_function(ASTYPE, (x, kind), {}, self.builder)
        return np.broadcast_to(narrow, static["shape"])


def ADD_ITEM_CALL(base: Any, value: Any, index: Any, builder: Builder) -> Any:
    """`base[index] += value` as an operation."""
    return apply_function(ADD_ITEM, (base, value, index), {}, builder)


def _part(value: Value | None) -> str | None:
    return f"grad_{value.name}" if value is not None else None


def _adjoint_name(output: Value) -> str:
    return f"grad_{output.name or 'value'}"


def _as_tuple(outcome: Any) -> tuple[Any, ...]:
    return outcome if isinstance(outcome, tuple) else (outcome,)


def _leaves(op: Apply, tree: Any, cotangent: Any) -> list[tuple[Value, Any]]:
    """Pairs of an operand and its cotangent; lists of operands have lists of cotangents."""
    if isinstance(tree, Slot):
        operand = op.operands[tree.index]
        return [(operand, cotangent)] if isinstance(operand, Value) else []
    if isinstance(tree, slice):
        parts = (tree.start, tree.stop, tree.step)
        return _leaves(op, parts, parts)
    if cotangent is None or not isinstance(tree, list | tuple):
        return []
    return [
        leaf
        for item, part in zip(tree, cotangent, strict=True)
        for leaf in _leaves(op, item, part)
    ]
