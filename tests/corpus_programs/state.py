"""Writes in place, aliases, views, masks, buffers that are swapped."""

from __future__ import annotations

import numpy as np

from tests.corpus_programs.registry import example, normal, positive


@example(normal(4))
def alias_written(x):
    """tangent-ad 0.4 gets this wrong."""
    z = x
    z[0] = 2 * z[0]
    return np.sum(z * x)


@example(normal(5), 0.3)
def in_place_writes(x, a):
    """autograd and Zygote refuse this."""
    y = np.zeros(5)
    for i in range(5):
        y[i] = x[i] * a
        y[i] *= x[i - 1]
    y[2] = 0.0
    return np.sum(y * y)


@example(normal(6))
def view_written(x):
    v = x[1:-1]
    v *= 2
    v[0] = x[0] * x[5]
    w = v[::2]
    w += x[0]
    return np.sum(x * x)


@example(normal(4, 3))
def row_view_in_loop(m):
    for i in range(1, m.shape[0]):
        row = m[i]
        row += 0.5 * m[i - 1]
        row[0] *= row[1]
    return np.sum(np.sin(m))


@example(normal(5), normal(5), 5, writes=True)
def buffers_swapped_in_loop(u, v, n):
    for k in range(n):
        u[k % 5] += np.sin(v[0])
        v[1:] *= 0.9
        u, v = v, u
    return np.sum(u * u) + np.sum(v)


@example(normal(5), normal(5), 3, writes=True)
def three_buffers_rotate(a, b, n):
    c = np.zeros(5)
    for _ in range(n):
        c[:] = a * 0.5 + b
        a, b, c = b, c, a
    return np.sum(a * b) + c[0]


@example(normal(6), 0.1)
def mask_writes(x, low):
    y = x * 1.0
    y[y < low] = low * 2
    y[x > 0.5] *= x[x > 0.5]
    return np.sum(y**2)


@example(normal(5), np.array([0, 2, 2, 4]), normal(4))
def integer_array_writes(x, ids, v):
    y = x.copy()
    y[ids] = v
    y[ids] += 2.0 * v
    np.add.at(y, ids, v * v)
    return np.sum(y * x)


@example(normal(4, 4))
def columns_and_diagonal(m):
    a = m.copy()
    a[:, 0] = m[:, 1] * m[:, 2]
    for i in range(4):
        a[i, i] += a[i, 0]
    a[1:, 1:] -= a[:-1, :-1]
    return np.sum(a * a)


@example(normal(5))
def overlapping_shift(x):
    x[1:] += x[:-1]
    x[:-1] = x[1:] * x[:-1]
    x[:] = x[::-1]
    return np.sum(x * np.arange(5.0))


@example(normal(5), 0.4)
def alias_through_branch(x, a):
    y = x.copy()
    if a > 0:
        z = y
    else:
        z = y[::-1]
    z[0] = a * a
    return np.sum(z * x)


@example(normal(4), 3)
def write_through_alias_in_loop(x, n):
    y = x
    for k in range(n):
        y[k] = np.sin(x[k]) * x[k + 1]
        x[0] += y[k]
    return np.sum(x)


@example(normal(3, 4), 2)
def transposed_view_written(m, n):
    t = m.T
    for k in range(n):
        t[k] *= 2.0
        t[k + 1, 0] = m[0, k] ** 2
    return np.sum(m**2)


@example(normal(4))
def full_fill_empty(x):
    a = np.full(4, 0.5)
    b = np.empty(4)
    b[...] = a * x
    b[1] = np.sum(a)
    a[2:] = b[:2]
    return np.sum(a * b)


@example(normal(4), normal(4), writes=True)
def sort_by_swapping(x, w):
    """A network of three compare-and-swaps."""
    for i, j in ((0, 1), (2, 3), (1, 2)):
        if x[i] > x[j]:
            x[i], x[j] = x[j], x[i]
    return np.sum(x * w)


@example(normal(5))
def bubble_sort(x):
    n = len(x)
    for i in range(n):
        for j in range(n - 1 - i):
            if x[j] > x[j + 1]:
                t = x[j]
                x[j] = x[j + 1]
                x[j + 1] = t
    total = 0.0
    for i in range(n):
        total += (i + 1) * x[i] ** 2
    return total


@example(normal(6), 4)
def ring_buffer(x, n):
    ring = np.zeros(3)
    out = 0.0
    for k in range(len(x)):
        out += ring[k % 3] * x[k]
        ring[k % 3] = np.tanh(x[k] + ring[(k + 2) % 3])
    return out * n


@example(normal(4))
def written_then_overwritten(x):
    y = x * 2
    y[0] = x[1] ** 2
    s = np.sum(y * y)
    y[:] = x
    y /= 1 + s
    return np.sum(y) * s


@example(positive(4), 5)
def history_of_states(x, n):
    H = np.zeros((n + 1, 4))
    H[0] = x
    for t in range(n):
        H[t + 1] = np.tanh(H[t] * 1.2) + 0.1 * H[t // 2]
    return np.sum(H * H)


@example(normal(3), normal(3))
def tuple_targets(a, b):
    (p, q), *rest = (a, b), a[0], b[1]
    first, *_, last = (a[0], a[1], a[2])
    p = p * first + rest[1]
    return np.sum(p * q) + last * rest[0]


@example(normal(5))
def walrus_and_multiple_targets(x):
    s = t = x[0]
    for v in x:
        if (y := v * v) > 0.3:
            s += y
        t = t + y * s
    return s * t


@example(normal(4))
def augmented_numbers_rebind(x):
    s = x[0]
    t = s
    s += x[1]
    s *= t
    t -= s
    return s * t + x[2] ** 2 * x[3]


@example(normal(3, 3), 3)
def shallow_water_like(h, steps):
    u = np.zeros_like(h)
    for _ in range(steps):
        u[:, :-1] -= 0.1 * (h[:, 1:] - h[:, :-1])
        h[:, 1:-1] -= 0.1 * (u[:, 1:-1] - u[:, :-2])
    return np.sum(h * h) + np.sum(u)
