"""`parallel=True`: ranges of the rows of a nest run at the same time, and nothing else changes."""

import numba
import numpy as np
import pytest

from flatgrad import FlatgradError, grad, value_and_grad
from flatgrad.codegen import numba_parallel

RNG = np.random.default_rng(17)


def chain(x):
    return np.sum(np.tanh(x) * x)


def normalised(b, g, X):
    m = X.mean(axis=1, keepdims=True)
    v = ((X - m) ** 2).mean(axis=1, keepdims=True)
    return np.sum(np.tanh(g * (X - m) / np.sqrt(v + 1e-5) + b))


def of_batch(X, g):
    m = X.mean(axis=0)
    v = ((X - m) ** 2).mean(axis=0)
    return np.sum(np.tanh((X - m) / np.sqrt(v + 1e-5) * g))


def two_loops(x):
    e = np.exp(x - np.max(x))
    p = e / np.sum(e)
    return np.sum(p * np.sin(x))


CASES = [
    (normalised, (RNG.normal(size=7), RNG.normal(size=7), RNG.normal(size=(33, 7)))),
    (of_batch, (RNG.normal(size=(40, 6)).astype(np.float32), np.ones(6, np.float32))),
    (two_loops, (RNG.normal(size=100),)),
]


@pytest.fixture
def low_threshold(monkeypatch):
    """Small arrays are worth several parts, too."""
    monkeypatch.setattr(numba_parallel, "LEAST_ELEMENTS", 8)
    monkeypatch.setattr(numba_parallel, "LEAST_ROWS", 2)


@pytest.fixture
def threads():
    """Sets the number of threads; skips where there are fewer."""
    before = numba.get_num_threads()

    def choose(number):
        if number > numba.config.NUMBA_NUM_THREADS:
            pytest.skip("one thread only")
        numba.set_num_threads(number)

    yield choose
    numba.set_num_threads(before)


def numbers(derived, args):
    value, grads = derived(*args)
    return [np.asarray(item) for item in (value, *(grads if isinstance(grads, tuple) else [grads]))]


def assert_close(found, expected):
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == other.dtype
        scale = np.max(np.abs(other))
        loose = 1e-13 if other.dtype == np.float64 else 1e-6
        np.testing.assert_allclose(one, other, rtol=0, atol=loose * max(scale, 1.0) * 10)


TEXT = '''\
@numba.njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"})
def value_rows(first, last, x, grad_x):
    value = 0.0
    for i in range(first, last):
        x_i = x[i]
        value_tanh_i = tanh_f64(x_i)
        value = plus(value, value_tanh_i * x_i)
        grad_x_i = value_tanh_i + x_i * (1 - value_tanh_i * value_tanh_i)
        grad_x[i] = grad_x_i
    return value


@numba.njit(
    cache=True, error_model="numpy",
    parallel={
        "prange": True, "reduction": False, "numpy": False, "setitem": False, "fusion": False,
        "inplace_binop": False, "comprehension": False, "stencil": False,
    },
)
def value_loop(x):
    grad_x = np.empty(x.shape)
    value = 0.0
    parts = parts_of(x.shape[0], x.shape[0])
    value_parts = np.empty(parts)
    if parts == 1:
        value_parts[0] = value_rows(np.uint64(0), np.uint64(x.shape[0]), x, grad_x)
    else:
        for part in numba.prange(parts):
            first = row_at(part, parts, x.shape[0])
            last = row_at(part + 1, parts, x.shape[0])
            value_parts[part] = value_rows(first, last, x, grad_x)
    for part_1 in range(parts):
        value += value_parts[part_1]
    return value, grad_x


@numba.njit(cache=True, error_model="numpy", boundscheck=True)
def chain_value_and_grad(x):
    value, grad_x = value_loop(x)
    return value, grad_x
'''


def test_the_text():
    assert value_and_grad(chain, backend="numba", parallel=True).source(np.ones(3)) == TEXT


def test_the_text_without_the_option():
    text = value_and_grad(chain, backend="numba", parallel=False).lower(np.ones(3))["emitted"]
    assert text == value_and_grad(chain, backend="numba").lower(np.ones(3))["emitted"]
    assert "prange" not in text


def test_the_numpy_backend_stays():
    assert grad(chain, parallel=True).source(np.ones(3)) == grad(chain).source(np.ones(3))


def test_helpers_keep_their_names():
    def f(parts_of, row_at):
        return np.sum(np.exp(parts_of) * row_at)

    text = grad(f, "row_at", backend="numba", parallel=True).source(np.ones(3), np.ones(3))
    assert "parts = parts_of(parts_of_1.shape[0]" in text


def test_a_maximum_stays_a_loop():
    def f(X):
        return np.sum(np.max(np.exp(X) * X, axis=0))

    text = value_and_grad(f, backend="numba", parallel=True).source(np.ones((4, 3)))
    nest = next(part for part in text.split("\n\n\n") if "range(X.shape[0])" in part)
    assert "numba.prange" not in nest


def test_deterministic_excludes_it():
    with pytest.raises(FlatgradError, match="exclude each other") as caught:
        grad(chain, backend="numba", parallel=True, deterministic=True)
    assert caught.value.diagnostic.code == "bad-option"


@pytest.mark.parametrize(("f", "args"), CASES, ids=lambda item: getattr(item, "__name__", ""))
@pytest.mark.filterwarnings("error::numba.NumbaPerformanceWarning")
def test_many_runs_in_two_threads(f, args, low_threshold, threads):
    argnums = tuple(range(len(args)))
    parallel = value_and_grad(f, argnums, backend="numba", parallel=True)
    threads(1)
    alone = numbers(parallel, args)
    assert_close(alone, numbers(value_and_grad(f, argnums, backend="numba"), args))
    threads(2)
    for _ in range(1000 if f is CASES[0][0] else 200):
        for one, other in zip(numbers(parallel, args), alone, strict=True):
            np.testing.assert_array_equal(one, other)


def test_few_or_no_elements(low_threshold):
    parallel = value_and_grad(chain, backend="numba", parallel=True)
    plain = value_and_grad(chain, backend="numba")
    for size in (0, 1, 7, 8, 15, 16, 17, 5000):
        x = RNG.normal(size=size)
        assert parallel(x)[0] == pytest.approx(plain(x)[0], rel=1e-12)
        np.testing.assert_array_equal(parallel(x)[1], plain(x)[1])


def test_small_arrays_take_no_thread():
    x = RNG.normal(size=numba_parallel.LEAST_ELEMENTS * 2 - 1)
    value, grad_x = value_and_grad(chain, backend="numba", parallel=True)(x)
    expected, other = value_and_grad(chain, backend="numba")(x)
    assert value == expected
    np.testing.assert_array_equal(grad_x, other)


def test_from_compiled_code(low_threshold, threads):
    threads(2)
    parallel = value_and_grad(chain, backend="numba", parallel=True)
    x = RNG.normal(size=200)
    expected, _ = parallel(x)
    if numba.threading_layer() == "workqueue":
        pytest.skip("this layer has no loops in loops")

    @numba.njit(parallel=True)
    def values(x):
        found = np.empty(8)
        for k in numba.prange(8):
            found[k] = parallel(x)[0]
        return found

    @numba.njit
    def descent(x):
        for _ in range(3):
            x = x - 0.1 * parallel(x)[1]
        return x

    assert values(x).tolist() == [expected] * 8
    y = x
    for _ in range(3):
        y = y - 0.1 * parallel(y)[1]
    np.testing.assert_array_equal(descent(x), y)


def test_into_arrays_of_the_caller(low_threshold):
    parallel = grad(chain, backend="numba", parallel=True)
    x, out = RNG.normal(size=100), np.empty(100)
    parallel(x, out=out)
    np.testing.assert_array_equal(out, parallel(x))
