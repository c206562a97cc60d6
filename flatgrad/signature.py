"""From the arguments of a call to the types of a specialisation.

    2.0                      Scalar float, weak        3 where a gradient is asked: the same
    np.ones((5, 1))          Array float64[x.shape[0], 1]
    "relu", None, (1, 2)     Static: part of the signature
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from flatgrad.errors import error
from flatgrad.frontend.lower import Static
from flatgrad.ir.dims import Dim
from flatgrad.ir.types import FLOATS, Array, Scalar, Type

STATIC_KINDS = (bool, str, bytes, type(None), type, np.dtype, slice, range)


def type_of(name: str, value: Any, *, wants_gradient: bool, static: bool = False) -> Type | Static:
    """The type under which an argument is compiled.

    Raises
    ------
    UnsupportedError
        If the value is of a kind, or the array of a dtype, that is not handled.
    """
    if static or isinstance(value, STATIC_KINDS) or _is_static_tuple(value):
        return Static(value)
    if isinstance(value, np.ndarray):
        return array_type(name, value)
    if isinstance(value, int | np.integer):
        if wants_gradient:
            return Scalar("float64", weak=True)
        return Scalar("int64", weak=True, size=Dim.atom(f"?{name}"))
    if isinstance(value, np.floating):
        if value.dtype.name in FLOATS:
            return Scalar(value.dtype.name, weak=False)
        raise dtype_error(name, value.dtype)
    if isinstance(value, float):
        return Scalar("float64", weak=True)
    if callable(value) and not isinstance(value, np.ndarray):
        return Static(value)
    raise error(
        "unsupported-argument",
        f"`{name}` is a {type(value).__name__}, which is not handled",
        help="pass numbers and NumPy arrays (np.asarray)",
    )


def array_type(name: str, value: np.ndarray) -> Type:
    """The type of an array argument; 0-d arrays are numbers."""
    if type(value) is not np.ndarray and not isinstance(value, np.memmap):
        raise error(
            "unsupported-argument",
            f"`{name}` is a {type(value).__name__}, a subclass of ndarray",
            help=f"pass np.asarray({name})",
        )
    dtype = value.dtype
    known = dtype.name in FLOATS if dtype.kind == "f" else dtype.kind in "biu"
    if not (known and dtype.isnative):
        raise dtype_error(name, dtype)
    if value.ndim == 0:
        return Scalar(value.dtype.name)
    shape = tuple(
        1 if size == 1 else Dim.atom(f"{name}.shape[{axis}]")
        for axis, size in enumerate(value.shape)
    )
    return Array(value.dtype.name, shape)


def dtype_error(name: str, dtype: np.dtype) -> Exception:
    """An array of a dtype that has no derivatives here."""
    return error(
        "unsupported-dtype",
        f"`{name}` has dtype {dtype}; float64, float32, integers and bools are handled",
        help=f"convert it first, for example {name}.astype(np.float64)",
    )


def _is_static_tuple(value: Any) -> bool:
    return isinstance(value, tuple) and all(
        isinstance(item, int | str | None | bool) or _is_static_tuple(item) for item in value
    )


def hidden_type(name: str, value: Any) -> Type:
    """The type of a captured float or array."""
    kind = type_of(name, value, wants_gradient=False)
    assert not isinstance(kind, Static)
    return kind


def can_have_gradient(value: Any) -> bool:
    """Whether an argument of this value has a gradient when nothing was asked by name."""
    if isinstance(value, bool | np.bool_):
        return False
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind == "f"
    return isinstance(value, float | int)


def freeze(value: Any) -> Any:
    """A hashable key that tells values of different types apart (1, 1.0, True)."""
    if isinstance(value, tuple):
        return tuple(freeze(item) for item in value)
    if isinstance(value, slice):  # hashable from Python 3.12 on
        return (slice, freeze((value.start, value.stop, value.step)))
    return (type(value), value)


HiddenType = Callable[[str, Any], Type]
