"""A linear function of values that vary but have no tangents."""

import numpy as np

ARGUMENTS = {"x": np.array([0.4, 0.9])}


def f(x):
    z = np.transpose(np.copysign(0.7, x[0]))
    return z * np.sum(x)
