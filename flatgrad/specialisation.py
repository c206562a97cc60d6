"""One compiled signature: which arguments it fits, and what they must agree on.

    X.shape[1] == W.shape[0]        checked when arguments of these shapes are first seen
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from flatgrad.errors import FlatgradError, error
from flatgrad.frontend.lower import Static
from flatgrad.ir.types import Scalar, Type
from flatgrad.pipeline import Compiled
from flatgrad.signature import freeze, hidden_type


@dataclass(slots=True)
class Specialisation:
    """A compiled signature with the parameters that it takes.

    `types` and `wrt` are by leaf (see structures.py). `form` is the tree in which a gradient is
    handed out, with a Slot for each of `wrt`.
    """

    compiled: Compiled
    types: dict[str, Type | Static]
    wrt: tuple[str, ...]
    form: Any = None
    finish: Any = None


def key_of(kind: Type | Static) -> Any:
    """What tells this type, or static value, from others."""
    return ("static", freeze(kind.value)) if isinstance(kind, Static) else kind


def same_hidden(capture: Any) -> bool:
    """Whether captured data still has the type for which was compiled."""
    try:
        now, then = capture.read(), capture.value
        return bool(hidden_type(capture.name, now) == hidden_type(capture.name, then))
    except (FlatgradError, NameError, ValueError, KeyError):
        return False


def check_requirements(found: Any, values: dict[str, Any]) -> None:
    """Axes that must agree do, for these leaves.

    Raises
    ------
    ShapeError
        In the user's words, at the line that needs them equal.
    """
    lengths = lengths_of(found, values)
    for requirement in found.compiled.graph.requirements:
        left, right = (
            side if isinstance(side, int) else side.value(lengths)
            for side in (requirement.left, requirement.right)
        )
        if left is not None and right is not None and left != right:
            raise error("shape-mismatch", requirement.message(lengths), requirement.span)


def lengths_of(found: Any, values: dict[str, Any]) -> dict[str, int]:
    """The lengths that arguments and captured arrays give to the atoms of sizes."""
    hidden = {capture.name: capture.read() for capture in found.compiled.hidden}
    lengths: dict[str, int] = {}
    for atom, (value, axis) in found.compiled.graph.lengths.items():
        argument = values.get(value.name or "", hidden.get(value.name or ""))
        if isinstance(argument, np.ndarray) and axis < argument.ndim:
            lengths[atom] = argument.shape[axis]
    for name, argument in values.items():
        if isinstance(found.types.get(name), Scalar) and isinstance(argument, int):
            lengths[f"?{name}"] = lengths[f"?{name}+"] = int(argument)
    return lengths
