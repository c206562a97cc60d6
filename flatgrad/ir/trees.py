"""Trees of values: tuples, named tuples, lists, dicts and records, one inside the other.

    {"W": a, "layers": [(b, c)]}        items_of(tree)   [a, [(b, c)]]
                                        like(tree, [x, y])   {"W": x, "layers": y}

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
    """An object of the dataclass `kind`: what its fields hold, by name."""

    kind: type
    fields: dict[str, Any]


def items_of(tree: Any) -> list[Any] | None:
    """What a container holds, in order; None for anything else."""
    match tree:
        case tuple() | list():
            return list(tree)
        case dict():
            return list(tree.values())
        case Record():
            return list(tree.fields.values())
    return None


def like(tree: Any, items: Sequence[Any]) -> Any:
    """A container of the kind of `tree` with other items: a named tuple stays one."""
    match tree:
        case tuple():
            make: Callable[[Sequence[Any]], Any] = getattr(type(tree), "_make", tuple)
            return make(items)
        case list():
            return list(items)
        case dict():
            return dict(zip(tree, items, strict=True))
    return Record(tree.kind, dict(zip(tree.fields, items, strict=True)))


def constructor(kind: type) -> Callable[[dict[str, Any]], Any]:
    """Makes objects of a dataclass from what their fields hold, without its `__init__`.

    A gradient is no argument: None for a count would not pass the checks of a `__post_init__`.
    """
    new, put = object.__new__, object.__setattr__

    def make(fields: dict[str, Any]) -> Any:
        made = new(kind)
        made.__dict__.update(fields)
        return made

    def make_with_slots(fields: dict[str, Any]) -> Any:
        made = new(kind)
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
    return any(comes_as_tuples(item) for item in items_of(tree) or ())


def as_tuples(tree: Any) -> Any:
    """Nested tuples of the same leaves."""
    items = items_of(tree)
    return tree if items is None else tuple([as_tuples(item) for item in items])


def finished(tree: Any) -> Any:
    """`tree` with objects of their classes in the place of records."""
    items = items_of(tree)
    if items is None:
        return tree
    items = [finished(item) for item in items]
    if isinstance(tree, Record):
        return constructor(tree.kind)(dict(zip(tree.fields, items, strict=True)))
    return like(tree, items)
