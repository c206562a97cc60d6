"""Types of values: scalars and arrays, with the dtype, the rank and the axes of length 1 known.

    Scalar("float64", weak=True)         # a Python float: adapts to the arrays it meets (NEP 50)
    Array("float32", (N, 1))             # which axes have length 1 decides how it broadcasts
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from flatgrad.ir.dims import Dim, Size

FLOATS = ("float32", "float64")


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number. `weak`: a Python number, else a NumPy one. `size`: an int known symbolically."""

    dtype: str
    weak: bool = False
    size: Size | None = None

    shape = ()
    ndim = 0

    def __str__(self) -> str:
        name = {"float64": "float", "int64": "int"}.get(self.dtype, self.dtype)
        text = name if self.weak else self.dtype
        return f"{text}={self.size}" if isinstance(self.size, Dim) else text

    @property
    def differentiable(self) -> bool:
        """Whether a derivative with respect to such a value makes sense."""
        return self.dtype in FLOATS


@dataclass(frozen=True, slots=True)
class Array:
    """An array of known dtype and rank; each axis has a length that is an int or a `Dim`."""

    dtype: str
    shape: tuple[Size, ...]

    weak = False

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(str(size) for size in self.shape)}]"

    @property
    def ndim(self) -> int:
        """The rank."""
        return len(self.shape)

    @property
    def differentiable(self) -> bool:
        """Whether a derivative with respect to such a value makes sense."""
        return self.dtype in FLOATS


Type = Scalar | Array


def constant_type(value: object) -> Scalar:
    """The type of a Python or NumPy number.

    Raises
    ------
    TypeError
        If `value` is no number of a supported kind.
    """
    if isinstance(value, bool):
        return Scalar("bool", weak=True)
    if isinstance(value, int):
        return Scalar("int64", weak=True, size=value)
    if type(value) is float:
        return Scalar("float64", weak=True)
    if isinstance(value, np.generic) and value.dtype.kind in "biuf":
        return Scalar(value.dtype.name)
    raise TypeError(f"no number: {value!r}")


def make(dtype: str, shape: tuple[Size, ...], *, weak: bool = False) -> Type:
    """An array of this shape, or for `()` the scalar that NumPy hands out instead."""
    return Array(dtype, shape) if shape else Scalar(dtype, weak)
