"""A constant that is spread to axes of length 1 stays an operation: it is no number."""

import numpy as np

ARGUMENTS = {"H": np.array([[0.3, -1.2, 0.7]]), "b": np.array([0.5, 0.1, -0.4])}
OTHER = {"H": np.array([[0.3, -1.2]]), "b": np.array([0.5, 0.1])}
SECOND = True


def f(H, b):
    total = np.sum(H[:, 0][:, None] * 0.4 - np.sum(H * H) * 0.3)
    return total + np.sum(b * b * H[0])
