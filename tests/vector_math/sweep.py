"""The table of docs/vector_math.md: largest errors over a dense sweep, and speed.

    python -m tests.vector_math.sweep 400000

The number is how many arguments of each kind are tried (four kinds); for those whose
references take mpmath, a hundredth, and of these gammaln and psi only above 0: left of it the
second part of the table has errors as `left_errors` measures them. float32 results are compared with float64 ones. Times are
nanoseconds per element in one loop over 16384 numbers that are not special, the best of 30.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable

import numba
import numpy as np

from flatgrad.codegen.numba_helpers.elementwise import scalar
from flatgrad.vector_math import FUNCTIONS, LOOP_FLAGS
from tests.vector_math.compiled import BINARY, arguments, compiled
from tests.vector_math.references import by_long_double, domain, exact, left_errors, ulps

LIBM = {
    "exp2": "2.0 ** x", "arctan": "math.atan(x)", "arctan2": "math.atan2(x, y)",
    "pow": "math.pow(x, y)", "cbrt": "np.cbrt(x)", "gammaln": "math.lgamma(x)",
    "psi": "psi_scalar(x)",
    "sigmoid": "1.0 / (1.0 + math.exp(-x))", "softplus": "math.log1p(math.exp(-abs(x))) + max(x, z)",
}  # fmt: skip
MPMATH = ("erf", "erfc", "gammaln", "psi")
WIDE: dict[str, Callable] = {
    "sigmoid": lambda x: np.exp(np.minimum(x, 0)) / (1 + np.exp(-abs(x))),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "pow": np.power,
}


def reference(name: str, args: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Head and tail of the exact results."""
    if name in MPMATH:
        return exact(name, *args)
    return by_long_double(WIDE.get(name) or getattr(np, name), *args)


def largest_error(name: str, dtype: str, count: int, run: Callable) -> tuple[float, int]:
    """The largest error in ulp, and how many arguments were tried."""
    worst, tried = 0.0, 0
    rng = np.random.default_rng(11)
    part = 200_000
    if name in MPMATH:
        count //= 100
    for done in range(0, count, part):
        args = arguments(name, dtype, min(part, count - done), rng)
        if name in BINARY:
            args = [a[np.isfinite(args[0]) & np.isfinite(args[1])] for a in args]
        else:
            args = [args[0][domain(name, args[0])]]
        out = np.empty((1, args[0].size), dtype)
        run(args[0][None], args[-1][None], out)
        head, tail = reference(name, args)
        regular = ~np.isnan(head)
        worst = max(worst, ulps(out[0][regular], head[regular], tail[regular]).max())
        tried += args[0].size
    return worst, tried


def largest_left(name: str, count: int) -> float:
    """The largest error left of 0, float64: uniform, near ints, and of all sizes."""
    rng = np.random.default_rng(13)
    near = rng.integers(0, 30, count) + np.exp(rng.uniform(-34, -1, count))
    sizes = np.exp(rng.uniform(-700, 34, count))
    x = -np.concatenate([rng.uniform(0, 3, count), rng.uniform(0, 40, count), near, sizes])
    x = x[(x < 0) & (x != np.floor(x))]
    out = np.empty((1, x.size))
    compiled([name], "float64")(x[None], x[None], out)
    return float(left_errors(name, x, out[0]).max())


def libm(name: str, dtype: str) -> Callable:
    """The same loop with Numba's function."""
    text = LIBM.get(name, f"math.{name}(x)")
    if dtype == "float32":
        text = text.replace("1.0", "one").replace("2.0", "two")
    lines = [
        f'@numba.njit(error_model="numpy", fastmath={set(LOOP_FLAGS)!r})',
        "def run(first, second, out):",
        "    a, b, c = first[0], second[0], out[0]",
        *[f"    {n} = a.dtype.type({v})" for n, v in (("z", 0), ("one", 1), ("two", 2))],
        "    for i in range(a.size):",
        "        x, y = a[i], b[i]",
        f"        c[i] = {text}",
    ]
    namespace: dict[str, object] = {"np": np, "math": math, "numba": numba}
    if "psi_scalar" in text:
        exec(scalar("psi").source, namespace)
        namespace["psi_scalar"] = numba.njit(error_model="numpy")(namespace["psi_scalar"])
    exec("\n".join(lines), namespace)
    return namespace["run"]


def nanoseconds(run: Callable, dtype: str) -> float:
    """Per element."""
    x = np.linspace(0.1, 9, 16384, dtype=dtype)[None]
    y = np.linspace(-3, 3, 16384, dtype=dtype)[None]
    out = np.empty_like(x)
    run(x, y, out)
    best = math.inf
    for _ in range(30):
        start = time.perf_counter()
        run(x, y, out)
        best = min(best, time.perf_counter() - start)
    return best / x.size * 1e9


def main(count: int) -> None:
    """Print the table in Markdown."""
    print("| function | float64: ulp | ns | libm ns | float32: ulp | ns | libm ns |")
    print("|---|---|---|---|---|---|---|")
    total = 0
    for name in FUNCTIONS:
        cells = []
        for dtype in ("float64", "float32"):
            run = compiled([name], dtype)
            worst, tried = largest_error(name, dtype, count, run)
            total += tried
            cells += [
                f"{math.ceil(worst * 100) / 100:.2f}",
                f"{nanoseconds(run, dtype):.1f}",
                f"{nanoseconds(libm(name, dtype), dtype):.1f}",
            ]
        print("|", " | ".join([f"`{name}`", *cells]), "|", flush=True)
    print(f"\n{total} arguments")
    for name in ("gammaln", "psi"):
        print(f"`{name}` left of 0: {largest_left(name, count // 100):.2f} * 2**-52")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 20_000)
