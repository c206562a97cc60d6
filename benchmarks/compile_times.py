"""Numba: the whole process to the first gradient, with an empty cache and from the disk.

processor time of a Python process: imports, the derivative, Numba, the call
compile time of functions of 250 to 2,000 statements
"""

from __future__ import annotations

import inspect
import pathlib
import tempfile
import time

from benchmarks.measure import in_fresh_processes, seconds, table
from benchmarks.start_up import load, long_text
from benchmarks.workloads import networks
from flatgrad import grad

LENGTHS = (250, 500, 1000, 2000)

PROGRAM = """
import numpy as np
from typing import Any
from flatgrad import grad, sigmoid

{sources}
"""

FIRST = """
import time
import {module} as program
from flatgrad import grad
grad(program.{function}, argnums={argnums!r}, backend="numba")(*program.{arguments})
print(time.process_time())
"""


def whole_processes(quick: bool) -> None:
    """Python itself, NumPy and Numba are part of it."""
    runs = 3 if quick else 9
    used = networks.neuron, networks.neuron_arguments, networks.two_layer, networks.net_arguments
    sources = "\n\n".join(map(inspect.getsource, used))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        pathlib.Path(folder, "program.py").write_text(PROGRAM.format(sources=sources))
        for name, *values in (
            ("sigmoid neuron", "neuron", "neuron_arguments()", None),
            ("two-layer net", "two_layer", "net_arguments(16, 8, 16, 3)", ("W1", "b1", "W2", "b2")),
        ):
            function, arguments, argnums = values
            first = FIRST.format(
                module="program", function=function, arguments=arguments, argnums=argnums
            )
            code = f"import sys; sys.path.insert(0, {folder!r}){first}"
            cold = in_fresh_processes(code, runs)
            in_fresh_processes(code, 1, folder)
            warm = in_fresh_processes(code, runs, folder)
            rows.append((name, seconds(min(cold)), seconds(min(warm))))
    table(
        f"A process to its first gradient, Numba backend: processor time, least of {runs}",
        ("function", "empty cache", "from the disk"), rows,
    )  # fmt: skip


def long_functions() -> None:
    """The time for a line should not depend on the number of lines."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for length in (20, *LENGTHS):  # the first has Numba load what it needs
            module = load(long_text(length), f"long_{length}_numba", folder)
            derived = grad(module.long, backend="numba")
            start = time.process_time()
            lines = derived.source(0.3, 0.2).count("\n")
            ours = time.process_time() - start
            derived(0.3, 0.2)
            whole = time.process_time() - start
            each = seconds((whole - ours) / lines)
            rows.append((f"{length:,}", f"{lines:,}", seconds(ours), seconds(whole - ours), each))
    table(
        "Straight-line functions, Numba backend: processor time",
        ("statements", "emitted lines", "flatgrad", "Numba", "Numba per line"), rows[1:],
    )  # fmt: skip


def run(quick: bool = False) -> None:
    """All measurements of this group."""
    whole_processes(quick)
    long_functions()
