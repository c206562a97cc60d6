"""Time loops: Lotka-Volterra by Runge-Kutta, heat in a rod, Black-Scholes paths."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.by_hand import steps as by_hand
from benchmarks.workload import Workload

# --- as users write them


def lotka_volterra(a, b, c, d, x0, y0, dt, n):
    """Hares and lynxes after n classical Runge-Kutta steps."""
    x = x0
    y = y0
    for _ in range(n):
        k1x = a * x - b * x * y
        k1y = c * x * y - d * y
        x2 = x + 0.5 * dt * k1x
        y2 = y + 0.5 * dt * k1y
        k2x = a * x2 - b * x2 * y2
        k2y = c * x2 * y2 - d * y2
        x3 = x + 0.5 * dt * k2x
        y3 = y + 0.5 * dt * k2y
        k3x = a * x3 - b * x3 * y3
        k3y = c * x3 * y3 - d * y3
        x4 = x + dt * k3x
        y4 = y + dt * k3y
        k4x = a * x4 - b * x4 * y4
        k4y = c * x4 * y4 - d * y4
        x = x + dt / 6 * (k1x + 2 * k2x + 2 * k3x + k4x)
        y = y + dt / 6 * (k1y + 2 * k2y + 2 * k3y + k4y)
    return x + y


def heat(u0, alpha, steps):
    """The explicit scheme in two buffers."""
    u = u0.copy()
    v = u0.copy()
    n = len(u)
    for _ in range(steps):
        for i in range(1, n - 1):
            v[i] = u[i] + alpha * (u[i - 1] - 2 * u[i] + u[i + 1])
        u, v = v, u
    return np.sum(u * u)


def heat_slices(u0, alpha, steps):
    """The same with array statements."""
    u = u0.copy()
    for _ in range(steps):
        u[1:-1] = u[1:-1] + alpha * (u[:-2] - 2 * u[1:-1] + u[2:])
    return np.sum(u * u)


def heat_nonlinear(u0, alpha, steps):
    """A conductivity that depends on the temperature."""
    u = u0.copy()
    v = u0.copy()
    n = len(u)
    for _ in range(steps):
        for i in range(1, n - 1):
            k = alpha / (1 + u[i] * u[i])
            v[i] = u[i] + k * (u[i - 1] - 2 * u[i] + u[i + 1])
        u, v = v, u
    return np.sum(u * u)


def heat_nonlinear_slices(u0, alpha, steps):
    """The same with array statements."""
    u = u0.copy()
    for _ in range(steps):
        k = alpha / (1 + u[1:-1] * u[1:-1])
        u[1:-1] = u[1:-1] + k * (u[:-2] - 2 * u[1:-1] + u[2:])
    return np.sum(u * u)


def black_scholes(S, K, r, sigma, T, z):
    """A call option by simulated paths."""
    drift = (r - 0.5 * sigma * sigma) * T
    vol = sigma * math.sqrt(T)
    total = 0.0
    for i in range(len(z)):
        s = S * math.exp(drift + vol * z[i])
        if s > K:
            total += s - K
    return math.exp(-r * T) * total / len(z)


def black_scholes_arrays(S, K, r, sigma, T, z):
    """All paths at once."""
    s = S * np.exp((r - 0.5 * sigma * sigma) * T + sigma * np.sqrt(T) * z)
    return np.exp(-r * T) * np.mean(np.maximum(s - K, 0))


# --- for the other packages


def _rates(a, b, c, d):
    return lambda x, y: (a * x - b * x * y, c * x * y - d * y)


def _runge_kutta(slope, x, y, dt):
    k1x, k1y = slope(x, y)
    k2x, k2y = slope(x + 0.5 * dt * k1x, y + 0.5 * dt * k1y)
    k3x, k3y = slope(x + 0.5 * dt * k2x, y + 0.5 * dt * k2y)
    k4x, k4y = slope(x + dt * k3x, y + dt * k3y)
    return (
        x + dt / 6 * (k1x + 2 * k2x + 2 * k3x + k4x),
        y + dt / 6 * (k1y + 2 * k2y + 2 * k3y + k4y),
    )


def _plain_orbit(a, b, c, d, x, y, dt, n):
    for _ in range(n):
        x, y = _runge_kutta(_rates(a, b, c, d), x, y, dt)
    return x + y


def _inside(u, alpha, linear):
    k = alpha if linear else alpha / (1 + u[1:-1] * u[1:-1])
    return u[1:-1] + k * (u[:-2] - 2 * u[1:-1] + u[2:])


def _plain_heat(linear: bool, concatenate: Callable[..., Any]) -> Callable[..., Any]:
    def heat(u, alpha, n):
        for _ in range(n):
            u = concatenate([u[:1], _inside(u, alpha, linear), u[-1:]])
        return (u * u).sum()

    return heat


def _in_jax(name: str) -> Callable[..., Any]:
    """With `lax.scan`, and `jax.checkpoint` of the small bodies: the faster form."""
    import jax
    import jax.numpy as jnp

    def steps(body, start, n):
        once = jax.checkpoint(lambda state, _: (body(state), None))
        return jax.lax.scan(once, start, None, length=n)[0]

    def orbit(a, b, c, d, x, y, dt, n):
        x, y = steps(lambda s: _runge_kutta(_rates(a, b, c, d), *s, dt), (x, y), n)
        return x + y

    def heat(u, alpha, n, linear):
        def step(u):
            return jnp.concatenate([u[:1], _inside(u, alpha, linear), u[-1:]])

        u = steps(step, u, n)
        return jnp.sum(u * u)

    def option(S, K, r, sigma, T, z):
        s = S * jnp.exp((r - 0.5 * sigma * sigma) * T + sigma * jnp.sqrt(T) * z)
        return jnp.exp(-r * T) * jnp.sum(jnp.maximum(s - K, 0)) / len(z)

    return {
        "orbit": orbit,
        "linear": functools.partial(heat, linear=True),
        "nonlinear": functools.partial(heat, linear=False),
        "option": option,
    }[name]


def _in_torch(name: str) -> Callable[..., Any]:
    import torch

    def option(S, K, r, sigma, T, z):
        s = S * torch.exp((r - 0.5 * sigma * sigma) * T + sigma * torch.sqrt(T) * z)
        return torch.exp(-r * T) * torch.relu(s - K).mean()

    return {
        "orbit": _plain_orbit,
        "linear": _plain_heat(True, torch.cat),
        "nonlinear": _plain_heat(False, torch.cat),
        "option": option,
    }[name]


def _in_autograd(name: str) -> Callable[..., Any]:
    import autograd.numpy as anp

    def heat(linear):
        plain = _plain_heat(linear, anp.concatenate)
        return lambda u, alpha, n: anp.sum(plain(u, alpha, n))

    def option(S, K, r, sigma, T, z):
        s = S * anp.exp((r - 0.5 * sigma * sigma) * T + sigma * anp.sqrt(T) * z)
        return anp.exp(-r * T) * anp.mean(anp.maximum(s - K, 0))

    return {
        "orbit": lambda *args: _plain_orbit(*args),
        "linear": heat(True),
        "nonlinear": heat(False),
        "option": option,
    }[name]


def _others(name: str) -> dict[str, Callable[[], Any]]:
    return {
        "JAX": functools.partial(_in_jax, name),
        "PyTorch": functools.partial(_in_torch, name),
        "autograd": functools.partial(_in_autograd, name),
    }


# --- data


def orbit_arguments(n: int) -> tuple[Any, ...]:
    """Rates, a start, a step and the number of steps."""
    return 1.1, 0.4, 0.1, 0.4, 10.0, 5.0, 0.01, n


def rod_arguments(n: int, steps: int) -> tuple[Any, ...]:
    """A temperature along a rod of n points, and a conductivity for which the scheme is stable."""
    noise = 0.1 * np.random.default_rng(0).normal(size=n)
    return np.sin(np.linspace(0.0, 3.0, n)) + noise, 0.2, steps


def option_arguments(paths: int) -> tuple[Any, ...]:
    """An option and the noise of its paths."""
    return 100.0, 105.0, 0.03, 0.2, 1.0, np.random.default_rng(0).normal(size=paths)


RATES = ("a", "b", "c", "d", "x0", "y0")
SLOW = ("PyTorch", "autograd")


def _heat(title: str, names: tuple[str, ...], kind: str, forms: Any, reference: Any) -> Workload:
    return Workload(
        f"heat 1000 x 1000, {title}", "loops", rod_arguments, (1000, 1000), (9, 5), names, forms,
        reference, _others(kind), slow=SLOW, few=((1000, 50), 50),
        rounds=25,
    )  # fmt: skip


WORKLOADS = [
    Workload("RK4 Lotka-Volterra, 10,000 steps", "loops", orbit_arguments, (10_000,), (20,), RATES,
             {"loops": lotka_volterra}, by_hand.lotka_volterra, _others("orbit"), slow=SLOW,
             few=((50,), 50)),
    _heat("linear, by u0", ("u0",), "linear", {"loops": heat, "slices": heat_slices},
          by_hand.heat_by_start),
    _heat("linear, by u0 and alpha", ("u0", "alpha"), "linear",
          {"loops": heat, "slices": heat_slices}, by_hand.heat),
    _heat("nonlinear", ("u0", "alpha"), "nonlinear",
          {"loops": heat_nonlinear, "slices": heat_nonlinear_slices}, by_hand.heat_nonlinear),
    Workload("Black-Scholes, 1e6 paths", "loops", option_arguments, (1_000_000,), (60,),
             ("S", "K", "r", "sigma", "T"),
             {"loops": black_scholes, "arrays": black_scholes_arrays}, by_hand.black_scholes,
             _others("option"), few=((50,), 50)),
]  # fmt: skip
