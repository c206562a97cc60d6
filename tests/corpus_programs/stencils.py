"""Loops over arrays: stencils, buffers that change places, prefix sums, convolutions."""

from __future__ import annotations

import numpy as np

from tests.corpus_programs.registry import example, normal, positive


@example(normal(7), 0.2, 5)
def heat_two_buffers(u0, alpha, steps):
    u = u0.copy()
    v = u0.copy()
    for _ in range(steps):
        for i in range(1, len(u) - 1):
            v[i] = u[i] + alpha * (u[i - 1] - 2 * u[i] + u[i + 1])
        u, v = v, u
    return np.sum(u * u)


@example(normal(7), 0.2, 5)
def heat_in_place_slices(u, alpha, steps):
    for _ in range(steps):
        u[1:-1] = u[1:-1] + alpha * (u[2:] - 2 * u[1:-1] + u[:-2])
    return np.sum(np.sin(u))


@example(normal(6), 0.3, 4)
def nonlinear_diffusion(u, alpha, steps):
    for _ in range(steps):
        new = u.copy()
        for i in range(1, len(u) - 1):
            right = (1 + u[i + 1] ** 2) * (u[i + 1] - u[i])
            left = (1 + u[i - 1] ** 2) * (u[i] - u[i - 1])
            new[i] = u[i] + alpha * 0.1 * (right - left)
        u = new
    return np.sum(u**2)


@example(normal(6), normal(6), 0.4, 6)
def wave_equation(u, before, c, steps):
    for _ in range(steps):
        after = np.zeros_like(u)
        after[1:-1] = 2 * u[1:-1] - before[1:-1] + c * c * (u[2:] - 2 * u[1:-1] + u[:-2])
        before, u = u, after
    return np.sum(u * before)


@example(normal(6), 0.5, 4)
def upwind_advection(u, c, steps):
    n = u.shape[0]
    for _ in range(steps):
        last = u[n - 1]
        for i in range(n - 1, 0, -1):
            u[i] = u[i] - c * (u[i] - u[i - 1])
        u[0] = u[0] - c * (u[0] - last)
    return np.sum(u**3)


@example(normal(6), 0.3, 4)
def burgers(u, dt, steps):
    for _ in range(steps):
        flux = 0.5 * u * u
        u = u - dt * (flux - np.roll(flux, 1))
    return np.sum(u * u)


@example(normal(5, 5), 3)
def jacobi_sweeps(u, sweeps):
    new = u.copy()
    for _ in range(sweeps):
        for i in range(1, u.shape[0] - 1):
            for j in range(1, u.shape[1] - 1):
                new[i, j] = 0.25 * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1])
        u, new = new, u
    return np.sum(u * u)


@example(normal(5, 5), 1.3, 3)
def relaxation_in_place(u, omega, sweeps):
    for _ in range(sweeps):
        for i in range(1, 4):
            for j in range(1, 4):
                average = 0.25 * (u[i - 1, j] + u[i + 1, j] + u[i, j - 1] + u[i, j + 1])
                u[i, j] = (1 - omega) * u[i, j] + omega * average
    return np.sum(u[1:-1, 1:-1] ** 2)


@example(normal(4, 5), positive(4, 5), 3, writes=True)
def gray_scott(u, v, steps):
    for _ in range(steps):
        reaction = u * v * v
        lap = np.roll(u, 1, axis=0) + np.roll(u, -1, axis=0) - 2 * u
        u += 0.1 * (0.2 * lap - reaction + 0.03 * (1 - u))
        v += 0.1 * (reaction - 0.09 * v)
    return np.sum(v) + np.sum(u * u)


@example(normal(6))
def prefix_sums(x):
    s = np.zeros_like(x)
    s[0] = x[0]
    for i in range(1, len(x)):
        s[i] = s[i - 1] + x[i]
    return np.sum(s * s)


@example(normal(6))
def running_products(x):
    p = x.copy()
    for i in range(1, p.shape[0]):
        p[i] *= p[i - 1]
    return np.sum(p)


@example(normal(8), normal(3))
def convolution_by_loops(x, w):
    n, m = len(x), len(w)
    y = np.zeros(n - m + 1)
    for i in range(n - m + 1):
        for j in range(m):
            y[i] += x[i + j] * w[j]
    return np.sum(np.tanh(y))


@example(normal(5, 6), normal(2, 3))
def convolution_2d(image, kernel):
    h, w = kernel.shape
    out = np.zeros((image.shape[0] - h + 1, image.shape[1] - w + 1))
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = np.sum(image[i : i + h, j : j + w] * kernel)
    return np.sum(out * out)


@example(normal(6))
def fourier_by_loops(x):
    n = len(x)
    power = 0.0
    for k in range(n // 2 + 1):
        re = 0.0
        im = 0.0
        for t in range(n):
            angle = 2 * np.pi * k * t / n
            re += x[t] * np.cos(angle)
            im -= x[t] * np.sin(angle)
        power += np.sqrt(1.0 + re * re + im * im)
    return power


@example(normal(8))
def haar_wavelet(x):
    a = x.copy()
    n = a.shape[0]
    while n > 1:
        half = n // 2
        new = a.copy()
        for i in range(half):
            new[i] = (a[2 * i] + a[2 * i + 1]) * 0.7
            new[half + i] = (a[2 * i] - a[2 * i + 1]) * 0.7
        a = new
        n = half
    return np.sum(np.cos(a))


@example(normal(6), 0.6)
def exponential_smoothing(x, alpha):
    level = x[0]
    error = 0.0
    for value in x:
        error += (value - level) ** 2
        level = alpha * value + (1 - alpha) * level
    return error


@example(normal(7), 3)
def moving_average(x, width):
    total = 0.0
    for i in range(len(x) - width + 1):
        window = x[i : i + width]
        total = total + np.sin(np.sum(window) / width)
    return total


@example(normal(6), np.array([0.4, -0.2]), 3)
def autoregression(x, phi, p):
    loss = 0.0
    for t in range(2, len(x)):
        predicted = 0.0
        for k in range(len(phi)):
            predicted += phi[k] * x[t - k - 1]
        loss += (x[t] - predicted) ** 2
    return loss / p


@example(positive(5), normal(5), positive(5), normal(5))
def thomas_algorithm(lower, diagonal, upper, right):
    n = len(right)
    d = diagonal + 4.0
    r = right.copy()
    for i in range(1, n):
        m = lower[i] / d[i - 1]
        d[i] = d[i] - m * upper[i - 1]
        r[i] = r[i] - m * r[i - 1]
    x = np.zeros(n)
    x[n - 1] = r[n - 1] / d[n - 1]
    for i in range(n - 2, -1, -1):
        x[i] = (r[i] - upper[i] * x[i + 1]) / d[i]
    return np.sum(x * x)


@example(normal(6), np.array([0.3, 1.7, 2.2, 4.6]))
def linear_interpolation_table(table, points):
    total = 0.0
    for k in range(len(points)):
        i = int(points[k])
        f = points[k] - i
        total += (1 - f) * table[i] + f * table[i + 1]
    return total


@example(normal(5), np.array([0, 3, 3, 1, 4, 0]))
def gather_in_loop(x, ids):
    s = 0.0
    for i in ids:
        s = s * 0.9 + np.sin(x[i])
    return s


@example(normal(6), np.array([0, 2, 2, 1, 0, 2]))
def histogram_scatter(w, bins):
    h = np.zeros(3)
    for k in range(len(bins)):
        h[bins[k]] += w[k] * w[k]
    return np.sum(np.sqrt(1 + h))


@example(normal(3, 4))
def rows_in_turn(m):
    s = np.zeros(4)
    for row in m:
        s = np.tanh(s + row)
    return np.sum(s)


@example(normal(4), normal(4))
def two_arrays_zipped(x, y):
    s = 0.0
    for a, b in zip(x, y):
        s = np.sin(s + a * b)
    return s


@example(normal(5))
def enumerated(x):
    s = 0.0
    for i, value in enumerate(x, 1):
        s += value**2 / i
    return np.sqrt(s)
