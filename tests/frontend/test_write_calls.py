"""NumPy functions that write to an argument: `out=`, np.copyto, np.put, sorting in place."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import grad
from flatgrad.errors import FlatgradError
from tests.frontend.numeric import check

RNG = np.random.default_rng(7)
X, Y, M = RNG.normal(size=4), RNG.normal(size=4), RNG.normal(size=(3, 4))


def out_of_ufuncs(x, y):
    c = np.empty_like(x)
    d = np.multiply(x, y, out=c)
    np.add(c, x, out=c)
    np.sin(c, c)
    np.subtract(d, y, out=(d,))
    return np.sum(c * d)


def out_is_a_view(x, y):
    c = np.zeros(6)
    v = c[1:5]
    np.multiply(x, y, out=v)
    np.exp(c[:3], out=c[3:])
    return np.sum(v * x) + np.sum(c)


def out_is_an_input(x, y):
    a = x.copy()
    b = a[1:]
    np.add(a[:-1], b, out=b)
    np.multiply(a, y, out=a)
    return np.sum(a * b[0])


def out_broadcasts(x, m):
    c = np.empty((3, 4))
    np.sin(x, out=c)
    np.multiply(c, m, out=c)
    return np.sum(c * c)


def out_of_reductions(x, m):
    c, d = np.empty(4), np.empty(3)
    np.sum(m * m, axis=0, out=c)
    np.matmul(m, c, out=d)
    e = d * d
    np.dot(m, x, out=d)
    m.sum(axis=1, out=e)
    return np.sum(d * e)


def out_in_a_loop(x, y, n):
    a, b = x.copy(), np.empty_like(x)
    for i in range(n):
        np.multiply(a, y[i], out=b)
        np.tanh(b, out=a)
        a, b = b, a
    return np.sum(a * b)


def copies(x, y):
    c = np.empty(4)
    np.copyto(c, x * y)
    np.copyto(c, y * y, where=x > 0)
    np.copyto(c[1:], y[0])
    np.putmask(c, c > 0.5, x)
    np.putmask(c, y > 0, x[1])
    return np.sum(c * c)


def puts(x, y):
    c = np.zeros(5)
    np.put(c, [0, 2], x[:2] * y[1])
    c.put([-1, 3], y[0])
    np.put(c, 1, x[2])
    return np.sum(c * c)


def sorts(x, m):
    c = x * x
    b = c
    c.sort()
    a = m.copy()
    a.sort(axis=0)
    return b[0] * 2 + b[1] + np.sum(a[0] * x)


def diagonals(x, m):
    a = m * 1.0
    np.fill_diagonal(a, x[0] * x[1])
    b = m[:, :3] * x[1]
    np.fill_diagonal(b, x[1:])
    return np.sum(a * a) + np.sum(b * b)


def scatters(x, y):
    c = np.zeros(4)
    np.add.at(c, [0, 0, 1], x[:3])
    np.subtract.at(c, [0, 2, 2], y[1:] * x[0])
    np.subtract.at(c, 3, 1.0)
    return np.sum(c * c)


def fills(x, n):
    a = np.empty(3)
    for i in range(n):
        a.fill(x[i] * x[0])
        a[:1].fill(2.0)
    return np.sum(a * a)


CALLS = [
    (out_of_ufuncs, X, Y), (out_is_a_view, X, Y), (out_is_an_input, X, Y), (out_broadcasts, X, M),
    (out_of_reductions, X, M), (out_in_a_loop, X, Y, 3), (copies, X, Y), (puts, X, Y),
    (sorts, X, M), (diagonals, X, M), (scatters, X, Y), (fills, X, 2),
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call[0].__name__)
def test_gradients(call):
    check(*call)


@pytest.mark.parametrize("call", [CALLS[1], CALLS[4], CALLS[6]], ids=lambda call: call[0].__name__)
def test_numba(call):
    check(*call, backend="numba")


def test_second_order():
    def second(x, y):
        return np.sum(grad(out_is_an_input, "x")(x, y) * y)

    check(second, X, Y)


def test_emitted_in_place():
    derived = grad(out_of_ufuncs, "x")
    derived(X, Y)
    assert "c = np.multiply(x, y)" in derived.source()


@pytest.mark.parametrize(
    "f, code",
    [
        (lambda x: np.sum(np.multiply.at(x.copy(), [0], 2.0)), "unsupported-call"),
        (lambda x: np.sum(np.maximum.at(x.copy(), [0], 2.0)), "unsupported-call"),
        (lambda x: np.sum(np.sin(x, out=np.float64(3.0))), "unsupported-write"),
        (lambda x: np.sum(np.outer(x, x, out=np.empty(4))), "shape-mismatch"),
        (lambda x: np.sum(np.sin(x, out=np.empty((4, 1)))), "shape-mismatch"),
        (lambda x: np.put(np.zeros(4), x > 0, 1.0), "operand-type"),
        (lambda x: np.put(np.zeros((2, 2)), 0, x[0]), "unsupported-call"),
        (lambda x: np.place(x.copy(), x > 0, 1.0), "unsupported-call"),
        (lambda x: np.copyto(x.copy(), x, casting="no"), "unsupported-keyword"),
        (lambda x: np.multiply(x, x, out=np.zeros(4, dtype=np.int64)), "operand-type"),
    ],
)
def test_refused(f, code):
    with pytest.raises(FlatgradError) as caught:
        grad(f)(X)
    assert caught.value.code == code
