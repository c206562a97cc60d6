"""Whole training loops: steps per second of a two-layer net under Adam, minibatches included.

flatgrad has the loop, the gradient and the step in one `@njit` function; JAX has `lax.fori_loop`
around the step, under one `jit`; PyTorch runs its loop from Python, as it does, with `torch.optim`.
The batches are drawn beforehand. The losses of all contestants are compared first.
"""

from __future__ import annotations

import importlib.util
import statistics
from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np

from benchmarks.measure import interleaved, table
from flatgrad import optim, value_and_grad

RATE = 1e-3
SIZES = {"8-16-3, batch 16": (8, 16, 3, 16), "64-64-10, batch 32": (64, 64, 10, 32),
         "784-128-10, batch 64": (784, 128, 10, 64)}  # fmt: skip


class Net(NamedTuple):
    """The parameters of a two-layer net."""

    W1: Any
    b1: Any
    W2: Any
    b2: Any


def cross_entropy(net, X, y):
    """Of a softmax; `y` are the true classes."""
    h = np.maximum(0, X @ net.W1 + net.b1)
    s = h @ net.W2 + net.b2
    z = s - np.max(s, axis=1, keepdims=True)
    log_p = z - np.log(np.sum(np.exp(z), axis=1, keepdims=True))
    return -np.mean(log_p[np.arange(len(y)), y])


step = value_and_grad(cross_entropy, argnums="net", backend="numba")


@numba.njit
def train(net, X, y, batches):
    """The losses of all steps."""
    state = optim.adam_init(net)
    losses = np.empty(len(batches))
    for k in range(len(batches)):
        losses[k], grads = step(net, X[batches[k]], y[batches[k]])
        net, state = optim.adam(net, grads, state, RATE)
    return losses


@numba.njit
def train_in_place(net, X, y, batches):
    """The same, writing into the parameters, of which it has copies, and into the state."""
    net = Net(net.W1.copy(), net.b1.copy(), net.W2.copy(), net.b2.copy())
    state = optim.adam_init(net)
    losses = np.empty(len(batches))
    for k in range(len(batches)):
        losses[k], grads = step(net, X[batches[k]], y[batches[k]])
        net, state = optim.adam(net, grads, state, RATE, in_place=True)
    return losses


def jax_form(net: Net, X: Any, y: Any, batches: Any) -> Callable[[], Any]:
    """The loop for JAX, compiled as a whole."""
    import jax
    import jax.numpy as jnp

    jax.config.update("jax_enable_x64", True)
    tree = jax.tree_util.tree_map

    def loss(net, X, y):
        h = jnp.maximum(0, X @ net.W1 + net.b1)
        log_p = jax.nn.log_softmax(h @ net.W2 + net.b2)
        return -jnp.mean(log_p[jnp.arange(len(y)), y])

    @jax.jit
    def whole(net, X, y, batches):
        def body(k, carried):
            p, m, v, losses = carried
            value, g = jax.value_and_grad(loss)(p, X[batches[k]], y[batches[k]])
            t = k + 1
            m = tree(lambda m, g: 0.9 * m + 0.1 * g, m, g)
            v = tree(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
            size, unbiased = RATE / (1 - 0.9**t), 1 / (1 - 0.999**t)
            p = tree(lambda p, m, v: p - size * m / (jnp.sqrt(v * unbiased) + 1e-8), p, m, v)
            return p, m, v, losses.at[k].set(value)

        zeros = tree(jnp.zeros_like, net)
        start = (net, zeros, zeros, jnp.zeros(len(batches)))
        return jax.lax.fori_loop(0, len(batches), body, start)[-1]

    given = tree(jnp.asarray, (net, X, y, batches))
    return lambda: whole(*given).block_until_ready()


def torch_form(net: Net, X: Any, y: Any, batches: Any) -> Callable[[], Any]:
    """The loop for PyTorch."""
    import torch

    torch.set_num_threads(1)
    X, y, rows = torch.tensor(X), torch.tensor(y), torch.tensor(batches)

    def whole():
        p = Net(*[torch.tensor(x, requires_grad=True) for x in net])
        optimizer = torch.optim.Adam(p, lr=RATE)
        losses = torch.empty(len(rows), dtype=torch.float64)
        for k in range(len(rows)):
            optimizer.zero_grad()
            h = torch.relu(X[rows[k]] @ p.W1 + p.b1)
            loss = torch.nn.functional.cross_entropy(h @ p.W2 + p.b2, y[rows[k]])
            loss.backward()
            optimizer.step()
            losses[k] = loss.detach()
        return losses

    return whole


def contestants(size: tuple[int, ...], steps: int) -> dict[str, Callable[[], Any]]:
    """All loops for one size."""
    d, h, c, batch = size
    rng = np.random.default_rng(0)
    net = Net(
        rng.normal(size=(d, h)) / np.sqrt(d), np.zeros(h),
        rng.normal(size=(h, c)) / np.sqrt(h), np.zeros(c),
    )  # fmt: skip
    X, y = rng.normal(size=(1000, d)), rng.integers(0, c, size=1000)
    batches = rng.integers(0, 1000, size=(steps, batch))
    args = (net, X, y, batches)
    found: dict[str, Callable[[], Any]] = {
        "flatgrad": lambda: train(*args),
        "in place": lambda: train_in_place(*args),
        "from Python": lambda: train.py_func(*args),
    }
    if importlib.util.find_spec("jax"):
        found["JAX"] = jax_form(*args)
    if importlib.util.find_spec("torch"):
        found["PyTorch"] = torch_form(*args)
    return found


def run(quick: bool = False) -> None:
    """All measurements of this group."""
    rows, names = [], list[str]()
    for title, size in SIZES.items():
        steps = 100 if quick else 500
        loops = contestants(size, steps)
        losses = {name: np.asarray(loop()) for name, loop in loops.items()}
        for found in losses.values():
            np.testing.assert_allclose(found, losses["flatgrad"], rtol=1e-6)
        times = interleaved(loops, 5 if quick else 15)
        names = list(loops)
        rows.append([title, *[f"{steps / statistics.median(times[n]):,.0f}" for n in names]])
    table("Training: steps per second, float64", ("net", *names), rows)
