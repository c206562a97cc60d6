"""NumPy reads `r` while it writes to its memory: what it reads depends on the order."""

import numpy as np

ARGUMENTS = {"x": np.array([0.3, -1.2, 0.7, 0.1, 0.5])}
REFUSED = 'unsupported-write'


def f(x):
    t = np.flip(x, 0)
    t[t > -3.0] = x
    return np.sum(x * x[0])
