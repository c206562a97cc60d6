"""A number broadcast to a shape is one element in memory: a write changes all."""

import numpy as np

ARGUMENTS = {"x": -0.5, "w": np.array([0.3, -1.2, 0.7])}
REFUSED = 'unsupported-write'


def f(x, w):
    g, h = np.broadcast_arrays(w, x)
    h[1] = 2.0
    return np.sum(h) * x + np.sum(g)
