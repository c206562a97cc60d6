"""ADBench GMM: the log-likelihood of a Gaussian mixture with a Wishart prior.

`alphas` (K), `means` (K, d), `icf` (K, d (d + 1) / 2): the logarithms of the diagonal of each
triangular factor, then its columns below the diagonal. `x` (n, d) are the points.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

WISHART_GAMMA, WISHART_M = 1.0, 0.0


def arguments(n: int, d: int, k: int, seed: int = 0) -> tuple[Any, ...]:
    """Parameters and points, all standard normal."""
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=k), rng.normal(size=(k, d)), rng.normal(size=(k, d * (d + 1) // 2)),
        rng.normal(size=(n, d)),
    )  # fmt: skip


def log_wishart_constant(d: int, k: int, gamma: float, m: float) -> float:
    """K C of the prior: it depends on no parameter."""
    n = d + m + 1
    log_gamma = 0.25 * d * (d - 1) * math.log(math.pi)
    for j in range(1, d + 1):
        log_gamma += math.lgamma(0.5 * n + 0.5 * (1 - j))
    return k * (n * d * (math.log(gamma) - 0.5 * math.log(2)) - log_gamma)


def constant(n: int, d: int, k: int) -> float:
    """What the objective has beside the parts that vary."""
    return -n * d * 0.5 * math.log(2 * math.pi) - log_wishart_constant(
        d, k, WISHART_GAMMA, WISHART_M
    )


def loops(alphas, means, icf, x, gamma, m, const):
    """As written from the formula: four nested loops."""
    n, d, k = x.shape[0], x.shape[1], alphas.size
    main = np.empty(k)
    centered = np.empty(d)
    total = 0.0
    for i in range(n):
        for c in range(k):
            square = 0.0
            sum_q = 0.0
            for a in range(d):
                centered[a] = x[i, a] - means[c, a]
                sum_q += icf[c, a]
            for a in range(d):
                y = math.exp(icf[c, a]) * centered[a]
                for b in range(a):
                    y += icf[c, d + b * d - b * (b + 1) // 2 + a - b - 1] * centered[b]
                square += y * y
            main[c] = alphas[c] + sum_q - 0.5 * square
        largest = main[0]
        for c in range(1, k):
            largest = max(largest, main[c])
        s = 0.0
        for c in range(k):
            s += math.exp(main[c] - largest)
        total += largest + math.log(s)
    largest = np.max(alphas)
    total -= n * (largest + math.log(np.sum(np.exp(alphas - largest))))
    prior = 0.0
    for c in range(k):
        for a in range(d):
            prior += 0.5 * gamma * gamma * math.exp(icf[c, a]) ** 2 - m * icf[c, a]
        for a in range(d, icf.shape[1]):
            prior += 0.5 * gamma * gamma * icf[c, a] * icf[c, a]
    return const + total + prior


def triangle(d: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the entries below the diagonal, column after column."""
    columns, rows = np.triu_indices(d, 1)
    return rows, columns


def arrays(alphas, means, icf, x, gamma, m, const, rows, columns):
    """In arrays: all points and components at once."""
    n, d = x.shape
    k = alphas.size
    diagonal = np.exp(icf[:, :d])
    factors = np.zeros((k, d, d))
    factors[:, rows, columns] = icf[:, d:]
    places = np.arange(d)
    factors[:, places, places] = diagonal
    centered = x[:, None, :] - means
    y = np.einsum("kab,nkb->nka", factors, centered)
    main = alphas + np.sum(icf[:, :d], axis=1) - 0.5 * np.sum(y * y, axis=2)
    largest = np.max(main, axis=1)
    total = np.sum(largest + np.log(np.sum(np.exp(main - largest[:, None]), axis=1)))
    top = np.max(alphas)
    total -= n * (top + np.log(np.sum(np.exp(alphas - top))))
    prior = 0.5 * gamma * gamma * (np.sum(diagonal**2) + np.sum(icf[:, d:] ** 2))
    prior -= m * np.sum(icf[:, :d])
    return const + total + prior
