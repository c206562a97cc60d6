"""The activations as text that Numba compiles.

    numba_sources("sigmoid", 1)  ->  {"sigmoid": "def sigmoid(x): ...",
                                      "sigmoid_1d": "def sigmoid_1d(x): ..."}

Numba needs its own text because it has no weak constants (float32 + 1.0 is float64 there) and no
`np.max` along an axis. The functions below take one float, float32 or float64, and keep its type:
hence `type(x)(1)` for 1. Around them `numba_sources` writes loops, for arrays of one rank and with
one choice of axes. Every function gets an `@njit` of its own from whoever embeds the text.

The functions for scalars are correct in plain Python too, with `math` alone, where they are much
faster on a float than the NumPy ones.
"""

import inspect
import math
from types import FunctionType

from flatgrad.activations import ALONG_AXIS, ELEMENTWISE, REQUIRES

AxisLike = int | tuple[int, ...] | None

INDICES = "ijklmn"
PARAMETERS = {"leaky_relu": ("slope", "0.01"), "elu": ("alpha", "1.0")}


def sigmoid(x: float) -> float:
    one = type(x)(1)
    e = math.exp(-abs(x))
    return (one if x >= 0 else e) / (one + e)


def relu(x: float) -> float:
    return type(x)(0) if x <= 0 else x


def leaky_relu(x: float, slope: float = 0.01) -> float:
    return x if x >= 0 else type(x)(slope) * x


def elu(x: float, alpha: float = 1.0) -> float:
    return x if x >= 0 else type(x)(alpha) * type(x)(math.expm1(x))


def softplus(x: float) -> float:
    return (type(x)(0) if x <= 0 else x) + type(x)(math.log1p(math.exp(-abs(x))))


def normal_cdf(x: float) -> float:
    return type(x)(0.5) * type(x)(math.erfc(type(x)(-0.7071067811865476) * x))


def gelu(x: float) -> float:
    if x < -20000:
        return type(x)(0)
    return x * normal_cdf(x)


def silu(x: float) -> float:
    if x < -20000:
        return type(x)(0)
    return x * sigmoid(x)


def softmax(x: float) -> float:
    return type(x)(1) if x == x else x


def log_softmax(x: float) -> float:
    return type(x)(0) if x == x else x


def logsumexp(x: float) -> float:
    return x


SCALAR: dict[str, FunctionType] = {name: globals()[name] for name in (*ELEMENTWISE, *ALONG_AXIS)}


def numba_name(name: str, rank: int, axis: AxisLike = None, keepdims: bool = False) -> str:
    """Name of the function for arrays of this rank: `sigmoid_2d`, `softmax_3d_axis1`.

    The scalar function keeps the plain name, and no axis is named where all are reduced.
    """
    if rank == 0:
        return name
    full = f"{name}_{rank}d"
    if name in ALONG_AXIS:
        axes = _reduced_axes(rank, axis)
        if len(axes) < rank:
            full += "_axis" + "".join(map(str, axes))
        if keepdims:
            full += "_keepdims"
    return full


def numba_sources(
    name: str, rank: int, axis: AxisLike = None, keepdims: bool = False
) -> dict[str, str]:
    """Source text of one activation and of the functions it calls, by name, callees first.

    Parameters
    ----------
    name
        A name of `flatgrad.activations`.
    rank
        Rank of the argument, 0 to 6; 0 is a scalar. Arrays may have any layout and hold floats.
    axis, keepdims
        For softmax, log_softmax and logsumexp, as for the NumPy function. They are part of the
        text: the function of the last entry takes only the array.
    """
    if not 0 <= rank <= len(INDICES):
        raise ValueError(f"rank {rank}: must be between 0 and {len(INDICES)}")
    sources = {}
    if rank == 0 or name in ELEMENTWISE:
        for scalar in (*REQUIRES.get(name, ()), name):
            sources[scalar] = inspect.getsource(SCALAR[scalar])
    if rank > 0:
        full = numba_name(name, rank, axis, keepdims)
        if name in ELEMENTWISE:
            lines = _elementwise(name, full, rank)
        else:
            lines = _along_axes(name, full, rank, _reduced_axes(rank, axis), keepdims)
        sources[full] = "\n".join(lines) + "\n"
    return sources


def _reduced_axes(rank: int, axis: AxisLike) -> tuple[int, ...]:
    given = range(rank) if axis is None else (axis,) if isinstance(axis, int) else axis
    for a in given:
        if not -rank <= a < rank:
            raise ValueError(f"axis {a} is out of bounds for an array of rank {rank}")
    axes = tuple(sorted({a % rank for a in given}))
    if len(axes) < len(given):
        raise ValueError(f"axis {axis} names an axis twice")
    return axes


def _indent(lines: list[str], depth: int = 1) -> list[str]:
    return ["    " * depth + line for line in lines]


def _loops(axes: tuple[int, ...], body: list[str]) -> list[str]:
    lines = []
    for depth, axis in enumerate(axes):
        lines += _indent([f"for {INDICES[axis]} in range(x.shape[{axis}]):"], depth)
    return lines + _indent(body, len(axes))


def _elementwise(name: str, full: str, rank: int) -> list[str]:
    at = ", ".join(INDICES[:rank])
    parameter, default = PARAMETERS.get(name, ("", ""))
    return [
        f"def {full}(x, {parameter}={default}):" if parameter else f"def {full}(x):",
        *_indent(["y = np.empty(x.shape, x.dtype)"]),
        *_indent(
            _loops(
                tuple(range(rank)),
                [f"y[{at}] = {name}(x[{at}]{', ' + parameter if parameter else ''})"],
            )
        ),
        "    return y",
    ]


def _along_axes(
    name: str, full: str, rank: int, reduced: tuple[int, ...], keepdims: bool
) -> list[str]:
    """Loops over the kept axes around loops over the reduced ones: largest entry, sum, result."""
    kept = tuple(axis for axis in range(rank) if axis not in reduced)
    at = ", ".join(INDICES[:rank])
    shift = [
        f"shifted = x[{at}] - largest",
        f"if x[{at}] == largest:",
        "    shifted = zero  # not nan for inf - inf",
    ]
    store = {
        "softmax": [f"y[{at}] = math.exp(shifted)", f"total += y[{at}]"],
        "log_softmax": [f"y[{at}] = shifted", "total += math.exp(shifted)"],
        "logsumexp": ["total += math.exp(shifted)"],
    }[name]
    shape, result = _logsumexp_result(rank, reduced, keepdims)
    finish = {
        "softmax": _loops(reduced, [f"y[{at}] /= total"]),
        "log_softmax": ["log_total = math.log(total)", *_loops(reduced, [f"y[{at}] -= log_total"])],
        "logsumexp": [f"{result} = largest + math.log(total)"],
    }[name]
    body = [
        "largest = x.dtype.type(-np.inf)",
        *_loops(reduced, [f"largest = max(largest, x[{at}])"]),
        "total = 0.0  # in float64 for float32 too",
        *_loops(reduced, shift + store),
        *finish,
    ]
    makes_scalar = name == "logsumexp" and shape == "()"
    allocate = f"y = np.empty({shape if name == 'logsumexp' else 'x.shape'}, x.dtype)"
    return [
        f"def {full}(x):",
        "    zero = x.dtype.type(0)",
        *([] if makes_scalar else _indent([allocate])),
        *_indent(_loops(kept, body)),
        "    return x.dtype.type(y)" if makes_scalar else "    return y",
    ]


def _logsumexp_result(rank: int, reduced: tuple[int, ...], keepdims: bool) -> tuple[str, str]:
    """Shape of the result and the place in it, as text; `()` and plain `y` for a scalar."""
    axes = [axis for axis in range(rank) if keepdims or axis not in reduced]
    if not axes:
        return "()", "y"
    shape = ", ".join("1" if axis in reduced else f"x.shape[{axis}]" for axis in axes)
    place = ", ".join("0" if axis in reduced else INDICES[axis] for axis in axes)
    return f"({shape},)" if len(axes) == 1 else f"({shape})", f"y[{place}]"
