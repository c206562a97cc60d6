"""Elementwise functions that Numba lacks, or has only for numbers.

elementwise("erf", (2,))
    def erf_scalar(x):
        return math.erf(x)

    def erf_2d(x):
        out = np.empty(x.shape, np.float64)
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                out[i, j] = erf_scalar(x[i, j])
        return out
"""

from __future__ import annotations

from collections.abc import Sequence

from flatgrad.codegen.numba_helpers.text import (
    INDICES,
    NUMPY_DTYPES,
    SUFFIXES,
    Helper,
    at,
    cast,
    define,
    loops,
    tuple_text,
)

# Parameters and body of each scalar function; the last line of a body is the result.
SCALARS: dict[str, tuple[str, tuple[str, ...]]] = {
    "erf": ("x", ("math.erf(x)",)),
    "erfc": ("x", ("math.erfc(x)",)),
    "gamma": ("x", ("math.gamma(x)",)),
    "gammaln": ("x", ("math.lgamma(x)",)),
    "psi": (  # by its recurrence to x >= 10, there its asymptotic series; left of 0 by reflection
        "x",
        (
            "total = 0.0",
            "if x == 0:",
            "    return -math.copysign(np.inf, x)",
            "if x < 0 and not x > np.floor(x):",
            "    return np.nan",
            "if x < 0:",
            "    total = -np.pi / math.tan(np.pi * (x - np.rint(x)))",
            "    x = 1.0 - x",
            "while x < 10:",
            "    total -= 1.0 / x",
            "    x += 1.0",
            "z = 1.0 / x / x",
            "tail = 1.0 / 240 - z * (1.0 / 132 - z * (691.0 / 32760 - z / 12))",
            "tail = z * (1.0 / 12 - z * (1.0 / 120 - z * (1.0 / 252 - z * tail)))",
            "total + (math.log(x) - 0.5 / x - tail)",
        ),
    ),
    "zeta": (  # Hurwitz's, of x > 0: terms until Euler and Maclaurin's series is short
        "s, x",
        (
            "if x == np.inf:",
            "    return 0.0",
            "total = 0.0",
            "while x < 12 + 2 * s:",
            "    total += 1.0 / x / x if s == 2 else x ** (-s)",
            "    x += 1.0",
            "z = 1.0 / x / x",
            "tail = 1.0 / 47900160 - (s + 9) * (s + 10) * z * (691.0 / 1307674368000)",
            "tail = 1.0 / 1209600 - (s + 7) * (s + 8) * z * tail",
            "tail = 1.0 / 30240 - (s + 5) * (s + 6) * z * tail",
            "tail = 1.0 / 12 - (s + 1) * (s + 2) * z * (1.0 / 720 - (s + 3) * (s + 4) * z * tail)",
            "total + x ** (-s) * (x / (s - 1) + 0.5 + s / x * tail)",
        ),
    ),
    "cbrt": ("x", ("np.cbrt(x)",)),  # math.cbrt
    "fmod": ("a, b", ("np.fmod(a, b)",)),  # math.fmod
    # Numba's np.floor_divide of arrays gives -0.0 for 1 // -inf; its `//` of numbers is right.
    "floor_divide": ("a, b", ("a // b",)),
    "log_base": ("x, base", ("math.log(x) / math.log(base)",)),
    "logaddexp": ("a, b", ("np.logaddexp(a, b)",)),
    "heaviside": (
        "x, middle",
        ("if x == 0:", "    return middle", "if x != x:", "    return x", "1.0 if x > 0 else 0.0"),
    ),
    "clip": (
        "x, low, high",  # np.maximum and np.minimum keep a NaN, as np.clip does
        ("np.minimum(np.maximum(x, low), high)",),
    ),
    "nan_to_num": (
        "x, nan, high, low",
        (
            "if x != x:",
            "    return nan",
            "if x == np.inf:",
            "    return high",
            "low if x == -np.inf else x",
        ),
    ),
    "xlogy": ("x, y", ("if x == 0 and y == y:", "    return 0.0", "x * np.log(y)")),
    "xlog1py": ("x, y", ("if x == 0 and y == y:", "    return 0.0", "x * np.log1p(y)")),
}


PLUS = Helper(
    "plus",
    """@numba.njit(
    cache=True, error_model="numpy", fastmath={"contract", "nsz", "reassoc"}
)
def plus(total, term):
    \"\"\"one more term of a sum, whose terms may be added in any order\"\"\"
    return total + term
""",
)
"""In any order means several at a time; all else in a loop keeps the order in which it stands."""


def scalar(name: str, dtype: str = "float64") -> Helper:
    """The function of numbers, rounded to `dtype`."""
    params, (*lines, result) = SCALARS[name]
    rounded = [
        "    return " + cast(dtype, line.removeprefix("    return ")) if "return " in line else line
        for line in lines
    ]
    body = [*rounded, f"return {cast(dtype, result)}"]
    return define(f"{name}_scalar{SUFFIXES[dtype]}", params, f"{name} of numbers", body)


def elementwise(name: str, ranks: Sequence[int], dtype: str = "float64") -> Helper:
    """The function of arrays of these ranks (0 is a number), broadcast; `dtype` of the result."""
    one = scalar(name, dtype)
    rank = max(ranks)
    if rank == 0:
        return one
    params = SCALARS[name][0]
    names = params.split(", ")
    lines, entries = _broadcast(dict(zip(names, ranks, strict=True)))
    result = f"{one.name}({', '.join(entries[param] for param in names)})"
    body = [
        *lines,
        f"out = np.empty(shape, {NUMPY_DTYPES[dtype]})",
        *loops(INDICES[:rank], "out", [f"{at('out', INDICES[:rank])} = {result}"]),
        "return out",
    ]
    summary = f"{name} of every element"
    return define(f"{name}_{_spelled(ranks)}{SUFFIXES[dtype]}", params, summary, body, (one,))


def _spelled(ranks: Sequence[int]) -> str:
    return "_".join(f"{own}d" if own else "number" for own in ranks)


def _broadcast(ranks: dict[str, int]) -> tuple[list[str], dict[str, str]]:
    """Lines that give arrays (not numbers) one shape, and how to read each operand in a loop."""
    arrays = [name for name, own in ranks.items() if own]
    index = INDICES[: max(ranks.values())]
    if len(arrays) == 1:
        (array,) = arrays
        return [f"shape = {array}.shape"], {n: at(n, index) if n == array else n for n in ranks}
    lines = [f"shape = np.broadcast_shapes({', '.join(f'{name}.shape' for name in arrays)})"]
    lines += [f"{name}_all = np.broadcast_to({name}, shape)" for name in arrays]
    return lines, {n: at(f"{n}_all", index) if n in arrays else n for n in ranks}


def where(ranks: tuple[int, int, int], dtype: str = "float64") -> Helper:
    """np.where whose result keeps `dtype`, with numbers among the branches."""
    params, suffix = "condition, a, b", SUFFIXES[dtype]
    if not any(ranks):
        body = [f"return {cast(dtype, 'a')} if condition else {cast(dtype, 'b')}"]
        return define(f"where_numbers{suffix}", params, "a choice", body)
    lines, entries = _broadcast(dict(zip(params.split(", "), ranks, strict=True)))
    index = INDICES[: max(ranks)]
    choice = [
        f"if {entries['condition']}:",
        f"    {at('out', index)} = {entries['a']}",
        "else:",
        f"    {at('out', index)} = {entries['b']}",
    ]
    body = [
        *lines,
        f"out = np.empty(shape, {NUMPY_DTYPES[dtype]})",
        *loops(index, "out", choice),
        "return out",
    ]
    return define(f"where_{_spelled(ranks)}{suffix}", params, "a choice per element", body)


def stacked_scalars(count: int, dtype: str = "float64") -> Helper:
    """np.array([a, b, ...]) of numbers, with the dtype of the result given."""
    names = [f"x{k}" for k in range(count)]
    body = [
        f"out = np.empty({count}, {NUMPY_DTYPES[dtype]})",
        *[f"out[{k}] = {name}" for k, name in enumerate(names)],
        "return out",
    ]
    params = ", ".join(names)
    summary = f"the vector {tuple_text(names)}"
    return define(f"vector_of_{count}{SUFFIXES[dtype]}", params, summary, body)
