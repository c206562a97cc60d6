"""Random programs that update slices of arrays from their neighbours, step by step.

    python -m tests.transform.random_slices 0 500      # the programs of these seeds

One and two axes, one array and two that are swapped, names for the same array, views, ends that are
set, steps kept in rows, arrays shorter than what the slices leave out: the text for Numba must give
what the NumPy backend gives, that must agree with differences, and the arguments must stay as they
are. What an array holds before it is filled is NaN, so that nobody reads it unnoticed.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from flatgrad import value_and_grad
from flatgrad.errors import FlatgradError
from tests.emitted import loaded, plain
from tests.transform.random_array_loops import (
    LARGEST,
    NEAR,
    differs,
    disagreement,
)

HEAD = "import numpy as np\n\n\ndef f(u0, w, xs, a):\n"
ARRAYS = ["u", "u", "u", "v", "w", "xs[t]", "u0"]
TRIMS = [2, 2, 2, 1, 4]
STARTS = ["u0.copy()", "np.zeros_like(u0)", "w.copy()", "u", "u[:]", "u0 * a", "u"]
FUNCTIONS = ["np.tanh({0})", "a * ({0})", "({0}) * ({1})", "{0} - 2 * {1} + {2}", "-({0})",
             "({0}) / (1 + ({1}) * ({1}))", "np.maximum({0}, {1})", "0.5 * ({0} + {1})"]  # fmt: skip


class Programs:
    """Makes one program."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.rank = self.rng.choice([1, 1, 1, 2])

    def place(self, trims: tuple[int, ...]) -> str:
        """Slices that leave out so many elements of each axis."""
        entries = []
        for trim in trims:
            first = self.rng.randint(0, trim)
            start, stop = first or "", first - trim or ""
            entries.append(f"{start}:{stop}")
        return f"[{', '.join(entries)}]"

    def trims(self) -> tuple[int, ...]:
        return tuple([self.rng.choice([*TRIMS, 0][: 6 if self.rank > 1 else 5])
                      for _ in range(self.rank)])  # fmt: skip

    def part(self, trims: tuple[int, ...]) -> str:
        return f"{self.rng.choice(ARRAYS)}{self.place(trims)}"

    def expression(self, trims: tuple[int, ...], depth: int = 2) -> str:
        if not depth or self.rng.random() < 0.2:
            return self.part(trims)
        pieces = [self.expression(trims, depth - 1) for _ in range(3)]
        return self.rng.choice(FUNCTIONS).format(*pieces)

    def stencil(self) -> list[str]:
        """The usual step: a part is computed from its neighbours."""
        trims = self.trims()
        target = self.rng.choice(["u", "u", "v"])
        sign = self.rng.choice(["=", "=", "=", "+="])
        here = f"{target}{self.place(trims)}"
        change = f"0.1 * np.tanh({self.expression(trims)})"
        linear = f"a * ({self.part(trims)} - 2 * {self.part(trims)} + {self.part(trims)})"
        value = self.rng.choice([change, linear, f"{self.part(trims)} + {linear}"])
        if self.rng.random() < 0.3:
            return [f"e = {value}", f"{here} {sign} e"]
        return [f"{here} {sign} {value}"]

    def other(self) -> list[str]:
        trims = self.trims()
        end = self.rng.choice(["[0]", "[-1]", "[:1]", "[-2:]", "[1:2]"])
        return [self.rng.choice([
            "u, v = v, u", "u, v = v, u", f"total += np.sum({self.expression(trims)})",
            f"u{end} = 0.5", f"u{end} = a * u{end}", f"v{end} += a", "u = np.tanh(u)",
            "keep = u", "keep = u.copy()", "rows[t] = u", "rows[t] = 0.5 * v", "v[:] = u * a",
            f"u{self.place(trims)} = {self.part(trims)}", f"u{self.place(trims)} *= 0.5",
            "u[len(xs):] *= a", "v[:len(xs)] += u[-len(xs):]", "u[::2] = a",
            "u = u + 0.1 * v", "v = u", "v = u[:]", "u = rows[t]",
        ])]  # fmt: skip

    def statement(self) -> list[str]:
        kind = self.rng.random()
        if kind < 0.55:
            return self.stencil()
        if kind < 0.65:
            condition = self.rng.choice(["a > 0.3", "np.sum(u) > 0", "t % 2 == 0"])
            return [f"if {condition}:", *[f"    {line}" for line in self.stencil()]]
        return self.other()

    def text(self) -> str:
        body = ["u = u0.copy()", f"v = {self.rng.choice(STARTS)}", "keep = w", "total = 0.0",
                "rows = np.zeros_like(xs)"]  # fmt: skip
        for _ in range(self.rng.choice([1, 1, 2])):
            trips = self.rng.choice(["len(xs)", "len(xs)", "1, len(xs)", "len(xs) - 1, -1, -1"])
            body.append(f"for t in range({trips}):")
            for _ in range(self.rng.randint(1, 4)):
                body += [f"    {line}" for line in self.statement()]
            if self.rng.random() < 0.1:
                body += ["    if np.sum(u) > 3.0:", "        break"]
        body.append("return total + np.sum(u * w) + np.sum(v * u) + np.sum(keep * rows[0])")
        return HEAD + "\n".join(f"    {line}" for line in body) + "\n"


SIZES = [(4, 9, "float64"), (3, 20, "float64"), (4, 5, "float64"), (2, 3, "float64"),
         (3, 2, "float64"), (1, 4, "float64"), (3, 8, "float32"), (5, 6, "float64")]  # fmt: skip
"""Trips, the length of an axis, and a dtype."""


def arguments(rng: np.random.Generator, steps: int, shape: tuple[int, ...], dtype: str) -> list[Any]:
    u0, w, xs = (rng.normal(size=one).astype(dtype) * 0.7 for one in (shape, shape, (steps, *shape)))
    kind = rng.integers(3)
    if kind == 1:
        u0, w = u0[..., ::-1], w[::-1]
    if kind == 2:
        u0, w = np.asfortranarray(u0), w.T if w.ndim > 1 and len({*w.shape}) == 1 else w
    return [u0, w, xs, 0.4]


def _unfilled(shape: Any, dtype: Any = np.float64) -> Any:
    return np.full(shape, np.nan if np.dtype(dtype).kind == "f" else -7, dtype)


def with_nan(run: Any) -> Any:
    """The function with NaN in what it has not filled."""
    names = {name: getattr(np, name) for name in dir(np)}
    names["empty"] = _unfilled
    names["empty_like"] = lambda x: _unfilled(x.shape, x.dtype)
    run.__globals__["np"] = SimpleNamespace(**names)
    return run


def outcome(seed: int, folder: Path, compiled: bool = False) -> str:
    """"joined", "second", "nest" or "ok" by what was done; "refused", "raises"; what differs."""
    programs = Programs(seed)
    text = programs.text()
    f = loaded(text, folder / f"slices_{seed}.py")
    steps, n, dtype = SIZES[seed % len(SIZES)]
    shape = (n, n + seed % 2)[: programs.rank]
    args, others = (
        arguments(np.random.default_rng(key), steps, shape, dtype) for key in (seed, [seed, 1])
    )
    before = [np.array(arg) for arg in args]
    try:
        value = f(*args)
    except (IndexError, ValueError):
        return "raises"
    if not np.abs(value) < LARGEST:
        return "raises"
    try:
        reference = value_and_grad(f)
        expected = reference(*args)
        derived = value_and_grad(f, backend="numba")
        run, emitted = plain(derived, args)
    except (FlatgradError, ValueError) as caught:
        return f"refused {getattr(caught, 'code', '')}"
    run = with_nan(run)
    found = [
        differs(function, reference, given)
        for given in (args, others)
        for function in ([run, derived] if compiled else [run])
    ]
    if not np.allclose(expected[0], value, **NEAR[dtype]):
        found.append(f"value {expected[0]} is not {value}")
    if any(not np.array_equal(one, other) for one, other in zip(args, before, strict=True)):
        found.append("an argument has changed")
    if not any(found) and dtype == "float64":
        found.append(disagreement(f, args, expected, seed))
    wrong = next(filter(None, found), None)
    if wrong:
        return f"seed {seed}: {wrong}\n{text}"
    if "_row = np.zeros(" in emitted:
        return "joined"
    if "_next = " in emitted:
        return "second"
    return "nest" if "_loop(" in emitted else "ok"


def main() -> None:
    first, last = map(int, sys.argv[1:3])
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        for seed in range(first, last):
            try:
                found = outcome(seed, Path(folder), compiled="compiled" in sys.argv)
            except Exception as caught:
                found = f"seed {seed}: error {caught!r}"
            kind = "failed" if found.startswith("seed") else found
            counts[kind] = counts.get(kind, 0) + 1
            if kind == "failed":
                print(found, flush=True)
    print(counts)


if __name__ == "__main__":
    main()
