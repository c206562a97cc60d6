"""`np.copy` of a Python float is an array of float64, not a Python float."""

import numpy as np

ARGUMENTS = {"x": -0.64, "w": np.array([0.3, -1.2, 0.7], np.float32)}


def f(x, w):
    q = np.copy(x) * w
    return np.sum(q)
