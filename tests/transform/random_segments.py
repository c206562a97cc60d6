"""Random programs of cheap steps over time, whose tapes are kept by segments.

    python -m tests.transform.random_segments 0 500             # the programs of these seeds
    python -m tests.transform.random_segments 0 20 compiled

Segments of one, two, three and all steps must give what the NumPy backend gives.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from unittest import mock

import numpy as np

from flatgrad import value_and_grad
from flatgrad.codegen import numba_writers
from flatgrad.codegen.numba_elementwise import flat_operands
from flatgrad.codegen.numba_helpers import Helper
from flatgrad.errors import FlatgradError
from flatgrad.transform import tape_pairs
from tests.emitted import loaded, plain_function
from tests.transform.random_stencils import small_parts
from tests.transform.tally import tally

NUMBERS = ["a", "s", "0.3", "b", "0.1 * t", "w[t]"]
ELEMENTS = ["u[i]", "u[i - 1]", "u[i + 1]", "w[i]", "v[i]", *NUMBERS]
PARTS = ["u[1:-1]", "u[:-2]", "u[2:]", "v[1:-1]", "z[1:-1]", *NUMBERS]
WHOLE = ["u", "v", "z", "u[::-1]", *NUMBERS]
PLACES = ["u[0]", "u[-1]", "v[1]", "w[t]", "u[t]", "w[2]"]


def expression(rng: random.Random, names: list[str]) -> str:
    terms = []
    for _ in range(rng.randint(1, 3)):
        chosen = [rng.choice(names) for _ in range(rng.randint(1, 2))]
        terms.append(f"{rng.choice(['0.3', '0.2', 'a'])} * {' * '.join(chosen)}")
    text = f" {rng.choice('+-')} ".join(terms)
    return text if rng.random() < 0.9 else f"({text}) / (2 + {rng.choice(names)} ** 2)"


def statement(rng: random.Random) -> list[str]:
    match rng.randint(0, 8):
        case 0 | 1:
            target = rng.choice(["v[i] =", "v[i] =", "u[i] =", "v[i] +=", "total +="])
            value = expression(rng, ELEMENTS)
            return ["for i in range(1, n - 1):", f"    {target} {value}"]
        case 2:
            return ["for i in range(1, n - 1):",
                    f"    y = {expression(rng, ELEMENTS)}",
                    f"    v[i] = y * {rng.choice(ELEMENTS)}",
                    f"    total += {rng.choice(['y', 'y * y'])}"]  # fmt: skip
        case 3 | 4:
            target = rng.choice(["u[1:-1] =", "v[1:-1] =", "u[1:-1] +="])
            return [f"{target} 0.1 + {expression(rng, PARTS)}"]
        case 5:
            return [f"{rng.choice('uv')} = u * 0.9 + {expression(rng, WHOLE)}"]
        case 6:
            return [f"s = 0.5 * s + {expression(rng, [*PLACES, *NUMBERS])}"]
        case 7:
            return [f"total += {expression(rng, [*PLACES, *NUMBERS])}"]
        case _:
            return [f"u[{rng.choice('0t')}] = {expression(rng, PLACES)}"]


def program(seed: int) -> str:
    rng = random.Random(seed)
    body = ["n = len(u0)", "u = u0.copy()", "v = 0.5 * u0", "z = u0 - a", "total = 0.0", "s = b"]
    for _ in range(rng.choice([1, 1, 2])):
        body.append(f"for t in range({rng.choice(['steps', 'steps', 'steps - 1', '5', 'len(w)'])}):")
        lines = [line for _ in range(rng.randint(1, 3)) for line in statement(rng)]
        lines += ["u, v = v, u"] if rng.random() < 0.5 else []
        body += [f"    {line}" for line in lines]
    body.append("return total + s + np.sum(u * u) + np.sum(v * z)")
    lines = "\n".join(f"    {line}" for line in body)
    return f"import numpy as np\n\n\ndef f(u0, w, a, b, steps):\n{lines}\n"


@contextmanager
def segments_of(size: int) -> Iterator[None]:
    """Segments have so many steps, and no loop is too short."""
    text = f"def segment_size(steps, row, state):\n    return {size}\n"
    helper = Helper("segment_size", text)

    def writer(site):
        return site.helper(helper, *flat_operands(site))

    with (
        mock.patch.dict(numba_writers.WRITERS, {"segment_size": writer}),
        mock.patch.object(tape_pairs, "FEWEST", 1),
        mock.patch.object(tape_pairs, "MOST", 1000),
    ):
        yield


def outcome(seed: int, folder: Path, compiled: bool = False) -> str:
    """"ok", "segments" where a tape is kept so, "refused", or a line that says what differs."""
    f = loaded(program(seed), folder / f"segments_{seed}.py")
    rng = np.random.default_rng(seed)
    steps = [7, 6, 5, 1, 0][seed % 5]
    args = (rng.normal(size=7), rng.normal(size=7), 0.4, 0.3, steps)
    try:
        expected = value_and_grad(f)(*args)
    except FlatgradError as caught:
        return f"seed {seed}: {caught}" if caught.code == "internal" else "refused"
    kinds = set()
    for size, parallel in ((1, False), (2, False), (2, True), (3, False), (7, False)):
        if compiled and parallel:
            continue
        with segments_of(size), nullcontext() if compiled else small_parts():
            derived = value_and_grad(f, backend="numba", parallel=parallel)
            kinds.add("segment_size(" in derived.source(*args))
            given = [one.copy() if isinstance(one, np.ndarray) else one for one in args]
            found = (derived if compiled else plain_function(derived))(*given)
        for one, other in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
            if not np.allclose(one, other, rtol=1e-9, atol=1e-10, equal_nan=True):
                return f"seed {seed}, {size}: {one} is not {other}\n{program(seed)}"
        if not all(np.array_equal(one, other) for one, other in zip(given, args, strict=True)):
            return f"seed {seed}, {size}: the arguments have changed\n{program(seed)}"
    return "segments" if kinds == {True} else "ok"


if __name__ == "__main__":
    compiled = "compiled" in sys.argv[3:]
    tally(lambda seed, folder: outcome(seed, folder, compiled), ("ok", "segments", "refused"))
