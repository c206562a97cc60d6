"""Random nests in which points are centered, multiplied by a matrix and summed, as in a mixture.

    python -m tests.transform.random_centers 0 500      # the programs of these seeds

The adjoints of what is centered may be kept as sums over the lanes, if they are used as sums only.
"""

from __future__ import annotations

import random
from pathlib import Path

from tests.transform import random_nests
from tests.transform.tally import tally

CENTERED = [
    "x[i, a] - m[c, a]", "2.0 * m[c, a] - x[i, a]", "-m[c, a]", "w[c] * m[c, a]", "m[c, a]",
    "x[i, a] * m[c, a]", "np.sin(m[c, a]) + x[i, a]", "x[i, a] - m[c, 0]", "x[i, a]",
]  # fmt: skip
FACTORS = ["q[a * (a + 1) // 2 + b]", "w[c]", "m[c, b]", "x[i, b]", "2.0", "z0[i]", "q[b] * w[c]"]
LOOPS = ["for b in range(a + 1):", "for b in range(a):", "for b in range(d):"]
LOOPS += ["for b in range(d - 1, -1, -1):"]
FIRST = ["0.0", "v[a]", "w[c] * v[a]", "v[0]", "np.exp(w[c]) * v[a]"]
LAST = ["s += y * y", "s += np.sin(y)", "s += y * v[a]", "s += w[c] * y", "total += y"]
ADDED = ["total += np.exp(-s)", "total += s * z0[i]", "total -= np.log(1.0 + s * s)", "total += s"]
MORE = ["s += v[0]", "total += v[d - 1] * w[c]", "v[0] += u", "s = s * v[1]"]
"""What also is done with what is centered, now and then."""

PARAMETERS = ("m", "w0", "q", "u")
"""What is differentiated by: not the points, whose adjoints differ from lane to lane."""


def program(seed: int) -> str:
    rng = random.Random(seed)
    row = [f"v[a] = {rng.choice(CENTERED)}"]
    if rng.random() < 0.2:
        row = [f"if x[i, a] > {rng.choice(['0.1', 'm[c, a]'])}:", f"    {row[0]}", "else:",
               "    v[a] = u"]  # fmt: skip
    term = rng.choice(["y += {} * v[b]", "y += {} * v[b]", "y -= v[b] * {}", "y += v[b] + {}"])
    product = [f"y = {rng.choice(FIRST)}", rng.choice(LOOPS)]
    product += [f"    {term.format(rng.choice(FACTORS))}", rng.choice(LAST)]
    body = ["for a in range(d):", *_inside(row)]
    body += [rng.choice(MORE)] if rng.random() < 0.25 else []
    body += ["for a in range(d):", *_inside(product)]
    body += [rng.choice(MORE)] if rng.random() < 0.25 else []
    body = ["s = 0.0", *body, rng.choice(ADDED)]
    lines = ["n, d = x.shape", "k = w0.size", "v = np.zeros(d)", "w = w0.copy()", "total = 0.0"]
    lines += ["s = 0.0", "for i in range(n):", "    for c in range(k):", *_inside(_inside(body))]
    text = "\n".join(_inside([*lines, "return total"]))
    return f"import numpy as np\n\n\ndef f(x, m, w0, q, z0, u):\n{text}\n"


def _inside(lines: list[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def outcome(seed: int, folder: Path) -> str:
    """ "ok", "strips", "refused", "raises" where an index is wrong, or a line on what differs."""
    return random_nests.outcome(seed, folder, program, PARAMETERS)


if __name__ == "__main__":
    tally(outcome, ("ok", "strips", "refused", "raises"))
