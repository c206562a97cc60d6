"""Sums and means of numbers: their adjoints are numbers, too, which are added to elements."""

import numpy as np

ARGUMENTS = {"x": np.array([0.7, 0.3, 0.2]), "a": 0.4}
SECOND = True


def f(x, a):
    return np.sum(x[0] % x[1]) + np.mean(x[0] * x[2]) + np.sum(a * x[1])
