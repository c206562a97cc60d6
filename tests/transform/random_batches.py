"""Random programs of arrays with batched products, for loops over batches.

    python -m tests.transform.random_batches 0 500      # the programs of these seeds

Products by all orders of letters, maps, sums and broadcasts between them, writes in place, lengths
of 1 and 0, any subset of the arguments active: the text for Numba must give what the NumPy backend
gives, and the arguments must stay as they are. One program in three also agrees with differences.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from flatgrad import value_and_grad
from flatgrad.errors import FlatgradError
from tests.emitted import loaded, plain, plain_function, plain_text
from tests.transform.random_array_loops import disagreement
from tests.transform.tally import in_float32

HEAD = "import numpy as np\n\n\ndef f(F, G, x, m, w):\n"
ARGUMENTS = {"F": "kab", "G": "bka", "x": "nb", "m": "kb", "w": "nk"}
ORDERS = {"nka": ["nka", "kna", "ank", "kan", "nak"], "nkb": ["nkb", "kbn", "bnk", "knb"]}
MAPS = [
    "np.tanh({0})", "{0} * {0}", "0.5 * {0}", "{0} - {1}", "{0} * {1}", "{0} / (1 + {0} * {0})",
    "np.where({0} > 0, {0}, 0.1 * {0})", "np.maximum({0}, {1})", "-{0}", "np.exp(-{0} * {0})",
]  # fmt: skip
SIZES = [
    (5, 2, 3, 4), (3, 3, 3, 3), (1, 2, 3, 4), (4, 1, 3, 2), (4, 2, 1, 3), (4, 3, 2, 1), (0, 2, 3, 2),
    (2, 0, 3, 2), (6, 2, 4, 4), (3, 2, 2, 2),
]  # fmt: skip
"""Lengths of n, k, a, b."""


def spread(letters: str, target: str) -> str:
    """The index that lines an array up with others of the letters `target`."""
    index = ", ".join(":" if letter in letters else "None" for letter in target)
    return f"[{index}]"


class Program:
    """Statements so far, and the arrays that there are with their letters."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.lines: list[str] = ["total = 0.0"]
        self.arrays = dict(ARGUMENTS)

    def new(self, letters: str, text: str) -> str:
        name = f"v{len(self.lines)}"
        self.lines.append(f"{name} = {text}")
        self.arrays[name] = letters
        return name

    def pick(self, letters: str) -> str:
        """An array with these letters in any order, in that order; one is made if need be."""
        found = [n for n, own in self.arrays.items() if sorted(own) == sorted(letters)]
        if not found or self.rng.random() < 0.2:
            found = [self.made(letters)]
        name = self.rng.choice(found)
        own = self.arrays[name]
        if own == letters:
            return name
        order = tuple(own.index(letter) for letter in letters)
        return f"np.transpose({name}, {order})"

    def made(self, letters: str) -> str:
        """An array of arguments that broadcast against each other."""
        names = [n for n, own in self.arrays.items() if set(own) <= set(letters)]
        first = self.rng.sample(names, min(len(names), 2))
        missing = set(letters) - set("".join(self.arrays[n] for n in first))
        first += [self.summed(letter, letters) for letter in sorted(missing)]
        parts = []
        for name in first:
            own = "".join(sorted(self.arrays[name], key=letters.index))
            order = tuple(self.arrays[name].index(letter) for letter in own)
            turned = name if own == self.arrays[name] else f"np.transpose({name}, {order})"
            parts.append(turned + spread(own, letters))
        parts += [] if parts[1:] else ["0.5"]
        return self.new(letters, f" {self.rng.choice('+-*')} ".join(parts))

    def summed(self, letter: str, letters: str) -> str:
        """An array with this letter, without those that the others have not."""
        name = next(n for n, own in ARGUMENTS.items() if letter in own)
        own = ARGUMENTS[name]
        gone = tuple(k for k, one in enumerate(own) if one not in letters)
        left = "".join(one for one in own if one in letters)
        return self.new(left, f"np.sum({name}, axis={gone})") if gone else name

    def product(self) -> None:
        rng = self.rng
        kind = rng.random()
        if kind < 0.4:
            terms, target = ["kab", "nkb"], "nka"
        elif kind < 0.6:
            terms, target = ["kab", "nka"], "nkb"
        elif kind < 0.75:
            terms, target = ["nka", "nkb"], "kab"
        elif kind < 0.85:
            terms, target = ["nka", "kab"], "nb"
        else:
            terms, target = ["kab", "kb"], "ka"
        terms = ["".join(rng.sample(t, len(t))) if rng.random() < 0.4 else t for t in terms]
        target = "".join(rng.sample(target, len(target))) if rng.random() < 0.4 else target
        if rng.random() < 0.5:
            terms.reverse()
        operands = ", ".join(self.pick(t) for t in terms)
        self.new(target, f'0.3 * np.einsum("{",".join(terms)}->{target}", {operands})')

    def map(self) -> None:
        name = self.rng.choice(list(self.arrays))
        letters = self.arrays[name]
        other = self.pick(letters) if len(letters) > 1 else name
        self.new(letters, self.rng.choice(MAPS).format(name, other))

    def sum(self) -> None:
        name = self.rng.choice([n for n, own in self.arrays.items() if len(own) > 1])
        letters = self.arrays[name]
        gone = self.rng.sample(letters, self.rng.randint(1, len(letters) - 1))
        axes = tuple(letters.index(letter) for letter in gone)
        left = "".join(letter for letter in letters if letter not in gone)
        axis = axes[0] if len(axes) == 1 else axes
        if self.rng.random() < 0.3:
            self.lines.append(f"total += np.sum({name} * {name})")
        elif self.rng.random() < 0.3:
            self.new(letters, f"{name} * np.sum({name}, axis={axis}, keepdims=True)")
        else:
            self.new(left, f"np.{self.rng.choice(['sum', 'sum', 'mean'])}({name}, axis={axis})")

    def write(self) -> None:
        names = [n for n in self.arrays if n.startswith("v")]
        if names:
            name = self.rng.choice(names)
            text = self.rng.choice([f"{name} *= 0.5", f"{name} = {name} + 1.0", f"{name}[:] = 0.3"])
            self.lines.append(text)


def program(seed: int) -> str:
    rng = random.Random(seed)
    made = Program(rng)
    for _ in range(rng.randint(3, 9)):
        kind = rng.random()
        step = made.product if kind < 0.45 else made.map if kind < 0.75 else made.sum
        if kind > 0.96:
            step = made.write
        step()
    for name in list(made.arrays)[-3:]:
        made.lines.append(f"total += np.sum(np.tanh({name}))")
    body = "\n".join(f"    {line}" for line in [*made.lines, "return total"])
    return HEAD + body + "\n"


def arguments(rng: np.random.Generator, sizes: tuple[int, ...]) -> list[Any]:
    lengths = dict(zip("nkab", sizes, strict=True))
    found = []
    for letters in ARGUMENTS.values():
        x = rng.normal(size=[lengths[letter] for letter in letters]) * 0.7
        kind = rng.integers(3)
        found.append(x if kind else np.asfortranarray(x))
    return found


def outcome(seed: int, folder: Path, compiled: bool = False) -> str:
    """"ok", "loops" where there are such loops, "refused", "raises" or what differs."""
    f = loaded(program(seed), folder / f"batches_{seed}.py")
    rng = np.random.default_rng(seed)
    args = arguments(rng, SIZES[seed % len(SIZES)])
    before = [arg.copy() for arg in args]
    active = tuple(sorted(random.Random(seed).sample(range(5), 2 + seed % 4)))
    try:
        f(*args)
    except ValueError:
        return "raises"
    try:
        expected = value_and_grad(f, argnums=active)(*args)
    except FlatgradError:
        return "refused"
    derived = value_and_grad(f, argnums=active, backend="numba")
    run, text = plain(derived, args)
    if compiled:
        run = derived
    try:
        found = run(*args)
    except ZeroDivisionError:  # plain Python: a mean over no elements
        return "raises"
    for one, other in zip(before, args, strict=True):
        if not np.array_equal(one, other):
            return f"seed {seed}: an argument changed\n{text}"
    for one, other in zip([found[0], *found[1]], [expected[0], *expected[1]], strict=True):
        close = np.allclose(one, other, rtol=1e-9, atol=1e-9, equal_nan=True)
        if not close or np.shape(one) != np.shape(other):
            return f"seed {seed}: {one} is not {other}\n{program(seed)}\n{text}"
    if seed % 3 == 0 and np.abs(expected[0]) < 1e5:
        whole = value_and_grad(f, argnums=tuple(range(5)), backend="numba")
        differs = disagreement(f, args, plain(whole, args)[0](*args), seed)
        if differs:
            return f"seed {seed}: {differs}\n{program(seed)}"
    main = text[text.rindex("def f_") :]
    return "loops" if " in range(" in main else "ok"


def single(seed: int, folder: Path) -> str:
    """The same in float32, or with an argument in float64."""
    f = loaded(program(seed), folder / f"single_{seed}.py")
    args = arguments(np.random.default_rng(seed), SIZES[seed % len(SIZES)])
    found, text = in_float32(f, args, seed, (0, 1, 2), as_plain)
    if found:
        return found
    return "loops" if " in range(" in text[text.rindex("def f_") :] else "ok"


def as_plain(derived: Any) -> tuple[Any, str]:
    return plain_function(derived), plain_text(derived)


def main() -> None:
    """Runs the programs of a range of seeds; a third argument: "compiled", or "singles"."""
    first, last = map(int, sys.argv[1:3])
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        for seed in range(first, last):
            if "singles" in sys.argv:
                found = single(seed, Path(folder))
            else:
                found = outcome(seed, Path(folder), compiled=len(sys.argv) > 3)
            if found.startswith("seed"):
                print(found, flush=True)
                found = "wrong"
            counts[found] = counts.get(found, 0) + 1
    print(counts)


if __name__ == "__main__":
    main()
