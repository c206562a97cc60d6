"""Random programs of loops over time with array statements in them, for nests and products.

    python -m tests.transform.random_array_loops 0 500      # the programs of these seeds
    python -m tests.transform.random_array_loops 0 50 compiled
    python -m tests.transform.random_array_loops 0 100 second

Lengths of 1, no trips, views, writes in place, matrices that change on the way, hooks and
checkpoints: the text for Numba must give what the NumPy backend gives, that must agree with
differences, and the arguments must stay as they are.
"""

from __future__ import annotations

import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from flatgrad import grad, hvp, value_and_grad
from flatgrad.errors import FlatgradError
from tests.emitted import loaded, plain

HEAD = "import numpy as np\nimport flatgrad as fg\n\n\ndef f(W, xs, b, C, col, a):\n"

VARIABLES = {
    "n": ["h", "b", "y", "xs[{t}]", "rows[{t}]", "C[0]", "W[1]", "W[:, 0]", "v", "xs[{t}] * 0.5"],
    "kn": ["C", "H", "C[:, ::-1]", "H * a", "np.outer(col[:, 0], h)"],
    "nn": ["W", "M", "W.T", "np.outer(h, b)", "np.outer(h, xs[{t}])"],
    "k1": ["col", "np.sum(H, axis=1, keepdims=True)", "np.max(C, axis=1, keepdims=True)",
           "H[:, 0][:, None]", "np.mean(H * C, axis=1, keepdims=True)"],
    "1n": ["b[None]", "np.sum(H, axis=0, keepdims=True)", "h[None]", "np.max(H, axis=0)[None]"],
    "": ["a", "0.5", "np.sum(h)", "h[0]", "np.mean(C)", "np.max(h)", "np.sum(H * H)", "b @ h"],
}  # fmt: skip
"""What there is of each shape: n (vector), k by n, n by n, k by 1, 1 by n, and a number."""

NARROWER = {"n": ["n", ""], "kn": ["kn", "kn", "k1", "1n", "n", ""], "nn": ["nn", "n", ""],
            "k1": ["k1", ""], "1n": ["1n", "n", ""], "": [""]}  # fmt: skip
"""What broadcasts to a shape."""

FUNCTIONS = [
    "np.tanh({0})", "np.sin({0})", "np.exp(-({0}) ** 2)", "np.maximum({0}, {1})", "np.abs({0})",
    "np.minimum({0}, {1})", "np.where({0} > {1}, {0}, {2})", "np.clip({0}, -0.5, 0.7)",
    "({0}) / (1 + ({1}) ** 2)", "fg.sigmoid({0})", "np.sqrt(1 + ({0}) ** 2)", "-({0})",
]  # fmt: skip


def term(rng: random.Random, shape: str, t: str) -> str:
    """Something that broadcasts to a shape."""
    return rng.choice(VARIABLES[rng.choice(NARROWER[shape])]).format(t=t)


def product(rng: random.Random, shape: str, t: str) -> str:
    def of(other: str) -> str:
        return rng.choice(VARIABLES[other]).format(t=t)

    if shape == "n":
        return rng.choice([f"{of('nn')} @ ({of('n')})", f"({of('n')}) @ {of('nn')}",
                           f"W @ xs[{t}]", f"xs[{t}] @ M", "W @ h", f"({of('kn')}).T @ col[:, 0]",
                           f"np.sum({of('kn')}, axis=0)"])  # fmt: skip
    if shape == "kn":
        return f"({of('kn')}) @ {of('nn')}"
    if shape == "nn":
        return rng.choice([f"({of('nn')}) @ ({of('nn')}) * 0.3", f"({of('kn')}).T @ ({of('kn')})"])
    return term(rng, shape, t)


def expression(rng: random.Random, shape: str, t: str, depth: int = 2) -> str:
    """An array of exactly this shape, or what broadcasts to it."""
    if not depth:
        return f"({term(rng, shape, t)})"
    kind = rng.random()
    if kind < 0.3:
        pieces = [expression(rng, shape, t, depth - 1) for _ in range(3)]
        return rng.choice(FUNCTIONS).format(*pieces)
    if kind < 0.5:
        return f"({product(rng, shape, t)} * {rng.choice(['0.4', 'a', '0.3'])})"
    one, other = (expression(rng, shape, t, depth - 1) for _ in range(2))
    return f"({one} {rng.choice('+-*')} {other})"


def whole(rng: random.Random, shape: str, t: str) -> str:
    """An array of exactly this shape."""
    first = {"n": "h", "kn": "H", "nn": "M"}[shape]
    return f"np.tanh({expression(rng, shape, t)} + {rng.choice(['0.5', '0.0'])} * {first})"


SHAPES = {"h": "n", "y": "n", "H": "kn", "M": "nn"}


def assignment(rng: random.Random, t: str) -> list[str]:
    name = rng.choice(["h", "h", "h", "y", "H", "M"])
    return [f"{name} = {whole(rng, SHAPES[name], t)}"]


def in_place(rng: random.Random, t: str) -> list[str]:
    def e(shape: str) -> str:
        return expression(rng, shape, t, 1)

    return [rng.choice([
        f"h += 0.1 * {e('n')}", f"H *= np.tanh({e('kn')})", f"H[0] = {e('n')}",
        f"H[:, 0] += np.sum({e('kn')}, axis=1)" if "kn" else "", f"M[0] = np.sin({e('n')})",
        f"M += 0.1 * np.outer({term(rng, 'n', t)} + 0 * h, {term(rng, 'n', t)} + 0 * b)",
        f"rows[{t}] = np.tanh({e('n')})", f"rows[{t}] *= {e('n')}", f"rows[{t}, 0] += {e('')}",
        f"H[:] = np.cos({e('kn')})", f"y[:] = np.tanh({e('n')})", f"v[:] = {e('n')} * 0.5",
        "v = H[-1]", "v = rows[0]", "h[1:] += h[:-1] * 0.5", "H[:, 1:] *= col",
        "h[idx] *= 0.5", "np.add.at(h, idx, a)", f"W = W * {rng.choice(['0.9', 'a'])}",
        f"W = W + 0.1 * np.outer(h, {term(rng, 'n', t)} + 0 * h)", "h, y = y, h",
        "h[h > 0.5] = 0.25",
    ])]  # fmt: skip


def summed(rng: random.Random, t: str) -> list[str]:
    shape = rng.choice(["n", "kn", "nn", "k1", "1n", "n"])
    function = rng.choice(["np.sum", "np.mean", "np.max", "np.sum"])
    return [f"total {rng.choice(['+', '-'])}= {function}({expression(rng, shape, t)})"]


def hook(rng: random.Random, t: str) -> list[str]:
    name = rng.choice(["h", "H"])
    body = rng.choice(["g = np.clip(g, -0.2, 0.2)", "g = g * 0.5", "g *= 2.0",
                       f"g = g / (1 + np.sum({name} * {name}))"])  # fmt: skip
    return [f"with fg.adjoint({name}) as g:", f"    {body}"]


def statement(rng: random.Random, t: str, hooks: bool) -> list[str]:
    kind = rng.random()
    if kind < 0.4:
        return assignment(rng, t)
    if kind < 0.65:
        return in_place(rng, t)
    if kind < 0.8:
        return summed(rng, t)
    if kind < 0.85 and hooks:
        return hook(rng, t)
    if kind < 0.92:
        inner = [f"    {line}" for _ in range(2) for line in assignment(rng, t)]
        return [f"if {rng.choice(['h[0] > 0.1', 'np.sum(H) > 0', 'a > 0'])}:", *inner]
    return [f"H = H + np.outer(col[:, 0], {product(rng, 'n', t)})"]


def loop(rng: random.Random, hooks: bool, depth: int = 1) -> list[str]:
    t = "t" if depth else "s"
    head = rng.choice([
        "range(len(xs))", "range(len(xs))", "range(len(xs) - 1, -1, -1)", "range(1, len(xs))",
        "range(xs.shape[0])", "range(2)", "range(len(xs) - 1)", "range(len(xs) - 2, 0, -1)",
        "range(-1, 1)", "range(0, len(xs), 2)",
    ])  # fmt: skip
    if rng.random() < 0.15:
        head = f"fg.checkpoint({head})" if rng.random() < 0.5 else f"fg.checkpoint({head}, snapshots=2)"
    index = t
    if head == "range(1, len(xs))" and rng.random() < 0.5:
        index = f"{t} - 1"
    body = [line for _ in range(rng.choice([1, 2, 3, 4])) for line in statement(rng, index, hooks)]
    if depth and rng.random() < 0.2:
        body += loop(rng, hooks, 0)
    if rng.random() < 0.07:
        body += ["if np.sum(h) > 1.5:", "    break"]
        head = head if head.startswith("range") else "range(len(xs))"
    return [f"for {t} in {head}:", *[f"    {line}" for line in body]]


def program(seed: int, *, hooks: bool = False) -> str:
    rng = random.Random(seed)
    body = ["h = b.copy()", "y = np.zeros_like(b)", "H = C * 1.0", "M = W * 0.5",
            f"rows = {rng.choice(['xs.copy()', 'np.zeros_like(xs)', 'np.sin(xs)'])}",
            f"v = {rng.choice(['H[0]', 'rows[-1]', 'M[:, 1]', 'h', 'b * 1.0', 'M[0]'])}",
            "idx = np.array([0, 1])", "total = 0.0"]  # fmt: skip
    for _ in range(rng.randint(1, 2)):
        body += loop(rng, hooks)
        body += [line for _ in range(rng.randint(0, 2)) for line in statement(rng, "0", False)]
    body.append("return total + np.sum(h * y) + np.sum(H * H) + np.sum(M * W) + np.sum(rows * rows)"
                " + np.sum(v)")  # fmt: skip
    return HEAD + "\n".join(f"    {line}" for line in body) + "\n"


def arguments(rng: np.random.Generator, steps: int, n: int, k: int, dtype: str) -> list[Any]:
    """Arguments in some order of memory."""
    W, xs, b, C, col = (
        rng.normal(size=shape).astype(dtype) * 0.7
        for shape in ((n, n), (steps, n), (n,), (k, n), (k, 1))
    )
    kind = rng.integers(4)
    if kind == 1:
        W, xs, C = (np.asfortranarray(one) for one in (W, xs, C))
    if kind == 2:
        W, xs, C = (np.repeat(one, 2, axis=0)[::2] for one in (W, xs, C))
        b = b[::-1]
    if kind == 3:
        xs = xs[::-1]
        W = W.T
    return [W, xs, b, C, col, 0.4]


def slope(f: Any, args: list[Any], along: list[Any], h: float) -> float:
    ends = [f(*[arg + sign * h * d for arg, d in zip(args, along, strict=True)]) for sign in (1, -1)]
    return float(ends[0] - ends[1]) / (2 * h)


def disagreement(f: Any, args: list[Any], expected: Any, seed: int) -> str | None:
    """Whether differences are others: with every width, as there may be kinks nearby."""
    rng = np.random.default_rng(seed)
    along = [rng.normal(size=np.shape(arg)) for arg in args]
    found = sum(float(np.sum(g * d)) for g, d in zip(expected[1], along, strict=True))
    with np.errstate(all="ignore"):
        near = [slope(f, args, along, h) for h in (1e-4, 1e-5, 1e-6, 1e-7)]
    scale = max(1.0, abs(found), abs(near[1]))
    if all(abs(one - found) > 1e-4 * scale for one in near):
        return f"{found} is not {near}"
    return None


SIZES = [(4, 3, 2, "float64"), (1, 3, 2, "float64"), (4, 3, 1, "float64"), (3, 2, 3, "float64"),
         (5, 2, 2, "float32"), (3, 3, 3, "float64")]  # fmt: skip
"""Trips, two lengths, and a dtype."""

NEAR: dict[str, Any] = {
    "float64": {"rtol": 1e-8, "atol": 1e-9},
    "float32": {"rtol": 5e-3, "atol": 5e-3},
}
LARGEST = 1e6
"""Values beyond are not compared: rounding is all there is to see."""


def outcome(seed: int, folder: Path, compiled: bool = False) -> str:
    """"ok", "nest", "rows" where products have left a loop, "refused", "raises" or what differs."""
    hooks = seed % 5 == 4
    text = program(seed, hooks=hooks)
    f = loaded(text, folder / f"arrays_{seed}.py")
    steps, n, k, dtype = SIZES[seed % len(SIZES)]
    args, others = (
        arguments(np.random.default_rng(key), steps, n, k, dtype) for key in (seed, [seed, 1])
    )
    before = [np.array(arg) for arg in args]
    try:
        value = f(*args)
    except (IndexError, ValueError):
        return "raises"
    if not np.abs(value) < LARGEST:
        return "raises"
    try:
        reference = value_and_grad(f)
        expected = reference(*args)
        derived = value_and_grad(f, backend="numba")
        run, emitted = plain(derived, args)
    except (FlatgradError, ValueError) as caught:
        return refused(seed, caught)
    found = [
        differs(function, reference, given)
        for given in (args, others)
        for function in ([run, derived] if compiled else [run])
    ]
    if not np.allclose(expected[0], value, **NEAR[dtype]):
        found.append(f"value {expected[0]} is not {value}")
    if any(not np.array_equal(one, other) for one, other in zip(args, before, strict=True)):
        found.append("an argument has changed")
    if not any(found) and not hooks and dtype == "float64":
        found.append(disagreement(f, args, expected, seed))
    wrong = next(filter(None, found), None)
    if wrong:
        return f"seed {seed}: {wrong}\n{text}"
    return "rows" if "_rows = np.empty" in emitted else "nest" if "_loop(" in emitted else "ok"


def refused(seed: int, caught: Exception) -> str:
    """Why a program is left out; a broken IR is no reason."""
    code = getattr(caught, "code", "")
    return f"seed {seed}: {caught}" if code == "internal" else f"refused {code}"


def differs(function: Any, reference: Any, args: list[Any]) -> str | None:
    """What is another number, or has another dtype or shape than its argument."""
    near = NEAR[str(args[0].dtype)]
    want = reference(*args)
    found = function(*args)
    pairs = zip((found[0], *found[1]), (want[0], *want[1]), (None, *args), strict=True)
    for one, other, arg in pairs:
        if not np.allclose(one, other, **near, equal_nan=True):
            return f"{one} is not {other}"
        if isinstance(arg, np.ndarray) and (one.shape, one.dtype) != (arg.shape, arg.dtype):
            return f"{one.dtype} {one.shape} for {arg.dtype} {arg.shape}"
    return None


def second_outcome(seed: int, folder: Path) -> str:
    """The same of products with the Hessian: "ok", "refused", "raises" or what differs."""
    text = program(seed)
    f = loaded(text, folder / f"arrays_{seed}.py")
    steps, n, k, _ = SIZES[seed % len(SIZES)]
    rng = np.random.default_rng(seed)
    args = arguments(rng, steps, n, k, "float64")
    along = [rng.normal(size=np.shape(arg)) for arg in args[:-1]] + [0.7]
    try:
        if not np.abs(f(*args)) < LARGEST:
            return "raises"
        expected = hvp(f, args, along)
        function = hvp(f, backend="numba")
        found = plain(function, [*args, *along])[0](*args, *along)
    except (FlatgradError, IndexError, ValueError) as caught:
        return refused(seed, caught)
    scale = max([1.0, *[float(np.max(np.abs(one), initial=0.0)) for one in expected]])
    if not scale < LARGEST:
        return "raises"
    for one, other in zip(found, expected, strict=True):
        if not np.allclose(one, other, rtol=1e-7, atol=1e-9 * scale):
            return f"seed {seed}: Hessian {one} is not {other}\n{text}"
    gradient = grad(f)

    def sloped(*moved: Any) -> float:
        return float(sum(np.sum(g * d) for g, d in zip(gradient(*moved), along, strict=True)))

    wrong = disagreement(sloped, args, (None, expected), seed)
    return "ok" if wrong is None else f"seed {seed}: Hessian {wrong}\n{text}"


def main() -> None:
    first, last = map(int, sys.argv[1:3])
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        for seed in range(first, last):
            try:
                if "second" in sys.argv:
                    found = second_outcome(seed, Path(folder))
                else:
                    found = outcome(seed, Path(folder), compiled="compiled" in sys.argv)
            except Exception as caught:
                found = f"seed {seed}: error {caught!r}"
            kind = "failed" if found.startswith("seed") else found
            counts[kind] = counts.get(kind, 0) + 1
            if kind == "failed":
                print(found, flush=True)
    print(counts)


if __name__ == "__main__":
    main()
