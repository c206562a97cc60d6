"""`python -m benchmarks [NAME ...] [--quick] [--write]`."""

from __future__ import annotations

import argparse
import importlib
import sys
import traceback

from benchmarks import machine
from benchmarks.measure import clean_environment, table
from benchmarks.workload import Workload

OTHER = ("start_up", "compile_times", "training", "jacobians")
"""Measurements of other things than workloads; they run when they are named."""


def main() -> None:
    """Run what is asked for, everything by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "names", nargs="*", metavar="NAME",
        help=f"a family, a part of a workload's title, {', '.join(OTHER)}; "
        "default: all workloads",
    )  # fmt: skip
    parser.add_argument("--quick", action="store_true", help="fewer workloads and repetitions")
    parser.add_argument("--cpu-time", action="store_true", help="for a machine that is busy")
    parser.add_argument("--write", action="store_true", help="write docs/benchmarks.md")
    parser.add_argument("--check", action="store_true", help="compare all, tiny; measure nothing")
    parser.add_argument("--ours", action="store_true", help="flatgrad and by hand only")
    options = parser.parse_args()
    if options.check:
        check_all(options.names, options.ours)
        return
    clean_environment()
    print(machine.description(), machine.load(), flush=True)
    names = [name for name in options.names if name not in OTHER]
    if names or not options.names:
        measure_all(names, options)
    for name in OTHER:
        if name in options.names:
            importlib.import_module(f"benchmarks.{name}").run(options.quick)


def chosen(names: list[str], quick: bool = False) -> list[Workload]:
    """The workloads of these names."""
    from benchmarks.workloads import ALL

    return [
        each for each in ALL
        if (each.quick or not quick or names)
        and (not names or any(n == each.family or n in each.title for n in names))
    ]  # fmt: skip


def measure_all(names: list[str], options: argparse.Namespace) -> None:
    """Tables for what is measured, one workload after the other."""
    from benchmarks.results import RATIOS, TIMES, measure, ratio_rows, time_rows
    from benchmarks.workload import PACKAGES

    results, failed = [], list[str]()
    for workload in chosen(names, options.quick):
        skipped = PACKAGES if options.ours else workload.slow if options.quick else ()
        others = tuple(name for name in PACKAGES if name not in skipped)
        try:
            result = measure(workload, others, options.quick, options.cpu_time)
        except Exception:
            traceback.print_exc()
            failed.append(workload.title)
            continue
        results.append(result)
        for style in ratio_rows(result):
            print("; ".join(f"{k} {v}" for k, v in zip(RATIOS, style, strict=True) if v),
                  flush=True)  # fmt: skip
    table("Value and gradient: median", TIMES, [r for x in results for r in time_rows(x)])
    table("Ratios", RATIOS, [r for x in results for r in ratio_rows(x)])
    if options.write:
        from benchmarks.page import write_page

        write_page(results, options.cpu_time, options.quick)
    if failed:
        sys.exit(f"not measured: {', '.join(failed)}")


def check_all(names: list[str], ours: bool = False) -> None:
    """Compare all contestants at tiny sizes, each function once."""
    from benchmarks.workload import PACKAGES, check, contestants, derivatives

    backend = "numpy" if ours else "numba"  # without other packages, nothing is compiled
    seen = set()
    for workload in chosen(names):
        key = (workload.by_hand, workload.tiny)
        if key in seen:
            continue
        seen.add(key)
        args = workload.arguments(tiny=True)
        packages = () if ours else tuple(PACKAGES)
        calls = contestants(workload, args, derivatives(workload, args, backend), packages)
        check(workload, calls)
        print(f"{workload.title}: {', '.join(name for name in calls if name != 'primal')} agree")


if __name__ == "__main__":
    main()
