"""Branches: what depends on run-time data becomes an If; what does not is decided here.

    if x > 0: y = x               %y = if %c { yield %x } else { yield %z }
    else:     y = -x
    x and y, a < b < c            `and` of two truth values; an If where the right side may fail
    if done: return y             the rest of the function is the other branch
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from flatgrad.errors import FlatgradError
from flatgrad.frontend.join import Join, Side
from flatgrad.frontend.listed import Rows
from flatgrad.frontend.objects import class_of
from flatgrad.frontend.raising import Raised, RaiseLowerer
from flatgrad.frontend.refs import Ref
from flatgrad.frontend.state import State
from flatgrad.frontend.trees import Held
from flatgrad.frontend.values import (
    RETURNED,
    VALUE,
    ControlFlow,
    Poison,
    needs_static,
    occurrences,
    read,
)
from flatgrad.ir.ops import Block, If
from flatgrad.primitives.logic import AND, NOT, OR
from flatgrad.primitives.symbolic import NeedStatic, Symbol, apply_function


class Returned(ControlFlow):
    """Control reached a return statement."""


class Break(ControlFlow):
    """Control left a loop."""


class Continue(ControlFlow):
    """Control goes on with the next item."""


class TripEnd(ControlFlow):
    """All paths reached the end of a trip; `left` says whether by `break`: a bool or a Symbol."""

    def __init__(self, left: Any) -> None:
        super().__init__()
        self.left = left


class Rest(list[ast.stmt]):
    """The statements that follow in a block."""


class Unrolled:
    """The items that follow in a loop whose trips are taken one by one."""

    def __init__(self, node: ast.For, items: list[Any]) -> None:
        self.node = node
        self.items = items


class ControlLowerer(RaiseLowerer):
    """Evaluates what depends on conditions; loops come with the subclass."""

    result: Any = None
    in_loop = False

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.rest: list[Rest | Unrolled] = []
        self.statement: ast.AST = self.source.node

    def roots(self) -> list[dict[Any, Any]]:
        """The variables of this function and of those on the way to it."""
        return [self.env, *self.shared.frames]

    # statements

    def body(self, statements: list[ast.stmt]) -> None:
        """The statements of a block, in order."""
        for k, statement in enumerate(statements):
            with self.at(statement):
                method = getattr(self, f"exec_{type(statement).__name__}", None)
                if method is None:
                    message, help = _refusal(statement)
                    raise self.refuse(statement, "unsupported-statement", message, help)
                self.statement = statement
                self.rest.append(Rest(statements[k + 1 :]))
                depth = len(self.rest)
                method(statement)
                del self.rest[depth - 1 :]

    def exec_Return(self, node: ast.Return) -> None:
        self.result = None
        if node.value is not None:
            named = isinstance(node.value, ast.Name) or self.shared.depth
            part = None if named else "value"
            with self.at(node, part):
                self.result = self.name_result(self.value(node.value))
        raise Returned

    def name_result(self, found: Any) -> Any:
        """Name what is returned."""
        raise NotImplementedError

    def exec_Break(self, node: ast.Break) -> None:
        raise Break

    def exec_Continue(self, node: ast.Continue) -> None:
        raise Continue

    def exec_If(self, node: ast.If) -> None:
        condition = self.test(node.test)
        if not isinstance(condition, Symbol):
            self.body(node.body if condition else node.orelse)
            return
        self.branch(node, condition, node.body, node.orelse)

    def branch(
        self, node: ast.AST, condition: Symbol, first: list[ast.stmt], second: list[ast.stmt]
    ) -> None:
        """Two paths of statements; where one leaves the block, what follows is part of both."""
        paths = [partial(self.body, statements) for statements in (first, second)]
        if _leaves([*first, *second]):
            self.part(node, condition, *paths)
        else:
            self.fork(condition, *paths)

    def part(
        self,
        node: ast.AST,
        condition: Symbol,
        *paths: Callable[[], None],
    ) -> None:
        """Two paths that do not meet before the end of the function, or of the trip."""
        pending = list(self.rest)
        then, orelse = (partial(self.to_end, path, pending) for path in paths)
        dead = None if self.in_loop else self.env
        found = self.fork(condition, then, orelse, dead=dead, what="the returned value")
        if self.in_loop:
            raise TripEnd(found)
        if isinstance(found, Poison):
            raise self.refuse(node, found.code, found.message, found.help)
        self.result = found
        raise Returned

    def to_end(self, first: Callable[[], None], pending: list[Rest | Unrolled]) -> Any:
        """Run to the end of the function, or of the trip, whatever way control takes.

        The returned value; in a loop, whether the loop is left.
        """
        pending, run, saved = list(pending), first, self.rest
        try:
            while True:
                self.rest = list(pending)
                try:
                    run()
                except Continue:
                    while pending and not isinstance(pending[-1], Unrolled):
                        pending.pop()
                except Break:
                    while pending and not isinstance(pending[-1], Unrolled):
                        pending.pop()
                    if not pending:
                        return True
                    pending.pop()
                except TripEnd as end:
                    return end.left
                except Returned:
                    if self.in_loop:
                        self.env[RETURNED], self.env[VALUE] = True, self.result
                        return True
                    return self.result
                if not pending:
                    return False if self.in_loop else None
                entry = pending.pop()
                if isinstance(entry, Unrolled):
                    run = partial(self.unrolled, entry.node, entry.items)
                else:
                    run = partial(self.body, entry)
        finally:
            self.rest = saved

    def unrolled(self, node: ast.For, items: list[Any]) -> None:
        """The trips of a loop one by one."""
        raise NotImplementedError

    # the two paths

    def fork(
        self,
        condition: Symbol,
        then: Callable[[], Any],
        orelse: Callable[[], Any],
        *,
        dead: Any = None,
        what: str = "the value",
    ) -> Any:
        """Lower both paths, each from the present state; what they hand out, joined.

        `dead` are variables that nobody reads afterwards.
        """
        before = State(self.roots())
        sides = []
        try:
            for path in (then, orelse):
                before.restore()
                sides.append(self.side(path, before))
            if any(side.raised is not None for side in sides):
                return self.without_raising(condition, sides)
            return Join(self, before, (sides[0], sides[1])).finish(condition, dead, what)
        except (FlatgradError, RecursionError) as caught:
            refusal: Any = caught
            root = self.integer_root(condition.value)
            if root is None:
                raise
            found = NeedStatic(Symbol(root, self.builder), "a condition")
            if isinstance(refusal, RecursionError):
                refusal = self.refuse(self.source.node, "too-deep", "a recursion that does not end")
            found.refusal = refusal
            raise found from None

    def side(self, path: Callable[[], Any], before: State) -> Side:
        """One path, lowered in a block of its own."""
        block, depth = Block(), len(self.rest)
        outcome, raised = None, None
        with self.builder.inside(block):
            try:
                outcome = path()
            except Raised as caught:
                raised = caught
                del self.rest[depth:]
        return Side(block, State(self.roots(), before), outcome, raised)

    def without_raising(self, condition: Symbol, sides: list[Side]) -> Any:
        """Go on with the path that does not end in `raise`; if both do, so does this."""
        raising = next(side for side in sides if side.raised is not None)
        going = next((side for side in sides if side.raised is None), None)
        if going is None:
            op = If(condition.value, sides[0].block, sides[1].block, (), self.builder.origin)
            self.builder.block.ops.append(op)
            assert raising.raised is not None
            raise raising.raised
        if raising is sides[1]:
            condition = apply_function(NOT, (condition,), {}, self.builder)
        op = If(condition.value, raising.block, Block(), (), self.builder.origin)
        self.builder.block.ops += [op, *going.block.ops]
        going.state.restore()
        return going.outcome

    def surely_number(self, found: Any) -> bool:
        """Whether this is a number, and no array of no axes, which other names could share."""
        if not isinstance(found, Symbol) or found.type.weak or found.value in self.shared.plain:
            return True
        op = self.builder.made.get(found.value)
        return op is not None and _makes_number(op)

    def note_number(self, result: Symbol, inputs: tuple[Any, ...], states: list[State]) -> None:
        """Remember of a joined number whether it may be an array of no axes with other names."""
        doubtful = [k for k, item in enumerate(inputs) if not self.surely_number(item)]
        if not doubtful:
            self.shared.plain.add(result.value)
        for k in doubtful:
            variables = [states[k].content(root) for root in self.roots()]
            if inputs[k].value in self.shared.aliased or occurrences(inputs[k], variables) > 1:
                self.shared.aliased.add(result.value)

    # conditions

    def test(self, node: ast.expr) -> Any:
        """The truth of a condition: a bool, or a Symbol of one."""
        if isinstance(node, ast.BoolOp):
            with self.at(node):
                return self.connected(node, node.values, self.test)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            with self.at(node):
                return self.negation(node)
        return self.truth_of(node, self.value(node))

    def truth_of(self, node: ast.expr, found: Any) -> Any:
        """`bool(found)`: static, or a Symbol."""
        if isinstance(found, Ref):
            raise self.refuse(
                node, "operand-type", "the truth of an array", "use np.any or np.all of it"
            )
        if isinstance(found, Held) or class_of(found):
            return self.truth_of_object(node, found)
        if isinstance(found, Rows):
            found = found.count
        if isinstance(found, Symbol):
            if found.type.dtype == "bool":
                return found
            with self.at(node):
                return apply_function(bool, (found,), {}, self.builder)
        return self.truth(node, found, "a condition")

    def truth(self, node: ast.expr, found: Any, what: str) -> bool:
        """The truth of a static value."""
        if isinstance(found, Symbol | Ref):
            with self.at(node):
                raise NeedStatic(read(found), what)
        if isinstance(found, Held) or class_of(found):
            found = self.truth_of_object(node, found)
        return bool(self.static(node, bool, found, structural=True))

    def inverted(self, found: Any) -> Any:
        return apply_function(NOT, (found,), {}, self.builder)

    def negation(self, node: ast.UnaryOp) -> Any:
        found = self.test(node.operand)
        if isinstance(found, Symbol):
            return apply_function(NOT, (found,), {}, self.builder)
        return not found

    def eval_BoolOp(self, node: ast.BoolOp) -> Any:
        return self.connected(node, node.values, self.value)

    def connected(
        self, node: ast.BoolOp, parts: list[ast.expr], evaluate: Callable[[ast.expr], Any]
    ) -> Any:
        """`a and b and ...`, or with `or`: of truth values one more, else a branch."""
        first, rest = evaluate(parts[0]), parts[1:]
        if not rest:
            return first
        truth, either = self.truth_of(parts[0], first), isinstance(node.op, ast.Or)
        if not isinstance(truth, Symbol):
            return first if truth == either else self.connected(node, rest, evaluate)
        more: Callable[[], Any] = partial(self.connected, node, rest, evaluate)
        if all(_is_cheap(part) for part in rest):
            second = more()
            if first is truth and isinstance(second, Symbol) and _is_bool(second):
                return apply_function(OR if either else AND, (first, second), {}, self.builder)
            more = lambda: second  # noqa: E731
        same = lambda: first  # noqa: E731
        found = self.fork(truth, same if either else more, more if either else same)
        return self.joined(node, found)

    def joined(self, node: ast.AST, found: Any) -> Any:
        """Refuse an expression that is one kind of thing on one path, another on the other."""
        if isinstance(found, Poison):
            raise self.refuse(node, found.code, found.message, found.help)
        return found

    def eval_IfExp(self, node: ast.IfExp) -> Any:
        condition = self.test(node.test)
        if not isinstance(condition, Symbol):
            return self.value(node.body if condition else node.orelse)
        found = self.fork(
            condition, partial(self.value, node.body), partial(self.value, node.orelse)
        )
        return self.joined(node, found)

    def eval_Compare(self, node: ast.Compare) -> Any:
        return self.chain(node, self.value(node.left), 0)

    def chain(self, node: ast.Compare, left: Any, k: int) -> Any:
        """`left < b < c`: the k-th comparison and those after it."""
        right = self.value(node.comparators[k])
        first = self.compare(node, node.ops[k], left, right)
        if k == len(node.ops) - 1:
            return first
        if isinstance(first, Ref):
            needs_static(read(first), "a chained comparison")
        if not isinstance(first, Symbol):
            return self.chain(node, right, k + 1) if first else first
        if all(_is_cheap(item) for item in node.comparators[k + 1 :]):
            second = self.chain(node, right, k + 1)
            if isinstance(second, Symbol) and _is_bool(second):
                return apply_function(AND, (first, second), {}, self.builder)
            return self.joined(node, self.fork(first, lambda: second, lambda: first))
        more = partial(self.chain, node, right, k + 1)
        return self.joined(node, self.fork(first, more, lambda: first))


def _is_bool(symbol: Symbol) -> bool:
    return symbol.ndim == 0 and symbol.type.dtype == "bool"


def _is_cheap(node: ast.expr) -> bool:
    """Whether an expression may be evaluated although Python would not: it cannot fail."""
    match node:
        case ast.Name() | ast.Constant():
            return True
        case ast.BinOp(op=ast.Add() | ast.Sub() | ast.Mult()):
            return _is_cheap(node.left) and _is_cheap(node.right)
        case ast.UnaryOp():
            return _is_cheap(node.operand)
        case ast.Compare():
            return all(_is_cheap(item) for item in (node.left, *node.comparators))
        case ast.BoolOp():
            return all(_is_cheap(item) for item in node.values)
    return False


def _leaves(statements: list[ast.stmt]) -> bool:
    """Whether control may leave these statements other than at their end."""
    for statement in statements:
        match statement:
            case ast.Return() | ast.Break() | ast.Continue():
                return True
            case ast.If():
                if _leaves([*statement.body, *statement.orelse]):
                    return True
            case ast.For() | ast.While():
                inside = [item for part in statement.body for item in ast.walk(part)]
                if any(isinstance(item, ast.Return) for item in inside):
                    return True
                if _leaves(statement.orelse):
                    return True
    return False


def _makes_number(op: Any) -> bool:
    """Whether the result of rank 0 is a NumPy number rather than an array of no axes."""
    function = op.primitive.function
    if op.primitive.body is not None or op.result.type.ndim:
        return False
    return function.__name__ == "getitem" or (
        op.primitive.elementwise and function is not np.where
    )


_STATEMENTS = {
    "ClassDef": ("a class defined inside the function", "define it outside"),
    "AsyncFunctionDef": ("a coroutine defined inside the function", "define it outside"),
    "Import": ("`import` inside the function", "import at the top of the module"),
    "ImportFrom": ("`import` inside the function", "import at the top of the module"),
    "Match": ("`match` is not supported", "use `if`"),
    "With": ("`with` is not supported", "open the context around the call of the derivative"),
    "Try": ("`try` is not supported", "catch errors around the call of the derivative"),
    "TryStar": ("`try` is not supported", "catch errors around the call of the derivative"),
}


def _refusal(node: ast.stmt) -> tuple[str, str | None]:
    """Why a statement is not supported, and what to write instead."""
    kind = type(node).__name__
    return _STATEMENTS.get(kind, (f"`{kind.lower()}` is not supported", None))
