"""Numba's text copied a number by a method."""

import numpy as np

ARGUMENTS = {"x": 0.51}


def f(x):
    z = np.array(x)
    return z * z
