"""Comprehensions are the loops that they abbreviate; their variables end with them.

    [f(v) for v in x if v > 0]          items = []
                                        for v in x:
                                            if v > 0:
                                                items.append(f(v))
"""

from __future__ import annotations

import ast
import builtins
from typing import Any

from flatgrad.errors import FlatgradError
from flatgrad.frontend.loops import LoopLowerer
from flatgrad.frontend.scopes import targets_of
from flatgrad.frontend.state import State
from flatgrad.frontend.trees import Held
from flatgrad.frontend.trips import Trips
from flatgrad.frontend.values import Poison

MOST_WRITTEN_OUT = 16
"""So many items of a known number are written out one by one."""


class ComprehensionLowerer(LoopLowerer):
    """Evaluates comprehensions and generator expressions."""

    def eval_Call(self, node: ast.Call) -> Any:
        """`sum(f(i) for i in range(n))` needs no list; other calls as always."""
        match node:
            case ast.Call(ast.Name("sum"), [ast.GeneratorExp() | ast.ListComp() as items], []):
                if self.value(node.func) is builtins.sum and self.is_loop(items):
                    found = self.summed(items)
                    if found is not None:
                        return found
        return super().eval_Call(node)

    def summed(self, node: ast.GeneratorExp | ast.ListComp) -> Any:
        """The sum of numbers in a loop; None for a static sequence, or if it is one of arrays."""
        ops, requirements = len(self.builder.block.ops), len(self.builder.requirements)
        before = State(self.roots())
        name = self.hidden_name()
        more = ast.BinOp(_name(name), ast.Add(), node.elt)
        try:
            with self.at(node.generators[0].iter):
                if not isinstance(self.trips(node.generators[0].iter), list):
                    return self.looped(node, ast.Assign([_name(name)], more), 0)
        except FlatgradError:
            pass
        before.restore()
        del self.builder.block.ops[ops:], self.builder.requirements[requirements:]
        return None

    def eval_ListComp(self, node: ast.ListComp) -> Any:
        if not self.is_loop(node):
            return super().eval_ListComp(node)
        target = ast.Attribute(_name(self.hidden_name()), "append", ast.Load())
        return self.looped(node, ast.Expr(ast.Call(target, [node.elt], [])), [])

    def eval_GeneratorExp(self, node: ast.GeneratorExp) -> Any:
        if not self.is_loop(node):
            return super().eval_GeneratorExp(node)
        target = ast.Attribute(_name(self.hidden_name()), "append", ast.Load())
        return self.looped(node, ast.Expr(ast.Call(target, [node.elt], [])), [])

    def is_loop(self, node: ast.ListComp | ast.GeneratorExp) -> bool:
        """Whether this runs over an array or a range of a length that is not known, or is long."""
        targets, parts = targets_of(node), [part.iter for part in node.generators]
        return self.runs_over(parts[0], frozenset()) or any(
            self.runs_over(part, targets) for part in parts[1:]
        )

    def runs_over(self, part: ast.expr, targets: frozenset[str]) -> bool:
        """Whether this is such an array or range, and does not depend on other targets."""
        names = [item.id for item in ast.walk(part) if isinstance(item, ast.Name)]
        if any(isinstance(self.env.get(name), Held) or name in targets for name in names):
            return False
        match part:
            case ast.Name() | ast.Attribute() | ast.Subscript():
                pass
            case ast.Call(ast.Name("range" | "enumerate" | "zip" | "reversed")):
                pass
            case _:
                return False
        ops, requirements = len(self.builder.block.ops), len(self.builder.requirements)
        before = State(self.roots())
        self.watched = []
        try:
            found = self.trips(part)
        except FlatgradError:
            return False
        finally:
            before.restore()
            del self.builder.block.ops[ops:], self.builder.requirements[requirements:]
        if not isinstance(found, Trips):
            return False
        return found.static is None or len(found.static) > MOST_WRITTEN_OUT

    def hidden_name(self) -> str:
        """The variable that a comprehension fills, named after the statement that it is part of."""
        name = f"<{self.builder.part or 'items'}>"
        while name in self.env:
            name = f"<{name}>"
        return name

    def looped(self, node: Any, innermost: ast.stmt, made: Any) -> Any:
        """Run the loops with the innermost statement; what was made."""
        name, statement = self.hidden_name(), innermost
        for part in reversed(node.generators):
            if part.is_async:
                raise self.refuse(node, "unsupported-expression", "an asynchronous comprehension")
            for test in reversed(part.ifs):
                statement = ast.If(test, [statement], [])
            statement = ast.For(part.target, part.iter, [statement], [])
        for item in ast.walk(statement):
            if not hasattr(item, "lineno"):
                ast.copy_location(item, node)
        inner = type(self)(self.source, self.shared, self, targets_of(node) | {name})
        inner.env[name] = made
        assert isinstance(statement, ast.For)
        with self.visiting(inner, deeper=False):
            inner.exec_For(statement)
        made = inner.env[name]
        if isinstance(made, Poison):
            raise self.refuse(node, made.code, made.message, made.help)
        return made


def _name(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())
