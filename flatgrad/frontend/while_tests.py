"""Assignments in the condition of a `while`: the test moves into the loop.

    while (step := g(x)) > eps:              while True:
        x = x - step                 ->          if (step := g(x)) > eps: pass
    else:                                        else:
        y = x                                        y = x
                                                     break
                                                 x = x - step

A condition has a block of its own, in which nothing can be assigned.
"""

from __future__ import annotations

import ast


def with_tests_inside(node: ast.AST) -> None:
    """Move the conditions that assign, of all loops in `node`, into these loops."""
    for part in ast.walk(node):
        if isinstance(part, ast.While) and _assigns(part.test) and not _leaves(part.orelse):
            leave = ast.Break()
            inside = ast.If(part.test, [ast.Pass()], [*part.orelse, leave])
            for made in (inside, inside.body[0], leave):
                ast.copy_location(made, part.test)
            always = ast.copy_location(ast.Constant(True), part.test)
            part.test, part.body, part.orelse = always, [inside, *part.body], []


def _assigns(test: ast.expr) -> bool:
    """Whether there is a `:=` in a condition."""
    return any(isinstance(part, ast.NamedExpr) for part in ast.walk(test))


def _leaves(body: list[ast.stmt]) -> bool:
    """Whether a `break` or `continue` in an `else` belongs to the loop around."""
    return any(
        isinstance(part, ast.Break | ast.Continue) for line in body for part in ast.walk(line)
    )
