"""Straight-line code: the way to the first gradient, and what a call costs.

wall time from @grad to the first gradient, in fresh processes
compile time of functions of 500 to 4,000 statements
what the public function adds to the emitted one
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
from benchmarks.measure import in_fresh_processes, interleaved, seconds, table
from benchmarks.workloads.networks import neuron, neuron_arguments
from flatgrad import grad

LENGTHS = (500, 1000, 2000, 4000)
WEIGHTS = ("W1", "b1", "W2", "b2")


def four_arrays(a, b, c, d):
    """As little work as four arrays allow."""
    return np.sum(a * b + c * d)


SMALL = (16, 8, 16, 3)


# --- from the decorator to the first gradient

FIRST = """
import time
import numpy as np
from benchmarks import start_up as b
from benchmarks.workloads import networks
from flatgrad import grad
arguments = networks.{arguments}
start = time.perf_counter()
grad(networks.{function}, argnums={argnums!r})(*arguments)
print(time.perf_counter() - start)
"""


def first_gradients(quick: bool) -> None:
    """Wall time in a process that has imported flatgrad and compiled nothing."""
    runs = 5 if quick else 15
    rows = []
    for name, target, values in (
        ("sigmoid neuron", 0.020, ("neuron", "neuron_arguments()", None)),
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
        ("five floats", neuron, neuron_arguments(), 1e-6),
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


def run(quick: bool = False) -> None:
    """All measurements of this group."""
    print(f"flatgrad {flatgrad.__version__}")
    first_gradients(quick)
    long_functions(quick)
    overheads(quick)
