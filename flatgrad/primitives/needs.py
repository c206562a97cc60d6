"""What the compiler asks for when it meets data where it needs something known.

A call that raises one of these starts again, with the argument as part of the signature, or an int.
"""

from __future__ import annotations

from typing import Any

from flatgrad.errors import FlatgradError


class NeedStatic(Exception):
    """The compiler needs the value of something that it has only as run-time data.

    `refusal` is the error, with its place, if that value cannot be had.
    """

    def __init__(self, symbol: Any, reason: str) -> None:
        super().__init__(reason)
        self.symbol = symbol
        self.reason = reason
        self.refusal: FlatgradError | None = None


class NeedInteger(Exception):
    """An int is needed where there is a float; `refusal`, without a place, says so.

    An int argument is taken as a float where its derivative may be wanted; this one cannot be.
    """

    def __init__(self, symbol: Any, refusal: FlatgradError) -> None:
        super().__init__(refusal.diagnostic.message)
        self.symbol = symbol
        self.refusal = refusal
