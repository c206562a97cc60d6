"""Reading and writing elements: `x[i]`, `x[1:, ::2]`, `x[mask]`, `x[rows, columns]`.

    y = x[index]          grad_x = np.zeros_like(x); grad_x[index] += grad_y
"""

from __future__ import annotations

import operator

import numpy as np

from flatgrad.ir.dims import Dim
from flatgrad.ir.types import Array, Scalar, make
from flatgrad.primitives.registry import call, jvp, linear, primitive, vjp
from flatgrad.primitives.samples import A, I
from flatgrad.primitives.typerules import broadcast, fail, fresh_size, require_same


def _indices():
    return [
        call(A(5), 2), call(A(5), -1), call(A(5), slice(1, 4)), call(A(6), slice(None, None, -2)),
        call(A(3, 4), 1), call(A(3, 4), (1, 2)), call(A(3, 4), (slice(None), None, 0)),
        call(A(3, 4), (Ellipsis, slice(1, None))), call(A(3, 4), I([0, 2, 2])),
        call(A(3, 4), (I([0, 2, 2]), I([1, 1, 1]))), call(A(3, 4), (I([[0], [2]]), I([1, 3]))),
        call(A(4), I([True, False, True, True])), call(A(3, 4), (slice(None), I([3, 0]))),
        call(A(2, 3, 4), (I([0, 1]), slice(None), I([1, 3]))),
        call(A(2, 3, 4), (0, Ellipsis, I([1, 3, 3]))),
        call(A(2, 2), I([[True, False], [True, True]])),
    ]  # fmt: skip


@primitive(operator.getitem, dynamic=("index",), alias="x", samples=_indices)
def _(x, /, index):
    return make(x.dtype, indexed_shape(x, index))


linear(operator.getitem)


@vjp(operator.getitem)
def _(grad_y, y, x, *, index):
    return ADD_ITEM(np.zeros_like(x), grad_y, index)


def indexed_shape(x, index):
    """The shape of `x[index]`, by NumPy's rules for basic and advanced indices."""
    entries = _expanded(x, index)
    advanced = [k for k, (entry, _) in enumerate(entries) if is_advanced(entry)]
    joined = ()
    if advanced:
        joined = broadcast(*[_advanced_shape(entries[k][0]) for k in advanced])
        between = [k for k, (e, _) in enumerate(entries) if is_advanced(e) or _is_int(e)]
        together = between == list(range(between[0], between[-1] + 1))
    shape = []
    placed = False
    for k, (entry, size) in enumerate(entries):
        if entry is None:
            shape.append(1)
        elif isinstance(entry, slice):
            shape.append(sliced(entry, size))
        elif advanced and together and not placed and k >= between[0]:
            shape.extend(joined)
            placed = True
    return tuple(shape) if not advanced or together else (*joined, *shape)


def _expanded(x, index):
    """Pairs of an index entry and the length it indexes; the Ellipsis is written out."""
    entries = list(index) if isinstance(index, tuple) else [index]
    used = sum(_axes_taken(entry) for entry in entries)
    if used > x.ndim:
        raise fail("unsupported-index", f"{used} indices into an array with {x.ndim} axes")
    rest = [slice(None)] * (x.ndim - used)
    dots = [k for k, entry in enumerate(entries) if entry is Ellipsis]
    if len(dots) > 1:
        raise fail("unsupported-index", "an index can have only one `...`")
    where = dots[0] if dots else len(entries)
    entries[where : where + len(dots)] = rest
    pairs, axis = [], 0
    for entry in entries:
        taken = _axes_taken(entry)
        sizes = x.shape[axis : axis + taken]
        if is_mask(entry):
            for one, other in zip(_mask_shape(entry), sizes, strict=True):
                require_same(one, other, lambda m, n: f"a mask of length {m} on an axis of {n}")
        elif _static_int(entry) is not None and isinstance(sizes[0], int):
            position = _static_int(entry)
            if not -sizes[0] <= position < sizes[0]:
                raise fail("unsupported-index", f"index {position} on an axis of {sizes[0]}")
        pairs.append((entry, sizes[0] if taken else None))
        axis += taken
    return pairs


def _axes_taken(entry):
    if entry is None or entry is Ellipsis:
        return 0
    return len(_mask_shape(entry)) if is_mask(entry) else 1


def is_mask(entry):
    """Whether an index entry is a boolean array."""
    return getattr(entry, "dtype", None) == "bool" and getattr(entry, "ndim", 0) > 0


def is_advanced(entry):
    """Whether an index entry is an array (of integers or booleans)."""
    return getattr(entry, "ndim", 0) > 0 or isinstance(entry, list)


def _is_int(entry):
    return isinstance(entry, int) or (isinstance(entry, Scalar) and entry.dtype.startswith("int"))


def _static_int(entry):
    if isinstance(entry, int):
        return entry
    return entry.size if isinstance(entry, Scalar) and isinstance(entry.size, int) else None


def _mask_shape(entry):
    return entry.shape


def _advanced_shape(entry):
    if is_mask(entry):
        return (fresh_size(),)
    if isinstance(entry, list):
        return (len(entry),)
    return entry.shape


def sliced(entry, size):
    """The length of a slice of an axis of length `size`."""
    parts = [_bound(part) for part in (entry.start, entry.stop, entry.step)]
    start, stop, step = parts
    if parts == [None, None, None] or parts == [None, None, 1] or parts == [None, None, -1]:
        return size
    if isinstance(size, int) and all(p is None or isinstance(p, int) for p in parts):
        return len(range(*slice(*parts).indices(size)))
    return fresh_size()


def _bound(part):
    if isinstance(part, Scalar):
        return part.size if part.size is not None else part
    return part


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


def _writes():
    return [
        call(A(5), A(), 2), call(A(5), A(3), slice(1, 4)), call(A(3, 4), A(), (1, 2)),
        call(A(3, 4), A(4), 0), call(A(3, 4), A(3, 1), (slice(None), slice(1, 3))),
        call(A(5), A(), slice(None)), call(A(4), A(), I([True, False, True, True])),
    ]  # fmt: skip


def _checked_write(x, value, index):
    broadcast(value.shape, indexed_shape(x, index), names=("value", "x"))
    return Array(x.dtype, x.shape)


@primitive(SET_ITEM, name="set_item", dynamic=("index",), in_place="x", samples=_writes)
def _(x, value, /, index):
    return _checked_write(x, value, index)


linear(SET_ITEM)


@vjp(SET_ITEM)
def _(grad_y, y, x, value, *, index):
    return SET_ITEM(grad_y, 0.0, index), grad_y[index]


@primitive(ADD_ITEM, name="add_item", dynamic=("index",), in_place="x", samples=_writes)
def _(x, value, /, index):
    return _checked_write(x, value, index)


linear(ADD_ITEM)


@vjp(ADD_ITEM)
def _(grad_y, y, x, value, *, index):
    return grad_y, grad_y[index]


def has_duplicates(index):
    """Whether an index may name an element twice: only integer arrays can."""
    entries = index if isinstance(index, tuple) else (index,)
    return any(is_advanced(entry) and not is_mask(entry) for entry in entries)


__all__ = ["ADD_ITEM", "SET_ITEM", "Dim", "jvp"]
