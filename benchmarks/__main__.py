"""`python -m benchmarks [GROUP ...] [--quick] [--one-thread]`."""

from __future__ import annotations

import argparse
import importlib

from benchmarks.measure import clean_environment, conditions

GROUPS = ("straight_line", "loops", "training", "adbench")


def main() -> None:
    """Run the groups that are asked for, all by default."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--one-thread", action="store_true", help="for BLAS, OpenMP and XLA")
    options = parser.parse_args()
    if unknown := set(options.groups) - set(GROUPS):
        parser.error(f"no group {', '.join(sorted(unknown))}; there are {', '.join(GROUPS)}")
    clean_environment(options.one_thread)
    print(conditions())
    for name in options.groups or GROUPS:
        importlib.import_module(f"benchmarks.{name}").run(quick=options.quick)


if __name__ == "__main__":
    main()
