"""Slices as objects, with bounds that are known at run time."""

import numpy as np

ARGUMENTS = {"x": np.array([0.3, -1.2, 0.7, 0.4, 1.1]), "n": np.int64(2)}


def f(x, n):
    total = 0.0
    for i in range(n):
        part = slice(2 * i, 2 * i + 2)
        total += np.sum(x[part] ** 2)
        x[part] *= x[slice(n)]
    return total + np.sum(x[slice(None)] ** 3)
