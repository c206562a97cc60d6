"""Two loops over time, each with a stencil whose adjoint is gathered from a row of its own."""

import numpy as np

ARGUMENTS = {"u": np.linspace(0.1, 1.0, 9) ** 2, "k": 0.3, "steps": 2}
SECOND = True


def swept(u, k, steps):
    for _ in range(steps):
        v = u.copy()
        for i in range(1, u.shape[0] - 1):
            v[i] = u[i] + k * (u[i - 1] - 2 * u[i] + u[i + 1])
        u = v
    return u


def f(u, k, steps):
    u = swept(swept(u, k, steps), k, 1)
    if k > 0:
        u = swept(u, 2 * k, 1)
    return np.sum(u * u)
