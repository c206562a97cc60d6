"""Iterators read their items when it is their turn, once: writes in between are seen."""

from __future__ import annotations

import numpy as np
import pytest

from tests.frontend.numeric import check

X = np.array([0.5, -1.0, 2.0, 1.5])
MIXED = ((1.0,), [2.0], 3.0)


def unrolled_over_an_array(x):
    a = np.zeros(3) + x[0]
    t = 0.0
    for i, v in enumerate(a):
        t += v * (MIXED[i] if i == 2 else MIXED[i][0])
        if i < 2:
            a[i + 1] = v * x[1]
    return t


def written_during_a_comprehension(x):
    a = np.zeros(3) + x[0]

    def bump(v):
        a[2] = v * 5.0
        return v

    s = [bump(v) for v in a]
    return sum(s)


def zipped_before_a_write(x):
    a = np.zeros(3) + x[0]
    z = zip(a, a)
    a[1] = x[1]
    return sum(p * q for p, q in z)


def mapped_before_a_write(x):
    a = np.zeros(3) + x[0]
    m = map(lambda v: v * x[1], a)
    a[1] = x[1]
    return sum(m)


def written_during_map(x):
    a = np.zeros(3) + x[0]
    t = 0.0
    for v in map(lambda v: v * x[1], a):
        t += v
        a[2] = t
    return t


def written_during_a_generator(x):
    a = np.zeros(3) + x[0]
    t = 0.0
    for v in (v * x[1] for v in a):
        t += v
        a[2] = t
    return t


def list_changed_after_enumerate(x):
    xs = [x[0], x[1]]
    z = enumerate(xs)
    xs[1] = x[2]
    xs.append(x[3])
    return sum(i * v for i, v in z)


def list_grown_after_a_generator(x):
    xs = [x[0], x[1]]
    g = (v * v for v in xs)
    xs.append(x[3])
    return sum(g)


class Truth:
    def __init__(self, n):
        self.n = n

    def __bool__(self):
        return self.n > 2


def truth_of_objects(x):
    return x[0] if bool(Truth(3)) and not Truth(1) else x[1]


def written_between_nexts(x):
    a = np.zeros(3) + x[0]
    it = iter(a)
    first = next(it)
    a[1] = x[1]
    return first * next(it)


ALL = [unrolled_over_an_array, written_during_a_comprehension, zipped_before_a_write,
       mapped_before_a_write, written_during_map, written_during_a_generator,
       list_changed_after_enumerate, list_grown_after_a_generator, truth_of_objects,
       written_between_nexts]  # fmt: skip


@pytest.mark.parametrize("f", ALL, ids=lambda f: f.__name__)
def test_gradient(f):
    check(f, X)
