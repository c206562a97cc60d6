"""A length that one branch computes is taken for that of the other, where it was never computed."""

import numpy as np

SECOND = True

ARGUMENTS = {"x": np.array([1.2, 0.46, 0.3]), "a": 2.0}


def f(x, a):
    for k in range(2):
        if k != 1:
            x[k:] = a
        else:
            x[k] += np.sum(x[k:])
    return np.sum(x * x)
