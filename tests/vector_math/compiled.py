"""All vector functions of one dtype, compiled together, and arguments to try them on."""

from __future__ import annotations

import math
from collections.abc import Callable

import numba
import numpy as np

from flatgrad.vector_math import (
    BINARY,
    DECORATOR,
    LIMITS,
    LOOP_FLAGS,
    numba_name,
    numba_sources,
)

LIMIT = LIMITS["sin"]

RANGES = {
    "exp": (-750, 715), "exp2": (-1080, 1030), "expm1": (-50, 715), "log": (0, 1e3),
    "log2": (0, 1e3), "log10": (0, 1e3), "log1p": (-1, 10), "sinh": (-712, 712),
    "cosh": (-712, 712), "tanh": (-23, 23), "sigmoid": (-750, 750), "softplus": (-750, 100),
    "sin": (-LIMIT, LIMIT), "cos": (-LIMIT, LIMIT), "tan": (-LIMIT, LIMIT), "arctan": (-20, 20),
    "cbrt": (-1e3, 1e3), "erf": (-6.5, 6.5), "erfc": (-6, 28), "gammaln": (0, 12), "psi": (0, 12),
}  # fmt: skip
"""Where each function does something; twice as much as that is tried outside."""

SINGLE_RANGES = {
    "exp": (-105, 90), "exp2": (-151, 130), "expm1": (-20, 90), "sinh": (-91, 91),
    "cosh": (-91, 91), "tanh": (-10, 10), "sigmoid": (-105, 105), "softplus": (-105, 100),
    "erf": (-4.5, 4.5), "erfc": (-4, 10.5),
}  # fmt: skip

SPECIAL = [
    0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, 3.0, -3.0, np.inf, -np.inf, np.nan, 1e30, -1e30,
    1e5, -1e5, 1 + 2**-23, 1 - 2**-23, 2.0**24 - 1, 1 - 2**24, 1023.0, 1024.0, -1074.0, -1075.0,
    127.0, 128.0, -149.0, -150.0, 1e-20, -1e-20,
]  # fmt: skip
SPECIAL_DOUBLE = [
    5e-324, -5e-324, 2.2250738585072014e-308, -2.2e-308, 1.7976931348623157e308,
    -1.7976931348623157e308, 709.782712893384, 709.7827128933841, -745.1332191019411,
    -745.1332191019412, 710.4758600739439, 710.475860073944, 1 + 2**-52, 1 - 2**-53, 2.0**53 - 1,
    -(2.0**53) + 1, 2.0**52 + 1, 2.0**53, 4503599627370495.5, 1e300, -1e300, 26.5, 27.3, -37.5, -4503599627370495.5, 2.55634e305,
    2.556348e305, -2.557e305, 5.5, 1.4616321449683622, 1.4616321449683625, 2.0000000000000004,
    1.9999999999999998, -1e-310, -2.4570247382208006,
]  # fmt: skip
SPECIAL_SINGLE = [
    1e-45, -1e-45, 1.1754944e-38, -1.1e-38, 3.4028235e38, -3.4028235e38, 88.72283, 88.72284, 4.0850034e36, 4.0850035e36, 1.4616321, 1.4616323,
    -103.97208, -103.97209, 89.41598, 89.41599, 10.05, 10.06,
]  # fmt: skip


def special(dtype: str) -> np.ndarray:
    """Arguments at which something is different."""
    more = SPECIAL_DOUBLE if dtype == "float64" else SPECIAL_SINGLE
    return np.array([*SPECIAL, *more], dtype=dtype)


def every_magnitude(count: int, dtype: str, rng: np.random.Generator) -> np.ndarray:
    """Floats of both signs, all exponents alike: random bits, without inf and nan."""
    bits = np.uint64 if dtype == "float64" else np.uint32
    random = rng.integers(0, np.iinfo(bits).max, 2 * count, dtype=bits).view(dtype)
    return random[np.isfinite(random)][:count]


NEAREST = [
    6381956970095103 * 2.0**797, 5319372648326541 * 2.0**255, 16367173 * 2.0**72, math.pi,
    math.pi / 2, 11 * math.pi / 2, np.float32(math.pi), np.float32(math.pi / 2), 1e22,
]  # fmt: skip
"""Floats near multiples of pi/2, the first of all float64, the third of all float32."""


EDGES = {"gammaln": (0.5, 1.5, 2.5, 3.5, 4.5, 5.5), "psi": (1.0, 2.0, 3.0)}
"""Where one form of a function ends and another begins."""


def arguments(
    name: str, dtype: str, count: int, rng: np.random.Generator, *, within: bool = False
) -> list[np.ndarray]:
    """About 4 * `count` arguments, the special ones among them.

    `within`: for functions with a limit, beyond it only inf and nan.
    """
    if name in BINARY:
        return _pairs(name, dtype, count, rng)
    low, high = RANGES[name]
    if dtype == "float32":
        low, high = SINGLE_RANGES.get(name, (low, high))
    x = np.concatenate(
        [
            rng.uniform(low, high, count).astype(dtype),
            rng.uniform(-2, 2, count).astype(dtype),
            (1 + rng.uniform(-0.5, 0.5, count // 2) ** 3).astype(dtype),
            (np.exp(rng.uniform(-40, 5, count // 2)) * rng.choice([-1, 1], count // 2)).astype(
                dtype
            ),
            every_magnitude(count, dtype, rng),
            special(dtype),
        ]
    )
    if name in EDGES:
        distances = rng.choice([-1, 1], count // 4) * np.exp(rng.uniform(-35, -4, count // 4))
        x = np.concatenate([x, (rng.choice(EDGES[name], count // 4) + distances).astype(dtype)])
    if name in LIMITS:
        turns = np.arange(1, 600_000, max(1, 2 * 600_000 // count))
        nearest = np.array([one for one in NEAREST if float(one) <= float(np.finfo(dtype).max)])
        x = np.concatenate([x, (turns * (math.pi / 2)).astype(dtype), nearest.astype(dtype)])
        if within:
            x = x[~(np.abs(x) > LIMIT) | np.isinf(x)]
    return [x]


def _pairs(name: str, dtype: str, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    grid = special(dtype)
    first, second = (a.ravel() for a in np.meshgrid(grid, grid))
    x = np.exp(rng.uniform(-80, 80, count))
    near = 1 + rng.uniform(-1e-3, 1e-3, count)
    steps = rng.integers(-30, 30, count).astype(float)
    tops = [x, near, rng.uniform(-10, 10, count), np.exp(rng.uniform(-3, 3, count))]
    if name == "pow":
        powers = [rng.uniform(-100, 88, count) / np.log(x), rng.uniform(-8e4, 8e4, count)]
        bottoms = [*powers, steps, rng.uniform(-30, 30, count)]
    else:
        bottoms = [x * np.exp(rng.uniform(-5, 5, count)), near, steps, rng.uniform(-9, 9, count)]
    bits = [every_magnitude(count, dtype, rng), every_magnitude(count, dtype, rng)]
    return [
        np.concatenate([*(a.astype(dtype) for a in tops), bits[0], first]),
        np.concatenate([*(a.astype(dtype) for a in bottoms), bits[1], second]),
    ]


def compiled(
    names: list[str], dtype: str, *, vectorised: bool = True, within: bool = False
) -> Callable[..., None]:
    """`run(x, out)` that applies function k to row k: `(x, second, out)` where it takes two.

    Numba vectorises the loops, unless the results are scattered. `within`: the forms up to a limit.
    """
    sources: dict[str, str] = {}
    body = []
    for k, name in enumerate(names):
        sources |= numba_sources(name, dtype, within=within)
        place = "i" if vectorised else "order[i]"
        second = f", second[{k}, i]" if name in BINARY else ""
        target = numba_name(name, dtype, within=within)
        body += [
            f"    row, result = x[{k}], out[{k}]",
            "    for i in range(row.size):",
            f"        result[{place}] = {target}(row[i]{second})",
        ]
    order = "" if vectorised else ", order"
    head = DECORATOR.replace("cache=True, ", "")
    text = [
        f"{head}\n{source}" if source.startswith("def ") else source for source in sources.values()
    ]
    flags = ", ".join(f'"{flag}"' for flag in sorted(LOOP_FLAGS))
    text.append(f'@numba.njit(error_model="numpy", fastmath={{{flags}}})')
    text.append(f"def run(x, second{order}, out):\n" + "\n".join(body))
    namespace: dict[str, object] = {"np": np, "math": math, "numba": numba}
    exec("\n".join(text), namespace)
    return namespace["run"]
