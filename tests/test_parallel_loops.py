"""`parallel=True` for loops of the function itself: ranges of their trips run at the same time."""

import numpy as np
import pytest

from flatgrad import grad, value_and_grad
from flatgrad.codegen import numba_loop_ranges, numba_parallel
from tests.test_parallel import numbers, threads
from tests.transform.random_points import outcome

__all__ = ["threads"]

RNG = np.random.default_rng(23)


def paths(S, K, z):
    total = 0.0
    for i in range(len(z)):
        s = S * np.exp(0.2 * z[i])
        if s > K:
            total += s - K
    return total / len(z)


def neighbours(u, w):
    n = len(u)
    out = np.zeros(n)
    for i in range(1, n - 1):
        out[i] = np.tanh(w * u[i] + u[i - 1] * u[i + 1])
    total = 0.0
    for i in range(n):
        total += out[i] * out[i] * i
    return total


def mixture(x, mu, q):
    n, d = x.shape
    total = 0.0
    for i in range(n):
        near = 0.0
        for k in range(len(mu)):
            distance = 0.0
            for j in range(d):
                e = q[j] * (x[i, j] - mu[k, j])
                distance += e * e
            near += np.exp(-0.5 * distance)
        total += np.log(near)
    return total


CASES = [
    (paths, (1.0, 1.1, RNG.normal(size=100))),
    (neighbours, (RNG.normal(size=90), 0.7)),
    (neighbours, (RNG.normal(size=90).astype(np.float32), np.float32(0.7))),
    (mixture, (RNG.normal(size=(33, 2)), RNG.normal(size=(3, 2)), np.ones(2))),
]


@pytest.fixture
def low_threshold(monkeypatch):
    """Few trips are worth several parts, too."""
    monkeypatch.setattr(numba_parallel, "LEAST_ELEMENTS", 8)
    monkeypatch.setattr(numba_loop_ranges, "MOST_SUMMED", 1)


def assert_close(found, expected, args):
    """Equal up to the order of sums, and to roundings of float32 where there are such."""
    single = any(getattr(one, "dtype", None) == np.float32 for one in args)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        scale = max(np.max(np.abs(other), initial=0.0), 1.0)
        np.testing.assert_allclose(one, other, rtol=0, atol=scale * (1e-5 if single else 1e-12))


def emitted(f, *args):
    return value_and_grad(f, backend="numba", parallel=True).lower(*args)["emitted"]


def test_the_text():
    def f(u, w):
        total = 0.0
        for i in range(1, len(u) - 1):
            total += np.exp(w * u[i - 1]) * u[i + 1]
        return total

    text = value_and_grad(f, "w", backend="numba", parallel=True).source(np.ones(5), 1.0)
    assert text == '''\
@numba.njit(cache=True, error_model="numpy", boundscheck=True)
def total_rows(trips, u, w, grad_total):
    total = 0.0
    grad_w = 0.0
    for i in range(trips):
        total_item = u[i]
        total_exp = exp_f64(w * total_item)
        total_item_1 = u[i + 2]
        total = plus(total, total_exp * total_item_1)
        grad_w = plus(grad_w, grad_total * total_item_1 * total_exp * total_item)
    return total, grad_w


@numba.njit(
    cache=True, error_model="numpy",
    parallel={
        "prange": True, "reduction": False, "numpy": False, "setitem": False, "fusion": False,
        "inplace_binop": False, "comprehension": False, "stencil": False,
    },
)
def total_loop(u, w, grad_total):
    total = 0.0
    grad_w = 0.0
    trips = u.shape[0] - 1 - 1
    parts = parts_of_trips(trips, trips, 0)
    total_parts = np.empty(parts)
    grad_w_parts = np.empty(parts)
    if parts == 1:
        total_parts[0], grad_w_parts[0] = total_rows(trips, u[0:], w, grad_total)
    else:
        for part in numba.prange(parts):
            first = 1 + trip_at(part, parts, trips)
            count = 1 + trip_at(part + 1, parts, trips) - first
            total_parts[part], grad_w_parts[part] = total_rows(count, u[first - 1:], w, grad_total)
    for part_1 in range(parts):
        total += total_parts[part_1]
        grad_w += grad_w_parts[part_1]
    return total, grad_w


@numba.njit(cache=True, error_model="numpy", boundscheck=True)
def f_value_and_grad(u, w):
    grad_total = 1.0
    total, grad_w = total_loop(u, w, grad_total)
    return total, grad_w
'''


def test_without_the_option_the_loop_stays():
    text = value_and_grad(paths, backend="numba").source(1.0, 1.1, np.ones(3))
    assert "prange" not in text
    assert "for i in range(z.shape[0]):" in text


def recurrence(u):
    v = u.copy()
    for i in range(1, len(u)):
        v[i] = np.tanh(v[i - 1] + u[i])
    return np.sum(v)


def carried_number(u):
    y = 1.0
    for i in range(len(u)):
        y = y * np.cos(u[i])
    return y


def chosen_elements(u, k):
    total = 0.0
    for i in range(len(k)):
        total += np.exp(u[k[i]])
    return total


def from_the_end(u):
    total = 0.0
    for i in range(len(u)):
        total += np.exp(u[i - 1])
    return total


def largest(u):
    most = 0.0
    for i in range(len(u)):
        if u[i] > most:
            most = u[i]
    return most * most


def left_early(u):
    total = 0.0
    for i in range(len(u)):
        if u[i] > 2.0:
            break
        total += np.exp(u[i])
    return total


@pytest.mark.parametrize(
    "f", [recurrence, carried_number, chosen_elements, from_the_end, largest],
    ids=lambda f: f.__name__,
)  # fmt: skip
def test_trips_that_need_each_other_stay(f):
    args = (np.ones(4), np.arange(3)) if f is chosen_elements else (np.ones(4),)
    derived = value_and_grad(f, "u", backend="numba", parallel=True)
    loops = [part for part in derived.source(*args).split("\n\n\n") if "_rows(" in part]
    assert not any("trips" in part for part in loops)


def test_a_loop_that_is_left_early_stays():
    """Not so its backward sweep, over the trips that were made."""
    text = value_and_grad(left_early, backend="numba", parallel=True).source(np.ones(4))
    assert "            break" in text.split("\n\n\n")[-1]
    assert "grad_u_loop(" in text


@pytest.mark.parametrize(("f", "args"), CASES, ids=lambda item: getattr(item, "__name__", ""))
@pytest.mark.filterwarnings("error::numba.NumbaPerformanceWarning")
def test_many_runs_in_two_threads(f, args, low_threshold, threads):
    argnums = tuple(range(len(args)))
    parallel = value_and_grad(f, argnums, backend="numba", parallel=True)
    threads(1)
    alone = numbers(parallel, args)
    assert "trip_at" in parallel.source()
    assert_close(alone, numbers(value_and_grad(f, argnums), args), args)
    threads(2)
    for _ in range(1000 if f is mixture else 200):
        for one, other in zip(numbers(parallel, args), alone, strict=True):
            np.testing.assert_array_equal(one, other)
    assert_special(parallel, f, argnums, args)


def assert_special(parallel, f, argnums, args):
    """Nan and inf, and no or few trips, as on the NumPy backend."""
    place = next(k for k, one in enumerate(args) if isinstance(one, np.ndarray))
    for special in (np.nan, np.inf, -np.inf):
        given = [np.copy(one) if isinstance(one, np.ndarray) else one for one in args]
        given[place][5] = special
        with np.errstate(all="ignore"):
            expected = numbers(value_and_grad(f, argnums), given)
            for one, other in zip(numbers(parallel, given), expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    for count in (0, 1, 2, 3, 9):
        given = [one[:count] if k == place else one for k, one in enumerate(args)]
        with np.errstate(all="ignore"):
            expected = numbers(value_and_grad(f, argnums), given) if count > 1 else None
        if expected is not None:
            assert_close(numbers(parallel, given), expected, given)


def test_an_index_that_is_too_large_is_an_error(low_threshold):
    def f(x, w, n):
        total = 0.0
        for i in range(n):
            total += np.exp(x[i]) * w[i]
        return total

    x, w = RNG.normal(size=100), RNG.normal(size=70)
    parallel = value_and_grad(f, ("x", "w"), backend="numba", parallel=True)
    plain = value_and_grad(f, ("x", "w"))
    for n in (70, 64, 3, 0):
        assert_close(numbers(parallel, (x, w, n)), numbers(plain, (x, w, n)), (x,))
    assert "if fits else 1" in parallel.source()
    for n in (71, 100, 101):
        with pytest.raises(IndexError):
            parallel(x, w, n)


def test_the_index_as_a_number_and_an_array_that_goes_on(low_threshold):
    def f(x, n):
        v = np.sin(x)
        for i in range(n):
            v[i] = v[i] * (i + 0.5) + x[i] * x[0]
        for i in range(n - 1, -1, -1):
            v[i] += np.exp(-x[i])
        return np.sum(v * v)

    x = RNG.normal(size=100)
    parallel = value_and_grad(f, "x", backend="numba", parallel=True)
    assert_close(numbers(parallel, (x, 90)), numbers(value_and_grad(f, "x"), (x, 90)), (x,))
    assert "i = first + k" in parallel.source()


def test_helpers_keep_their_names():
    def f(trip_at, parts_of_trips):
        trips = 0.0
        for first in range(len(trip_at)):
            trips += trip_at[first] * parts_of_trips
        return trips

    text = emitted(f, np.ones(3), 1.0)
    assert "trips_1 = trip_at_1.shape[0]" in text or "trips_1 = " in text
    assert "def trip_at(part, parts, trips):" in text


def test_other_modes(low_threshold):
    from flatgrad import hvp, jvp

    x, dot = RNG.normal(size=60), RNG.normal(size=60)

    def f(x):
        total = 0.0
        for i in range(len(x)):
            total += np.tanh(x[i]) ** 3
        return total

    for derive in (jvp, hvp):
        found = derive(f, (x,), (dot,), backend="numba", parallel=True)
        expected = derive(f, (x,), (dot,))
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)


def test_into_arrays_of_the_caller(low_threshold):
    parallel = grad(neighbours, "u", backend="numba", parallel=True)
    u, out = RNG.normal(size=100), np.empty(100)
    parallel(u, 0.3, out=out)
    np.testing.assert_array_equal(out, parallel(u, 0.3))


@pytest.mark.parametrize("seed", range(24))
def test_random_loops_over_points(seed, tmp_path):
    with np.errstate(all="ignore"):
        assert outcome(seed, tmp_path) in ("ok", "parts", "refused")


def test_the_programs_reach_what_they_are_for(tmp_path):
    with np.errstate(all="ignore"):
        assert [outcome(seed, tmp_path) for seed in range(12)].count("parts") > 2
