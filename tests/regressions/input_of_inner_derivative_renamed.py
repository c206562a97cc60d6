"""The argument of a derivative inside keeps its name when it is assigned to another variable."""

import numpy as np

import flatgrad as fg

ARGUMENTS = {"x": np.array([0.3, -1.2]), "c": 0.7}


def inner(y):
    p, q = (y, y)
    return np.sum(q * q * p)


def f(x, c):
    return np.sum(fg.grad(inner)(x) * c)
