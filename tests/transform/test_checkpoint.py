"""Checkpointed loops: the gradient is that of the plain loop, with the memory that was asked for."""

import tracemalloc
from math import comb

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import checkpoint, grad, hvp, jvp, value_and_grad, vjp
from flatgrad.primitives.revolve import revolve_next, revolve_places

U = np.random.default_rng(0).normal(size=6)


def fewest(trips, slots):
    """Steps forward in all, by the formula of Griewank and Walther for trips + 1 steps."""
    r = 0
    while comb(slots + r, slots) < trips + 1:
        r += 1
    return r * (trips + 1) - comb(slots + r, r - 1) if r else 0


def steps(trips, slots):
    """Steps forward of the schedule, as the emitted code takes them."""
    places = revolve_places(trips, slots)
    assert places[0] == 0
    assert places[-1] == trips
    taken, top = trips, slots - 1
    for i in range(trips - 1, -1, -1):
        while places[top] > i:
            top -= 1
        first = int(places[top])
        while first < i:
            mark = revolve_next(first, i, slots - top)
            assert first < mark <= i
            taken += mark - first
            first = mark
            if first < i:
                top += 1
                places[top] = first
        assert top < slots
    return taken


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 7, 10, 30])
def test_the_schedule_takes_the_fewest_steps(slots):
    for trips in [*range(60), 100, 399, 1000]:
        assert steps(trips, slots) == fewest(trips, slots), trips


def test_the_formula_is_that_of_the_recursion():
    """t(l, s) = min over m of m + t(l - m, s - 1) + t(m, s)."""
    best = {}
    for slots in range(1, 6):
        for length in range(1, 40):
            if length == 1:
                best[length, slots] = 0
            elif slots == 1:
                best[length, slots] = length * (length - 1) // 2
            else:
                best[length, slots] = min(
                    m + best[length - m, slots - 1] + best[m, slots] for m in range(1, length)
                )
            assert best[length, slots] == fewest(length - 1, slots)


CALLS = []


def counted(u):
    CALLS.append(1)
    return np.sin(u) * 1.5


fg.defvjp(counted, lambda grad_y, y, u: grad_y * np.cos(u) * 1.5)


def counting(u, n, s):
    for _ in checkpoint(range(n), snapshots=s):
        u = counted(u)
    return u


@pytest.mark.parametrize(("n", "s"), [(0, 2), (1, 1), (7, 1), (12, 3), (40, 4), (9, 20)])
def test_the_emitted_code_takes_as_many(n, s):
    d = grad(counting, "u")
    d(0.3, n, s)
    CALLS.clear()
    d(0.3, n, s)
    # The rules of users are called once more in the trip that is gone back over.
    assert len(CALLS) == fewest(n, s) + n


def swapped(u0, k, n):
    u, v, c = u0.copy(), u0.copy(), 0.0
    for _ in range(n):
        flux = k * (1 + u * u)
        v[1:-1] = u[1:-1] + flux[1:-1] * (u[2:] - 2 * u[1:-1] + u[:-2])
        c = c + v[1]
        u, v = v, u
    return np.sum(u * u) + c


def swapped_root(u0, k, n):
    u, v, c = u0.copy(), u0.copy(), 0.0
    for _ in checkpoint(range(n)):
        flux = k * (1 + u * u)
        v[1:-1] = u[1:-1] + flux[1:-1] * (u[2:] - 2 * u[1:-1] + u[:-2])
        c = c + v[1]
        u, v = v, u
    return np.sum(u * u) + c


def swapped_revolve(u0, k, n, s=3):
    u, v, c = u0.copy(), u0.copy(), 0.0
    for _ in checkpoint(range(n), snapshots=s):
        flux = k * (1 + u * u)
        v[1:-1] = u[1:-1] + flux[1:-1] * (u[2:] - 2 * u[1:-1] + u[:-2])
        c = c + v[1]
        u, v = v, u
    return np.sum(u * u) + c


def nested(u, k, n):
    u = u.copy()
    for t in range(n - 1, 2, -2):
        u[1:-1] += k * t * (1 + u[1:-1] ** 2) * (u[2:] - 2 * u[1:-1] + u[:-2])
        for j in range(t):
            u[0] = u[0] * np.sin(u[1] + j)
            if u[0] > 0.5:
                u[2] *= 0.9
    return np.sum(u * u)


def nested_root(u, k, n):
    u = u.copy()
    for t in checkpoint(range(n - 1, 2, -2)):
        u[1:-1] += k * t * (1 + u[1:-1] ** 2) * (u[2:] - 2 * u[1:-1] + u[:-2])
        for j in checkpoint(range(t)):
            u[0] = u[0] * np.sin(u[1] + j)
            if u[0] > 0.5:
                u[2] *= 0.9
    return np.sum(u * u)


def nested_revolve(u, k, n):
    u = u.copy()
    for t in checkpoint(range(n - 1, 2, -2), snapshots=2):
        u[1:-1] += k * t * (1 + u[1:-1] ** 2) * (u[2:] - 2 * u[1:-1] + u[:-2])
        for j in checkpoint(range(t), snapshots=3):
            u[0] = u[0] * np.sin(u[1] + j)
            if u[0] > 0.5:
                u[2] *= 0.9
    return np.sum(u * u)


PAIRS = [
    (swapped_root, swapped), (swapped_revolve, swapped),
    (nested_root, nested), (nested_revolve, nested),
]  # fmt: skip


@pytest.mark.parametrize(("marked", "plain"), PAIRS)
@pytest.mark.parametrize("n", [-2, 0, 1, 2, 3, 4, 5, 9, 16])
def test_the_gradient_is_that_of_the_plain_loop(marked, plain, n):
    value, found = value_and_grad(marked, (0, 1))(U, 0.01, n)
    expected_value, expected = value_and_grad(plain, (0, 1))(U, 0.01, n)
    assert value == expected_value
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("s", [1, 2, 4, 50])
def test_any_number_of_snapshots(s):
    expected = grad(swapped, "u0")(U, 0.01, 13)
    np.testing.assert_allclose(grad(swapped_revolve, "u0")(U, 0.01, 13, s), expected, rtol=1e-12)


@pytest.mark.parametrize("marked", [swapped_root, swapped_revolve])
def test_on_numba(marked):
    derived = grad(marked, (0, 1), backend="numba")
    for n in (0, 1, 9):
        found, expected = derived(U, 0.01, n), grad(swapped, (0, 1))(U, 0.01, n)
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("marked", "plain"), PAIRS)
def test_second_order_and_forward_mode(marked, plain):
    tangents = np.ones(6), 0.3

    def results(f):
        def fixed(u, k):
            return f(u, k, 9)

        def slope(u, k):
            return np.sum(grad(fixed, "u")(u, k) ** 2)

        return (
            *jvp(fixed, (U, 0.01), tangents), *hvp(fixed, (U, 0.01), tangents),
            *grad(slope, (0, 1))(U, 0.01), *vjp(fixed, U, 0.01)[1](1.0),
        )  # fmt: skip

    for one, other in zip(results(marked), results(plain), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


def inside(x):
    total = 0.0
    for a in range(3):
        y = x + a
        for i in checkpoint(range(a, 7), snapshots=2):
            if y > 3.0:
                continue
            y = y * np.sin(y + i) + x
        if total < 1.0:
            for _ in checkpoint(range(4), snapshots=2):
                y = np.cos(y * x)
        total = total + y
    return total


def test_in_loops_and_branches():
    fg.check_grads(inside, (0.9,))


def single(x):
    y, z, k = x[0], 1.0, 0
    for _ in checkpoint(range(9), snapshots=3):
        y = y * np.sin(x[k % 3]) + x[0]
        z = z * 1.01
        y = y * z
        k += 2
    return y


def single_plain(x):
    y, z, k = x[0], 1.0, 0
    for _ in range(9):
        y = y * np.sin(x[k % 3]) + x[0]
        z = z * 1.01
        y = y * z
        k += 2
    return y


def test_single_precision_stays():
    x = U.astype("float32")
    found = grad(single)(x)
    assert found.dtype == "float32"
    np.testing.assert_array_equal(found, grad(single_plain)(x))


def printing(x):
    for i in checkpoint(range(3)):
        x = np.sin(x)
        print(i)
    return x


def test_prints_once(capsys):
    grad(printing)(0.3)
    assert capsys.readouterr().out == "0\n1\n2\n"


def linear(x, n):
    y = 0.0
    for _ in checkpoint(range(n), snapshots=4):
        y = 0.5 * y + x
    return y


def test_a_linear_loop_keeps_nothing():
    assert grad(linear, "x")(2.0, 3) == 1.75
    assert "np.empty" not in grad(linear, "x").source(2.0, 3)


def growing(x):
    y = x * 2
    for _ in checkpoint(range(5)):
        y = np.append(y, np.sin(y[-1]))
    return np.sum(y * y)


def test_a_growing_state_in_segments():
    fg.check_grads(growing, (U,))


def peak(derived, *args):
    derived(*args)
    tracemalloc.start()
    try:
        derived(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_the_memory_is_what_was_asked_for():
    u, state = np.linspace(0.0, 1.0, 500), 500 * 8
    n = 900
    tape = peak(grad(swapped, "u0"), u, 0.01, n)
    root = peak(grad(swapped_root, "u0"), u, 0.01, n)
    five = peak(grad(swapped_revolve, "u0"), u, 0.01, n, 5)
    assert tape > n * state
    assert root < 3 * 31 * state + 60 * state  # two states per segment, one per trip of a segment
    assert five < 2 * 5 * state + 40 * state


def left(x):
    for _ in checkpoint(range(10)):
        x = np.sin(x)
        if x < 0.1:
            break
    return x


def returned(x):
    for _ in checkpoint(range(10)):
        x = np.sin(x)
        if x < 0.1:
            return x
    return x


def on_condition(x):
    while checkpoint(x > 0.1):
        x = np.sin(x) - 0.1
    return x


def over_array(x):
    y = 0.0
    for row in checkpoint(x):
        y = y + row
    return y


def no_snapshots(x):
    for _ in checkpoint(range(10), snapshots=0):
        x = np.sin(x)
    return x


def growing_snapshots(x):
    y = x * 2
    for _ in checkpoint(range(5), snapshots=2):
        y = np.append(y, np.sin(y[-1]))
    return np.sum(y * y)


@pytest.mark.parametrize(
    ("f", "args", "line"),
    [
        (left, (0.3,), 1), (returned, (0.3,), 1), (on_condition, (0.3,), 1), (over_array, (U,), 2),
        (no_snapshots, (0.3,), 1), (growing_snapshots, (U,), 2),
    ],
)  # fmt: skip
def test_refused(f, args, line):
    with pytest.raises(fg.UnsupportedError) as caught:
        grad(f)(*args)
    assert caught.value.code == "bad-checkpoint"
    assert caught.value.diagnostic.span.line == f.__code__.co_firstlineno + line


def test_outside_of_derivatives():
    assert list(checkpoint(range(1, 9, 3))) == [1, 4, 7]
    assert checkpoint(range(3), snapshots=2) == range(3)
    with pytest.raises(fg.UnsupportedError, match="keep at least one"):
        checkpoint(range(3), snapshots=0)
    with pytest.raises(fg.UnsupportedError, match="a value of type int"):
        checkpoint(3)
    with pytest.raises(ValueError, match="at least one snapshot"):
        grad(counting, "u")(0.3, 5, 0)
