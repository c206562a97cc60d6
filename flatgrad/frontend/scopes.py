"""Which variables a function has of its own, and functions that are made while it runs.

    def f(x, w):
        def scaled(v, k=2.0):          Closure: reads `w` when it is called, `k` was set here
            return w * v * k
        return np.sum(scaled(x))
"""

from __future__ import annotations

import ast
import inspect
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from flatgrad.frontend.source import FunctionNode
from flatgrad.frontend.trees import Held

SCOPES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True, slots=True)
class Variables:
    """The local variables of a function, and the names that it declares to be others'."""

    local: frozenset[str]
    outer: frozenset[str] = frozenset()
    world: frozenset[str] = frozenset()


@lru_cache(maxsize=4096)
def variables_of(node: FunctionNode) -> Variables:
    """The variables of a function, from its text."""
    args = node.args
    every = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    found = {arg.arg for arg in every if arg is not None}
    outer: set[str] = set()
    world: set[str] = set()
    body = node.body if isinstance(node, ast.FunctionDef) else [node.body]
    for statement in body:
        for item in _of_this_function(statement, within=False):
            match item:
                case ast.Name(ctx=ast.Store() | ast.Del()):
                    found.add(item.id)
                case ast.FunctionDef() | ast.ClassDef() | ast.AsyncFunctionDef():
                    found.add(item.name)
                case ast.ExceptHandler(name=str(name)):
                    found.add(name)
                case ast.alias():
                    found.add((item.asname or item.name).split(".")[0])
                case ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                    found.add(name)
                case ast.Nonlocal():
                    outer.update(item.names)
                case ast.Global():
                    world.update(item.names)
    return Variables(frozenset(found - outer - world), frozenset(outer), frozenset(world))


def targets_of(node: ast.AST) -> frozenset[str]:
    """The variables of a comprehension."""
    generators: list[ast.comprehension] = node.generators  # type: ignore[attr-defined]
    inside = [item for part in generators for item in ast.walk(part.target)]
    return frozenset(item.id for item in inside if isinstance(item, ast.Name))


def _of_this_function(node: ast.AST, *, within: bool) -> Iterator[ast.AST]:
    """The nodes whose bindings are this function's; `within` a comprehension only `:=` binds."""
    if isinstance(node, ast.NamedExpr):
        yield node.target
        yield from _of_this_function(node.value, within=within)
        return
    if not (within and isinstance(node, ast.Name)):
        yield node
    if isinstance(node, SCOPES):
        for part in _outside_parts(node):
            yield from _of_this_function(part, within=within)
        return
    within = within or isinstance(node, COMPREHENSIONS)
    for child in ast.iter_child_nodes(node):
        yield from _of_this_function(child, within=within)


def _outside_parts(node: ast.AST) -> list[ast.AST]:
    """What of an inner function is evaluated where it stands: decorators and defaults."""
    parts = list(getattr(node, "decorator_list", []))
    args = getattr(node, "args", None)
    if isinstance(args, ast.arguments):
        parts += [*args.defaults, *[default for default in args.kw_defaults if default]]
    return parts


class Closure(Held):
    """A function that the program makes: its text, where it was made, and its defaults.

    It reads the variables of `home`, the function in which it was made, when it is called.
    """

    __slots__ = ("defaults", "home", "name", "node")

    def __init__(self, node: FunctionNode, home: Any, defaults: dict[str, Any]) -> None:
        self.node = node
        self.home = home
        self.defaults = defaults
        self.name = node.name if isinstance(node, ast.FunctionDef) else "<lambda>"

    def held(self) -> list[Any]:
        """The variables that it can see, and its defaults."""
        return [*self.home.spaces(), self.defaults]

    def __str__(self) -> str:
        return "a lambda" if self.name == "<lambda>" else f"the function `{self.name}`"

    @property
    def __name__(self) -> str:
        return self.name

    def stub(self) -> types.FunctionType:
        """A function of this name with these parameters, for what asks for a real one."""
        name = "function" if self.name == "<lambda>" else self.name
        parameters = self.signature().parameters.values()
        bare = [
            p.replace(default=p.empty if p.default is p.empty else None) for p in parameters
        ]
        space: dict[str, Any] = {}
        exec(f"def {name}{inspect.Signature(bare)}: pass", space)
        found: types.FunctionType = space[name]
        return found

    def signature(self) -> inspect.Signature:
        """Its parameters, with the values of their defaults."""
        args, kinds = self.node.args, inspect.Parameter
        found = []

        def add(arg: ast.arg | None, kind: Any) -> None:
            if arg is not None:
                default = self.defaults.get(arg.arg, kinds.empty)
                found.append(kinds(arg.arg, kind, default=default))

        for arg in args.posonlyargs:
            add(arg, kinds.POSITIONAL_ONLY)
        for arg in args.args:
            add(arg, kinds.POSITIONAL_OR_KEYWORD)
        add(args.vararg, kinds.VAR_POSITIONAL)
        for arg in args.kwonlyargs:
            add(arg, kinds.KEYWORD_ONLY)
        add(args.kwarg, kinds.VAR_KEYWORD)
        return inspect.Signature(found)


@dataclass(eq=False, slots=True)
class Partial(Held):
    """`functools.partial(function, *args, **kwargs)` made by the program."""

    function: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def held(self) -> list[Any]:
        """The function and the arguments that are fixed."""
        return [self.function, self.args, self.kwargs]

    def __str__(self) -> str:
        return "a partial function"


@dataclass(eq=False, slots=True)
class Delayed:
    """An item of a loop that is evaluated at the start of its trip."""

    function: Any
    item: Any

    def __call__(self) -> Any:
        return self.function(self.item)


@dataclass(eq=False, slots=True)
class Watched:
    """A list or dict over which a loop runs, with its items at the start."""

    container: Any
    items: list[Any]
    backward: bool = False

    def changed(self, first: int) -> bool:
        """Whether it has another length now, or other items from number `first` on."""
        now, then = list(self.container), self.items
        if self.backward:
            now, then = now[::-1], then[::-1]
        pairs = zip(now[first:], then[first:], strict=False)
        return len(now) != len(then) or any(one is not other for one, other in pairs)


@dataclass(eq=False, slots=True)
class Turns:
    """The items of an iterator to be read one by one, and what must not change until then."""

    items: list[Any]
    watched: list[Watched]


PENDING = "<not made yet>"
"""Stands for the items of an iterator that nobody wanted so far."""


@dataclass(eq=False, slots=True)
class Once(Held):
    """An iterator: `map(f, xs)`, `(f(x) for x in xs)`, `zip(a, b)`. Its items come only once.

    `make` goes through them, each evaluated at its turn; `each` gives them as items to be read one
    by one, or None where their number is not known before. `left` are those that are still to come,
    or PENDING.
    """

    make: Callable[[], Iterator[Any]]
    seen: list[Any]
    each: Callable[[], Turns | None] = lambda: None
    left: list[Any] = field(default_factory=lambda: [PENDING])
    watched: list[Watched] = field(default_factory=list)

    def held(self) -> list[Any]:
        """What the items are made of, and whether they still are to come."""
        return [self.seen, self.left]

    def __str__(self) -> str:
        return "an iterator"

    @property
    def pending(self) -> bool:
        """Whether no item was wanted so far."""
        return len(self.left) == 1 and self.left[0] is PENDING

    def turns(self) -> Turns | None:
        """The items that are left, to be read one by one."""
        return self.each() if self.pending else Turns(list(self.left), self.watched)

    def used(self) -> Iterator[Any]:
        """The items that are left; none are left afterwards."""
        pending, items = self.pending, list(self.left)
        self.left.clear()
        yield from self.make() if pending else (item() for item in items)


__all__ = [
    "Closure", "Delayed", "Once", "Partial", "Turns", "Variables", "Watched", "targets_of",
    "variables_of",
]  # fmt: skip
