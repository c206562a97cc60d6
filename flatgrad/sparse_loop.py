"""The text of the loop over observations, below the function of one observation.

    def residual_jacobian(camera, point, camera_rows, point_rows, entries_0):
        for i in range(camera_rows.size):
            camera_i = camera[camera_rows[i]]
            point_i = point[point_rows[i]]
            entries_0_i = entries_0[i]
            (entries_0_i[0, 0], ...) = residual_entries(camera_i[0], camera_i[1], ...)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flatgrad.codegen.names import Names
from flatgrad.observations import Observation
from flatgrad.sparse_structure import GATHERED, SHARED

DECORATOR = '@numba.njit(cache=True, error_model="numpy")'
"""Indices are checked before the loop runs."""


def loop_text(
    found: Observation, name: str, ways: Mapping[str, str], ranks: Mapping[str, int], backend: str
) -> str:
    """The function that fills in values and entries of all observations.

    Its parameters are the arguments, the rows of those that are gathered, hidden values, the
    number of observations, an array of values and one of entries for each leaf that has some.
    `ranks` are those of the arguments as they are given.
    """
    hidden = [f"hidden_{k}" for k in range(len(found.hidden))]
    taken = {found.name, name, "numba", "np", "math", "range", *hidden}
    names = Names(frozenset(taken))
    given = {one: names.fresh(one) for one in found.passed}
    rows = {one: names.fresh(f"{one}_rows") for one in found.passed if ways[one] == GATHERED}
    count, trip = names.fresh("count"), names.fresh("i")
    values = [names.fresh(f"values_{k}") for k in range(len(found.leaves) * found.with_value)]
    entries = {
        k: names.fresh(f"entries_{k}") for k, leaf in enumerate(found.leaves) if leaf.by
    }
    params = [*given.values(), *rows.values(), *hidden, count, *values, *entries.values()]
    lines = [f"def {name}({', '.join(params)}):", f"    for {trip} in range({count}):"]
    arguments: list[str] = []
    for one, shape in found.passed.items():
        text = given[one]
        if ways[one] != SHARED:
            place = f"{rows[one]}[{trip}]" if one in rows else trip
            text = f"{text}[{place}]"
            if ranks[one] > 1:
                row = names.fresh(f"{one}_{trip}")
                lines.append(f"        {row} = {text}")
                text = row
        arguments += _elements(text, shape)
    targets: list[str] = []
    for text, leaf in zip(values, found.leaves, strict=False):
        targets += _targets(text, trip, (leaf.residuals,), names, lines)
    for k, text in entries.items():
        leaf = found.leaves[k]
        columns = sum(int(np.prod(found.passed[by] or ())) for by in leaf.by)
        targets += _targets(text, trip, (leaf.residuals, columns), names, lines)
    if targets:
        lines += ["        (", *_wrapped(targets), f"        ) = {found.name}("]
        if len(targets) == 1:
            lines[-3:] = [f"        {targets[0]} = {found.name}("]
        lines += [*_wrapped([*arguments, *hidden]), "        )"]
    else:
        lines.append("        pass")
    if backend == "numba":
        lines.insert(0, DECORATOR)
    return "\n".join(lines) + "\n"


def _elements(text: str, shape: tuple[int, ...] | None) -> list[str]:
    """What is handed over of a parameter."""
    if not shape:
        return [text]
    return [f"{text}[{', '.join(map(str, place))}]" for place in np.ndindex(*shape)]


def _targets(
    text: str, trip: str, shape: tuple[int, ...], names: Any, lines: list[str]
) -> list[str]:
    """The places of what belongs to one observation."""
    row = names.fresh(f"{text}_{trip}")
    lines.append(f"        {row} = {text}[{trip}]")
    return [f"{row}[{', '.join(map(str, place))}]" for place in np.ndindex(*shape)]


def _wrapped(items: list[str]) -> list[str]:
    """Items with commas, on lines of at most 100 columns."""
    lines = [" " * 12]
    for item in items:
        if len(lines[-1]) + len(item) > 98 and lines[-1].strip():
            lines.append(" " * 12)
        lines[-1] += f"{item}, "
    return [line.rstrip() for line in lines if line.strip()]
