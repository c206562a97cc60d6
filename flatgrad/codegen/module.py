"""A module of its own for each compiled function: imports, helpers, the function.

    import numpy as np

    def sigmoid(x): ...

    def f_grad(w0, x0, w1, x1, w2):
        # forward
        ...
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from flatgrad.codegen.emit import Dialect, Emitted, emit
from flatgrad.codegen.lines import Line
from flatgrad.ir.ops import Apply, Block, Function, Origin, blocks_of

INDENT = "    "


@dataclass(slots=True)
class Module:
    """The text of a generated module and where each of its lines comes from.

    `objects` are functions of the user's that the text calls by name, `statements` the lines of
    the function, each after its sweep.
    """

    name: str
    text: str
    function_text: str
    lines: dict[int, Origin] = field(default_factory=dict)
    statements: list[tuple[str, str]] = field(default_factory=list)
    objects: dict[str, Any] = field(default_factory=dict)


def build_module(
    fn: Function,
    name: str,
    dialect: Dialect,
    comments: dict[int, str] | None = None,
) -> Module:
    """Write `fn` as the module of a function called `name`."""
    emitted = emit(fn, dialect, frozenset({name, *_called(fn.body)}))
    body = _with_comments(emitted, comments or {})
    head = [f"def {name}({', '.join(emitted.params)}):"]
    if dialect.main_decorator:
        head.insert(0, dialect.main_decorator)
    text_body = "\n".join(INDENT * line.depth + line.text for line in body)
    function_text = "\n".join(head) + "\n" + text_body + "\n"
    helpers = [
        (f"{dialect.decorator}\n" if dialect.decorator else "") + text.strip() + "\n"
        for text in dialect.helpers.values()
    ]
    imports = _imports("\n".join([*helpers, function_text]))
    text = "\n\n".join([part for part in (imports, *helpers, function_text) if part])
    first = text.count("\n") - function_text.count("\n") + len(head) + 1
    origins = {first + k: line.origin for k, line in enumerate(body) if line.origin is not None}
    return Module(name, text, function_text, origins, _statements(body), dialect.objects)


def _called(block: Block) -> set[str]:
    """The names of functions that the module defines or gets: no variable may have them."""
    found = set()
    for op in block.ops:
        if isinstance(op, Apply) and (op.primitive.helper or op.primitive.opaque):
            found.add(op.primitive.text)
        for inner in blocks_of(op):
            found |= _called(inner)
    return found


def _imports(text: str) -> str:
    """The imports that the text needs."""
    lines = []
    if "math." in text:
        lines.append("import math\n")
    if "numba." in text:
        lines.append("import numba")
    if "np." in text:
        lines.append("import numpy as np")
    return "\n".join(lines) + "\n" if lines else ""


def _with_comments(emitted: Emitted, comments: dict[int, str]) -> list[Line]:
    """The user's comments stay with the lines they stand at or above."""
    left = dict(comments)
    result: list[Line] = []
    for line in emitted.lines:
        span = line.origin.span if line.origin and line.origin.sweep == "forward" else None
        if span is not None:
            for above in sorted(k for k in left if span.line - 8 <= k < span.line):
                result.append(Line(left.pop(above), None, line.depth))
            trailing = left.pop(span.line, None)
            if trailing:
                line = Line(f"{line.text}  {trailing}", line.origin, line.depth)
        result.append(line)
    return result


def _statements(lines: list[Line]) -> list[tuple[str, str]]:
    """The statements with the sweep that each belongs to."""
    return [
        (line.origin.sweep, INDENT * (line.depth - 1) + line.text)
        for line in lines
        if line.origin is not None
    ]
