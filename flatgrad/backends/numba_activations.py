"""Makes the activations callable from the user's own `@numba.njit` code.

    @numba.njit
    def predict(X, w):
        return flatgrad.sigmoid(X @ w)

Importing this module registers a `numba.extending.overload` for each; each compiles the text of
`activations_numba` for the argument types at hand. `axis` and `keepdims` must be literals in the
calling code (or a frozen global), since they decide the rank of the result.

`strict=False` because Numba would count the annotations as a difference between the function that
chooses and the lambda that it returns.
"""

import functools
import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import overload

from flatgrad import activations
from flatgrad.activations_numba import AxisLike, numba_sources


def register() -> None:
    """Entry point `numba_extensions`: importing this module has done all there is to do."""


def _overload_plain(name: str) -> None:
    @overload(getattr(activations, name), strict=False)
    def typed(x: Any) -> Callable[..., Any] | None:
        if not _is_real(x):
            return None
        function, to_float = _kernel(name, _rank(x)), _to_float(x)
        return lambda x: function(to_float(x))


for _name in ("sigmoid", "relu", "softplus", "gelu", "silu", "normal_cdf"):
    _overload_plain(_name)


@overload(activations.leaky_relu, strict=False)
def _leaky_relu(x: Any, slope: Any = 0.01) -> Callable[..., Any] | None:
    if not _is_real(x):
        return None
    _require_scalar("slope", slope)
    function, to_float = _kernel("leaky_relu", _rank(x)), _to_float(x)
    return lambda x, slope=0.01: function(to_float(x), slope)


@overload(activations.elu, strict=False)
def _elu(x: Any, alpha: Any = 1.0) -> Callable[..., Any] | None:
    if not _is_real(x):
        return None
    _require_scalar("alpha", alpha)
    function, to_float = _kernel("elu", _rank(x)), _to_float(x)
    return lambda x, alpha=1.0: function(to_float(x), alpha)


@overload(activations.softmax, prefer_literal=True, strict=False)
def _softmax(x: Any, axis: Any = -1) -> Callable[..., Any] | None:
    if not _is_real(x):
        return None
    function, to_float = _kernel("softmax", _rank(x), _literal("axis", axis)), _to_float(x)
    return lambda x, axis=-1: function(to_float(x))


@overload(activations.log_softmax, prefer_literal=True, strict=False)
def _log_softmax(x: Any, axis: Any = -1) -> Callable[..., Any] | None:
    if not _is_real(x):
        return None
    function, to_float = _kernel("log_softmax", _rank(x), _literal("axis", axis)), _to_float(x)
    return lambda x, axis=-1: function(to_float(x))


@overload(activations.logsumexp, prefer_literal=True, strict=False)
def _logsumexp(x: Any, axis: Any = None, keepdims: Any = False) -> Callable[..., Any] | None:
    if not _is_real(x):
        return None
    function = _kernel(
        "logsumexp", _rank(x), _literal("axis", axis), _literal("keepdims", keepdims)
    )
    to_float = _to_float(x)
    return lambda x, axis=None, keepdims=False: function(to_float(x))


@functools.cache
def _kernel(name: str, rank: int, axis: AxisLike = None, keepdims: bool = False) -> Any:
    """The compiled function that takes floats of this rank."""
    try:
        sources = numba_sources(name, rank, axis, keepdims)
    except ValueError as error:
        raise TypingError(f"{name}: {error}") from None
    namespace: dict[str, Any] = {"np": np, "math": math}
    for function, text in sources.items():
        exec(text, namespace)
        namespace[function] = numba.njit(namespace[function], error_model="numpy")
    return namespace[function]


def _is_real(x: Any) -> bool:
    element = x.dtype if isinstance(x, types.Array) else x
    return isinstance(element, types.Float | types.Integer | types.Boolean)


def _rank(x: Any) -> int:
    return x.ndim if isinstance(x, types.Array) else 0


def _to_float(x: Any) -> Any:
    """The conversion that makes integers and bools float64 and leaves floats alone."""
    if isinstance(x, types.Array):
        return _same if isinstance(x.dtype, types.Float) else _array_to_float
    return _same if isinstance(x, types.Float) else _scalar_to_float


@numba.njit
def _same(x: Any) -> Any:
    return x


@numba.njit
def _scalar_to_float(x: Any) -> Any:
    return np.float64(x)


@numba.njit
def _array_to_float(x: Any) -> Any:
    return x.astype(np.float64)


def _require_scalar(name: str, value: Any) -> None:
    if isinstance(value, types.Array):
        raise TypingError(f"`{name}` must be a number in compiled code, not an array")


def _literal(name: str, value: Any) -> Any:
    """The value of an argument that has to be known when compiling."""
    if isinstance(value, types.Omitted):
        return value.value
    if isinstance(value, types.NoneType):
        return None
    if isinstance(value, types.Literal):
        return value.literal_value
    if isinstance(value, types.Tuple | types.UniTuple):
        return tuple(_literal(name, item) for item in value.types)
    if isinstance(value, int | tuple | bool | None):
        return value
    raise TypingError(f"`{name}` must be a literal in compiled code: it decides the result's shape")
