"""Finds the source of a function and parses it.

    source = read_source(f)
    source.node            # the ast of `def f` or of the lambda
    source.span(node)      # where a node stands in the user's file
    source.comments        # {line: "# the hidden layer"}
"""

from __future__ import annotations

import ast
import inspect
import io
import linecache
import textwrap
import tokenize
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from flatgrad.errors import Span, error

FunctionNode = ast.FunctionDef | ast.Lambda


@dataclass(slots=True, eq=False)
class Source:
    """The text of one function: its ast, and how the ast's lines map to the user's file."""

    function: types.FunctionType
    node: FunctionNode
    file: str
    first_line: int
    indent: int
    lines: list[str]
    comments: dict[int, str] = field(default_factory=dict)

    def span(self, node: ast.AST) -> Span:
        """Where `node` stands in the user's file."""
        line = getattr(node, "lineno", 1)
        end_line = getattr(node, "end_lineno", None) or line
        text = self.lines[line - 1].rstrip("\n") if line <= len(self.lines) else ""
        return Span(
            file=self.file,
            line=self.first_line + line - 1,
            column=_characters(text, getattr(node, "col_offset", 0), self.indent),
            end_line=self.first_line + end_line - 1,
            end_column=_characters(text, getattr(node, "end_col_offset", 0) or 0, self.indent),
            text=" " * self.indent + text,
        )

    def segment(self, node: ast.AST) -> str:
        """The text of an expression, as the user wrote it."""
        return ast.get_source_segment("".join(self.lines), node) or ast.unparse(node)


def _characters(text: str, offset: int, indent: int) -> int:
    """A character column from ast's byte offset."""
    return len(text.encode()[:offset].decode(errors="ignore")) + indent


def unwrap(function: Any) -> types.FunctionType:
    """The plain Python function behind a Numba dispatcher, or the function itself.

    Raises
    ------
    UnsupportedError
        If no plain function is behind it.
    """
    if hasattr(function, "__flatgrad__"):
        raise error(
            "unsupported-call",
            f"the derivative of the derived function `{function.__name__}` is not supported",
            help="differentiate the function itself, `.primal`",
        )
    # A decorator's `__wrapped__` is not followed: what the decorator adds would be lost.
    plain = getattr(function, "py_func", function)
    if isinstance(plain, types.FunctionType):
        return plain
    name = getattr(function, "__name__", type(function).__name__)
    raise error(
        "unsupported-function-kind",
        f"`{name}` is no Python function whose source can be read",
        help="pass a function written with `def` or an unambiguous lambda",
    )


_sources: dict[types.CodeType, Source] = {}


def read_source(function: Callable[..., Any]) -> Source:
    """Find, check and parse the source of a function.

    Raises
    ------
    SourceError
        If the text cannot be found, or several lambdas stand where this one does.
    UnsupportedError
        For generators, coroutines and other things that are no plain functions.
    """
    plain = unwrap(function)
    code = plain.__code__
    if code not in _sources:
        _sources[code] = _read(plain)
    found = _sources[code]
    if found.function is not plain:
        found = Source(
            plain, found.node, found.file, found.first_line, found.indent, found.lines,
            found.comments,
        )  # fmt: skip
    return found


def _read(function: types.FunctionType) -> Source:
    name, code = function.__name__, function.__code__
    forbidden = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR
    if code.co_flags & forbidden:
        raise error(
            "unsupported-function-kind",
            f"`{name}` is a generator or coroutine",
            help="write a plain function that returns its value",
        )
    linecache.checkcache(code.co_filename)
    try:
        lines, first_line = inspect.getsourcelines(code)
    except (OSError, TypeError):
        raise error(
            "no-source",
            f"the source of `{name}` cannot be found ({code.co_filename})",
            help="define the function in a file or a notebook cell, not with exec or at a bare prompt",
        ) from None
    text = textwrap.dedent("".join(lines))
    indent = len(lines[0]) - len(lines[0].lstrip(" "))
    node = _find(text, function, indent)
    source = Source(
        function, node, code.co_filename, max(first_line, 1), indent, text.splitlines(True)
    )
    source.comments = _comments(text, source.first_line)
    return source


def _find(text: str, function: types.FunctionType, indent: int) -> FunctionNode:
    """The node of `function` in its source lines."""
    tree = _parse(text, function)
    if function.__name__ != "<lambda>":
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and node.name == function.__name__:
                return node
    lambdas = [node for node in ast.walk(tree) if isinstance(node, ast.Lambda)]
    alike = [node for node in lambdas if _same_lambda(node, function)]
    if len(alike) == 1:
        return alike[0]
    raise error(
        "ambiguous-lambda" if alike else "no-source",
        f"{len(alike)} lambdas on this line could be meant",
        help="put each lambda on a line of its own, or write a `def`",
    )


def _parse(text: str, function: types.FunctionType) -> ast.AST:
    """Parse, or for a lambda inside a broken-off statement the longest part that parses."""
    try:
        return ast.parse(text)
    except SyntaxError:
        start = text.find("lambda")
        for end in range(len(text), max(start, 0), -1) if start >= 0 else ():
            try:
                return ast.parse(text[start:end].strip(), mode="eval")
            except SyntaxError:
                continue
    raise error("no-source", f"the source of `{function.__name__}` does not parse by itself")


def _same_lambda(node: ast.Lambda, function: types.FunctionType) -> bool:
    """Whether a lambda compiles to the code of `function`."""
    wrapper = ast.Expression(body=node)
    try:
        compiled = compile(ast.fix_missing_locations(wrapper), "<lambda>", "eval")
    except (SyntaxError, ValueError):
        return False
    inner = next(c for c in compiled.co_consts if isinstance(c, types.CodeType))
    mine = function.__code__
    names = (*mine.co_names, *mine.co_freevars)
    return (
        inner.co_varnames == mine.co_varnames
        and set(inner.co_names) == set(names)
        and _constants(inner) == _constants(mine)
        and (mine.co_freevars != () or inner.co_code == mine.co_code)
    )


def _constants(code: types.CodeType) -> list[str]:
    return [repr(c) for c in code.co_consts if not isinstance(c, types.CodeType)]


def _comments(text: str, first_line: int) -> dict[int, str]:
    """Comments by the line of the user's file on which they stand."""
    found = {}
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                found[first_line + token.start[0] - 1] = token.string
    except (tokenize.TokenError, IndentationError):
        return {}
    return found
