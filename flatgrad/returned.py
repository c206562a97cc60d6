"""From what emitted code returns to what the user gets: expressions for the generated callers.

    float32 argument, Numba's float      type_g0(g0)
    float argument, NumPy's float64      float(g0)
    Numba's (9.0, (x, 3.0))              (type_0(value[0]), {'x': value[1][0], 't': ...})

Numba hands out every scalar as a Python number, and no lists or dicts of unlike things: its code
returns tuples. What the user gets is what the same function gives on the NumPy backend.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flatgrad.ir.ops import Apply, Function, Slot
from flatgrad.ir.trees import Record, children, constructor
from flatgrad.ir.types import Array, Scalar, Type


def is_straight(fn: Function) -> bool:
    """Whether a number of the code is Python's where its type says so.

    What a loop or a function carries may be NumPy's on one way and Python's on the other.
    """
    return all(isinstance(op, Apply) and op.primitive.body is None for op in fn.body.ops)


def converted(
    leaf: str, kind: Type, value: Any, space: dict[str, Any], *, straight: bool = True
) -> str:
    """The gradient `leaf`, of type `kind`, in the dtype and kind of its argument `value`.

    A gradient of type Scalar may come as a Python number, a NumPy one or an array of rank 0.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        space["asarray"] = np.asarray
        space[f"dtype_{leaf}"] = value.dtype
        return f"asarray({leaf}, dtype_{leaf})"
    if isinstance(kind, Array):
        return leaf
    if isinstance(value, np.floating):
        space[f"type_{leaf}"] = type(value)
        return f"type_{leaf}({leaf})"
    return leaf if kind.weak and straight else f"float({leaf})"


def restored(text: str, tree: Any, types: Sequence[Type], space: dict[str, Any]) -> str:
    """The value `text` of Numba's code, which has the structure `tree`, as NumPy would give it."""
    if isinstance(tree, Slot):
        return _scalar(text, types[tree.index], space)
    items = children(tree)
    if items is None:
        return text
    parts = [restored(f"{text}[{k}]", item, types, space) for k, item in enumerate(items)]
    return container(tree, parts, space)


def built(tree: Any, leaves: Sequence[str], space: dict[str, Any]) -> str:
    """The text that makes `tree`, of the texts of its leaves."""
    if isinstance(tree, Slot):
        return leaves[tree.index]
    items = children(tree)
    if items is None:
        return constant(tree, space)
    return container(tree, [built(item, leaves, space) for item in items], space)


def container(tree: Any, parts: list[str], space: dict[str, Any]) -> str:
    """The text of a container of the kind of `tree`, of the texts of what it holds."""
    inside = "".join(f"{part}, " for part in parts)
    match tree:
        case Record():
            fields = container(tree.fields, parts, space)
            return f"{constant(constructor(tree.kind), space)}({fields})"
        case tuple() if type(tree) is tuple:
            return f"({inside})"
        case tuple():
            space["new"] = tuple.__new__
            return f"new({constant(type(tree), space)}, ({inside}))"
        case list():
            return f"[{inside}]"
    pairs = zip(tree, parts, strict=True)
    return "{" + "".join(f"{constant(key, space)}: {part}, " for key, part in pairs) + "}"


def constant(value: Any, space: dict[str, Any]) -> str:
    """The text of something known while compiling."""
    if value is None or type(value) in (str, int, bool):
        return repr(value)
    name = f"known_{len(space)}"
    space[name] = value
    return name


def _scalar(text: str, kind: Type, space: dict[str, Any]) -> str:
    """A NumPy scalar where NumPy has one."""
    if not isinstance(kind, Scalar) or kind.weak:
        return text
    name = f"type_{kind.dtype}"
    space[name] = np.dtype(kind.dtype).type
    return f"{name}({text})"
