"""Models and dynamic programs: filters, hidden states, alignments, paths, finance."""

from __future__ import annotations

import math

import numpy as np

from tests.corpus_programs.registry import example, normal, positive


@example(normal(6), 0.4, 0.8)
def kalman_filter_1d(z, q, r):
    x, p = 0.0, 1.0
    loglik = 0.0
    for t in range(len(z)):
        p = p + q * q
        s = p + r * r
        innovation = z[t] - x
        loglik += -0.5 * (np.log(s) + innovation**2 / s)
        gain = p / s
        x = x + gain * innovation
        p = (1 - gain) * p
    return loglik


@example(normal(5, 2), normal(2, 2) * 0.4, np.array([0.5, 0.7]))
def kalman_filter_2d(zs, F, q):
    x = np.zeros(2)
    P = np.eye(2)
    total = 0.0
    for z in zs:
        x = F @ x
        P = F @ P @ F.T + np.diag(q * q)
        S = P + np.eye(2)
        y = z - x
        K = P @ np.linalg.inv(S)
        total += 0.5 * (y @ np.linalg.solve(S, y)) + 0.5 * np.log(np.linalg.det(S))
        x = x + K @ y
        P = P - K @ P
    return total


@example(positive(3, 3), positive(3, 2), np.array([0, 1, 1, 0, 1]))
def hidden_markov_forward(A, B, seen):
    T = A / np.sum(A, axis=1, keepdims=True)
    alpha = np.ones(3) / 3
    loglik = 0.0
    for o in seen:
        alpha = (alpha @ T) * B[:, o]
        c = np.sum(alpha)
        alpha = alpha / c
        loglik += np.log(c)
    return loglik


@example(normal(3, 3), normal(5, 3))
def viterbi_soft(A, e):
    score = e[0].copy()
    for t in range(1, e.shape[0]):
        new = np.zeros(3)
        for j in range(3):
            best = np.max(score + A[:, j])
            new[j] = best + np.log(np.sum(np.exp(score + A[:, j] - best))) + e[t, j]
        score = new
    return np.log(np.sum(np.exp(score)))


@example(normal(4), normal(5), 0.7)
def soft_dtw(x, y, gamma):
    n, m = len(x), len(y)
    R = np.full((n + 1, m + 1), 30.0)
    R[0, 0] = 0.0
    for i in range(1, n + 1):
        for j in range(1, m + 1):
            a = -R[i - 1, j] / gamma
            b = -R[i, j - 1] / gamma
            c = -R[i - 1, j - 1] / gamma
            top = max(a, b, c)
            soft = top + np.log(np.exp(a - top) + np.exp(b - top) + np.exp(c - top))
            R[i, j] = (x[i - 1] - y[j - 1]) ** 2 - gamma * soft
    return R[n, m]


@example(normal(4), normal(5))
def edit_distance_by_rows(x, y):
    before = np.zeros(len(y) + 1)
    for j in range(len(y)):
        before[j + 1] = before[j] + abs(y[j])
    for i in range(len(x)):
        row = np.zeros(len(y) + 1)
        row[0] = before[0] + abs(x[i])
        for j in range(len(y)):
            swap = before[j] + (x[i] - y[j]) ** 2
            row[j + 1] = min(swap, before[j + 1] + abs(x[i]), row[j] + abs(y[j]))
        before = row
    return before[-1]


@example(positive(5))
def matrix_chain_cost(d):
    n = len(d) - 1
    cost = np.zeros((n, n))
    for span in range(1, n):
        for i in range(n - span):
            j = i + span
            best = 1e9
            for k in range(i, j):
                c = cost[i, k] + cost[k + 1, j] + d[i] * d[k + 1] * d[j + 1]
                if c < best:
                    best = c
            cost[i, j] = best
    return cost[0, n - 1]


@example(normal(4, 5))
def cheapest_path(grid):
    cost = grid.copy()
    for i in range(cost.shape[0]):
        for j in range(cost.shape[1]):
            if i > 0 and j > 0:
                cost[i, j] += min(cost[i - 1, j], cost[i, j - 1])
            elif i > 0:
                cost[i, j] += cost[i - 1, j]
            elif j > 0:
                cost[i, j] += cost[i, j - 1]
    return cost[-1, -1]


@example(100.0, 95.0, 0.03, 0.3, 1.2)
def black_scholes(s, k, r, sigma, t):
    root = sigma * math.sqrt(t)
    d1 = (math.log(s / k) + (r + 0.5 * sigma**2) * t) / root
    d2 = d1 - root
    n1 = 0.5 * (1 + math.erf(d1 / math.sqrt(2)))
    n2 = 0.5 * (1 + math.erf(d2 / math.sqrt(2)))
    return s * n1 - k * math.exp(-r * t) * n2


@example(1.0, 1.05, 0.03, 0.3, 6)
def american_option_tree(s, k, r, sigma, n):
    dt = 1.0 / 6
    u = np.exp(sigma * np.sqrt(dt))
    d = 1 / u
    p = (np.exp(r * dt) - d) / (u - d)
    value = np.zeros(n + 1)
    for i in range(n + 1):
        value[i] = max(k - s * u**i * d ** (n - i), 0.0)
    for step in range(n - 1, -1, -1):
        for i in range(step + 1):
            hold = np.exp(-r * dt) * (p * value[i + 1] + (1 - p) * value[i])
            value[i] = max(hold, k - s * u**i * d ** (step - i))
    return value[0]


@example(1.0, 0.2, 0.05, normal(4, 3))
def monte_carlo_asian_option(s0, sigma, r, noise):
    total = 0.0
    for path in noise:
        s = s0
        average = 0.0
        for z in path:
            s = s * np.exp((r - 0.5 * sigma * sigma) * 0.3 + sigma * np.sqrt(0.3) * z)
            average += s / 3
        if average > 0.9:
            total += average - 0.9
    return np.exp(-r) * total / 4


@example(0.5, 1.2, normal(8), np.array([0.1, 0.9, 0.4, 0.8, 0.2, 0.99, 0.3, 0.6]))
def metropolis_with_given_noise(x, width, noise, uniform):
    total = 0.0
    for t in range(len(noise)):
        new = x + width * noise[t]
        if np.exp(0.5 * (x * x - new * new)) > uniform[t]:
            x = new
        total += x * x
    return total / len(noise)


@example(np.array([0.1, 0.2, 0.7]), normal(6))
def garch(p, returns):
    variance = p[0]
    loglik = 0.0
    for r in returns:
        loglik -= 0.5 * (np.log(variance) + r * r / variance)
        variance = p[0] + p[1] * r * r + p[2] * variance
    return loglik


@example(normal(7))
def welford_variance(x):
    mean = 0.0
    m2 = 0.0
    for k, value in enumerate(x):
        delta = value - mean
        mean += delta / (k + 1)
        m2 += delta * (value - mean)
    return np.sqrt(m2 / (len(x) - 1)) + mean


@example(normal(6), np.array([True, False, True, True, False, True]))
def masked_mean(x, mask):
    total = 0.0
    count = 0
    for i in range(len(x)):
        if not mask[i]:
            continue
        total += x[i] ** 2
        count += 1
    return total / count


@example(normal(6))
def stable_logsumexp_online(x):
    top = x[0]
    s = 1.0
    for k in range(1, len(x)):
        if x[k] > top:
            s = s * np.exp(top - x[k]) + 1.0
            top = x[k]
        else:
            s += np.exp(x[k] - top)
    return top + np.log(s)


@example(normal(5, 2), normal(2, 2), 3)
def k_means_soft(points, centers, rounds):
    c = centers.copy()
    for _ in range(rounds):
        weights = np.zeros((5, 2))
        for i in range(5):
            for k in range(2):
                weights[i, k] = np.exp(-np.sum((points[i] - c[k]) ** 2))
            weights[i] /= np.sum(weights[i])
        for k in range(2):
            c[k] = weights[:, k] @ points / np.sum(weights[:, k])
    return np.sum(c * c)


@example(normal(5), 0.3, 2.0, 4)
def gradient_descent_on_quadratic(b, rate, stiffness, steps):
    x = np.zeros_like(b)
    velocity = np.zeros_like(b)
    for _ in range(steps):
        g = stiffness * x - b
        velocity = 0.5 * velocity - rate * g
        x = x + velocity
    return np.sum((x - 1) ** 2)


@example(normal(4), normal(4, 4) * 0.3, 1.0)
def ising_mean_field(h, J, beta):
    m = np.zeros(4)
    for _ in range(5):
        for i in range(4):
            field = h[i]
            for j in range(4):
                if i != j:
                    field += J[i, j] * m[j]
            m[i] = np.tanh(beta * field)
    return m @ J @ m + h @ m


@example(normal(3, 3), 0.4)
def ising_energy(s, coupling):
    n = s.shape[0]
    energy = 0.0
    for i in range(n):
        for j in range(n):
            energy -= coupling * s[i, j] * (s[(i + 1) % n, j] + s[i, (j + 1) % n])
    return energy


@example(normal(4, 2))
def pair_forces(r):
    energy = 0.0
    for i in range(len(r)):
        for j in range(i):
            d2 = 0.5
            for k in range(2):
                d2 += (r[i, k] - r[j, k]) ** 2
            energy += 1 / d2**2 - 1 / d2
    return energy


@example(normal(3), normal(3), 0.2)
def ray_marching_a_sphere(origin, direction, radius):
    d = direction / np.sqrt(direction @ direction)
    t = 0.0
    for _ in range(30):
        p = origin + t * d
        distance = np.sqrt(p @ p) + radius - 0.3 * np.sin(p[0])
        if distance < 0.1 or t > 4.0:
            break
        t = t + 0.5 * distance
    return t + radius * distance


@example(np.array([[0.0, 0.0], [2.0, 0.1], [2.2, 1.5], [0.3, 1.4]]))
def polygon_area_and_perimeter(p):
    area = 0.0
    length = 0.0
    for i in range(len(p)):
        j = (i + 1) % len(p)
        area += p[i, 0] * p[j, 1] - p[j, 0] * p[i, 1]
        length += np.hypot(p[j, 0] - p[i, 0], p[j, 1] - p[i, 1])
    return 0.5 * abs(area) / length


@example(normal(4, 2), 0.3)
def bezier_by_de_casteljau(points, t):
    p = points.copy()
    n = len(p)
    for level in range(1, n):
        for i in range(n - level):
            p[i] = (1 - t) * p[i] + t * p[i + 1]
    return p[0, 0] * p[0, 1] + np.sum(p[0])
