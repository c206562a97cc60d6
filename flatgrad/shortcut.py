"""The code that runs for numbers, written into the function that users call.

    def f(w, x, *, out=None):
        if w.__class__ is x.__class__ is class_0_1_ and out is None:
            ...                              # what `run` does for arguments of these classes
            try:
                return emitted_1_(w, x)
            except Exception_1_ as caught_1_:
                ...
        ...                                  # the way for all other arguments

A gradient of numbers takes less time than a call of one Python function by another and a look into
a dictionary. So the body of the first `run` that is told by classes alone gets there, under names
that none of the parameters has. When what is compiled in has changed, it is taken out again.
"""

from __future__ import annotations

import ast
import builtins
import textwrap
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from flatgrad.fast_path import local

MOST = 8
"""How often a shortcut is made: the names of each stay, for threads that may still be in it."""


def counter() -> Iterator[int]:
    """Numbers for the shortcuts of one function, each given once, also to several threads."""
    return iter(range(MOST))


@dataclass(slots=True)
class Shortcut:
    """The public function of one derivative, its text without the shortcut, and its parameters.

    `own` ends the names that are no parameters. `condition` holds in ordinary calls.
    """

    public: types.FunctionType
    head: str
    rest: str
    names: list[str]
    own: str
    condition: str
    code: types.CodeType
    numbers: Iterator[int] = field(default_factory=counter)
    is_open: bool = False

    def open(self, classes: tuple[type, ...], run: Any) -> None:
        """Let calls with arguments of these classes do at once what `run` does."""
        number = None if self.is_open or not self.names else next(self.numbers, None)
        if number is None:
            return
        self.is_open = True
        ending = f"_{number}{self.own}"
        space, lines = self.public.__globals__, [self.head]
        lines.append(f"    if {_same_classes(self.names, classes, ending, space)}{self.condition}:")
        body, used = renamed(run.text, self.names, ending)
        known = vars(builtins) | run.__globals__
        space.update({f"{name}{ending}": known[name] for name in used if name in known})
        lines += [textwrap.indent(body, " " * 8), self.rest]
        text = "\n".join(lines)
        made: dict[str, Any] = {}
        exec(compile(text, self.code.co_filename, "exec", dont_inherit=True), space, made)
        self.public.__code__ = made["caller"].__code__

    def close(self) -> None:
        """Let all calls take the way that finds out what to run."""
        self.public.__code__ = self.code
        self.is_open = False


def _same_classes(
    names: list[str], classes: tuple[type, ...], ending: str, space: dict[str, Any]
) -> str:
    """The test that arguments are of these classes: one chain for each class."""
    tests = []
    for k, kind in enumerate(dict.fromkeys(classes)):
        space[f"class_{k}{ending}"] = kind
        same = [f"{n}.__class__ is " for n, c in zip(names, classes, strict=True) if c is kind]
        tests.append(f"{''.join(same)}class_{k}{ending}")
    return " and ".join(tests)


def renamed(text: str, names: list[str], ending: str) -> tuple[str, set[str]]:
    """The body of `run`, and the names in it that are none of its parameters, without `ending`."""
    [function] = ast.parse(text).body
    assert isinstance(function, ast.FunctionDef)
    params = {local(name): name for name in names}
    used: set[str] = set()
    for node in ast.walk(function):
        match node:
            case ast.Name(id) if id in params:
                node.id = params[id]
            case ast.Name(id):
                used.add(id)
                node.id = f"{id}{ending}"
            case ast.ExceptHandler(name=str(name)):
                node.name = f"{name}{ending}"
    return "\n".join(map(ast.unparse, function.body)), used
