"""A neuron, a two-layer net, a linear classifier with hinge loss, logistic regression, a chain."""

from __future__ import annotations

import math

import numba
import numpy as np
from numba.extending import overload

from benchmarks.by_hand.flags import exp, exp_f32, log1p, log1p_f32, loop, strict, tanh


def vector_exp(x):
    """The exponential in the precision of `x`; compiled code has the one below."""
    return np.exp(x)


def vector_log1p(x):
    """log(1 + x) in the precision of `x`; compiled code has the one below."""
    return np.log1p(x)


@overload(vector_exp, inline="always")
def _vector_exp(x):
    single = x == numba.float32
    return (lambda x: exp_f32(x)) if single else (lambda x: exp(x))


@overload(vector_log1p, inline="always")
def _vector_log1p(x):
    single = x == numba.float32
    return (lambda x: log1p_f32(x)) if single else (lambda x: log1p(x))


@strict
def neuron(w0, x0, w1, x1, w2):
    """Five gradients share the slope of the sigmoid."""
    L = 1.0 / (1.0 + math.exp(-(w0 * x0 + w1 * x1 + w2)))
    slope = (1.0 - L) * L
    return L, (slope * x0, slope * w0, slope * x1, slope * w1, slope)


@loop
def chain(x):
    """Map, sum and gradient in one loop."""
    grad_x = np.empty_like(x)
    total = 0.0
    for i in range(x.size):
        a = x[i]
        square = a * a
        t = tanh(a)
        e = exp(-square)
        total += t * e + log1p(square)
        grad_x[i] = e * ((1.0 - t * t) - 2.0 * a * t) + 2.0 * a / (1.0 + square)
    return total, grad_x


@loop
def _rectify(h, b):
    """h + b, 0 where it is negative, in the place of h."""
    for i in range(h.shape[0]):
        row = h[i]
        for j in range(b.size):
            row[j] = max(row[j] + b[j], row.dtype.type(0))


@loop
def _cross_entropy(s, b, y, grad_b):
    """The mean loss of the scores s + b; their gradient takes the place of s."""
    n, classes = s.shape
    total = 0.0
    scale = s.dtype.type(1.0 / n)
    for i in range(n):
        row = s[i]
        largest = row[0] + b[0]
        for j in range(classes):
            row[j] = row[j] + b[j]
            largest = max(largest, row[j])
        chosen = row[y[i]] - largest
        norm = row.dtype.type(0)
        for j in range(classes):
            row[j] = vector_exp(row[j] - largest)
            norm += row[j]
        total += math.log(norm) - chosen
        factor = scale / norm
        for j in range(classes):
            row[j] = row[j] * factor
        row[y[i]] -= scale
        for j in range(classes):
            grad_b[j] += row[j]
    return total / n


@loop
def _mask(grad_h, h, grad_b):
    """Nothing passes where the rectifier gave 0; the rest is also summed over the rows."""
    for i in range(h.shape[0]):
        row, gate = grad_h[i], h[i]
        for j in range(row.size):
            g = row[j] if gate[j] > 0 else row.dtype.type(0)
            row[j] = g
            grad_b[j] += g


@strict
def two_layer(W1, b1, W2, b2, X, y):
    """Five matrix products, with three loops between them."""
    h = np.dot(X, W1)
    _rectify(h, b1)
    s = np.dot(h, W2)
    grad_b2 = np.zeros_like(b2)
    loss = _cross_entropy(s, b2, y, grad_b2)
    grad_W2 = np.dot(h.T, s)
    grad_h = np.dot(s, W2.T)
    grad_b1 = np.zeros_like(b1)
    _mask(grad_h, h, grad_b1)
    grad_W1 = np.dot(X.T, grad_h)
    return loss, (grad_W1, grad_b1, grad_W2, grad_b2)


@loop
def _hinge(s, y):
    """The mean hinge loss of scores; their gradient takes their place."""
    n, classes = s.shape
    total = 0.0
    scale = 1.0 / n
    for i in range(n):
        row = s[i]
        floor = row[y[i]] - 1.0
        count = 0.0
        for j in range(classes):
            margin = row[j] - floor
            inside = margin > 0.0
            total += margin if inside else 0.0
            count += 1.0 if inside else 0.0
            row[j] = scale if inside else 0.0
        row[y[i]] -= count * scale
    return total / n - 1.0


@loop
def _with_decay(flipped, W, rate):
    """The transposed array, with rate * W added; and the sum of squares of W."""
    grad_W = np.empty_like(W)
    square = 0.0
    for i in range(W.shape[0]):
        row, out = W[i], grad_W[i]
        for j in range(row.size):
            out[j] = flipped[j, i] + rate * row[j]
            square += row[j] * row[j]
    return grad_W, square


@strict
def svm(W, X, y, reg):
    """The second product with the few classes as rows: BLAS is faster that way."""
    s = np.dot(X, W)
    loss = _hinge(s, y)
    grad_W, square = _with_decay(np.dot(s.T, X), W, 2.0 * reg)
    return loss + reg * square, grad_W


@loop
def _logistic_rows(z, b, y, scale):
    """The sum of the losses of a block; the gradient by z takes its place, its sum is returned."""
    total = 0.0
    slope = 0.0
    one = z.dtype.type(1)
    for i in range(z.size):
        a = z[i] + b
        e = vector_exp(-abs(a))
        total += max(a, z.dtype.type(0)) - y[i] * a + vector_log1p(e)
        g = ((one if a >= 0 else e) / (one + e) - y[i]) * scale
        z[i] = g
        slope += g
    return total, slope


@strict
def logistic(w, b, X, y):
    """Blocks of rows stay in the cache between the product and its transpose."""
    n = X.shape[0]
    block = 256
    grad_w = np.zeros_like(w)
    total = 0.0
    grad_b = 0.0
    scale = X.dtype.type(1.0 / n)
    for start in range(0, n, block):
        rows = X[start : start + block]
        z = np.dot(rows, w)
        part, slope = _logistic_rows(z, b, y[start : start + block], scale)
        total += part
        grad_b += slope
        grad_w += np.dot(z, rows)
    return total / n, (grad_w, grad_b)
