"""An LSTM over time, for one sequence and for a batch."""

from __future__ import annotations

import numpy as np

from benchmarks.by_hand.flags import exp, loop, strict


@loop
def _cell(z, c, new_c, gates, squashed, h, H):
    """The gates i, f, o as sigmoids, g as a tanh, all by one exponential; then the new state.

    tanh(x) is 2 sigmoid(2 x) - 1.
    """
    for j in range(3 * H):
        gates[j] = 1.0 / (1.0 + exp(-z[j]))
    wide, out = z[3 * H :], gates[3 * H :]
    for j in range(H):
        out[j] = 2.0 / (1.0 + exp(-2.0 * wide[j])) - 1.0
    i, f, o = gates[:H], gates[H : 2 * H], gates[2 * H : 3 * H]
    for j in range(H):
        new_c[j] = f[j] * c[j] + i[j] * out[j]
    for j in range(H):
        squashed[j] = 2.0 / (1.0 + exp(-2.0 * new_c[j])) - 1.0
    for j in range(H):
        h[j] = o[j] * squashed[j]


@loop
def _cell_back(gz, gh, gc, gates, squashed, c, H):
    """Adjoints of z (written) and of the earlier c (in the place of gc)."""
    i, f, o, g = gates[:H], gates[H : 2 * H], gates[2 * H : 3 * H], gates[3 * H :]
    gi, gf, go, gg = gz[:H], gz[H : 2 * H], gz[2 * H : 3 * H], gz[3 * H :]
    for j in range(H):
        s = squashed[j]
        d = gc[j] + gh[j] * o[j] * (1.0 - s * s)
        go[j] = gh[j] * s * o[j] * (1.0 - o[j])
        gf[j] = d * c[j] * f[j] * (1.0 - f[j])
        gi[j] = d * g[j] * i[j] * (1.0 - i[j])
        gg[j] = d * i[j] * (1.0 - g[j] * g[j])
        gc[j] = d * f[j]


@loop
def _add_row_times(z, h, W):
    """z += h @ W, four rows of W at a time."""
    n = h.size
    for k in range(0, n - n % 4, 4):
        a, b, c, d = h[k], h[k + 1], h[k + 2], h[k + 3]
        r0, r1, r2, r3 = W[k], W[k + 1], W[k + 2], W[k + 3]
        for j in range(z.size):
            z[j] += (a * r0[j] + b * r1[j]) + (c * r2[j] + d * r3[j])
    for k in range(n - n % 4, n):
        row, a = W[k], h[k]
        for j in range(z.size):
            z[j] += a * row[j]


@strict
def lstm(Wx, Wh, b, xs, target):
    """The inputs of all steps by one product; so are the gradients of both matrices."""
    steps, H = xs.shape[0], Wh.shape[0]
    z = np.dot(xs, Wx)
    z += b
    hs, cs = np.zeros((steps + 1, H)), np.zeros((steps + 1, H))
    gates, squashed = np.empty((steps, 4 * H)), np.empty((steps, H))
    for t in range(steps):
        _add_row_times(z[t], hs[t], Wh)
        _cell(z[t], cs[t], cs[t + 1], gates[t], squashed[t], hs[t + 1], H)
    gh = hs[steps] - target
    loss = np.sum(gh * gh)
    gh *= 2.0
    gc = np.zeros(H)
    Wt = Wh.T.copy()
    for t in range(steps - 1, -1, -1):
        _cell_back(z[t], gh, gc, gates[t], squashed[t], cs[t], H)
        gh[:] = 0.0
        _add_row_times(gh, z[t], Wt)
    return loss, (np.dot(xs.T, z), np.dot(hs[:-1].T, z), _column_sums(z))


@loop
def _column_sums(z):
    total = np.zeros(z.shape[1])
    for t in range(z.shape[0]):
        row = z[t]
        for j in range(row.size):
            total[j] += row[j]
    return total


@strict
def lstm_batch(Wx, Wh, b, xs, target):
    """The same with a product for each step."""
    (steps, batch, D), H = xs.shape, Wh.shape[0]
    flat = xs.reshape(steps * batch, D)
    z_all = np.dot(flat, Wx)
    z = z_all.reshape(steps, batch, 4 * H)
    hs, cs = np.zeros((steps + 1, batch, H)), np.zeros((steps + 1, batch, H))
    gates, squashed = np.empty((steps, batch, 4 * H)), np.empty((steps, batch, H))
    part = np.empty((batch, 4 * H))
    for t in range(steps):
        np.dot(hs[t], Wh, part)
        for n in range(batch):
            row, more = z[t, n], part[n]
            for j in range(4 * H):
                row[j] += more[j] + b[j]
            _cell(row, cs[t, n], cs[t + 1, n], gates[t, n], squashed[t, n], hs[t + 1, n], H)
    gh = hs[steps] - target
    loss = np.sum(gh * gh)
    gh *= 2.0
    gc = np.zeros((batch, H))
    Wt = Wh.T.copy()
    for t in range(steps - 1, -1, -1):
        for n in range(batch):
            _cell_back(z[t, n], gh[n], gc[n], gates[t, n], squashed[t, n], cs[t, n], H)
        np.dot(z[t], Wt, gh)
    earlier = hs[:-1].reshape(steps * batch, H)
    return loss, (np.dot(flat.T, z_all), np.dot(earlier.T, z_all), _column_sums(z_all))
