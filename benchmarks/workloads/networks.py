"""A neuron, a two-layer net, a linear classifier, logistic regression, a chain of functions."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.by_hand import networks as by_hand
from benchmarks.workload import Workload
from flatgrad import sigmoid

# --- as users write them


def neuron(w0, x0, w1, x1, w2):
    """The sigmoid neuron."""
    return sigmoid(w0 * x0 + w1 * x1 + w2)


def two_layer(W1, b1, W2, b2, X, y):
    """A two-layer net with softmax cross-entropy."""
    h = np.maximum(0, X @ W1 + b1)
    s = h @ W2 + b2
    s = s - np.max(s, axis=1, keepdims=True)
    logp = s - np.log(np.sum(np.exp(s), axis=1, keepdims=True))
    return -np.mean(logp[np.arange(len(y)), y])


def two_layer_rows(W1, b1, W2, b2, X, y):
    """The same with the softmax row by row."""
    h = np.maximum(0, X @ W1 + b1)
    s = h @ W2 + b2
    loss = 0.0
    for i in range(len(y)):
        row = s[i] - np.max(s[i])
        loss += np.log(np.sum(np.exp(row))) - row[y[i]]
    return loss / len(y)


def svm(W, X, y, reg):
    """The multiclass hinge loss."""
    s = X @ W
    rows = np.arange(len(y))
    correct = s[rows, y]
    margins = np.maximum(0, s - correct[:, None] + 1)
    return np.sum(margins) / len(y) - 1 + reg * np.sum(W * W)


def svm_loops(W, X, y, reg):
    """The same, score by score."""
    s = X @ W
    loss = 0.0
    for i in range(len(y)):
        for j in range(s.shape[1]):
            if j != y[i]:
                margin = s[i, j] - s[i, y[i]] + 1
                if margin > 0:
                    loss += margin
    return loss / len(y) + reg * np.sum(W * W)


def chain(x):
    """Elementwise functions and a sum."""
    return np.sum(np.tanh(x) * np.exp(-x * x) + np.log1p(x * x))


def chain_loop(x):
    """The same, number by number."""
    total = 0.0
    for i in range(len(x)):
        square = x[i] * x[i]
        total += math.tanh(x[i]) * math.exp(-square) + math.log1p(square)
    return total


def logistic(w, b, X, y):
    """The mean loss of logistic regression, y in {0, 1}."""
    z = X @ w + b
    return np.mean(np.maximum(z, 0) - y * z + np.log1p(np.exp(-np.abs(z))))


# --- for the other packages


def _for_numpy_like(name: str, library: str) -> Callable[..., Any]:
    """The function with `jax.numpy` or `autograd.numpy`."""
    import importlib

    xp = importlib.import_module(f"{library}.numpy")

    def neuron(w0, x0, w1, x1, w2):
        return 1 / (1 + xp.exp(-(w0 * x0 + w1 * x1 + w2)))

    def two_layer(W1, b1, W2, b2, X, y):
        h = xp.maximum(0, X @ W1 + b1)
        s = h @ W2 + b2
        s = s - xp.max(s, axis=1, keepdims=True)
        logp = s - xp.log(xp.sum(xp.exp(s), axis=1, keepdims=True))
        return -xp.mean(logp[xp.arange(len(y)), y])

    def svm(W, X, y, reg):
        s = X @ W
        margins = xp.maximum(0, s - s[xp.arange(len(y)), y][:, None] + 1)
        return xp.sum(margins) / len(y) - 1 + reg * xp.sum(W * W)

    def chain(x):
        return xp.sum(xp.tanh(x) * xp.exp(-x * x) + xp.log1p(x * x))

    def logistic(w, b, X, y):
        z = X @ w + b
        return xp.mean(xp.maximum(z, 0) - y * z + xp.log1p(xp.exp(-xp.abs(z))))

    written = {f.__name__: f for f in (neuron, two_layer, svm, chain, logistic)}
    return written[name]


def _for_torch(name: str) -> Callable[..., Any]:
    import torch
    from torch.nn import functional

    def neuron(w0, x0, w1, x1, w2):
        return torch.sigmoid(w0 * x0 + w1 * x1 + w2)

    def two_layer(W1, b1, W2, b2, X, y):
        h = torch.relu(torch.addmm(b1, X, W1))
        return functional.cross_entropy(torch.addmm(b2, h, W2), y)

    def svm(W, X, y, reg):
        s = X @ W
        margins = torch.relu(s - s.gather(1, y[:, None]) + 1)
        return margins.sum() / len(y) - 1 + reg * (W * W).sum()

    def chain(x):
        return (torch.tanh(x) * torch.exp(-x * x) + torch.log1p(x * x)).sum()

    def logistic(w, b, X, y):
        return functional.binary_cross_entropy_with_logits(X @ w + b, y)

    written = {f.__name__: f for f in (neuron, two_layer, svm, chain, logistic)}
    return written[name]


def _others(name: str) -> dict[str, Callable[[], Any]]:
    return {
        "JAX": functools.partial(_for_numpy_like, name, "jax"),
        "PyTorch": functools.partial(_for_torch, name),
        "autograd": functools.partial(_for_numpy_like, name, "autograd"),
    }


# --- data


def neuron_arguments() -> tuple[Any, ...]:
    """Of the usual textbook example."""
    return 2.0, -1.0, -3.0, -2.0, -3.0


def net_arguments(n: int, d: int, h: int, c: int) -> tuple[Any, ...]:
    """Weights and data of a two-layer net."""
    rng = np.random.default_rng(0)
    return (
        rng.normal(size=(d, h)) / np.sqrt(d), np.zeros(h),
        rng.normal(size=(h, c)) / np.sqrt(h), np.zeros(c),
        rng.normal(size=(n, d)), rng.integers(0, c, size=n),
    )  # fmt: skip


def svm_arguments(n: int, d: int, c: int) -> tuple[Any, ...]:
    """Small weights, so that some margins are violated and some are not."""
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(n, d)), rng.integers(0, c, n)
    return rng.normal(size=(d, c)) / np.sqrt(d), X, y, 0.01


def chain_arguments(n: int) -> tuple[Any, ...]:
    """Standard normal numbers."""
    return (np.random.default_rng(0).normal(size=n),)


def logistic_arguments(n: int, d: int) -> tuple[Any, ...]:
    """Weights, and data with two classes."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n, d))
    return rng.normal(size=d) / np.sqrt(d), 0.1, X, (rng.random(n) < 0.5).astype(float)


PARTS = ("W1", "b1", "W2", "b2")


def _net(sizes: tuple[int, ...], dtype: str, **more: Any) -> Workload:
    n, d, h, _ = sizes
    return Workload(
        f"two-layer net, N={n} D={d} H={h}, {dtype}", "networks", net_arguments, sizes,
        (5, 7, 4, 3), PARTS, {"arrays": two_layer, "rows": two_layer_rows}, by_hand.two_layer,
        _others("two_layer"), primal=two_layer_rows, dtype=dtype, **more,
    )  # fmt: skip


def _logistic(dtype: str, **more: Any) -> Workload:
    return Workload(
        f"logistic regression, 100k x 30, {dtype}", "networks", logistic_arguments, (100_000, 30),
        (600, 5), ("w", "b"), {"arrays": logistic}, by_hand.logistic, _others("logistic"),
        dtype=dtype, **more,
    )  # fmt: skip


WORKLOADS = [
    Workload("sigmoid neuron", "networks", neuron_arguments, (), (),
             ("w0", "x0", "w1", "x1", "w2"), {"scalars": neuron}, by_hand.neuron,
             _others("neuron"), rounds=400),
    _net((64, 3072, 100, 10), "float64"),
    _net((64, 3072, 100, 10), "float32", quick=False),
    _net((512, 3072, 1024, 10), "float64", quick=False, rounds=15),
    _net((512, 3072, 1024, 10), "float32", quick=False, rounds=15),
    Workload("SVM hinge, N=500 D=3073 C=10", "networks", svm_arguments, (500, 3073, 10),
             (6, 5, 4), ("W",), {"arrays": svm, "loops": svm_loops}, by_hand.svm, _others("svm"),
             primal=svm_loops),
    Workload("tanh, exp, log1p, n=1e6", "networks", chain_arguments, (1_000_000,), (50,), ("x",),
             {"arrays": chain, "loops": chain_loop}, by_hand.chain, _others("chain")),
    _logistic("float64"),
    _logistic("float32", quick=False),
]  # fmt: skip
