"""A number has no method `dot`, as an array of no axes does."""

import numpy as np

ARGUMENTS = {"x": np.array([0.3, -1.2, 0.7]), "y": np.array(0.8)}


def f(x, y):
    b = y.dot(x)
    return np.mean(b * b)
