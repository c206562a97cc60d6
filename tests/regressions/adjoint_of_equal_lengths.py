"""Two names for one length: the adjoint of `h` had the other one."""

import numpy as np

ARGUMENTS = {"x": np.arange(15.0).reshape(3, 5) ** 2 / 90}


def f(x):
    t = np.zeros((x.shape[0], 2))
    t[:] = x[:, :1]
    h = np.std(t[:2] + x[:2, :2], axis=1)
    v = h[1:]
    t += h
    return np.sum(t * t) + np.sum(v)
