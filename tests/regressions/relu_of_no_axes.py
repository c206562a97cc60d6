"""`np.where` of numbers is an array of no axes: the helper for numbers made it empty."""

import numpy as np

import flatgrad as fg

ARGUMENTS = {"w": np.array([[0.3, -1.2], [-0.7, 0.1]])}


def f(w):
    m = w.mean()
    t = np.where(m > 3.0, 0.0, m)
    return fg.relu(t) + fg.softplus(np.squeeze(w[:1, :1]))
