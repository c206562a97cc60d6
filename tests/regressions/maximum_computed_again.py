"""What a maximum was taken of is computed again with its terms in another order: no element is it."""

import numpy as np

ARGUMENTS = {"x": np.array([[0.13, -0.13, 0.64], [0.1, -0.54, 0.36], [1.3, 0.95, -0.7]]), "a": 0.1}


def f(x, a):
    total = 0.0
    for t in range(len(x)):
        total += np.max((x[t] - a) + (x[t] * 0.5 + x[t, 0]))
    return total
