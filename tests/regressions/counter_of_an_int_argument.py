"""An int argument that counts down, and is an index on the way, is not differentiated."""

import numpy as np

ARGUMENTS = {"x": np.array([0.3, -1.2, 0.7, 0.4]), "n": 3}


def f(x, n):
    while n > 0:
        n -= 1
        for k in range(2):
            if x[n] > 0.6:
                return x[n] * k
            x[n - k] *= x[0]
    return np.sum(x)
