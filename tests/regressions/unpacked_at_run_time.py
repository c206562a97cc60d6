"""Arrays are unpacked whose lengths the arguments tell, or only the run."""

import numpy as np

ARGUMENTS = {"s": np.array([0.3, -1.2, 0.7]), "pairs": np.array([[0.3, -1.2], [0.7, 0.4]])}
SECOND = True


def f(s, pairs):
    for k in range(3):
        x, y, z = s
        s = s + 0.1 * np.array([y - x, x * (2 - z), x * y])
        s[0], s[1] = s[1], s[0]
    total = np.sum(s)
    for u, v in pairs:
        total = total + u * v
    (a, b), (c, d) = pairs
    e, g = s[s > s.min()]
    return total * (a * d - b * c) + e * g
