"""flatgrad's own activations, as plain NumPy.

    s3 = s2 + w2
    L = sigmoid(s3)

Each function is complete in itself: it uses `np`, `math` and the functions that `REQUIRES` names
for it, nothing else. Its source text is copied as it stands into generated modules, so annotations
too may only use these names (or be strings). `activations_numba` holds the same for Numba.

Shared behaviour: float16, float32 and float64 are kept; integers and bools act as float64; a scalar
or 0-d array gives a scalar, a Python float a Python float where the function is elementwise; nan
gives nan; no argument is changed; nothing overflows on the way to a finite result.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

ELEMENTWISE = (
    "sigmoid", "relu", "leaky_relu", "elu", "softplus", "gelu", "silu", "normal_cdf",
)  # fmt: skip
ALONG_AXIS = ("softmax", "log_softmax", "logsumexp")

REQUIRES: dict[str, tuple[str, ...]] = {
    "silu": ("sigmoid",),
    "gelu": ("normal_cdf",),
}
"""The functions of this module that a function calls; one that is not listed calls none."""

__all__ = [*ELEMENTWISE, *ALONG_AXIS]


def _float_for_float(function: Callable[..., Any]) -> Callable[..., Any]:
    """Hand out a Python float for Python floats: unlike np.float64, it adapts to float32 arrays."""

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        given = (*args, *kwargs.values())
        return float(result) if all(type(arg) is float for arg in given) else result

    return wrapper


@_float_for_float
def sigmoid(x: float | np.ndarray) -> "Any":
    """Logistic function, ``1 / (1 + exp(-x))``, elementwise.

    For negative `x` it is evaluated as ``exp(x) / (1 + exp(x))``, which keeps full relative
    precision: ``sigmoid(-700)`` is about 1e-304. The limits at -inf and inf are 0 and 1.
    """
    e = np.exp(np.minimum(x, 0.0 - x))  # exp(-|x|) is at most 1
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


@_float_for_float
def relu(x: float | np.ndarray) -> "Any":
    """Rectifier, ``max(x, 0)``, elementwise."""
    return np.maximum(x, 0.0)


@_float_for_float
def leaky_relu(x: float | np.ndarray, slope: float | np.ndarray = 0.01) -> "Any":
    """``x`` where `x` is positive, ``slope * x`` elsewhere.

    `slope` may be an array that broadcasts against `x` (a parametric relu).
    """
    return np.maximum(x, 0.0) + slope * np.minimum(x, 0.0)


@_float_for_float
def elu(x: float | np.ndarray, alpha: float | np.ndarray = 1.0) -> "Any":
    """``x`` where `x` is positive, ``alpha * (exp(x) - 1)`` elsewhere; ``-alpha`` at -inf.

    `alpha` may be an array that broadcasts against `x`.
    """
    return np.maximum(x, 0.0) + alpha * np.expm1(np.minimum(x, 0.0))


@_float_for_float
def softplus(x: float | np.ndarray) -> "Any":
    """``log(1 + exp(x))``, elementwise: about ``exp(x)`` far below 0 and ``x`` far above."""
    e = np.exp(np.minimum(x, 0.0 - x))  # exp(-|x|) is at most 1
    return np.maximum(x, 0.0) + np.log1p(e)


@_float_for_float
def normal_cdf(x: float | np.ndarray) -> "Any":
    """Distribution function of the standard normal, elementwise: the chance of a value below x.

    By ``erfc(-x / sqrt(2)) / 2``: erfc rather than ``1 + erf`` keeps the relative precision for
    negative `x`. NumPy has no erfc, so each element costs one call of `math.erfc`; Numba and CUDA
    have it compiled.
    """
    t = -math.sqrt(0.5) * x
    Phi = 0.5 * np.vectorize(math.erfc, otypes=[np.float64])(t)
    return Phi.astype(np.result_type(t))


@_float_for_float
def gelu(x: float | np.ndarray) -> "Any":
    """Gaussian error linear unit, ``x * Phi(x)``, elementwise, with Phi the normal distribution.

    This is the exact form, not the approximation by tanh. The limit at -inf is 0.
    """
    x = np.maximum(x, -2e4)  # Phi is 0 from here down, and 0 * -inf would be nan
    return x * normal_cdf(x)


@_float_for_float
def silu(x: float | np.ndarray) -> "Any":
    """Sigmoid linear unit or swish, ``x * sigmoid(x)``, elementwise; the limit at -inf is 0."""
    return np.maximum(x, -2e4) * sigmoid(x)  # sigmoid is 0 from here down; 0 * -inf would be nan


def softmax(x: float | np.ndarray, axis: int | tuple[int, ...] | None = -1) -> "Any":
    """``exp(x) / sum(exp(x))`` along `axis` (None: over all elements); the shape is that of `x`.

    Entries that are inf share the whole weight equally, and so do the entries of a row that is
    -inf throughout.
    """
    largest = 1.0 * np.max(x, axis=axis, keepdims=True)
    with np.errstate(invalid="ignore"):
        shifted = np.where(x == largest, 0.0, x - largest)  # 0, not nan, for inf - inf
    e = np.exp(shifted)
    return e / np.sum(e, axis=axis, keepdims=True)


def log_softmax(x: float | np.ndarray, axis: int | tuple[int, ...] | None = -1) -> "Any":
    """``x - log(sum(exp(x)))`` along `axis`: the logarithm of `softmax`, finite where it is 0."""
    largest = 1.0 * np.max(x, axis=axis, keepdims=True)
    with np.errstate(invalid="ignore"):
        shifted = np.where(x == largest, 0.0, x - largest)  # 0, not nan, for inf - inf
    return shifted - np.log(np.sum(np.exp(shifted), axis=axis, keepdims=True))


def logsumexp(
    x: float | np.ndarray, axis: int | tuple[int, ...] | None = None, keepdims: bool = False
) -> "Any":
    """``log(sum(exp(x)))`` over `axis` (None: over all elements), shaped as `np.sum` would be.

    It is inf if any entry is, and -inf if all entries are.
    """
    largest = 1.0 * np.max(x, axis=axis, keepdims=True)
    with np.errstate(invalid="ignore"):
        shifted = np.where(x == largest, 0.0, x - largest)  # 0, not nan, for inf - inf
    total = np.sum(np.exp(shifted), axis=axis, keepdims=keepdims)
    return np.log(total) + (largest if keepdims else np.reshape(largest, np.shape(total)))
