"""Random nests over matrices, in orders of loops that do and do not suit them.

    python -m tests.transform.random_interchanges 0 500      # the programs of these seeds

Neighbours read and written, indices that count from the end or are wrong, sums, numbers of a trip's
own, branches, loops that run down, few trips or none. The text for Numba, by default,
`deterministic` and `parallel`, must give what the NumPy backend gives, which leaves loops alone.
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

SETTINGS = ({}, {"deterministic": True}, {"parallel": True})


def place(rng: random.Random, name: str, reach: int) -> str:
    offset = rng.choice([0, 0, 0, *range(-reach, reach + 1)])
    return name if not offset else f"{name} {'+' if offset > 0 else '-'} {abs(offset)}"


def entry(rng: random.Random, reach: int, depth: int) -> str:
    """An element of a matrix, mostly one that moves with both loops."""
    names = ["i", "j"] if depth < 3 else rng.choice([["i", "j"], ["i", "k"], ["k", "j"]])
    if rng.random() < 0.1:
        names = rng.choice([names[::-1], [names[0]] * 2, [names[0], "0"], ["1", names[1]]])
    return ", ".join(place(rng, name, reach) if name.isalpha() else name for name in names)


def factor(rng: random.Random, reach: int, depth: int) -> str:
    here = entry(rng, reach, depth)
    return rng.choice([
        f"u[{here}]", f"u[{here}]", f"v[{here}]", f"w[{place(rng, 'i', reach)}]",
        f"w[{place(rng, 'j', reach)}]", "a", f"np.sin(u[{here}])", f"y[{place(rng, 'j', 0)}]",
    ])  # fmt: skip


def value(rng: random.Random, reach: int, depth: int) -> str:
    terms = []
    for _ in range(rng.randint(1, 2)):
        factors = [factor(rng, reach, depth) for _ in range(rng.randint(1, 2))]
        terms.append(" * ".join(factors))
    return f" {rng.choice('+-')} ".join(terms)


def statement(rng: random.Random, reach: int, depth: int, numbers: list[str]) -> list[str]:
    given, here = value(rng, reach, depth), entry(rng, reach, depth)
    kinds = [
        [f"v[{here}] = {given}"], [f"v[{here}] += {given}"], [f"total += {given}"],
        [f"y[{rng.choice('ij')}] += {given}"], [f"y[{rng.choice('ij')}] = {given}"],
        [f"if u[{here}] > a:", f"    v[{here}] = {given}"],
        [f"if u[{here}] > a:", f"    total -= {given}"],
        [f"v[{here}] = 0.5 * v[{entry(rng, reach, depth)}] + {given}"],
        [f"z = {given}", f"v[{here}] = z * z"],
    ]  # fmt: skip
    for name in numbers:
        kinds += [
            [f"{name} += {given}"], [f"{name} -= {given}"], [f"{name} = 0.5 * {name} + {given}"],
            [f"if {given} > {name}:", f"    {name} = {given}"], [f"v[{here}] += {name}"],
        ]  # fmt: skip
    return rng.choice(kinds)


def outer_statement(rng: random.Random, name: str, numbers: list[str], after: bool) -> list[str]:
    """What stands in the outer loop alone: `name` is its index."""
    some = rng.choice(numbers) if numbers else "a"
    kinds = [
        [f"y[{name}] = {some} * w[{name}]"], [f"total += {some} * w[{name}]"],
        [f"r = 0.5 * r + w[{name}] * {some}"], [f"v[1, {name}] = {some}"],
        [f"v[{name}, {name}] = {some} + u[1, {name}]"], [f"y[{name}] += {some}"],
        [f"total = np.tanh(total + {some})"], [f"v[0, {name}] *= {some}"],
    ]  # fmt: skip
    if after:
        kinds += [[f"total += {some} * {some}"]] * 2
    return rng.choice(kinds)


def head(rng: random.Random, name: str, length: str, reach: int) -> str:
    low, high = reach, f"{length} - {reach}" if reach else length
    if rng.random() < 0.15:
        low, high = rng.choice([(0, length), (1, length), (0, "2"), (2, "2"), (1, "a_count")])
    if rng.random() < 0.25:
        return f"for {name} in range({high} - 1, {low} - 1, -1):"
    step = ", 2" if rng.random() < 0.1 else ""
    return f"for {name} in range({low}, {high}{step}):"


def nest(rng: random.Random) -> list[str]:
    """Two or three loops, with something between them now and then."""
    depth, reach = rng.choice([2, 2, 2, 3]), rng.choice([0, 0, 1, 1, 2])
    names = ["j", "i"] if rng.random() < 0.8 else ["i", "j"]
    if depth == 3:
        names = rng.sample("ijk", 3)
    numbers = rng.choice([[], [], ["s"], ["s", "q"]])
    lines: list[str] = []
    indent = ""
    for level, name in enumerate(names):
        lines.append(indent + head(rng, name, "n", reach))
        indent += "    "
        if level == depth - 2:
            lines += [indent + f"{one} = {rng.choice(['0.0', '1.5', 'r', f'w[{name}]'])}"
                      for one in numbers]  # fmt: skip
            if rng.random() < 0.3:
                lines += [indent + f"e = np.sin(w[{name}]) + r", indent + "r = 0.5 * r"]
                numbers = [*numbers, "e"]
    for _ in range(rng.choice([1, 1, 2])):
        lines += [indent + line for line in statement(rng, reach, depth, numbers)]
    if numbers or rng.random() < 0.2:
        for _ in range(rng.choice([1, 1, 2])):
            statements = outer_statement(rng, names[-2], numbers, after=True)
            lines += [indent[4:] + line for line in statements]
    return lines


def program(seed: int) -> str:
    rng = random.Random(seed)
    body = ["n = len(w)", "v = u.copy()", "y = w.copy()", "total = 0.0", "r = a", "a_count = 3"]
    for _ in range(rng.randint(1, 2)):
        lines = nest(rng)
        if rng.random() < 0.2:
            lines = ["for t in range(2):", *[f"    {line}" for line in lines]]
        body += lines
    body.append("return total + r * r + np.sum(v * v) + np.sum(y * w)")
    lines = "\n".join(f"    {line}" for line in body)
    return f"import numpy as np\n\n\ndef f(u, w, a):\n{lines}\n"


def is_swapped(derived) -> bool:
    """Whether the user's loops, if there are some, have changed places."""
    stages = derived.__flatgrad__.last.compiled.stages
    return "shared" in stages and stages["shared"]() != stages["interchanged"]()


def are_adjoints_swapped(derived) -> bool:
    """Whether loops of the derivative have."""
    stages = derived.__flatgrad__.last.compiled.stages
    return stages["final"]() != stages["adjoints interchanged"]()


def outcome(seed: int, folder: Path) -> str:
    """"same", "swapped", "adjoints swapped", "refused", or what differs.

    With "raises" where an index is wrong.
    """
    text = program(seed)
    f = loaded(text, folder / f"order_{seed}.py")
    rng = np.random.default_rng(seed)
    n = rng.choice([3, 5, 6, 6])
    args = (rng.normal(size=(n, n)) * 0.7, rng.normal(size=n) * 0.7, 0.3)
    wrong = False
    try:
        f(*args)
    except IndexError:
        wrong = True
    early = late = False
    try:
        expected = None if wrong else value_and_grad(f, argnums=(0, 1, 2))(*args)
        for setting in SETTINGS:
            derived = value_and_grad(f, argnums=(0, 1, 2), backend="numba", **setting)
            with small_parts():
                derived.source(*args)
                early |= is_swapped(derived)
                late |= are_adjoints_swapped(derived)
                run = plain_function(derived)
                if wrong:
                    raised = _raises(run, args)
                    if not raised:
                        return f"seed {seed}: no error by {setting}\n{text}"
                    continue
                found = run(*args)
            for one, other in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
                if not np.allclose(one, other, rtol=1e-8, atol=1e-9, equal_nan=True):
                    return f"seed {seed}: {setting}: {one} is not {other}\n{text}"
    except FlatgradError as caught:
        if caught.code == "internal":
            return f"seed {seed}: {caught}\n{text}"
        return "refused"
    found = "swapped" if early else "adjoints swapped" if late else "same"
    return f"{found}, raises" if wrong else found


def _raises(run, args) -> bool:
    try:
        run(*args)
    except (IndexError, ValueError):
        return True
    return False


if __name__ == "__main__":
    kinds = ("same", "swapped", "adjoints swapped")
    tally(outcome, (*kinds, *[f"{kind}, raises" for kind in kinds], "refused"))
