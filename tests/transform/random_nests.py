"""Random nests of loops over points, components and columns, for the strips of their outer loops.

    python -m tests.transform.random_nests 0 500              # the programs of these seeds
    python -m tests.transform.random_nests 0 500 singles      # in float32, or both dtypes mixed

Many of the programs must stay as they are: a buffer keeps something from one point to the next, or
a sum is read. Whether strips are worth it is not asked here: what may be done is done.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from flatgrad import value_and_grad
from flatgrad.errors import FlatgradError
from flatgrad.transform import strip_loops, strip_seeds
from tests.emitted import loaded, plain_function
from tests.transform.tally import as_near, tally

POINTS = (1, 3, 64, 70)
SCALES = (1.0, 2.0**400, 2.0**1023)
READS = {
    "": ["u", "w[0]", "z[i]", "s", "main[0]", "r"],
    "c": ["u", "w[c]", "s", "main[c]", "z[i]", "r", "main[c - 1]", "w[c] * z[i]"],
    "ca": ["x[i, a]", "m[c, a]", "v[a]", "v[0]", "w[c]", "s", "r", "x[i, a] - m[c, a]", "y[i, a]"],
    "cab": ["x[i, b]", "q[a * (a + 1) // 2 + b]", "v[b]", "v[a]", "m[c, b]", "s", "r"],
}
"""What an expression may read, by the loops around it."""
FUNCTIONS = ["np.sin({})", "np.exp(-({}) ** 2)", "({}) * ({})", "{} + 0.5 * {}", "{}", "{}"]


def expression(rng: random.Random, loops: str) -> str:
    text = rng.choice(FUNCTIONS)
    while "{}" in text:
        text = text.replace("{}", rng.choice(READS[loops]), 1)
    return text


def statement(rng: random.Random, loops: str) -> list[str]:
    value = expression(rng, loops)
    options = ["s = {}", "s += {}", "total += {}", "total -= {}", "r = {}"]
    if loops == "":
        options += ["z[i] = {}", "z[i] += {}", "main[0] = {}", "t = max(t, {})", "total += {}"]
    if loops == "c":
        options += ["main[c] = {}"] * 3 + ["main[c] += {}", "w[c] = {}", "s = max(s, {})"]
    if loops == "ca":
        options += ["v[a] = {}"] * 3 + ["v[a] += {}", "y[i, a] = {}", "main[c] += {}"]
    if loops == "cab":
        options += ["v[b] = {}", "s += {}", "s += {}"]
    line = rng.choice(options).format(value)
    if rng.random() < 0.15:
        return [f"if {expression(rng, loops)} > 0.3:", f"    {line}"]
    return [line]


LOOPS = {
    "": ["for c in range(k):"] * 4 + ["for c in range(1, k):", "for c in range(k - 1, -1, -1):"],
    "c": ["for a in range(d):"] * 4 + ["for a in range(d - 1, -1, -1):", "for a in range(c):"],
    "ca": ["for b in range(a + 1):", "for b in range(d):", "for b in range(a):"],
}


def block(rng: random.Random, loops: str) -> list[str]:
    lines: list[str] = []
    for _ in range(rng.choice([1, 2, 2, 3])):
        if loops in LOOPS and rng.random() < (0.75 if loops == "" else 0.45):
            inner = block(rng, loops + "cab"[len(loops)])
            lines += [rng.choice(LOOPS[loops]), *[f"    {line}" for line in inner]]
        else:
            lines += statement(rng, loops)
    return lines


def program(seed: int) -> str:
    rng = random.Random(seed)
    body = ["n, d = x.shape", "k = w.size", "main = np.zeros(k)", "v = np.zeros(d)",
            "z = z0.copy()", "w = w0.copy()", "y = np.zeros((n, d))", "total = 0.0", "t = 0.0",
            "s = 0.0", "r = 0.0"]  # fmt: skip
    body[1] = "k = w0.size"
    for _ in range(rng.choice([1, 1, 2])):
        inner = block(rng, "")
        if not any(line.startswith("for") for line in inner):
            inner += ["for c in range(k):", "    total += w[c] * u"]
        start = ["s = 0.0", "r = 1.0"] if rng.random() < 0.8 else []
        body += ["for i in range(n):", *[f"    {line}" for line in [*start, *inner]]]
    body.append("return total + t" + rng.choice(["", " + np.sum(z)", " + np.sum(y)", " + main[0]"]))
    lines = "\n".join(f"    {line}" for line in body)
    return f"import numpy as np\n\n\ndef f(x, m, w0, q, z0, u):\n{lines}\n"


@contextmanager
def larger_seeds(scale: float):
    """Seeds as many times as large, whether that pays or not; 2**1023 overflows."""
    usual = strip_seeds.pays, strip_seeds.SCALE, strip_seeds.SINGLE_SCALE
    strip_seeds.pays, strip_seeds.SCALE = lambda *_: True, scale
    strip_seeds.SINGLE_SCALE = min(scale, 2.0**127)
    try:
        yield
    finally:
        strip_seeds.pays, strip_seeds.SCALE, strip_seeds.SINGLE_SCALE = usual


@contextmanager
def wherever_it_is_right():
    """Strips whether they pay or not."""
    usual = strip_loops.strided_reads

    def always(*args: Any) -> Any:
        return replace(usual(*args), pays=True)

    strip_loops.strided_reads = always
    try:
        yield
    finally:
        strip_loops.strided_reads = usual


def arguments(seed: int) -> tuple[Any, ...]:
    rng = np.random.default_rng(seed)
    n, d, k = POINTS[seed % len(POINTS)], 3, 4
    return (
        rng.normal(size=(n, d)), rng.normal(size=(k, d)), rng.normal(size=k),
        rng.normal(size=d * (d + 1) // 2 + d), rng.normal(size=n), 0.4,
    )  # fmt: skip


def outcome(
    seed: int, folder: Path, program: Callable[[int], str] = program, argnums: Any = None
) -> str:
    """ "ok", "strips", "refused", "raises" where an index is wrong, or a line on what differs."""
    f = loaded(program(seed), folder / f"nest_{seed}.py")
    args = arguments(seed)
    try:
        if not np.isfinite(f(*args)):
            return "raises"
    except IndexError:
        return "raises"
    try:
        expected = value_and_grad(f, argnums)(*args)
        derived = value_and_grad(f, argnums, backend="numba")
        with wherever_it_is_right(), larger_seeds(SCALES[seed % len(SCALES)]):
            derived.source(*args)
    except FlatgradError:
        return "refused"
    found = plain_function(derived)(*args)
    for one, other in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
        if not np.allclose(one, other, rtol=1e-8, atol=1e-9, equal_nan=True):
            return f"seed {seed}: {one} is not {other}\n{program(seed)}"
    return "strips" if "lane in range" in derived.source() else "ok"


def narrow_arguments(seed: int) -> tuple[Any, ...]:
    """In float32, but for an argument or two of every third program."""
    rng = random.Random(seed)
    kept = {rng.randrange(6), rng.randrange(6)} if seed % 3 == 0 else set()
    if seed % 2:
        kept.add(5)  # a Python float
    args = arguments(seed)
    return tuple([one if k in kept else np.float32(one) for k, one in enumerate(args)])


def single(seed: int, folder: Path) -> str:
    """The same of a program in float32, which must be about as near to float64 as NumPy is."""
    text = program(seed).replace("np.zeros(k)", "np.zeros(k, w0.dtype)")
    text = text.replace("np.zeros(d)", "np.zeros(d, x.dtype)")
    text = text.replace("np.zeros((n, d))", "np.zeros((n, d), x.dtype)")
    f = loaded(text, folder / f"single_{seed}.py")
    args = narrow_arguments(seed)
    wide = [np.float64(one) for one in args]
    try:
        if not np.isfinite(f(*args)) or abs(f(*args) - f(*wide)) > 1e-3 * (1 + abs(f(*wide))):
            return "raises"
    except IndexError:
        return "raises"
    nums = tuple(range(6))
    try:
        exact = value_and_grad(f, nums)(*wide)
        expected = value_and_grad(f, nums)(*args)
        derived = value_and_grad(f, nums, backend="numba")
        with wherever_it_is_right(), larger_seeds(SCALES[seed % len(SCALES)]):
            derived.source(*args)
    except FlatgradError:
        return "refused"
    found = plain_function(derived)(*args)
    rows = zip(*[(one[0], *one[1]) for one in (found, expected, exact)], strict=True)
    for one, other, true in rows:
        if not as_near(one, other, true):
            return f"seed {seed}: {one!r} is not {other!r}, {true}\n{text}"
    return "strips" if "lane in range" in derived.source() else "ok"


if __name__ == "__main__":
    tally(single if "singles" in sys.argv else outcome, ("ok", "strips", "refused", "raises"))
