"""Random programs of loops over points with loops inside, for loops that are made in ranges.

    python -m tests.transform.random_points 0 500      # the programs of these seeds

Each is compared with the NumPy backend, in as many parts as there are points.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from flatgrad import value_and_grad
from flatgrad.errors import FlatgradError
from tests.emitted import loaded, plain_function
from tests.transform.random_stencils import small_parts
from tests.transform.tally import tally

NUMBERS = ["x[i, j]", "w[j]", "b", "s", "np.sin(x[i, j])", "x[i, 0]", "w[0]", "z[i]", "0.5"]
OUTER = ["x[i, 0]", "z[i]", "b", "s", "np.exp(-z[i] * z[i])", "w[1]", "0.1 * i"]


def value(rng: random.Random, among: list[str]) -> str:
    terms = [" * ".join(rng.choices(among, k=rng.randint(1, 2))) for _ in range(rng.randint(1, 2))]
    return f" {rng.choice('+-')} ".join(terms)


def inner(rng: random.Random) -> list[str]:
    """A loop over the coordinates of a point."""
    ends = rng.choice(["d", "d", "d", "2", "min(i, d)"])
    lines = [f"for j in range({ends}):"]
    for _ in range(rng.randint(1, 2)):
        given = value(rng, NUMBERS)
        match rng.randint(0, 6):
            case 0 | 1:
                lines.append(f"    s += {given}")
            case 2:
                lines.append(f"    total += {given}")
            case 3:
                lines.append(f"    y[i, j] += {given}")
            case 4:
                lines.append(f"    c[j] += {given}")
            case 5:
                lines += ["    if x[i, j] > b:", f"        s = s + {given}"]
            case _:
                lines.append(f"    y[i, j] = {given} + y[i, {rng.choice(['j', '0'])}]")
    return lines


def body(rng: random.Random) -> list[str]:
    lines = ["s = 0.0"]
    for _ in range(rng.randint(1, 2)):
        lines += inner(rng)
    for _ in range(rng.randint(1, 2)):
        given = value(rng, OUTER)
        match rng.randint(0, 7):
            case 0 | 1 | 2:
                lines.append(f"total += np.tanh({given})")
            case 3:
                lines.append(f"v[i] = {given}")
            case 4:
                lines += [f"if s > {rng.choice(['b', 'z[i]'])}:", f"    total -= {given}"]
            case 5:
                lines.append(f"c[{rng.choice(['0', 'd - 1', '-1'])}] += {given}")
            case 6:
                lines.append("total = total * 0.9 + s")
            case _:
                lines.append(f"v[{rng.choice(['i', 'i', 'n - 1 - i', 'k[i]'])}] += {given}")
    return lines


def program(seed: int) -> str:
    rng = random.Random(seed)
    lines = ["n, d = x.shape", "total = 0.0", "v = z.copy()", "y = x * 0.5", "c = np.zeros(d)"]
    for _ in range(rng.randint(1, 2)):
        lines.append(rng.choice(["for i in range(n):", "for i in range(n - 1, -1, -1):",
                                 "for i in range(1, n):", "for i in range(len(z)):"]))  # fmt: skip
        lines += [f"    {line}" for line in body(rng)]
    lines.append("return total + np.sum(v * z) + np.sum(y * y) + np.sum(c * w)")
    text = "\n".join(f"    {line}" for line in lines)
    return f"import numpy as np\n\n\ndef f(x, w, b, z, k):\n{text}\n"


def outcome(seed: int, folder: Path) -> str:
    """"ok", "parts" where a loop is made in ranges, "refused", or a line that says what differs."""
    f = loaded(program(seed), folder / f"points_{seed}.py")
    rng = np.random.default_rng(seed)
    places = rng.permutation(5)
    args = (rng.normal(size=(5, 3)), rng.normal(size=3), 0.3, rng.normal(size=5), places)
    wrt = ("x", "w", "b", "z")
    try:
        expected = value_and_grad(f, wrt)(*args)
        with small_parts():
            derived = value_and_grad(f, wrt, backend="numba", parallel=True)
            text = derived.source(*args)
            found = plain_function(derived)(*args)
    except FlatgradError:
        return "refused"
    for one, other in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
        if not np.allclose(one, other, rtol=1e-9, atol=1e-10, equal_nan=True):
            return f"seed {seed}: {one} is not {other}\n{program(seed)}"
    return "parts" if "parts_of_trips" in text else "ok"


if __name__ == "__main__":
    tally(outcome, ("ok", "parts", "refused"))
