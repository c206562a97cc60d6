"""What measurements share: times of interleaved contestants, fresh processes, tables.

interleaved({"ours": f, "theirs": g}, rounds=200)   ->   median seconds per call of each
"""

from __future__ import annotations

import gc
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

import numpy as np

BATCH = 2e-4
"""Seconds that one timed batch of calls lasts at least; the clock is then no part of the figure."""


ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


def clean_environment(one_thread: bool) -> None:
    """Start again where the environment must be another: it is read when libraries are loaded.

    OPENBLAS_CORETYPE, which forces a BLAS kernel, is unset. One thread for all contestants is the
    setting for a busy machine, where threads wait for each other.
    """
    wanted = dict(os.environ)
    wanted.pop("OPENBLAS_CORETYPE", None)
    if one_thread:
        wanted.update(ONE_THREAD)
    if wanted != dict(os.environ):
        changed = sorted(k for k in {*wanted, *os.environ} if wanted.get(k) != os.environ.get(k))
        print("set or unset for these measurements:", ", ".join(changed), flush=True)
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]], wanted)


def conditions() -> str:
    """The machine, and how busy it is."""
    load = f", load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
    return f"Python {platform.python_version()}, NumPy {np.__version__}{load}"


def interleaved(
    contestants: dict[str, Callable[[], object]], rounds: int
) -> dict[str, list[float]]:
    """Seconds per call of each contestant in each round, in an order that changes.

    Each is called before timing starts, and as often per round as makes a batch. A library whose
    threads still spin slows down whoever comes next: no one comes always after the same.
    """
    counts = {}
    for name, call in contestants.items():
        call()
        start = time.perf_counter()
        call()
        counts[name] = max(1, int(BATCH / max(time.perf_counter() - start, 1e-8)))
    times: dict[str, list[float]] = {name: [] for name in contestants}
    order = random.Random(0)
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for name in order.sample(list(contestants), len(contestants)):
                call, repeat = contestants[name], range(counts[name])
                start = time.perf_counter()
                for _ in repeat:
                    call()
                times[name].append((time.perf_counter() - start) / counts[name])
    finally:
        gc.enable()
    return times


def ratio(times: dict[str, list[float]], one: str, other: str) -> float:
    """The median over the rounds of how much longer `one` takes."""
    pairs = zip(times[one], times[other], strict=True)
    return statistics.median(a / b for a, b in pairs)


def in_fresh_processes(code: str, runs: int) -> list[float]:
    """What `code` prints, a number, in each of several new processes with an empty cache."""
    found = []
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            environment = {**os.environ, "FLATGRAD_CACHE_DIR": folder}
            done = subprocess.run(
                [sys.executable, "-c", code], env=environment, capture_output=True, text=True,
                check=True,
            )  # fmt: skip
        found.append(float(done.stdout))
    return found


def seconds(value: float) -> str:
    """A time with a unit that suits it."""
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-9:.3g} ns"


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns; the first is flush left."""
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    print(f"\n{title}")
    for row in (head, *rows):
        first, *rest = (
            text.ljust(width) if k == 0 else text.rjust(width)
            for k, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        print("  " + "  ".join([first, *rest]).rstrip(), flush=True)
