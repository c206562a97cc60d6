"""A return in a loop, after a loop of its own that ends and holds another one."""

import numpy as np

ARGUMENTS = {"x": np.array([0.1, -2.4, 0.2]), "y": np.array([-0.9, -0.6, 0.3])}


def returned(x, y):
    for _ in range(1, x.shape[0]):
        for _ in range(1, -1, -1):
            for _ in range(x.shape[0]):
                x *= y
        return y * x[0]
    return x * 1.0


def f(x, y):
    r = returned(x, y)
    return np.sum(r * r)
