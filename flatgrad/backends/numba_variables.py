"""Which variables a statement of Numba's reads and sets, found with fewer questions.

    with quick_lists():
        ...         # `list_vars()` of Numba's statements gives what it gave, in the same order

Half of Numba's passes begin by listing the variables of all statements, and Numba asks of each part
of a statement, names and line numbers included, whether it is one of five kinds. For a function of
straight code that is a tenth of the time to compile it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from numba.core import ir

WITHOUT = {
    str, int, float, bool, type(None), ir.Loc, FunctionType, BuiltinFunctionType, ModuleType,
}  # fmt: skip
"""The types of parts that have no variables in them."""

NUMBAS = ir.Inst._rec_list_vars


@contextmanager
def quick_lists() -> Iterator[None]:
    """Numba's lock is held in the block, so that nothing else is compiled."""
    before = ir.Inst._rec_list_vars
    ir.Inst._rec_list_vars = _listed  # type: ignore[method-assign]
    try:
        yield
    finally:
        ir.Inst._rec_list_vars = before  # type: ignore[method-assign]


def _listed(self: Any, part: Any) -> list[Any]:
    """The variables in a part of a statement."""
    found: list[Any] = []
    _collect(self, part, found)
    return found


def _collect(statement: Any, part: Any, found: list[Any]) -> None:
    kind = type(part)
    if kind is ir.Var:
        found.append(part)
    elif kind in WITHOUT:
        return
    elif kind is dict:
        for one in part.values():
            _collect(statement, one, found)
    elif kind is list or kind is tuple:
        for one in part:
            _collect(statement, one, found)
    else:
        found += NUMBAS(statement, part)
