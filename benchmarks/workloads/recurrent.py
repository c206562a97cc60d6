"""An LSTM over 100 time steps, for one sequence and for a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.by_hand import recurrent as by_hand
from benchmarks.workload import Workload
from flatgrad import sigmoid


def lstm(Wx, Wh, b, xs, target):
    """One sequence; the loss is on the last state."""
    H = Wh.shape[0]
    h = np.zeros(H)
    c = np.zeros(H)
    for t in range(len(xs)):
        z = xs[t] @ Wx + h @ Wh + b
        i = sigmoid(z[:H])
        f = sigmoid(z[H : 2 * H])
        o = sigmoid(z[2 * H : 3 * H])
        g = np.tanh(z[3 * H :])
        c = f * c + i * g
        h = o * np.tanh(c)
    return np.sum((h - target) ** 2)


def lstm_batch(Wx, Wh, b, xs, target):
    """A batch of sequences."""
    H = Wh.shape[0]
    h = np.zeros(target.shape)
    c = np.zeros(target.shape)
    for t in range(len(xs)):
        z = xs[t] @ Wx + h @ Wh + b
        i = sigmoid(z[:, :H])
        f = sigmoid(z[:, H : 2 * H])
        o = sigmoid(z[:, 2 * H : 3 * H])
        g = np.tanh(z[:, 3 * H :])
        c = f * c + i * g
        h = o * np.tanh(c)
    return np.sum((h - target) ** 2)



# --- for the other packages


def _in_jax() -> Callable[..., Any]:
    """The inputs of all steps by one product, then a scan with a checkpoint in each step."""
    import jax
    import jax.numpy as jnp

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

    return lstm


def _steps(xp: Any, sigmoid: Any, zeros: Any) -> Callable[..., Any]:
    def lstm(Wx, Wh, b, xs, target):
        H = Wh.shape[0]
        h = c = zeros(target)
        inputs = xs @ Wx + b
        for t in range(len(xs)):
            z = inputs[t] + h @ Wh
            gates = sigmoid(z[..., : 3 * H])
            c = gates[..., H : 2 * H] * c + gates[..., :H] * xp.tanh(z[..., 3 * H :])
            h = gates[..., 2 * H :] * xp.tanh(c)
        return xp.sum((h - target) ** 2)

    return lstm


def _in_torch() -> Callable[..., Any]:
    import torch

    return _steps(torch, torch.sigmoid, torch.zeros_like)


def _in_autograd() -> Callable[..., Any]:
    import autograd.numpy as anp

    return _steps(anp, lambda x: 1 / (1 + anp.exp(-x)), lambda x: np.zeros(x.shape))


OTHERS: dict[str, Callable[[], Any]] = {
    "JAX": _in_jax, "PyTorch": _in_torch, "autograd": _in_autograd
}  # fmt: skip


def arguments(T: int, H: int, batch: int) -> tuple[Any, ...]:
    """Weights, inputs of T time steps and a target; `batch` 0 is one sequence."""
    rng = np.random.default_rng(1)
    wide = (batch,) if batch else ()
    return (
        rng.normal(size=(H, 4 * H)) / np.sqrt(H), rng.normal(size=(H, 4 * H)) / np.sqrt(H),
        np.zeros(4 * H), rng.normal(size=(T, *wide, H)), rng.normal(size=(*wide, H)),
    )  # fmt: skip


WEIGHTS = ("Wx", "Wh", "b")
WORKLOADS = [
    Workload("LSTM T=100 H=32", "loops", arguments, (100, 32, 0), (4, 3, 0), WEIGHTS,
             {"arrays": lstm}, by_hand.lstm, OTHERS, few=((20, 32, 0), 20), rounds=60,
             slow=("autograd",)),
    Workload("LSTM T=100 H=32, batch 16", "loops", arguments, (100, 32, 16), (4, 3, 2), WEIGHTS,
             {"arrays": lstm_batch}, by_hand.lstm_batch, OTHERS, few=((20, 32, 16), 20),
             slow=("autograd",), quick=False),
]  # fmt: skip
