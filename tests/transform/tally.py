"""Runs random programs and counts what happens to them: `python -m tests.transform.random_... 0 100`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from flatgrad import value_and_grad
from flatgrad.errors import FlatgradError


def as_near(found: Any, usual: Any, exact: Any) -> bool:
    """Whether a result in float32 is about as near to the one in float64 as NumPy's is."""
    room = 1e-4 * (1 + np.max(np.abs(exact), initial=0)) + 3 * np.abs(usual - exact)
    same = np.ndim(found) == 0 or found.dtype == usual.dtype
    both = np.isfinite(exact) & np.isfinite(usual)
    near = np.abs(found - exact) <= np.max(room, initial=0, where=both)
    return bool(same and np.shape(found) == np.shape(exact) and np.all(near | ~both))


def in_float32(
    f: Any, wide: list[Any], seed: int, active: tuple[int, ...], plain: Callable[[Any], Any]
) -> tuple[str, str]:
    """What is wrong with a program in float32, or why it is left out, and its text for Numba.

    In every third program an argument stays float64. `plain` makes a function of the text.
    """
    args = [np.float32(one) for one in wide]
    if seed % 3 == 0:
        args[seed % len(args)] = wide[seed % len(args)]
    wide = [np.float64(one) for one in args]
    try:
        exact, usual = (value_and_grad(f, argnums=active)(*given) for given in (wide, args))
    except FlatgradError:
        return "refused", ""
    except ValueError:
        return "raises", ""
    if abs(usual[0] - exact[0]) > 1e-4 * (1 + abs(exact[0])):
        return "raises", ""
    derived = value_and_grad(f, argnums=active, backend="numba")
    derived.source(*args)
    run, text = plain(derived)
    try:
        found = run(*args)
    except ZeroDivisionError:  # plain Python: a mean over no elements
        return "raises", text
    for one, other, true in zip(*[(v, *g) for v, g in (found, usual, exact)], strict=True):
        if not as_near(one, other, true):
            return f"seed {seed}: {one!r} is not {other!r}, {true!r}\n{text}", text
    return "", text


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
