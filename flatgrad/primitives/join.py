"""Several arrays into one, and one into several: concatenate, stack, array, split and kin.

    c = np.concatenate([a, b])     grad_a = grad_c[:a.shape[0]]; grad_b = grad_c[a.shape[0]:]
    s = np.stack([a, b])           grad_a = grad_s[0];           grad_b = grad_s[1]

A nested list among the arrays is an array itself, as in NumPy: `np.concatenate([x, [0.0, s]])`.
"""

from __future__ import annotations

import numpy as np

from flatgrad.ir.dims import Size, may_be_one, product
from flatgrad.ir.types import Array, Scalar, make
from flatgrad.primitives.core import ASTYPE
from flatgrad.primitives.registry import call, composite, linear, primitive, vjp
from flatgrad.primitives.samples import A, I
from flatgrad.primitives.shape import quotient, raised, rank_of
from flatgrad.primitives.symbolic import (
    REQUIRE_EQUAL,
    Symbol,
    apply_function,
    is_number,
    operation,
)
from flatgrad.primitives.typerules import fail, normalize_axis, promoted, require_same


def leaves(tree):
    """The arrays and numbers in nested lists."""
    if not isinstance(tree, list | tuple):
        return [tree]
    return [leaf for item in tree for leaf in leaves(item)]


def shape_of(tree) -> tuple[Size, ...]:
    """The shape of the array that nested lists of arrays and numbers (or their types) form."""
    if not isinstance(tree, list | tuple):
        return tuple(tree.type.shape if isinstance(tree, Symbol) else getattr(tree, "shape", ()))
    shapes = [shape_of(item) for item in tree]
    return (len(shapes), *(shapes[0] if len(shapes) < 2 else agreed(shapes))) if shapes else (0,)


def agreed(shapes, but: int | None = None) -> tuple[Size, ...]:
    """The shape that all have, where lengths along the axis `but` are free; nothing broadcasts."""
    ranks = {len(shape) for shape in shapes}
    if len(ranks) > 1:
        raise fail(
            "shape-mismatch",
            f"arrays with {min(ranks)} and with {max(ranks)} axes are put together",
        )
    result = list(shapes[0])
    for shape in shapes[1:]:
        for axis, size in enumerate(shape):
            if axis != but:
                require_same(result[axis], size, _unequal(axis))
                if not isinstance(result[axis], int) and (
                    isinstance(size, int) or may_be_one(result[axis])
                ):
                    result[axis] = size
    return tuple(result)


def _unequal(axis):
    return lambda m, n: f"arrays that are put together have lengths {m} and {n} along axis {axis}"


def joint_dtype(parts) -> str:
    """The dtype of an array of all these, as NumPy finds it: Python numbers do not adapt here."""
    if any(getattr(leaf, "dtype", None) is None for leaf in leaves(parts)):
        raise fail("operand-type", "only arrays and numbers can be put together")
    return promoted(_join, *leaves(parts))[0] if leaves(parts) else "float64"


def _join(*parts):
    return np.concatenate([np.atleast_1d(part) for part in parts])


_join.__name__ = "concatenate"


def taken_apart(grad, tree):
    """The cotangents of the leaves of nested lists, given that of the array that they form."""
    if isinstance(tree, list | tuple):
        return [taken_apart(_taken(grad, k, item), item) for k, item in enumerate(tree)]
    return None if is_number(tree) else grad


def _taken(grad, k, item):
    return None if is_number(item) or grad is None else grad[k]


def along(axis, entry):
    """The index that picks `entry` from an axis."""
    return (slice(None),) * axis + (entry,) if axis else entry


def _sequence(arrays, function):
    if not isinstance(arrays, list | tuple):
        raise fail("operand-type", f"`{function}` of one array", "pass a list of arrays")
    if not arrays:
        raise fail("operand-type", f"`{function}` of nothing")
    return arrays


@primitive(
    np.concatenate,
    samples=lambda: [
        call([A(3), A(2)]), call([A(2, 3), A(2, 1)], axis=1), call([A(1, 3), A(1, 3)], axis=0),
        call([A(2, 2), A(2, 3)], axis=-1), call([A(2, 3), A(4), A(1, 1)], axis=None),
        call([A(3)]), call([A(3, dtype="float32"), A(2)]), call([A(3), [1.0, A()]]),
        call((A(1), A(1), A(1))), call([A(3, dtype="float32"), [A()]]),
    ],
)  # fmt: skip
def _(arrays, /, axis=0):
    shapes = [shape_of(part) for part in _sequence(arrays, "np.concatenate")]
    dtype = joint_dtype(arrays)
    if axis is None:
        for part in arrays:
            _plain_list(part)
        return Array(dtype, (sum((product(shape) for shape in shapes[1:]), product(shapes[0])),))
    if any(not shape for shape in shapes):
        raise fail(
            "operand-type", "`np.concatenate` of a number",
            "put numbers into a list, `np.concatenate([x, [s]])`, or use `np.stack`",
        )  # fmt: skip
    where = normalize_axis(axis, len(shapes[0]))
    result = list(agreed(shapes, but=where))
    result[where] = sum((shape[where] for shape in shapes[1:]), shapes[0][where])
    return Array(dtype, tuple(result))


linear(np.concatenate)


def _length(part, axis):
    """How far a part reaches along the axis of a concatenation."""
    if not isinstance(part, list | tuple):
        return _count(part) if axis is None else part.shape[axis]
    if axis is None:
        return sum(_length(item, None) for item in part)
    return len(part) if axis == 0 else _length(part[0], axis - 1)


def _count(part):
    """The number of elements; a length that the axes tell rather than `x.size`."""
    return part.shape[0] if rank_of(part) == 1 else getattr(part, "size", 1)


@vjp(np.concatenate)
def _(grad_y, y, arrays, *, axis=0):
    if len(arrays) == 1 and axis is not None:
        return ([taken_apart(grad_y, arrays[0])],)
    where = axis if axis is None else normalize_axis(axis, grad_y.ndim)
    cotangents = []
    start = None
    for k, part in enumerate(arrays):
        length = _length(part, where)
        stop = length if start is None else start + length
        if isinstance(part, list | tuple) and not where:
            cotangents.append(_numbered(grad_y, start, part))
        else:
            piece = slice(start, stop if k < len(arrays) - 1 else None)
            taken = grad_y[along(where or 0, piece)]
            cotangents.append(_in_shape(taken, part) if where is None else taken_apart(taken, part))
        start = stop
    return (cotangents,)


def _numbered(grad, start, part):
    """The cotangents of the items of a list, which stand from `start` on."""
    offset = 0 if start is None else start
    return [
        None if is_number(item) else taken_apart(grad[offset + k if k else offset], item)
        for k, item in enumerate(part)
    ]


def _in_shape(grad, part):
    """A flat cotangent in the shape of the part that was flattened."""
    if rank_of(part) == 0:
        return grad[0]
    return grad if part.ndim == 1 else grad.reshape(part.shape)


@primitive(
    np.stack,
    samples=lambda: [
        call([A(3), A(3)]), call([A(2, 3), A(2, 3), A(2, 3)], axis=1), call([A(), 2.0, A()]),
        call([A(2, 1), A(2, 1)], axis=-1), call((A(3, dtype="float32"), A(3))),
        call([A(2), [1.0, A()]]),
    ],
)  # fmt: skip
def _(arrays, /, axis=0):
    shape = agreed([shape_of(part) for part in _sequence(arrays, "np.stack")])
    where = normalize_axis(axis, len(shape) + 1)
    return Array(joint_dtype(arrays), (*shape[:where], len(arrays), *shape[where:]))


linear(np.stack)


@vjp(np.stack)
def _(grad_y, y, arrays, *, axis=0):
    where = normalize_axis(axis, grad_y.ndim)
    return (
        [
            None if is_number(part) else taken_apart(grad_y[along(where, k)], part)
            for k, part in enumerate(arrays)
        ],
    )


@primitive(
    np.array,
    creates=True,
    samples=lambda: [
        call([A(), 2.0, A()]), call([[A(), 1], [0, A()]]), call([A(3), A(3)]), call(A(2, 3)),
        call([A(), A(dtype="float64")], dtype=np.float32), call([A(2), (A(), 1.0)]),
        call(A(3, dtype="float32"), dtype=np.float64),
    ],
)  # fmt: skip
def _(object, /, dtype=None):
    shape = shape_of(object)
    return make(joint_dtype(object) if dtype is None else dtype_name(dtype), shape)


linear(np.array)


@vjp(np.array)
def _(grad_y, y, object, *, dtype=None):
    if dtype is not None and np.dtype(dtype).kind != "f":
        return None
    return (taken_apart(grad_y, object),)


def dtype_name(dtype) -> str:
    """The name of a dtype that arrays can have here."""
    found = np.dtype(dtype)
    if found.kind not in "biu" and found.name not in ("float32", "float64"):
        raise fail("unsupported-dtype", f"an array of {found}; floats and integers are handled")
    return found.name


@composite(np.asarray, np.asanyarray)
def _(a, dtype=None):
    if not isinstance(a, Symbol) or a.ndim == 0:
        return _joined(np.array, a, **({} if dtype is None else {"dtype": dtype}))
    if dtype is None or np.dtype(dtype) == a.dtype:
        return a
    return apply_function(ASTYPE, (a, np.dtype(dtype).type), {}, a.builder)


def _joined(function, arrays, **options):
    """`function(arrays)` as an operation; NumPy would not see symbols inside nested lists."""
    found = [leaf.builder for leaf in leaves(arrays) if isinstance(leaf, Symbol)]
    if not found:
        return function(arrays, **options)
    return apply_function(function, (arrays,), options, found[0])


def _parts(arrays, rank):
    """The arrays with at least `rank` axes; a number becomes a nested list."""
    parts = []
    for one in _sequence(arrays, "np.hstack and kin"):
        if rank_of(one) == 0 and not isinstance(one, list | tuple):
            for _ in range(rank):
                one = [one]
        parts.append(one if isinstance(one, list | tuple) else raised(one, rank))
    return parts


def _ranks(arrays):
    """The ranks of the arrays; a nested list counts as what it forms."""
    return {len(shape_of(one)) if isinstance(one, list) else rank_of(one) for one in arrays}


@composite(np.hstack)
def _(tup):
    tup = _sequence(tup, "np.hstack")
    if _ranks(tup) == {0}:
        return _joined(np.stack, tup)
    parts = _parts(tup, 1)
    if max(_ranks(tup)) < 2:
        return _joined(np.concatenate, parts)
    return _joined(np.concatenate, parts, axis=1)


@composite(np.vstack)
def _(tup):
    tup = _sequence(tup, "np.vstack")
    return _joined(np.stack, tup) if _ranks(tup) == {1} else _joined(np.concatenate, _parts(tup, 2))


@composite(np.column_stack)
def _(tup):
    tup = _sequence(tup, "np.column_stack")
    if _ranks(tup) == {1}:
        return _joined(np.stack, tup, axis=1)
    return _joined(np.concatenate, [_column(x) for x in tup], axis=1)


def _column(x):
    if rank_of(x) == 0 and not isinstance(x, list | tuple):
        return [[x]]
    return np.expand_dims(x, 1) if rank_of(x) == 1 else x


@composite(np.dstack)
def _(tup):
    tup = _sequence(tup, "np.dstack")
    if _ranks(tup) == {2}:
        return _joined(np.stack, tup, axis=2)
    return _joined(np.concatenate, _parts(tup, 3), axis=2)


@composite(np.append)
def _(arr, values, axis=None):
    if axis is not None:
        return _joined(np.concatenate, [arr, values], axis=axis)
    _plain_list(arr)
    _plain_list(values)
    return _joined(np.concatenate, [_flat(arr), _flat(values)])


def _plain_list(part):
    """A list that is flattened holds numbers only."""
    if isinstance(part, list | tuple) and any(len(shape_of(item)) for item in part):
        raise fail(
            "unsupported-argument", "a list of arrays to flatten", "put np.array(...) around it"
        )


def _flat(x):
    if isinstance(x, list | tuple):
        return x
    if rank_of(x) == 0:
        return [x]
    return x if x.ndim == 1 else np.ravel(x)


@composite(np.split)
def _(ary, indices_or_sections, axis=0):
    return _split(ary, indices_or_sections, axis, even=True)


@composite(np.array_split)
def _(ary, indices_or_sections, axis=0):
    return _split(ary, indices_or_sections, axis, even=False)


@composite(np.hsplit)
def _(ary, indices_or_sections):
    return _split(ary, indices_or_sections, 1 if ary.ndim > 1 else 0, even=True)


@composite(np.vsplit)
def _(ary, indices_or_sections):
    if ary.ndim < 2:
        raise fail("axis-out-of-range", "`np.vsplit` of an array with fewer than 2 axes")
    return _split(ary, indices_or_sections, 0, even=True)


def _split(ary, sections, axis, even):
    """The parts as slices; `even`: their lengths must be equal."""
    where = normalize_axis(axis, ary.ndim)
    if isinstance(sections, list | tuple):
        inner = list(sections)
    elif is_number(sections):
        inner = _bounds(ary, int(sections), where, even)
    else:
        raise fail("data-dependent-static", "the number of parts of `np.split` is run-time data")
    starts, stops = [None, *inner], [*inner, None]
    return [ary[along(where, slice(*bounds))] for bounds in zip(starts, stops, strict=True)]


def _bounds(ary, sections, axis, even):
    """Where an axis is cut into `sections` parts; the first ones are longer by one, if at all."""
    if sections < 1:
        raise fail("shape-mismatch", f"an array cannot be split into {sections} parts")
    length = ary.shape[axis]
    longer = length % sections
    if even:
        operation(REQUIRE_EQUAL)(longer, 0, f"an axis does not split into {sections} equal parts")
        longer = 0
    each = length // sections
    if isinstance(length, Symbol):
        each = apply_function(PART, (length, sections), {}, ary.builder)
    smaller = min if isinstance(longer, int) else np.minimum
    return [_plus(k * each if k > 1 else each, smaller(k, longer)) for k in range(1, sections)]


def _plus(a, b):
    return a + b if isinstance(b, Symbol) or b else a


def PART(length, sections):
    """The length of one of so many equal parts of an axis; written `length // sections`."""
    return length // sections


@primitive(
    PART, name="part", text="//", operator="//", derivative=False, samples=lambda: [call(I(6), 2)]
)
def _(length, sections, /):
    size = None if length.size is None else quotient(length.size, sections.size)
    return Scalar("int64", weak=length.weak, size=size)
