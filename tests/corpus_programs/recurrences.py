"""Loops that carry numbers: recurrences, iterations, integrators."""

from __future__ import annotations

import math

import numpy as np

from tests.corpus_programs.registry import example, normal, positive


@example(0.7, 6)
def power_sum(x, n):
    y = 1.0
    for i in range(n):
        y = y * np.sin(x + i)
    return y


@example(0.9, 0.4, 7)
def run_time_loop_with_state(x, w, n):
    """Warp 1.19 gets this wrong: a loop of run-time length with carried state."""
    s = x
    for _ in range(n):
        s = s + w * s * (1.0 - s)
    return s


@example(1.3, 0.2, 0)
def no_trips(x, w, n):
    s = x * w
    for _ in range(n):
        s = s * x
    return s


@example(0.999, 3000, second=False)
def long_recurrence(x, n):
    """JAX takes minutes to unroll this."""
    y = 1.0
    for _ in range(n):
        y = y * x + 0.01 * np.sin(y)
    return y


@example(40.0, 0.7)
def dynamic_while(x, r):
    """JAX refuses reverse mode through a `while_loop`."""
    s = 0.0
    while x > 1.0:
        s = s + np.sqrt(x)
        x = x * r
    return s + x


@example(normal(6), 0.7)
def horner(c, x):
    s = 0.0
    for k in range(len(c) - 1, -1, -1):
        s = s * x + c[k]
    return s


@example(normal(5), 0.3)
def clenshaw(c, x):
    b1 = 0.0
    b2 = 0.0
    for k in reversed(range(1, len(c))):
        b1, b2 = c[k] + 2 * x * b1 - b2, b1
    return c[0] + x * b1 - b2


@example(positive(5))
def continued_fraction(a):
    f = a[-1]
    for k in range(len(a) - 2, -1, -1):
        f = a[k] + 1.0 / f
    return f


@example(0.8, 12)
def exponential_series(x, n):
    term = 1.0
    total = 1.0
    for k in range(1, n):
        term *= x / k
        total += term
    return total


@example(0.6)
def series_until_small(x):
    term = x
    total = 0.0
    k = 1
    while abs(term) > 1e-9:
        total += term
        k += 2
        term = -term * x * x / (k * (k - 1))
    return total


@example(2.7)
def newton_square_root(a):
    x = a
    for _ in range(8):
        x = 0.5 * (x + a / x)
    return x


@example(1.9, 0.4)
def newton_until_converged(a, b):
    x = 1.0
    for _ in range(50):
        f = x * x * x + b * x - a
        step = f / (3 * x * x + b)
        x = x - step
        if abs(step) < 1e-12:
            break
    return x


@example(1.4, 2.0, 30, second=False)
def bisection_then_newton(a, top, n):
    low, high = 0.0, top
    for _ in range(n):
        middle = 0.5 * (low + high)
        if middle * math.exp(middle) > a:
            high = middle
        else:
            low = middle
    x = 0.5 * (low + high)
    return x - (x * np.exp(x) - a) / ((1 + x) * np.exp(x))


@example(0.3, 0.8)
def secant(a, b):
    x0, x1 = 0.0, 1.0
    k = 0
    while k < 6:
        f0 = np.cos(x0) * b - x0 + a
        f1 = np.cos(x1) * b - x1 + a
        if abs(f1 - f0) < 1e-10:
            break
        x0, x1 = x1, x1 - f1 * (x1 - x0) / (f1 - f0)
        k += 1
    return x1


@example(0.7, 0.2)
def kepler(m, e):
    anomaly = m
    new = m
    while True:
        new = m + e * np.sin(anomaly)
        if abs(new - anomaly) < 1e-13:
            break
        anomaly = new
    return np.cos(new)


@example(1.5, 0.9)
def geometric_mean_of_gauss(a, b):
    while abs(a - b) > 1e-10:
        a, b = 0.5 * (a + b), np.sqrt(a * b)
    return a


@example(0.5, 3.6, 12)
def logistic_map(x, r, n):
    total = 0.0
    for _ in range(n):
        x = r * x * (1 - x)
        total += x
    return total / n


def predator_prey(y, p):
    return np.array([p[0] * y[0] - p[1] * y[0] * y[1], p[2] * y[0] * y[1] - p[3] * y[1]])


@example(np.array([1.2, 0.8]), np.array([0.6, 0.9, 0.7, 0.5]), 0.05, 20)
def lotka_volterra_rk4(y0, p, h, steps):
    y = y0.copy()
    for _ in range(steps):
        k1 = predator_prey(y, p)
        k2 = predator_prey(y + 0.5 * h * k1, p)
        k3 = predator_prey(y + 0.5 * h * k2, p)
        k4 = predator_prey(y + h * k3, p)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return np.sum(y * y)


@example(0.4, 0.9, 0.1, 15)
def pendulum_leapfrog(q, p, h, steps):
    for _ in range(steps):
        p = p - 0.5 * h * np.sin(q)
        q = q + h * p
        p = p - 0.5 * h * np.sin(q)
    return 0.5 * p * p - np.cos(q)


@example(1.0, 0.8, 2.0)
def adaptive_step(y, k, end):
    t = 0.0
    h = 0.45
    while t < end:
        if t + h > end:
            h = end - t
        euler = y - h * k * y
        half = y - 0.5 * h * k * y
        better = half - 0.5 * h * k * half
        if abs(better - euler) > 0.01:
            h = 0.5 * h
            continue
        y = better
        t = t + h
        h = 1.2 * h
    return y


@example(np.array([1.0, 0.5, 0.2]), 10.0, 28.0, 0.01, 15)
def lorenz_euler(state, sigma, rho, h, steps):
    x, y, z = state[0], state[1], state[2]
    for _ in range(steps):
        dx = sigma * (y - x)
        dy = x * (rho - z) - y
        dz = x * y - 2.5 * z
        x, y, z = x + h * dx, y + h * dy, z + h * dz
    return x * y + z


@example(0.8, 1.1, 5)
def fibonacci_like(a, b, n):
    for _ in range(n):
        a, b = b, 0.5 * a + b * b * 0.1
    return a + b


@example(0.9, 0.3, 9)
def two_step_method(y, k, steps):
    h = 0.1
    before = -k * y
    y = y + h * before
    for _ in range(steps):
        now = -k * y
        y = y + h * (1.5 * now - 0.5 * before)
        before = now
    return y


@example(0.4, 5)
def triangular_nest(x, n):
    s = 0.0
    for i in range(n):
        for j in range(i + 1):
            s = s + np.sin(x * i) * np.cos(x * j)
    return s


@example(0.7, 3)
def collatz_like(x, k):
    s = x
    while k != 1:
        if k % 2 == 0:
            k = k // 2
            s = np.sin(s) + x
        else:
            k = 3 * k + 1
            s = s * x
    return s


@example(0.6, -7, 5, 3)
def range_with_step(x, start, stop, step):
    s = 1.0
    for i in range(start, stop, step):
        s = s + np.sin(x * i) * s * 0.1
    return s


@example(1.7, 0.6)
def gamma_by_lanczos(z, x):
    coefficients = (76.18009173, -86.50532033, 24.01409822, -1.231739516, 0.00120858)
    total = 1.0
    for k, c in enumerate(coefficients):
        total = total + c / (z + k + 1)
    t = z + 5.5
    return (z + 0.5) * np.log(t) - t + np.log(total / z) * x
