"""The structure of arguments: which numbers and arrays they are made of, under which names.

    loss(params={"W1": a, "layers": [(b, c)]}, rate=0.1)

    spread      params_W1 = a, params_layers_0_0 = b, params_layers_0_1 = c, rate = 0.1
    trees       params -> Node(dict, ("W1", "layers"), (Leaf(params_W1), Node(list, ...)))

Tuples, named tuples, lists, dicts and objects of dataclasses nest; all else is a leaf. Every leaf
is a parameter of the compiled function. A tuple of ints, strings, bools and None is a leaf, too:
it is part of the signature, as it is for a parameter.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import MemberDescriptorType
from typing import Any

from flatgrad.errors import error
from flatgrad.ir.trees import Record

MAX_DEPTH = 64
MAX_LEAVES = 4096


@dataclass(frozen=True, slots=True)
class Leaf:
    """A number, an array or a static value: a parameter `name`, `shown` as the user reaches it."""

    name: str
    shown: str
    inside: bool = False

    def leaves(self) -> Iterator[Leaf]:
        """The leaves, in order."""
        yield self

    def built(self, pick: Callable[[Leaf], Any], mark: Callable[[Any], Any] | None = None) -> Any:
        """The value, by `pick`."""
        return pick(self)


@dataclass(frozen=True, slots=True)
class Node:
    """A container: its class, its keys or field names with their classes, what it holds."""

    kind: type
    keys: tuple[Any, ...]
    key_types: tuple[type, ...]
    parts: tuple[Tree, ...]

    def leaves(self) -> Iterator[Leaf]:
        """The leaves, in order."""
        for part in self.parts:
            yield from part.leaves()

    def built(self, pick: Callable[[Leaf], Any], mark: Callable[[Any], Any] | None = None) -> Any:
        """The container, of what `pick` gives for each leaf; each one made goes through `mark`."""
        found = container(self, [part.built(pick, mark) for part in self.parts])
        return found if mark is None else mark(found)


Tree = Leaf | Node


def container(node: Node, items: list[Any]) -> Any:
    """A container like the one that `node` describes; a Record for an object of a dataclass."""
    if node.kind is list:
        return items
    if node.kind is dict:
        return dict(zip(node.keys, items, strict=True))
    if issubclass(node.kind, tuple):
        return tuple(items) if node.kind is tuple else node.kind._make(items)  # type: ignore[attr-defined]
    return Record(node.kind, dict(zip(node.keys, items, strict=True)))


@dataclass(slots=True)
class Spread:
    """Arguments taken apart: the value of each leaf by its name, the tree of each parameter.

    `owners` names for each leaf of a tangent the leaf that it is the tangent of.
    """

    values: dict[str, Any] = field(default_factory=dict)
    trees: dict[str, Tree] = field(default_factory=dict)
    owners: dict[str, str] = field(default_factory=dict)
    shown: dict[str, str] = field(default_factory=dict)
    inside: set[str] = field(default_factory=set)

    def leaves(self, parameter: str) -> list[str]:
        """The names of the leaves of a parameter."""
        return [leaf.name for leaf in self.trees[parameter].leaves()]

    def tangents_of(self, seeds: dict[str, str]) -> dict[str, str]:
        """From leaves to those of their tangents, for tangents of whole parameters."""
        return {
            self.owners[name]: name for dot in seeds.values() for name in self.leaves(dot)
            if name in self.owners
        }  # fmt: skip


def spread(values: dict[str, Any], tangents: dict[str, str] | None = None) -> Spread:
    """Take arguments apart; `tangents` are parameters with the one that each belongs to.

    Raises
    ------
    UnsupportedError
        If a container is of a kind that is not handled, contains itself, or is too large.
    ArgumentError
        If a tangent has another structure than what it belongs to.
    """
    tangents = tangents or {}
    found = Spread()
    maker = _Maker(found, set(values))
    for name, value in values.items():
        if name not in tangents:
            found.trees[name] = maker.tree(name, name, value)
    for name, owner in tangents.items():
        found.trees[name] = maker.tangent(name, name, values[name], found.trees[owner])
    found.trees = {name: found.trees[name] for name in values}
    return found


def tangent_values(name: str, value: Any, owner: Tree) -> dict[str, Any]:
    """The tangent of each leaf of `owner` in `value`, where there is one."""
    found = Spread()
    _Maker(found, {name}).tangent(name, name, value, owner)
    return {leaf: found.values[dot] for dot, leaf in found.owners.items()}


def is_structure(value: Any) -> bool:
    """Whether an argument is taken apart."""
    return taken_apart("value", value) is not None


class _Maker:
    """Builds trees and names their leaves."""

    def __init__(self, found: Spread, taken: set[str]) -> None:
        self.found = found
        self.taken = taken

    def tree(self, name: str, shown: str, value: Any, depth: int = 0) -> Tree:
        apart = taken_apart(shown, value)
        if apart is None:
            return self.leaf(name, shown, value, depth)
        if depth > MAX_DEPTH or len(self.found.values) > MAX_LEAVES:
            raise error(
                "unsupported-argument",
                f"`{re.split(r'[.[]', shown)[0]}` is nested without end, or too large",
                help="put numbers into arrays",
            )  # fmt: skip
        kind, keys, items = apart
        parts = [
            self.tree(f"{name}_{_word(key)}", reached(shown, kind, key), item, depth + 1)
            for key, item in zip(keys, items, strict=True)
        ]
        return Node(kind, keys, tuple([type(key) for key in keys]), tuple(parts))

    def tangent(self, name: str, shown: str, value: Any, owner: Tree, depth: int = 0) -> Tree:
        """The tree of a tangent; None stands for zero, of a leaf or of a whole container."""
        if isinstance(owner, Leaf) or value is None:
            made = self.leaf(name, shown, value, depth)
            if isinstance(owner, Leaf):
                self.found.owners[made.name] = owner.name
            return made
        apart = taken_apart(shown, value)
        if apart is None or apart[0] is not owner.kind or set(apart[1]) != set(owner.keys):
            raise error(
                "bad-tangent", f"`{shown}` has another structure than what it is the tangent of",
                help="give it the same keys and lengths, with None for zero",
            )  # fmt: skip
        kind, keys, items = apart
        belongs = dict(zip(owner.keys, owner.parts, strict=True))
        parts = [
            self.tangent(
                f"{name}_{_word(key)}", reached(shown, kind, key), item, belongs[key], depth + 1
            )
            for key, item in zip(keys, items, strict=True)
        ]
        return Node(kind, keys, tuple([type(key) for key in keys]), tuple(parts))

    def leaf(self, base: str, shown: str, value: Any, depth: int) -> Leaf:
        name, count = base, 0
        while depth and name in self.taken:
            count += 1
            name = f"{base}_{count}"
        self.taken.add(name)
        self.found.values[name] = value
        self.found.shown[name] = shown
        if depth:
            self.found.inside.add(name)
        return Leaf(name, shown, depth > 0)


def taken_apart(shown: str, value: Any) -> tuple[type, tuple[Any, ...], list[Any]] | None:
    """The class, the keys and the items of a container; None for a leaf."""
    kind = type(value)
    if kind is Record:
        return value.kind, tuple(value.fields), list(value.fields.values())
    if isinstance(value, tuple) and not is_static_tuple(value):
        if kind is tuple:
            return kind, tuple(range(len(value))), list(value)
        if hasattr(kind, "_fields") and hasattr(kind, "_make"):
            return kind, tuple(kind._fields), list(value)
    if kind is list:
        return kind, tuple(range(len(value))), list(value)
    if kind is dict:
        return kind, tuple(value), list(value.values())
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = _fields(shown, value)
        return kind, names, [getattr(value, name) for name in names]
    return None


def is_static_tuple(value: Any) -> bool:
    """Whether this is a tuple of ints, strings, bools, None, and such tuples."""
    return isinstance(value, tuple) and all(
        isinstance(item, int | str | None | bool) or is_static_tuple(item) for item in value
    )


def _fields(shown: str, value: Any) -> tuple[str, ...]:
    """The names of the fields of an object of a dataclass.

    Raises
    ------
    UnsupportedError
        If reading a field runs code, or the object holds more than its fields.
    """
    kind: Any = type(value)
    names = tuple(item.name for item in dataclasses.fields(value))
    plain = kind.__new__ is object.__new__ and kind.__getattribute__ is object.__getattribute__
    for name in names:
        known = getattr(kind, name, None)
        data = hasattr(type(known), "__set__") or hasattr(type(known), "__delete__")
        in_slot = isinstance(known, MemberDescriptorType)
        stored = name in getattr(value, "__dict__", ())
        plain = plain and ((in_slot and hasattr(value, name)) or (stored and not data))
    more = [name for name in getattr(value, "__dict__", ()) if name not in names]
    if not plain or more:
        why = f"attributes that are no fields ({', '.join(more)})" if more else "unset fields"
        raise error(
            "unsupported-argument", f"`{shown}` is a {kind.__name__}, which has {why}",
            help="pass an object that consists of its fields",
        )  # fmt: skip
    return names


def _word(key: Any) -> str:
    """A key as part of a name."""
    return re.sub(r"\W+", "_", str(key), flags=re.ASCII).strip("_") or "item"


def reached(shown: str, kind: type, key: Any) -> str:
    """How the user writes an item."""
    named = kind not in (list, dict, tuple)
    return f"{shown}.{key}" if named else f"{shown}[{key!r}]"
