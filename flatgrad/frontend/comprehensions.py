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
from flatgrad.frontend.state import State
from flatgrad.frontend.values import Poison

MISSING = object()


class ComprehensionLowerer(LoopLowerer):
    """Evaluates comprehensions and generator expressions."""

    def eval_Call(self, node: ast.Call) -> Any:
        """`sum(f(i) for i in range(n))` needs no list; other calls as always."""
        match node:
            case ast.Call(ast.Name("sum"), [ast.GeneratorExp() | ast.ListComp() as items], []):
                if self.value(node.func) is builtins.sum:
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
                    return self.comprehended(node, ast.Assign([_name(name)], more), 0)
        except FlatgradError:
            pass
        before.restore()
        del self.builder.block.ops[ops:], self.builder.requirements[requirements:]
        return None

    def eval_ListComp(self, node: ast.ListComp) -> Any:
        target = ast.Attribute(_name(self.hidden_name()), "append", ast.Load())
        return self.comprehended(node, ast.Expr(ast.Call(target, [node.elt], [])), [])

    def eval_GeneratorExp(self, node: ast.GeneratorExp) -> Any:
        target = ast.Attribute(_name(self.hidden_name()), "append", ast.Load())
        return self.comprehended(node, ast.Expr(ast.Call(target, [node.elt], [])), [])

    def eval_DictComp(self, node: ast.DictComp) -> Any:
        place = ast.Subscript(_name(self.hidden_name()), node.key, ast.Store())
        return self.comprehended(node, ast.Assign([place], node.value), {})

    def hidden_name(self) -> str:
        """The variable that a comprehension fills, named after the statement that it is part of."""
        name = f"<{self.builder.part or 'items'}>"
        while name in self.env:
            name = f"<{name}>"
        return name

    def comprehended(self, node: Any, innermost: ast.stmt, made: Any) -> Any:
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
        targets = {
            item.id
            for part in node.generators
            for item in ast.walk(part.target)
            if isinstance(item, ast.Name)
        }
        saved = {key: self.env.get(key, MISSING) for key in targets}
        self.env[name] = made
        assert isinstance(statement, ast.For)
        self.exec_For(statement)
        made = self.env.pop(name)
        if isinstance(made, Poison):
            raise self.refuse(node, made.code, made.message, made.help)
        for key, value in saved.items():
            if value is MISSING:
                self.env.pop(key, None)
            else:
                self.env[key] = value
        return made


def _name(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())
