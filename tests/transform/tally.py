"""Runs random programs and counts what happens to them: `python -m tests.transform.random_... 0 100`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np


def tally(outcome: Callable[[int, Path], str], kinds: Collection[str]) -> None:
    """The counts for the seeds of the command line; what is none of `kinds` failed, and is shown."""
    first, last = map(int, sys.argv[1:3])
    counts: dict[str, int] = {}
    with tempfile.TemporaryDirectory() as folder, np.errstate(all="ignore"):
        for seed in range(first, last):
            found = outcome(seed, Path(folder))
            kind = found if found in kinds else "failed"
            counts[kind] = counts.get(kind, 0) + 1
            if kind == "failed":
                print(found, flush=True)
    print(counts)
