"""Finds the source of a function and parses it.

    source = read_source(f)
    source.node            # the ast of `def f` or of the lambda
    source.span(node)      # where a node stands in the user's file
    source.comments        # {line: "# the hidden layer"}

What is found is compiled and compared with the code that runs: a text that has changed since, or
that belongs to another function, is never taken.
"""

from __future__ import annotations

import ast
import copy
import inspect
import io
import itertools
import linecache
import textwrap
import tokenize
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from flatgrad.errors import Span, error
from flatgrad.frontend.adapted import adapted
from flatgrad.frontend.while_tests import with_tests_inside
from flatgrad.hooks import custom_vjp

FunctionNode = ast.FunctionDef | ast.Lambda

_FUTURE = 0x1FF0000
"""The bits of `co_flags` that stand for `from __future__` imports."""


@dataclass(slots=True, eq=False)
class Source:
    """The text of one function; the ast's lines count from 1 at `first_line` of the file."""

    function: types.FunctionType
    node: FunctionNode
    file: str
    first_line: int
    lines: list[str]
    comments: dict[int, str] = field(default_factory=dict)

    @property
    def text(self) -> str:
        """The lines, without common indentation."""
        return textwrap.dedent("".join(self.lines))

    def span(self, node: ast.AST) -> Span:
        """Where `node` stands in the user's file."""
        line = getattr(node, "lineno", 1)
        end_line = getattr(node, "end_lineno", None) or line
        text, last = self._line(line), self._line(end_line)
        return Span(
            file=self.file,
            line=self.first_line + line - 1,
            column=_characters(text, getattr(node, "col_offset", 0)),
            end_line=self.first_line + end_line - 1,
            end_column=_characters(last, getattr(node, "end_col_offset", 0) or 0),
            text=text,
        )

    def _line(self, number: int) -> str:
        return self.lines[number - 1].rstrip("\n") if 0 < number <= len(self.lines) else ""

    def segment(self, node: ast.AST) -> str:
        """The text of an expression, as the user wrote it."""
        line, end = getattr(node, "lineno", 0) - 1, (getattr(node, "end_lineno", 0) or 0) - 1
        if not 0 <= line <= end < len(self.lines):
            return ast.unparse(node)
        first, last = node.col_offset, node.end_col_offset  # type: ignore[attr-defined]
        rows = [row.encode() for row in self.lines[line : end + 1]]
        rows[-1] = rows[-1][:last]
        rows[0] = rows[0][first:]
        return b"".join(rows).decode(errors="replace")


def _characters(text: str, offset: int) -> int:
    """A character column from ast's byte offset."""
    return len(text.encode()[:offset].decode(errors="ignore"))


def unwrap(function: Any) -> types.FunctionType:
    """The plain function behind a Numba dispatcher, one that calls a method, or the function.

    Raises
    ------
    UnsupportedError
        If no plain function is behind it.
    """
    derived = getattr(function, "__flatgrad__", None)
    if derived is not None and getattr(derived, "wrapper", function) is function:
        raise error(
            "unsupported-call",
            f"the derivative of the derived function `{function.__name__}` is not supported",
            help="differentiate the gradient, or the function itself, `.primal`",
        )
    # What a decorator adds would be lost by following `__wrapped__`, or a `py_func` that
    # `functools.wraps` copied: a plain function stands for itself.
    if isinstance(function, types.FunctionType):
        return function
    plain = getattr(function, "py_func", None)
    if isinstance(plain, types.FunctionType):
        return plain
    name = getattr(function, "__name__", type(function).__name__)
    if isinstance(function, custom_vjp):
        raise error(
            "unsupported-function-kind",
            f"`{name}` is a `custom_vjp`, which has a rule in place of a derivative",
            help=f"differentiate a function that calls it: `lambda x: {name}(x)`",
        )
    made = adapted(function)
    if made is not None:
        return made
    raise error(
        "unsupported-function-kind",
        f"`{name}` is no Python function whose source can be read",
        help=f"pass a function that calls it: `lambda x: {name}(x)`",
    )


def signature_of(function: types.FunctionType) -> inspect.Signature:
    """The function's own parameters: those of its code, whatever decorators say.

    Raises
    ------
    UnsupportedError
        If `__signature__` was set to something else.
    """
    found = inspect.signature(function, follow_wrapped=False)
    code = function.__code__
    count = code.co_argcount + code.co_kwonlyargcount
    stars = sum(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in found.parameters.values())
    if set(found.parameters) != set(code.co_varnames[: count + stars]):
        raise error(
            "unsupported-function-kind",
            f"the parameters of `{function.__name__}` are not those of its code",
            help="remove its `__signature__`",
        )
    return found


def named_signature(plain: types.FunctionType) -> inspect.Signature:
    """The signature of a function whose parameters all have names.

    Raises
    ------
    UnsupportedError
        If it takes `*args` or `**kwargs`.
    """
    signature = signature_of(plain)
    for param in signature.parameters.values():
        if param.kind in (param.VAR_POSITIONAL, param.VAR_KEYWORD):
            raise error(
                "unsupported-argument",
                f"`{plain.__name__}` takes `{param}`: its parameters are not known",
                help="name every parameter, or those of a call: "
                f"`lambda a, b: {plain.__name__}(a, b)`",
            )
    return signature


_sources: dict[tuple[str, types.CodeType], Source] = {}


def read_source(function: Callable[..., Any]) -> Source:
    """Find, check and parse the source of a function.

    Raises
    ------
    SourceError
        If the text cannot be found, or is not that of the code that runs.
    UnsupportedError
        For generators, coroutines and other things that are no plain functions.
    """
    plain = unwrap(function)
    key = plain.__code__.co_filename, plain.__code__
    if key not in _sources:
        _sources[key] = _read(plain)
    found = _sources[key]
    if found.function is not plain:
        found = Source(
            plain, found.node, found.file, found.first_line, found.lines, found.comments
        )
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
    whole = linecache.getlines(code.co_filename, function.__globals__)
    if not whole:
        raise error(
            "no-source",
            f"the source of `{name}` cannot be found ({code.co_filename})",
            help="define it in a file or a notebook cell, not with exec or at a bare prompt",
        )
    first_line = code.co_firstlineno
    found = _match(_block(whole[first_line - 1 :]), first_line, function)
    found = found or _match(whole, 1, function)
    if found is None:
        raise error(
            "changed-source",
            f"the text of `{name}` in {code.co_filename} is not that of the code that runs",
            help="import the module again, or restart: the file was edited after it was loaded",
        )
    return found


def _block(lines: list[str]) -> list[str]:
    """The lines before one that is indented no more than the first, as many as parse together.

    A guess that need not be right: what is not the function's own text does not match its code.
    """
    head = _indent(lines[0]) if lines else 0
    ends = [k for k, line in enumerate(lines) if k and line.strip() and _indent(line) <= head]
    return next((lines[:end] for end in ends if _parse(lines[:end]) is not None), lines)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _match(lines: list[str], first_line: int, function: types.FunctionType) -> Source | None:
    """The function's source in these lines of its file."""
    try:
        tree = _parse(lines)
    except (RecursionError, MemoryError):
        raise _too_deep(function) from None
    if tree is None:
        return None
    code = function.__code__
    wanted = ast.Lambda if code.co_name == "<lambda>" else ast.FunctionDef
    nodes = [
        node
        for node in ast.walk(tree)
        if isinstance(node, wanted) and getattr(node, "name", "<lambda>") == code.co_name
    ]
    # Functions of the same code on other lines mean the same; the nearest has the right line.
    nodes.sort(key=lambda node: abs(first_line + _first_line(node) - 1 - code.co_firstlineno))
    node = next((node for node in nodes if _same_code(node, function)), None)
    if node is None:
        return None
    start = _first_line(node)
    lines = lines[start - 1 : node.end_lineno]
    ast.increment_lineno(node, 1 - start)
    first_line += start - 1
    file = code.co_filename
    with_tests_inside(node)
    return Source(function, node, file, first_line, lines, _comments(lines, first_line))


def _too_deep(function: types.FunctionType) -> Exception:
    return error(
        "too-deep",
        f"`{function.__name__}` is nested too deeply",
        help="split long expressions into statements",
    )


def _first_line(node: FunctionNode) -> int:
    """The line of a function's first decorator, or of the function."""
    decorators = getattr(node, "decorator_list", [])
    return decorators[0].lineno if decorators else node.lineno


def _parse(lines: list[str]) -> ast.AST | None:
    """Parse lines that may be indented; columns and lines are those of the text."""
    text = "".join(lines)
    indented = text[:1] in (" ", "\t")
    try:
        tree = ast.parse("if 1:\n" + text if indented else text)
    except (SyntaxError, ValueError):
        return None
    return ast.increment_lineno(tree, -1) if indented else tree


def _same_code(node: FunctionNode, function: types.FunctionType) -> bool:
    """Whether `node` compiles to the code of `function`."""
    code = function.__code__
    bare = copy.copy(node)
    bare.args = _without_defaults(node.args)
    if isinstance(bare, ast.FunctionDef):
        bare.decorator_list, bare.returns = [], None
        if hasattr(bare, "type_params"):
            bare.type_params = []
    body: ast.stmt = bare if isinstance(bare, ast.FunctionDef) else ast.Expr(bare)
    mangled = [n for n in (*code.co_names, *code.co_varnames) if n.startswith("_") and "__" in n]
    parts = [part for part in code.co_qualname.split(".")[:-1] if part != "<locals>"]
    if parts and (mangled or "__class__" in code.co_freevars):
        body = ast.ClassDef(parts[-1], [], [], [body], [], **_no_type_params())
    outer = ast.parse("def outer(): pass").body[0]
    assert isinstance(outer, ast.FunctionDef)
    outer.args.args = [ast.arg(name) for name in code.co_freevars if name != "__class__"]
    made = {part.name for part in (bare, body) if hasattr(part, "name")} - {*code.co_freevars}
    # What `outer` defines would be its local: the function itself reads these names as globals.
    outer.body = [ast.Global(sorted(made)), body] if made else [body]
    depth = 3 if isinstance(body, ast.ClassDef) else 2
    return any(
        _alike(compiled, code)
        for names in _imported(function)
        if (compiled := _compiled(outer, names, depth, function)) is not None
    )


def _imported(function: types.FunctionType) -> Iterator[tuple[str, ...]]:
    """Which modules the compiled text may have imported: all that the function names, or fewer.

    A method call on a name that is imported in the same text compiles to other instructions; in a
    notebook, the import may stand in another cell.
    """
    space = function.__globals__
    every = dict.fromkeys(_names(function.__code__))
    names = [name for name in every if isinstance(space.get(name), types.ModuleType)]
    for count in range(len(names), -1, -1):
        if len(names) <= 4 or count in (0, len(names)):
            yield from itertools.combinations(names, count)


def _names(code: types.CodeType) -> Iterator[str]:
    """The global names that a function and the functions inside it may read."""
    yield from code.co_names
    for item in code.co_consts:
        if isinstance(item, types.CodeType):
            yield from _names(item)


def _compiled(
    outer: ast.FunctionDef, names: tuple[str, ...], depth: int, function: types.FunctionType
) -> types.CodeType | None:
    """The code inside of `outer`, in a module that imports `names`; None if it does not compile."""
    imports: list[ast.stmt] = [ast.Import([ast.alias(n) for n in names])] if names else []
    module = ast.fix_missing_locations(ast.Module([*imports, outer], []))
    flags = function.__code__.co_flags & _FUTURE
    try:
        found = compile(module, "<check>", "exec", flags, dont_inherit=True)
    except (SyntaxError, ValueError):
        return None
    except (RecursionError, MemoryError):
        raise _too_deep(function) from None
    for _ in range(depth):
        found = next(item for item in found.co_consts if isinstance(item, types.CodeType))
    return found


def _no_type_params() -> dict[str, Any]:
    return {"type_params": []} if hasattr(ast, "TypeVar") else {}


def _without_defaults(args: ast.arguments) -> ast.arguments:
    """Parameters without annotations and with `None` for defaults: only the code matters."""

    def plain(arg: ast.arg | None) -> ast.arg | None:
        return None if arg is None else ast.arg(arg.arg)

    return ast.arguments(
        posonlyargs=[ast.arg(arg.arg) for arg in args.posonlyargs],
        args=[ast.arg(arg.arg) for arg in args.args],
        vararg=plain(args.vararg),
        kwonlyargs=[ast.arg(arg.arg) for arg in args.kwonlyargs],
        kw_defaults=[None if d is None else ast.Constant(None) for d in args.kw_defaults],
        kwarg=plain(args.kwarg),
        defaults=[ast.Constant(None) for _ in args.defaults],
    )


def _alike(one: types.CodeType, other: types.CodeType) -> bool:
    """Whether two code objects do the same."""
    if "@pytest_ar" in other.co_names:  # pytest rewrote the asserts inside: compare what is left
        count = one.co_argcount + one.co_kwonlyargcount
        return one.co_varnames[:count] == other.co_varnames[:count] and set(one.co_names) - {
            "AssertionError"
        } <= set(other.co_names)
    return _facts(one) == _facts(other)


def _facts(code: types.CodeType) -> tuple[Any, ...]:
    return (
        code.co_code, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars,
        code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount,
        code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS),
        tuple(_constant(item) for item in code.co_consts),
    )  # fmt: skip


def _constant(value: Any) -> Any:
    """A constant of a code object as a key that tells 1, 1.0, True and -0.0 apart."""
    match value:
        case types.CodeType():
            return _facts(value)
        case tuple():
            return tuple([_constant(item) for item in value])
        case frozenset():
            return frozenset(_constant(item) for item in value)
        case str():  # the qualified name of a class inside starts with that of the function
            return str, value.rsplit("<locals>.")[-1]
    return type(value), repr(value)


def _comments(lines: list[str], first_line: int) -> dict[int, str]:
    """Comments by the line of the user's file on which they stand."""
    found: dict[int, str] = {}
    text = textwrap.dedent("".join(lines))
    if "#" not in text:
        return found
    try:
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            if token.type == tokenize.COMMENT:
                found[first_line + token.start[0] - 1] = token.string
    except (tokenize.TokenError, IndentationError):
        return {}
    return found
