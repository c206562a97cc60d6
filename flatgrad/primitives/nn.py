"""flatgrad's own activations as primitives; their source text travels with the emitted code.

    L = sigmoid(s3)             grad_s3 = grad_L * (1 - L) * L
    p = log_softmax(s)          grad_s = grad_p - np.exp(p) * grad_p.sum(axis=-1, keepdims=True)

Every rule stays finite for arguments of any size. At a kink (relu, leaky_relu and elu at 0) the
derivative is that of the negative side, which for relu is 0. The same functions of `scipy.special`
are taken for flatgrad's own.
"""

from __future__ import annotations

import math

import numpy as np

from flatgrad.activations import (
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    logsumexp,
    normal_cdf,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
)
from flatgrad.ir.types import Array
from flatgrad.primitives.math import anywhere
from flatgrad.primitives.reduce import given, over, over_axes, restore_axes
from flatgrad.primitives.registry import (
    call,
    elementwise,
    foreign,
    jvp,
    partials,
    primitive,
    vjp,
)
from flatgrad.primitives.samples import A
from flatgrad.primitives.symbolic import operation
from flatgrad.primitives.typerules import elementwise_type, normalize_axes, promoted, reduced

elementwise(sigmoid, samples=anywhere, helper=True)


@partials(sigmoid)
def _(y, x):
    return (1 - y) * y


elementwise(relu, samples=anywhere, helper=True)


@partials(relu)
def _(y, x):
    return y > 0


elementwise(softplus, samples=anywhere, helper=True)


@partials(softplus)
def _(y, x):
    return operation(sigmoid)(x)


elementwise(silu, samples=anywhere, helper=True)


@partials(silu)
def _(y, x):
    s = operation(sigmoid)(x)
    return s + y * (1 - s)


elementwise(normal_cdf, samples=anywhere, helper=True)


def _normal_density(x):
    return np.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi))


@partials(normal_cdf)
def _(y, x):
    return _normal_density(x)


elementwise(gelu, samples=anywhere, helper=True)


@partials(gelu)
def _(y, x):
    return operation(normal_cdf)(x) + x * _normal_density(x)


def _with_parameter():
    """The parameter left out, a constant, a number, or an array that broadcasts."""
    return [
        *anywhere(),
        call(A(3), 0.2), call(A(), 0.2), call(A(), A(low=0.1)), call(A(2, 3), A(3, low=0.1)),
        call(A(2, 3), A(2, 1, low=0.1)), call(A(3), A(2, 3, low=0.1)), call(A(), A(3, low=0.1)),
        call(A(3, dtype="float32"), A(3, low=0.1, dtype="float32")),
        call(A(3, dtype="float32"), A(low=0.1)),
    ]  # fmt: skip


@primitive(leaky_relu, helper=True, samples=_with_parameter)
def _(x, slope=None, /):
    return elementwise_type(leaky_relu, *((x,) if slope is None else (x, slope)))


def _parametric(function, by_x, by_parameter):
    """Both rules of f(x, parameter): by_x(dot, y, x, *parameter), by_parameter(x).

    Not `partials`, whose factor 1 beside a `slope` would be a float64 for float32 data.
    """

    @vjp(function)
    def _(grad_y, y, x, *parameter):
        grad_x = by_x(grad_y, x, *parameter)
        return (grad_x, grad_y * by_parameter(x)) if parameter else grad_x

    @jvp(function)
    def _(dots, y, x, *parameter):
        terms = [] if dots[0] is None else [by_x(dots[0], x, *parameter)]
        if parameter and dots[1] is not None:
            terms.append(dots[1] * by_parameter(x))
        return sum(terms[1:], terms[0])


_parametric(
    leaky_relu,
    lambda grad_y, x, slope=0.01: np.where(x > 0, grad_y, grad_y * slope),
    lambda x: np.minimum(x, 0.0),
)


@primitive(elu, helper=True, samples=_with_parameter)
def _(x, alpha=None, /):
    return elementwise_type(elu, *((x,) if alpha is None else (x, alpha)))


_parametric(
    elu,
    lambda grad_y, x, alpha=1.0: np.where(x > 0, grad_y, grad_y * (alpha * _exp_below(x))),
    lambda x: np.expm1(np.minimum(x, 0.0)),
)


def _exp_below(x):
    return np.exp(np.minimum(x, 0.0))  # the branch not taken must not overflow


def _along(**keywords):
    """Samples over every kind of axis."""
    return lambda: [
        call(A(5), **keywords), call(A(3, 4), **keywords), call(A(3, 4), axis=0, **keywords),
        call(A(2, 3, 2), axis=(0, 2), **keywords), call(A(3, 4), axis=None, **keywords),
        call(A(2, 3, 4), axis=-2, **keywords), call(A(3, 1), axis=1, **keywords),
        call(A(3, 1), axis=0, **keywords), call(A(3, 4, dtype="float32"), **keywords), call(A()),
    ]  # fmt: skip


def _same_shape(function, x, axis):
    if x.ndim:
        normalize_axes(axis, x.ndim)
    dtype, _ = promoted(function, Array(x.dtype, (2,)))
    return elementwise_type(function, x) if x.ndim == 0 else Array(dtype, x.shape)


@primitive(softmax, helper=True, samples=_along())
def _(x, /, axis=-1):
    return _same_shape(softmax, x, axis)


def _softmax_slope(dot, y, axis):
    """The Jacobian is symmetric, so it serves both modes."""
    return y * (dot - np.sum(dot * y, **_over(y, axis)))


def _over(y, axis):
    return over(axis) if y.ndim else {}


@vjp(softmax)
def _(grad_y, y, x, *, axis=-1):
    return _softmax_slope(grad_y, y, axis)


@jvp(softmax)
def _(dots, y, x, *, axis=-1):
    return _softmax_slope(dots[0], y, axis)


@primitive(log_softmax, helper=True, samples=_along())
def _(x, /, axis=-1):
    return _same_shape(log_softmax, x, axis)


@vjp(log_softmax)
def _(grad_y, y, x, *, axis=-1):
    return grad_y - np.exp(y) * np.sum(grad_y, **_over(y, axis))


@jvp(log_softmax)
def _(dots, y, x, *, axis=-1):
    return dots[0] - np.sum(np.exp(y) * dots[0], **_over(y, axis))


@primitive(logsumexp, helper=True, samples=over_axes(call(A())))
def _(x, /, axis=None, keepdims=False):
    return reduced(logsumexp, x, axis, keepdims)


# By softmax, not by exp(x - y): a large y is rounded more coarsely than the weights, and x - y
# is nan where a row is -inf throughout.


@vjp(logsumexp)
def _(grad_y, y, x, *, axis=None, keepdims=False):
    return restore_axes(grad_y, x, axis, keepdims) * operation(softmax)(x, axis=axis)


@jvp(logsumexp)
def _(dots, y, x, *, axis=None, keepdims=False):
    return np.sum(dots[0] * operation(softmax)(x, axis=axis), **given(axis, keepdims))


@foreign("scipy.special", "expit")
def _(x):
    return operation(sigmoid)(x)


@foreign("scipy.special", "ndtr")
def _(x):
    return operation(normal_cdf)(x)


@foreign("scipy.special", "softmax")
def _(x, axis=None):
    return operation(softmax)(x, axis=axis)


@foreign("scipy.special", "log_softmax")
def _(x, axis=None):
    return operation(log_softmax)(x, axis=axis)


@foreign("scipy.special", "logsumexp")
def _(a, axis=None, *, keepdims=False):
    return operation(logsumexp)(a, **given(axis, keepdims))
