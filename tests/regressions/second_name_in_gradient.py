"""A function whose gradient is called may give its parameter a second name."""

import numpy as np

from flatgrad import grad

ARGUMENTS = {"x": np.array([0.3, 0.5, 0.7])}


@grad
def slope(x):
    y = x
    return np.sum(y * np.sin(x))


def f(x):
    return np.sum(slope(x) ** 2)
