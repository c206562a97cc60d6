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

from flatgrad.ir.ops import Slot
from flatgrad.ir.types import Array, Scalar, Type


def converted(leaf: str, kind: Type, value: Any, space: dict[str, Any]) -> str:
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
    return leaf if kind.weak else f"float({leaf})"


def restored(text: str, tree: Any, types: Sequence[Type], space: dict[str, Any]) -> str:
    """The value `text` of Numba's code, which has the structure `tree`, as NumPy would give it."""
    match tree:
        case Slot(index):
            return _scalar(text, types[index], space)
        case tuple() | list() if tree:
            parts = [restored(f"{text}[{k}]", item, types, space) for k, item in enumerate(tree)]
            inside = ", ".join(parts)
            return f"[{inside}]" if isinstance(tree, list) else f"({inside},)"
        case dict() if tree:
            entries = []
            for k, (key, item) in enumerate(tree.items()):
                name = f"key_{len(space)}"
                space[name] = key
                entries.append(f"{name}: {restored(f'{text}[{k}]', item, types, space)}")
            return "{" + ", ".join(entries) + "}"
        case list() | dict():
            return "[]" if isinstance(tree, list) else "{}"
    return text


def _scalar(text: str, kind: Type, space: dict[str, Any]) -> str:
    """A NumPy scalar where NumPy has one."""
    if not isinstance(kind, Scalar) or kind.weak:
        return text
    name = f"type_{kind.dtype}"
    space[name] = np.dtype(kind.dtype).type
    return f"{name}({text})"
