"""Comprehensions over static sequences and containers of arrays, in scopes of their own."""

from __future__ import annotations

import numpy as np
import pytest

from tests.frontend.numeric import check

X = np.array([0.5, -1.0, 2.0, 1.5])
LAYERS = [np.array([1.0, 2.0, 3.0, 4.0]), np.array([0.5, 0.5, -1.0, 2.0])]
NAMES = {"a": 2.0, "b": 3.0}


def several(x):
    items = [x * i * j for i in range(1, 3) for j in range(i, 4) if i != j if j > 1]
    return np.sum(items[0] * items[1]) + len(items)


def captured(x):
    return np.sum(sum([w * x * k for w, k in zip(LAYERS, (1.0, 2.0))])) * sum(NAMES.values())


def dicts(x):
    table = {name: x * k for name, k in NAMES.items() if name != "c"}
    turned = {k: v for k, v in enumerate(table.values())}
    return np.sum(turned[0] * table["b"])


def own_scope(x):
    i = 2.0
    items = [i * x for i in (1.0, 3.0)]
    return np.sum(items[1]) * i


def first_sequence_outside(x):
    xs = [x, 2.0 * x]
    return np.sum(sum([xs * xs for xs in xs]))


def late(x):
    functions = [lambda v: v * k for k in (1.0, 2.0, 3.0)]
    return np.sum(functions[0](x) * functions[1](x))


def nested(x):
    rows = [[x[i] * k for i in range(2)] for k in (1.0, 2.0)]
    return sum(sum(a * b for a, b in zip(row, rows[0])) for row in rows)


def in_a_loop(x):
    total = 0.0
    for i in range(len(x)):
        total += sum([x[i] * k for k in (1.0, 2.0)])
    return total * x[0]


def with_a_branch(x):
    parts = [v * v if v > 0 else 0.1 * v for v in (x[0], x[1], x[2])]
    return sum(parts) * parts[0]


def rows(x):
    a = x.reshape(2, 2)
    return sum(row[0] * row[1] for row in (a[0], a[1])) + sum([a[i, i] for i in range(2)])


def unpacked(x):
    a, *b = [v * v for v in (x[0], x[1], x[2])]
    return a * b[0] + max(v for v in b) + np.sum(np.stack([w * x for w in LAYERS]))


def writes(x):
    a = x * 1.0
    views = [a[k:] for k in range(3)]
    views[1][0] = x[0] * x[1]
    return np.sum(views[0] * a) + views[2][0]


def in_functions(x):
    def total(values):
        return sum(v * v for v in values)

    return total([x[0], x[1]]) * total(v for v in (x[2], x[3]))


ALL = [several, captured, dicts, own_scope, first_sequence_outside, late, nested, in_a_loop,
       with_a_branch, rows, unpacked, writes, in_functions]  # fmt: skip


@pytest.mark.parametrize("f", ALL, ids=lambda f: f.__name__)
def test_gradient(f):
    check(f, X)
