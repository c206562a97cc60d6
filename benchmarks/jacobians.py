"""Jacobians on Numba next to their primals and to those written by hand: BA and HAND of ADBench.

Times are the processor's, the least of some rounds in which all take turns: a busy machine delays
them little.
"""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from benchmarks.adbench import ba, hand
from benchmarks.by_hand import bundle, skeleton
from benchmarks.measure import seconds, table
from flatgrad import jacobian, sparse_jacobian


def run(quick: bool) -> None:
    """Check and measure all, and print one table."""
    rounds = 30 if quick else 200
    rows = [_bundle(*size, rounds) for size in BUNDLES[: 1 if quick else None]]
    rows += [_skeleton(points, rounds) for points in (100, 400)]
    head = ("", "primal", "Jacobian", "/ primal", "by hand", "/ by hand")
    table("Jacobians on Numba", head, rows)


BUNDLES = ((49, 7_776, 31_843), (372, 47_423, 182_072))
"""Cameras, points and observations."""


def _compiled(module: Any, names: tuple[str, ...]) -> Any:
    """The last of some functions of a module, compiled with the others."""
    space = dict(vars(module))
    for name in names:
        exec(inspect.getsource(getattr(module, name)), space)
        space[name] = numba.njit(space[name], error_model="numpy")
    return space[names[-1]]


def _bundle(n: int, m: int, p: int, rounds: int) -> list[str]:
    """Bundle adjustment: the values of the sparse matrix."""
    args = ba.arguments(n, m, p)
    rows = {"camera": args[4], "point": args[5]}
    wrt = ("camera", "point", "weight")
    ours = sparse_jacobian(ba.residual, rows, wrt, backend="numba")
    primal = _compiled(ba, ("project", "loops"))

    # Ours has all errors along one axis of the picture, then those along the other.
    found = ours(*args[:4]).data
    both, alone = found[: 30 * p].reshape(2, p, 15), found[30 * p :]
    expected = np.concatenate((both.transpose(1, 0, 2).ravel(), alone))
    np.testing.assert_allclose(bundle.jacobian_values(*args), expected, rtol=1e-6, atol=1e-8)
    return _row(
        f"BA {p:,} observations", rounds, lambda: primal(*args), lambda: ours(*args[:4]),
        lambda: bundle.jacobian_values(*args),
    )  # fmt: skip


def _skeleton(points: int, rounds: int) -> list[str]:
    """A hand: three errors for each point by 26 angles."""
    args = hand.arguments(points)
    ours = jacobian(hand.errors, "theta", backend="numba")
    primal = _compiled(hand, ("bone_rotation", "global_rotation", "errors"))
    np.testing.assert_allclose(skeleton.jacobian(*args), ours(*args), rtol=1e-8, atol=1e-10)
    return _row(
        f"HAND {points} points", rounds, lambda: primal(*args), lambda: ours(*args),
        lambda: skeleton.jacobian(*args),
    )  # fmt: skip


def _row(title: str, rounds: int, *calls: Callable[[], object]) -> list[str]:
    best = [float("inf")] * len(calls)
    for _ in range(rounds):
        for k, call in enumerate(calls):
            start = time.thread_time()
            call()
            best[k] = min(best[k], time.thread_time() - start)
    primal, ours, by_hand = best
    return [
        title, seconds(primal), seconds(ours), f"{ours / primal:.2f}", seconds(by_hand),
        f"{ours / by_hand:.2f}",
    ]  # fmt: skip
