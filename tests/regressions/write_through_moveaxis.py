"""A write through `np.moveaxis` is seen in what it views."""

import numpy as np

ARGUMENTS = {"x": np.array([[0.3, -1.2], [0.7, 0.1]])}


def f(x):
    m = np.moveaxis(x, 0, -1)
    m[0] *= x[1]
    return np.sum(x * x)
