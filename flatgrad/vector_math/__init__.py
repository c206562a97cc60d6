"""Elementary functions that Numba turns into vector instructions, as text.

    numba_sources("tanh", "float64")  ->  {"half_expm1_f64": "def half_expm1_f64(x): ...",
                                           "tanh_f64": "def tanh_f64(x): ..."}

Numba's own are calls of libm, one number at a time, which keeps the loop around them scalar. The
functions here are polynomials and selects without a branch, so LLVM vectorises a loop that calls
them. They are within 2 ulp for every argument and right for signed zeros, subnormals, overflow,
inf and nan; docs/vector_math.md has the measurements and how the functions are called.

The text needs `np` and `math`, and each function a decorator of its own: `DECORATOR`. Its flags
allow a product and a sum to be one instruction and the sign of a zero to be dropped, nothing else;
reordering would destroy the sums in two parts. A loop around them may have more (`LOOP_FLAGS`):
flags belong to an instruction, and the ones of an inlined function keep theirs. Functions are also
correct in plain Python, on NumPy scalars.
"""

from __future__ import annotations

import inspect
from types import FunctionType

from flatgrad.vector_math import (
    error_function,
    exponentials,
    logarithms,
    powers,
    single_trigonometry,
    singles,
    trigonometry,
)

DECORATOR = (
    '@numba.njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"}, forceinline=True)'
)
"""What has to stand above each of the functions."""

LOOP_DECORATOR = (
    '@numba.njit(cache=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc", "arcp"})'
)
LOOP_FLAGS = frozenset({"contract", "nsz", "reassoc", "arcp"})
"""`fastmath` of a function with loops that call them; without nnan and ninf, so nan stays nan."""

LIMITS = {"sin": trigonometry.LIMIT, "cos": trigonometry.LIMIT, "tan": trigonometry.LIMIT}
"""Functions that give garbage for finite |x| beyond this: whoever calls them checks the arguments,
as `array_sources` does."""

SUFFIXES = {"float64": "f64", "float32": "f32"}
BINARY = ("arctan2", "pow")
FUNCTIONS = (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sinh", "cosh", "tanh", "sigmoid",
    "softplus", *LIMITS, "arctan", "erf", "erfc", "cbrt", *BINARY,
)  # fmt: skip
"""The names, as NumPy has them; those in `BINARY` take two numbers, the others one."""

_MODULES = (
    exponentials, logarithms, powers, error_function, trigonometry, singles, single_trigonometry,
)  # fmt: skip
_KNOWN: dict[str, FunctionType] = {
    name: function
    for module in _MODULES
    for name, function in vars(module).items()
    if isinstance(function, FunctionType) and function.__module__ == module.__name__
}


def numba_name(name: str, dtype: str) -> str:
    """What the function of numbers is called: `exp_f64`, `tanh_f32`, `sin_within_f64`.

    Parameters
    ----------
    name
        One of `FUNCTIONS`.
    dtype
        "float64" or "float32", of arguments and result alike.

    Raises
    ------
    ValueError
        If there is no such function.
    """
    if name not in FUNCTIONS or dtype not in SUFFIXES:
        raise ValueError(f"no vector function {name!r} for {dtype!r}")
    return f"{name}{'_within' if name in LIMITS else ''}_{SUFFIXES[dtype]}"


def numba_sources(name: str, dtype: str) -> dict[str, str]:
    """Source text of a function and of those it calls, by name, callees first.

    Parameters and errors are those of `numba_name`, which is the name of the last entry. Every
    entry needs `DECORATOR`.
    """
    sources: dict[str, str] = {}
    _collect(numba_name(name, dtype), sources)
    return sources


def array_source(name: str, dtype: str) -> tuple[str, str]:
    """Name and text of a loop over a vector, right for every argument: `tanh_1d_f64(x, out)`.

    It stands below what `numba_sources` gives, under `LOOP_DECORATOR`. `x` and `out` may be the
    same array. Where there is a limit, a loop before looks for arguments beyond it; if there
    are any, libm computes all.

    Raises
    ------
    ValueError
        If there is no such function of one number.
    """
    if name in BINARY:
        raise ValueError(f"{name!r} takes two numbers")
    scalar = numba_name(name, dtype)
    title = f"{name}_1d_{SUFFIXES[dtype]}"
    lines = [f"def {title}(x, out):", f'    """{name} of every element of x."""']
    if name in LIMITS:
        lines += [
            "    far = 0",
            "    for i in range(x.size):",
            "        size = abs(x[i])",
            f"        far += ({LIMITS[name]} < size) & (size < np.inf)",
            "    if far:",
            "        for i in range(x.size):",
            f"            out[i] = math.{name}(x[i])",
            "        return",
        ]
    lines += ["    for i in range(x.size):", f"        out[i] = {scalar}(x[i])"]
    return title, "\n".join(lines) + "\n"


def _collect(name: str, sources: dict[str, str]) -> None:
    function = _KNOWN[name]
    for called in function.__code__.co_names:
        if called in _KNOWN and called not in sources:
            _collect(called, sources)
    sources[name] = inspect.getsource(function)
