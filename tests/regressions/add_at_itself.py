"""Numba's loop read elements that it had already added to."""

import numpy as np

ARGUMENTS = {"x": np.array([[0.3, -1.2], [0.7, 0.1], [0.2, 0.9]])}


def f(x):
    h = x * 2.0
    np.add.at(h, [-1, 0, -1], h)
    return np.sum(h * h)
