"""Reading and writing elements: `x[i]`, `x[1:, ::2]`, `x[mask]`, `x[rows, columns]`.

    y = x[index]          grad_x = np.zeros_like(x); grad_x[index] += grad_y

Every form of NumPy's is handled but arrays of zero axes among the indices. Elements that an integer
array names twice add up in the gradient of a read; in a write the last one counts.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from flatgrad.ir.dims import (
    Size,
    at_most_one,
    is_one_element,
    may_be_one,
    opaque,
    slice_length,
)
from flatgrad.ir.ops import Const
from flatgrad.ir.types import Array, Scalar, make
from flatgrad.primitives.registry import call, composite, linear, method, primitive, vjp
from flatgrad.primitives.samples import A, I
from flatgrad.primitives.symbolic import Symbol, operation
from flatgrad.primitives.typerules import (
    argument,
    broadcast,
    fail,
    fresh_size,
    named,
    normalize_axis,
    require_same,
)


def _indices():
    every = slice(None)
    return [
        call(A(5), 2), call(A(5), -1), call(A(5), slice(1, 4)), call(A(6), slice(None, None, -2)),
        call(A(3, 4), 1), call(A(3, 4), (1, 2)), call(A(3, 4), (every, None, 0)),
        call(A(3, 4), (Ellipsis, slice(1, None))), call(A(3, 4), I([0, 2, 2])),
        call(A(3, 4), (I([0, 2, 2]), I([1, 1, 1]))), call(A(3, 4), (I([[0], [2]]), I([1, 3]))),
        call(A(4), I([True, False, True, True])), call(A(3, 4), (every, I([3, 0]))),
        call(A(2, 3, 4), (I([0, 1]), every, I([1, 3]))),
        call(A(2, 3, 4), (0, Ellipsis, I([1, 3, 3]))),
        call(A(2, 2), I([[True, False], [True, True]])),
        call(A(5), I(3)), call(A(3, 4), (I(-1), slice(I(1), I(3)))), call(A(6), slice(I(-3), None)),
        call(A(5), [0, -1, 0]), call(A(3, 4), ([0, 1], every)), call(A(4), np.array([2, 2])),
        call(A(3), [True, False, True]), call(A(3, 4, dtype="float32"), (1, slice(None, 2))),
        call(A(2, 3, 4), (I([[True, False, True], [False, True, True]]), slice(1, None))),
        call(A(3, 4), (I([True, False, True]), I([1, 3]))), call(A(2, 3), ()),
        call(A(1, 4), (0, None, slice(None, 1))), call(A(3, 4), Ellipsis),
        call(A(2, 3, 4), (every, 1, I([[0, 1], [2, 2]]))), call(A(3), I(np.zeros((2, 0), int))),
    ]  # fmt: skip


@primitive(operator.getitem, dynamic=("index",), alias="x", samples=_indices)
def _(x, /, index):
    return make(x.dtype, indexed_shape(x, index))


linear(operator.getitem)


@vjp(operator.getitem)
def _(grad_y, y, x, *, index):
    entries = index if isinstance(index, tuple) else (index,)
    if all(entry is None or entry is Ellipsis or _is_whole(entry) for entry in entries):
        return np.squeeze(grad_y, _new_axes(entries, x.ndim))
    return add_item(np.zeros_like(x), grad_y, index)


def _is_whole(entry):
    """Whether an entry is `:`."""
    return isinstance(entry, slice) and entry.start is entry.stop is entry.step is None


def _new_axes(entries, rank):
    """The axes of the result at which `None` stands."""
    given = sum(isinstance(entry, slice) for entry in entries)
    axes, axis = [], 0
    for entry in entries:
        if entry is None:
            axes.append(axis)
        axis += rank - given if entry is Ellipsis else 1
    return axes[0] if len(axes) == 1 else tuple(axes)


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of an index: what stands there, the operands in it, the axes it indexes."""

    kind: Any
    operand: Any
    sizes: tuple[Size, ...]


def indexed_shape(x: Any, index: Any) -> tuple[Size, ...]:
    """The shape of `x[index]`, by NumPy's rules for basic and advanced indices.

    Integers and arrays broadcast together. Their axes come first if a slice, a new axis or `...`
    stands between two of them, else where the first of them stands.
    """
    entries = list(_expanded(x, index))
    advanced = any(is_advanced(entry.kind) for entry in entries)
    joint: tuple[Size, ...] = ()
    together = True
    if advanced:
        joint = broadcast(*[_array_shape(entry) for entry in entries if is_advanced(entry.kind)])
        places = [k for k, e in enumerate(entries) if is_advanced(e.kind) or _is_int(e.kind)]
        together = places == list(range(places[0], places[-1] + 1))
    shape: list[Size] = [] if together else list(joint)
    for k, entry in enumerate(entries):
        if advanced and together and k == places[0]:
            shape.extend(joint)
        if entry.kind is None:
            shape.append(1)
        elif isinstance(entry.kind, slice):
            shape.append(sliced(entry))
    return tuple(shape)


def _expanded(x: Any, index: Any) -> Iterator[Entry]:
    """The entries of an index with the axes they take; `...` is written out.

    An `...` that stands for no axis at all is kept: it separates indices, too.
    """
    kinds = list(index) if isinstance(index, tuple) else [index]
    given = argument("index")
    operands = list(given) if isinstance(given, tuple) else [given]
    if given is None:
        operands = list(kinds)
    used = sum(_axes_taken(kind) for kind in kinds)
    if used > x.ndim:
        raise fail("unsupported-index", f"{used} indices into an array with {x.ndim} axes")
    if sum(kind is Ellipsis for kind in kinds) > 1:
        raise fail("unsupported-index", "an index can have only one `...`")
    if not any(kind is Ellipsis for kind in kinds) and used < x.ndim:
        kinds, operands = [*kinds, Ellipsis], [*operands, Ellipsis]
    axis = 0
    for kind, operand in zip(kinds, operands, strict=True):
        if kind is Ellipsis:
            for size in x.shape[axis : axis + x.ndim - used]:
                yield Entry(slice(None), slice(None), (size,))
            if used == x.ndim:
                yield Entry(Ellipsis, Ellipsis, ())
            axis += x.ndim - used
            continue
        entry = Entry(kind, operand, x.shape[axis : axis + _axes_taken(kind)])
        axis += len(entry.sizes)
        _check(entry)
        yield entry


def _axes_taken(kind: Any) -> int:
    """How many axes an entry indexes.

    Raises
    ------
    UnsupportedError
        If it is no index.
    """
    if kind is None or kind is Ellipsis:
        return 0
    if isinstance(kind, slice) or _is_int(kind):
        return 1
    if is_mask(kind):
        return len(_shape_of(kind))
    if isinstance(kind, list) or _rank(kind):
        dtype = np.asarray(kind).dtype if isinstance(kind, list) else np.dtype(kind.dtype)
        if dtype.kind in "iu" or (isinstance(kind, list) and all(_is_int(item) for item in kind)):
            return 1
        raise fail("unsupported-index", f"an index array of {dtype}", "use integers or booleans")
    raise fail(
        "unsupported-index",
        f"{kind} as an index",
        "an index is an integer, a slice, None, `...`, or an array of integers or booleans",
    )


def _check(entry: Entry) -> None:
    """What can be known of the bounds while compiling."""
    if is_mask(entry.kind):
        for one, other in zip(_shape_of(entry.kind), entry.sizes, strict=True):
            require_same(one, other, lambda m, n: f"a mask of length {m} on an axis of {n}")
    position = entry.kind.size if isinstance(entry.kind, Scalar) else entry.kind
    if not (isinstance(position, int) and isinstance(entry.sizes[0], int)):
        return
    if not -entry.sizes[0] <= position < entry.sizes[0]:
        raise fail("unsupported-index", f"index {position} on an axis of {entry.sizes[0]}")


def is_mask(kind: Any) -> bool:
    """Whether an index entry is a boolean array, or a list of booleans."""
    if isinstance(kind, list):
        return bool(kind) and all(isinstance(item, bool | np.bool_) for item in kind)
    return getattr(kind, "dtype", None) == "bool" and _rank(kind) > 0


def is_advanced(kind: Any) -> bool:
    """Whether an index entry is an array or list (of integers or booleans)."""
    return _rank(kind) > 0 or isinstance(kind, list)


def _rank(kind: Any) -> int:
    return int(getattr(kind, "ndim", 0))


def _is_int(kind: Any) -> bool:
    if isinstance(kind, bool | np.bool_):
        return False
    if isinstance(kind, Scalar):
        return np.dtype(kind.dtype).kind in "iu"
    return isinstance(kind, int | np.integer)


def _shape_of(kind: Any) -> tuple[Size, ...]:
    return (len(kind),) if isinstance(kind, list) else tuple(kind.shape)


def _array_shape(entry: Entry) -> tuple[Size, ...]:
    """The shape of the integer array that an entry is or, for a mask, stands for."""
    if not is_mask(entry.kind):
        return _shape_of(entry.kind)
    if isinstance(entry.operand, list | np.ndarray):
        return (int(np.count_nonzero(entry.operand)),)
    return (fresh_size(("mask", entry.operand)),)


def sliced(entry: Entry) -> Size:
    """The length of a slice; a slice of one element has length 1, so an empty axis is refused."""
    parts = (entry.kind.start, entry.kind.stop, entry.kind.step)
    bounds = tuple(_bound(part) for part in parts)
    if any(bound is _UNKNOWN for bound in bounds):
        operand = entry.operand
        written = (operand.start, operand.stop, operand.step)
        key = tuple(
            _key(part) if bound is _UNKNOWN else bound
            for part, bound in zip(written, bounds, strict=True)
        )
        return fresh_size(("slice", entry.sizes[0], key))
    if bounds[2] == 0:
        raise fail("unsupported-index", "a slice with step 0")
    length = slice_length(entry.sizes[0], *bounds)
    if at_most_one(length) and not opaque(length):
        require_same(length, 1, lambda m, n: f"a slice of one element has length {m}")
        return 1
    if is_one_element(length):
        message = "a slice of one element, `[i:i + 1]`, needs 0 <= i < the length of the axis"
        require_same(length, 1, lambda *_: message, guard=True)
        return 1
    return length


_UNKNOWN = object()


def _bound(part: Any) -> Any:
    """A bound of a slice: None, an int, a symbolic length, or unknown."""
    if isinstance(part, Scalar):
        return _UNKNOWN if part.size is None or not _is_int(part) else part.size
    if part is None or _is_int(part):
        return None if part is None else int(part)
    raise fail("unsupported-index", f"{part} as a bound of a slice", "a bound is an integer")


def _key(part: Any) -> Any:
    return part.value if isinstance(part, Const) else part


def SET_ITEM(x, value, index):
    """A copy of `x` with `x[index] = value`; written in place where the old value is dead."""
    result = np.array(x)
    result[index] = value
    return result


def ADD_ITEM(x, value, index):
    """A copy of `x` with `value` added at `index`; elements indexed twice get both (np.add.at)."""
    result = np.array(x)
    np.add.at(result, index, value)
    return result


set_item = operation(SET_ITEM)
add_item = operation(ADD_ITEM)


def _writes():
    every = slice(None)
    return [
        call(A(5), A(), 2), call(A(5), A(3), slice(1, 4)), call(A(3, 4), A(), (1, 2)),
        call(A(3, 4), A(4), 0), call(A(3, 4), A(3, 1), (every, slice(1, 3))),
        call(A(5), A(), every), call(A(4), A(), I([True, False, True, True])),
        call(A(4), A(3), I([True, False, True, True])), call(A(3, 4), A(3), (every, I(1))),
        call(A(5), A(3), slice(I(0), I(3))), call(A(5), A(2), [0, 3]), call(A(3), 2.0, 0),
        call(A(3, 4), A(3), (Ellipsis, 1)), call(A(3, 4), A(1), (0, slice(None, 2))),
    ]  # fmt: skip


def _scattered():
    return [
        call(A(5), A(3), I([0, 2, 2])), call(A(3, 4), A(4), I([1, 1])), call(A(5), A(), I([0, 0])),
        call(A(3, 4), A(2, 1), (I([[0], [0]]), I([1, 3]))),
        call(A(3, 4), A(2, 3), (slice(None, 2), I([0, 0, -4]))),
        call(A(3, 4), A(3), (I([0, 0, 0]), slice(I(0), I(3)))),
    ]  # fmt: skip


def _too_long(length, room):
    return f"{length} values are written where there is room for {room}"


def checked_write(x, value, index):
    shape = indexed_shape(x, index)
    given = list(value.shape)
    for axis in range(-min(len(given), len(shape)), 0):
        if shape[axis] == 1 and given[axis] != 1 and may_be_one(given[axis]):
            require_same(given[axis], 1, _too_long)  # or NumPy raises
            given[axis] = 1
    target = broadcast(tuple(given), shape, names=("value", "x"))
    if len(target) > len(shape) or any(
        one == 1 and other != 1 for one, other in zip(shape, target, strict=True)
    ):
        room = ", ".join(map(str, shape))
        raise fail("shape-mismatch", f"{named('value')} does not fit into the shape ({room})")
    return Array(x.dtype, x.shape)


@primitive(
    SET_ITEM, name="set_item", dynamic=("index",), in_place="x",
    samples=lambda: [*_writes(), *_scattered()],
)  # fmt: skip
def _(x, value, /, index):
    return checked_write(x, value, index)


linear(SET_ITEM)


@vjp(SET_ITEM)
def _(grad_y, y, x, value, *, index):
    grad_value = grad_y[index]
    if has_duplicates(typed(index)):
        grad_value = np.where(_is_last(grad_value, grad_y, index), grad_value, 0.0)
    return set_item(grad_y, 0.0, index), grad_value


def _is_last(item, like, index):
    """Where in `x[index] = value` an element of `value` is not overwritten by a later one."""
    order = operation(np.arange)(item.size).reshape(item.shape)
    return set_item(np.zeros_like(like, dtype=np.int64), order, index)[index] == order


@primitive(
    ADD_ITEM, name="add_item", dynamic=("index",), in_place="x",
    samples=lambda: [*_writes(), *_scattered()],
)  # fmt: skip
def _(x, value, /, index):
    return checked_write(x, value, index)


linear(ADD_ITEM)


@vjp(ADD_ITEM)
def _(grad_y, y, x, value, *, index):
    return grad_y, grad_y[index]


@composite(np.take)
def _(a, indices, axis=None):
    # NumPy takes booleans as the positions 0 and 1 here, not as a mask.
    return _along(a, _without_masks(indices, "np.take"), axis)


@composite(np.compress)
def _(condition, a, axis=None):
    if not is_mask(typed(condition)):
        raise fail("operand-type", "the condition of `np.compress` must be an array of booleans")
    return _along(a, condition, axis)


def _along(a, indices, axis):
    if axis is None:
        return np.ravel(a)[indices]
    return a[(*[slice(None)] * normalize_axis(axis, a.ndim), indices)]


def _without_masks(indices, name):
    kind = typed(indices)
    if is_mask(kind) or getattr(kind, "dtype", None) == "bool":
        raise fail("operand-type", f"`{name}` with booleans", "index with the mask: `x[mask]`")
    return indices


@composite(np.take_along_axis)
def _(arr, indices, axis=-1):
    if axis is None:
        return _along(arr, _without_masks(indices, "np.take_along_axis"), None)
    _without_masks(indices, "np.take_along_axis")
    if indices.ndim != arr.ndim:
        raise fail("shape-mismatch", "`np.take_along_axis` needs indices with as many axes")
    axis, rank = normalize_axis(axis, arr.ndim), arr.ndim
    index = [
        operation(np.arange)(length).reshape([-1 if j == k else 1 for j in range(rank)])
        for k, length in enumerate(arr.shape)
    ]
    index[axis] = indices
    return arr[tuple(index)]


@composite(np.ix_)
def _(*args):
    rank = len(args)
    kinds = [typed(_without_masks(arg, "np.ix_")) for arg in args]
    if any(len(_shape_of(kind)) != 1 for kind in kinds):
        raise fail("operand-type", "`np.ix_` takes vectors")
    return tuple(
        np.reshape(arg, tuple(-1 if j == k else 1 for j in range(rank)))
        for k, arg in enumerate(args)
    )


method("take")


def typed(index: Any) -> Any:
    """An index with types in place of symbols."""
    if isinstance(index, tuple):
        return tuple(typed(item) for item in index)
    return index.type if isinstance(index, Symbol) else index


def has_duplicates(index: Any) -> bool:
    """Whether an index may name an element twice: only arrays of integers can."""
    entries = index if isinstance(index, tuple) else (index,)
    arrays = [entry for entry in entries if is_advanced(entry) and not is_mask(entry)]
    if len(arrays) == 1 and isinstance(arrays[0], list) and not any(map(is_mask, entries)):
        numbers = arrays[0]
        known = all(isinstance(n, int) and n >= 0 for n in numbers)
        return not known or len(set(numbers)) < len(numbers)
    return bool(arrays)
