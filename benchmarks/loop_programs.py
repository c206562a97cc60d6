"""The programs of `benchmarks.loops`, as a user would write them."""

from __future__ import annotations

import math

import numpy as np

from flatgrad import sigmoid


def lotka_volterra(a, b, c, d, x0, y0, dt, n):
    """Hares and lynxes after n classical Runge-Kutta steps."""
    x = x0
    y = y0
    for _ in range(n):
        k1x = a * x - b * x * y
        k1y = c * x * y - d * y
        x2 = x + 0.5 * dt * k1x
        y2 = y + 0.5 * dt * k1y
        k2x = a * x2 - b * x2 * y2
        k2y = c * x2 * y2 - d * y2
        x3 = x + 0.5 * dt * k2x
        y3 = y + 0.5 * dt * k2y
        k3x = a * x3 - b * x3 * y3
        k3y = c * x3 * y3 - d * y3
        x4 = x + dt * k3x
        y4 = y + dt * k3y
        k4x = a * x4 - b * x4 * y4
        k4y = c * x4 * y4 - d * y4
        x = x + dt / 6 * (k1x + 2 * k2x + 2 * k3x + k4x)
        y = y + dt / 6 * (k1y + 2 * k2y + 2 * k3y + k4y)
    return x + y


def heat(u0, alpha, steps):
    """The explicit scheme in two buffers."""
    u = u0.copy()
    v = u0.copy()
    n = len(u)
    for _ in range(steps):
        for i in range(1, n - 1):
            v[i] = u[i] + alpha * (u[i - 1] - 2 * u[i] + u[i + 1])
        u, v = v, u
    return np.sum(u * u)


def heat_slices(u0, alpha, steps):
    """The same with array statements."""
    u = u0.copy()
    for _ in range(steps):
        u[1:-1] = u[1:-1] + alpha * (u[:-2] - 2 * u[1:-1] + u[2:])
    return np.sum(u * u)


def heat_nonlinear(u0, alpha, steps):
    """A conductivity that depends on the temperature."""
    u = u0.copy()
    v = u0.copy()
    n = len(u)
    for _ in range(steps):
        for i in range(1, n - 1):
            k = alpha / (1 + u[i] * u[i])
            v[i] = u[i] + k * (u[i - 1] - 2 * u[i] + u[i + 1])
        u, v = v, u
    return np.sum(u * u)


def heat_nonlinear_slices(u0, alpha, steps):
    """The same with array statements."""
    u = u0.copy()
    for _ in range(steps):
        k = alpha / (1 + u[1:-1] * u[1:-1])
        u[1:-1] = u[1:-1] + k * (u[:-2] - 2 * u[1:-1] + u[2:])
    return np.sum(u * u)


def lstm(Wx, Wh, b, xs, target):
    """One sequence; the loss is on the last state."""
    H = Wh.shape[0]
    h = np.zeros(H)
    c = np.zeros(H)
    for t in range(len(xs)):
        z = xs[t] @ Wx + h @ Wh + b
        i = sigmoid(z[:H])
        f = sigmoid(z[H : 2 * H])
        o = sigmoid(z[2 * H : 3 * H])
        g = np.tanh(z[3 * H :])
        c = f * c + i * g
        h = o * np.tanh(c)
    return np.sum((h - target) ** 2)


def lstm_batch(Wx, Wh, b, xs, target):
    """A batch of sequences."""
    H = Wh.shape[0]
    h = np.zeros(target.shape)
    c = np.zeros(target.shape)
    for t in range(len(xs)):
        z = xs[t] @ Wx + h @ Wh + b
        i = sigmoid(z[:, :H])
        f = sigmoid(z[:, H : 2 * H])
        o = sigmoid(z[:, 2 * H : 3 * H])
        g = np.tanh(z[:, 3 * H :])
        c = f * c + i * g
        h = o * np.tanh(c)
    return np.sum((h - target) ** 2)


def black_scholes(S, K, r, sigma, T, z):
    """A call option by simulated paths."""
    drift = (r - 0.5 * sigma * sigma) * T
    vol = sigma * math.sqrt(T)
    total = 0.0
    for i in range(len(z)):
        s = S * math.exp(drift + vol * z[i])
        if s > K:
            total += s - K
    return math.exp(-r * T) * total / len(z)
