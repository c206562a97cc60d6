"""A parameter of an inner gradient that is bound to another name is found by its own."""

import numpy as np

from flatgrad import grad

ARGUMENTS = {"x": np.array([1.0, 2.0])}


def inner(x):
    h = x
    for _ in range(2):
        h = h * x
    return np.sum(h)


def f(x):
    return np.sum(grad(inner)(x))
