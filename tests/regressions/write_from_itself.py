"""Rows taken from where they are written to."""

import numpy as np

ARGUMENTS = {"x": np.array([[0.3, -1.2], [0.7, 0.1], [0.2, 0.9]])}


def f(x):
    h = x * 2.0
    h[[2, 0]] = h[1:]
    h[1:] = h[:-1]
    return np.sum(h * h * h)
