"""The only place that turns syntax trees into text (by astor; `ast.unparse` is one line away).

    statement_text(node)     "grad_s3 = grad_L * (1 - L) * L"
"""

from __future__ import annotations

import ast

import astor


def _joined(source: list[str]) -> str:
    """One line per statement: the emitter has split what is too long."""
    return "".join(source)


def _plain_string(text: str, *_: object, **__: object) -> str:
    return repr(text)


def statement_text(node: ast.AST) -> str:
    """The text of one simple statement or expression, on one line."""
    text: str = astor.to_source(node, pretty_source=_joined, pretty_string=_plain_string)
    return text.strip()


def expression_text(node: ast.expr) -> str:
    """The text of an expression."""
    return statement_text(ast.Expr(node))
