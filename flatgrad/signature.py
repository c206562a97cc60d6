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
from flatgrad.structures import Spread, is_static_tuple

STATIC_KINDS = (bool, str, bytes, type(None), type, np.dtype, slice, range)


def type_of(
    name: str, value: Any, *, wants_gradient: bool, static: bool = False, shown: str | None = None
) -> Type | Static:
    """The type under which an argument, or a leaf of one, is compiled.

    `shown` is how the user reaches it.

    Raises
    ------
    UnsupportedError
        If the value is of a kind, or the array of a dtype, that is not handled.
    """
    shown = shown or name
    if static or isinstance(value, STATIC_KINDS) or is_static_tuple(value):
        return Static(value)
    if isinstance(value, np.ndarray):
        return array_type(name, value, shown)
    if isinstance(value, int | np.integer):
        if wants_gradient:
            return Scalar("float64", weak=True)
        if isinstance(value, np.integer) and value.dtype != np.int64:
            return Scalar(value.dtype.name)  # its arithmetic wraps around
        sign = "+" if value >= 0 else ""  # so that `range(n)` has n trips
        return Scalar("int64", weak=True, size=Dim.atom(f"?{name}{sign}"))
    if isinstance(value, np.floating):
        if value.dtype.name in FLOATS:
            return Scalar(value.dtype.name, weak=False)
        raise dtype_error(shown, value.dtype)
    if isinstance(value, float):
        return Scalar("float64", weak=True)
    if callable(value) and not isinstance(value, np.ndarray):
        return Static(value)
    raise error(
        "unsupported-argument",
        f"`{shown}` is a {type(value).__name__}, which is not handled",
        help="pass numbers, NumPy arrays (np.asarray), and tuples, lists, dicts of these",
    )


def array_type(name: str, value: np.ndarray, shown: str) -> Type:
    """The type of an array argument; 0-d arrays are numbers."""
    if type(value) is not np.ndarray and not isinstance(value, np.memmap):
        raise error(
            "unsupported-argument",
            f"`{shown}` is a {type(value).__name__}, a subclass of ndarray",
            help=f"pass np.asarray({shown})",
        )
    dtype = value.dtype
    known = dtype.name in FLOATS if dtype.kind == "f" else dtype.kind in "biu"
    if not (known and dtype.isnative):
        raise dtype_error(shown, dtype)
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


def hidden_type(name: str, value: Any) -> Type:
    """The type of a captured float or array."""
    kind = type_of(name, value, wants_gradient=False)
    assert not isinstance(kind, Static)
    return kind


def can_have_gradient(value: Any, *, inside: bool = False) -> bool:
    """Whether an argument of this value has a gradient when nothing was asked by name.

    An int argument is taken as a float; `inside` of a container it is a count.
    """
    if inside and isinstance(value, int):
        return False
    if isinstance(value, bool | np.bool_):
        return False
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind == "f"
    return isinstance(value, float | int)


def check_differentiable(given: Spread, parameter: str, instead: str) -> None:
    """Refuse a parameter that cannot have a gradient.

    Raises
    ------
    ArgumentError
        If it is no float and no float array, and contains none.
    """
    names = given.leaves(parameter)
    if names == [parameter]:
        check_able(given, parameter, instead)
    elif not any(can_have_gradient(given.values[name], inside=True) for name in names):
        raise error(
            "not-differentiable",
            f"`{parameter}` contains no float and no float array and cannot have a gradient",
            help=f"pass floats or float arrays in it, or {instead}",
        )


def check_able(given: Spread, name: str, instead: str) -> None:
    """Refuse a leaf that cannot have a gradient; the errors of `check_differentiable`."""
    value = given.values[name]
    if can_have_gradient(value, inside=name in given.inside):
        return
    what = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else repr(value)
    raise error(
        "not-differentiable",
        f"`{given.shown[name]}` is {what} and cannot have a gradient",
        help=f"pass a float or a float array, or {instead}",
    )


def freeze(value: Any) -> Any:
    """A hashable key that tells values of different types apart (1, 1.0, True)."""
    if isinstance(value, tuple):
        return (type(value), *[freeze(item) for item in value])
    if isinstance(value, slice):  # hashable from Python 3.12 on
        return (slice, freeze((value.start, value.stop, value.step)))
    return (type(value), value)


HiddenType = Callable[[str, Any], Type]
