"""Loops in which lengths differ from trip to trip, so that tapes are written end to end."""

from __future__ import annotations

import math

import numpy as np

from tests.corpus_programs.registry import example

RNG = np.random.default_rng(7)
SQUARE = RNG.normal(size=(4, 4))
POINTS = RNG.normal(size=(5, 2))


@example(SQUARE, SQUARE[1] - 0.5)
def elimination_with_pivots(A, b):
    n = len(b)
    A = A.copy()
    x = b.copy()
    for k in range(n - 1):
        p = k + int(np.argmax(np.abs(A[k:, k])))
        if p != k:
            A[[k, p]] = A[[p, k]]
            x[k], x[p] = x[p], x[k]
        for i in range(k + 1, n):
            A[i, k] /= A[k, k]
            A[i, k + 1 :] -= A[i, k] * A[k, k + 1 :]
            x[i] -= A[i, k] * x[k]
    for i in range(n - 1, -1, -1):
        x[i] = (x[i] - A[i, i + 1 :] @ x[i + 1 :]) / A[i, i]
    return np.sum(x**2)


@example(POINTS, POINTS[::-1] * 0.1, 3.0, 2)
def pairs_within_a_cutoff(x, v, box, steps):
    x = x.copy()
    v = v.copy()
    f = np.zeros_like(x)
    energy = 0.0
    for _ in range(steps):
        f[:] = 0.0
        energy = 0.0
        for i in range(len(x)):
            for j in range(i + 1, len(x)):
                d = x[i] - x[j]
                d = d - box * np.round(d / box)
                r2 = d @ d + 0.5
                if r2 > 4.0:
                    continue
                w = np.exp(-r2)
                energy += w
                f[i] += 2.0 * w * d
                f[j] -= 2.0 * w * d
        v += 0.05 * f
        x += 0.05 * v
    return energy + 0.5 * np.sum(v * v)


@example(SQUARE)
def rotations_of_two_rows(B):
    A = B + B.T
    n = A.shape[0]
    for p in range(n - 1):
        for q in range(p + 1, n):
            angle = 0.5 * math.atan2(2 * A[p, q], A[q, q] - A[p, p])
            c, s = math.cos(angle), math.sin(angle)
            rows, others = A[p].copy(), A[q].copy()
            A[p], A[q] = c * rows - s * others, s * rows + c * others
            columns, rest = A[:, p].copy(), A[:, q].copy()
            A[:, p], A[:, q] = c * columns - s * rest, s * columns + c * rest
    return np.sum(np.diag(A) ** 3)
