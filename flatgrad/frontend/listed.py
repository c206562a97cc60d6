"""The value of a list that a loop appends to: an array, and how many of its rows are items."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flatgrad.errors import error
from flatgrad.frontend.refs import Buffer, Ref
from flatgrad.ir.types import Scalar, Type
from flatgrad.primitives.symbolic import Symbol

FIXED = "an item of a list that is built in a loop is written to"


def size_of(number: Any) -> Any:
    """The symbolic value of an int; None if nothing is known of it."""
    if not isinstance(number, Symbol):
        return number
    return number.type.size if isinstance(number.type, Scalar) else None


@dataclass(eq=False, slots=True)
class Rows:
    """A list as an array: `fields` has the array and the number of items, which change.

    Where `most` is known, a trip of the loop at `node` finds room for so many appended items.
    `by_index`: the index of the loop counts them. `appended` counts as the body is lowered.
    `nested`: the items are lists themselves; `frozen`: it is an item of a list, and stays as it is.
    """

    name: str
    kind: Type
    fields: dict[str, Any]
    node: Any = None
    most: int | None = None
    depth: int = 0
    by_index: bool = False
    appended: int = 0
    total: Any = None
    nested: bool = False
    frozen: bool = False

    @property
    def array(self) -> Ref:
        """The array; only its first `count` items belong to the list."""
        found = self.fields["items"]
        if not isinstance(found, Ref):
            raise error(found.code, found.message, help=found.help)
        return found

    @property
    def count(self) -> Any:
        """The number of items: an int or a Symbol."""
        return self.fields["count"]

    def whole(self) -> Symbol:
        """The items, stacked."""
        symbol = self.array.read()
        if size_of(self.count) == symbol.type.shape[0]:
            return symbol
        found: Symbol = symbol[: self.count]
        return found

    def fresh(self) -> Ref:
        """A new array with the items."""
        return Ref(Buffer(self.whole()))
