"""Numba's sum over slices added a constant where the slice does not reach."""

import numpy as np

ARGUMENTS = {"u0": np.linspace(0.5, 1.0, 7), "a": 0.3, "steps": 3}


def f(u0, a, steps):
    total = 0.0
    u = u0.copy()
    for _ in range(steps):
        total += np.sum(u[:-2]) * a
        total += np.sum(u[2:]) * a
        u[1:-1] = a * (u[:-2] + u[2:])
    return total + np.sum(u * u)
