"""Random loops over steps with inner loops that read and write several places of an array.

    python -m tests.transform.random_places 0 100              # the programs of these seeds
    python -m tests.transform.random_places 0 30 compiled

What Numba is given must compute what NumPy does, and raise where NumPy does.
"""

from __future__ import annotations

import random
import sys
from typing import Any

import numpy as np

from flatgrad import value_and_grad
from tests.emitted import assert_same, plain_function
from tests.fuzz_programs import load

FUNCTIONS = ("np.tanh", "np.sin", "np.exp", "np.arctan", "fg.sigmoid")
COLUMNS = ("i", "b + i", "2 * b + i", "b - 1 - i", "i + 1", "2 * i", "3 * b + i", "i - 1", "0")
ROWS = ("q", "2 * q", "2 * q + 1", "0", "1", "rows - 1 - q", "q + 1")

SIZES = ((5, 2, 4, 4), (9, 1, 4, 3), (1, 2, 5, 5), (3, 0, 4, 3), (2, 3, 2, 4))
"""b, the trips of the loop over rows, columns in units of b, and rows of the array."""


def program(seed: int) -> str:
    """The text of a function f(a, w, b, rows, steps)."""
    choice = random.Random(seed)
    columns = choice.sample(COLUMNS, choice.choice([1, 2, 2, 3]))
    lines = ["import numpy as np", "import flatgrad as fg", "", "", "def f(a, w, b, rows, steps):"]
    body = ["a = a.copy()", "v = np.zeros(a.shape[1])", "total = 0.0", "for t in range(steps):"]
    start = choice.choice(["0", "0", "0", "1"])
    stop = choice.choice(["b", "b", "b", "b - 1", "a.shape[1] - 3 * b"])
    body += ["    for q in range(rows):", f"        for i in range({start}, {stop}):"]
    names = []
    for k in range(choice.randint(1, 3)):
        row, column = choice.choice(ROWS), choice.choice(columns)
        body.append(f"            h{k} = a[{row}, {column}]")
        names.append(f"h{k}")
    function = choice.choice(FUNCTIONS)
    scale = choice.choice(["w[i]", "w[b + i]", "w[0]"])
    body.append(f"            y = {function}(0.3 * {' + '.join(names)} - 0.2 * {scale})")
    for _ in range(choice.randint(1, 3)):
        row, column = choice.choice(ROWS), choice.choice(columns)
        sign = choice.choice(["=", "=", "+="])
        value = choice.choice(["0.9 * y", "y * h0", f"0.5 * y + {scale}"])
        body.append(f"            a[{row}, {column}] {sign} {value}")
    if choice.random() < 0.5:
        body.append(f"            v[{choice.choice(columns)}] += 0.1 * y")
    if choice.random() < 0.5:
        body.append("            total += y * h0")
    lines += [f"    {line}" for line in [*body, "return total + np.sum(a * a) + np.sum(v)"]]
    return "\n".join(lines) + "\n"


def called(function: Any, args: tuple[Any, ...]) -> Any:
    """What it returns, or the kind of error."""
    try:
        return function(*args)
    except (IndexError, ValueError) as caught:
        return type(caught)


def outcome(seed: int, *, compiled: bool = False) -> str:
    """Compare both backends, at sizes that fit and others."""
    f = load(program(seed), seed)
    rng = np.random.default_rng(seed)
    ours = value_and_grad(f, argnums=("a", "w"), backend="numba")
    kinds: set[str] = set()
    for b, rows, width, height in SIZES:
        args = (rng.normal(size=(height, b * width)), rng.normal(size=2 * b), b, rows, 3)
        before = args[0].copy()
        expected = called(value_and_grad(f, argnums=("a", "w")), args)
        free = "index is out of bounds" in ours.source(*args)
        found = called(ours if compiled else plain_function(ours), args)
        if isinstance(expected, type) or isinstance(found, type):
            assert expected is found, f"seed {seed}: {expected} {found}"
        else:
            assert_same(found, expected, rtol=1e-9, atol=1e-10)
        assert np.array_equal(args[0], before)
        kinds.add("error" if isinstance(expected, type) else "ok")
        kinds |= {"asked before"} if free else set()
    return ", ".join(sorted(kinds))


def main() -> None:
    first, last = map(int, sys.argv[1:3])
    counts: dict[str, int] = {}
    with np.errstate(all="ignore"):
        for seed in range(first, last):
            try:
                kind = outcome(seed, compiled="compiled" in sys.argv)
            except Exception as caught:
                kind = "failed"
                print(f"seed {seed}: {caught!r}\n{program(seed)}", flush=True)
            counts[kind] = counts.get(kind, 0) + 1
    print(counts)


if __name__ == "__main__":
    main()
