"""Numba's sum over neighbours added a constant where there was no neighbour."""

import numpy as np

ARGUMENTS = {"u0": np.linspace(0.5, 1.0, 7), "a": 0.3, "steps": 3}


def f(u0, a, steps):
    total = 0.0
    u = u0.copy()
    v = 0.5 * u0
    for _ in range(steps):
        for i in range(1, len(u0) - 1):
            v[i] = a * u[i - 1] + a * u[i + 1]
            total += u[i - 1] * a
        u, v = v, u
    return total + np.sum(u * u)
