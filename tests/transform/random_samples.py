"""Random programs in which all parts of a batch meet at each sample, for loops over blocks of samples.

    python -m tests.transform.random_samples 0 500              # the programs of these seeds
    python -m tests.transform.random_samples 0 500 singles      # in float32, or both dtypes mixed

Products of matrices and samples, then extremes, sums and functions over the parts, with sums over
the samples that are read again or not, writes in place, lengths of 1 and 0. The text for Numba, with
two samples in a block, must give what the NumPy backend gives, and leave the arguments as they are.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path
from typing import Any

import numpy as np

from flatgrad import value_and_grad
from flatgrad.errors import FlatgradError
from tests.emitted import DECORATOR, loaded
from tests.transform.random_batches import arguments
from tests.transform.tally import in_float32, tally

HEAD = "import numpy as np\n\n\ndef f(F, G, x, m, w):\n    total = 0.0\n"
SIZES = [
    (5, 2, 3, 3), (3, 3, 3, 3), (7, 2, 4, 4), (1, 2, 3, 3), (5, 1, 3, 3), (4, 2, 1, 1), (0, 2, 3, 3),
    (6, 2, 2, 2), (5, 5, 2, 2), (8, 3, 2, 2),
]  # fmt: skip
"""Lengths of n, k, a, b."""
ORDERS = [("kab,nkb->nka", 2), ("kab,nkb->kna", 2), ("nkb,kab->nak", 1), ("kab,nkb->ank", 0)]
CENTRED = ["x[:, None, :] - m", "x[:, None, :] * m", "np.tanh(x[:, None, :] - m)", "m + x[:, None]"]
OF_PARTS = [
    "np.max({0}, axis=1)", "np.min({0}, axis=1)", "np.sum({0}, axis=1)", "np.mean({0}, axis=1)",
    "np.sum({0} - np.max({0}, axis=1, keepdims=True), axis=1)",
    "np.sum({0} / (1 + np.sum({0} * {0}, axis=-1, keepdims=True)), axis=1)",
]  # fmt: skip
MAPS = [
    "{0} - {1}[:, None]", "np.exp(-{0} * {0}) * {1}[:, None]", "{0} / (1 + {1} * {1})[:, None]",
    "np.where({0} > {1}[:, None], {0}, 0.1 * {0})", "np.maximum({0}, 0.2) - w", "0.5 * {0} + np.sum(m, axis=1)",
]  # fmt: skip
ROWS = ["np.tanh({0})", "np.log(1 + {0} * {0})", "{0} * {1}", "{0} + np.sum(x, axis=1)"]


def program(seed: int) -> str:
    rng = random.Random(seed)
    subscripts, axis = rng.choice(ORDERS)
    lines = [
        f"c = {rng.choice(CENTRED)}",
        f'y = np.einsum("{subscripts}", F, c)',
        f"s = np.sum(y * y, axis={axis})" + (".T" if subscripts.endswith(">kna") else ""),
    ]
    tables, rows = ["s", "s", "w"], []
    for k in range(rng.randint(3, 8)):
        kind = rng.random()
        one = rng.choice(tables)
        if kind < 0.35 or not rows:
            lines.append(f"r{k} = " + rng.choice(OF_PARTS).format(one))
            rows.append(f"r{k}")
        elif kind < 0.6:
            lines.append(f"t{k} = " + rng.choice(MAPS).format(one, rng.choice(rows)))
            tables.append(f"t{k}")
        elif kind < 0.75:
            lines.append(f"r{k} = " + rng.choice(ROWS).format(rng.choice(rows), rng.choice(rows)))
            rows.append(f"r{k}")
        elif kind < 0.85:
            lines.append(f"total += np.sum({one} * {one}) + np.sum({rng.choice(rows)})")
        elif kind < 0.88:
            lines.append(f"t{k} = {one} - 0.1 * np.sum({one}, axis=0)")
            tables.append(f"t{k}")
        elif kind < 0.91:
            row = rng.choice(rows)
            lines.append(f"{row} = {row} * 1.0")
            lines.append(f"{row}[:] = 0.5 * {row}")
        elif kind < 0.94:
            lines.append(f"total += np.sum(np.cumsum({rng.choice(rows)}))")
        else:
            lines.append(f"r{k} = np.einsum(\"nk,nk->n\", {one}, w)")
            rows.append(f"r{k}")
    lines.append(f"total += np.sum(np.tanh({tables[-1]}) * s) + np.sum({rows[-1]} * np.sum(x, axis=1))")
    if rng.random() < 0.3:
        lines.append('total += np.sum(np.einsum("kab,nka->nkb", F, y) * c)'
                     if subscripts.endswith("nka") else "total += np.sum(y)")  # fmt: skip
    return HEAD + "\n".join(f"    {line}" for line in [*lines, "return total"]) + "\n"


def in_small_blocks(derived: Any) -> tuple[Any, str]:
    """The function that a derivative compiled last as plain Python, two samples in a block."""
    module = derived.__flatgrad__.last.compiled.module
    text = DECORATOR.sub("", module.text).replace("max(256, 1572864 // max(row, 1))", "2")
    space: dict[str, Any] = {}
    exec(text, space)
    return space[module.name], text


def outcome(seed: int, folder: Path) -> str:
    """"ok", "blocks" where there are some, "refused", "raises" or what differs."""
    f = loaded(program(seed), folder / f"samples_{seed}.py")
    args = arguments(np.random.default_rng(seed), SIZES[seed % len(SIZES)])
    before = [arg.copy() for arg in args]
    active = tuple(sorted(random.Random(seed).sample((0, 2, 3, 4), 1 + seed % 4)))
    try:
        f(*args)
        expected = value_and_grad(f, argnums=active)(*args)
    except ValueError as error:
        return "refused" if isinstance(error, FlatgradError) else "raises"
    except FlatgradError:
        return "refused"
    derived = value_and_grad(f, argnums=active, backend="numba")
    derived.source(*args)
    run, text = in_small_blocks(derived)
    try:
        found = run(*args)
    except ZeroDivisionError:  # plain Python: a mean over no elements
        return "raises"
    for one, other in zip(before, args, strict=True):
        if not np.array_equal(one, other):
            return f"seed {seed}: an argument changed\n{text}"
    gradients = [found[1]] if len(active) == 1 and not isinstance(found[1], tuple) else found[1]
    others = expected[1] if isinstance(expected[1], tuple) else [expected[1]]
    for one, other in zip([found[0], *gradients], [expected[0], *others], strict=True):
        close = np.allclose(one, other, rtol=1e-9, atol=1e-9, equal_nan=True)
        if not close or np.shape(one) != np.shape(other):
            return f"seed {seed}: {one} is not {other}\n{program(seed)}\n{text}"
    return "blocks" if "block_size(" in text[text.rindex("def f_") :] else "ok"


def single(seed: int, folder: Path) -> str:
    """The same in float32, or with an argument in float64."""
    f = loaded(program(seed), folder / f"single_{seed}.py")
    args = arguments(np.random.default_rng(seed), SIZES[seed % len(SIZES)])
    found, text = in_float32(f, args, seed, (0, 2, 3), in_small_blocks)
    if found:
        return found
    return "blocks" if "block_size(" in text[text.rindex("def f_") :] else "ok"


KINDS = ("ok", "blocks", "refused", "raises")

if __name__ == "__main__":
    tally(single if "singles" in sys.argv else outcome, KINDS)
