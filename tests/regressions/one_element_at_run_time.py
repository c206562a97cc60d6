"""`x[i:i + 1]` has length 1 and broadcasts, be `i` an argument or the index of a loop."""

import numpy as np

ARGUMENTS = {"X": np.array([[0.3, -1.2], [0.7, 0.4], [1.1, 0.2]]), "b": np.int64(1)}
OTHER = {"X": np.array([[0.3, -1.2], [0.7, 0.4]]), "b": np.int64(0)}
SECOND = True


def f(X, b):
    total = np.sum(X[b : b + 1] * X)
    for i in range(1, X.shape[0]):
        row = np.tanh(X[i : i + 1] - X[i - 1 : i])
        total = total + np.sum((X - row) ** 2)
        X[i - 1 : i] *= row
    return total
