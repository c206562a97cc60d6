"""`np.where` of one argument, `np.nonzero` and `np.flatnonzero` tell positions."""

import numpy as np

ARGUMENTS = {"x": np.array([0.3, -1.2, 0.7, 1.1]), "y": np.array([1.1, 0.4, -0.6, 0.9])}
OTHER = {"x": np.array([0.3, -1.2]), "y": np.array([1.1, 0.4])}
SECOND = True


def f(x, y):
    (positive,) = np.nonzero(x > 0)
    large = y > 0.5
    total = np.sum(x[np.flatnonzero(large)] * y[large])
    for k in positive:
        total = total + x[k] ** 3
    x[np.where(x < 0)[0]] *= 2.0
    return total + np.sum(x[positive] * y[positive]) * len(positive) + np.sum(x * x)
