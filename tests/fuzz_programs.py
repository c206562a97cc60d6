"""Random programs as source text, grown statement by statement on concrete values.

    program = generate(17)
    print(program.text)            # helpers, and `def f(x0, x1): ...` that returns a number
    program.arguments()            # fresh copies of what it is called with

Every statement is executed as it is added, on two sets of arguments with different lengths, so that
shapes fit, values stay tame and no statement raises. Programs write in place, through views and
aliases, more than anybody would by hand.
"""

from __future__ import annotations

import copy
import linecache
import random
import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tests.fuzz_tables import HELPERS, TABLES

CONFUSING = ["slice", "float", "grad_x0", "x0_1", "value", "math", "relu", "f", "value_sum", "max"]


class Reject(Exception):
    """A statement or expression that is not valid, or whose values get out of hand."""


@dataclass
class Program:
    """Parameters with their values, statements, and the expression that is returned.

    `other` are arguments of the same types and other lengths.
    """

    seed: int
    given: dict[str, Any]
    other: dict[str, Any]
    statements: list[str]
    result: str
    tags: set[str] = field(default_factory=set)
    source: str | None = None

    @property
    def body(self) -> str:
        """The function alone."""
        if self.source is not None:
            return self.source[self.source.index("def f(") :]
        lines = [line for part in self.statements for line in part.splitlines()]
        inside = "".join(f"    {line}\n" for line in [*lines, f"return {self.result}"])
        return f"def f({', '.join(self.given)}):\n{inside}"

    @property
    def text(self) -> str:
        """The whole module; that of a file where the program comes from one."""
        return HELPERS + self.body if self.source is None else self.source

    def arguments(self) -> dict[str, Any]:
        """The arguments, each a copy of its own with the same strides."""
        return {name: fresh(value) for name, value in self.given.items()}

    def function(self, text: str | None = None) -> Any:
        """The function `f`, whose source can be read back."""
        return load(self.text if text is None else text, self.seed)

    def with_(self, **changes: Any) -> Program:
        """A changed copy."""
        return replace(self, **changes)


def load(text: str, label: Any) -> Any:
    """Execute a program; `inspect` finds its text."""
    name = f"<program {label} {zlib.crc32(text.encode())}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    space: dict[str, Any] = {"__name__": "program"}
    exec(compile(text, name, "exec"), space)
    return space["f"]


def fresh(value: Any) -> Any:
    """A copy that is laid out like the original."""
    if isinstance(value, np.ndarray) and value.ndim:
        order = np.argsort([-abs(step) for step in value.strides], kind="stable")
        plain = np.ascontiguousarray(value.transpose(order)).copy()
        flipped = tuple(slice(None, None, -1 if value.strides[k] < 0 else 1) for k in order)
        return plain[flipped].copy()[flipped].transpose(np.argsort(order))
    return copy.deepcopy(value)


def is_float(value: Any) -> bool:
    """Whether a value can be active."""
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype.kind == "f"
    return isinstance(value, float)


def is_array(value: Any) -> bool:
    """Whether a value is a float array with axes."""
    return isinstance(value, np.ndarray) and value.dtype.kind == "f" and value.ndim > 0


def wrapped(text: str) -> str:
    """An expression that may stand next to any operator."""
    simple = text.replace("_", "").isalnum() and not text[0].isdigit()
    return text if simple else f"({text})"


class Grower:
    """The state of one program while it grows."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.space: dict[str, Any] = {}
        exec(HELPERS, self.space)
        self.statements: list[str] = []
        one, two = self.rng.sample([3, 4, 5, 6], 2)
        self.dims = [one, two, 1 if self.rng.random() < 0.5 else self.rng.choice([2, 3, 7])]
        longer = {one: one + self.rng.choice([1, 2]), two: two + self.rng.choice([0, 2])}
        self.longer = {1: 1, **{size: longer.get(size, size + 1) for size in self.dims if size > 1}}
        self.flavour = self.rng.choices(["double", "single", "both"], [6, 3, 2])[0]
        self.given = self.parameters()
        self.other = {name: self.lengthened(value) for name, value in self.given.items()}
        self.env: dict[str, Any] = {name: fresh(value) for name, value in self.given.items()}
        self.twin: dict[str, Any] = {name: fresh(value) for name, value in self.other.items()}
        self.count = 0

    # parameters

    def parameters(self) -> dict[str, Any]:
        """One to four float parameters, sometimes indices and a mask."""
        made: dict[str, Any] = {}
        for k in range(self.rng.randint(1, 4)):
            made[f"x{k}"] = self.number() if self.rng.random() < 0.25 else self.array()
        if not any(is_array(value) for value in made.values()):
            made["w"] = self.array()
        size = self.rng.choice(self.dims)
        if self.rng.random() < 0.3:
            made["rows"] = self.numbers.integers(-size, size, size=self.rng.choice([1, 2, 3, 4]))
        if self.rng.random() < 0.2:
            made["mask"] = self.numbers.random(size) < 0.6
        if self.rng.random() < 0.15:
            made["k"] = self.rng.randrange(size)
        return made

    def dtype(self) -> Any:
        return {"double": np.float64, "single": np.float32}.get(
            self.flavour, self.rng.choice([np.float64, np.float32])
        )

    def number(self) -> Any:
        value = float(self.numbers.normal())
        kind = self.rng.random()
        if kind < 0.6:
            return value
        return self.dtype()(value) if kind < 0.85 else np.array(value, self.dtype())

    def array(self) -> np.ndarray:
        rank = self.rng.choice([1, 1, 2, 2, 2, 3])
        shape = tuple(self.rng.choice(self.dims) for _ in range(rank))
        value = self.numbers.normal(size=shape).astype(self.dtype())
        layout = self.rng.random()
        if layout < 0.1:
            return value[::-1]
        return np.asfortranarray(value) if layout < 0.2 else value

    def lengthened(self, value: Any) -> Any:
        """A value of the same type with other lengths."""
        if not isinstance(value, np.ndarray) or value.dtype.kind == "i" or not value.ndim:
            return fresh(value)
        shape = tuple(self.longer[size] for size in value.shape)
        if value.dtype.kind == "b":
            return self.numbers.random(shape) < 0.6
        return self.numbers.normal(size=shape).astype(value.dtype)

    # values

    def value(self, text: str) -> Any:
        """What an expression is, in the present state."""
        with np.errstate(all="ignore"):
            try:
                found = eval(text, self.space, self.env)
                other = eval(text, self.space, self.twin)
            except Exception as caught:
                raise Reject from caught
        self.tame(found)
        self.tame(other)
        return found

    def tame(self, found: Any) -> None:
        if isinstance(found, np.ndarray | float | np.generic) and np.size(found):
            if np.size(found) > 600 or not np.all(np.abs(found) < 200):
                raise Reject
        elif isinstance(found, np.ndarray):
            raise Reject  # empty

    def names(self, test: Any = is_float) -> list[str]:
        """Variables whose values pass a test, the latest most often."""
        return [name for name, value in self.env.items() if test(value)]

    def pick(self, test: Any = is_float) -> str:
        found = self.names(test)
        if not found:
            raise Reject
        weights = [1 + 2 * k / len(found) for k in range(len(found))]
        return self.rng.choices(found, weights)[0]

    def fresh_name(self) -> str:
        self.count += 1
        name = self.rng.choice("abcdeghpqrstuvz")
        if self.rng.random() < 0.05:  # what emitted code uses itself
            name = self.rng.choice(CONFUSING)
        return name if name not in self.env else f"{name}{self.count}"

    # expressions

    def expression(self, depth: int) -> str:
        """A random float expression."""
        if depth == 0 or self.rng.random() < 0.1:
            return self.pick()
        makers = [self.unary, self.binary, self.shaped, self.reduced, self.product, self.indexed]
        for _ in range(8):
            maker = self.rng.choices(makers, [3, 4, 2, 2, 1.5, 2])[0]
            try:
                text = maker(depth)
                if is_float(self.value(text)):
                    return text
            except Reject:
                continue
        return self.pick()

    def unary(self, depth: int) -> str:
        return self.filled("unary", x=wrapped(self.expression(depth - 1)))

    def binary(self, depth: int) -> str:
        x, y = wrapped(self.expression(depth - 1)), wrapped(self.expression(depth - 1))
        return self.filled("binary", x=x, y=y)

    def shaped(self, depth: int) -> str:
        x = wrapped(self.expression(depth - 1))
        found = self.value(x)
        if not np.ndim(found):
            raise Reject
        if self.rng.random() < 0.2:
            y = wrapped(self.expression(depth - 1))
            axis = self.axis(found)
            form = self.rng.choice(
                ["np.concatenate([{x}, {y}], axis={k})", "np.stack([{x}, {y}], axis={k})",
                 "np.concatenate(({x}, {x}))", "np.stack(({y}, {x}, {y}))", "np.vstack([{x}, {y}])",
                 "np.array([{x}, {y}])"]
            )  # fmt: skip
            return form.format(x=x, y=y, k=axis)
        if self.rng.random() < 0.15 and np.ndim(found):
            order = list(range(found.ndim))
            self.rng.shuffle(order)
            return f"np.transpose({x}, {tuple(order)})"
        text = self.filled("shape", x=x, k=self.axis(found))
        if text.startswith("np.tri") and np.ndim(found) < 2:
            raise Reject
        return text

    def axis(self, found: Any) -> int:
        rank = max(1, np.ndim(found))
        return self.rng.randrange(-rank, rank)

    def reduced(self, depth: int) -> str:
        x = wrapped(self.expression(depth - 1))
        found = self.value(x)
        if not np.ndim(found):
            raise Reject
        options: list[str] = []
        if self.rng.random() < 0.65:
            axes = self.rng.sample(range(found.ndim), self.rng.randint(1, min(2, found.ndim)))
            options.append(f"axis={axes[0] if len(axes) == 1 else tuple(axes)}")
        if self.rng.random() < 0.4:
            options.append("keepdims=True")
        name = self.rng.choice(TABLES["reduction"])
        if name.startswith("."):
            return f"{x}{name}({', '.join(options)})"
        return f"{name}({', '.join([x, *options])})"

    def product(self, depth: int) -> str:
        x = wrapped(self.expression(depth - 1))
        others = self.names(is_array)
        self.rng.shuffle(others)
        forms = self.rng.sample(TABLES["product"], 4)
        for form in forms:
            for y in others:
                try:
                    self.value(form.format(x=x, y=y))
                except Reject:
                    continue
                return form.format(x=x, y=y)
        raise Reject

    def indexed(self, depth: int) -> str:
        x = wrapped(self.expression(depth - 1))
        return f"{x}[{self.index(x, advanced=True)}]"

    def index(self, x: str, *, advanced: bool) -> str:
        """A random index into what `x` is now."""
        found = self.value(x)
        if not np.ndim(found):
            raise Reject
        if advanced and self.rng.random() < 0.15:
            return f"{x} > {self.rng.choice([-0.3, 0.1])}"
        entries: list[str] = []
        for size in found.shape[: self.rng.randint(1, found.ndim)]:
            entries.append(self.entry(x, size, len(entries), advanced=advanced))
        if self.rng.random() < 0.1:
            entries.insert(self.rng.randint(0, len(entries)), "None")
        if self.rng.random() < 0.15:
            entries.insert(self.rng.randint(0, len(entries)), "...")
        return ", ".join(entries)

    def entry(self, x: str, size: int, axis: int, *, advanced: bool) -> str:
        """One entry of an index."""
        forms = [
            str(self.rng.randrange(-size, size)), ":", "1:", ":-1", "::2", "::-1", ":2", "-2:",
            f":{x}.shape[{axis}] - 1", "0:1", "-1:0:-1",
        ]  # fmt: skip
        if isinstance(self.env.get("k"), int):
            forms += ["k", "k:"]
        if advanced and self.rng.random() < 0.4:
            listed = [self.rng.randrange(-size, size) for _ in range(self.rng.randint(1, 4))]
            forms = [f"{listed}", f"np.array({listed})", f"np.array([{listed}])"]
            forms += [name for name in ("rows", "mask") if name in self.env] * 2
        return self.rng.choice(forms)

    def filled(self, table: str, **parts: Any) -> str:
        return self.rng.choice(TABLES[table]).format(**parts)

    # the state

    def run(self, statement: str) -> None:
        """Execute a statement; undo everything if it fails or values get out of hand."""
        try:
            with np.errstate(all="ignore"):
                exec(statement, self.space, self.env)
                exec(statement, self.space, self.twin)
            for found in (*self.env.values(), *self.twin.values()):
                self.tame(found)
        except Exception as caught:
            self.restart()
            raise Reject from caught
        self.statements.append(statement)

    def restart(self) -> None:
        self.env = {name: fresh(value) for name, value in self.given.items()}
        self.twin = {name: fresh(value) for name, value in self.other.items()}
        with np.errstate(all="ignore"):
            for statement in self.statements:
                exec(statement, self.space, self.env)
                exec(statement, self.space, self.twin)


def generate(seed: int) -> Program:
    """The program of a seed."""
    from tests.fuzz_statements import grow

    grower = Grower(seed)
    result, tags = grow(grower)
    return Program(seed, grower.given, grower.other, grower.statements, result, tags)


__all__ = ["Grower", "Program", "Reject", "fresh", "generate", "load"]
