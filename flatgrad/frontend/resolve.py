"""What the names in a function refer to, and which of these a compiled function depends on.

    scale = 2.0                 # a float or an array: read at every call, passed as hidden argument
    order = 3                   # an int, string or function: fixed while compiling and checked at
                                # every call; another value is another specialisation
    layers = [W1, W2]           # the list is fixed, its arrays are hidden arguments
    config.rate                 # likewise, for modules, classes and objects with plain attributes
"""

from __future__ import annotations

import builtins
import inspect
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from flatgrad.errors import Span, error

Reader = Callable[[], Any]

_COMPARED = (bool, int, str, bytes, float, np.generic, range, slice, np.dtype)
"""Static values that are compared by type and value; all others by identity."""

LIBRARIES = frozenset({"numpy", "math", "operator", "scipy", "flatgrad", "functools"})
"""Modules whose attributes never change."""


class _Missing:
    """What a reader returns when the name is gone; equal to nothing."""


MISSING = _Missing()


@dataclass(frozen=True, slots=True)
class Capture:
    """A name outside a function: how to read its present value, and the value when compiled."""

    name: str
    read: Reader
    value: Any

    def unchanged(self) -> bool:
        """Whether the name still has the value that was compiled in."""
        now = self.read()
        if now is self.value:
            return True
        comparable = isinstance(self.value, (*_COMPARED, Structure))
        return comparable and type(now) is type(self.value) and bool(now == self.value)


@dataclass(slots=True)
class Captures:
    """All that a compiled function took from outside; `written`: parameters written in place."""

    static: dict[str, Capture] = field(default_factory=dict)
    hidden: dict[str, Capture] = field(default_factory=dict)
    written: set[str] = field(default_factory=set)


class _Same:
    """A value that is equal only to itself."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    __hash__ = None  # type: ignore[assignment]


@dataclass(frozen=True, slots=True)
class Structure:
    """A container as it was: what is fixed while compiling, with data left open."""

    content: Any


def structure(value: Any) -> Structure:
    """The structure of a list, tuple or dict now."""
    return Structure(_frozen(value))


def _frozen(value: Any) -> Any:
    if is_data(value):
        return "data"
    if is_sequence(value):
        return type(value), tuple([_frozen(item) for item in value])
    if type(value) is dict:
        items = [(type(key), key, _frozen(item)) for key, item in value.items()]
        return dict, tuple(items)
    if isinstance(value, _COMPARED):
        return type(value), value
    return _Same(value)


def is_sequence(value: Any) -> bool:
    """A list, a tuple or a named tuple, whose items may be data."""
    return type(value) in (list, tuple) or (isinstance(value, tuple) and hasattr(value, "_fields"))


def is_data(value: Any) -> bool:
    """Whether a captured value is run-time data: a float or an array."""
    return isinstance(value, np.ndarray | float | np.floating)


class Scope:
    """The closure, globals and builtins of one function."""

    def __init__(self, function: types.FunctionType) -> None:
        self.function = function
        free = function.__code__.co_freevars
        self.cells = dict(zip(free, function.__closure__ or (), strict=True))

    def lookup(self, name: str, span: Span | None) -> Capture:
        """The capture of a name.

        Raises
        ------
        NameResolutionError
            If the name is not defined anywhere.
        """
        read = self._reader(name)
        value = read()
        if value is MISSING:
            raise error(
                "undefined-name",
                f"`{name}` is not defined",
                span,
                help="define it before the function is first differentiated",
            )
        return Capture(name, read, value)

    def _reader(self, name: str) -> Reader:
        """A function that reads the present value of a name, MISSING if there is none."""
        if name in self.cells:
            return _cell_reader(self.cells[name])
        space = self.function.__globals__
        known = space.get("__builtins__", builtins)
        table = known if isinstance(known, dict) else vars(known)
        if name not in space and name in table:
            return partial(space.get, name, table[name])
        return partial(space.get, name, MISSING)  # read at every call: no Python code runs


def _cell_reader(cell: types.CellType) -> Reader:
    def read() -> Any:
        try:
            return cell.cell_contents
        except ValueError:
            return MISSING

    return read


def attribute_reader(base: Any, attribute: str) -> Reader:
    """Reads `base.attribute`; a method is read as its function, for a bound one is made anew."""

    def read() -> Any:
        found = getattr(base, attribute, MISSING)
        return found.__func__ if isinstance(found, types.MethodType) else found

    return read


def item_reader(read: Reader, key: Any) -> Reader:
    """Reads an item of a captured container."""

    def item() -> Any:
        try:
            return read()[key]
        except (LookupError, TypeError):
            return MISSING

    return item


def is_fixed(base: Any) -> bool:
    """Whether the attributes of a module or class are taken to never change."""
    owner = base.__name__ if isinstance(base, types.ModuleType) else base.__module__
    return owner.split(".")[0] in LIBRARIES


def is_builtin(kind: type) -> bool:
    """Whether a class is none of the user's, but written in C, or one of NumPy's."""
    in_c = not kind.__flags__ & (1 << 9)  # no heap type
    return in_c or kind.__module__ in ("types", "functools", "numpy", "_operator")


def has_plain_attribute(base: Any, attribute: str) -> bool:
    """Whether reading `base.attribute` runs no code of the user's."""
    if isinstance(base, types.ModuleType | type):
        return True
    kind = type(base)
    usual: tuple[Any, ...] = (object.__getattribute__, types.SimpleNamespace.__getattribute__)
    if kind.__getattribute__ not in usual or isinstance(base, np.ndarray):
        return False
    if attribute in getattr(base, "__dict__", {}):
        return not isinstance(getattr(kind, attribute, None), property)
    found = inspect.getattr_static(kind, attribute, MISSING)
    if found is MISSING or is_builtin(kind):
        return False
    known = (types.FunctionType, types.MemberDescriptorType, staticmethod, classmethod)
    return isinstance(found, known) or not hasattr(type(found), "__get__")
