"""Where the derivatives of observations stand in a sparse matrix: found once, used at every call.

    rows of J       for each result of the function, the residuals of observation 0, 1, 2, ...
    columns of J    the elements of the arguments, argument by argument
    values          what one observation gives, row by row: a contiguous block for each result
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from flatgrad.errors import error
from flatgrad.observations import Observation

OWN, SHARED, GATHERED = "own", "shared", "gathered"
"""An observation sees its own row of an argument, the argument itself, or the row it names."""


@dataclass(slots=True)
class Structure:
    """The places of all entries.

    `blocks` are for each result the residuals and the columns of one observation. The values come
    in the order of observations; if that is not the order of columns, `order` sorts them, and
    `starts`, if not None, are the first of those that are in one place and add up.
    """

    count: int
    shape: tuple[int, int]
    blocks: list[tuple[int, int]]
    size: int
    indices: np.ndarray
    indptr: np.ndarray
    order: np.ndarray | None = None
    starts: np.ndarray | None = None

    def parts(self, errors: np.ndarray | None, data: np.ndarray) -> Iterator[np.ndarray]:
        """The places to be filled, an array for each result: of residuals, then of entries."""
        first = 0
        for residuals, _ in self.blocks if errors is not None else ():
            end = first + self.count * residuals
            assert errors is not None
            yield errors[first:end].reshape(self.count, residuals)
            first = end
        first = 0
        for residuals, columns in self.blocks:
            if columns:
                end = first + self.count * residuals * columns
                yield data[first:end].reshape(self.count, residuals, columns)
                first = end

    def sorted(self, data: np.ndarray) -> np.ndarray:
        """The values in the order of the matrix."""
        if self.order is None:
            return data
        data = data[self.order]
        return data if self.starts is None else np.add.reduceat(data, self.starts)


def rows_of(
    rows: Any, names: list[str], function: Any
) -> dict[str, np.ndarray | None]:
    """The given rows as arrays of their own.

    Raises
    ------
    ArgumentError
        If there is no such parameter, or rows are no one-dimensional array of integers.
    """
    if not isinstance(rows, Mapping):
        raise error(
            "bad-rows", f"the rows are a {type(rows).__name__}",
            help='pass a dict from parameters to integer arrays: {"point": point_of}',
        )  # fmt: skip
    found: dict[str, np.ndarray | None] = {}
    for name, given in rows.items():
        if name not in names:
            raise error(
                "bad-rows", f"`{function.__name__}` has no parameter {name!r}",
                help=f"its parameters are {', '.join(names)}",
            )  # fmt: skip
        if given is None:
            found[name] = None
            continue
        array = np.asarray(given)
        if array.ndim != 1 or (array.dtype.kind not in "iu" and array.size):
            raise error(
                "bad-rows",
                f"the rows of `{name}` are an array of {array.dtype} with {array.ndim} axes",
                help="pass a one-dimensional array of integers, a row for each observation",
            )
        found[name] = np.array(array, np.intp)
    return found


def structure_of(
    found: Observation,
    ways: Mapping[str, str],
    values: Mapping[str, Any],
    rows: Mapping[str, np.ndarray | None],
    same: tuple[tuple[str, ...], ...],
    wrt: tuple[str, ...],
) -> Structure:
    """The structure for arguments of some shapes.

    Raises
    ------
    FlatgradError
        If they do not fit each other or the rows.
    """
    count = _count(ways, values, rows)
    owners = {name: group[0] for group in same for name in group}
    offsets: dict[str, int] = {}
    width = 0
    for name in wrt:
        owner = owners.get(name, name)
        if owner not in offsets:
            offsets[owner] = width
            width += int(np.size(values[name]))
    height = count * sum(leaf.residuals for leaf in found.leaves)
    kind = np.int32 if max(height, width) < 2**31 else np.int64
    blocks, indices, lengths = [], [], []
    for leaf in found.leaves:
        columns = [
            _columns(name, offsets[owners.get(name, name)], ways, values, rows, count)
            for name in leaf.by
        ]
        own = np.concatenate(columns, axis=1) if columns else np.empty((count, 0), np.intp)
        blocks.append((leaf.residuals, own.shape[1]))
        indices.append(np.repeat(own, leaf.residuals, axis=0).ravel())
        lengths.append(np.full(count * leaf.residuals, own.shape[1]))
    flat = np.concatenate(indices)
    indptr = np.concatenate(([0], np.cumsum(np.concatenate(lengths))))
    if indptr[-1] >= 2**31:
        kind = np.int64
    made = Structure(count, (height, width), blocks, flat.size, flat, indptr)
    _sort(made)
    made.indices, made.indptr = made.indices.astype(kind), made.indptr.astype(kind)
    made.indices.flags.writeable = made.indptr.flags.writeable = False
    return made


def _sort(made: Structure) -> None:
    """Put the columns of each row in order, each once."""
    flat, indptr = made.indices, made.indptr
    row = np.repeat(np.arange(made.shape[0]), np.diff(indptr))
    rising = (flat[1:] > flat[:-1]) | (row[1:] != row[:-1])
    if rising.all():
        return
    made.order = np.lexsort((flat, row))
    flat, row = flat[made.order], row[made.order]
    first = np.concatenate(([True], (flat[1:] != flat[:-1]) | (row[1:] != row[:-1])))
    if not first.all():
        made.starts = np.flatnonzero(first)
        flat, row = flat[first], row[first]
    made.indices = flat
    made.indptr = np.searchsorted(row, np.arange(made.shape[0] + 1))


def _count(
    ways: Mapping[str, str], values: Mapping[str, Any], rows: Mapping[str, np.ndarray | None]
) -> int:
    """The number of observations."""
    lengths: dict[str, int] = {}
    for name, way in ways.items():
        own = rows.get(name)
        if own is not None:
            lengths[f"the rows of `{name}`"] = own.size
            rest = len(values[name])
            wrong = own[(own < 0) | (own >= rest)]
            if wrong.size:
                raise error(
                    "bad-rows", f"an observation sees row {wrong[0]} of `{name}`, which has {rest}",
                    help="rows are counted from 0",
                )  # fmt: skip
        elif way == OWN:
            lengths[f"`{name}`"] = len(values[name])
    if not lengths:
        raise error(
            "bad-rows", "no argument has rows: the number of observations is not known",
            help="name the rows that the observations see",
        )  # fmt: skip
    (first, count), *others = lengths.items()
    for name, length in others:
        if length != count:
            raise error(
                "shape-mismatch", f"{first} are {count} observations, {name} are {length}",
                help="a parameter whose rows are not given has a row for each observation; "
                "None stands for the whole argument",
            )  # fmt: skip
    return count


def _columns(
    name: str,
    offset: int,
    ways: Mapping[str, str],
    values: Mapping[str, Any],
    rows: Mapping[str, np.ndarray | None],
    count: int,
) -> np.ndarray:
    """The columns of an argument's elements that each observation sees."""
    shape = np.shape(values[name])
    if ways[name] == SHARED:
        size = int(np.prod(shape))
        return np.broadcast_to(offset + np.arange(size), (count, size))
    size = int(np.prod(shape[1:]))
    own = rows.get(name)
    place = np.arange(count) if own is None else own
    return offset + place[:, None] * size + np.arange(size)
