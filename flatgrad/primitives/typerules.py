"""What type rules share: broadcasting, dtype promotion, axes, and lengths that must agree.

    broadcast((N, 1), (M,))  ->  (N, M)          # which axes have length 1 is known
    promoted(np.add, float32[N], Scalar float)   ->  "float32"     # asked of NumPy itself
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np

from flatgrad.errors import Span, error
from flatgrad.ir.dims import Dim, Size, may_be_one, opaque
from flatgrad.ir.ops import Requirement
from flatgrad.ir.types import Array, Scalar, Type, make

_INTEGER_RULES = {"add", "sub", "mul", "neg", "pos"}


@dataclass(slots=True)
class TypingContext:
    """Where the call being typed stands, what the user calls its operands, and what it requires.

    `arguments` are those of the call with the operands themselves in it, not their types.
    """

    span: Span | None = None
    names: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)
    requirements: list[Requirement] = field(default_factory=list)


_current: list[TypingContext] = [TypingContext()]


class typing_call:
    """`with typing_call(context):` the type rules inside report to that context."""

    def __init__(self, context: TypingContext) -> None:
        self.context = context

    def __enter__(self) -> TypingContext:
        _current.append(self.context)
        return self.context

    def __exit__(self, *_: object) -> None:
        _current.pop()


def named(param: str) -> str:
    """The user's words for an operand."""
    return _current[-1].names.get(param, param)


def argument(name: str) -> Any:
    """An argument of the call being typed, with the operands themselves in it."""
    return _current[-1].arguments.get(name)


def require_same(
    left: Size, right: Size, message: Callable[[Any, Any], str], *, guard: bool = False
) -> None:
    """Two lengths must be equal: checked now if known, else when the arguments are seen.

    `message(left_length, right_length)` says so in the user's words. With `guard`, the emitted code
    checks what the arguments do not tell; without, NumPy itself does.

    Raises
    ------
    ShapeError
        If both are known and differ.
    """
    if left == right:
        return
    context = _current[-1]
    if isinstance(left, int) and isinstance(right, int):
        raise error("shape-mismatch", message(left, right), context.span)

    def described(lengths: dict[str, int]) -> str:
        return message(_known(left, lengths, "m"), _known(right, lengths, "n"))

    context.requirements.append(Requirement(left, right, described, context.span, guard))


def _known(size: Size, lengths: dict[str, int], letter: str) -> Any:
    """A length for a message; a letter for one that only running can tell."""
    if isinstance(size, int):
        return size
    found = size.value(lengths)
    return found if found is not None else letter if opaque(size) else size


def fail(code: str, message: str, help: str | None = None) -> Exception:
    """An error at the call being typed."""
    return error(code, message, _current[-1].span, help=help)


def broadcast(
    *shapes: tuple[Size, ...], names: Sequence[str] = ("a", "b", "c")
) -> tuple[Size, ...]:
    """The shape that these broadcast to; lengths that must agree are required to."""
    rank = max((len(shape) for shape in shapes), default=0)
    result: list[Size] = []
    for axis in range(-rank, 0):
        best: Size = 1
        owner = 0
        for k, shape in enumerate(shapes):
            if -axis > len(shape) or shape[axis] == 1:
                continue
            size = shape[axis]
            if best == 1:
                best, owner = size, k
                continue
            one, other = names[owner % len(names)], names[k % len(names)]
            silent = may_be_one(best) or may_be_one(size)
            require_same(best, size, _mismatch(one, other, axis), guard=silent)
            best, owner = _preferred((best, owner), (size, k))
        result.append(best)
    return tuple(result)


def _preferred(one: tuple[Size, int], other: tuple[Size, int]) -> tuple[Size, int]:
    """Of two lengths that are equal, the one about which more is known."""
    if isinstance(one[0], int):
        return one
    if isinstance(other[0], int) or (may_be_one(one[0]) and not may_be_one(other[0])):
        return other
    return one


def _mismatch(one: str, other: str, axis: int) -> Callable[[Any, Any], str]:
    left, right = named(one), named(other)

    def message(m: Any, n: Any) -> str:
        return (
            f"{left} and {right} do not broadcast: "
            f"axis {axis} has length {m} in {left} and {n} in {right}"
        )

    return message


def elementwise_type(function: Callable[..., Any], *types: Type) -> Type:
    """The type of an elementwise function of operands of these types."""
    for kind in types:
        if not isinstance(kind, Scalar | Array):
            raise fail("operand-type", f"`{function.__name__}` takes arrays and numbers")
    if getattr(math, function.__name__, None) is function and any(t.ndim for t in types):
        raise fail(
            "operand-type",
            f"`math.{function.__name__}` takes a number, not an array",
            help=f"use the NumPy function, `np.{function.__name__}`",
        )
    shape = broadcast(*[kind.shape for kind in types])
    dtype, weak = promoted(function, *types)
    if shape:
        return Array(dtype, shape)
    return Scalar(dtype, weak, _symbolic(function, types) if dtype == "int64" else None)


def _symbolic(function: Callable[..., Any], types: tuple[Type, ...]) -> Size | None:
    """The symbolic value of integer arithmetic on lengths."""
    sizes = [kind.size for kind in types if isinstance(kind, Scalar)]
    if any(size is None for size in sizes) or function.__name__ not in _INTEGER_RULES:
        return None
    if all(isinstance(size, int) for size in sizes):
        return None
    result: Size = function(*sizes) if len(sizes) == 2 else sizes[0] * (-1)  # type: ignore[operator]
    return result if isinstance(result, Dim | int) else None


def promoted(function: Callable[..., Any], *types: Type) -> tuple[str, bool]:
    """The dtype of the result, and whether it is a (weak) Python number: asked of NumPy itself."""
    kinds = tuple((kind.dtype, kind.weak, kind.ndim > 0) for kind in types)
    try:
        return _probe(function, kinds)
    except (TypeError, ValueError) as caught:
        raise fail("operand-type", f"`{function.__name__}`: {caught}") from None


@lru_cache(maxsize=4096)
def _probe(
    function: Callable[..., Any], kinds: tuple[tuple[str, bool, bool], ...]
) -> tuple[str, bool]:
    try:
        outcome = _outcome(function, kinds, 1.0)
    except ValueError:  # outside the domain of a function of `math`
        outcome = _outcome(function, kinds, 0.5)
    if isinstance(outcome, np.ndarray | np.generic):
        return outcome.dtype.name, False
    return np.asarray(outcome).dtype.name, True


def _outcome(
    function: Callable[..., Any], kinds: tuple[tuple[str, bool, bool], ...], number: float
) -> Any:
    with np.errstate(all="ignore"):
        return function(*[_sample(*kind, number) for kind in kinds])


def _sample(dtype: str, weak: bool, is_array: bool, number: float) -> Any:
    if weak:
        return {"bool": True, "int64": 1}.get(dtype, number)
    one = np.dtype(dtype).type(1)
    return np.full(1, one) if is_array else one


def normalize_axis(axis: int, rank: int) -> int:
    """A non-negative axis.

    Raises
    ------
    ShapeError
        If the array has no such axis.
    """
    if not -rank <= axis < rank:
        raise fail("axis-out-of-range", f"axis {axis} of an array with {rank} axes")
    return axis % rank


def normalize_axes(axis: int | Sequence[int] | None, rank: int) -> tuple[int, ...]:
    """All axes for None, else the given ones, non-negative and sorted."""
    if axis is None:
        return tuple(range(rank))
    axes = [axis] if isinstance(axis, int | np.integer) else list(axis)
    found = tuple(sorted(normalize_axis(one, rank) for one in axes))
    if len(set(found)) < len(found):
        raise fail("axis-out-of-range", f"axis={axis} names an axis twice")
    return found


def reduced(
    function: Callable[..., Any], x: Type, axis: Any = None, keepdims: bool = False
) -> Type:
    """The type of a reduction over `axis`; the dtype is asked of NumPy."""
    if not isinstance(x, Scalar | Array):
        raise fail(
            "operand-type", f"`np.{function.__name__}` takes an array here, not a list",
            "join the parts with np.stack or np.concatenate first",
        )  # fmt: skip
    axes = normalize_axes(axis, x.ndim)
    dtype, _ = promoted(function, Array(x.dtype, (2,)) if x.ndim == 0 else x)
    shape = tuple(
        1 if k in axes else size for k, size in enumerate(x.shape) if keepdims or k not in axes
    )
    return make(dtype, shape)


def as_size(length: Any) -> Size:
    """The symbolic length for an entry of a `shape` argument: an int, or the type of a Value."""
    if isinstance(length, Scalar):
        if length.size is None:
            return fresh_size()
        return length.size
    return int(length)


_fresh = itertools.count(1)
_counted: dict[Hashable, Dim] = {}


def fresh_size(key: Hashable = None) -> Dim:
    """A length about which nothing is known while compiling (it may even be 1).

    The same `key` gives the same length: `x[mask]` and `y[mask]` agree.
    """
    if key is None:
        return Dim.atom(f"?{next(_fresh)}")
    if key not in _counted:
        _counted[key] = fresh_size()
    return _counted[key]


def restart_fresh_sizes() -> None:
    """Number fresh lengths from 1 again, so that printed IR is the same from run to run."""
    global _fresh
    _fresh = itertools.count(1)
    _counted.clear()
