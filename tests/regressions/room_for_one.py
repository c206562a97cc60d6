"""A slice of unknown length is written where there is room for one."""

import numpy as np

ARGUMENTS = {"x": np.array([[0.3, -1.2], [0.7, 0.1]]), "d": 1}


def f(x, d):
    z = np.zeros((2, 1))
    z[:] = x[:, d:]
    return np.sum(z * x)
