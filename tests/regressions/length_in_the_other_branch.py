"""The adjoint of an array that one branch replaces has the length that it had on the way in."""

import numpy as np

ARGUMENTS = {"x": np.array([0.2, -0.8, 0.1, -0.9]), "a": 1.07, "A": np.ones((4, 4)) / 3}


def first_above(v, limit):
    for k in range(v.shape[0]):
        if v[k] > limit:
            return v[k]
    return limit


def f(x, a, A):
    n = x.shape[0]
    for _ in range(0, n, 2):
        if a > 1.17:
            for row in A:
                a = first_above(row**2, 1.43)
        else:
            A = np.zeros((n, n))
    return a
