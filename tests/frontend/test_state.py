"""Variables and memory through loops: returned and first assigned arrays, swaps, written indices."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import grad
from flatgrad.errors import FlatgradError
from tests.frontend.numeric import check

RNG = np.random.default_rng(0)
X, M = RNG.normal(size=4), RNG.normal(size=(3, 4))


def grown_until(x, n, limit):
    for i in range(n):
        x = x * 1.1
        if x[0] > limit:
            return x * 2, i * 1.0
    return x, 0.0


def array_returned_in_a_loop(x, n):
    a, b = grown_until(x, n, 0.13)
    c, d = grown_until(x, n, 100.0)
    return np.sum(a * a) * (b + 1) + np.sum(c * c) + d


def first_row(m, limit):
    for row in m:
        for v in row:
            if v > limit:
                return row
    return m[0] * 2


def row_returned_in_nested_loops(m, n):
    return np.sum(first_row(m, 0.5) ** 2) + np.sum(first_row(m, 100.0) ** 3)


def doubled_past(x, limit):
    while True:
        x = x * 1.5
        if np.sum(x) > limit:
            return x


def array_returned_from_an_endless_loop(x, n):
    return np.sum(doubled_past(x * x, 10.0) ** 2)


def several_returns(x, n):
    for i in range(n):
        for j in range(n):
            if x[i] * x[j] < 0:
                if x[i] > 0:
                    return x[i] * x[j]
                return x[j]
    return x[0]


def assigned_in_a_loop(x, n):
    for i in range(n):
        h = x * i
        t = np.sum(h)
    return np.sum(h * h) * t * i


def read_in_another_loop(x, n):
    s = 0.0
    for i in range(n):
        h = np.sin(x * i)
    for k in range(3):
        s += h[k]
    if s > 0:
        s += h[0]
    return s + h[1]


def index_of_a_search(x, n):
    for i in range(n):
        if x[i] < 0:
            break
    return x[i] * (i + 1)


def assigned_in_while(x, n):
    i = 0
    while True:
        h = x * i
        i += 1
        if i >= n:
            break
    return np.sum(h * h)


def swap_in_a_branch(x, n):
    u, v = x * 1.0, x * 2.0
    if x[0] > 0:
        u, v = v, u
    u[0] = 3.0
    v[1:] *= u[:-1]
    return np.sum(u * u) + np.sum(v)


def swap_in_a_branch_in_a_loop(x, n):
    u, v = x * 1.0, x * 2.0
    for i in range(n):
        if x[i] > 0:
            u, v = v, u
        u[i] = v[i] * 3
    return np.sum(u * u) + np.sum(v)


def rotated_in_branches(x, n):
    a, b, c = x * 1.0, x * 2.0, x * 3.0
    if x[0] > 0:
        a, b, c = b, c, a
    elif x[1] > 0:
        a, c = c, a
    a[0] = 5.0
    b[1:] *= a[1:]
    return np.sum(a * b * c)


def swapped_in_nested_loops(x, n):
    a, b = x * 1.0, np.zeros_like(x)
    for _ in range(n):
        for _ in range(2):
            b[1:] = a[:-1] * 0.5
            b[0] = a[0] * a[0]
            a, b = b, a
    return np.sum(a * a) + np.sum(b)


def rotated_buffers(x, n):
    a, b, c = x * 1.0, x * 2.0, x * x
    for _ in range(n):
        a[1:] = b[1:] * c[:-1]
        a, b, c = b, c, a
    return np.sum(a) + 2 * np.sum(b) + 3 * np.sum(c)


def in_containers(x, n):
    state, layers, pair = {"u": x, "t": 0.0}, [x, x * 2], (x, 0.0)
    for _ in range(n):
        state["u"] = state["u"] * 1.1 + x
        state["t"] += 0.1
        for k in range(2):
            layers[k] = layers[k] * x
        u, t = pair
        pair = u * 1.1, t + np.sum(u)
    return np.sum(state["u"]) * state["t"] + np.sum(layers[0] * layers[1]) + pair[1]


def counting_sort(x, n):
    places = np.zeros(4, dtype=np.int64)
    for i in range(4):
        count = 0
        for j in range(4):
            if x[j] < x[i]:
                count += 1
        places[count] = i
    y = x[places]
    return y[0] + y[1] * 2 + y[2] ** 2 * 3


def permutation(x, n):
    p = np.arange(4)
    for i in range(n):
        t = p[i]
        p[i] = p[i + 1]
        p[i + 1] = t
    z = np.zeros(4)
    for i in range(4):
        z[p[i]] = x[i] * i
    z[p] += x
    return np.sum(z * x)


def written_in_every_way(x, n):
    a = np.zeros(8)
    b = a
    for i in range(n):
        v = a[i : i + 4]
        v += x * x
        v[::2] *= 2
        b[-i - 1] += x[i]
        a[a > 3] = x[0]
        a[[0, 0, 1]] = x[:3]
        b *= 0.9
    return np.sum(a * b)


CALLS = [
    (array_returned_in_a_loop, X, 4), (array_returned_in_a_loop, X, 0),
    (row_returned_in_nested_loops, M, 0), (array_returned_from_an_endless_loop, X, 0),
    (several_returns, X, 3), (assigned_in_a_loop, X, 4), (read_in_another_loop, X, 4),
    (index_of_a_search, X, 4), (assigned_in_while, X, 3), (swap_in_a_branch, X, 0),
    (swap_in_a_branch, -X, 0), (swap_in_a_branch_in_a_loop, X, 4), (rotated_in_branches, X, 0),
    (rotated_in_branches, -X, 0), (swapped_in_nested_loops, X, 3), (rotated_buffers, X, 4),
    (in_containers, X, 3), (counting_sort, X, 0), (permutation, X, 3), (written_in_every_way, X, 3),
]  # fmt: skip


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call[0].__name__)
def test_gradients(call):
    check(*call)


@pytest.mark.parametrize("call", [CALLS[0], CALLS[5], CALLS[11]], ids=lambda call: call[0].__name__)
def test_numba(call):
    check(*call, backend="numba")


SECOND = [
    CALLS[0], CALLS[5],
    CALLS[14],
]  # fmt: skip


@pytest.mark.parametrize("call", SECOND, ids=lambda call: call[0].__name__)
def test_second_order(call):
    gradient = grad(call[0], "x")

    def second(x, n):
        return np.sum(gradient(x, n) * np.cos(x))

    check(second, *call[1:])


@pytest.mark.parametrize("f", [assigned_in_a_loop, read_in_another_loop, index_of_a_search])
@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_no_trip(f, backend):
    for called in (f, grad(f, "x", backend=backend)):
        with pytest.raises(UnboundLocalError):
            called(X, 0)


def assigned_on_one_path(x, n):
    for i in range(n):
        if x[i] > 0:
            h = x * i
    return np.sum(h)


def view_of_another_trip(x, n):
    a = x.copy()
    for i in range(n):
        v = a[1:]
        v[0] += x[i]
    v[1] = v[1] * 2
    return np.sum(v) + np.sum(a)


def none_or_array(x, n):
    a = None
    for _ in range(n):
        a = x * 2 if a is None else a * x
    return np.sum(a)


def alias_of_a_swap(x, n):
    u, v = x * 1.0, x * 2.0
    w = u
    if x[0] > 0:
        u, v = v, u
    u[0] = 3.0
    return np.sum(w)


@pytest.mark.parametrize(
    ("f", "code"),
    [
        (assigned_on_one_path, "undefined-name"), (view_of_another_trip, "unsupported-write"),
        (none_or_array, "loop-carried-type"), (alias_of_a_swap, "unsupported-write"),
    ],
)  # fmt: skip
def test_refused(f, code):
    with pytest.raises(FlatgradError) as caught:
        grad(f, "x")(X, 3)
    assert caught.value.code == code


def same_name_in_nested_loops(x, n):
    for _ in range(1, n):
        for _ in range(1, -1, -1):
            for _ in range(n):
                x = x * 1.1
    return np.sum(x * x)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_nested_loops_with_one_name(n):
    check(same_name_in_nested_loops, np.array([0.3, 0.5]), n)
