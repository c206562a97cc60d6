"""What measurements share: times of interleaved contestants, fresh processes, tables.

interleaved({"ours": f, "theirs": g}, rounds=200)   ->   seconds per call, for each round
"""

from __future__ import annotations

import gc
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence

BATCH = 2e-4
"""Seconds that one timed batch of calls lasts at least; the clock is then no part of the figure."""


ONE_THREAD = {
    "OPENBLAS_NUM_THREADS": "1",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
}


def clean_environment() -> None:
    """Start again where the environment must be another: it is read when libraries are loaded.

    OPENBLAS_CORETYPE, which forces a BLAS kernel, is unset; every contestant has one thread.
    """
    wanted = {**os.environ, **ONE_THREAD}
    wanted.pop("OPENBLAS_CORETYPE", None)
    if wanted != dict(os.environ):
        changed = sorted(k for k in {*wanted, *os.environ} if wanted.get(k) != os.environ.get(k))
        print("set or unset for these measurements:", ", ".join(changed), flush=True)
        os.execve(sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]], wanted)


def interleaved(
    contestants: dict[str, Callable[[], object]], rounds: int, budget: float = 10.0,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, list[float]]:  # fmt: skip
    """Seconds per call of each contestant in each round, in an order that changes.

    Each is called before timing starts, and as often per round as makes a batch. A library whose
    threads still spin slows down whoever comes next: no one comes always after the same. Who would
    take more than `budget` seconds has fewer rounds, at least one. Seconds are those of `clock`.
    """
    counts, most = {}, {}
    for name, call in contestants.items():
        start = clock()
        call()
        took = max(clock() - start, 1e-8)
        counts[name] = max(1, int(BATCH / took))
        most[name] = max(1, min(rounds, int(budget / (took * counts[name]))))
    times: dict[str, list[float]] = {name: [] for name in contestants}
    order = random.Random(0)
    gc.collect()
    gc.disable()
    try:
        for k in range(rounds):
            present = [name for name in contestants if k < most[name]]
            for name in order.sample(present, len(present)):
                call, repeat = contestants[name], range(counts[name])
                start = clock()
                for _ in repeat:
                    call()
                times[name].append((clock() - start) / counts[name])
    finally:
        gc.enable()
    return times


def ratio(times: dict[str, list[float]], one: str, other: str) -> float:
    """The median over the rounds of how much longer `one` takes."""
    pairs = zip(times[one], times[other], strict=False)
    return statistics.median(a / b for a, b in pairs)


def spread(values: Sequence[float]) -> float:
    """Half the distance of the quartiles, in parts of the median."""
    if len(values) < 4:
        return float("nan")
    low, middle, high = statistics.quantiles(values, n=4)
    return (high - low) / 2 / middle


def in_fresh_processes(code: str, runs: int, cache: str | None = None) -> list[float]:
    """What `code` prints, a number, in each of several new processes.

    Each has an empty cache of its own, unless there is one for all. Modules are loaded as Python
    has compiled them before, as those of an installed package are.
    """
    found = []
    ours = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(runs):
        with tempfile.TemporaryDirectory() as folder:
            environment = {**ours, "FLATGRAD_CACHE_DIR": cache or folder}
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
