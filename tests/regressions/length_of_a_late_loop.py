"""A length that a loop of the late half of vjp(grad(f)) computes: it waits for the seeds, too."""

import numpy as np

SECOND = True

ARGUMENTS = {
    "x": np.array([0.3, -1.2, 0.8]),
    "A": np.array([[0.3, -1.2, 0.5], [0.7, 0.1, 0.2], [0.4, 0.9, -0.6]]),
}


def f(x, A):
    p = np.diag(x[None])
    for i in range(len(p)):
        for j in range(i + 1):
            A[i, j] += p[i] * x[j]
    return np.sum(A)
