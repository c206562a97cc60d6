"""Random loops over steps with states that nests make, are stored, kept, changed, and returned.

    python -m tests.transform.random_states 0 200            # the programs of these seeds
    python -m tests.transform.random_states 0 20 compiled

The text for Numba must compute what the NumPy backend does: states that stand in their tapes, rows
that are read where a nest filled them, and all the cases in which neither may be.
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

SIZES = ((4, 3), (2, 0), (3, 1), (5, 6))
"""Elements of a state, and steps."""
FUNCTIONS = ("np.tanh", "np.sin", "fg.sigmoid", "np.arctan")
STORES = ("ys[t] = {s}", "ys[t] = {s}", "zs[t + 1] = {s}", "zs[t] = {s}", "ys[steps - 1 - t] = {s}",
          "ys[t, 1:] = {s}[1:]", "zs[t + 1] += {s}", "{s}[0] = {s}[1]", "{s} *= 0.5",
          "total += np.sum({s} * ys[t])", "total += {s} @ zs[t]")  # fmt: skip


def program(seed: int) -> str:
    """The text of a function f(W, b, x0, xs, steps)."""
    choice = random.Random(seed)
    states = ["h", "c"][: choice.choice([1, 2, 2])]
    known = [*states, "b", "xs[t]", "x0"]

    def term() -> str:
        one = choice.choice(known)
        return choice.choice([one, one, f"{one} * b", f"W @ {one}", f"{one} @ W"])

    def value() -> str:
        inner = f"{term()} + {choice.choice(['', '0.3 * ', '-'])}{choice.choice(known)}"
        return f"{choice.choice(FUNCTIONS)}({inner})"

    def store() -> str:
        return choice.choice(STORES).replace("{s}", choice.choice([*states, *states, *known[5:]]))

    body = []
    if choice.random() < 0.2:
        body.append("old = h")
        known.append("old")
    for name in choice.sample(["z", "w"], choice.choice([0, 1, 2])):
        body.append(f"{name} = {value()}")
        known.append(name)
    body += [store() for _ in range(choice.choice([0, 0, 1, 2]))]
    for name in states:
        body.append(f"{name} = {value()}" + choice.choice(["", "", f" * {term()}"]))
        body += [store() for _ in range(choice.choice([0, 0, 1]))]
    if choice.random() < 0.15:
        body += ["if t % 2 == 0:", "    h = h * b"]
    if len(states) == 2 and choice.random() < 0.15:
        body.append("h, c = c, h")
    lines = ["total = 0.0", "ys = np.zeros((steps, len(b)))", "zs = np.ones((steps + 1, len(b)))"]
    lines += [f"{name} = {choice.choice(['np.zeros(len(b))', 'x0', 'x0 * b', 'b'])}" for name in states]
    deep = choice.random() < 0.2
    lines += ["for r in range(2):"] if deep else []
    indent = "    " if deep else ""
    lines += [f"{indent}for t in range(steps):", *[f"{indent}    {line}" for line in body]]
    lines += [choice.choice(["h = h * b", "h[0] = 2.0", "total += np.sum(zs * zs)", "total += h @ h"])]
    last = f"total + np.sum(h * {states[-1]}) + np.sum(np.sin(ys))"
    outputs = choice.sample(["h", states[-1], "zs", "h[1:]"], choice.choice([1, 2]))
    lines.append(f"return {last}, ({', '.join(outputs)},)")
    text = "\n".join([f"    {line}" for line in lines])
    return f"import numpy as np\nimport flatgrad as fg\n\n\ndef f(W, b, x0, xs, steps):\n{text}\n"


def outcome(seed: int, folder: Path, compiled: bool = False) -> str:
    """What happened to the program: "filled", "ok" or "refused", or what is wrong."""
    text = program(seed)
    function = load(text, folder / f"states_{seed}.py")
    rng = np.random.default_rng(seed)
    source = ""
    for n, steps in SIZES[:2] if compiled else SIZES:
        W, b, x0 = rng.normal(size=(n, n)) * 0.5, rng.normal(size=n), rng.normal(size=n)
        args = (W, b, x0, rng.normal(size=(steps, n)), steps)
        before = [np.copy(one) for one in args]
        wanted: dict[str, Any] = {"argnums": (0, 1, 2, 3), "has_aux": True}
        try:
            expected = value_and_grad(function, **wanted)(*args)
        except FlatgradError:
            return "refused"
        derived = value_and_grad(function, backend="numba", **wanted)
        source = derived.source(*args)
        found: Any = derived if compiled else plain_function(derived)
        try:
            assert_same(_parts(found(*args)), _parts(expected), rtol=1e-9, atol=1e-10)
            assert_same(tuple(args), tuple(before))
        except Exception as error:
            return f"seed {seed}, {(n, steps)}: {error!r:.300}\n{text}\n{source}"
    return "filled" if "_tape[t + 1]" in source or "_rows[t])" in source else "ok"


def _parts(tree: Any) -> tuple[Any, ...]:
    """The leaves of nested tuples."""
    if isinstance(tree, tuple | list):
        return tuple([leaf for item in tree for leaf in _parts(item)])
    return (np.asarray(tree),)


if __name__ == "__main__":
    compiled = sys.argv[3:] == ["compiled"]
    tally(lambda seed, folder: outcome(seed, folder, compiled), ("filled", "ok", "refused"))
