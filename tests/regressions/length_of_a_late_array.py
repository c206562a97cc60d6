"""The length of an adjoint is checked: a pullback of the gradient reads it in its second half."""

import numpy as np

import flatgrad as fg

ARGUMENTS = {"A": np.array([[0.3, -1.2, 0.5], [0.7, 0.1, 0.2]])}


def inner(A):
    x = np.diag(A)
    return np.sum(x * x * x)


def f(A):
    return np.sum(fg.grad(inner)(A) * A)
