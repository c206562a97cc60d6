"""A part of an array is written to another, after the array was copied under its own name."""

import numpy as np

ARGUMENTS = {"x": np.linspace(0.2, 1.4, 7), "xs": np.linspace(-1.0, 1.0, 14).reshape(2, 7)}


def f(x, xs):
    u = x.copy()
    rows = np.zeros_like(xs)
    total = 0.0
    for t in range(len(xs)):
        u = rows[t]
        u[1:] += np.tanh(xs[t][1:] * x[:-1])
        u[2:] = u[1:-1]
        total += np.sum(u * xs[t])
    return total + np.sum(rows * rows)
