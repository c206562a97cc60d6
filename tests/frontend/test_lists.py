"""Lists that loops build, as arrays: appended to, indexed, iterated, stacked; comprehensions."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import grad
from flatgrad.errors import FlatgradError
from tests.frontend.numeric import check

RNG = np.random.default_rng(0)
X = RNG.normal(size=4)
CASES = {}


def case(f):
    CASES[f.__name__] = f
    return f


@case
def numbers(x, n):
    xs = []
    for i in range(n):
        xs.append(np.sin(x[i]) * i)
    return np.sum(np.array(xs) ** 2)


@case
def arrays(x, n):
    xs, h = [], x
    for i in range(n):
        h = np.tanh(h + i)
        xs.append(h)
    return np.sum(np.stack(xs) ** 2)


@case
def starts_with_an_item(x, n):
    xs = [x]
    for i in range(n):
        xs.append(np.sin(xs[-1]) + xs[i // 2])
    return np.sum(xs[-1] * xs[0]) + len(xs)


@case
def indexed_by_the_loop(x, n):
    xs = [x[0]]
    for i in range(n):
        xs.append(xs[i] * xs[-1] + x[i])
    return xs[n] * xs[-1] + len(xs)


@case
def iterated(x, n):
    xs = [x * i for i in range(n)]
    s = 0.0
    for v in xs:
        s += np.sum(v * v)
    for k, v in enumerate(xs):
        s += np.sum(v * v) * k
    for v, w in zip(xs, reversed(xs)):
        s += np.sum(v * w)
    return s


@case
def several_in_a_trip(x, n):
    xs, ys = [], [1.0]
    for i in range(n):
        xs.append(x[i])
        xs.append(x[i] ** 2)
        ys.append(ys[-1] * x[i])
    return sum(xs) * ys[-1] + len(xs) + xs[2]


@case
def left_early(x, n):
    xs = []
    for i in range(n):
        xs.append(x * x[i])
        if np.sum(xs[-1]) > 0.1:
            break
    a = np.stack(xs, axis=1)
    return np.sum(a * a) + xs[0][1]


@case
def in_a_branch(x, n):
    xs = [x[0]]
    for i in range(n):
        if x[i] < 0:
            continue
        xs.append(x[i] * xs[-1])
    if xs:
        return np.sum(np.array(xs)) + xs[-1] + len(xs)
    return 0.0


@case
def in_while(x, n):
    xs = [x]
    while np.sum(xs[-1]) < 20 and len(xs) < 40:
        xs.append(xs[-1] * 1.2 + 0.1)
    return np.sum(xs[-1] * x) + len(xs) + np.sum(xs[0])


@case
def in_nested_loops(x, n):
    xs = []
    for i in range(n):
        for j in range(i):
            xs.append(x[i] * x[j])
    return np.sum(np.array(xs) ** 2)


@case
def lists_in_a_list(x, n):
    rows = []
    for i in range(n):
        row = []
        for j in range(4):
            row.append(x[i] * x[j] * j)
        rows.append(row)
    a = np.array(rows)
    b = np.array([[x[i] * x[j] for j in range(4)] for i in range(n)])
    return np.sum(a**2) + rows[1][2] + np.sum(b * a)


@case
def appended_after_the_loop(x, n):
    xs = []
    for i in range(n):
        xs.append(x[i])
    xs.append(x[0] ** 2)
    xs += [x[1] ** 2, x[2]]
    for i in range(n):
        xs.append(x[i] * 2)
    return np.sum(np.array(xs) ** 2)


@case
def joined(x, n):
    xs = []
    for i in range(n):
        xs.append(x[1:] * i)
    return np.sum(np.concatenate(xs) ** 2) + np.sum(np.vstack(xs)) + np.sum(np.hstack(xs))


@case
def slices_and_replaced_items(x, n):
    xs = [v * v for v in x]
    xs[0] = x[1]
    xs[1] += x[2]
    for i in range(n):
        xs[i] = xs[i] * 2
    ys = xs[1:]
    return np.sum(np.array(ys) * x[1:]) + len(ys) + xs[0]


@case
def copies_of_what_is_written(x, n):
    u, xs = x.copy(), []
    for i in range(n):
        u[i] *= 2
        xs.append(u.copy())
    return np.sum(np.stack(xs) ** 2)


@case
def rebound(x, n):
    u, xs = x, [x]
    for _ in range(n):
        u = u + np.sin(u)
        xs.append(u)
    return np.sum(np.array(xs) ** 2)


@case
def two_names(x, n):
    a = []
    b, d = a, {"xs": [], "t": 0.0}
    for i in range(n):
        a.append(x[i])
        d["xs"].append(x[i])
        d["t"] += x[i]
    return np.sum(np.array(b) ** 2) * d["t"] + len(d["xs"]) * d["xs"][0]


def doubled_into(xs, v):
    xs.append(v * 2)


@case
def appended_by_a_callee(x, n):
    xs = []
    for i in range(n):
        doubled_into(xs, x[i])
    return np.sum(np.array(xs) ** 2)


@case
def items_of_different_lengths(x, n):
    xs = []
    for i in range(3):
        xs.append(x[: i + 1] * 2)
    return np.sum(xs[0]) + np.sum(xs[2] ** 2)


@case
def comprehensions(x, n):
    d = {k: x[k] * 2 for k in (0, 2)}
    best = max([v * v for v in x]) + min(v * x[0] for v in x)
    mean = np.mean([v**3 for v in x]) + np.sum(sum([x * i * x for i in range(n)]))
    pairs = sum(x[i] * x[j] for i in range(n) for j in range(i) if x[i] > x[j])
    return best + mean + pairs + d[0] * d[2]


@case
def comprehension_leaves_names_alone(x, n):
    i = 2.0
    y = [x[i] * 2 for i in range(n)]
    return sum(y) * i


@case
def steps(x, n):
    xs = []
    for i in range(1, 2 * n, 2):
        xs.append(x[i // 2] * i)
    for i in range(n - 1, -1, -1):
        xs.append(x[i] * i)
    return np.sum(np.array(xs) ** 2)


@case
def appended_by_one_loop_twice(x, n):
    return np.sum(np.array([f(v) for f in (np.sin, np.cos) for v in x]) ** 2)


@case
def pairs_of_numbers(x, n):
    rows = []
    for i in range(n):
        rows.append([x[i], x[i] ** 2])
    s = 0.0
    for a, b in rows:
        s += a * b
    return np.sum(np.array(rows) ** 2) * s


@case
def items_replaced_while_appending(x, n):
    xs = []
    for i in range(n):
        xs.append(x[i])
        for j in range(len(xs)):
            xs[j] = xs[j] * 1.1
    return sum(xs)


@case
def returned_from_the_loop(x, n):
    xs = []
    for i in range(n):
        xs.append(x[i])
        if x[i] < 0:
            return np.sum(np.array(xs) ** 2)
    return sum(xs)


@pytest.mark.parametrize("name", CASES)
def test_gradients(name):
    check(CASES[name], X, 3)


@pytest.mark.parametrize("name", ["starts_with_an_item", "in_a_branch", "in_while", "joined"])
def test_numba(name):
    check(CASES[name], X, 3, backend="numba")


@pytest.mark.parametrize("name", ["arrays", "starts_with_an_item", "in_a_branch", "in_while"])
def test_second_order(name):
    gradient = grad(CASES[name], "x")

    def second(x, n):
        return np.sum(gradient(x, n) * np.cos(x))

    check(second, X, 3)


def test_code_does_not_depend_on_trips():
    def static(x):
        xs = []
        for i in range(200):
            xs.append(x * i)
        return np.sum(np.stack(xs) ** 2)

    derived = grad(static)
    derived(X)
    assert len(derived.source().splitlines()) < 20


def test_emitted_as_by_hand():
    derived = grad(CASES["numbers"], "x")
    derived(X, 3)
    assert derived.source() == (
        "def numbers_grad(x, n):\n"
        "    # forward\n"
        "    xs = np.empty(n)\n"
        "    for i in range(n):\n"
        "        xs[i] = np.sin(x[i]) * i\n"
        "    # backward\n"
        "    grad_value = 1.0\n"
        "    grad_xs = grad_value * 2 * xs\n"
        "    grad_x = np.zeros_like(x)\n"
        "    for i in range(n - 1, -1, -1):\n"
        "        grad_x[i] += grad_xs[i] * i * np.cos(x[i])\n"
        "    return grad_x\n"
    )


def beyond_the_end(x, n):
    xs = []
    for i in range(n):
        if x[i] > 100:
            xs.append(x[i])
    return xs[-1]


def beyond_the_start(x, n):
    xs = [x[0]]
    for i in range(n):
        xs.append(x[i] * xs[-i - 2])
    return xs[-1]


@pytest.mark.parametrize("f", [beyond_the_end, beyond_the_start])
def test_index_errors(f):
    for called in (f, grad(f, "x")):
        with pytest.raises(IndexError):
            called(X, 3)


def written_in_place(x, n):
    u, xs = x.copy(), []
    for i in range(n):
        u[i] *= 2
        xs.append(u)
    return np.sum(np.stack(xs) ** 2)


def written_after_appending(x, n):
    xs = []
    for i in range(n):
        h = x * i
        xs.append(h)
        h[0] = 5.0
    return np.sum(np.stack(xs) ** 2)


def written_after_the_loop(x, n):
    u, xs = x * 1.0, []
    for _ in range(n):
        xs.append(u[1:])
    u[2] = 3.0
    return np.sum(np.stack(xs) ** 2)


def item_written(x, n):
    xs = [x * i for i in range(n)]
    xs[0][1] = 3.0
    return np.sum(np.stack(xs))


def items_written_in_a_loop(x, n):
    xs = [x * i for i in range(n)]
    for row in xs:
        row *= 2
    return np.sum(np.stack(xs))


def swapped_and_written(x, n):
    u, v, xs = x * 1.0, x * 1.0, []
    for _ in range(n):
        xs.append(u)
        u, v = v, u
        v[0] += 1.0
    return np.sum(np.stack(xs) ** 2)


def list_changes_in_a_list(x, n):
    rows = []
    for i in range(n):
        row = []
        for j in range(i + 1):
            row.append(x[j])
        rows.append(row)
        row.append(x[0])
    return np.sum(np.array(rows[0]))


def popped(x, n):
    xs = [v * 2 for v in x]
    xs.pop()
    return sum(xs)


def returned(x, n):
    return [v * 2 for v in x[:n]]


def unlike(x, n):
    xs = []
    for i in range(n):
        xs.append(x[:i])
    return np.sum(xs[0])


@pytest.mark.parametrize(
    ("f", "code"),
    [
        (written_in_place, "unsupported-write"), (written_after_appending, "unsupported-write"),
        (written_after_the_loop, "unsupported-write"), (item_written, "unsupported-write"),
        (items_written_in_a_loop, "unsupported-write"), (swapped_and_written, "unsupported-write"),
        (list_changes_in_a_list, "loop-carried-type"), (popped, "unsupported-attribute"),
        (returned, "unsupported-statement"), (unlike, "loop-carried-type"),
    ],
)  # fmt: skip
def test_refused(f, code):
    with pytest.raises(FlatgradError) as caught:
        grad(f, "x")(X, 3)
    assert caught.value.code == code
