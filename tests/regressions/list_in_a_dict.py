"""A list taken out of another container is that list, not a copy: what is appended is seen."""

import numpy as np

ARGUMENTS = {"x": np.array([0.3, -1.2, 0.8])}


def f(x):
    state = {"a": [x[1], x[2]], "b": ([x[0]],)}
    state["a"].append(x[0] * x[1])
    inner = state["b"][0]
    inner.append(x[2])
    inner[0] = x[0] * 2.0
    return sum(state["a"]) * sum(state["b"][0])
