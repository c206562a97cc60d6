"""What expressions evaluate to while compiling, and how it is taken apart.

    Ref       an array: a buffer or a view          Symbol    a number known when running
    tuple, list, dict of these                      anything else: a static Python value
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flatgrad.errors import error
from flatgrad.frontend.listed import Rows
from flatgrad.frontend.refs import Buffer, Ref, is_view_without_axes, located
from flatgrad.frontend.trees import Held, Record, children, mapped
from flatgrad.ir.ops import Const, Operand, Slot, Value
from flatgrad.ir.types import Scalar
from flatgrad.primitives.symbolic import NeedStatic, Symbol, is_number

VIEWS = frozenset(
    {np.split, np.array_split, np.hsplit, np.vsplit, np.dsplit, np.flip, np.fliplr, np.flipud,
     np.diag, np.rot90, np.moveaxis, np.rollaxis, np.atleast_1d, np.atleast_2d, np.atleast_3d}
)  # fmt: skip
"""Functions defined through others whose results are views in NumPy, too."""


class ControlFlow(Exception):
    """Control left a block by a statement of the user's."""


RETURNED, VALUE = "<returned>", "<returned value>"
"""Variables for `return` inside a loop: the loop is left, and what follows it returns."""


@dataclass(frozen=True, slots=True)
class Poison:
    """Stands for a variable that has no one value here; refused where it is read."""

    code: str
    message: str
    help: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Maybe:
    """A variable that a loop has assigned, if it had a trip: checked where it is read."""

    value: Any
    bounds: tuple[Any, Any, Any]


@dataclass(eq=False, slots=True)
class Loop:
    """A loop under construction: whether it may be unrolled instead, and its symbolic bounds."""

    unrollable: bool
    bounds: tuple[Symbol, ...] = ()


class Unroll(ControlFlow):
    """A value that depends on the trip is needed while compiling."""

    def __init__(self, loop: Loop) -> None:
        super().__init__()
        self.loop = loop


def place(result: Any, sources: dict[Value, Ref], whole: bool) -> Any:
    """The arrays in the result of a call, as references."""
    if isinstance(result, Symbol) and (result.ndim or is_view_without_axes(result)):
        return located(result, sources, whole)
    if isinstance(result, list | tuple):
        return type(result)([place(item, sources, whole) for item in result])
    return result


def refs_in(tree: Any) -> list[Ref]:
    """All references in a tree of arguments."""
    if isinstance(tree, Ref):
        return [tree]
    return [ref for item in children(tree) or () for ref in refs_in(item)]


def occurrences(number: Symbol, tree: Any, seen: set[int] | None = None) -> int:
    """How often a number stands in variables, containers, objects and what functions see."""
    seen = set() if seen is None else seen
    if isinstance(tree, Symbol):
        return int(tree.value is number.value)
    if isinstance(tree, list | dict | Record | Held):
        if id(tree) in seen:
            return 0
        seen.add(id(tree))
    items = tree.held() if isinstance(tree, Held) else children(tree) or ()
    return sum(occurrences(number, item, seen) for item in items)


def values_in(tree: dict[str, Any], variables: dict[str, Any] | None = None) -> dict[Value, str]:
    """The values in variables with readable names: those of `variables` if they are there, too."""
    named = values_in(variables) if variables is not None else {}
    found: dict[Value, str] = {}

    def visit(name: str, item: Any) -> None:
        match item:
            case Ref() | Symbol():
                value = item.latest.value if isinstance(item, Ref) else item.value
                found.setdefault(value, named.get(value, name))
            case tuple() | list():
                for k, part in enumerate(item):
                    visit(f"{name}_{k}", part)
            case dict():
                for key, part in item.items():
                    visit(f"{name}_{key}", part)
            case Record():
                for key, part in item.fields.items():
                    visit(f"{name}_{key}", part)

    for name, item in tree.items():
        visit(name, item)
    return found


def kind_of(found: Any) -> str:
    """The user's word for what an expression is."""
    match found:
        case Ref():
            return "an array"
        case Symbol():
            return "a number"
        case Rows():
            return "a list that is built in a loop"
        case Record():
            return f"an object of {found.kind.__name__}"
        case Held():
            return str(found)
    return f"a value of type {type(found).__name__}"


def needs_static(found: Any, what: str) -> None:
    """Ask for the value of the first symbol in `found`, if there is one."""
    match found:
        case Symbol():
            raise NeedStatic(found, what)
        case slice():
            needs_static((found.start, found.stop, found.step), what)
        case _:
            for item in children(found) or ():
                needs_static(item, what)


def same_length(left: Any, right: Any) -> bool | None:
    """Whether two lengths, or shapes, are equal; None if that is known only when running."""
    if type(left) is type(right) is tuple:
        if len(left) != len(right):
            return False
        known = [same_length(one, other) for one, other in zip(left, right, strict=True)]
        return False if False in known else None if None in known else True
    one, other = _size(left), _size(right)
    if isinstance(one, int) and isinstance(other, int):
        return one == other
    return True if one is not None and one == other else None


def _size(found: Any) -> Any:
    if isinstance(found, Symbol):
        return found.type.size if isinstance(found.type, Scalar) else None
    return found if type(found) is int else None


def is_numeric(found: Any) -> bool:
    """Whether operators on this build operations."""
    return isinstance(found, Ref | Symbol)


def read(found: Any) -> Any:
    """A value with the arrays in it read."""
    match found:
        case Ref():
            return found.read()
        case Rows():
            return found.whole()
        case Poison():
            raise error(found.code, found.message, help=found.help)
    return mapped(found, read)


def flattened(result: Any, leaves: list[Operand]) -> Any:
    """The tree of a result with slots for its leaves, which are appended."""
    if isinstance(result, Symbol):
        leaves.append(result.value)
        return Slot(len(leaves) - 1)
    if isinstance(result, tuple | list | dict | Record):
        return mapped(result, lambda item: flattened(item, leaves))
    if is_number(result) and not isinstance(result, bool):
        leaves.append(Const(result))
        return Slot(len(leaves) - 1)
    return result


def wrap(result: Any) -> Any:
    """A fresh array gets a buffer of its own."""
    if isinstance(result, Symbol) and result.ndim:
        return Ref(Buffer(result))
    return mapped(result, wrap)


def number_in(found: Any) -> Any:
    """A 0-d array as the number in it."""
    return found[()] if isinstance(found, np.ndarray) else found
