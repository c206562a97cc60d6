"""Random recurrences that fill an array from its own elements, some of which last to the end.

    python -m tests.transform.random_recurrences 0 500             # the programs of these seeds

The gradient is compared with forward mode, which records nothing.
"""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np

from flatgrad import jvp, value_and_grad
from flatgrad.errors import FlatgradError
from tests.emitted import loaded
from tests.transform.tally import tally

ARGUMENTS = ("x", "w", "a", "n")


def moved(index: str, rng: random.Random, reach: int = 1) -> str:
    offset = rng.randint(-reach, reach)
    return index if not offset else f"{index} {'+' if offset > 0 else '-'} {abs(offset)}"


class Program:
    """Statements over `T`, of one axis or two, with the indices of the loops around at hand."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.rank = self.rng.choice([1, 1, 2])

    def pick(self, *options: str) -> str:
        return self.rng.choice(options)

    def entry(self, indices: list[str]) -> str:
        index = self.rng.choice(indices[-2:])
        return self.pick(*[moved(index, self.rng)] * 6, f"2 * {index}", "k", "2", f"n - {index}")

    def place(self, indices: list[str]) -> str:
        if self.rank == 1:
            return f"T[{self.entry(indices)}]"
        if len(indices) > 1 and self.rng.random() < 0.8:
            return f"T[{moved(indices[0], self.rng)}, {moved(indices[1], self.rng)}]"
        return f"T[{self.entry(indices)}, {self.entry(indices)}]"

    def part(self, indices: list[str]) -> str:
        """A number that is read from a slice."""
        index = indices[-1]
        bounds = self.pick(f":{index}", f"{index} - 1:{index} + 1", f"{index}:", "1:3", f":{index} + 1")
        row = "" if self.rank == 1 else f"{moved(indices[0], self.rng)}, "
        return self.pick(f"np.sum(T[{row}{bounds}])", f"np.sum(T[{row}{bounds}] * T[{row}{bounds}])")

    def term(self, indices: list[str]) -> str:
        read = self.place(indices)
        return self.pick(
            f"a * {read}", f"np.sin({read})", f"{read} * {self.place(indices)}", f"w[0] * {read}",
            f"x[{indices[-1]} % len(x)] * {read}", self.part(indices), f"0.5 * {read}", "s", "s * s",
        )  # fmt: skip

    def sum(self, indices: list[str]) -> str:
        return " + ".join(self.term(indices) for _ in range(self.rng.choice([1, 2, 2])))

    def statement(self, indices: list[str]) -> list[str]:
        place, value = self.place(indices), self.sum(indices)
        write = self.pick(*[f"{place} = {value}"] * 4, f"{place} += {value}", f"{place} *= a")
        kind = self.rng.random()
        if kind < 0.15:
            return [f"s = {value}"]
        if kind < 0.25:
            return [f"if {self.place(indices)} > 0.1:", f"    {write}"]
        if kind < 0.35:
            return [f"s = np.tanh({value})", f"{place} = s"]
        if kind < 0.42:
            return [f"total += {value}"]
        if kind < 0.46:
            return [f"if s > {self.pick('3.0', '0.2')}:", f"    {self.pick('break', 'continue')}"]
        return [write]

    def loop(self, indices: list[str], depth: int) -> list[str]:
        index = "ijk"[len(indices)] if len(indices) < 2 else "m"
        around = indices[-1] if indices else "n - 3"
        bounds = self.pick(
            *["1, n - 1"] * 4, *["n - 2, 0, -1"] * 2, "2, n - 1, 2", f"1, {around}", f"{around}, n - 1"
        )
        inside = [*indices, index]
        lines: list[str] = []
        for _ in range(self.rng.choice([1, 2, 2, 3])):
            deeper = depth < 2 and self.rng.random() < (0.6 if self.rank == 2 else 0.25)
            lines += self.loop(inside, depth + 1) if deeper else self.statement(inside)
        return [f"for {index} in range({bounds}):", *[f"    {line}" for line in lines]]

    def states(self) -> list[str]:
        """A loop that stores the state it carries, most often where the next trip might look."""
        first = self.pick("1", "1", "2", "0")
        lines = ["s = w[0] * 0.5", f"T[{first}] = {self.pick(*['s'] * 5, 's * a')}"]
        lines.append(f"for i in range({self.pick(*[first] * 5, '1')}, n - 1):")
        inside = [f"s = np.tanh(s * s + a * s + {self.sum(['i'])})"]
        inside.append(f"T[i + {self.pick('1', '1', '1', '1', '2')}] = s")
        if self.rng.random() < 0.6:
            write = self.pick(
                f"T[{first}] = s * 0.3", f"T[{first}] *= a", "T[i] *= a", "T[2] += s", "s = s * 0.9"
            )
            inside.insert(self.rng.choice([0, 1, 2]), write)
        return [*lines, *[f"    {line}" for line in inside]]

    def text(self) -> str:
        start = "np.zeros(2 * n)" if self.rank == 1 else "np.zeros((2 * n, 2 * n))"
        lines = ["total = 0.0", "s = 0.1", "k = 1", f"T = {start}"]
        lines.append("T[:len(x)] = x" if self.rank == 1 else "T[:len(x), 1] = x")
        lines.append("T[3] = w[1]" if self.rank == 1 else "T[2] = w[1]")
        if self.rank == 1 and self.rng.random() < 0.5:
            lines += self.states()
        for _ in range(self.rng.choice([1, 1, 2])):
            lines += self.loop([], 0)
        if self.rng.random() < 0.3:
            lines.append("T[2] = T[2] * 0.5")
        lines.append(f"return total + {self.pick('np.sum(T * T)', 'np.sum(T[2:4])', 'np.sum(T[-3] * s)')}")
        body = "\n".join(f"    {line}" for line in lines)
        return f"import numpy as np\n\n\ndef f(x, w, a, n):\n{body}\n"


def outcome(seed: int, folder: Path) -> str:
    """"ok", "lasting" where an array is read again, "wild", "refused", or what differs."""
    text = Program(seed).text()
    f = loaded(text, folder / f"recurrence_{seed}.py")
    rng = np.random.default_rng(seed)
    args = (rng.normal(size=3), rng.normal(size=2), 0.7, rng.integers(4, 7).item())
    tangents = [rng.normal(size=3), rng.normal(size=2), 0.3]
    derived = value_and_grad(f, argnums=("x", "w", "a"))
    try:
        value, found = derived(*args)
    except FlatgradError as caught:
        return f"seed {seed}: {caught}\n{text}" if caught.code == "internal" else "refused"
    except IndexError:
        return "wild"
    _, wanted = jvp(f)(*args, *tangents)
    both = sum(float(np.sum(one * other)) for one, other in zip(found, tangents, strict=True))
    if not np.isfinite(wanted + both) or abs(wanted) > 1e12:
        return "wild"
    if value != f(*args) or not np.isclose(both, wanted, rtol=1e-9, atol=1e-12 * abs(wanted) + 1e-10):
        return f"seed {seed}: {both} is not {wanted}\n{text}"
    source = derived.source(*args)
    back = source.partition("# backward")[2]
    return "lasting" if any(f"{sign}T[" in back for sign in "(* -") else "ok"


if __name__ == "__main__":
    tally(outcome, ("ok", "lasting", "wild", "refused"))
