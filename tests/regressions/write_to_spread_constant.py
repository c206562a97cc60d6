"""The adjoint of a sum, one number seen as an array, was written to in the second derivative."""

import numpy as np

ARGUMENTS = {"x": np.array([0.3, 0.5, 0.7])}


def f(x):
    y = x * 1.0
    y[0] = y[0] * 2.0 + np.sin(y[1])
    return np.sum(y)
