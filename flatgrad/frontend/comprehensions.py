"""Comprehensions are the loops that they abbreviate; their variables end with them.

    [f(v) for v in x if v > 0]          items = []
                                        for v in x:
                                            if v > 0:
                                                items.append(f(v))
"""

from __future__ import annotations

import ast
from typing import Any

from flatgrad.frontend.loops import LoopLowerer

MISSING = object()


class ComprehensionLowerer(LoopLowerer):
    """Evaluates comprehensions and generator expressions."""

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
        for key, value in saved.items():
            if value is MISSING:
                self.env.pop(key, None)
            else:
                self.env[key] = value
        return made


def _name(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())
