"""Tangents and adjoints that users pass: named after their parameter, of its shape and dtype.

    def f(w, x): ...          f_jvp(w, x, dot_w=None, dot_x=None)
"""

from __future__ import annotations

import inspect
from typing import Any

import numpy as np

from flatgrad.errors import error
from flatgrad.ir.dims import Dim, Size
from flatgrad.ir.types import Array, Type


def with_tangents(
    signature: inspect.Signature, prefix: str
) -> tuple[inspect.Signature, dict[str, str]]:
    """The signature with a tangent for each parameter, and their names by parameter.

    Tangents of positional parameters follow these, in order; those of keywords are keywords.
    """
    names = set(signature.parameters)
    seeds: dict[str, str] = {}
    before: list[inspect.Parameter] = []
    after: list[inspect.Parameter] = []
    for param in signature.parameters.values():
        name, count = f"{prefix}_{param.name}", 0
        while name in names:
            count += 1
            name = f"{prefix}_{param.name}_{count}"
        names.add(name)
        seeds[param.name] = name
        keyword = param.kind is param.KEYWORD_ONLY
        kind = param.KEYWORD_ONLY if keyword else param.POSITIONAL_OR_KEYWORD
        made = inspect.Parameter(name, kind, default=None)
        (after if keyword else before).append(made)
    params = list(signature.parameters.values())
    positional = [param for param in params if param.kind is not param.KEYWORD_ONLY]
    keywords = [param for param in params if param.kind is param.KEYWORD_ONLY]
    return signature.replace(parameters=[*positional, *before, *keywords, *after]), seeds


def fitting(name: str, tangent: Any, owner: str, shape: tuple[int, ...], kind: Type) -> Any:
    """A tangent or adjoint as emitted code takes it.

    Raises
    ------
    ShapeError
        If it has another shape than the value to which it belongs.
    TypeInferenceError
        If it has another dtype, or is no number or array.
    """
    check_fit(name, tangent, owner, shape, kind)
    if isinstance(kind, Array):
        return tangent
    if isinstance(tangent, np.ndarray):
        tangent = tangent[()]
    return float(tangent) if kind.weak else np.dtype(kind.dtype).type(tangent)


def stack_type(
    name: str, stack: Any, words: tuple[str, str], shape: tuple[int, ...], kind: Type
) -> Array:
    """The type of a stack of tangents: one more axis than its value has, in front.

    `words` are what messages call the stack and, in backquotes, its value.

    Raises
    ------
    ShapeError, TypeInferenceError
        If its rows do not have the shape and dtype of the value.
    """
    shown, owner = words
    if not isinstance(stack, np.ndarray) or stack.ndim == 0:
        what = f"`{shown}` is a {type(stack).__name__}"
        raise error("operand-type", f"{what}; a stack of tangents is an array, a row for each")
    if not len(stack):
        raise error("shape-mismatch", f"`{shown}` has no rows", help="pass at least one tangent")
    if stack.shape[1:] != shape:
        raise error(
            "shape-mismatch",
            f"the rows of `{shown}` have shape {stack.shape[1:]}, {owner} has shape {shape}",
            help=f"one more axis in front: {(len(stack), *shape)}",
        )
    check_fit(shown, stack[0], owner, shape, kind)
    count: Size = 1 if len(stack) == 1 else Dim.atom(f"{name}.shape[0]")
    return Array(kind.dtype, (count, *kind.shape))


def check_rows(stacks: dict[str, Any]) -> None:
    """All stacks are of as many tangents.

    Raises
    ------
    ShapeError
        If not.
    """
    counts = {name: len(stack) for name, stack in stacks.items()}
    if len(set(counts.values())) > 1:
        words = " and ".join(f"`{name}` {count}" for name, count in sorted(counts.items()))
        raise error("shape-mismatch", f"stacks of unlike numbers of tangents: {words}")


def check_fit(name: str, tangent: Any, owner: str, shape: tuple[int, ...], kind: Type) -> None:
    """Compare a tangent or adjoint with the value to which it belongs; the errors of `fitting`."""
    found: Any = tangent.dtype if isinstance(tangent, np.ndarray | np.generic) else None
    if found is None and type(tangent) not in (int, float):
        what = f"`{name}` is a {type(tangent).__name__}"
        raise error("operand-type", f"{what}; it is a number or an array, as {owner} is")
    if np.shape(tangent) != shape:
        raise error(
            "shape-mismatch",
            f"`{name}` has shape {np.shape(tangent)}, {owner} has shape {shape}",
        )
    if found is not None and found != np.dtype(kind.dtype):
        raise error(
            "operand-type",
            f"`{name}` has dtype {found}, {owner} has {kind.dtype}",
            help=f"convert it: {name}.astype(np.{kind.dtype})",
        )
