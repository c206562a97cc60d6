"""A table of constant indices on Numba."""

import numpy as np

ARGUMENTS = {"x": np.array([[0.3, -1.2], [0.7, 0.1]])}


def f(x):
    return np.sum(x[np.array([[0, 1], [1, 1]])] ** 2)
