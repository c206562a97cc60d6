"""Random programs of loops over elements, for the passes that bring them into another order.

    python -m tests.transform.random_stencils 0 500      # the programs of these seeds
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np

from flatgrad import value_and_grad
from flatgrad.codegen import numba_loop_ranges, numba_parallel
from flatgrad.errors import FlatgradError
from tests.emitted import loaded, plain_function
from tests.transform.tally import tally

FACTORS = ["u[{i}]", "w[{i}]", "a", "np.sin(u[{i}])", "np.exp(-w[{i}] * w[{i}])", "0.5"]


def index(rng: random.Random, name: str, reach: int) -> str:
    offset = rng.randint(-reach, reach)
    return name if not offset else f"{name} {'+' if offset > 0 else '-'} {abs(offset)}"


def expression(rng: random.Random, name: str, reach: int) -> str:
    terms = []
    for _ in range(rng.randint(1, 3)):
        factors = [
            rng.choice(FACTORS).format(i=index(rng, name, reach)) for _ in range(rng.randint(1, 2))
        ]
        terms.append(" * ".join(factors))
    return f" {rng.choice('+-')} ".join(terms)


def statement(rng: random.Random, name: str, reach: int) -> list[str]:
    value = expression(rng, name, reach)
    match rng.randint(0, 6):
        case 0:
            return [f"v[{name}] = {value}"]
        case 1:
            return [f"v[{index(rng, name, reach)}] += {value}"]
        case 2:
            return [f"total += {value}"]
        case 3:
            return [f"total -= v[{name}] * ({value})"]
        case 4:
            return [f"if u[{name}] > a:", f"    total += {value}"]
        case 5:
            other = expression(rng, name, reach)
            return [f"if w[{name}] > 0.1:", f"    y = {value}", "else:", f"    y = {other}",
                    f"v[{name}] = v[{name}] + y"]  # fmt: skip
        case _:
            return [f"w[{name}] = v[{index(rng, name, reach)}] + {value}"]


def loop(rng: random.Random, depth: int) -> list[str]:
    reach = rng.choice([0, 1, 1, 2])
    low, high = reach, f"n - {reach}" if reach else "n"
    if rng.random() < 0.3:
        low, high = rng.choice([0, reach + 1]), rng.choice(["n", f"n - {reach + 1}"])
    head = f"for i in range({low}, {high}):"
    if rng.random() < 0.3:
        head = f"for i in range({high} - 1, {low} - 1, -1):"
    body = [line for _ in range(rng.choice([1, 1, 2, 3])) for line in statement(rng, "i", reach)]
    lines = [head, *[f"    {line}" for line in body]]
    if depth and rng.random() < 0.5:
        lines = ["for t in range(2):", *[f"    {line}" for line in [*lines, *swap(rng)]]]
    return lines


def swap(rng: random.Random) -> list[str]:
    return ["v, w = w, v"] if rng.random() < 0.4 else []


def program(seed: int) -> str:
    rng = random.Random(seed)
    body = ["n = len(u)", "v = u.copy()", "w = z.copy()", "total = 0.0"]
    for _ in range(rng.randint(1, 3)):
        body += loop(rng, 1)
    body.append("return total + np.sum(v * w)")
    lines = "\n".join(f"    {line}" for line in body)
    return f"import numpy as np\n\n\ndef f(u, z, a):\n{lines}\n"


def outcome(seed: int, folder: Path) -> str:
    """"ok", "refused", "raises" where an index is wrong, or a line that says what differs.

    "parts" where a loop is made in ranges, "rows" where one has been taken apart.
    """
    f = loaded(program(seed), folder / f"stencil_{seed}.py")
    rng = np.random.default_rng(seed)
    args = (rng.normal(size=7), rng.normal(size=7), 0.3)
    try:
        f(*args)
    except IndexError:
        return "raises"
    try:
        expected = value_and_grad(f)(*args)
        derived = value_and_grad(f, backend="numba")
        derived.source(*args)
    except FlatgradError as caught:
        if caught.code == "internal":
            return f"seed {seed}: {caught}\n{program(seed)}"
        return "refused"
    with small_parts():
        in_parts = value_and_grad(f, backend="numba", parallel=True)
        in_parts.source(*args)
        results = [plain_function(one)(*args) for one in (derived, in_parts)]
    for found in results:
        for one, other in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
            if not np.allclose(one, other, rtol=1e-9, atol=1e-10, equal_nan=True):
                return f"seed {seed}: {one} is not {other}\n{program(seed)}"
    if "_row[" in derived.source():
        return "rows"
    return "parts" if "parts_of_trips" in in_parts.source() else "ok"


@contextmanager
def small_parts() -> Iterator[None]:
    """The fewest trips are worth several parts, of which the last one runs first."""
    with (
        mock.patch("numba.prange", lambda parts: range(parts - 1, -1, -1)),
        mock.patch.object(numba_parallel, "LEAST_ELEMENTS", 1),
        mock.patch.object(numba_loop_ranges, "MOST_SUMMED", 0),
    ):
        yield


if __name__ == "__main__":
    tally(outcome, ("ok", "rows", "parts", "refused", "raises"))
