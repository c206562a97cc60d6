"""Calls that are kept for what they do: they have no result and no derivative.

    print("loss", loss)       # stands in the forward code, in its order
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
