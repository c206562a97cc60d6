"""Trees of values: tuples, named tuples, lists, dicts and records, one inside the other.

    {"W": a, "layers": [(b, c)]}        children(tree)           [a, [(b, c)]]
                                        rebuilt(tree, [x, y])    {"W": x, "layers": y}

All that walks through what a function takes or returns does it with these two. A `Record` stands
for an object of a dataclass while compiling: its fields may hold values of the program, on which
no code of the class may run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(eq=False, slots=True)
class Record:
    """An object whose attributes are values of the program: its class, and its attributes.

    Two names that hold one object hold one Record. `fields` is changed in place by `s.x = ...`;
    like any dict it is known by its identity when the program goes back to an earlier point.
    """

    kind: type
    fields: dict[str, Any]


def like(found: tuple[Any, ...], items: Sequence[Any]) -> Any:
    """A tuple, or a named tuple of the same kind."""
    make_from: Callable[[Sequence[Any]], Any] = getattr(type(found), "_make", tuple)
    return make_from(items)


def children(found: Any) -> list[Any] | None:
    """The items of a container, in order; None for anything else."""
    match found:
        case tuple() | list():
            return list(found)
        case dict():
            return list(found.values())
        case Record():
            return list(found.fields.values())
    return None


def rebuilt(found: Any, items: list[Any]) -> Any:
    """A container of the form of `found` with these items."""
    match found:
        case tuple():
            return like(found, items)
        case list():
            return items
        case Record():
            return Record(found.kind, dict(zip(found.fields, items, strict=True)))
    return dict(zip(found, items, strict=True))


def constructor(kind: type) -> Callable[[dict[str, Any]], Any]:
    """Makes objects of a dataclass from what their fields hold, without its `__init__`.

    A gradient is no argument: None for a count would not pass the checks of a `__post_init__`.
    """
    new, put = object.__new__, object.__setattr__

    def make(fields: dict[str, Any]) -> Any:
        made: Any = new(kind)
        made.__dict__.update(fields)
        return made

    def make_with_slots(fields: dict[str, Any]) -> Any:
        made: Any = new(kind)
        for name, item in fields.items():
            put(made, name, item)
        return made

    return make if has_only_dict(kind) else make_with_slots


def has_only_dict(kind: type) -> bool:
    """Whether objects of a class keep their fields in `__dict__` alone."""
    return not any("__slots__" in vars(base) for base in kind.__mro__)


def comes_as_tuples(tree: Any) -> bool:
    """Whether emitted code returns this as nested tuples: there is more in it than it can write."""
    if isinstance(tree, Record) or (isinstance(tree, tuple) and type(tree) is not tuple):
        return True
    if isinstance(tree, dict) and any(type(key) not in (str, int, bool) for key in tree):
        return True
    return any(comes_as_tuples(item) for item in children(tree) or ())


def as_tuples(tree: Any) -> Any:
    """Nested tuples of the same leaves."""
    items = children(tree)
    return tree if items is None else tuple([as_tuples(item) for item in items])


def finished(tree: Any) -> Any:
    """`tree` with objects of their classes in the place of records."""
    items = children(tree)
    if items is None:
        return tree
    items = [finished(item) for item in items]
    if isinstance(tree, Record):
        return constructor(tree.kind)(dict(zip(tree.fields, items, strict=True)))
    return rebuilt(tree, items)
