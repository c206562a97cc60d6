"""ADBench GMM: strips of points, so that the innermost loops run over points.

For a strip and a component, y = Q (x - mu) is a triangular product whose rows are vectors of STRIP
numbers; four rows and four columns are done at once, so that a number that is loaded serves four
products. Forward and reverse sweep follow each other per strip: what is kept is y of one strip.
The reverse sweep needs sums over points only: of w, of w y, of w y (x - mu)'.
"""

from __future__ import annotations

import math

import numpy as np

from benchmarks.by_hand.flags import exp, inlined, log, loop, strict, summing

STRIP = 64
S = np.uint64(STRIP)
TWO, THREE = np.uint64(2), np.uint64(3)
SMALLEST = -500.0
"""Weights below e**-500 are 0: with subnormal numbers, arithmetic is fifty times slower."""


@inlined
def _aligned(size):
    """An array that starts with a cache line."""
    found = np.empty(size + 8)
    skip = (64 - found.ctypes.data % 64) % 64 // 8
    return found[skip : skip + size]


@inlined
def _centre(c, xt, mean, d):
    for a in range(d):
        at = np.uint64(a) * S
        middle = mean[a]
        for s in range(S):
            c[at + s] = xt[at + s] - middle


@loop
def _forward(y, y0, square, Q, c, d):
    """y = Q c from place y0 on, and the sum of squares of each point."""
    for s in range(S):
        square[s] = 0.0
    whole = d - d % 4
    for a in range(0, whole, 4):
        i = y0 + np.uint64(a) * S
        for s in range(S):
            y[i + s] = 0.0
            y[i + S + s] = 0.0
            y[i + TWO * S + s] = 0.0
            y[i + THREE * S + s] = 0.0
        for b in range(0, a + 4, 4):
            _four_rows(y, i, Q, a, b, c)
        for s in range(S):
            p, q, r, t = y[i + s], y[i + S + s], y[i + TWO * S + s], y[i + THREE * S + s]
            square[s] += (p * p + q * q) + (r * r + t * t)
    for a in range(whole, d):
        i = y0 + np.uint64(a) * S
        q = Q[a, a]
        j = np.uint64(a) * S
        for s in range(S):
            y[i + s] = q * c[j + s]
        for b in range(0, whole, 4):
            q0, q1, q2, q3 = Q[a, b], Q[a, b + 1], Q[a, b + 2], Q[a, b + 3]
            j = np.uint64(b) * S
            for s in range(S):
                y[i + s] += (q0 * c[j + s] + q1 * c[j + S + s]) + (
                    q2 * c[j + TWO * S + s] + q3 * c[j + THREE * S + s]
                )
        for b in range(whole, a):
            q = Q[a, b]
            j = np.uint64(b) * S
            for s in range(S):
                y[i + s] += q * c[j + s]
        for s in range(S):
            square[s] += y[i + s] * y[i + s]


@inlined
def _four_rows(y, i, Q, a, b, c):
    """Four rows of y, four columns of Q."""
    p0, p1, p2, p3 = Q[a, b], Q[a, b + 1], Q[a, b + 2], Q[a, b + 3]
    q0, q1, q2, q3 = Q[a + 1, b], Q[a + 1, b + 1], Q[a + 1, b + 2], Q[a + 1, b + 3]
    r0, r1, r2, r3 = Q[a + 2, b], Q[a + 2, b + 1], Q[a + 2, b + 2], Q[a + 2, b + 3]
    t0, t1, t2, t3 = Q[a + 3, b], Q[a + 3, b + 1], Q[a + 3, b + 2], Q[a + 3, b + 3]
    j = np.uint64(b) * S
    for s in range(S):
        c0, c1, c2, c3 = c[j + s], c[j + S + s], c[j + TWO * S + s], c[j + THREE * S + s]
        y[i + s] += (p0 * c0 + p1 * c1) + (p2 * c2 + p3 * c3)
        y[i + S + s] += (q0 * c0 + q1 * c1) + (q2 * c2 + q3 * c3)
        y[i + TWO * S + s] += (r0 * c0 + r1 * c1) + (r2 * c2 + r3 * c3)
        y[i + THREE * S + s] += (t0 * c0 + t1 * c1) + (t2 * c2 + t3 * c3)


@loop
def _weights(main, k, grad_alphas, valid):
    """The log-likelihood of the points; main becomes the weights of the components."""
    largest, total = np.empty(STRIP), np.empty(STRIP)
    for s in range(S):
        largest[s] = main[s]
        total[s] = 0.0
    for c in range(1, k):
        at = np.uint64(c) * S
        for s in range(S):
            largest[s] = max(largest[s], main[at + s])
    for c in range(k):
        at = np.uint64(c) * S
        for s in range(S):
            below = main[at + s] - largest[s]
            e = exp(max(below, SMALLEST))
            e = e if below > SMALLEST else 0.0
            main[at + s] = e
            total[s] += e
    value = 0.0
    for s in range(valid):
        value += largest[s] + log(total[s])
    for s in range(STRIP):
        total[s] = 1.0 / total[s] if s < valid else 0.0
    for c in range(k):
        at = np.uint64(c) * S
        count = 0.0
        for s in range(S):
            w = main[at + s] * total[s]
            main[at + s] = w
            count += w
        grad_alphas[c] += count
    return value


@loop
def _backward(G, sums, y, y0, w, w0, c, d):
    """G += (w y) c', of which the lower triangle is right; sums += w y over the points."""
    for a in range(d):
        i = y0 + np.uint64(a) * S
        total = 0.0
        for s in range(S):
            g = y[i + s] * w[w0 + s]
            y[i + s] = g
            total += g
        sums[a] += total
    whole = d - d % 4
    for a in range(0, whole, 4):
        for b in range(0, a + 4, 4):
            _four_by_four(G, a, b, y, y0 + np.uint64(a) * S, c, np.uint64(b) * S)
    for a in range(whole, d):
        i = y0 + np.uint64(a) * S
        for b in range(a + 1):
            j = np.uint64(b) * S
            total = 0.0
            for s in range(S):
                total += y[i + s] * c[j + s]
            G[a, b] += total


@summing
def _four_by_four(G, a, b, y, i, c, j):
    """Sixteen sums over the points in one loop."""
    p0 = p1 = p2 = p3 = q0 = q1 = q2 = q3 = 0.0
    r0 = r1 = r2 = r3 = t0 = t1 = t2 = t3 = 0.0
    for s in range(S):
        c0, c1, c2, c3 = c[j + s], c[j + S + s], c[j + TWO * S + s], c[j + THREE * S + s]
        g = y[i + s]
        p0, p1, p2, p3 = p0 + g * c0, p1 + g * c1, p2 + g * c2, p3 + g * c3
        g = y[i + S + s]
        q0, q1, q2, q3 = q0 + g * c0, q1 + g * c1, q2 + g * c2, q3 + g * c3
        g = y[i + TWO * S + s]
        r0, r1, r2, r3 = r0 + g * c0, r1 + g * c1, r2 + g * c2, r3 + g * c3
        g = y[i + THREE * S + s]
        t0, t1, t2, t3 = t0 + g * c0, t1 + g * c1, t2 + g * c2, t3 + g * c3
    rows = G[a], G[a + 1], G[a + 2], G[a + 3]
    sums = (p0, p1, p2, p3), (q0, q1, q2, q3), (r0, r1, r2, r3), (t0, t1, t2, t3)
    for u in range(4):
        for v in range(4):
            rows[u][b + v] += sums[u][v]


@strict
def _factors(icf, k, d):
    """The triangular matrices, zeros above the diagonal."""
    Q = np.zeros((k, d, d))
    for c in range(k):
        row, matrix = icf[c], Q[c]
        at = d
        for b in range(d):
            matrix[b, b] = math.exp(row[b])
            for a in range(b + 1, d):
                matrix[a, b] = row[at]
                at += 1
    return Q


@strict
def _load(xt, x, start, valid, d):
    """A strip of points, transposed; zeros behind the last."""
    for a in range(d):
        at = a * STRIP
        for s in range(valid):
            xt[at + s] = x[start + s, a]
        for s in range(valid, STRIP):
            xt[at + s] = 0.0


@loop
def _log_density(main, k, factor, square):
    at = np.uint64(k) * S
    for s in range(S):
        main[at + s] = factor - 0.5 * square[s]


@strict
def gmm(alphas, means, icf, x, gamma, m, const):
    """Strip after strip, forward and back; then the prior, and the sums to gradients."""
    (n, d), k = x.shape, alphas.size
    Q = _factors(icf, k, d)
    G, sums = np.zeros((k, d, d)), np.zeros((k, d))
    grad_alphas = np.zeros(k)
    xt, c, y = _aligned(d * STRIP), _aligned(d * STRIP), _aligned(k * d * STRIP)
    main, square = _aligned(k * STRIP), _aligned(STRIP)
    logs = np.empty(k)
    for j in range(k):
        logs[j] = alphas[j] + np.sum(icf[j, :d])
    total = 0.0
    for start in range(0, n, STRIP):
        valid = min(STRIP, n - start)
        _load(xt, x, start, valid, d)
        for j in range(k):
            _centre(c, xt, means[j], d)
            _forward(y, np.uint64(j * d) * S, square, Q[j], c, d)
            _log_density(main, j, logs[j], square)
        total += _weights(main, k, grad_alphas, valid)
        for j in range(k):
            _centre(c, xt, means[j], d)
            _backward(G[j], sums[j], y, np.uint64(j * d) * S, main, np.uint64(j) * S, c, d)
    prior, grads = _finish(Q, G, sums, grad_alphas, alphas, icf, n, gamma, m)
    return const + total + prior, grads


@strict
def _finish(Q, G, sums, counts, alphas, icf, n, gamma, m):
    """Gradients in the parameters, with those of the prior and of the norm of the weights."""
    k, d, _ = Q.shape
    grad_means, grad_icf = np.zeros((k, d)), np.empty_like(icf)
    largest = np.max(alphas)
    e = np.exp(alphas - largest)
    norm = np.sum(e)
    value = -n * (largest + math.log(norm))
    for c in range(k):
        at = d
        for b in range(d):
            diagonal = Q[c, b, b]
            value += 0.5 * gamma * gamma * diagonal * diagonal - m * icf[c, b]
            grad_icf[c, b] = counts[c] - diagonal * (G[c, b, b] - gamma * gamma * diagonal) - m
            for a in range(b, d):
                grad_means[c, b] += Q[c, a, b] * sums[c, a]
            for a in range(b + 1, d):
                entry = Q[c, a, b]
                value += 0.5 * gamma * gamma * entry * entry
                grad_icf[c, at] = gamma * gamma * entry - G[c, a, b]
                at += 1
    return value, (counts - n / norm * e, grad_means, grad_icf)
