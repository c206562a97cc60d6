"""Indices as the Numba helpers take them: a view by the slices, then a pattern for the arrays.

    x[1:, rows]      view x[1:, :], pattern ("slice", "array1d"), entries (rows,)
    x[i, 2:]         None: plain text is right
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from flatgrad.codegen.expressions import call, dotted, literal
from flatgrad.errors import error
from flatgrad.ir.types import Array
from flatgrad.primitives.index import is_advanced, is_mask


@dataclass(frozen=True, slots=True)
class IndexPlan:
    """`view`: a basic index to take first, or None; `entries`: the expressions for `pattern`."""

    view: tuple[Any, ...] | None
    pattern: tuple[str, ...]
    entries: tuple[Any, ...]


def indexed(index: Any, kinds: Any, rank: int) -> IndexPlan | None:
    """The plan for an index with arrays in it; None for a basic one."""
    parts = list(index) if isinstance(index, tuple) else [index]
    types = list(kinds) if isinstance(kinds, tuple) else [kinds]
    if not any(is_advanced(kind) for kind in types):
        return None
    taken = sum(_axes(kind) for kind in types)
    rest = [slice(None)] * (rank - taken)
    where = next((k for k, kind in enumerate(types) if kind is Ellipsis), None)
    if where is None:
        parts, types = parts + rest, types + rest
    else:
        if not rest and separates(types, where):
            raise error(
                "unsupported-backend",
                "`...` that stands for no axis between two indices moves the axes of the result; "
                "this is not available on the Numba backend",
                help="leave the `...` out, and transpose the result if need be",
            )
        parts[where : where + 1] = rest
        types[where : where + 1] = rest
    view: list[Any] = []
    pattern: list[str] = []
    entries: list[Any] = []
    for part, kind in zip(parts, types, strict=True):
        if kind is None:
            pattern.append("newaxis")
            continue
        if isinstance(kind, slice):
            pattern.append("slice")
            view.append(part)
            continue
        if isinstance(kind, list):
            part = call(dotted("np.array"), [literal(part)], {})
            kind = Array("bool" if isinstance(kind[0], bool) else "int64", (len(kind),))
        view += [slice(None)] * _axes(kind)
        word = "mask" if is_mask(kind) else "array"
        kind_rank = getattr(kind, "ndim", 0)
        pattern.append(f"{word}{kind_rank}d" if is_advanced(kind) else "int")
        entries.append(part)
    whole = all(part == slice(None) for part in view if isinstance(part, slice))
    return IndexPlan(None if whole else tuple(view), tuple(pattern), tuple(entries))


def separates(kinds: list[Any], where: int) -> bool:
    """Whether indices that NumPy takes together stand on both sides of an entry."""
    sides = kinds[:where], kinds[where + 1 :]
    return all(any(_axes(kind) and not isinstance(kind, slice) for kind in side) for side in sides)


def _axes(kind: Any) -> int:
    """How many axes an entry of an index takes."""
    if isinstance(kind, list):
        return 1
    if kind is None or kind is Ellipsis:
        return 0
    return int(kind.ndim) if is_mask(kind) else 1
