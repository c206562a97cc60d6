"""The way from arguments like those seen before straight to the code compiled for them.

    def second(params_, X_):                         # after the classes of params and X
        if len(params_) != 2:
            return other(params_, X_)
        key_1, key_2, = params_
        if not (key_1 is known_1 and key_2 is known_2):
            if [*params_] != keys_3 or [*map(type, params_)] != types_4:
                return other(params_, X_)
        params_W1_, params_b1_, = params_.values()
        if not (params_W1_.__class__ is params_b1_.__class__ is array):
            return other(params_, X_)
        try:
            run = table[X_.dtype, X_.shape, params_W1_.dtype, params_W1_.shape, ...]
        except (KeyError, TypeError):
            pass
        else:
            return run(params_, X_, params_W1_, params_b1_)
        return other(params_, X_)

One such function is generated for each structure of the arguments; `other` is the one for the
structure seen before, then the slow road. A structure is never misread: classes, keys and lengths
are compared before anything is taken out.
"""

from __future__ import annotations

from collections.abc import Callable
from types import MemberDescriptorType
from typing import Any

import numpy as np

from flatgrad.ir.trees import has_only_dict
from flatgrad.ir.types import Scalar
from flatgrad.signature import STATIC_KINDS, freeze
from flatgrad.structures import Leaf, Node, Spread, Tree

MAX_SHAPES = 512
"""Distinct argument shapes remembered for the fast path of one function and structure."""

MAX_STRUCTURES = 16
"""Distinct structures remembered for arguments of the same classes."""


def compiled_text(text: str, space: dict[str, Any], name: str) -> Callable[..., Any]:
    """The function that a generated text defines."""
    exec(compile(text, f"<flatgrad caller of {name}>", "exec", dont_inherit=True), space)
    function: Callable[..., Any] = space[name]
    return function


def local(name: str) -> str:
    """A parameter in generated functions, none of whose own names ends like this."""
    return f"{name}_"


def leaf_names(given: Spread) -> list[str]:
    """The leaves of parameters that are taken apart."""
    return [
        leaf.name
        for tree in given.trees.values() if isinstance(tree, Node)
        for leaf in tree.leaves()
    ]  # fmt: skip


def leaf_values(given: Spread) -> list[Any]:
    """Their values."""
    return [given.values[name] for name in leaf_names(given)]


def remember(
    derived: Any, given: Spread, args: tuple[Any, ...], types: dict[str, Any],
    run: Callable[..., Any],
) -> None:  # fmt: skip
    """Let calls like this one go straight to `run`, compiled for `types`."""
    classes = tuple(type(value) for value in args)
    nodes = [tree for tree in given.trees.values() if isinstance(tree, Node)]
    parts = _key_parts(derived, given, types)
    if not parts and not nodes:
        derived.by_class[classes] = run
        return
    shape = tuple(given.trees.values())
    head = derived.by_class.get(classes)
    known = head.known if head is not None and len(head.known) < MAX_STRUCTURES else {}
    key = (*shape, tuple(parts))
    if key not in known:
        other = head if known else derived.call_slowly
        known[key] = _second(given, parts, other)
        known[key].known = known
        derived.by_class[classes] = known[key]
    table = known[key].table
    if len(table) >= MAX_SHAPES:
        table.clear()
    space = {"freeze": freeze} | {local(name): value for name, value in given.values.items()}
    table[eval(f"({''.join(f'{part}, ' for part in parts)})", space)] = run


def _second(given: Spread, parts: list[str], other: Callable[..., Any]) -> Any:
    """The function that tells calls of one structure apart by their leaves."""
    table: dict[Any, Any] = {}
    space = {
        "table": table, "freeze": freeze, "other": other, "array": np.ndarray,
    }  # fmt: skip
    own = ", ".join(local(name) for name in given.trees)
    opening = _Opening(space, f"return other({own})")
    for name, tree in given.trees.items():
        opening.open(tree, local(name))
    opening.check_arrays(given)
    leaves = "".join(f", {local(name)}" for name in leaf_names(given))
    lines = [
        f"def second({own}):",
        *opening.lines,
        "    try:",
        f"        run = table[{''.join(f'{part}, ' for part in parts) or '()'}]",
        "    except (KeyError, TypeError):",
        "        pass",
        "    else:",
        f"        return run({own}{leaves})",
        f"    return other({own})",
    ]
    second: Any = compiled_text("\n".join(lines) + "\n", space, "second")
    second.table = table
    return second


class _Opening:
    """Statements that take leaves out of containers, once these are known to be as expected."""

    def __init__(self, space: dict[str, Any], leave: str) -> None:
        self.space = space
        self.leave = leave
        self.lines: list[str] = []

    def constant(self, name: str, value: Any) -> str:
        """A name for something that a test compares with."""
        name = f"{name}_{len(self.space)}"
        self.space[name] = value
        return name

    def leave_if(self, test: str) -> None:
        self.lines += [f"    if {test}:", f"        {self.leave}"]

    def open(self, tree: Tree, text: str) -> None:
        """Take apart `text`, whose class is known to be that of `tree`."""
        if isinstance(tree, Leaf):
            return
        names = [self.name_of(part) for part in tree.parts]
        self.take(tree, text, names)
        nodes = [(n, p) for n, p in zip(names, tree.parts, strict=True) if isinstance(p, Node)]
        if nodes:
            kinds = [f"{n}.__class__ is not {self.constant('kind', p.kind)}" for n, p in nodes]
            self.leave_if(" or ".join(kinds))
        for name, part in nodes:
            self.open(part, name)

    def name_of(self, part: Tree) -> str:
        """The variable of a part."""
        return local(part.name) if isinstance(part, Leaf) else self.constant("part", None)

    def take(self, tree: Node, text: str, names: list[str]) -> None:
        """Check the keys or the length, and bind the names."""
        if issubclass(tree.kind, list | tuple):
            self.leave_if(f"len({text}) != {len(names)}")
            source = text
        elif tree.kind is dict:
            self.check_keys(tree, text)
            source = f"{text}.values()"
        elif has_only_dict(tree.kind):
            self.leave_if(f"[*{text}.__dict__] != {self.constant('keys', list(tree.keys))}")
            source = f"{text}.__dict__.values()"
        else:
            self.lines.append("    try:")
            self.lines += [
                f"        {name} = {text}.{key}"
                for name, key in zip(names, tree.keys, strict=True)
            ] or ["        pass"]
            self.lines += ["    except AttributeError:", f"        {self.leave}"]
            if tree.kind.__dictoffset__:
                stored = [
                    key for key in tree.keys
                    if not isinstance(getattr(tree.kind, key, None), MemberDescriptorType)
                ]  # fmt: skip
                self.leave_if(f"len({text}.__dict__) != {len(stored)}")
            return
        if names:
            self.lines.append(f"    {', '.join(names)}, = {source}")

    def check_keys(self, tree: Node, text: str) -> None:
        """The keys, in order: mostly the very same objects, else equal ones of the same class."""
        self.leave_if(f"len({text}) != {len(tree.keys)}")
        if not tree.keys:
            return
        names = [self.constant("key", None) for _ in tree.keys]
        known = [self.constant("known", key) for key in tree.keys]
        same = [f"{name} is {key}" for name, key in zip(names, known, strict=True)]
        keys = self.constant("keys", list(tree.keys))
        types = self.constant("types", list(tree.key_types))
        self.lines += [
            f"    {', '.join(names)}, = {text}",
            f"    if not ({' and '.join(same)}):",
            f"        if [*{text}] != {keys} or [*map(type, {text})] != {types}:",
            f"            {self.leave}",
        ]
        self.space |= {"type": type, "map": map}

    def check_arrays(self, given: Spread) -> None:
        """That leaves which were arrays are arrays."""
        arrays = [
            f"{local(name)}.__class__ is "
            for name in leaf_names(given) if type(given.values[name]) is np.ndarray
        ]  # fmt: skip
        if arrays:
            self.leave_if(f"not ({''.join(arrays)}array)")


def _key_parts(derived: Any, given: Spread, types: dict[str, Any]) -> list[str]:
    """What tells calls with the same structure and classes of arguments apart."""
    parts = []
    for name, value in given.values.items():
        text = local(name)
        if name in given.inside and type(value) is not np.ndarray:
            parts.append(f"{text}.__class__")
        if isinstance(value, np.ndarray):
            parts += [f"{text}.dtype", f"{text}.shape"]
        elif value is None or type(value) in (float, np.float64, np.float32):
            continue
        elif isinstance(value, tuple | slice):
            parts.append(f"freeze({text})")
        elif name in derived.static_params or isinstance(value, STATIC_KINDS) or callable(value):
            parts.append(text)
        elif is_count(types.get(name)):
            parts.append(f"{text} >= 0")
    return parts


def is_count(kind: Any) -> bool:
    """Whether an argument is compiled as an int, whose sign is part of its type."""
    return isinstance(kind, Scalar) and kind.dtype == "int64"
