"""What can stand in a loop nest, and how the elements of its operands are found.

    r: float64[N, C] = sub(%x: float64[N, C], %m: float64[N, 1])      r[i, j] = x[i, j] - m[i, 0]

A *form* says how an array is indexed in a nest over the axes 0, 1, ...: for each of its own axes
the axis of the nest whose index it gets, or None for index 0 on an axis of length 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from flatgrad.ir.dims import Size
from flatgrad.ir.ops import Apply, Function, Slot, Value
from flatgrad.ir.types import Array
from flatgrad.primitives.core import ASTYPE, IDENTITY
from flatgrad.primitives.typerules import normalize_axes

Form = tuple[int | None, ...]
Shape = tuple[Size, ...]

ARITHMETIC = frozenset(
    """
    add subtract sub multiply mul divide truediv negative neg positive pos lt less le less_equal
    gt greater ge greater_equal eq equal ne not_equal abs absolute fabs square reciprocal maximum
    minimum sign where clip astype logical_and logical_or and_ or_ bitwise_and bitwise_or relu
    isnan isfinite isinf floor ceil trunc rint copysign broadcast_to identity expand_dims squeeze
    """.split()  # noqa: SIM905
)
"""Elementwise functions that cost little more than reading a number."""
FUNCTIONS = frozenset(
    """
    pow power float_power sqrt cbrt exp exp2 expm1 log log2 log10 log1p sin cos tan arcsin arccos
    arctan arctan2 sinh cosh tanh arcsinh arccosh arctanh hypot logaddexp erf erfc sigmoid softplus
    gammaln lgamma psi silu normal_cdf gelu
    """.split()  # noqa: SIM905
)
"""Elementwise functions that are worth a loop of their own."""
REDUCTIONS = frozenset({"sum", "mean", "max", "min"})
PASSING = (np.broadcast_to, np.expand_dims, np.squeeze, IDENTITY)
"""Functions that hand on the elements of their operand."""
KINDS = ("float64", "float32", "bool", "int64")


class Lengths:
    """Which symbolic lengths are equal: those that are the same, and those that a call requires."""

    def __init__(self, fn: Function) -> None:
        self.same: dict[Size, Size] = {}
        for one in fn.requirements:
            left, right = self.find(one.left), self.find(one.right)
            if left != right and left != 1 and right != 1:
                self.same[left] = right

    def find(self, size: Size) -> Size:
        """The representative of all lengths that equal `size`."""
        while size in self.same:
            size = self.same[size]
        return size

    def equal(self, one: Size, other: Size) -> bool:
        """Whether two lengths are equal in every run that raises no error."""
        return self.find(one) == self.find(other)

    def alike(self, one: Shape, other: Shape) -> bool:
        """Whether two shapes are."""
        return len(one) == len(other) and all(map(self.equal, one, other))


def is_map(op: Apply) -> bool:
    """Whether every element of the result follows from one element of each operand."""
    if len(op.results) != 1 or not isinstance(op.result.type, Array):
        return False
    primitive, result = op.primitive, op.result.type
    if primitive.function in PASSING:
        return result.dtype in KINDS
    known = primitive.elementwise or primitive.function in (np.where, ASTYPE)
    if not known or primitive.name not in ARITHMETIC | FUNCTIONS:
        return False
    kinds = [operand.type.dtype for operand in op.operands]
    if any(kind not in KINDS for kind in (*kinds, result.dtype)):
        return False
    if result.dtype == "int64":
        return False
    if primitive.name in ("and_", "or_", "bitwise_and", "bitwise_or"):
        return set(kinds) == {"bool"}
    return not (primitive.function is ASTYPE and "int64" in (*kinds, result.dtype))


def is_reduction(op: Apply) -> bool:
    """Whether a result is a sum, mean, maximum or minimum over some axes of an array."""
    if len(op.results) != 1 or op.primitive.name not in REDUCTIONS or op.primitive.body:
        return False
    if op.primitive.function not in (np.sum, np.mean, np.max, np.min):
        return False
    source, result = op.operands[0].type, op.result.type
    if not isinstance(source, Array) or source.dtype not in KINDS:
        return False
    if result.dtype == "int64":  # how many elements of a mask are True
        return op.primitive.function is np.sum
    return result.dtype.startswith("float") and source.dtype.startswith("float")


def reduced_axes(op: Apply) -> tuple[int, ...]:
    """The axes over which a reduction goes."""
    rank = op.operands[0].type.ndim
    axis = op.arguments.get("axis")
    return tuple(range(rank)) if axis is None else tuple(sorted(normalize_axes(axis, rank)))


def is_heavy(op: Apply) -> bool:
    """Whether a loop for this operation alone is better than an array statement."""
    return op.primitive.name in FUNCTIONS and op.primitive.name not in ("pow", "power", "sqrt")


def operand_form(op: Apply, operand: Any, form: Form, lengths: Lengths) -> Form | None:
    """How an operand of a map is indexed where its result is indexed by `form`; None: unknown."""
    function = op.primitive.function
    if operand.type.ndim == 0:
        return ()
    if function in (np.expand_dims, np.squeeze):
        return _without_axes(op, form)
    rank = len(form)
    shape: Shape = operand.type.shape
    if len(shape) > rank:
        return None
    result = op.result.type.shape
    found: list[int | None] = []
    for own, size in enumerate(shape):
        k = own + rank - len(shape)
        if isinstance(size, int) and size == 1:
            found.append(form[k] if result[k] == 1 else None)
        elif lengths.equal(size, result[k]):
            found.append(form[k])
        else:
            return None
    return tuple(found)


def _without_axes(op: Apply, form: Form) -> Form | None:
    """The form of the operand of `expand_dims` or `squeeze`."""
    axis = op.arguments.get("axis")
    if op.primitive.function is np.expand_dims:
        gone = set(normalize_axes(axis, len(form)))
        return tuple(entry for k, entry in enumerate(form) if k not in gone)
    shape = op.operands[0].type.shape
    removed = (
        {k for k, size in enumerate(shape) if size == 1}
        if axis is None
        else set(normalize_axes(axis, len(shape)))
    )
    rest = iter(form)
    if len(shape) - len(removed) != len(form):
        return None
    return tuple(None if k in removed else next(rest) for k in range(len(shape)))


def data_operands(op: Apply) -> list[Any]:
    """The operands whose elements are read: not the lengths of a new shape."""
    if op.primitive.function is np.broadcast_to:
        slot = op.arguments["x" if "x" in op.arguments else "array"]
        return [op.operands[slot.index]] if isinstance(slot, Slot) else []
    return list(op.operands)


def shape_operands(op: Apply) -> Sequence[tuple[int, Any]]:
    """The axes of the result whose lengths are operands."""
    shape = op.arguments.get("shape")
    if not isinstance(shape, tuple):
        return []
    return [(k, op.operands[item.index]) for k, item in enumerate(shape) if isinstance(item, Slot)]


def is_array(operand: Any) -> bool:
    """Whether an operand is an array of at least one axis."""
    return isinstance(operand, Value) and isinstance(operand.type, Array)
