"""Calls that are kept for what they do: they have no result and no derivative.

    print("loss", loss)                                 # stands in the forward code, in its order
    if not x > 0: raise ValueError(f"x is {x}")         # so does an error; also from an `assert`
"""

from __future__ import annotations

from typing import Any

from flatgrad.primitives.registry import primitive


def PRINT(values: list[Any]) -> None:
    """Print the values, with spaces between; written `print(...)`."""
    print(*values)


@primitive(PRINT, name="print", effect=True, derivative=False)
def _(values, /):
    return None


def RAISE(values: list[Any], kind: type[Exception], message: str | None) -> None:
    """Raise an error; `message` has a `{}` for each of the values."""
    raise kind() if message is None else kind(message.format(*values))


@primitive(RAISE, name="raise", effect=True, derivative=False)
def _(values, /, kind, message):
    return None
