"""A parameter of an inner gradient that was bound to another name was not found by its own."""

from __future__ import annotations

import numpy as np

from flatgrad import grad


def inner(x):
    h = x
    for _ in range(2):
        h = h * x
    return np.sum(h)


def outer(x):
    return np.sum(grad(inner)(x))


x = np.array([1.0, 2.0])
np.testing.assert_allclose(grad(outer)(x), 6 * x)
