"""Made-up arguments, for `.source()` of a function that was not called yet.

    def f(x, n: int, rate=0.1)      x = 1.0, n = 2, rate = 0.1; tangents of ones
"""

from __future__ import annotations

import dataclasses
import inspect
import re
from typing import Any

import numpy as np

from flatgrad.errors import error
from flatgrad.ir.trees import finished
from flatgrad.signature import can_have_gradient
from flatgrad.structures import spread


def example_argument(param: inspect.Parameter) -> Any:
    """An argument of the type that a parameter's annotation or default shows, else a float.

    Raises
    ------
    UnsupportedError
        If the annotation is an array, whose rank it does not tell, or a container.
    """
    if param.default is not param.empty:
        return param.default
    annotation = param.annotation
    name = getattr(annotation, "__name__", str(annotation))
    if name == "int":
        return 2
    if name == "bool":
        return True
    unknown = None
    if name in ("ndarray", "NDArray") or "ndarray" in str(annotation):
        unknown = "the rank of the array"
    elif _is_container(annotation, name):
        unknown = "what is in"
    if unknown is not None:
        raise error(
            "unsupported-argument",
            f"{unknown} `{param.name}` is not known yet",
            help="call the function once, or use .lower(*args)",
        )
    return 1.0


def _is_container(annotation: Any, name: str) -> bool:
    word = re.match(r"[\w.]*", name)
    plain = word is not None and word[0].rpartition(".")[2].lower() in ("dict", "list", "tuple")
    made = isinstance(annotation, type) and hasattr(annotation, "_fields")
    return plain or made or dataclasses.is_dataclass(annotation)


def example_tangent(value: Any, rows: int = 0) -> Any:
    """Ones in the shapes and dtypes of an argument, or so many of them as rows of stacks.

    There is None for what can have no tangent.
    """
    given = spread({"x": value})

    def ones(leaf: Any) -> Any:
        found = given.values[leaf.name]
        if not can_have_gradient(found, inside=leaf.inside):
            return None
        is_numpy = isinstance(found, np.ndarray | np.generic)
        if rows:
            return np.ones((rows, *np.shape(found)), found.dtype if is_numpy else float)
        return np.ones_like(found)[()] if is_numpy else 1.0

    return finished(given.trees["x"].built(ones))
