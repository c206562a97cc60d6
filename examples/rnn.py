"""A recurrent net learns to spell sonnets; its gradient is clipped and watched on its way back.

The text is four sonnets by Shakespeare (18, 29, 73, 116; 1609), the loop over time plain NumPy. The
adjoint of the state is clipped in every step by a hook. What reaches each step from an error at the
last one is the gradient with respect to `probe`, zeros that are added there: with small recurrent
weights it vanishes on its way back, with large ones it explodes.

    python examples/rnn.py [--quick] [--backend numba]     # trains, writes rnn.png
"""

import argparse
from pathlib import Path

import numpy as np

from flatgrad import adjoint, grad, stop_gradient, value_and_grad

HIDDEN, LENGTH, RATE, LIMIT = 48, 40, 3e-3, 1.0
SCALES = (0.5, 1.0, 2.5)
TEXT = Path(__file__).parent / "data" / "sonnets.txt"


def loss(Wx, Wh, b, Wy, c, probe, chars, weights, limit):
    h = np.zeros(Wx.shape[1])
    L = 0.0
    for t in range(len(chars) - 1):
        h = np.tanh(Wx[chars[t]] + Wh @ h + b + probe[t])
        with adjoint(h) as g:
            size = np.sqrt(np.sum(g * g))
            if size > limit:
                g = g * (limit / size)
        s = Wy @ h + c
        s = s - stop_gradient(np.max(s))
        L = L + weights[t] * (np.log(np.sum(np.exp(s))) - s[chars[t + 1]])
    return L


def initial(rng, letters, scale):
    """Parameters; `scale` is about the largest eigenvalue of the recurrent weights."""
    return [
        rng.normal(0, 0.3, (letters, HIDDEN)),
        rng.normal(0, scale / np.sqrt(HIDDEN), (HIDDEN, HIDDEN)),
        np.zeros(HIDDEN),
        rng.normal(0, 1 / np.sqrt(HIDDEN), (letters, HIDDEN)),
        np.zeros(letters),
    ]


def train(params, text, steps, rng, backend):
    """Adam on pieces of the text; the loss per letter of each step."""
    step = value_and_grad(loss, ("Wx", "Wh", "b", "Wy", "c"), backend=backend)
    probe, weights = np.zeros((LENGTH, HIDDEN)), np.full(LENGTH, 1 / LENGTH)
    first, second, history = [np.zeros_like(p) for p in params], [p * 0 for p in params], []
    for k in range(1, steps + 1):
        start = rng.integers(len(text) - LENGTH)
        L, gradients = step(*params, probe, text[start:][: LENGTH + 1], weights, LIMIT)
        for p, g, m, v in zip(params, gradients, first, second, strict=True):
            m += 0.1 * (g - m)
            v += 0.01 * (g * g - v)
            p -= RATE * (m / (1 - 0.9**k)) / (np.sqrt(v / (1 - 0.99**k)) + 1e-8)
        history.append(L)
    return history


def norms(params, piece, backend):
    """For each step the size of the gradient of the loss in the last one, not clipped."""
    probe, weights = np.zeros((LENGTH, HIDDEN)), np.eye(LENGTH)[-1]
    back = grad(loss, "probe", backend=backend)(*params, probe, piece, weights, 1e300)
    return np.linalg.norm(back, axis=1)


def write(params, letters, count, rng):
    """Text that the net makes up."""
    Wx, Wh, b, Wy, c = params
    h, k, out = np.zeros(HIDDEN), np.flatnonzero(letters == "\n")[0], []
    for _ in range(count):
        h = np.tanh(Wx[k] + Wh @ h + b)
        p = np.exp(2 * (Wy @ h + c))  # a little more certain than it is
        k = rng.choice(len(letters), p=p / p.sum())
        out.append(letters[k])
    return "".join(out)


def plot(curves, history, out):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    for scale, curve in curves.items():
        left.semilogy(curve, label=f"weights x {scale}")
    left.set(xlabel="step", title="gradient of the last letter's loss, by step")
    left.legend()
    right.plot(np.convolve(history, np.ones(20) / 20, "valid"))
    right.set(xlabel="update", title="loss per letter")
    figure.savefig(out, dpi=120)


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="200 steps")
    parser.add_argument("--out", default="rnn.png", help="'' for no plot")
    parser.add_argument("--backend", default="numpy")
    options = parser.parse_args(arguments)
    rng = np.random.default_rng(1)
    letters, text = np.unique(list(TEXT.read_text(encoding="utf-8")), return_inverse=True)
    curves = {}
    for scale in SCALES:
        params = initial(rng, len(letters), scale)
        curve = curves[scale] = norms(params, text[: LENGTH + 1], options.backend)
        print(f"weights x {scale}: {curve[-1]:.1e} at the last step, {curve[0]:.1e} at the first")
    params = initial(rng, len(letters), 1.0)
    history = train(params, text, 200 if options.quick else 3000, rng, options.backend)
    print(f"loss per letter: {np.mean(history[:20]):.2f} at first, {np.mean(history[-20:]):.2f}")
    print(write(params, letters, 200, rng))
    if options.out:
        plot(curves, history, options.out)


if __name__ == "__main__":
    main()
