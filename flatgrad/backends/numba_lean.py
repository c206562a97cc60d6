"""Short implementations of some functions, for generated code.

    h = np.empty((n, 4))     the instructions of an allocation, written at once
    s = X @ W                those of a call of BLAS

Numba compiles these from several small functions in Python, each for every combination of types: a
product of matrices takes it half a second. The instructions here do the same, with the same checks.
A call that a rule does not sign, of other types or with other arguments, is Numba's own.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.core.imputils import impl_ret_borrowed
from numba.core.typing import signature
from numba.core.typing.npydecl import parse_dtype
from numba.np import arrayobj


class Lean(NamedTuple):
    """How a call is typed, and written.

    `sign` gets the types of the arguments and gives the signature, or None; `lower` gets the
    context, the builder, the signature and the values.
    """

    sign: Callable[[Any, Any], Any]
    lower: Callable[[Any, Any, Any, Any], Any]


def empty(context: Any, builder: Any, kind: Any, shapes: Any) -> Any:
    """An array with memory of its own, in the order of `kind`."""
    intp = context.get_value_type(types.intp)
    element = context.get_data_type(kind.dtype)
    size = context.get_constant(types.intp, context.get_abi_sizeof(element))
    count, too_big = size, cgutils.false_bit
    strides = []
    for length in reversed(shapes) if kind.layout == "C" else shapes:
        strides.append(count)
        product = builder.smul_with_overflow(count, length)
        count = builder.extract_value(product, 0)
        too_big = builder.or_(too_big, builder.extract_value(product, 1))
    raise_if(context, builder, too_big, ValueError, TOO_BIG)
    align = context.get_preferred_array_alignment(kind.dtype)
    memory = context.nrt.meminfo_alloc_aligned(builder, count, align)
    in_large_pages(builder, context.nrt.meminfo_data(builder, memory), count)
    array = arrayobj.make_array(kind)(context, builder)
    if kind.layout == "C":
        strides.reverse()
    arrayobj.populate_array(
        array,
        data=builder.bitcast(context.nrt.meminfo_data(builder, memory), element.as_pointer()),
        shape=cgutils.pack_array(builder, shapes, ty=intp),
        strides=cgutils.pack_array(builder, strides, ty=intp),
        itemsize=size,
        meminfo=memory,
    )
    return array


LARGE = 1 << 22
PAGE = 4096
MADV_HUGEPAGE = 14


def in_large_pages(builder: Any, memory: Any, count: Any) -> None:
    """Ask Linux for pages of 2 MB for an array of more than 4 MB, as NumPy does for its own.

    New memory comes by the page, and each costs a fault when it is first written to: in pages of
    4 KB an array of 8 MB costs more time than to fill it with tanh.
    """
    if not sys.platform.startswith("linux"):
        return
    with builder.if_then(builder.icmp_unsigned(">=", count, count.type(LARGE)), likely=False):
        first = builder.ptrtoint(memory, count.type)
        last = builder.add(first, count)
        first = builder.and_(builder.add(first, count.type(PAGE - 1)), count.type(-PAGE))
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(number, [byte, count.type, number])
        advise = cgutils.get_or_insert_function(builder.module, kind, "madvise")
        start = builder.inttoptr(first, byte)
        builder.call(advise, [start, builder.sub(last, first), number(MADV_HUGEPAGE)])


TOO_BIG = (
    "array is too big; `arr.size * arr.dtype.itemsize` is larger than the maximum possible size."
)


def _bound(names: str, args: Any, kws: Any) -> dict[str, Any] | None:
    """The types of a call by parameter; None where there are others."""
    parameters = names.split()
    given = {**dict(zip(parameters, args, strict=False)), **kws}
    if len(given) != len(args) + len(kws) or not given.keys() <= set(parameters):
        return None
    return {name: types.unliteral(given[name]) for name in parameters if name in given}


def _signed(result: Any, given: dict[str, Any]) -> Any:
    """The signature of a call with these arguments, by position or by name."""
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    parameters = inspect.Signature([inspect.Parameter(name, kind) for name in given])
    return signature(result, *given.values()).replace(pysig=parameters)


def _sign_shaped(args: Any, kws: Any) -> Any:
    """`np.empty(shape, dtype)`."""
    given = _bound("shape dtype", args, kws)
    if given is None or [*given] not in (["shape"], ["shape", "dtype"]):
        return None
    dtype = parse_dtype(given["dtype"]) if "dtype" in given else types.float64
    shape = given["shape"]
    given["shape"] = types.intp if isinstance(shape, types.Integer) else _ints(shape)
    if given["shape"] is None or not _is_plain(dtype):
        return None
    rank = 1 if isinstance(shape, types.Integer) else shape.count
    return _signed(types.Array(dtype, rank, "C"), given)


def _ints(kind: Any) -> Any:
    """The type as which a tuple of ints is passed on; None for other types."""
    if not isinstance(kind, types.UniTuple | types.Tuple) or not kind.count:
        return None
    if not all(isinstance(one, types.Integer) for one in kind.types):
        return None
    return types.UniTuple(types.intp, kind.count)


def _sign_like(args: Any, kws: Any) -> Any:
    """`np.empty_like(a)`."""
    if kws or len(args) != 1 or type(args[0]) is not types.Array:
        return None
    layout = args[0].layout if args[0].layout in "CF" else "C"
    return signature(args[0].copy(layout=layout, readonly=False), *args)


def _is_plain(dtype: Any) -> bool:
    return isinstance(dtype, types.Integer | types.Float | types.Boolean)


def _empty_of_shape(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    shapes = arrayobj._parse_shape(context, builder, sig.args[0], args[0])
    return empty(context, builder, sig.return_type, shapes)


def _empty_like(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    array = arrayobj.make_array(sig.args[0])(context, builder, args[0])
    return empty(context, builder, sig.return_type, cgutils.unpack_tuple(builder, array.shape))


def _value(make: Callable[..., Any]) -> Callable[..., Any]:
    """The array that `make` makes, as a value."""
    return lambda *where: make(*where)._getvalue()


def _zeros(make: Callable[..., Any]) -> Callable[..., Any]:
    """The array that `make` makes, filled with zeros."""

    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array = make(context, builder, sig, args)
        clear(builder, array)
        return array._getvalue()

    return lower


def clear(builder: Any, array: Any) -> None:
    """Write zeros into an array without gaps."""
    cgutils.memset(builder, array.data, builder.mul(array.itemsize, array.nitems), 0)


def _sign_transpose(args: Any, kws: Any) -> Any:
    """`np.transpose(a, axes)` with a tuple of axes."""
    if kws or len(args) != 2 or type(args[0]) is not types.Array:
        return None
    array, axes = args[0], _ints(args[1])
    if axes is None or axes.count != array.ndim or array.ndim < 2:
        return None
    return signature(array.copy(layout="A"), array, axes)


def _transpose(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """A view whose axes are those of the array in another order."""
    old = arrayobj.make_array(sig.args[0])(context, builder, args[0])
    new = arrayobj.make_array(sig.return_type)(context, builder)
    rank = sig.args[0].ndim
    axes = [_axis(context, builder, axis, rank) for axis in cgutils.unpack_tuple(builder, args[1])]
    arrayobj.populate_array(
        new,
        data=old.data,
        shape=[_item(builder, old.shape, axis) for axis in axes],
        strides=[_item(builder, old.strides, axis) for axis in axes],
        itemsize=old.itemsize,
        meminfo=old.meminfo,
        parent=old.parent,
    )
    return impl_ret_borrowed(context, builder, sig.return_type, new._getvalue())


def _axis(context: Any, builder: Any, axis: Any, rank: int) -> Any:
    """The number of an axis that may be counted from the end."""
    lengths = axis.type(rank)
    below = builder.icmp_signed("<", axis, axis.type(0))
    axis = builder.select(below, builder.add(axis, lengths), axis)
    beyond = builder.icmp_unsigned(">=", axis, lengths)
    raise_if(context, builder, beyond, ValueError, "axes don't match array")
    return axis


def _sign_moveaxis(args: Any, kws: Any) -> Any:
    """`np.moveaxis(a, 0, -1)` with axes that are literals."""
    if kws or len(args) != 3 or type(args[0]) is not types.Array:
        return None
    array, *axes = args
    if not all(isinstance(axis, types.IntegerLiteral) for axis in axes):
        return None
    if not all(-array.ndim <= axis.literal_value < array.ndim for axis in axes):
        return None
    return signature(array.copy(layout="A"), *args)


def _moveaxis(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """A view with one axis in another place."""
    array, source, target = sig.args
    axes = [*range(array.ndim)]
    moved = axes.pop(source.literal_value)
    axes.insert(target.literal_value % array.ndim, moved)
    intp = context.get_value_type(types.intp)
    kinds = signature(sig.return_type, array, types.UniTuple(types.intp, array.ndim))
    order = cgutils.pack_array(builder, [intp(axis) for axis in axes], ty=intp)
    return _transpose(context, builder, kinds, (args[0], order))


def _sign_contiguous(args: Any, kws: Any) -> Any:
    """`np.ascontiguousarray(a)`."""
    if kws or len(args) != 1 or type(args[0]) is not types.Array or not args[0].ndim:
        return None
    return signature(args[0].copy(layout="C", readonly=False), *args)


def _contiguous(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """The array itself if it is without gaps, or a copy."""
    return arrayobj._as_layout_array(context, builder, sig, args, output_layout="C")


def _sign_eye(args: Any, kws: Any) -> Any:
    """`np.eye(n, m, 0, dtype)`."""
    if kws or len(args) != 4 or getattr(args[2], "literal_value", None) != 0:
        return None
    dtype = parse_dtype(args[3])
    if types.unliteral(args[0]) != types.intp or types.unliteral(args[1]) != types.intp:
        return None
    if not isinstance(dtype, types.Float):
        return None
    return signature(types.Array(dtype, 2, "C"), types.intp, types.intp, *args[2:])


def _eye(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """Ones on the diagonal."""
    pair = types.UniTuple(types.intp, 2)
    shape = context.make_tuple(builder, pair, args[:2])
    rows, columns = arrayobj._parse_shape(context, builder, pair, shape)
    array = empty(context, builder, sig.return_type, [rows, columns])
    clear(builder, array)
    count = builder.select(builder.icmp_signed("<", rows, columns), rows, columns)
    one = context.get_constant(sig.return_type.dtype, 1.0)
    with cgutils.for_range(builder, count) as loop:
        place = builder.mul(loop.index, builder.add(columns, columns.type(1)))
        builder.store(one, builder.gep(array.data, [place]))
    return array._getvalue()


def _item(builder: Any, values: Any, index: Any) -> Any:
    """One of the values of a tuple."""
    first, *others = cgutils.unpack_tuple(builder, values)
    for k, other in enumerate(others, 1):
        first = builder.select(builder.icmp_signed("==", index, index.type(k)), other, first)
    return first


def _sign_broadcast(args: Any, kws: Any) -> Any:
    """`np.broadcast_to(value, shape)` of a number or an array."""
    if kws or len(args) != 2:
        return None
    value = args[0] if type(args[0]) is types.Array else types.unliteral(args[0])
    shape = _ints(args[1])
    if shape is None:
        return None
    if type(value) is not types.Array:
        if not _is_plain(value):
            return None
        result = types.Array(value, shape.count, "A", readonly=True)
    elif 0 < value.ndim <= shape.count:
        result = value.copy(ndim=shape.count, layout="A", readonly=True)
    else:
        return None
    return signature(result, value, shape)


def _broadcast(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """A view in which axes of one element, and new ones, have no stride."""
    value, kind = args[0], sig.args[0]
    shape = cgutils.unpack_tuple(builder, args[1])
    zero = shape[0].type(0)
    for length in shape:
        negative = builder.icmp_signed("<", length, zero)
        message = "all elements of broadcast shape must be non-negative"
        raise_if(context, builder, negative, ValueError, message)
    if isinstance(kind, types.Array):
        old = arrayobj.make_array(kind)(context, builder, value)
        context.nrt.incref(builder, kind, value)
    else:
        old = empty(context, builder, types.Array(kind, 1, "C"), [zero.type(1)])
        arrayobj.store_item(context, builder, types.Array(kind, 1, "C"), value, old.data)
    strides = [zero] * len(shape)
    lengths = cgutils.unpack_tuple(builder, old.shape)
    for k, stride in enumerate(cgutils.unpack_tuple(builder, old.strides), -len(lengths)):
        one = builder.icmp_signed("==", lengths[k], zero.type(1))
        other = builder.icmp_signed("!=", lengths[k], shape[k])
        wrong = builder.and_(builder.not_(one), other)
        raise_if(context, builder, wrong, ValueError, MISFIT)
        strides[k] = builder.select(one, zero, stride)
    new = arrayobj.make_array(sig.return_type)(context, builder)
    arrayobj.populate_array(
        new, data=old.data, shape=shape, strides=strides, itemsize=old.itemsize,
        meminfo=old.meminfo,
    )  # fmt: skip
    return new._getvalue()


MISFIT = "operands could not be broadcast together with remapped shapes"


def _sign_arange(args: Any, kws: Any) -> Any:
    """`np.arange(n)` of an int."""
    if kws or len(args) != 1 or types.unliteral(args[0]) != types.intp:
        return None
    return signature(types.Array(types.intp, 1, "C"), types.intp)


def _arange(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    """The ints below a bound."""
    zero = args[0].type(0)
    length = builder.select(builder.icmp_signed("<", args[0], zero), zero, args[0])
    array = empty(context, builder, sig.return_type, [length])
    with cgutils.for_range(builder, length) as loop:
        builder.store(loop.index, builder.gep(array.data, [loop.index]))
    return array._getvalue()


def raise_if(context: Any, builder: Any, condition: Any, kind: type, message: str) -> None:
    """Raise where a condition holds."""
    with builder.if_then(condition, likely=False):
        context.call_conv.return_user_exc(builder, kind, (message,))


LEAN: dict[Any, Lean] = {
    np.empty: Lean(_sign_shaped, _value(_empty_of_shape)),
    np.zeros: Lean(_sign_shaped, _zeros(_empty_of_shape)),
    np.empty_like: Lean(_sign_like, _value(_empty_like)),
    np.zeros_like: Lean(_sign_like, _zeros(_empty_like)),
    np.broadcast_to: Lean(_sign_broadcast, _broadcast),
    np.arange: Lean(_sign_arange, _arange),
    np.eye: Lean(_sign_eye, _eye),
    np.transpose: Lean(_sign_transpose, _transpose),
    np.moveaxis: Lean(_sign_moveaxis, _moveaxis),
    np.ascontiguousarray: Lean(_sign_contiguous, _contiguous),
}
"""What generated code calls most."""
