"""A dict among the auxiliary results was written as a repr."""

import numpy as np

ARGUMENTS = {"x": np.array([0.3, -1.2])}
HAS_AUX = True


def f(x):
    return np.sum(x * x), {"w": x * 2.0}
