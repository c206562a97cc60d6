"""Functions inside functions, lambdas, objects, partials, starred arguments."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

import flatgrad as fg
from tests.corpus_programs.registry import example, normal


@dataclass
class Spring:
    """A spring with friction."""

    stiffness: float
    friction: float = 0.1

    def force(self, x, v):
        return -self.stiffness * x - self.friction * v


class Walker:
    """Keeps a position."""

    def __init__(self, x, v):
        self.x = x
        self.v = v

    def step(self, spring, h):
        self.v = self.v + h * spring.force(self.x, self.v)
        self.x = self.x + h * self.v


@example(0.5, 0.2, 3.0, 8)
def objects_that_change(x, v, k, steps):
    spring = Spring(k)
    walker = Walker(x, v)
    for _ in range(steps):
        walker.step(spring, 0.1)
    return walker.x**2 + spring.stiffness * walker.v


@example(normal(3), 0.4, 5)
def integrator_with_nested_function(y, c, steps):
    def slope(y):
        return np.sin(y) * c - y[::-1]

    h = 0.1
    for _ in range(steps):
        k1 = slope(y)
        k2 = slope(y + h * k1)
        y = y + 0.5 * h * (k1 + k2)
    return np.sum(y * y)


@example(0.6, 1.4, 6)
def quadrature_of_a_lambda(a, b, n):
    def trapezoid(f, low, high):
        h = (high - low) / n
        s = 0.5 * (f(low) + f(high))
        for k in range(1, n):
            s += f(low + k * h)
        return s * h

    return trapezoid(lambda t: np.exp(-a * t) * np.sin(b * t), 0.0, b)


def powered(x, n, scale=1.0):
    y = scale
    for _ in range(n):
        y = y * x
    return y


@example(0.8, 1.3)
def partial_with_keywords(x, c):
    cube = functools.partial(powered, n=3, scale=c)
    return cube(x) + cube(x * 0.5)


def total(*terms, weight=1.0):
    s = 0.0
    for term in terms:
        s = s + weight * term * term
    return s


@example(0.8, -0.3, 1.2)
def starred_arguments(a, b, c):
    return total(a, b, c, weight=b) + total(*(a, b)) * total()


@example(normal(3, 2), normal(2), 0.1, 4)
def training_with_a_closure(X, w, rate, steps):
    y = np.array([0.5, -0.2, 0.8])

    def loss(w):
        r = np.tanh(X @ w) - y
        return np.sum(r * r)

    for _ in range(steps):
        w = w - rate * fg.grad(loss)(w)
    return loss(w)


@example(0.4, 0.9)
def hamiltonian_flow(x, y):
    def energy(q, p):
        return 0.5 * p * p - np.cos(q)

    q, p = x, y
    for _ in range(3):
        p = p - 0.1 * fg.grad(energy, 0)(q, p)
        q = q + 0.1 * fg.grad(energy, 1)(q, p)
    return energy(q, p) * q


@example(normal(4))
def comprehension_and_sum(x):
    parts = [x[k] * x[k] * (k + 1) for k in range(4)]
    return sum(parts) + np.sum(np.stack([x, 2 * x]) ** 2)
