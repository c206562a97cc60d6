"""Elementary functions that Numba turns into vector instructions, as text.

    numba_sources("tanh", "float64")  ->  {"half_expm1_f64": "def half_expm1_f64(x): ...",
                                           "tanh_f64": "def tanh_f64(x): ..."}

Numba's own are calls of libm, one number at a time, which keeps the loop around them scalar. The
functions here are polynomials and selects without a branch, so LLVM vectorises a loop that calls
them. They are within 2 ulp for every argument, gammaln and psi for every one above 0, and right for
signed zeros, subnormals, overflow, inf and nan; docs/vector_math.md has the measurements and how
the functions are called.

The text needs `np` and `math`, and each function a decorator of its own: `DECORATOR`. Its flags
allow a product and a sum to be one instruction and the sign of a zero to be dropped, nothing else;
reordering would destroy the sums in two parts. A loop around them may have more (`LOOP_FLAGS`):
flags belong to an instruction, and the ones of an inlined function keep theirs. Functions are also
correct in plain Python, on NumPy scalars.
"""

from __future__ import annotations

import ast
import inspect
from types import FunctionType

from flatgrad.vector_math import (
    error_function,
    exponentials,
    gamma_function,
    logarithms,
    powers,
    reduction,
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
"""Functions of which there is a faster form, which gives garbage for finite |x| beyond this."""

SUFFIXES = {"float64": "f64", "float32": "f32"}
BINARY = ("arctan2", "pow")
FUNCTIONS = (
    "exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sinh", "cosh", "tanh", "sigmoid",
    "softplus", *LIMITS, "arctan", "erf", "erfc", "gammaln", "psi", "cbrt", *BINARY,
)  # fmt: skip
"""The names, as NumPy and SciPy have them; those in `BINARY` take two numbers, the others one."""

_MODULES = (
    exponentials, logarithms, powers, error_function, gamma_function, reduction, trigonometry,
    singles, single_trigonometry,
)  # fmt: skip
_KNOWN: dict[str, FunctionType] = {
    name: function
    for module in _MODULES
    for name, function in vars(module).items()
    if isinstance(function, FunctionType) and function.__module__ == module.__name__
}


TABLES = {"TWO_OVER_PI": reduction}
"""Arrays that functions read, and the modules they stand in."""


def numba_name(name: str, dtype: str, *, within: bool = False) -> str:
    """What the function of numbers is called: `exp_f64`, `tanh_f32`, `sin_within_f64`.

    Parameters
    ----------
    name
        One of `FUNCTIONS`.
    dtype
        "float64" or "float32", of arguments and result alike.
    within
        The form of a function in `LIMITS` that is right up to its limit, and for inf and nan.

    Raises
    ------
    ValueError
        If there is no such function.
    """
    if name not in FUNCTIONS or dtype not in SUFFIXES or (within and name not in LIMITS):
        raise ValueError(f"no vector function {name!r} for {dtype!r}")
    return f"{name}{'_within' if within else ''}_{SUFFIXES[dtype]}"


def numba_sources(name: str, dtype: str, *, within: bool = False) -> dict[str, str]:
    """Source text of a function and of what it needs, by name, in order.

    Parameters and errors are those of `numba_name`, which is the name of the last entry. Every
    entry that begins with `def` needs `DECORATOR`; the others are tables.
    """
    sources: dict[str, str] = {}
    _collect(numba_name(name, dtype, within=within), sources)
    return sources


def array_source(name: str, dtype: str) -> tuple[str, str]:
    """Name and text of a loop over a vector: `tanh_1d_f64(x, out)`.

    It stands below what `numba_sources` gives, under `LOOP_DECORATOR`. `x` and `out` may be the
    same array.

    Raises
    ------
    ValueError
        If there is no such function of one number.
    """
    if name in BINARY:
        raise ValueError(f"{name!r} takes two numbers")
    title = f"{name}_1d_{SUFFIXES.get(dtype)}"
    return title, f'''\
def {title}(x, out):
    """{name} of every element of x."""
    for i in range(x.size):
        out[i] = {numba_name(name, dtype)}(x[i])
'''


def _collect(name: str, sources: dict[str, str]) -> None:
    function = _KNOWN[name]
    for called in function.__code__.co_names:
        if called in TABLES:
            sources[called] = _table(called)
        elif called in _KNOWN and called not in sources:
            _collect(called, sources)
    sources[name] = inspect.getsource(function)


def _table(name: str) -> str:
    """The assignment of a table as text."""
    text = inspect.getsource(TABLES[name])
    for statement in ast.parse(text).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            return f"{ast.get_source_segment(text, statement)}\n"
    raise AssertionError(name)
