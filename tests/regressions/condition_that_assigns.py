"""A `:=` in the condition of a `while`, with `continue`, `break` and `else`."""

import numpy as np

ARGUMENTS = {"x": np.array([0.3, -1.2, 0.7]), "a": 0.8}
SECOND = True


def f(x, a):
    total, k = 0.0, 0
    for v in x:
        while (step := a * v - total) > 0.1 and (k := k + 1) < 6:
            if k == 2:
                total += 0.1 * a
                continue
            total += 0.5 * step * step
            if total > 2:
                break
        else:
            total = total * step - v
    return total * k + step
