"""Loops: gradient over primal, next to JAX's best form.

Lotka-Volterra by Runge-Kutta steps, explicit heat equations, an LSTM over time, Black-Scholes
paths: written as one writes them, with scalar loops and in-place writes, and where natural as array
statements too. The primal is the function itself under `numba.njit`; JAX has `lax.scan` with
`jax.checkpoint`, which is the faster form for small bodies. All gradients are compared first.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import statistics
import tempfile
import time
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import numpy as np

from benchmarks import loop_programs
from benchmarks.measure import interleaved, ratio, seconds, table
from flatgrad import value_and_grad


@dataclass
class Program:
    """A function with arguments, and what is wanted of it."""

    title: str
    function: Callable[..., Any]
    args: tuple[Any, ...]
    argnums: tuple[int, ...]
    other: str
    steps: int
    rounds: int = 40


def programs() -> list[Program]:
    """The loop programs at the sizes of the table."""
    rng = np.random.default_rng(0)
    u0 = np.sin(np.linspace(0.0, 3.0, 1000)) + 0.1 * rng.normal(size=1000)
    orbit = (1.1, 0.4, 0.1, 0.4, 10.0, 5.0, 0.01, 10_000)
    option = (100.0, 105.0, 0.03, 0.2, 1.0, rng.normal(size=1_000_000))
    p = loop_programs
    four, heat = (0, 1, 2, 3), (0, 1)
    return [
        Program("RK4, 10,000 steps", p.lotka_volterra, orbit, (*four, 4, 5), "orbit", 10_000),
        Program("heat 1000 x 1000, by u0", p.heat, (u0, 0.2, 1000), (0,), "heat", 1000),
        Program("heat, by u0 and alpha", p.heat, (u0, 0.2, 1000), heat, "heat", 1000),
        Program("heat, slices", p.heat_slices, (u0, 0.2, 1000), heat, "heat", 1000),
        Program("heat, nonlinear", p.heat_nonlinear, (u0, 0.2, 1000), heat, "conduction", 1000),
        Program("heat, nonlinear, slices", p.heat_nonlinear_slices, (u0, 0.2, 1000), heat,
                "conduction", 1000),
        Program("LSTM T=100 H=32", p.lstm, lstm_arguments(None), (0, 1, 2), "lstm", 100, 200),
        Program("LSTM, batch 16", p.lstm_batch, lstm_arguments(16), (0, 1, 2), "lstm", 100),
        Program("Black-Scholes, 1e6 paths", p.black_scholes, option, (*four, 4), "option",
                1_000_000),
    ]  # fmt: skip


def lstm_arguments(batch: int | None) -> tuple[Any, ...]:
    """Weights, inputs of 100 time steps and a target."""
    rng = np.random.default_rng(1)
    T, D, H = 100, 32, 32
    wide = () if batch is None else (batch,)
    return (
        rng.normal(size=(D, 4 * H)) / np.sqrt(D), rng.normal(size=(H, 4 * H)) / np.sqrt(H),
        np.zeros(4 * H), rng.normal(size=(T, *wide, D)), rng.normal(size=(*wide, H)),
    )  # fmt: skip


def jax_forms() -> dict[str, Callable[..., Any]]:
    """The programs for JAX."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)

    def steps(body, start, n):
        once = jax.checkpoint(lambda state, _: (body(state), None))
        return jax.lax.scan(once, start, None, length=n)[0]

    def orbit(a, b, c, d, x, y, dt, n):
        def slope(x, y):
            return a * x - b * x * y, c * x * y - d * y

        def step(state):
            x, y = state
            k1x, k1y = slope(x, y)
            k2x, k2y = slope(x + 0.5 * dt * k1x, y + 0.5 * dt * k1y)
            k3x, k3y = slope(x + 0.5 * dt * k2x, y + 0.5 * dt * k2y)
            k4x, k4y = slope(x + dt * k3x, y + dt * k3y)
            return (
                x + dt / 6 * (k1x + 2 * k2x + 2 * k3x + k4x),
                y + dt / 6 * (k1y + 2 * k2y + 2 * k3y + k4y),
            )

        x, y = steps(step, (x, y), n)
        return x + y

    def heat(u, alpha, n):
        def step(u):
            inner = u[1:-1] + alpha * (u[:-2] - 2 * u[1:-1] + u[2:])
            return jnp.concatenate([u[:1], inner, u[-1:]])

        u = steps(step, u, n)
        return jnp.sum(u * u)

    def conduction(u, alpha, n):
        def step(u):
            k = alpha / (1 + u[1:-1] * u[1:-1])
            inner = u[1:-1] + k * (u[:-2] - 2 * u[1:-1] + u[2:])
            return jnp.concatenate([u[:1], inner, u[-1:]])

        u = steps(step, u, n)
        return jnp.sum(u * u)

    def lstm(Wx, Wh, b, xs, target):
        H = Wh.shape[0]

        @jax.checkpoint
        def step(state, x):
            h, c = state
            z = x + h @ Wh
            i, f, o = (jax.nn.sigmoid(z[..., k * H : (k + 1) * H]) for k in range(3))
            c = f * c + i * jnp.tanh(z[..., 3 * H :])
            return (o * jnp.tanh(c), c), None

        start = jnp.zeros(target.shape)
        (h, _), _ = jax.lax.scan(step, (start, start), xs @ Wx + b)
        return jnp.sum((h - target) ** 2)

    def option(S, K, r, sigma, T, z):
        s = S * jnp.exp((r - 0.5 * sigma * sigma) * T + sigma * jnp.sqrt(T) * z)
        return jnp.exp(-r * T) * jnp.sum(jnp.maximum(s - K, 0)) / len(z)

    return {form.__name__: form for form in (orbit, heat, conduction, lstm, option)}


def jax_contestant(program: Program) -> Callable[[], Any]:
    """The value and gradient by JAX, compiled; sizes are static."""
    import jax
    import jax.numpy as jnp

    form = jax_forms()[program.other]
    static = tuple(k for k, x in enumerate(program.args) if isinstance(x, int))
    compiled = jax.jit(jax.value_and_grad(form, program.argnums), static_argnums=static)
    placed = [
        x if k in static else jnp.asarray(x, dtype=float) for k, x in enumerate(program.args)
    ]
    return lambda: jax.block_until_ready(compiled(*placed))


TAPE = re.compile(r"^ *(\w*_tape\w*) = ", re.MULTILINE)


def taped_bytes(derived: Any, args: tuple[Any, ...]) -> int:
    """Bytes of all tapes: the emitted text run as plain Python, asked for its arrays at the end."""
    compiled = derived.__flatgrad__.last.compiled
    text = re.sub(r"^@numba\.njit.*\n", "", compiled.module.text, flags=re.MULTILINE)
    names = sorted(set(TAPE.findall(text)))
    text = re.sub(
        r"^    return (?=.*\Z)",
        f"    found.extend(map(nbytes, [{', '.join(names)}]))\n    return ",
        text.rstrip(), flags=re.MULTILINE,
    )  # fmt: skip
    found: list[int] = []
    space: dict[str, Any] = {"found": found, "nbytes": lambda x: getattr(x, "nbytes", 0)}
    exec(text, space)
    space[compiled.module.name](*args)
    return sum(found)


def tape_per_step(derived: Any, program: Program) -> str:
    """Bytes of tape for each step of the outermost loop; counted over fewer steps."""
    few = 50
    args = tuple(
        few if isinstance(x, int) and x > few else x for x in program.args
    )
    if program.function is loop_programs.black_scholes:
        args = (*args[:-1], args[-1][:few])
    steps = 100 if program.other == "lstm" else few
    return f"{taped_bytes(derived, args) / steps:,.0f} B"


def compile_seconds(program: Program) -> float:
    """From nothing to compiled code, with an empty cache."""
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(
        os.environ, {"FLATGRAD_CACHE_DIR": folder}
    ):
        start = time.perf_counter()
        derived = value_and_grad(program.function, argnums=program.argnums, backend="numba")
        derived(*program.args)
        return time.perf_counter() - start


def compiled_primal(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function under Numba; flatgrad's `sigmoid`, which Numba does not know, as a user's."""
    import numba

    sigmoid = numba.njit(lambda x: 1 / (1 + np.exp(-x)))
    names = {**function.__globals__, "sigmoid": sigmoid}
    compiled: Callable[..., Any] = numba.njit(types.FunctionType(function.__code__, names))
    return compiled


def measure(program: Program, quick: bool, show: bool) -> tuple[str, ...]:
    """A row of the table."""
    primal = compiled_primal(program.function)
    primal(*program.args)
    took = compile_seconds(program)
    derived = value_and_grad(program.function, argnums=program.argnums, backend="numba")
    expected = derived(*program.args)
    calls: dict[str, Callable[[], Any]] = {
        "primal": functools.partial(primal, *program.args),
        "flatgrad": functools.partial(derived, *program.args),
    }
    if importlib.util.find_spec("jax"):
        calls["JAX"] = jax_contestant(program)
        check_agreement(expected, calls["JAX"]())
    np.testing.assert_allclose(calls["primal"](), expected[0], rtol=1e-9)
    times = interleaved(calls, program.rounds // 4 if quick else program.rounds)
    if show:
        print(derived.source())
    middle = {name: statistics.median(found) for name, found in times.items()}
    against = [
        seconds(middle["JAX"]), f"{ratio(times, 'flatgrad', 'JAX'):.2f}"
    ] if "JAX" in calls else ["", ""]
    return (
        program.title, seconds(middle["primal"]), seconds(middle["flatgrad"]),
        f"{ratio(times, 'flatgrad', 'primal'):.2f}", *against,
        tape_per_step(derived, program), seconds(took),
    )  # fmt: skip


def check_agreement(ours: Any, theirs: Any) -> None:
    """The same value and the same gradients."""
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-9)
    for one, other in zip(ours[1], theirs[1], strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-10)


def run(quick: bool = False, only: str | None = None, show: bool = False) -> None:
    """All measurements of this group; `only` picks programs by a part of their title."""
    rows = [measure(p, quick, show) for p in programs() if not only or only in p.title]
    table(
        "Loops: value and gradient with Numba, float64",
        ("program", "primal", "gradient", "over primal", "JAX", "over JAX", "tape per step",
         "first call"), rows,
    )  # fmt: skip
