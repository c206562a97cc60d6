"""The variable of a loop is read after it, set before it or not, and in the next trip around."""

import numpy as np

ARGUMENTS = {"x": np.array([0.3, -1.2, 0.7, 0.4]), "n": 3}
SECOND = True


def f(x, n):
    i = 1
    total = 0.0
    for v in x:
        for i in range(i % 2, n):
            if x[i] * v > 0.2:
                break
            total += v * x[i] ** 2
        else:
            total *= x[i]
    for k in range(0):
        total += k
    for i in range(n - 3):
        total += i
    for k in range(n):
        total += k * v
    return total * x[k] * i
