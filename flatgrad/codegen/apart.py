"""A loop as a function of its own: what it reads comes in, the numbers that it adds up go out.

    total = 0.0                                        def over_strips(n, x, y, total):
    for start in range(0, n, 64):         ->               for start in range(0, n, 64):
        ...                                                    ...
                                                           return total

                                                       total = 0.0
                                                       total = over_strips(n, x, y, total)

The function checks no index, and no two of its arrays share memory (`transform/strips_apart.py`).
Numba is told so by the line `ROLE`, see `backends/numba_compiler.py`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass

from flatgrad.codegen.lines import Line

ROLE = "many trips at a time; the arrays that are written share no memory with others"
"""What stands in such a function."""
INDENT = "    "


@dataclass(frozen=True, slots=True)
class Apart:
    """A function: its parameters and the lines of its body."""

    name: str
    params: list[str]
    lines: list[Line]


def read_first(lines: Iterable[Line]) -> list[str]:
    """The variables that statements may read before they have set them, in this order."""
    text = [INDENT * line.depth + line.text for line in lines]
    names = _Names()
    names.statements(ast.parse("if True:\n" + "\n".join(text)).body[0].body)  # type: ignore[attr-defined]
    return list(names.read)


def set_by(lines: Iterable[Line]) -> set[str]:
    """The variables that statements set; not those of which an element is set."""
    text = [INDENT * line.depth + line.text for line in lines]
    tree = ast.parse("if True:\n" + "\n".join(text))
    stored = (node for node in ast.walk(tree) if isinstance(node, ast.Name))
    return {node.id for node in stored if isinstance(node.ctx, ast.Store)}


class _Names:
    """A walk over statements in their order; `known` are set whatever happens."""

    def __init__(self) -> None:
        self.read: dict[str, None] = {}
        self.known: set[str] = set()

    def statements(self, body: list[ast.stmt]) -> None:
        for node in body:
            if isinstance(node, ast.For):
                self.expression(node.iter)
                self.inside(node.body, node.target)
            elif isinstance(node, ast.If):
                self.expression(node.test)
                self.inside(node.body)
                self.inside(node.orelse)
            elif isinstance(node, ast.Assign):
                self.expression(node.value)
                for target in node.targets:
                    self.target(target)
            elif isinstance(node, ast.AugAssign):
                self.expression(node.value)
                for part in ast.walk(node.target):
                    if isinstance(part, ast.Name):
                        self.reads(part.id)
                self.target(node.target)
            else:
                self.expression(node)

    def inside(self, body: list[ast.stmt], *targets: ast.expr) -> None:
        """What is set in a loop or branch may not be set after it."""
        saved = set(self.known)
        for target in targets:
            self.target(target)
        self.statements(body)
        self.known = saved

    def target(self, node: ast.expr) -> None:
        self.expression(node)
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                self.known.add(part.id)

    def expression(self, node: ast.AST) -> None:
        for part in ast.walk(node):
            if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
                self.reads(part.id)

    def reads(self, identifier: str) -> None:
        if identifier not in self.known:
            self.read[identifier] = None
