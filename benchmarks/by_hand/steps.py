"""Time loops: Lotka-Volterra by Runge-Kutta, heat in a rod, Black-Scholes paths."""

from __future__ import annotations

import math

import numpy as np

from benchmarks.by_hand.flags import exp, inlined, loop, strict


@strict
def lotka_volterra(a, b, c, d, x0, y0, dt, n):
    """The states are kept, the stages of a step are computed again."""
    xs, ys = np.empty(n), np.empty(n)
    x, y = x0, y0
    half, sixth = 0.5 * dt, dt / 6.0
    for i in range(n):
        xs[i], ys[i] = x, y
        k1x, k1y = x * (a - b * y), y * (c * x - d)
        x2, y2 = x + half * k1x, y + half * k1y
        k2x, k2y = x2 * (a - b * y2), y2 * (c * x2 - d)
        x3, y3 = x + half * k2x, y + half * k2y
        k3x, k3y = x3 * (a - b * y3), y3 * (c * x3 - d)
        x4, y4 = x + dt * k3x, y + dt * k3y
        k4x, k4y = x4 * (a - b * y4), y4 * (c * x4 - d)
        x += sixth * (k1x + 2.0 * (k2x + k3x) + k4x)
        y += sixth * (k1y + 2.0 * (k2y + k3y) + k4y)
    total = x + y
    gx, gy = 1.0, 1.0
    ga, gb, gc, gd = 0.0, 0.0, 0.0, 0.0
    third = dt / 3.0
    for i in range(n - 1, -1, -1):
        x, y = xs[i], ys[i]
        u1, v1 = a - b * y, c * x - d
        x2, y2 = x + half * x * u1, y + half * y * v1
        u2, v2 = a - b * y2, c * x2 - d
        x3, y3 = x + half * x2 * u2, y + half * y2 * v2
        u3, v3 = a - b * y3, c * x3 - d
        x4, y4 = x + dt * x3 * u3, y + dt * y3 * v3
        u4, v4 = a - b * y4, c * x4 - d
        # Of each stage: p and q are the adjoints of its slopes, s and t those of its state.
        p, q = sixth * gx, sixth * gy
        s, t = p * u4 + q * (c * y4), q * v4 - p * (b * x4)
        px, py, qx, qy = p * x4, p * x4 * y4, q * x4 * y4, q * y4
        rx, ry = gx + s, gy + t
        p, q = third * gx + dt * s, third * gy + dt * t
        s, t = p * u3 + q * (c * y3), q * v3 - p * (b * x3)
        px, py, qx, qy = px + p * x3, py + p * x3 * y3, qx + q * x3 * y3, qy + q * y3
        rx, ry = rx + s, ry + t
        p, q = third * gx + half * s, third * gy + half * t
        s, t = p * u2 + q * (c * y2), q * v2 - p * (b * x2)
        px, py, qx, qy = px + p * x2, py + p * x2 * y2, qx + q * x2 * y2, qy + q * y2
        rx, ry = rx + s, ry + t
        p, q = sixth * gx + half * s, sixth * gy + half * t
        s, t = p * u1 + q * (c * y), q * v1 - p * (b * x)
        ga += px + p * x
        gb -= py + p * x * y
        gc += qx + q * x * y
        gd -= qy + q * y
        gx, gy = rx + s, ry + t
    return total, (ga, gb, gc, gd, gx, gy)


@inlined
def _spread(out, u, alpha):
    """A step of the explicit scheme, inside."""
    left, middle, right, new = u[:-2], u[1:-1], u[2:], out[1:-1]
    for i in range(new.size):
        new[i] = middle[i] + alpha * (left[i] - 2.0 * middle[i] + right[i])


@loop
def _square(u):
    total = 0.0
    for i in range(u.size):
        total += u[i] * u[i]
    return total


@strict
def heat_by_start(u0, alpha, steps):
    """Linear: nothing is kept. The adjoint of the scheme is the scheme, with zeros at the ends."""
    u, v = u0.copy(), u0.copy()
    for _ in range(steps):
        _spread(v, u, alpha)
        u, v = v, u
    loss = _square(u)
    g, h = 2.0 * u, np.zeros_like(u)
    first, last = g[0], g[-1]
    g[0] = g[-1] = 0.0
    for _ in range(steps):
        first += alpha * g[1]
        last += alpha * g[-2]
        _spread(h, g, alpha)
        g, h = h, g
    g[0], g[-1] = first, last
    return loss, g


@loop
def _spread_back(out, g, u, alpha):
    """The adjoint of a step, and what it gives for alpha."""
    left, middle, right, new = g[:-2], g[1:-1], g[2:], out[1:-1]
    before, here, after = u[:-2], u[1:-1], u[2:]
    grad_alpha = 0.0
    for i in range(new.size):
        new[i] = middle[i] + alpha * (left[i] - 2.0 * middle[i] + right[i])
        grad_alpha += middle[i] * (before[i] - 2.0 * here[i] + after[i])
    return grad_alpha


SEGMENT = 32
"""Steps whose states stay in the cache: a tape of all would be written to memory and read again."""


@strict
def _all_steps(step, us, starts, alpha, steps):
    """The last state; of the others, those at the start of each segment."""
    for s in range(starts.shape[0]):
        starts[s] = us[0]
        us[0] = us[_segment(step, us, alpha, min(SEGMENT, steps - s * SEGMENT))]
    return us[0].copy()


@inlined
def _segment(step, us, alpha, count):
    for k in range(count):
        step(us[k + 1], us[k], alpha)
    return count


@inlined
def _room(u0, steps):
    """For the states of a segment, whose ends never change, and for the starts of all segments."""
    us = np.empty((SEGMENT + 1, u0.size))
    us[:] = u0
    return us, np.empty(((steps + SEGMENT - 1) // SEGMENT, u0.size))


@strict
def heat(u0, alpha, steps):
    """The gradient by alpha needs all states: they are computed again, segment by segment."""
    us, starts = _room(u0, steps)
    last_u = _all_steps(_spread, us, starts, alpha, steps)
    loss = _square(last_u)
    g, h = 2.0 * last_u, np.zeros_like(u0)
    first, last = g[0], g[-1]
    g[0] = g[-1] = 0.0
    grad_alpha = 0.0
    for s in range(starts.shape[0] - 1, -1, -1):
        us[0] = starts[s]
        count = _segment(_spread, us, alpha, min(SEGMENT, steps - s * SEGMENT))
        for k in range(count - 1, -1, -1):
            first += alpha * g[1]
            last += alpha * g[-2]
            grad_alpha += _spread_back(h, g, us[k], alpha)
            g, h = h, g
    g[0], g[-1] = first, last
    return loss, (g, grad_alpha)


@strict
def _conduct(out, u, alpha):
    left, middle, right, new = u[:-2], u[1:-1], u[2:], out[1:-1]
    for i in range(new.size):
        m = middle[i]
        k = alpha / (1.0 + m * m)
        new[i] = m + k * (left[i] - 2.0 * m + right[i])


@loop
def _conduct_back(out, flow, g, u, alpha):
    """`flow` is the adjoint times the conductivity, which the neighbours gather."""
    before, here, after = u[:-2], u[1:-1], u[2:]
    middle, inner = g[1:-1], flow[1:-1]
    rest = out[1:-1]
    grad_alpha = 0.0
    for i in range(inner.size):
        m = here[i]
        r = 1.0 / (1.0 + m * m)
        bend = before[i] - 2.0 * m + after[i]
        gr = middle[i] * r
        f = alpha * gr
        inner[i] = f
        grad_alpha += gr * bend
        rest[i] = middle[i] - 2.0 * (f + f * (m * r) * bend)
    left, right = flow[:-2], flow[2:]
    for i in range(rest.size):
        rest[i] += left[i] + right[i]
    return grad_alpha


@strict
def heat_nonlinear(u0, alpha, steps):
    """As above, with a conductivity that is computed again."""
    us, starts = _room(u0, steps)
    last_u = _all_steps(_conduct, us, starts, alpha, steps)
    loss = _square(last_u)
    g, h, flow = 2.0 * last_u, np.zeros_like(u0), np.zeros_like(u0)
    first, last = g[0], g[-1]
    g[0] = g[-1] = 0.0
    grad_alpha = 0.0
    for s in range(starts.shape[0] - 1, -1, -1):
        us[0] = starts[s]
        count = _segment(_conduct, us, alpha, min(SEGMENT, steps - s * SEGMENT))
        for k in range(count - 1, -1, -1):
            grad_alpha += _conduct_back(h, flow, g, us[k], alpha)
            first += flow[1]
            last += flow[-2]
            g, h = h, g
    g[0], g[-1] = first, last
    return loss, (g, grad_alpha)


@loop
def _paths(S, K, drift, vol, z):
    """Sums over the paths that end in the money: how many, their prices, prices times z."""
    count, prices, weighted = 0.0, 0.0, 0.0
    for i in range(z.size):
        s = S * exp(drift + vol * z[i])
        inside = 1.0 if s > K else 0.0
        count += inside
        prices += inside * s
        weighted += inside * s * z[i]
    return count, prices, weighted


@strict
def black_scholes(S, K, r, sigma, T, z):
    """One loop with three sums; the rest is on numbers."""
    root = math.sqrt(T)
    drift, vol = (r - 0.5 * sigma * sigma) * T, sigma * root
    count, prices, weighted = _paths(S, K, drift, vol, z)
    discount = math.exp(-r * T) / z.size
    value = discount * (prices - K * count)
    by_drift, by_vol = discount * prices, discount * weighted
    return value, (
        by_drift / S,
        -discount * count,
        by_drift * T - T * value,
        by_vol * root - by_drift * sigma * T,
        by_drift * (r - 0.5 * sigma * sigma) + by_vol * sigma * 0.5 / root - r * value,
    )
