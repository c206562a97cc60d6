"""Random programs with loops, branches and writes in place, as source text.

    program = generate(17)
    print(program.text)            # helpers, and `def f(x, a, k): ...`
    program.sets                   # several sets of arguments: other lengths, other trip counts

The programs are correct Python for all of these by construction: indices stay within arrays, names
are defined on every path, divisors stay away from 0, loops end. What the values do is tried out.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tests.fuzz_loop_tables import CONDITIONS, EXPRESSIONS, HELPERS, STATEMENTS, TRIPS
from tests.fuzz_programs import fresh, load


@dataclass(frozen=True)
class LoopProgram:
    """The text of a module with a function `f`, and sets of arguments of the same types."""

    seed: int
    text: str
    sets: tuple[dict[str, Any], ...]
    array: bool = False  # it returns an array

    @property
    def body(self) -> str:
        """The function alone."""
        return self.text[self.text.index("def f(") :]

    def function(self) -> Callable[..., Any]:
        """The function `f`, whose source can be read back."""
        return load(self.text, self.seed)

    def arguments(self, k: int = 0) -> dict[str, Any]:
        """Copies of the k-th set of arguments."""
        return {name: fresh(value) for name, value in self.sets[k].items()}

    def with_(self, **changes: Any) -> LoopProgram:
        """A changed copy."""
        return replace(self, **changes)


class Writer:
    """The state of one program while it is written: the variables in scope, by kind.

    `f` a float, `v` a vector as long as `x`, `w` one of another length, `m` a square matrix,
    `i` an index into `x`, `c` a count, `b` a truth value.
    """

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.kinds: dict[str, str] = {"x": "v", "a": "f"}
        self.lines: list[str] = []
        self.indent = 1
        self.count = 0
        self.loops = 0
        self.fixed: set[str] = set()
        self.array = self.rng.random() < 0.1
        self.room = self.rng.randint(6, 20)

    # names

    def fresh_name(self) -> str:
        """A name that was not used before."""
        self.count += 1
        return f"{self.rng.choice('bdeghpqrstuvz')}{self.count}"

    def named(self, kind: str) -> list[str]:
        return [name for name, found in self.kinds.items() if found == kind]

    def pick(self, kind: str) -> str | None:
        """A variable of some kind, the latest most often."""
        found = self.named(kind)
        weights = [1 + 2 * k / max(1, len(found)) for k in range(len(found))]
        return self.rng.choices(found, weights)[0] if found else None

    def target(self, kind: str) -> str:
        """A variable to assign to: an old one, or a new one."""
        found = [name for name in self.named(kind) if name not in self.fixed]
        if found and self.rng.random() < 0.6:
            return self.rng.choice(found)
        name = self.fresh_name()
        self.kinds[name] = kind
        return name

    # expressions

    def filled(self, form: str, depth: int) -> str | None:
        """A template with its holes filled: `{f}` an expression, `{=f}` a variable, and so on."""
        parts: list[str] = []
        rest = form
        while "{" in rest:
            before, _, rest = rest.partition("{")
            hole, _, rest = rest.partition("}")
            text = self.hole(hole, depth)
            if text is None:
                return None
            parts += [before, text]
        return "".join([*parts, rest])

    def hole(self, hole: str, depth: int) -> str | None:
        if hole == "#":
            return str(round(self.rng.uniform(-1.5, 1.5), 2))
        if hole == "+":
            return str(round(self.rng.uniform(0.2, 1.2), 2))
        if hole == "new":
            return self.fresh_name()
        if hole == "i":
            return self.index()
        if hole == "b":
            return self.condition(depth - 1)
        if hole.startswith("="):
            return self.pick(hole[1:])
        return self.expression(hole, depth - 1)

    def expression(self, kind: str, depth: int) -> str:
        """An expression of some kind."""
        if depth <= 0 or self.rng.random() < 0.15:
            return self.simple(kind)
        for _ in range(8):
            text = self.filled(self.rng.choice(EXPRESSIONS[kind]), depth)
            if text is not None:
                return f"({text})" if " " in text and not _closed(text) else text
        return self.simple(kind)

    def simple(self, kind: str) -> str:
        """A variable, an element, a number."""
        if kind == "f":
            forms = ["{=f}", "{=f}", "{=v}[{i}]", "{=v}[{i}]", "{=m}[{i}, {i}]", "{#}", "{=w}[-1]"]
            if self.named("c") or self.named("i"):
                forms += ["0.1 * {=c}", "0.1 * {=i}"]
            for _ in range(6):
                text = self.filled(self.rng.choice(forms), 0)
                if text is not None:
                    return text
            return "0.5"
        found = self.pick(kind)
        if found is None:
            return {"v": "x", "m": "np.outer(x, x)", "w": "x[1:]", "c": "2"}[kind]
        return found

    def index(self) -> str:
        """An index into `x`; all arrays of kind `v` and `m` are as long."""
        forms = ["0", "-1", "1"] + 3 * self.named("i")
        forms += [f"{name} % n" for name in self.named("c")]
        forms += [f"({name} + 1) % n" for name in self.named("i")]
        forms += [f"{name} - 1" for name in self.named("i")]
        return self.rng.choice(forms)

    def condition(self, depth: int) -> str:
        """A truth value."""
        for _ in range(8):
            text = self.filled(self.rng.choice(CONDITIONS), min(depth, 1))
            if text is not None:
                return text
        return "a > 0.0"

    # statements

    def add(self, text: str) -> None:
        """A line, or several, at the present indentation."""
        for line in text.split("\n"):
            self.lines.append("    " * self.indent + line)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """A block: names that are made there are gone after it."""
        before = dict(self.kinds)
        self.indent += 1
        start = len(self.lines)
        yield
        if len(self.lines) == start:
            self.add("pass")
        self.indent -= 1
        self.kinds = {name: kind for name, kind in before.items()}

    def body(self, count: int) -> None:
        """Some statements."""
        for _ in range(count):
            self.room -= 1
            if self.room < 0:
                self.plain()
                return
            roll = self.rng.random()
            if self.indent < 4 and roll < 0.2 + 0.1 * (self.indent == 1):
                self.loop()
            elif self.indent < 5 and roll < 0.42:
                self.branch()
            else:
                self.plain()

    def plain(self) -> None:
        """An assignment, a write in place, an alias, a call."""
        for _ in range(20):
            kinds, form = self.rng.choice(STATEMENTS)
            text = self.filled(form, self.rng.choice([1, 2, 2, 3]))
            if text is None:
                continue
            for kind in kinds:
                text = text.replace("$", self.target(kind), 1)
            self.add(text)
            return

    def branch(self) -> None:
        """An `if`, with or without the rest."""
        self.add(f"if {self.condition(2)}:")
        with self.inside():
            self.body(self.rng.choice([1, 1, 2]))
            self.leave()
        roll = self.rng.random()
        if roll < 0.15:
            self.add(f"elif {self.condition(1)}:")
            with self.inside():
                self.body(1)
                self.leave()
        if roll < 0.5:
            self.add("else:")
            with self.inside():
                self.body(self.rng.choice([1, 1, 2]))
                self.leave()

    def leave(self) -> None:
        """Perhaps leave the trip, the loop, or the function."""
        roll = self.rng.random()
        if self.loops and roll < 0.2:
            self.add(self.rng.choice(["break", "continue"]))
        elif roll < 0.27 and not self.array:
            self.add(f"return {self.result(2)}")

    def loop(self) -> None:
        """A `for` or a `while`."""
        if self.rng.random() < 0.25:
            self.while_()
            return
        while True:
            header, made = self.rng.choice(TRIPS)
            text = self.filled(header, 1)
            if text is not None:
                break
        names = {}
        for kind in made:
            name = self.fresh_name()
            text = text.replace("$", name, 1)
            names[name] = kind
        self.add(f"for {text}:")
        self.trip(names, [])
        self.otherwise()

    def while_(self) -> None:
        """A loop that counts, with more conditions or an exit of its own."""
        count = self.fresh_name()
        self.add(f"{count} = 0")
        limit = self.rng.choice(["3", "k", "n", "k + 1", "n - 1"])
        style = self.rng.random()
        self.kinds[count] = "c"
        self.fixed.add(count)
        step = f"{count} += 1"
        if style < 0.35:
            self.add(f"while {count} < {limit}:")
            self.trip({}, [step])
        elif style < 0.75:
            self.add(f"while {count} < {limit} and ({self.condition(1)}):")
            self.trip({}, [step])
        else:
            self.add("while True:")
            self.trip({}, [f"if {count} >= {limit}:\n    break", step])
        self.otherwise()

    def trip(self, names: dict[str, str], first: list[str]) -> None:
        """The body of a loop."""
        with self.inside():
            self.loops += 1
            self.kinds |= names
            self.fixed |= set(names)
            for line in first:
                self.add(line)
            self.body(self.rng.choice([1, 2, 2, 3, 4]))
            self.loops -= 1

    def otherwise(self) -> None:
        """Perhaps an `else` of a loop."""
        if self.rng.random() < 0.12:
            self.add("else:")
            loops, self.loops = self.loops, 0
            with self.inside():
                self.body(1)
            self.loops = loops

    def result(self, count: int) -> str:
        """A number of what is in scope."""
        forms = {
            "f": ["{}", "np.sin({})", "{} ** 2"], "v": ["np.sum({})", "np.sum({} * x)", "{}[0]"],
            "w": ["np.sum({})", "{}[-1]"], "m": ["np.sum({})", "{}[0, -1]", "np.sum({} * {})"],
        }  # fmt: skip
        names = [name for name, kind in self.kinds.items() if kind in forms]
        self.rng.shuffle(names)
        chosen = list(dict.fromkeys([*names[:count], *names[-1:]]))
        parts = [self.rng.choice(forms[self.kinds[name]]).replace("{}", name) for name in chosen]
        return " + ".join(parts)

    def write(self) -> str:
        """The whole function."""
        params = ["x", "a"]
        for name, kind, chance in (("y", "v", 0.5), ("A", "m", 0.5), ("c", "f", 0.3)):
            if self.rng.random() < chance:
                params.append(name)
                self.kinds[name] = kind
        params += ["k", "idx"]
        self.kinds["k"] = "c"
        self.fixed |= {"k"}
        self.add("n = x.shape[0]")
        self.body(self.rng.randint(3, 9))
        self.add(f"return {self.simple('v') if self.array else self.result(5)}")
        return f"def f({', '.join(params)}):\n" + "\n".join(self.lines) + "\n"


def _closed(text: str) -> bool:
    """Whether an expression is one call, one index or in brackets already."""
    depth = 0
    for k, sign in enumerate(text):
        depth += (sign in "([") - (sign in ")]")
        if depth == 0 and ((sign in ")]" and k < len(text) - 1) or sign == " "):
            return False
    return True


def argument_sets(seed: int, names: list[str]) -> tuple[dict[str, Any], ...]:
    """Arguments for `f`: three sets of different lengths and trip counts."""
    rng = np.random.default_rng(seed)
    made = []
    for n, k in zip(rng.permutation([2, 3, 4]), rng.permutation([0, 1, 3]), strict=True):
        pool: dict[str, Any] = {
            "x": rng.normal(size=n), "y": rng.normal(size=n), "A": rng.normal(size=(n, n)) * 0.6,
            "a": float(rng.normal()), "c": float(rng.normal()), "k": int(k),
            "idx": rng.integers(-n, n, size=3),
        }  # fmt: skip
        made.append({name: pool[name] for name in names})
    return tuple(made)


def generate(seed: int) -> LoopProgram:
    """The program of a seed."""
    writer = Writer(seed)
    body = writer.write()
    names = body[body.index("(") + 1 : body.index(")")].split(", ")
    return LoopProgram(seed, HELPERS + body, argument_sets(seed, names), writer.array)
