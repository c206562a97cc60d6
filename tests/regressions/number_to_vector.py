"""A number reshaped by -1 was `np.full((-1,), x)` on Numba."""

import numpy as np

ARGUMENTS = {"x": np.array([0.3, -1.2, 0.7])}


def f(x):
    b = np.tensordot(x, x, axes=1)
    return np.sum(b.reshape(-1) * 3.0)
