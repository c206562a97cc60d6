"""Loops: a `for` over numbers or arrays becomes a For, a `while` a While, whatever its length.

    for i in range(n):        %y = for %i in (0, %n, 1) carrying (%y_1 = 1.0) {
        y = y * x[i]            %item = getitem(%x, %i)   %y_2 = mul(%y_1, %item)   yield %y_2 }

What a trip hands to the next is found by lowering the body until nothing changes (`carried.py`).
"""

from __future__ import annotations

import ast
from functools import partial
from typing import Any

from flatgrad.frontend.carried import Carrying
from flatgrad.frontend.control import Break, Continue, Returned, Unrolled
from flatgrad.frontend.growing import GrowingLowerer
from flatgrad.frontend.listed import size_of
from flatgrad.frontend.raising import Raised
from flatgrad.frontend.scopes import Delayed, Watched
from flatgrad.frontend.state import State
from flatgrad.frontend.trips import Items, Trips
from flatgrad.frontend.values import RETURNED, VALUE, Loop, Poison, Unroll
from flatgrad.ir.dims import Dim
from flatgrad.ir.ops import Block, Const, For, Operand, Value, While
from flatgrad.ir.types import Scalar
from flatgrad.primitives.logic import NOT
from flatgrad.primitives.symbolic import Symbol, apply_function, operand_of
from flatgrad.primitives.typerules import fresh_size

MOST_UNROLLED = 1000


class LoopLowerer(GrowingLowerer):
    """Evaluates loops."""

    def exec_For(self, node: ast.For) -> None:
        self.with_lists(node, partial(self.for_loop, node))

    def for_loop(self, node: ast.For) -> None:
        """One `for`, lists that it appends to being known."""
        with self.at(node.iter):
            watched: list[Watched] = []
            self.watched = watched
            found = self.trips(node.iter, lazily=True)
        if isinstance(found, Trips) and id(node) in self.shared.growing.unrolled:
            assert found.static is not None
            self.unrolled(node, [Delayed(found.item, k) for k in found.static])
            return
        if isinstance(found, list):
            self.unrolled(node, Items(found, watched))
            return
        if found.static is not None and not len(found.static):
            self.body(node.orelse)
            return
        known = found.static
        unrollable = known is not None and len(known) <= MOST_UNROLLED and not found.checkpoint
        bounds = tuple(x for x in (found.start, found.stop, found.step) if isinstance(x, Symbol))
        loop = Loop(unrollable, bounds)
        before, depth = State(self.roots()), len(self.rest)
        outer = self.begin_loop()
        mark, doubts = len(self.builder.requirements), dict(self.shared.ambiguous)
        self.shared.frames.insert(0, {f"<{k}>": ref for k, ref in enumerate(found.arrays)})
        try:
            left = self.counted_loop(node, found, loop)
        except Unroll as wanted:
            if wanted.loop is not loop:
                raise
            before.restore()
            self.shared.ambiguous = doubts
            del self.builder.requirements[mark:]
            del self.rest[depth:]
            left = None
        finally:
            self.shared.frames.pop(0)
        if left is None:
            assert known is not None
            self.unrolled(node, [Delayed(found.item, k) for k in known])
            return
        for rows in self.shared.growing.rows:
            if rows.node is node and rows.by_index:
                rows.fields["count"] = rows.total
        name = _index_name(node) if found.plain and left is False else None
        if known is not None and name is not None:
            self.env[name] = known[-1]
        self.after_loop(node, left, outer)

    def unrolled(self, node: ast.For, items: list[Any]) -> None:
        """The trips of a loop one by one."""
        depth = len(self.rest)
        for k, item in enumerate(items):
            if isinstance(items, Items) and items.changed(k):
                raise self.refuse(
                    node.iter, "unsupported-statement", "what this loop runs over changes in it",
                    "loop over a copy of it",
                )  # fmt: skip
            self.assign(node.target, item() if isinstance(item, Delayed) else item)
            more = items.after(k + 1) if isinstance(items, Items) else items[k + 1 :]
            self.rest.append(Unrolled(node, more))
            try:
                self.body(node.body)
            except Continue:
                continue
            except Break:
                return
            finally:
                del self.rest[depth:]
        self.body(node.orelse)

    def assign(self, target: ast.expr, found: Any) -> None:
        """Bind names, unpack sequences, write elements."""
        raise NotImplementedError

    def counted_loop(self, node: ast.For, trips: Trips, loop: Loop) -> Any:
        """Append a For; whether it was left by `break`: a bool or a Symbol."""
        targets = {item.id for item in ast.walk(node.target) if isinstance(item, ast.Name)}
        runs = trips.static is not None and len(trips.static) > 0
        bounds = (trips.start, trips.stop, trips.step)
        carrying = Carrying(self, node, targets, loop, runs=runs, bounds=bounds)
        name = node.target.id if isinstance(node.target, ast.Name) and trips.plain else None
        made: dict[str, Any] = {}

        def trip(block: Block) -> Any:
            kind = Scalar("int64", weak=True, size=index_size())
            shown = self.spelled(name) if name is not None else "k"
            index = Value(kind, shown, kept=name is not None and self.shared.depth == 0)
            self.shared.loops[index] = loop
            made["index"] = index
            if _is_zero(trips.start) and _is_one(trips.step):
                self.shared.counting.add(kind.size.name)  # type: ignore[union-attr]
            end = size_of(trips.stop)
            if type(trips.start) is int and _is_one(trips.step) and end is not None:
                self.builder.trips[kind.size.name] = (trips.start, end)  # type: ignore[union-attr]
            counted = self.counted_lists(node, trips, Symbol(index, self.builder))
            with self.at(node.iter):
                item = trips.item(Symbol(index, self.builder))
            self.assign(node.target, item)
            left = self.trip(node)
            self.check_counts(counted, left)
            return left

        block, left = carrying.settle(trip)
        inits, results = self.finish(carrying, block, left, bool(node.orelse))
        block.params = (made["index"], *block.params)
        start, stop, step = (operand_of(x) for x in (trips.start, trips.stop, trips.step))
        exits, origin = left is not False, self.builder.origin
        if exits and trips.checkpoint:
            raise self.refuse(
                node, "bad-checkpoint", "a checkpointed loop is left before its end",
                "leave out `checkpoint`, or let the loop run through all its trips",
            )  # fmt: skip
        count = None if trips.snapshots is None else operand_of(trips.snapshots)
        op = For(
            start, stop, step, inits, block, results, exits, origin, trips.checkpoint, count
        )
        self.builder.block.ops.append(op)
        return self.conclude(carrying, results, left, bool(node.orelse))

    def trip(self, node: ast.For | ast.While) -> Any:
        """One trip; whether it leaves the loop."""
        saved = self.in_loop
        self.in_loop = True
        try:
            return self.to_end(partial(self.body, node.body), [])
        except Raised as caught:
            raise caught.refusal from None
        finally:
            self.in_loop = saved

    def finish(
        self, carrying: Carrying, block: Block, left: Any, wants_flag: bool
    ) -> tuple[tuple[Operand, ...], tuple[Value, ...]]:
        """The entries, exits and results of a loop whose body has settled."""
        yields = carrying.yields(block)
        inits = carrying.inits()
        results = carrying.results()
        if left is not False:
            flag = operand_of(left)
            if wants_flag:  # the loop's `else` asks whether it was left
                kind = Scalar("bool", weak=True)
                block.params = (*block.params, Value(kind, "left"))
                yields, inits = (*yields, flag), (*inits, Const(False))
                results = (*results, Value(kind, "left"))
            yields = (flag, *yields)
        block.yields = yields
        return inits, results

    def conclude(
        self, carrying: Carrying, results: tuple[Value, ...], left: Any, wants_flag: bool
    ) -> Any:
        """Put the results into the variables; whether the loop was left."""
        carrying.conclude(results)
        if left is False or not wants_flag:
            return False
        return Symbol(results[-1], self.builder)

    def begin_loop(self) -> dict[str, Any]:
        """Nothing is returned yet; what the loop around it knows of a return, for `after_loop`."""
        outer = {name: self.env.pop(name) for name in (RETURNED, VALUE) if name in self.env}
        self.env[RETURNED] = False
        return outer

    def after_loop(
        self, node: ast.For | ast.While, left: Any, outer: dict[str, Any]
    ) -> None:
        """Return, if the loop was left by `return`; its `else`, where it was not left."""
        returned, value = self.env.pop(RETURNED), self.env.pop(VALUE, None)
        self.env |= outer
        if _only_returns(node):
            returned = True
        rest = partial(self.loop_else, node, left)
        if not isinstance(returned, Symbol):
            if returned:
                self.give(node, value)
            rest()
            return
        self.part(node, returned, partial(self.give, node, value), rest)

    def give(self, node: ast.For | ast.While, value: Any) -> None:
        """Return the value that was returned inside a loop."""
        if isinstance(value, Poison):
            raise self.refuse(node, value.code, value.message, value.help)
        self.result = value
        raise Returned

    def loop_else(self, node: ast.For | ast.While, left: Any) -> None:
        """The `else` of a loop."""
        if not node.orelse:
            return
        if not isinstance(left, Symbol):
            self.body(node.orelse)
            return
        condition = apply_function(NOT, (left,), {}, self.builder)
        self.branch(node, condition, node.orelse, [])

    def exec_While(self, node: ast.While) -> None:
        self.with_lists(node, partial(self.while_loop, node))

    def while_loop(self, node: ast.While) -> None:
        """One `while`, lists that it appends to being known."""
        outer = self.begin_loop()
        endless = isinstance(node.test, ast.Constant) and bool(node.test.value)
        carrying = Carrying(self, node, set(), Loop(False), runs=endless)
        tests: dict[str, Any] = {}

        def trip(block: Block) -> Any:
            tests["block"], tests["found"] = self.tested(node, carrying)
            return self.trip(node) if tests["found"] is not False else False

        block, left = carrying.settle(trip)
        if tests["found"] is False:
            carrying.before.restore()
            self.after_loop(node, False, outer)
            return
        inits, results = self.finish(carrying, block, left, bool(node.orelse))
        condition: Block = tests["block"]
        if len(condition.params) < len(block.params):
            condition.params = (*condition.params, Value(Scalar("bool", weak=True), "left"))
        op = While(inits, condition, block, results, left is not False, self.builder.origin)
        self.builder.block.ops.append(op)
        left = self.conclude(carrying, results, left, bool(node.orelse))
        self.after_loop(node, left, outer)

    def tested(self, node: ast.While, carrying: Carrying) -> tuple[Block, Any]:
        """The condition of a `while` in a block of its own; it may change nothing."""
        block = Block()
        carrying.install(block)
        with self.builder.inside(block):
            found = self.test(node.test)
        if carrying.changes():
            raise self.refuse(
                node.test, "unsupported-statement", "a condition of `while` that changes variables",
                "use `while True:` and `break`",
            )  # fmt: skip
        carrying.install(carrying.block)
        block.yields = (operand_of(found),)
        return block, found


def _only_returns(node: ast.For | ast.While) -> bool:
    """Whether this is `while True:` without `break`, which only a `return` can end."""
    if not isinstance(node, ast.While) or not isinstance(node.test, ast.Constant):
        return False
    pending: list[ast.AST] = list(node.body)
    returns = False
    while pending:
        part = pending.pop()
        if isinstance(part, ast.Break):
            return False
        returns = returns or isinstance(part, ast.Return)
        if isinstance(part, ast.For | ast.While):
            inner = [item for one in part.body for item in ast.walk(one)]
            returns = returns or any(isinstance(item, ast.Return) for item in inner)
            pending.extend(part.orelse)
        else:
            pending.extend(ast.iter_child_nodes(part))
    return returns and bool(node.test.value)


def _is_zero(found: Any) -> bool:
    return type(found) is int and found == 0


def _is_one(found: Any) -> bool:
    return type(found) is int and found == 1


def _index_name(node: ast.For) -> str | None:
    """The loop's variable, if nothing else assigns it."""
    inside = [item for part in node.body for item in ast.walk(part) if isinstance(item, ast.Name)]
    stored = {item.id for item in inside if isinstance(item.ctx, ast.Store)}
    target = node.target
    return target.id if isinstance(target, ast.Name) and target.id not in stored else None


def index_size() -> Dim:
    """The symbolic value of a loop's index: unlike a length, it may be negative."""
    return Dim.atom(f"?i{fresh_size().name[1:]}")
