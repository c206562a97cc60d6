"""Variables with names that the emitted code uses itself."""

import numpy as np

ARGUMENTS = {"x": np.array([[0.3, -1.2], [0.7, 0.1]]), "slice": 2.0}


def f(x, slice):
    float = x * 2.0
    np.add.at(float, (np.array([0, 0]), np.array([1, 1])), 1.0)
    max = float[[0, 1, 1], 1:]
    grad_x = max * slice
    return np.sum(grad_x * max)
