"""Measuring a workload, and the rows of tables about it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.measure import interleaved, ratio, seconds, spread
from benchmarks.tape import first_call_seconds, taped_bytes
from benchmarks.workload import (
    PACKAGES,
    Workload,
    check,
    contestants,
    derivatives,
    fitting,
)


@dataclass
class Result:
    """Times of everyone on one workload; what only flatgrad has, by the style of the function."""

    title: str
    family: str
    times: dict[str, list[float]]
    first: dict[str, float]
    tape: dict[str, float]

    def median(self, name: str) -> str:
        """Median and spread, or nothing for who is absent."""
        if name not in self.times:
            return ""
        middle, wide = statistics.median(self.times[name]), spread(self.times[name])
        return seconds(middle) + (f" ±{100 * wide:.0f}%" if wide == wide else "")

    def ratio(self, one: str, other: str) -> str:
        """How much longer `one` takes."""
        both = one in self.times and other in self.times
        return f"{ratio(self.times, one, other):.2f}" if both else ""


def measure(workload: Workload, others: Sequence[str], quick: bool, cpu_time: bool) -> Result:
    """All contestants on one workload, after a look at whether they agree."""
    args = workload.arguments()
    ours = derivatives(workload, args)
    first = {}
    for style, derived in ({} if quick else ours).items():
        first[style] = first_call_seconds(derived, fitting(derived, args))
    calls = contestants(workload, args, ours, others)
    check(workload, calls)
    rounds = max(5, workload.rounds // 4) if quick else workload.rounds
    clock = time.process_time if cpu_time else time.perf_counter
    times = interleaved(calls, rounds, budget=0.3 if quick else 10.0, clock=clock)
    return Result(workload.title, workload.family, times, first, _tape(workload, ours))


def _tape(workload: Workload, ours: dict[str, Any]) -> dict[str, float]:
    """Bytes per step, counted over few."""
    if workload.few is None:
        return {}
    sizes, steps = workload.few
    args = workload.make(*sizes)
    found = {}
    for style, derived in ours.items():
        found[style] = taped_bytes(derived, fitting(derived, args)) / steps
    return found


TIMES = ("workload", "primal", "by hand", "flatgrad", *PACKAGES)
RATIOS = (
    "workload", "written as", "flatgrad / JAX", "flatgrad / by hand", "gradient / primal",
    "tape per step", "first call",
)  # fmt: skip


def styles(result: Result) -> list[str]:
    """How the function is written for flatgrad."""
    return [name.partition(", ")[2] for name in result.times if name.startswith("flatgrad")]


def time_rows(result: Result) -> list[tuple[str, ...]]:
    """One row; flatgrad with each of the styles."""
    ours = "; ".join(f"{style} {result.median(f'flatgrad, {style}')}" for style in styles(result))
    return [
        (result.title, result.median("primal"), result.median("by hand"), ours,
         *(result.median(name) for name in PACKAGES))
    ]  # fmt: skip


def ratio_rows(result: Result) -> list[tuple[str, ...]]:
    """A row for each style."""
    rows = []
    for style in styles(result):
        name = f"flatgrad, {style}"
        tape = f"{result.tape[style]:,.0f} B" if style in result.tape else ""
        first = seconds(result.first[style]) if style in result.first else ""
        rows.append(
            (result.title, style, *(result.ratio(name, other) for other in ("JAX", "by hand")),
             result.ratio(name, "primal"), tape, first)
        )  # fmt: skip
    return rows
