"""ADBench LSTM: a net of elementwise gates that predicts the next row of a sequence of bits.

`main_params` (2 l, 4 b): for each layer a row of weights and a row of biases, each split into
forget, ingate, outgate and change. `extra_params` (3, b): weights into and out of the net, and the
bias out of it. `state` (2 l, b): for each layer its output and its cell at the beginning.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from flatgrad import sigmoid

WIDTH = 14


def arguments(layers: int, steps: int, width: int = WIDTH, seed: int = 0) -> tuple[Any, ...]:
    """Parameters uniform in ±0.1, a sequence of random bits."""
    rng = np.random.default_rng(seed)
    return (
        rng.uniform(-0.1, 0.1, (2 * layers, 4 * width)), rng.uniform(-0.1, 0.1, (3, width)),
        rng.uniform(-0.1, 0.1, (2 * layers, width)),
        rng.integers(0, 2, (steps, width)).astype(np.float64),
    )  # fmt: skip


def arrays(main_params, extra_params, state, sequence):
    """A row of the state at a time."""
    layers, b = state.shape[0] // 2, state.shape[1]
    state = state.copy()
    total = 0.0
    for t in range(sequence.shape[0] - 1):
        x = sequence[t] * extra_params[0]
        for q in range(layers):
            weight, bias = main_params[2 * q], main_params[2 * q + 1]
            h, c = state[2 * q], state[2 * q + 1]
            forget = sigmoid(x * weight[:b] + bias[:b])
            ingate = sigmoid(h * weight[b : 2 * b] + bias[b : 2 * b])
            outgate = sigmoid(x * weight[2 * b : 3 * b] + bias[2 * b : 3 * b])
            change = np.tanh(h * weight[3 * b :] + bias[3 * b :])
            c = c * forget + ingate * change
            x = outgate * np.tanh(c)
            state[2 * q] = x
            state[2 * q + 1] = c
        y = x * extra_params[1] + extra_params[2]
        norm = np.log(2.0 + np.sum(np.exp(y)))
        total += np.sum(sequence[t + 1] * (y - norm))
    return -total / ((sequence.shape[0] - 1) * b)


def loops(main_params, extra_params, state, sequence):
    """The same, number by number."""
    layers, b = state.shape[0] // 2, state.shape[1]
    state = state.copy()
    x = np.empty(b)
    total = 0.0
    for t in range(sequence.shape[0] - 1):
        for i in range(b):
            x[i] = sequence[t, i] * extra_params[0, i]
        for q in range(layers):
            for i in range(b):
                h, c = state[2 * q, i], state[2 * q + 1, i]
                forget = sigmoid(x[i] * main_params[2 * q, i] + main_params[2 * q + 1, i])
                ingate = sigmoid(h * main_params[2 * q, b + i] + main_params[2 * q + 1, b + i])
                outgate = sigmoid(
                    x[i] * main_params[2 * q, 2 * b + i] + main_params[2 * q + 1, 2 * b + i]
                )
                change = math.tanh(
                    h * main_params[2 * q, 3 * b + i] + main_params[2 * q + 1, 3 * b + i]
                )
                c = c * forget + ingate * change
                x[i] = outgate * math.tanh(c)
                state[2 * q, i] = x[i]
                state[2 * q + 1, i] = c
        s = 2.0
        for i in range(b):
            s += math.exp(x[i] * extra_params[1, i] + extra_params[2, i])
        norm = math.log(s)
        for i in range(b):
            y = x[i] * extra_params[1, i] + extra_params[2, i]
            total += sequence[t + 1, i] * (y - norm)
    return -total / ((sequence.shape[0] - 1) * b)
