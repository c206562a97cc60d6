"""Writes loops and branches.

    y = 1.0                                  # what a loop starts from
    for i in range(n):
        y = y * x                            # the variable of the loop gets its next value
        if y > 10.0:                         # an exit is a real break
            break

A value that shares no variable with what it becomes is assigned to it: at the start of the loop, at
the end of the body or of the branch. Assignments that happen together are ordered, or one tuple.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np

from flatgrad.codegen.buffers import Buffers
from flatgrad.codegen.expressions import call, constant, literal, name
from flatgrad.codegen.format import expression_text
from flatgrad.codegen.lines import Line, as_elif
from flatgrad.codegen.names import Names
from flatgrad.ir.ops import Apply, Block, Const, For, If, Operand, Origin, Value, While
from flatgrad.ir.types import Type

Move = tuple[Value, Operand, bool]
"""A variable gets a value; True: a copy of it."""


@dataclass(slots=True)
class Exit:
    """What stands at the end of a loop's body: the moves that end the trip, the flag to leave.

    `tested_only`: no move reads the flag, so it needs no variable where a `break` is written.
    """

    flag: Operand | None
    tested_only: bool
    moves: list[Callable[[], None]]
    origin: Origin


class BlockEmitter:
    """The part of the emitter that writes blocks; calls are written by the class itself."""

    buffers: Buffers
    in_nest: Callable[[bool], AbstractContextManager[None]]
    names: Names
    lines: list[Line]
    depth: int
    declare: Callable[[Value], str]
    operand: Callable[[Operand], ast.expr]
    line: Callable[[ast.stmt, Origin], None]
    heading: Callable[[Origin], None]
    nested: Callable[[], AbstractContextManager[list[Line]]]
    in_ranges: Callable[[For], list[str] | None]
    put_apart: Callable[[For, list[Line]], bool]
    apply: Callable[[Apply], None]

    def block(self, block: Block, exit: Exit | None = None) -> None:
        """The operations of a block, and the end of the trip if it ends one."""
        for op in block.ops:
            match op:
                case Apply():
                    self.apply(op)
                case If():
                    if exit is not None and op is block.ops[-1] and self.breaking(op, exit):
                        return
                    self.branches(op)
                case For():
                    self.for_loop(op)
                case While():
                    self.while_loop(op)
        if exit is not None:
            self.end_of_trip(exit)

    def text(self, text: str, origin: Origin, *, free: bool = False) -> None:
        """Append a line that holds no whole statement."""
        self.heading(origin)
        self.lines.append(Line(text, origin, self.depth, free))

    def body(self, lines: list[Line], origin: Origin) -> None:
        """Append the lines of a nested block."""
        self.lines += lines or [Line("pass", origin, self.depth + 1)]

    # Assignments that happen together.

    def moves(self, moves: list[Move], origin: Origin) -> None:
        """Assign values to variables at the same time; nothing where they share one already."""
        pending: list[tuple[str, ast.expr]] = []
        for target, source, copied in moves:
            node = self.fitted(source, target.type)
            if copied:
                node = call(ast.Attribute(node, "copy", ast.Load()), [], {})
            identifier = self.declare(target)
            if not (isinstance(node, ast.Name) and node.id == identifier):
                pending.append((identifier, node))
        for statement in in_order(pending):
            self.line(statement, origin)

    def fitted(self, source: Operand, kind: Type) -> ast.expr:
        """An operand as what its variable holds: the 1 that a float starts from is `1.0`."""
        if not isinstance(source, Const) or not isinstance(source.value, bool | int | float):
            return self.operand(source)
        dtype = np.dtype(kind.dtype)
        value = dtype.type(source.value)
        if kind.dtype in ("float64", "int64", "bool"):
            return literal(value.item())
        return constant(Const(value))

    # Branches.

    def branches(self, op: If) -> None:
        """`if c: ... else: ...`; a branch without statements is not written."""
        condition = self.operand(op.condition)
        origin = replace(op.origin, span=None)
        with self.nested() as then:
            self.block(op.then)
            self.moves(_moves(op.results, op.then.yields), origin)
        with self.nested() as orelse:
            self.block(op.orelse)
            self.moves(_moves(op.results, op.orelse.yields), origin)
        for result in op.results:
            self.declare(result)
        self.write_if(condition, then, orelse, op.origin)

    def write_if(
        self, condition: ast.expr, then: list[Line], orelse: list[Line], origin: Origin
    ) -> None:
        if not then and orelse:
            condition, then, orelse = negated(condition), orelse, []
        if not then:
            return
        self.text(f"if {expression_text(condition)}:", origin)
        self.lines += then
        chained = as_elif(orelse)
        if chained is not None:
            self.lines += chained
        elif orelse:
            self.text("else:", origin)
            self.lines += orelse

    # Loops.

    def for_loop(self, op: For) -> None:
        carried = op.body.params[1:]
        self.enter(op, carried)
        in_ranges = self.in_ranges(op)
        if in_ranges is not None:
            for text in in_ranges:
                indent = (len(text) - len(text.lstrip())) // 4
                self.lines.append(Line(text.lstrip(), op.origin, self.depth + indent))
            self.results(op)
            return
        bounds = [self.operand(item) for item in _bounds(op)]
        arguments = ", ".join(expression_text(bound) for bound in bounds)
        with self.nested() as lines, self.in_nest(op.vector):
            index = self.declare(op.body.params[0])
            self.trip(op, carried)
        head = f"for {index} in range({arguments}):"
        if op.apart and self.put_apart(op, [Line(head, op.origin, self.depth), *lines]):
            return
        self.text(head, op.origin, free=op.free)
        self.body(lines, op.origin)
        self.results(op)

    def while_loop(self, op: While) -> None:
        """`while c:`, or `while True:` where the condition takes statements of its own."""
        carried = op.body.params
        self.enter(op, carried)
        with self.nested() as lines:
            for param in op.condition.params:
                self.declare(param)
            self.block(op.condition)
            condition = self.operand(op.condition.yields[0])
            if lines:
                leave = ast.If(negated(condition), [ast.Break()], [])
                self.line(leave, op.origin)
                condition = ast.Constant(True)
            for param in carried:
                self.declare(param)
            self.trip(op, carried)
        self.text(f"while {expression_text(condition)}:", op.origin)
        self.body(lines, op.origin)
        self.results(op)

    def enter(self, op: For | While, carried: tuple[Value, ...]) -> None:
        moves = [
            (param, init, (op, k, True) in self.buffers.copied)
            for k, (param, init) in enumerate(zip(carried, op.inits, strict=True))
        ]
        self.moves(moves, self.origin_of_start(op))

    def origin_of_start(self, op: For | While) -> Origin:
        """Where the statements come from that give a loop its first values."""
        return replace(op.origin, span=None)

    def results(self, op: For | While) -> None:
        """After a loop its variables hold the results, whichever trip was the last."""
        for result in op.results:
            self.declare(result)

    def trip(self, op: For | While, carried: tuple[Value, ...]) -> None:
        """The body; at its end the variables get their next values and an exit leaves."""
        origin = replace(op.origin, span=None)
        yields = op.body.yields[int(op.exits) :]
        moves = [
            (param, item, (op, k, False) in self.buffers.copied)
            for k, (param, item) in enumerate(zip(carried, yields, strict=True))
        ]

        def next_values() -> None:
            self.moves(moves, origin)

        flag = op.body.yields[0] if op.exits else None
        tested_only = flag not in yields
        self.block(op.body, Exit(flag, tested_only, [next_values], op.origin))

    def end_of_trip(self, exit: Exit) -> None:
        """Assign the next values, then `if flag: break`."""
        flag = None if exit.flag is None else self.operand(exit.flag)
        before = len(self.lines)
        for make in exit.moves:
            make()
        if flag is None:
            return
        if isinstance(flag, ast.Constant):
            if flag.value:
                self.line(ast.Break(), exit.origin)
            return
        read = _names(flag)
        moves = self.lines[before:]
        if any(target in read for line in moves for target in _targets(line.text)):
            kept = self.names.fresh("done")
            del self.lines[before:]
            self.line(ast.Assign([ast.Name(kept, ast.Store())], flag, lineno=0), exit.origin)
            self.lines += moves
            flag = name(kept)
        self.line(ast.If(flag, [ast.Break()], []), exit.origin)

    def breaking(self, op: If, exit: Exit) -> bool:
        """`if c: ...; break` for a branch at the end of the body that leaves the loop.

        The other branch goes on at the level of the body, as nothing else follows a `break`.
        """
        flag = exit.flag
        if flag is None or flag not in op.results:
            return False
        k = op.results.index(flag)
        condition = self.operand(op.condition)
        leaving, staying = op.then, op.orelse
        if not _is_true(leaving.yields[k]):
            if not _is_true(staying.yields[k]):
                return False
            condition, leaving, staying = negated(condition), staying, leaving
        origin = replace(op.origin, span=None)
        with self.nested() as lines:
            self.block(leaving, self.inner_exit(op, leaving, k, exit, origin))
        self.text(f"if {expression_text(condition)}:", op.origin)
        self.lines += lines
        self.block(staying, self.inner_exit(op, staying, k, exit, origin))
        return True

    def inner_exit(self, op: If, branch: Block, k: int, exit: Exit, origin: Origin) -> Exit:
        """The end of a trip at the end of one branch: its results first, the flag apart."""
        pairs = [
            (result, item, False)
            for j, (result, item) in enumerate(zip(op.results, branch.yields, strict=True))
            if j != k or not exit.tested_only
        ]

        def results() -> None:
            self.moves(pairs, origin)

        flag = branch.yields[k]
        tested_only = exit.tested_only and branch.yields.count(flag) == 1
        return Exit(flag, tested_only, [results, *exit.moves], exit.origin)


def negated(condition: ast.expr) -> ast.expr:
    """`not c`; only equality has an opposite that is right for NaN as well."""
    match condition:
        case ast.UnaryOp(ast.Not(), inner):
            return inner
        case ast.Compare(left, [ast.Eq()], [right]):
            return ast.Compare(left, [ast.NotEq()], [right])
        case ast.Compare(left, [ast.NotEq()], [right]):
            return ast.Compare(left, [ast.Eq()], [right])
    return ast.UnaryOp(ast.Not(), condition)


def in_order(moves: list[tuple[str, ast.expr]]) -> Iterator[ast.stmt]:
    """Assignments that together have the effect of simultaneous ones: `u, v = v, u`."""
    pending = list(moves)
    while pending:
        for move in pending:
            identifier, node = move
            if all(identifier not in _names(other) for _, other in pending if other is not node):
                yield ast.Assign([ast.Name(identifier, ast.Store())], node, lineno=0)
                pending.remove(move)
                break
        else:
            targets: list[ast.expr] = [ast.Name(one, ast.Store()) for one, _ in pending]
            values = ast.Tuple([node for _, node in pending], ast.Load())
            yield ast.Assign([ast.Tuple(targets, ast.Store())], values, lineno=0)
            return


def _names(node: ast.expr) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _targets(text: str) -> set[str]:
    """The variables that an assignment sets."""
    found: set[str] = set()
    for node in ast.parse(text).body:
        if isinstance(node, ast.Assign):
            for target in node.targets:
                found |= _names(target)
    return found


def _moves(results: tuple[Value, ...], yields: tuple[Operand, ...]) -> list[Move]:
    return [(result, item, False) for result, item in zip(results, yields, strict=True)]


def _bounds(op: For) -> list[Operand]:
    """The arguments of `range` without those that are left out by hand."""
    if not _is_number(op.step, 1):
        return [op.start, op.stop, op.step]
    return [op.stop] if _is_number(op.start, 0) else [op.start, op.stop]


def _is_number(operand: Operand, number: int) -> bool:
    return isinstance(operand, Const) and operand.value == number


def _is_true(operand: Operand) -> bool:
    return isinstance(operand, Const) and operand.value is True
