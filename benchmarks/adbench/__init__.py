"""The four objectives of ADBench (Microsoft Research), written as users write NumPy and loops.

`gmm`, `lstm`, `ba` and `hand` hold the objectives and draw their data; `in_jax` has the forms that
suit JAX best. `run` times value and derivative of each, all contestants taking turns.
"""

from __future__ import annotations

import functools
import importlib.util
import statistics
from collections.abc import Callable
from typing import Any

import numba
import numpy as np

from benchmarks.adbench import gmm, hand, lstm
from benchmarks.measure import interleaved, ratio, seconds, table
from flatgrad import jacobian, value_and_grad
from flatgrad.backends import numba_activations

numba_activations.register()  # for the primal, which calls sigmoid, where nothing is installed

Calls = dict[str, Callable[[], Any]]
HAS_JAX = importlib.util.find_spec("jax") is not None


def gmm_calls(n: int, d: int, k: int) -> Calls:
    """The gradient by all parameters, from loops and from arrays."""
    args = (*gmm.arguments(n, d, k), gmm.WISHART_GAMMA, gmm.WISHART_M, gmm.constant(n, d, k))
    triangle = gmm.triangle(d)
    names = ("alphas", "means", "icf")
    calls: Calls = {"primal": functools.partial(numba.njit(gmm.loops), *args)}
    for name, function, more in (("loops", gmm.loops, ()), ("arrays", gmm.arrays, triangle)):
        derived = value_and_grad(function, argnums=names, backend="numba")
        calls[f"flatgrad, {name}"] = functools.partial(derived, *args, *more)
    if HAS_JAX:
        import jax

        from benchmarks.adbench import in_jax

        objective = in_jax.gmm(n, d, k, *triangle)
        calls["JAX"] = in_jax.ready(jax.value_and_grad(objective, (0, 1, 2)), *args)
    return calls


def lstm_calls(layers: int, steps: int) -> Calls:
    """The gradient by both sets of parameters."""
    args = lstm.arguments(layers, steps)
    names = ("main_params", "extra_params")
    calls: Calls = {"primal": functools.partial(numba.njit(lstm.loops), *args)}
    for name, function in (("loops", lstm.loops), ("arrays", lstm.arrays)):
        derived = value_and_grad(function, argnums=names, backend="numba")
        calls[f"flatgrad, {name}"] = functools.partial(derived, *args)
    if HAS_JAX:
        import jax

        from benchmarks.adbench import in_jax

        calls["JAX"] = in_jax.ready(jax.value_and_grad(in_jax.lstm, (0, 1)), *args)
    return calls


def hand_calls(points: int) -> Calls:
    """The Jacobian of all errors by the 26 angles."""
    args = hand.arguments(points)
    derived = jacobian(hand.errors, argnums="theta", backend="numba")
    calls: Calls = {
        "primal": functools.partial(hand.errors, *args),
        "flatgrad": lambda: np.asarray(derived(*args)),
    }
    if HAS_JAX:
        import jax

        from benchmarks.adbench import in_jax

        calls["JAX"] = in_jax.ready(jax.jacfwd(in_jax.hand(hand.PARENTS)), *args)
    return calls


def checked(calls: Calls) -> Calls:
    """The same calls, after a look at whether all derivatives agree."""
    found = {name: _leaves(call()) for name, call in calls.items() if name != "primal"}
    expected = next(iter(found.values()))
    for name, leaves in found.items():
        for one, other in zip(leaves, expected, strict=True):
            scale = np.max(np.abs(other)) or 1.0
            np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-9 * scale, err_msg=name)
    return calls


def _leaves(tree: Any) -> list[np.ndarray]:
    if isinstance(tree, tuple | list):
        return [leaf for item in tree for leaf in _leaves(item)]
    return [np.asarray(tree)]


SIZES: tuple[tuple[str, Callable[..., Calls], tuple[int, ...], bool], ...] = (
    ("GMM 1k, 2, 5", gmm_calls, (1000, 2, 5), True),
    ("GMM 1k, 10, 25", gmm_calls, (1000, 10, 25), True),
    ("GMM 1k, 32, 25", gmm_calls, (1000, 32, 25), False),
    ("GMM 1k, 64, 25", gmm_calls, (1000, 64, 25), False),
    ("LSTM 2, 1024", lstm_calls, (2, 1024), True),
    ("LSTM 4, 1024", lstm_calls, (4, 1024), False),
    ("HAND simple 100", hand_calls, (100,), True),
)
"""Title, contestants, sizes, and whether the quick round has it, too."""


def run(quick: bool = False) -> None:
    """Value and derivative of each objective per call."""
    rows = []
    for title, make, sizes, short in SIZES:
        if quick and not short:
            continue
        calls = checked(make(*sizes))
        times = interleaved(calls, 5 if quick else 30)
        for name in calls:
            against = [
                f"{ratio(times, name, other):.2f}" if other in calls else ""
                for other in ("primal", "JAX")
            ]
            rows.append((title, name, seconds(statistics.median(times[name])), *against))
            title = ""
    table(
        "ADBench: value and derivative per call (float64)",
        ("objective", "by", "median", "against the primal", "against JAX"), rows,
    )  # fmt: skip
