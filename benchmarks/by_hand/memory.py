"""ADBench LSTM: gates without matrix products.

Rows are padded to multiples of 8, so that loops over them end without a remainder. Sigmoids and
tanhs are kept, not their arguments: the reverse sweep has no exponential. One exponential serves
all four gates, as tanh(x) = 2 sigmoid(2 x) - 1; weights and biases of the `change` gate are doubled
for that beforehand.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.by_hand.flags import exp, loop, strict


@strict
def _padded(rows, b, wide):
    """Blocks of b columns, each in a block of `wide`, zeros behind."""
    blocks = rows.shape[1] // b
    out = np.zeros((rows.shape[0], blocks * wide))
    for i in range(rows.shape[0]):
        for k in range(blocks):
            for j in range(b):
                out[i, k * wide + j] = rows[i, k * b + j]
    return out


@loop
def _gates(x, h, c, weight, bias, gates, new_c, squashed, new_h):
    """One layer, one step; in `gates`: forget, ingate, outgate, change."""
    B = x.size
    for j in range(B):
        gates[j] = x[j] * weight[j] + bias[j]
    part, w, v = gates[B : 2 * B], weight[B : 2 * B], bias[B : 2 * B]
    for j in range(B):
        part[j] = h[j] * w[j] + v[j]
    part, w, v = gates[2 * B : 3 * B], weight[2 * B : 3 * B], bias[2 * B : 3 * B]
    for j in range(B):
        part[j] = x[j] * w[j] + v[j]
    part, w, v = gates[3 * B :], weight[3 * B :], bias[3 * B :]
    for j in range(B):
        part[j] = h[j] * w[j] + v[j]
    for j in range(gates.size):
        gates[j] = 1.0 / (1.0 + exp(-gates[j]))
    forget, ingate, outgate = gates[:B], gates[B : 2 * B], gates[2 * B : 3 * B]
    for j in range(B):
        part[j] = 2.0 * part[j] - 1.0
    for j in range(B):
        new_c[j] = c[j] * forget[j] + ingate[j] * part[j]
    for j in range(B):
        squashed[j] = 2.0 / (1.0 + exp(-2.0 * new_c[j])) - 1.0
    for j in range(B):
        new_h[j] = outgate[j] * squashed[j]


@loop
def _gates_back(x, h, c, weight, gates, squashed, gx, gh, gc, part, grad_weight, grad_bias):
    """gh: adjoint of the new h, then of the old; gc likewise; gx: adjoint of x, written.

    One statement per loop: with more arrays in a loop, LLVM gives up proving that they differ.
    """
    B = x.size
    forget, ingate = gates[:B], gates[B : 2 * B]
    outgate, change = gates[2 * B : 3 * B], gates[3 * B :]
    df, di, do, da = part[:B], part[B : 2 * B], part[2 * B : 3 * B], part[3 * B :]
    wf, wi, wo, wa = weight[:B], weight[B : 2 * B], weight[2 * B : 3 * B], weight[3 * B :]
    for j in range(B):
        do[j] = gh[j] * squashed[j] * outgate[j] * (1.0 - outgate[j])
    for j in range(B):
        gc[j] += gh[j] * outgate[j] * (1.0 - squashed[j] * squashed[j])
    for j in range(B):
        df[j] = gc[j] * c[j] * forget[j] * (1.0 - forget[j])
    for j in range(B):
        di[j] = gc[j] * change[j] * ingate[j] * (1.0 - ingate[j])
    for j in range(B):
        da[j] = gc[j] * ingate[j] * (1.0 - change[j] * change[j])
    for j in range(B):
        gc[j] *= forget[j]
    for j in range(B):
        gx[j] = df[j] * wf[j] + do[j] * wo[j]
    for j in range(B):
        gh[j] = di[j] * wi[j] + da[j] * wa[j]
    for j in range(4 * B):
        grad_bias[j] += part[j]
    mf, mi = grad_weight[:B], grad_weight[B : 2 * B]
    mo, ma = grad_weight[2 * B : 3 * B], grad_weight[3 * B :]
    for j in range(B):
        mf[j] += df[j] * x[j]
    for j in range(B):
        mi[j] += di[j] * h[j]
    for j in range(B):
        mo[j] += do[j] * x[j]
    for j in range(B):
        ma[j] += da[j] * h[j]


@loop
def _output(top, weight, bias, row, following, b):
    """The loss of a step; `row` becomes the softmax, with 2 added to its denominator."""
    for j in range(row.size):
        row[j] = exp(top[j] * weight[j] + bias[j])
    s, total, count = 2.0, 0.0, 0.0
    for j in range(b):
        s += row[j]
        total += following[j] * (top[j] * weight[j] + bias[j])
        count += following[j]
    factor = count / s
    for j in range(row.size):
        row[j] *= factor
    return total - count * math.log(s)


@loop
def _output_back(top, weight, soft, following, gh, grad_weight, grad_bias, scale):
    for j in range(top.size):
        gy = scale * (following[j] - soft[j])
        grad_weight[j] += gy * top[j]
        grad_bias[j] += gy
        gh[j] += gy * weight[j]


@loop
def _input_back(gx, row, grad_weight):
    for j in range(row.size):
        grad_weight[j] += gx[j] * row[j]


@loop
def _multiply(out, a, b):
    for j in range(out.size):
        out[j] = a[j] * b[j]


@loop
def _add(out, more):
    for j in range(out.size):
        out[j] += more[j]


@strict
def lstm(main_params, extra_params, state, sequence):
    """Forward with everything kept, then backward."""
    layers, b = state.shape[0] // 2, state.shape[1]
    B = (b + 7) // 8 * 8
    steps = sequence.shape[0] - 1
    main, extra = _padded(main_params, b, B), _padded(extra_params, b, B)
    rows, start = _padded(sequence, b, B), _padded(state, b, B)
    doubled = main.copy()
    doubled[:, 3 * B :] *= 2.0
    inputs = np.empty((steps, B))
    hs, cs = np.empty((steps + 1, layers, B)), np.empty((steps + 1, layers, B))
    hs[0], cs[0] = start[0::2], start[1::2]
    gates, squashed = np.empty((steps, layers, 4 * B)), np.empty((steps, layers, B))
    soft = np.empty((steps, B))
    total = 0.0
    for t in range(steps):
        x = inputs[t]
        _multiply(x, rows[t], extra[0])
        for q in range(layers):
            _gates(x, hs[t, q], cs[t, q], doubled[2 * q], doubled[2 * q + 1], gates[t, q],
                   cs[t + 1, q], squashed[t, q], hs[t + 1, q])  # fmt: skip
            x = hs[t + 1, q]
        total += _output(x, extra[1], extra[2], soft[t], rows[t + 1], b)
    scale = -1.0 / (steps * b)
    grad_main, grad_extra = np.zeros_like(main), np.zeros_like(extra)
    gh, gc = np.zeros((layers, B)), np.zeros((layers, B))
    gx, part = np.zeros(B), np.empty(4 * B)
    for t in range(steps - 1, -1, -1):
        _output_back(hs[t + 1, layers - 1], extra[1], soft[t], rows[t + 1], gh[layers - 1],
                     grad_extra[1], grad_extra[2], scale)  # fmt: skip
        for q in range(layers - 1, -1, -1):
            x = hs[t + 1, q - 1] if q else inputs[t]
            _gates_back(x, hs[t, q], cs[t, q], main[2 * q], gates[t, q], squashed[t, q], gx,
                        gh[q], gc[q], part, grad_main[2 * q], grad_main[2 * q + 1])  # fmt: skip
            if q:
                _add(gh[q - 1], gx)
        _input_back(gx, rows[t], grad_extra[0])
    return total * scale, (_unpadded(grad_main, b, B), _unpadded(grad_extra, b, B))


@strict
def _unpadded(rows, b, wide):
    blocks = rows.shape[1] // wide
    out = np.empty((rows.shape[0], blocks * b))
    for i in range(rows.shape[0]):
        for k in range(blocks):
            for j in range(b):
                out[i, k * b + j] = rows[i, k * wide + j]
    return out
