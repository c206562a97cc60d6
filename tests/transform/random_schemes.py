"""Random schemes in two buffers, whose adjoints stay in rows from step to step.

    python -m tests.transform.random_schemes 0 500             # the programs of these seeds
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from flatgrad import value_and_grad
from flatgrad.errors import FlatgradError
from tests.emitted import loaded, plain_function
from tests.transform.random_segments import segments_of
from tests.transform.random_stencils import small_parts
from tests.transform.tally import tally

LENGTHS = (0, 2, 3, 4, 5, 9)


def term(rng: random.Random, reach: int) -> str:
    offset = rng.randint(-reach, reach)
    place = "i" if not offset else f"i {'+' if offset > 0 else '-'} {abs(offset)}"
    factor = rng.choice([*["0.3 * ", "a * ", "", "-"] * 4, "b * a * ", "w[0] * "])
    power = rng.choice([*[""] * 12, f" * u[{place}]", " * u[i]", " * z[i]"])
    return f"{factor}u[{place}]{power}"


def program(seed: int) -> str:
    rng = random.Random(seed)
    reach = rng.choice([1, 1, 1, 2])
    low, high = reach, f"n - {reach}"
    if rng.random() < 0.2:
        low, high = rng.choice([(reach + 1, high), (low, f"n - {reach + 1}")])
    terms = " + ".join(term(rng, reach) for _ in range(rng.choice([1, 2, 3, 3, 4])))
    written = rng.choice([*["v[i] ="] * 8, "v[i] +=", "v[i] -="])
    inner = [f"for i in range({low}, {high}):", f"    {written} {terms}"]
    if rng.random() < 0.2:
        inner.append(f"    total += {rng.choice(['v[i]', 'u[i]', 'u[i] * a'])}")
    if rng.random() < 0.2:
        inner.append(rng.choice(["v[0] = u[0] * a", "total += v[1]", "u[0] = 0.0", "v[-1] = a"]))
    swap = rng.choice([["u, v = v, u"]] * 10 + [[], ["u, v = v, u", "total += u[1]"]])
    lines = ["n = len(u0)", "total = 0.0", "u = u0.copy()"]
    lines.append(rng.choice(["v = u0.copy()", "v = 0.5 * u0", "v = np.zeros(n)"]))
    lines.append("z = u0 * 2")
    lines += ["for t in range(steps):", *[f"    {line}" for line in [*inner, *swap]]]
    if rng.random() < 0.2:
        lines += ["for t in range(2):", *[f"    {line}" for line in [*inner, *swap]]]
    result = rng.choice(["np.sum(u * u)", "np.sum(u * v)", "np.sum(v)", "np.sum(u * z)"])
    lines.append(f"return total + {result}")
    text = "\n".join(f"    {line}" for line in lines)
    return f"import numpy as np\n\n\ndef f(u0, w, a, b, steps):\n{text}\n"


def outcome(seed: int, folder: Path) -> str:
    """"rows" where they stay, "ok", "refused", or a line that says what differs."""
    f = loaded(program(seed), folder / f"scheme_{seed}.py")
    rng = np.random.default_rng(seed)
    size, parallel = seed % 3 + 1, seed % 4 == 3
    with segments_of(size), small_parts():
        derived = value_and_grad(f, backend="numba", parallel=parallel)
        expected = value_and_grad(f)
        try:
            text = derived.source(np.ones(5), np.ones(2), 0.3, 0.4, 2)
        except FlatgradError as caught:
            return f"seed {seed}: {caught}" if caught.code == "internal" else "refused"
        run = plain_function(derived)
        for n in LENGTHS:
            args = (rng.normal(size=n), np.ones(2), 0.3, 0.4, rng.integers(0, 6).item())
            try:
                wanted = expected(*args)
            except IndexError:
                continue
            found = run(args[0].copy(), *args[1:])
            for one, other in zip((found[0], *found[1]), (wanted[0], *wanted[1]), strict=True):
                if not np.allclose(one, other, rtol=1e-9, atol=1e-10, equal_nan=True):
                    return f"seed {seed}, {n}: {one} is not {other}\n{program(seed)}"
    return "rows" if "_row_next" in text else "ok"


if __name__ == "__main__":
    tally(outcome, ("ok", "rows", "refused"))
