"""`x, y, z = s` of an array whose length is known only when running: it must be 3.

    x, y, z = s     ->      if s.shape[0] != 3: raise ValueError("...")
                            x = s[0]; y = s[1]; z = s[2]

The check is made when arguments are seen, where their shapes tell the length.
"""

from __future__ import annotations

import ast
import operator
from typing import Any

from flatgrad.frontend.refs import Ref
from flatgrad.ir.dims import Dim
from flatgrad.ir.ops import Requirement
from flatgrad.primitives.symbolic import DIM, REQUIRE_EQUAL, apply_function


def of_unknown_length(found: Any) -> bool:
    """Whether this is an array that may have any number of items."""
    if not (isinstance(found, Ref) and found.latest.ndim):
        return False
    return isinstance(found.latest.type.shape[0], Dim)


def unpacked(low: Any, node: ast.AST, array: Ref, count: int) -> list[Any]:
    """The items of an array that has `count` of them."""
    symbol = array.read()
    length = symbol.type.shape[0]
    assert isinstance(length, Dim)
    if length.atoms <= low.builder.lengths.keys():

        def described(lengths: dict[str, int]) -> str:
            return f"{count} names for {length.value(lengths)} items"

        span = low.source.span(node)
        low.builder.requirements.append(Requirement(length, count, described, span))
    else:
        message = f"{count} names for the items of an array of another length"
        with low.at(node):
            found = apply_function(DIM, (symbol, 0), {}, low.builder)
            apply_function(REQUIRE_EQUAL, (found, count, message), {}, low.builder)
    return [low.apply(node, operator.getitem, (array, k), {}) for k in range(count)]
