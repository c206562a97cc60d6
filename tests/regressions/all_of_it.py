"""Reading `x[...]` compiles on Numba."""

import numpy as np

ARGUMENTS = {"x": np.array([[0.3, -1.2], [0.7, 0.1]])}


def f(x):
    a = x * 2.0
    b = a[...]
    b *= x
    a[...] = np.sin(b)
    return np.sum(a[...])
