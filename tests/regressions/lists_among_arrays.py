"""Lists of numbers among the arrays that are joined, in lists of lists, and equal parts."""

import numpy as np

ARGUMENTS = {"x": np.array([0.3, -1.2, 0.7, 0.4]), "a": 0.8}
SECOND = True


def f(x, a):
    y = np.concatenate([x, [a, 2.0 * x[0]], [1, 2], x[1:] ** 2, [a]])
    first, second, third = np.split(y, 3)
    turn = np.array([[np.cos(a), -np.sin(a)], [np.sin(a), a]]) @ x[:2]
    rows = np.vstack([[1.0, a], x[:2], turn])
    stacks = np.array([[x, 2 * x], [[a, 1, 2, x[3]], x[::-1]]])
    return first @ second + np.sum(third**2) + np.sum(rows**2) + np.sum(stacks**3)
