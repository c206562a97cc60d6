"""Derivatives of a Python function as it stands: numbers that carry two tangents and their mixed one.

    x = Hyper(2.0, 1.0, 1.0)      # along the same direction twice
    y = np.sin(x) * x             # y.one is the slope, y.mixed the second derivative

Arrays of these are object arrays, on which NumPy's own in-place writes, views and aliases work. So
this is a second opinion on what a program means, exact where differences are not: next to a branch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np


class Hyper:
    """A number `value + one e1 + two e2 + mixed e1 e2`, with e1 e1 = e2 e2 = 0."""

    __slots__ = ("mixed", "one", "two", "value")

    def __init__(self, value: float, one: float = 0.0, two: float = 0.0, mixed: float = 0.0):
        self.value, self.one, self.two, self.mixed = float(value), one, two, mixed

    def chained(self, value: float, first: float, second: float) -> Hyper:
        """A function of this number, given its value and derivatives."""
        mixed = first * self.mixed + second * self.one * self.two
        return Hyper(value, first * self.one, first * self.two, mixed)

    def __add__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return NotImplemented
        o = hyper(other)
        return Hyper(self.value + o.value, self.one + o.one, self.two + o.two, self.mixed + o.mixed)

    def __mul__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return NotImplemented
        o = hyper(other)
        mixed = self.mixed * o.value + self.one * o.two + self.two * o.one + self.value * o.mixed
        return Hyper(
            self.value * o.value, self.one * o.value + self.value * o.one,
            self.two * o.value + self.value * o.two, mixed,
        )  # fmt: skip

    def __neg__(self) -> Hyper:
        return Hyper(-self.value, -self.one, -self.two, -self.mixed)

    def __pos__(self) -> Hyper:
        return self

    def __sub__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, np.ndarray) else self + -hyper(other)

    def __rsub__(self, other: Any) -> Any:
        return hyper(other) + -self

    def __truediv__(self, other: Any) -> Any:
        return NotImplemented if isinstance(other, np.ndarray) else self * hyper(other).inverse()

    def __rtruediv__(self, other: Any) -> Any:
        return hyper(other) * self.inverse()

    __radd__ = __add__
    __rmul__ = __mul__

    def inverse(self) -> Hyper:
        """1 / self."""
        v = self.value
        return self.chained(1 / v, -1 / v**2, 2 / v**3)

    def __pow__(self, other: Any) -> Any:
        if isinstance(other, np.ndarray):
            return NotImplemented
        if isinstance(other, Hyper):
            return (self.log() * other).exp()
        n, v = float(other), self.value
        first = n * v ** (n - 1) if n else 0.0
        second = n * (n - 1) * v ** (n - 2) if n not in (0, 1) else 0.0
        return self.chained(v**n, first, second)

    def __rpow__(self, other: Any) -> Hyper:
        return (self * math.log(other)).exp()

    def __abs__(self) -> Hyper:
        return self if self.value >= 0 else -self

    def __float__(self) -> float:
        raise TypeError("the tangents of a number would be lost")

    def __int__(self) -> int:
        return int(self.value)

    def __bool__(self) -> bool:
        return bool(self.value)

    def __lt__(self, other: Any) -> Any:
        return self.value < hyper(other).value

    def __le__(self, other: Any) -> Any:
        return self.value <= hyper(other).value

    def __gt__(self, other: Any) -> Any:
        return self.value > hyper(other).value

    def __ge__(self, other: Any) -> Any:
        return self.value >= hyper(other).value

    def __eq__(self, other: object) -> bool:
        return self.value == hyper(other).value

    def __ne__(self, other: object) -> bool:
        return self.value != hyper(other).value

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Hyper({self.value}, {self.one}, {self.two}, {self.mixed})"

    # what NumPy's functions call on the items of object arrays

    def sin(self) -> Hyper:
        s, c = math.sin(self.value), math.cos(self.value)
        return self.chained(s, c, -s)

    def cos(self) -> Hyper:
        s, c = math.sin(self.value), math.cos(self.value)
        return self.chained(c, -s, -c)

    def tanh(self) -> Hyper:
        t = math.tanh(self.value)
        return self.chained(t, 1 - t * t, -2 * t * (1 - t * t))

    def exp(self) -> Hyper:
        e = math.exp(self.value)
        return self.chained(e, e, e)

    def log(self) -> Hyper:
        v = self.value
        return self.chained(math.log(v), 1 / v, -1 / v**2)

    def sqrt(self) -> Hyper:
        r = math.sqrt(self.value)
        return self.chained(r, 0.5 / r, -0.25 / r**3)

    def arctan(self) -> Hyper:
        d = 1 + self.value**2
        return self.chained(math.atan(self.value), 1 / d, -2 * self.value / d**2)

    def square(self) -> Hyper:
        return self * self


def hyper(found: Any) -> Hyper:
    """A number, or an array of no axes, as one of these."""
    if isinstance(found, np.ndarray):
        found = found.item()
    return found if isinstance(found, Hyper) else Hyper(found)


class Objects:
    """NumPy whose new arrays hold objects: `exec` programs with this for `np`."""

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def zeros(self, shape: Any) -> np.ndarray:
        return np.full(shape, 0.0, dtype=object)

    empty = zeros

    def ones(self, shape: Any) -> np.ndarray:
        return np.full(shape, 1.0, dtype=object)

    def full(self, shape: Any, value: Any) -> np.ndarray:
        return np.full(shape, value, dtype=object)

    def zeros_like(self, x: Any) -> np.ndarray:
        return np.full(np.shape(x), 0.0, dtype=object)

    empty_like = zeros_like

    def ones_like(self, x: Any) -> np.ndarray:
        return np.full(np.shape(x), 1.0, dtype=object)

    def full_like(self, x: Any, value: Any) -> np.ndarray:
        return np.full(np.shape(x), value, dtype=object)

    def array(self, items: Any) -> np.ndarray:
        return np.array(items, dtype=object)


def seeded(value: Any, one: Any, two: Any) -> Any:
    """A number or array with tangents."""
    if not isinstance(value, np.ndarray):
        return Hyper(value, float(one), float(two))
    made = np.empty(value.shape, dtype=object)
    for where in np.ndindex(value.shape):
        made[where] = Hyper(value[where], float(one[where]), float(two[where]))
    return made


def parts(found: Any, name: str) -> Any:
    """One of the four parts of a number, or of each item of an array."""
    if isinstance(found, np.ndarray) and found.ndim:
        flat = [getattr(hyper(item), name) for item in found.ravel()]
        return np.array(flat).reshape(found.shape)
    return getattr(hyper(found), name)


def derivatives(
    function: Callable[..., Any],
    given: dict[str, Any],
    one: dict[str, Any],
    two: dict[str, Any],
) -> Any:
    """What `function` returns for arguments with tangents; it must run with `Objects` for `np`."""
    arguments = {
        name: seeded(value, one[name], two[name]) if name in one else value
        for name, value in given.items()
    }
    return function(**arguments)
