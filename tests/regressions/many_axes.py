"""More axes than the Numba text had names of indices: a loop over the first ones only."""

import numpy as np

ARGUMENTS = {"x": np.arange(36.0).reshape(2, 1, 3, 1, 1, 2, 1, 1, 3) / 9}


def f(x):
    y = np.sin(x).sum(axis=(0, 3), keepdims=True) * x
    y = np.flip(np.cumsum(y, axis=8), 1)
    y[..., 0] += 1.0
    return np.sum(y * x) + np.mean(np.matmul(x, np.swapaxes(x, -1, -2)))
