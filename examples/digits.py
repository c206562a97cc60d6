"""A two-layer net learns to read handwritten digits; the gradient is generated code.

The data are the 1,797 images of 8 x 8 pixels that come with scikit-learn (from the UCI set "Optical
Recognition of Handwritten Digits"). The loss is plain NumPy, the training loop plain Python:

    python examples/digits.py                     # trains, writes digits.png
    python examples/digits.py --show              # prints the emitted gradient first
    python examples/digits.py --backend numba     # the same curve from compiled code
"""

import argparse
import time

import numpy as np
from sklearn.datasets import load_digits
from tqdm import tqdm

from flatgrad import value_and_grad

HIDDEN, BATCH, RATE, REG, PATIENCE = 64, 32, 0.3, 1e-4, 10


def loss(W1, b1, W2, b2, X, t, reg):
    # two layers
    h = np.maximum(X @ W1 + b1, 0)
    s = h @ W2 + b2
    # softmax cross-entropy with the true classes t
    z = s - np.max(s, axis=1, keepdims=True)
    log_p = z - np.log(np.sum(np.exp(z), axis=1, keepdims=True))
    data = -np.mean(log_p[np.arange(len(t)), t])
    # L2 regularisation
    L = data + reg * (np.sum(W1**2) + np.sum(W2**2))
    return L


def accuracy(W1, b1, W2, b2, X, t):
    s = np.maximum(X @ W1 + b1, 0) @ W2 + b2
    return np.mean(s.argmax(axis=1) == t)


def load(rng):
    """Images for training, for deciding when to stop, and held out from both."""
    X, t = load_digits(return_X_y=True)
    order = rng.permutation(len(X))
    X, t = X[order] / 16, t[order]
    return (X[:1197], t[:1197]), (X[1197:1497], t[1197:1497]), (X[1497:], t[1497:])


def train(step, epochs, rng, train_set, watched):
    """Minibatch SGD until the loss on the watched images no longer falls; the best parameters."""
    X, t = train_set
    params = [
        rng.normal(0, np.sqrt(2 / X.shape[1]), (X.shape[1], HIDDEN)),
        np.zeros(HIDDEN),
        rng.normal(0, np.sqrt(2 / HIDDEN), (HIDDEN, 10)),
        np.zeros(10),
    ]
    best, best_loss, history = params, np.inf, []
    bar = tqdm(range(epochs), unit="epoch", disable=None)
    for epoch in bar:
        rate = RATE * 0.97**epoch
        losses = []
        for batch in rng.permutation(len(X))[: len(X) // BATCH * BATCH].reshape(-1, BATCH):
            value, grads = step(*params, X[batch], t[batch], REG)
            params = [p - rate * g for p, g in zip(params, grads, strict=True)]
            losses.append(value)
        history.append((np.mean(losses), loss(*params, *watched, REG)))
        bar.set_postfix(loss=f"{history[-1][0]:.4f}", watched=f"{history[-1][1]:.4f}")
        if history[-1][1] < best_loss:
            best, best_loss, best_epoch = params, history[-1][1], epoch
        elif epoch - best_epoch >= PATIENCE:
            break
    return best, np.array(history)


def plot(history, path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    axes.semilogy(np.arange(1, len(history) + 1), history, label=["training", "watched"])
    axes.set(xlabel="epoch", ylabel="loss", title="Two-layer net on 8 x 8 digits")
    axes.legend()
    figure.savefig(path, dpi=120)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=100, help="at most (default %(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backend", default="numpy", choices=["numpy", "numba"])
    parser.add_argument("--out", default="digits.png", help="the curve (default %(default)s)")
    parser.add_argument("--no-plot", action="store_true")
    parser.add_argument("--show", action="store_true", help="print the emitted gradient first")
    options = parser.parse_args(argv)

    rng = np.random.default_rng(options.seed)
    train_set, watched, held_out = load(rng)
    step = value_and_grad(loss, argnums=("W1", "b1", "W2", "b2"), backend=options.backend)
    if options.show:
        shapes = [np.ones(shape) for shape in [(64, HIDDEN), HIDDEN, (HIDDEN, 10), 10]]
        print(step.source(*shapes, train_set[0], train_set[1], REG))

    start = time.perf_counter()
    params, history = train(step, options.epochs, rng, train_set, watched)
    seconds = time.perf_counter() - start
    print(f"{len(history)} epochs in {seconds:.1f} s, loss {history[-1][0]:.4f}")
    print(f"accuracy: train {accuracy(*params, *train_set):.2%}, ", end="")
    print(f"held out {accuracy(*params, *held_out):.2%}")
    if not options.no_plot:
        plot(history, options.out)
        print(f"curve: {options.out}")


if __name__ == "__main__":
    main()
