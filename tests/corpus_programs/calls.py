"""Calls: helpers, closures, recursion, functions as arguments, derivatives inside; networks."""

from __future__ import annotations

import numpy as np

import flatgrad as fg
from tests.corpus_programs.registry import example, normal, positive

SCALE = np.array([0.5, 1.5, -0.7])


def step(f, x, h=0.1):
    return x + h * f(x)


def spring(x):
    return -np.sin(x) * 2.0


def damped(x, c, *, power=1):
    for _ in range(power):
        x = x * np.exp(-c)
    return x


def normalise(v):
    v /= np.sqrt(v @ v)
    return v


def integrate(f, a, b, n):
    h = (b - a) / n
    s = 0.5 * (f(a) + f(b))
    for k in range(1, n):
        s += f(a + k * h)
    return s * h


def bell(t):
    return np.exp(-t * t) * np.sin(3.0 * t)


def energy(q, p):
    return 0.5 * p * p - np.cos(q)


def misfit(w, X, y):
    r = np.tanh(X @ w) - y
    return np.sum(r * r)


def times(a, b):
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def power(x, n):
    if n == 0:
        return 1.0
    if n % 2 == 0:
        half = power(x, n // 2)
        return half * half
    return x * power(x, n - 1)


def first_root(x):
    for k in range(20):
        if x < 1.0:
            return x * (k + 1)
        x = x * 0.6
    return x


@example(0.7, 5)
def function_as_argument(x, n):
    for _ in range(n):
        x = step(spring, x)
    return step(spring, x, h=0.3)


@example(0.8, 0.2)
def keywords_and_defaults(x, c):
    return damped(x, c) + damped(c=x, x=c, power=3)


@example(normal(3))
def helper_that_writes(v):
    a = v * 2
    b = normalise(a)
    return np.sum(a * SCALE) + b[0]


@example(0.6, 1.4)
def quadrature_of_a_callable(a, b):
    return integrate(bell, a, b, 6)


@example(1.2)
def static_recursion(x):
    return power(x, 7) + power(np.sin(x), 4)


@example(5.0, 0.3)
def callee_with_early_return(x, y):
    return first_root(x) * first_root(y + 2.0)


@example(0.4, 0.9)
def gradient_inside(x, y):
    q, p = x, y
    for _ in range(4):
        p = p - 0.1 * fg.grad(energy, 0)(q, p)
        q = q + 0.1 * fg.grad(energy, 1)(q, p)
    return energy(q, p) * q


@example(normal(4, 3), normal(3), normal(4), 5)
def layers_unrolled(W, x, b, seed):
    layers = [(W, b), (W.T, b[:3]), (W * 0.5, b)]
    h = x
    for weight, bias in layers:
        h = np.tanh(weight @ h + bias)
    return np.sum(h * h) * seed


@example(normal(4, 2), normal(2, 3) * 0.5, normal(3, 3) * 0.4, normal(3))
def rnn_over_time(xs, Wx, Wh, b):
    h = np.zeros(3)
    for x in xs:
        h = np.tanh(x @ Wx + h @ Wh + b)
    return np.sum(h * h)


@example(normal(3, 2), normal(8, 4) * 0.5, normal(8))
def lstm_over_time(xs, W, b):
    n = 2
    h = np.zeros(n)
    c = np.zeros(n)
    for t in range(xs.shape[0]):
        z = W @ np.concatenate([xs[t], h]) + b
        i, f = fg.sigmoid(z[:n]), fg.sigmoid(z[n : 2 * n])
        o, g = fg.sigmoid(z[2 * n : 3 * n]), np.tanh(z[3 * n :])
        c = f * c + i * g
        h = o * np.tanh(c)
    return np.sum(h) + np.sum(c * c)


@example(normal(4, 2), normal(2, 3) * 0.5, normal(3, 3) * 0.4, normal(3, 3) * 0.5)
def gru_over_time(xs, Wx, Uz, Uh):
    h = np.zeros(3)
    loss = 0.0
    for x in xs:
        z = fg.sigmoid(x @ Wx + h @ Uz)
        candidate = np.tanh(x @ Wx + (z * h) @ Uh)
        h = (1 - z) * h + z * candidate
        loss += np.sum((h - 0.1) ** 2)
    return loss


@example(normal(4, 3), normal(3, 3) * 0.5, normal(3, 3) * 0.5)
def attention_by_loops(X, Q, K):
    n = X.shape[0]
    out = np.zeros_like(X)
    for i in range(n):
        scores = np.zeros(n)
        for j in range(i + 1):
            scores[j] = np.exp((X[i] @ Q) @ (X[j] @ K) * 0.3)
        weights = scores / np.sum(scores)
        for j in range(i + 1):
            out[i] += weights[j] * X[j]
    return np.sum(out**2)


@example(normal(3, 2), normal(2), 0.1, 4)
def training_loop_inside(X, w, rate, steps):
    y = np.array([0.5, -0.2, 0.8])
    for _ in range(steps):
        w = w - rate * fg.grad(misfit, 0)(w, X, y)
    return misfit(w, X, y)


@example(normal(5), normal(5))
def adam_steps(x, target):
    m = np.zeros_like(x)
    v = np.zeros_like(x)
    for t in range(1, 4):
        g = 2 * (x - target)
        m = 0.9 * m + 0.1 * g
        v = 0.99 * v + 0.01 * g * g
        x = x - 0.1 * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.99**t)) + 1e-3)
    return np.sum(x * x)


@example(normal(2, 3), positive(3), 4)
def batch_norm_in_loop(x, gamma, rounds):
    for _ in range(rounds):
        mean = np.mean(x, axis=0)
        var = np.mean((x - mean) ** 2, axis=0)
        x = np.tanh(gamma * (x - mean) / np.sqrt(var + 0.1)) + 0.3 * x
    return np.sum(x**2)


@example(0.3, 0.6)
def complex_numbers_by_hand(re, im):
    z = (0.0, 0.0)
    c = (re, im)
    for _ in range(4):
        z = times(z, z)
        z = (z[0] + c[0], z[1] + c[1])
    return z[0] ** 2 + z[1] ** 2
