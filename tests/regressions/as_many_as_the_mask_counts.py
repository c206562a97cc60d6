"""As many values as a mask has places, counted when running; counts of every form."""

import numpy as np

ARGUMENTS = {"x": np.array([0.7, -1.2, 0.2]), "table": np.array([[0, 3, 1], [2, 0, 0]])}
SECOND = True


def f(x, table):
    y = 2 * x
    y[y > 0.5] = y[y > 0.5] ** 2
    counts = np.count_nonzero(table, axis=0) + np.count_nonzero(table, axis=1, keepdims=True)
    return np.sum(y * counts) + np.count_nonzero(x > 0) * y[0] + np.count_nonzero(x[1]) * y[1]
