"""An operation took the name of its copy while another still read it."""

import numpy as np

ARGUMENTS = {"x": -0.07, "y": np.array([0.3, -1.2, 0.7])}


def f(x, y):
    x += np.tensordot(y, y, axes=(0, 0))
    return np.tanh(np.sum(x))
