"""Containers of the program: what stands in them, and the same again with other items.

    (a, b)   [a, b]   {"a": a}   Point(a, b)     tuples, lists, dicts, named tuples
    Record(State, {"x": a, "v": b})              an object of a plain class or a dataclass

    children(found)            [a, b]; None for what is no container
    rebuilt(found, [c, d])     a container of the same form with other items
    same_form(one, other)      they differ in nothing but their items
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import MethodType
from typing import Any

from flatgrad.ir.trees import Record, children, like, rebuilt


class Held:
    """A value that holds others, and is no container: a function, a partial call, an iterator."""

    __slots__ = ()

    def held(self) -> list[Any]:
        """What can be reached through this."""
        raise NotImplementedError


def mapped(found: Any, function: Callable[[Any], Any]) -> Any:
    """A container with `function` of each item."""
    items = children(found)
    return found if items is None else rebuilt(found, [function(item) for item in items])


def same_form(one: Any, other: Any) -> bool:
    """Whether two containers are of the same type and length, with the same keys in order."""
    if type(one) is not type(other):
        return False
    match one:
        case tuple() | list():
            return len(one) == len(other)
        case dict():
            return list(one) == list(other)
        case Record():
            return one.kind is other.kind and list(one.fields) == list(other.fields)
    return False


def objects_in(tree: Any) -> Iterator[Any]:
    """The objects and functions of the program in a tree of arguments."""
    if isinstance(tree, Record | Held):
        yield tree
        return
    for item in children(tree) or ():
        yield from objects_in(item)


def held_in(tree: Any) -> Iterator[Any]:
    """The functions, methods and iterators of the program in a tree, objects included."""
    if isinstance(tree, Held | MethodType):
        yield tree
    for item in children(tree) or ():
        yield from held_in(item)


__all__ = [
    "Held", "Record", "children", "held_in", "like", "mapped", "objects_in", "rebuilt", "same_form",
]  # fmt: skip
