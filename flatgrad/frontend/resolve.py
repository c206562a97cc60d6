"""What the names in a function refer to, and which of these a compiled function depends on.

    scale = 2.0                 # a float or an array: read at every call, passed as hidden argument
    order = 3                   # an int, string, tuple or function: fixed while compiling and
                                # checked at every call; another value is another specialisation
"""

from __future__ import annotations

import builtins
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flatgrad.errors import Span, error

_MISSING = object()


@dataclass(frozen=True, slots=True)
class Capture:
    """A name outside a function: how to read its present value, and the value when compiled."""

    name: str
    read: Callable[[], Any]
    value: Any

    def unchanged(self) -> bool:
        """Whether the name still has the value that was compiled in."""
        try:
            now = self.read()
        except (NameError, AttributeError, KeyError, ValueError):
            return False
        if now is self.value:
            return True
        if isinstance(self.value, types.FunctionType | types.ModuleType | type):
            return False
        return type(now) is type(self.value) and bool(now == self.value)


@dataclass(slots=True)
class Captures:
    """All that a compiled function took from outside."""

    static: dict[str, Capture] = field(default_factory=dict)
    hidden: dict[str, Capture] = field(default_factory=dict)


def is_data(value: Any) -> bool:
    """Whether a captured value is run-time data: a float or an array."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind in "biuf"
    return isinstance(value, float | np.floating)


class Scope:
    """The closure, globals and builtins of one function."""

    def __init__(self, function: types.FunctionType) -> None:
        self.function = function
        free = function.__code__.co_freevars
        self.cells = dict(zip(free, function.__closure__ or (), strict=True))

    def reader(self, name: str) -> Callable[[], Any] | None:
        """A function that reads the present value of a name, None if there is no such name."""
        if name in self.cells:
            cell = self.cells[name]
            return lambda: cell.cell_contents
        space = self.function.__globals__
        if name in space:
            return lambda: space[name]
        if hasattr(builtins, name):
            return lambda: getattr(builtins, name)
        return None

    def lookup(self, name: str, span: Span | None) -> Capture:
        """The capture of a name.

        Raises
        ------
        NameResolutionError
            If the name is not defined anywhere.
        """
        read = self.reader(name)
        value = _MISSING
        if read is not None:
            try:
                value = read()
            except ValueError:  # an empty closure cell
                value = _MISSING
        if read is None or value is _MISSING:
            raise error(
                "undefined-name",
                f"`{name}` is not defined",
                span,
                help="define it before the function is first differentiated",
            )
        return Capture(name, read, value)
