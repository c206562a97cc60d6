"""The parameter of a derivative inside a function was called like the variable that it is given to."""

import numpy as np

from flatgrad import grad

ARGUMENTS = {"x": 0.4, "y": np.array([0.3, -1.2, 0.7])}


def g(a, b):
    h = a
    return np.sum(np.sin(h * b))


def f(x, y):
    return grad(g, "a")(x, y) * x
