"""A whole training loop in one compiled function: minibatches, loss, gradient, Adam.

A net with one hidden layer tells two spirals apart. The loss is plain NumPy; flatgrad writes its
gradient, and Numba compiles the loop with the gradient in it, so that no step goes through Python:

    python examples/train_njit.py                   # trains, compares with the same loop in Python
    python examples/train_njit.py --steps 2000
"""

import argparse
import time
from typing import NamedTuple

import numba
import numpy as np

from flatgrad import optim, value_and_grad

HIDDEN, BATCH, RATE = 64, 32, 0.02


class Net(NamedTuple):
    """The parameters."""

    W1: np.ndarray
    b1: np.ndarray
    w2: np.ndarray
    b2: float


def scores(net, X):
    h = np.tanh(X @ net.W1 + net.b1)
    return h @ net.w2 + net.b2


def loss(net, X, t):
    # cross-entropy of a sigmoid, for classes t that are 0 or 1
    s = scores(net, X)
    L = np.mean(np.logaddexp(0.0, s) - t * s)
    return L


step = value_and_grad(loss, argnums="net", backend="numba")


@numba.njit
def train(net, X, t, steps, seed):
    """The parameters after so many steps, and the loss of each step."""
    np.random.seed(seed)
    state = optim.adam_init(net)
    losses = np.empty(steps)
    for k in range(steps):
        batch = np.random.randint(0, len(X), BATCH)
        losses[k], grads = step(net, X[batch], t[batch])
        rate = RATE * 0.5 * (1 + np.cos(np.pi * k / steps))  # down to 0 along a cosine
        net, state = optim.adam(net, grads, state, rate)
    return net, losses


def spirals(rng, n):
    """Points of two spirals, n of each, and which of them each is of."""
    angle = 3 * np.pi * np.sqrt(rng.uniform(0.02, 1, (2, n)))
    turned = angle + np.array([[0.0], [np.pi]])
    X = np.stack((angle * np.cos(turned), angle * np.sin(turned)), axis=-1) / 3
    X += 0.08 * rng.normal(size=X.shape)
    return X.reshape(-1, 2), np.repeat([0.0, 1.0], n)


def initial(rng):
    return Net(rng.normal(size=(2, HIDDEN)), rng.normal(size=HIDDEN), np.zeros(HIDDEN), 0.0)


def accuracy(net, X, t):
    return np.mean((scores(net, X) > 0) == t)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=20_000, help="(default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)

    rng = np.random.default_rng(options.seed)
    X, t = spirals(rng, 500)
    held_out = spirals(rng, 500)
    net = initial(rng)
    train(net, X, t, 1, 0)  # compiles

    start = time.perf_counter()
    trained, losses = train(net, X, t, options.steps, options.seed)
    seconds = time.perf_counter() - start
    print(f"{options.steps} steps in {seconds:.2f} s, {options.steps / seconds:,.0f} per second")
    print(f"loss {losses[:100].mean():.3f} at first, {losses[-100:].mean():.3f} in the end")
    print(f"accuracy: train {accuracy(trained, X, t):.1%}, ", end="")
    print(f"held out {accuracy(trained, *held_out):.1%}")

    few = min(options.steps, 2000)
    start = time.perf_counter()
    train.py_func(net, X, t, few, options.seed)  # the same loop; the gradient alone is compiled
    print(f"from Python: {few / (time.perf_counter() - start):,.0f} steps per second")
    return trained


if __name__ == "__main__":
    main()
