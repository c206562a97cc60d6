"""Straight-line code: the way to the first gradient, and what a call costs.

wall time from @grad to the first gradient, in fresh processes
compile time of functions of 500 to 4,000 statements
what the public function adds to the emitted one
the sigmoid neuron and the two-layer net: flatgrad, its emitted code called bare, autograd, JAX
"""

from __future__ import annotations

import functools
import importlib.util
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

import flatgrad
from benchmarks.measure import in_fresh_processes, interleaved, ratio, seconds, table
from flatgrad import grad, sigmoid, value_and_grad

LENGTHS = (500, 1000, 2000, 4000)
WEIGHTS = ("W1", "b1", "W2", "b2")


def neuron(w0, x0, w1, x1, w2):
    """The sigmoid neuron."""
    s0 = w0 * x0
    s1 = w1 * x1
    s2 = s0 + s1
    s3 = s2 + w2
    L = sigmoid(s3)
    return L


def two_layer(W1, b1, W2, b2, X, y):
    """A two-layer net with softmax cross-entropy."""
    h = np.maximum(0, X @ W1 + b1)
    s = h @ W2 + b2
    s = s - np.max(s, axis=1, keepdims=True)
    logp = s - np.log(np.sum(np.exp(s), axis=1, keepdims=True))
    return -np.mean(logp[np.arange(len(y)), y])


def four_arrays(a, b, c, d):
    """As little work as four arrays allow."""
    return np.sum(a * b + c * d)


def net_arguments(n: int, d: int, h: int, c: int) -> tuple[Any, ...]:
    """Weights and data of a two-layer net."""
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(d, h)) / np.sqrt(d), np.zeros(h),
        rng.normal(size=(h, c)) / np.sqrt(h), np.zeros(c),
        rng.normal(size=(n, d)), rng.integers(0, c, size=n),
    )  # fmt: skip


NEURON_ARGUMENTS = (2.0, -1.0, -3.0, -2.0, -3.0)
SMALL = (16, 8, 16, 3)
LARGE = (64, 3072, 100, 10)


# --- from the decorator to the first gradient

FIRST = """
import time
import numpy as np
from benchmarks import straight_line as b
from flatgrad import grad
arguments = b.{arguments}
start = time.perf_counter()
grad(b.{function}, argnums={argnums!r})(*arguments)
print(time.perf_counter() - start)
"""


def first_gradients(quick: bool) -> None:
    """Wall time in a process that has imported flatgrad and compiled nothing."""
    runs = 5 if quick else 15
    rows = []
    for name, target, values in (
        ("sigmoid neuron", 0.020, ("neuron", "NEURON_ARGUMENTS", None)),
        ("two-layer net", 0.060, ("two_layer", "net_arguments(*b.SMALL)", WEIGHTS)),
    ):
        function, arguments, argnums = values
        code = FIRST.format(function=function, arguments=arguments, argnums=argnums)
        times = in_fresh_processes(code, runs)
        rows.append(
            (name, seconds(statistics.median(times)), seconds(min(times)), seconds(max(times)),
             seconds(target))
        )  # fmt: skip
    table(
        f"From @grad to the first gradient, NumPy backend ({runs} fresh processes)",
        ("function", "median", "least", "most", "wanted"), rows,
    )  # fmt: skip


# --- long functions


def long_text(statements: int) -> str:
    """A function of so many statements, of the kinds that ordinary code mixes."""
    lines = ["import numpy as np", "", "", "def long(x, w):", "    v0 = x * w"]
    forms = (
        "np.sin(v{a}) + w", "v{a} * v{b}", "np.tanh(v{a})", "v{a} - 0.5 * v{b}", "np.exp(-v{a})"
    )  # fmt: skip
    for k in range(1, statements - 1):
        form = forms[k % len(forms)].format(a=k - 1, b=max(0, k - 3))
        lines.append(f"    v{k} = {form}")
    lines.append(f"    return v{statements - 2}")
    return "\n".join(lines) + "\n"


def load(text: str, name: str, folder: str) -> ModuleType:
    """The text as a module of its own."""
    path = pathlib.Path(folder) / f"{name}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def long_functions(quick: bool) -> None:
    """Time to the first gradient of long functions: it should grow as their length does."""
    medians: list[float] = []
    rows = []
    runs = 1 if quick else 3
    for length in LENGTHS:
        times = []
        for k in range(runs):
            with tempfile.TemporaryDirectory() as folder:
                module = load(long_text(length), f"long_{length}_{k}", folder)
                start = time.perf_counter()
                grad(module.long)(0.3, 0.2)
                times.append(time.perf_counter() - start)
        medians.append(statistics.median(times))
        grown = f"{medians[-1] / medians[-2]:.2f}" if len(medians) > 1 else ""
        wanted = "3 s" if length == 2000 else ""
        each = seconds(medians[-1] / length)
        rows.append((f"{length:,}", seconds(medians[-1]), each, grown, wanted))
    table(
        "Straight-line functions: from @grad to the first gradient",
        ("statements", "median", "per statement", "ratio", "wanted"), rows,
    )  # fmt: skip


# --- what a call costs


def bare(derived: Any, *args: Any) -> Callable[..., Any]:
    """The emitted function itself."""
    derived(*args)
    emitted: Callable[..., Any] = derived.__flatgrad__.last.compiled.function
    return emitted


def overheads(quick: bool) -> None:
    """The public function against the emitted one, which is given the same arguments."""
    rounds = 300 if quick else 3000
    rows = []
    arrays = tuple(np.ones(4) for _ in range(4))
    for name, function, args, wanted in (
        ("five floats", neuron, NEURON_ARGUMENTS, 1e-6),
        ("four arrays", four_arrays, arrays, 3e-6),
    ):
        derived = grad(function)
        emitted = bare(derived, *args)
        calls = {
            "public": functools.partial(derived, *args),
            "emitted": functools.partial(emitted, *args),
        }
        times = interleaved(calls, rounds)
        middle = {key: statistics.median(value) for key, value in times.items()}
        pairs = zip(times["public"], times["emitted"], strict=True)
        added = statistics.median(one - other for one, other in pairs)
        rows.append(
            (name, seconds(middle["public"]), seconds(middle["emitted"]), seconds(added),
             seconds(wanted))
        )  # fmt: skip
    table("Call overhead, NumPy backend", ("call", "public", "emitted", "overhead", "wanted"), rows)


# --- next to others


def others(name: str, args: tuple[Any, ...], argnums: tuple[int, ...]) -> dict[str, Any]:
    """The same derivative by autograd and by JAX, where they are installed."""
    found: dict[str, Any] = {}
    if importlib.util.find_spec("autograd"):
        import autograd
        import autograd.numpy as anp

        derived = autograd.value_and_grad(_written_for(anp)[name], argnums)
        found["autograd"] = functools.partial(derived, *args)
    if importlib.util.find_spec("jax"):
        import jax
        import jax.numpy as jnp

        jax.config.update("jax_enable_x64", True)
        compiled = jax.jit(jax.value_and_grad(_written_for(jnp)[name], argnums))
        placed = tuple(jnp.asarray(x) for x in args)
        found["JAX (jit)"] = lambda: jax.block_until_ready(compiled(*placed))
    return found


def _written_for(xp: Any) -> dict[str, Callable[..., Any]]:
    """The functions for a library that stands in for NumPy."""

    def neuron(w0, x0, w1, x1, w2):
        s3 = w0 * x0 + w1 * x1 + w2
        return 1 / (1 + xp.exp(-s3))

    def two_layer(W1, b1, W2, b2, X, y):
        h = xp.maximum(0, X @ W1 + b1)
        s = h @ W2 + b2
        s = s - xp.max(s, axis=1, keepdims=True)
        logp = s - xp.log(xp.sum(xp.exp(s), axis=1, keepdims=True))
        return -xp.mean(logp[xp.arange(len(y)), y])

    return {"neuron": neuron, "two_layer": two_layer}


def per_call(quick: bool) -> None:
    """Value and gradient per call, all contestants taking turns in one process."""
    rows = []
    for title, function, args, rounds in (
        ("sigmoid neuron", neuron, NEURON_ARGUMENTS, 1000),
        (f"two-layer net {SMALL}", two_layer, net_arguments(*SMALL), 1000),
        (f"two-layer net {LARGE}", two_layer, net_arguments(*LARGE), 60),
    ):
        argnums = tuple(range(5 if function is neuron else 4))
        derived = value_and_grad(function, argnums=argnums)
        compiled = value_and_grad(function, argnums=argnums, backend="numba")
        calls: dict[str, Callable[[], object]] = {
            "emitted, bare": functools.partial(bare(derived, *args), *args),
            "flatgrad": functools.partial(derived, *args),
            "flatgrad (numba)": functools.partial(compiled, *args),
            **others(function.__name__, args, argnums),
        }
        check_agreement(calls)
        times = interleaved(calls, rounds // 10 if quick else rounds)
        for name in calls:
            middle = statistics.median(times[name])
            against = f"{ratio(times, name, 'emitted, bare'):.2f}"
            rows.append((title, name, seconds(middle), seconds(min(times[name])), against))
            title = ""
    table(
        "Value and gradient per call (float64)",
        ("function", "by", "median", "least", "against the emitted code"), rows,
    )  # fmt: skip


def check_agreement(calls: dict[str, Callable[[], Any]]) -> None:
    """All contestants compute the same: nothing else would be worth timing."""
    expected = _leaves(calls["emitted, bare"]())
    for name, call in calls.items():
        for one, other in zip(_leaves(call()), expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-12, err_msg=name)


def _leaves(tree: Any) -> list[Any]:
    if isinstance(tree, tuple | list):
        return [leaf for item in tree for leaf in _leaves(item)]
    return [np.asarray(tree)]


def run(quick: bool = False) -> None:
    """All measurements of this group."""
    print(f"flatgrad {flatgrad.__version__}")
    first_gradients(quick)
    long_functions(quick)
    overheads(quick)
    per_call(quick)
