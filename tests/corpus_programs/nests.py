"""Nests of loops over points, components and columns, as likelihoods and distances are written."""

from __future__ import annotations

import math

import numpy as np

from tests.corpus_programs.registry import example

rng = np.random.default_rng(77)


@example(
    rng.normal(size=3), rng.normal(size=(3, 2)), rng.normal(size=(3, 3)), rng.normal(size=(5, 2))
)  # fmt: skip
def mixture(weights, means, factors, x):
    """The log-likelihood of a Gaussian mixture; factors are packed triangles, one a row."""
    n, d = x.shape
    k = weights.size
    main = np.empty(k)
    centered = np.empty(d)
    total = 0.0
    for i in range(n):
        for c in range(k):
            square = 0.0
            for a in range(d):
                centered[a] = x[i, a] - means[c, a]
            for a in range(d):
                y = math.exp(factors[c, a]) * centered[a]
                for b in range(a):
                    y += factors[c, d + b * d - b * (b + 1) // 2 + a - b - 1] * centered[b]
                square += y * y
            main[c] = weights[c] - 0.5 * square
        largest = main[0]
        for c in range(1, k):
            largest = max(largest, main[c])
        s = 0.0
        for c in range(k):
            s += math.exp(main[c] - largest)
        total += largest + math.log(s)
    return total


@example(rng.normal(size=(70, 2)), rng.normal(size=(3, 2)))
def nearest_centers(x, centers):
    """The objective of k-means: each point with its nearest center, more points than a strip has."""
    total = 0.0
    for i in range(x.shape[0]):
        best = np.inf
        for c in range(centers.shape[0]):
            distance = 0.0
            for a in range(x.shape[1]):
                difference = x[i, a] - centers[c, a]
                distance += difference * difference
            if distance < best:
                best = distance
        total += best
    return total


@example(rng.normal(size=(6, 3)), rng.normal(size=(4, 3)), 0.8)
def kernel_density(x, data, width):
    """The log of a density at each point, kept in an array."""
    density = np.zeros(x.shape[0])
    for i in range(x.shape[0]):
        for j in range(data.shape[0]):
            square = 0.0
            for a in range(x.shape[1]):
                square += (x[i, a] - data[j, a]) ** 2
            density[i] += np.exp(-0.5 * square / width**2)
    return np.sum(np.log(density))


@example(rng.normal(size=(5, 3)))
def pairwise_distances(x):
    """Each point with all others: its adjoint gets a sum from both sides."""
    total = 0.0
    for i in range(x.shape[0]):
        for j in range(x.shape[0]):
            square = 1e-3
            for a in range(x.shape[1]):
                square += (x[i, a] - x[j, a]) ** 2
            total += np.sqrt(square)
    return total


@example(np.eye(3) * 1.5 + 0.1 * rng.normal(size=(3, 3)), rng.normal(size=(6, 3)))
def whitened(lower, x):
    """A forward substitution for each point, into a buffer that keeps the last one's solution."""
    n, d = x.shape
    z = np.zeros(d)
    total = 0.0
    for i in range(n):
        for a in range(d):
            s = x[i, a]
            for b in range(a):
                s -= lower[a, b] * z[b]
            z[a] = s / lower[a, a]
        for a in range(d):
            total += z[a] * z[a]
    return total


@example(rng.normal(size=(6, 3)), rng.normal(size=3))
def smoothed_rows(x, w):
    """A buffer that only the first row resets: what it holds goes from row to row."""
    v = np.zeros(x.shape[1])
    total = 0.0
    for i in range(x.shape[0]):
        for a in range(x.shape[1]):
            v[a] = 0.5 * v[a] + np.tanh(w[a] * x[i, a])
        for a in range(x.shape[1]):
            total += v[a] * v[a]
    return total


@example(rng.normal(size=(4, 5)), rng.normal(size=5))
def down_the_columns(A, x):
    """Loops across the rows, with numbers of each column before and after the inner loop."""
    n, m = A.shape
    scores = np.zeros(n)
    decay, total = 1.0, 0.0
    for j in range(m - 1, -1, -1):
        weight = np.exp(0.3 * x[j])
        decay = 0.5 * decay + weight
        s = decay
        for i in range(1, n):
            s = 0.5 * s + A[i, j] * weight
            scores[i] += A[i - 1, j] * np.tanh(x[j])
        total += s * s
    return total + np.sum(scores * scores)
