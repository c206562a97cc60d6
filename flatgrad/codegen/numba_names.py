"""Names that Numba can tell apart where it numbers the versions of a variable by itself.

    s = s + 1.0                    s = s + 1.0
    y = s * s_1 + x       ->       y = s * s_1_ + x

The versions of `s` are `s.1`, `s.2` to Numba, and in an expression on arrays it writes `s_1` for
`s.1`: beside a variable `s_1` that ends in an error of its own.
"""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

from flatgrad.codegen.lines import Line

WORD = re.compile(r"[^\W\d]\w*")
NUMBERED = re.compile(r"(\w+?)_(\d+)")


def told_apart(lines: Sequence[Line], params: Iterable[str]) -> list[Line]:
    """The lines, with another name for each variable that could be taken for a version of one."""
    fixed = set(params)
    counts: Counter[str] = Counter(fixed)
    together: list[set[str]] = []
    known: set[str] = set()
    for line in lines:
        known.update(WORD.findall(line.text))
        statement = _statement(line.text)
        if isinstance(statement, ast.Assign | ast.AugAssign):
            counts.update(_stored(statement))
            together.append(set(_operands(statement.value)))
    renamed: dict[str, str] = {}
    for names in together:
        for name in sorted(names - fixed - set(renamed)):
            if any(base in names and counts[base] > 1 for base in _bases(name)):
                renamed[name] = _free(f"{name}_", known)
    if not renamed:
        return list(lines)
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, renamed))})\b")
    return [replace(line, text=pattern.sub(lambda m: renamed[m[1]], line.text)) for line in lines]


def _statement(text: str) -> ast.stmt | None:
    """A line as a statement, if it is a whole one."""
    try:
        (statement,) = ast.parse(text).body
    except (SyntaxError, ValueError):
        return None
    return statement


def _stored(statement: ast.Assign | ast.AugAssign) -> Iterator[str]:
    """The variables that a statement assigns."""
    targets = statement.targets if isinstance(statement, ast.Assign) else [statement.target]
    for target in targets:
        for part in target.elts if isinstance(target, ast.Tuple) else [target]:
            if isinstance(part, ast.Name):
                yield part.id


def _operands(node: ast.AST) -> Iterator[str]:
    """The variables that are operands of an expression; an item `x[i]` is a value of its own."""
    match node:
        case ast.Name():
            yield node.id
        case ast.Subscript() | ast.Attribute():
            return
        case ast.Call(ast.Attribute(), args):  # of NumPy; those of the module stand for themselves
            for arg in args:
                yield from _operands(arg)
        case ast.Call():
            return
        case _:
            for part in ast.iter_child_nodes(node):
                yield from _operands(part)


def _bases(name: str) -> Iterator[str]:
    """The variables of which `name` could be a version: `s_1` and `s` for `s_1_2`."""
    while (match := NUMBERED.fullmatch(name)) is not None:
        name = name[: match.start(2) - 1]
        yield name


def _free(name: str, known: set[str]) -> str:
    while name in known:
        name += "_"
    known.add(name)
    return name
