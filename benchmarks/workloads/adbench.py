"""ADBench: a Gaussian mixture, an LSTM, bundle adjustment, a hand; at the sizes of ADBench."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.adbench import ba, gmm, hand, lstm
from benchmarks.by_hand import bundle, memory, mixture, skeleton
from benchmarks.workload import Workload
from flatgrad import sparse_jacobian


def _mixture_arguments(n: int, d: int, k: int) -> tuple[Any, ...]:
    return (
        *gmm.arguments(n, d, k), gmm.WISHART_GAMMA, gmm.WISHART_M, gmm.constant(n, d, k),
        *gmm.triangle(d),
    )  # fmt: skip


def _in_jax(name: str) -> Callable[..., Any]:
    from benchmarks.adbench import in_jax

    if name.startswith("hand"):
        simple, in_triangles = in_jax.hand(hand.PARENTS)
        return simple if name == "hand" else in_triangles
    found: Callable[..., Any] = getattr(in_jax, name)
    return found


def _mixture_in_autograd() -> Callable[..., Any]:
    import autograd.numpy as anp

    def objective(alphas, means, icf, x, gamma, m, const, rows, columns):
        n, d = x.shape
        places = np.zeros((d, d), dtype=int)
        places[rows, columns] = np.arange(d, icf.shape[1])
        below = icf[:, places] * np.tril(np.ones((d, d)), -1)
        factors = below + anp.exp(icf[:, :d])[:, :, None] * np.eye(d)
        y = anp.matmul(x[None] - means[:, None], anp.transpose(factors, (0, 2, 1)))
        main = alphas[:, None] + anp.sum(icf[:, :d], axis=1)[:, None] - 0.5 * anp.sum(y * y, axis=2)
        top = anp.max(main, axis=0)
        total = anp.sum(top + anp.log(anp.sum(anp.exp(main - top), axis=0)))
        total = total - n * anp.log(anp.sum(anp.exp(alphas)))
        prior = anp.sum(anp.exp(icf[:, :d]) ** 2) + anp.sum(icf[:, d:] ** 2)
        return const + total + 0.5 * gamma**2 * prior - m * anp.sum(icf[:, :d])

    return objective


def _mixture_in_torch() -> Callable[..., Any]:
    import torch

    def objective(alphas, means, icf, x, gamma, m, const, rows, columns):
        n, d = x.shape
        factors = torch.diag_embed(torch.exp(icf[:, :d]))
        factors[:, rows, columns] = icf[:, d:]
        y = torch.matmul(x[None] - means[:, None], factors.transpose(1, 2))
        main = alphas[:, None] + icf[:, :d].sum(1)[:, None] - 0.5 * (y * y).sum(2)
        total = torch.logsumexp(main, 0).sum() - n * torch.logsumexp(alphas, 0)
        prior = (torch.exp(icf[:, :d]) ** 2).sum() + (icf[:, d:] ** 2).sum()
        return const + total + 0.5 * gamma**2 * prior - m * icf[:, :d].sum()

    return objective


def _memory_in_torch() -> Callable[..., Any]:
    import torch

    def objective(main_params, extra_params, state, sequence):
        layers, b = state.shape[0] // 2, state.shape[1]
        states = list(state)
        total = 0.0
        for t in range(len(sequence) - 1):
            x = sequence[t] * extra_params[0]
            for q in range(layers):
                weight, bias = main_params[2 * q], main_params[2 * q + 1]
                h, c = states[2 * q], states[2 * q + 1]
                forget = torch.sigmoid(x * weight[:b] + bias[:b])
                ingate = torch.sigmoid(h * weight[b : 2 * b] + bias[b : 2 * b])
                outgate = torch.sigmoid(x * weight[2 * b : 3 * b] + bias[2 * b : 3 * b])
                c = c * forget + ingate * torch.tanh(h * weight[3 * b :] + bias[3 * b :])
                x = outgate * torch.tanh(c)
                states[2 * q], states[2 * q + 1] = x, c
            y = x * extra_params[1] + extra_params[2]
            total = total + (sequence[t + 1] * (y - torch.log(2 + torch.exp(y).sum()))).sum()
        return -total / ((len(sequence) - 1) * b)

    return objective


def _mixture(n: int, d: int, k: int, **more: Any) -> Workload:
    others: dict[str, Callable[[], Any]] = {
        "JAX": functools.partial(_in_jax, "mixture"),
        "PyTorch": _mixture_in_torch, "autograd": _mixture_in_autograd,
    }  # fmt: skip
    return Workload(
        f"GMM N={n:,} d={d} K={k}", "ADBench", _mixture_arguments, (n, d, k), (7, 5, 2),
        ("alphas", "means", "icf"), {"loops": gmm.loops, "arrays": gmm.arrays},
        mixture.gmm, others, few=((5, d, k), 5), **more,
    )  # fmt: skip


def _memory(layers: int, steps: int, **more: Any) -> Workload:
    return Workload(
        f"LSTM layers={layers} steps={steps:,}", "ADBench", lstm.arguments, (layers, steps),
        (2, 4, 3), ("main_params", "extra_params"), {"loops": lstm.loops, "arrays": lstm.arrays},
        memory.lstm, {"JAX": functools.partial(_in_jax, "lstm"), "PyTorch": _memory_in_torch},
        slow=("PyTorch",), few=((layers, 21), 20), rounds=25, **more,
    )  # fmt: skip


def _hand(points: int, **more: Any) -> Workload:
    return Workload(
        f"HAND simple, {points} points", "ADBench", hand.arguments, (points,), (4, 10), ("theta",),
        {"arrays": hand.errors}, skeleton.jacobian, {"JAX": functools.partial(_in_jax, "hand")},
        mode="jacobian", **more,
    )  # fmt: skip


def _in_triangles(points: int, **more: Any) -> Workload:
    return Workload(
        f"HAND complicated, {points} points", "ADBench", hand.triangles, (points,), (4, 10),
        ("theta", "shift"), {"arrays": hand.errors_in_triangles}, skeleton.jacobian_in_triangles,
        {"JAX": functools.partial(_in_jax, "hand in triangles")}, mode="jacobian", **more,
    )  # fmt: skip


def _sparse(
    function: Callable[..., Any], args: tuple[Any, ...], backend: str
) -> Callable[..., Any]:
    """The values of the Jacobian of all observations, from the function of one."""
    rows = {"camera": args[4], "point": args[5]}
    by = ("camera", "point", "weight")
    jacobian = sparse_jacobian(function, rows, argnums=by, backend=backend)

    def values(cameras, points, weights, features):
        return jacobian(cameras, points, weights, features).data

    return values


def _bundle(cameras: int, points: int, observations: int, **more: Any) -> Workload:
    return Workload(
        f"BA, {observations:,} observations", "ADBench", ba.arguments,
        (cameras, points, observations), (2, 3, 4), ("camera", "point", "weight"),
        {"one observation": ba.residual}, bundle.jacobian_values,
        {"JAX": functools.partial(_in_jax, "ba_jacobian")}, mode="derived", derive=_sparse,
        primal=ba.loops, **more,
    )  # fmt: skip


WORKLOADS = [
    _mixture(1000, 2, 5),
    _mixture(1000, 2, 200, quick=False),
    _mixture(1000, 10, 25),
    _mixture(1000, 32, 25, quick=False),
    _mixture(1000, 64, 25, quick=False, rounds=20),
    _mixture(10_000, 32, 50, quick=False, rounds=5),
    _memory(2, 1024),
    _memory(4, 1024, quick=False),
    _memory(2, 4096, quick=False),
    _bundle(49, 7_776, 31_843),
    _bundle(93, 61_203, 182_072, quick=False, rounds=15),
    _hand(100),
    _in_triangles(400, quick=False),
]
