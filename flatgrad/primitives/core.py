"""What the compiler itself needs: lengths, copies of names, casts between kinds of numbers.

    DIM(x, 0)          written x.shape[0]
    IDENTITY(x)        a second name for the same value: grad_s2 = grad_s3
    TRIPS(a, b, 1)     how often `for i in range(a, b, 1)` runs
    PUSH(tape, v, k)   a growing tape with v at position k
    FILL(x, v, k)      x with v at a place that nobody has read: written x[k] = v
"""

from __future__ import annotations

import numpy as np

from flatgrad.hooks import stop_gradient
from flatgrad.ir.dims import natural, never_negative, opaque, product, without
from flatgrad.ir.ops import Const
from flatgrad.ir.types import Array, Scalar
from flatgrad.primitives.index import checked_write, set_item
from flatgrad.primitives.lengths import REQUIRE_ENTRY, REQUIRE_WITHIN
from flatgrad.primitives.registry import call, linear, method, primitive, vjp
from flatgrad.primitives.samples import A, I
from flatgrad.primitives.symbolic import DIM, REQUIRE_EQUAL, REQUIRE_INDEX, SIZE
from flatgrad.primitives.typerules import argument, fail, fresh_size, normalize_axis


@primitive(DIM, name="dim", derivative=False, samples=lambda: [call(A(3, 1), 1)])
def _(x, /, axis):
    return Scalar("int64", weak=True, size=x.shape[normalize_axis(axis, x.ndim)])


@primitive(SIZE, name="size", derivative=False, samples=lambda: [call(A(3, 2))])
def _(x, /):
    return Scalar("int64", weak=True, size=product(x.shape))


@primitive(REQUIRE_EQUAL, name="require_equal", effect=True, derivative=False)
def _(left, right, /, message):
    return None


def REQUIRE_SOME(count, message):
    """There are elements; written `if count == 0: raise ValueError(message)`."""
    if count == 0:
        raise ValueError(message)


@primitive(REQUIRE_SOME, name="require_some", effect=True, derivative=False)
def _(count, /, message):
    return None


@primitive(REQUIRE_WITHIN, name="require_within", effect=True, derivative=False)
def _(start, stop, needed, length, /):
    return None


@primitive(REQUIRE_INDEX, name="require_index", effect=True, derivative=False)
def _(index, length, /, message):
    return None


@primitive(REQUIRE_ENTRY, name="require_entry", effect=True, derivative=False)
def _(index, length, /):
    return None


def PLUS(total, term):
    """`total + term` where a sum may be taken in any order."""
    return total + term


@primitive(PLUS, name="plus", samples=lambda: [call(A(), A())])
def _(total, term, /):
    return total


linear(PLUS)


def SMALLER(one, other):
    """The smaller of two ints; written `min(one, other)`."""
    return int(min(one, other))


@primitive(SMALLER, name="smaller", derivative=False, samples=lambda: [call(I(3), I(5))])
def _(one, other, /):
    return Scalar("int64", weak=True)


@vjp(PLUS)
def _(grad_y, y, total, term):
    return grad_y, grad_y


def IDENTITY(x):
    """The same value under another name."""
    return x


@primitive(IDENTITY, name="identity", alias="x", samples=lambda: [call(A()), call(A(2, 3))])
def _(x, /):
    return x


linear(IDENTITY)


@vjp(IDENTITY)
def _(grad_y, y, x):
    return grad_y


@primitive(
    stop_gradient, alias="x", derivative=False, samples=lambda: [call(A()), call(A(2, 3))]
)
def _(x, /):
    return x


@primitive(
    float,
    samples=lambda: [call(A()), call(A(dtype="float32"))],
)
def _(x, /):
    if x.ndim:
        raise fail("operand-type", "`float` of an array", "index the element that you want")
    return Scalar("float64", weak=True)


linear(float)


@vjp(float)
def _(grad_y, y, x):
    return grad_y


@primitive(int, derivative=False, samples=lambda: [call(A())])
def _(x, /):
    if x.ndim:
        raise fail("operand-type", "`int` of an array")
    return Scalar("int64", weak=True)


@primitive(bool, derivative=False, samples=lambda: [call(A())])
def _(x, /):
    if x.ndim:
        raise fail("operand-type", "`bool` of an array")
    return Scalar("bool", weak=True)


def ASTYPE(x, dtype):
    """The values in another dtype: written `x.astype(dtype)`, or `dtype(x)` for a number."""
    return x.astype(dtype) if isinstance(x, np.ndarray) else np.dtype(dtype).type(x)


@primitive(
    ASTYPE,
    name="astype",
    samples=lambda: [call(A(3, dtype="float32"), np.float64), call(A(), np.float64)],
)
def _(x, /, dtype):
    name = np.dtype(dtype).name
    return Array(name, x.shape) if x.ndim else Scalar(name)


linear(ASTYPE)


@vjp(ASTYPE)
def _(grad_y, y, x, *, dtype):
    return grad_y if np.dtype(dtype).kind == "f" else None


method("astype", of=ASTYPE)
for _dtype in (np.float32, np.float64):

    @primitive(
        _dtype,
        text=f"np.{_dtype.__name__}",
        samples=lambda: [call(A()), call(A(dtype="float32"))],
    )
    def _(x, /, *, _name=_dtype.__name__):
        if x.ndim:  # of an array of its own dtype, it hands out that array
            raise fail("operand-type", f"`np.{_name}` of an array", f"use `.astype(np.{_name})`")
        return Scalar(_name)

    linear(_dtype)

    @vjp(_dtype)
    def _(grad_y, y, x):
        return grad_y


def TRIPS(start, stop, step):
    """How many trips a loop over `range(start, stop, step)` makes."""
    return len(range(start, stop, step))


def _by_shape(size):
    """Whether a bound follows from the shapes of the arguments."""
    return size is not None and not isinstance(size, int) and not opaque(size)


@primitive(TRIPS, name="trips", derivative=False, samples=lambda: [call(I(1), I(7), I(2))])
def _(start, stop, step, /):
    plain = isinstance(start.size, int) and start.size == 0 and step.size == 1
    if plain and stop.size is not None and natural(stop.size):
        return Scalar("int64", weak=True, size=stop.size)
    if plain and _by_shape(stop.size):
        less = sum(factor for monomial, factor in stop.size.terms if not monomial)
        if less < 0 and never_negative(stop.size - less):
            return Scalar("int64", weak=True, size=without(stop.size - less, -less))
    if isinstance(start.size, int) and start.size > 0 and step.size == 1 and _by_shape(stop.size):
        return Scalar("int64", weak=True, size=without(stop.size, start.size))
    bounds = [argument(name) for name in ("start", "stop", "step")]
    key = tuple([bound.value if isinstance(bound, Const) else bound for bound in bounds])
    return Scalar("int64", weak=True, size=fresh_size(None if None in key else ("trips", key)))


def PUSH(tape, value, position):
    """The tape with `value` at `position`, longer if there is no room.

    An array with as many axes as the tape takes as many places as it is long.
    """
    count = len(value) if np.ndim(value) == tape.ndim else 1
    room = len(tape)
    if position + count > room:
        room = max(2 * room, position + count, 16)
    longer = np.empty((room, *tape.shape[1:]), tape.dtype)
    longer[: len(tape)] = tape
    longer[position : position + count] = value
    return longer


@primitive(
    PUSH,
    name="push",
    dynamic=("position",),
    in_place="tape",
    samples=lambda: [call(A(4), A(), 2), call(A(5), A(3), 1), call(A(4, 2), A(2), 3)],
)
def _(tape, value, /, position):
    return Array(tape.dtype, (fresh_size(), *tape.shape[1:]))


linear(PUSH)


@vjp(PUSH)
def _(grad_y, y, tape, value, *, position):
    ragged = value.ndim == tape.ndim
    index = slice(position, position + value.shape[0]) if ragged else position
    grad_value = grad_y[index]
    return set_item(grad_y, 0.0, index), grad_value


def FILL(x, value, index):
    """`x` with `x[index] = value`, where nothing has read what was there, nor ever will."""
    result = np.array(x)
    result[index] = value
    return result


@primitive(
    FILL,
    name="fill",
    dynamic=("index",),
    in_place="x",
    samples=lambda: [call(A(5), A(0), slice(2, 2))],  # what was there has no adjoint
)
def _(x, value, /, index):
    return checked_write(x, value, index)


linear(FILL)


@vjp(FILL)
def _(grad_y, y, x, value, *, index):
    return grad_y, grad_y[index]
