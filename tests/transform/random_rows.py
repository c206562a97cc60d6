"""Random loops over steps in which nests read, replace and add to rows of arrays.

    python -m tests.transform.random_rows 0 200              # the programs of these seeds
    python -m tests.transform.random_rows 0 20 compiled

The text for Numba must compute what the NumPy backend does: rows that are one and the same, rows
that count from the end, parts of rows, rows that were read before and are replaced now.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np

from flatgrad import value_and_grad
from flatgrad.errors import FlatgradError
from tests.emitted import assert_same, plain_function
from tests.fuzz_programs import load
from tests.transform.tally import tally

ROWS = ("2 * q", "2 * q + 1", "q", "q + 1", "0", "1", "-1", "q - 1", "rows - 1 - q", "-1 - q")
FUNCTIONS = ("np.tanh", "np.sin", "fg.sigmoid", "np.arctan")
SIZES = ((5, 2, 3), (14, 1, 4), (3, 3, 2), (4, 0, 2), (6, 2, 0), (1, 2, 3), (8, 2, 1))
"""Columns, trips of the loop over rows, and steps."""


def program(seed: int) -> str:
    """The text of a function f(w, s, xs, rows, steps)."""
    choice = random.Random(seed)
    some = choice.sample(ROWS, choice.choice([2, 2, 3, 4]))

    def row() -> str:
        return choice.choice(some)

    def term() -> str:
        return choice.choice(["x", "h", "c", "h * c", f"w[{row()}]", f"s[{row()}]", "w[0]"])

    def value() -> str:
        inner = f"{term()} * w[{row()}] + {choice.choice(['0.3 *', '-'])} {term()}"
        return f"{choice.choice(FUNCTIONS)}({inner})"

    body = [f"h = s[{row()}]", f"c = s[{row()}]"]
    for _ in range(choice.randint(1, 3)):
        name = choice.choice("hcxy")
        body.append(f"{name} = {value()}" + choice.choice(["", f" + {term()}", f" * w[{row()}]"]))
    if not any(line.startswith("y") for line in body):
        body.append(f"y = {value()}")
    for _ in range(choice.randint(1, 3)):
        place = choice.choice([row(), row(), row(), f"{row()}, 1:", f"{row()}, :-1"])
        given = choice.choice(["y", "c", "np.tanh(x)", "np.tanh(y * c)", value()])
        if "," in place:
            given = f"({given})[{place.split(', ')[1]}]"
        body.append(f"s[{place}] {choice.choice(['=', '=', '=', '+='])} {given}")
    if choice.random() < 0.3:
        body.append(f"total += np.sum(y * s[{row()}])")
    if choice.random() < 0.3:
        body.append(f"g[{row()}] += 0.2 * y")
    lines = ["s = s.copy()", "g = np.zeros_like(s)", "total = 0.0", "for t in range(steps):"]
    lines += [f"    x = xs[t] * {choice.choice(['w[0]', 'w[1]', '0.5', 's[0]'])}"]
    lines += ["    for q in range(rows):", *[f"        {line}" for line in body]]
    if choice.random() < 0.5:
        lines.append(f"    total += np.sum(np.exp(-x * x) * {choice.choice(['s[1]', 'w[2]', 'x'])})")
    lines.append("return total + np.sum(s * s) + np.sum(g * s)")
    text = "\n".join([f"    {line}" for line in lines])
    return f"import numpy as np\nimport flatgrad as fg\n\n\ndef f(w, s, xs, rows, steps):\n{text}\n"


def outcome(seed: int, folder: Path, compiled: bool = False) -> str:
    """What happened to the program: "added", "read there", "ok" or "refused", or what is wrong."""
    text = program(seed)
    function = load(text, folder / f"rows_{seed}.py")
    rng = np.random.default_rng(seed)
    kinds = set()
    for n, rows, steps in SIZES[:3] if compiled else SIZES:
        w, s = (rng.normal(size=(2 * rows + 3, n)) * 0.6 for _ in range(2))
        args = (w, s, rng.normal(size=(steps, n)), rows, steps)
        before = [np.copy(one) for one in args]
        try:
            expected = value_and_grad(function, (0, 1, 2))(*args)
        except FlatgradError as error:
            return f"refused: {error.code}" if compiled else "refused"
        derived = value_and_grad(function, (0, 1, 2), backend="numba")
        source = derived.source(*args)
        found: Any = derived if compiled else plain_function(derived)
        try:
            assert_same(found(*args), expected, rtol=1e-9, atol=1e-10)
            assert_same(tuple(args), tuple(before))
        except Exception as error:
            return f"seed {seed}, {(n, rows, steps)}: {error!r:.300}\n{text}\n{source}"
        calls = [line for line in source.splitlines() if "_loop(" in line and "def " not in line]
        kinds |= {"placed"} if any(f"{one}[" in line for one in ("grad_s", "grad_w", "grad_g")
                                   for line in calls) else set()  # fmt: skip
    return "placed" if kinds else "ok"


if __name__ == "__main__":
    compiled = sys.argv[3:] == ["compiled"]
    tally(lambda seed, folder: outcome(seed, folder, compiled), ("placed", "ok", "refused"))
