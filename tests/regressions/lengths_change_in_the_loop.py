"""What is carried is another length after the first trip: so is its adjoint, in second order, too."""

import numpy as np

ARGUMENTS = {"x": np.array([0.3, -1.2, 0.7]), "A": np.array([[0.3, 0.5], [-0.7, 0.2]]), "k": 2}
OTHER = {"x": np.array([0.3, -1.2, 0.7]), "A": np.array([[0.3, 0.5], [-0.7, 0.2]]), "k": 0}
SECOND = True


def f(x, A, k):
    n = x.shape[0]
    for b in range(0, n, 2):
        for c in range(k):
            A = np.zeros((n, n)) + x[c]
        A = A * x[b]
    return np.sum(A * A)
