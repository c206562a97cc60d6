"""The inner loop runs over a length that is computed from two others."""

import numpy as np

ARGUMENTS = {"x": np.array([0.3, -1.2, 0.7, 0.1, 0.5]), "w": np.array([0.4, -0.8])}
OTHER = {"x": np.array([0.3, -1.2, 0.7, 0.1, 0.5, 0.9]), "w": np.array([0.4, -0.8, 0.2])}


def f(x, w):
    out = np.zeros(x.shape[0] - w.shape[0] + 1)
    for i in range(2):
        for j in range(out.shape[0]):
            out[j] = out[j] * w[0] + np.sin(x[i])
    return np.sum(out * out)
