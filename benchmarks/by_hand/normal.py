"""The Gaussian log-likelihood by a Cholesky factor."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.by_hand.flags import loop, strict


@loop
def _inverse_of_lower(L):
    """Row after row, each from those above it."""
    n = L.shape[0]
    inverse = np.zeros((n, n))
    for i in range(n):
        out, row = inverse[i], L[i]
        for k in range(i):
            above, factor = inverse[k], row[k]
            for j in range(k + 1):
                out[j] -= factor * above[j]
        scale = 1.0 / row[i]
        for j in range(i):
            out[j] *= scale
        out[i] = scale
    return inverse


@strict
def log_likelihood(mean, covariance, x):
    """With the inverse P and a = P (x - mean): a, and a a' - P below the diagonal.

    On the diagonal it is half of that, above it 0: a Cholesky factor depends on one triangle.
    """
    n = x.size
    L = np.linalg.cholesky(covariance)
    inverse = _inverse_of_lower(L)
    z = np.dot(inverse, x - mean)
    value = -0.5 * np.dot(z, z) - 0.5 * n * math.log(2 * math.pi)
    for i in range(n):
        value -= math.log(L[i, i])
    a = np.dot(z, inverse)
    grad_covariance = np.dot(inverse.T, inverse)
    for i in range(n):
        row = grad_covariance[i]
        for j in range(i):
            row[j] = a[i] * a[j] - row[j]
        row[i] = 0.5 * (a[i] * a[i] - row[i])
        row[i + 1 :] = 0.0
    return value, (a, grad_covariance)
