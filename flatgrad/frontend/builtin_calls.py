"""Python's builtins where they differ from the functions that have rules.

    len(x)  ->  x.shape[0]        abs, float, int have rules        sum([a, b])  ->  a + b
"""

from __future__ import annotations

import ast
import builtins
import math
from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from flatgrad.frontend.expressions import read
from flatgrad.frontend.refs import Ref
from flatgrad.primitives.symbolic import Symbol, is_symbolic

Handler = Callable[..., Any]


def is_pure(callee: Any) -> bool:
    """Whether a call on static values may be evaluated while compiling."""
    module = getattr(callee, "__module__", "") or ""
    if module.split(".")[0] in ("numpy", "math", "operator"):
        return not module.startswith("numpy.random")
    return isinstance(callee, np.ufunc) or callee in _PURE


_PURE = (
    abs, bool, dict, divmod, enumerate, float, int, isinstance, len, list, max, min, pow, range,
    reversed, round, slice, sorted, str, sum, tuple, zip, getattr, hasattr, type,
)  # fmt: skip


def _len(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    found = read(args[0])
    if isinstance(found, Symbol):
        if found.ndim == 0:
            raise low.refuse(node, "operand-type", "`len` of a number")
        return found.shape[0]
    return low.static(node, len, found)


def _sum(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    items, start = args[0], args[1] if len(args) > 1 else kwargs.get("start", 0)
    if isinstance(items, Ref):
        if read(items).ndim == 1:
            return low.apply(node, np.sum, (items,), {})
        return low.apply(node, np.sum, (items,), {"axis": 0})
    if not is_symbolic(read(items)):
        return low.static(node, sum, items, start)
    parts = [read(item) for item in items]
    return low.wrapped(reduce(add, parts if start == 0 else [read(start), *parts]))


def _extreme(function: Any) -> Handler:
    def call(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        items = args[0] if len(args) == 1 else args
        if isinstance(items, Ref) or kwargs:
            if kwargs or read(items).ndim != 1:
                raise low.refuse(node, "unsupported-call", f"this form of `{function.__name__}`")
            return low.apply(node, np.max if function is max else np.min, (items,), {})
        if not is_symbolic(read(tuple(items))):
            return low.static(node, function, *items)
        numeric = np.maximum if function is max else np.minimum
        return low.wrapped(reduce(numeric, [read(item) for item in items]))

    return call


def _isinstance(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    found, kinds = args
    if isinstance(found, Ref):
        return low.static(node, issubclass, np.ndarray, kinds)
    if isinstance(found, Symbol):
        weak = {"float64": float, "int64": int, "bool": bool}
        kind = weak[found.type.dtype] if found.type.weak else np.dtype(found.type.dtype).type
        return low.static(node, issubclass, kind, kinds)
    return low.static(node, isinstance, found, kinds)


def _add_at(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    base, index, value = args
    if not isinstance(base, Ref):
        raise low.refuse(node, "unsupported-write", "`np.add.at` into something that is no array")
    low.add_at(node, base, read(index), read(value))


BUILTINS: dict[Any, Handler] = {
    builtins.len: _len,
    builtins.sum: _sum,
    builtins.max: _extreme(max),
    builtins.min: _extreme(min),
    builtins.isinstance: _isinstance,
    np.add.at: _add_at,
    math.isclose: lambda low, node, args, kwargs: low.static(node, math.isclose, *args, **kwargs),
}
