"""An int is a float where a derivative is wanted, unless the function needs it as an int."""

import warnings

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import FlatgradError, grad, value_and_grad


def item(x, n):
    return x[n]


def length(x, n):
    return np.sum(np.zeros(n) + x[0])


def head(x, n):
    return np.sum(x[:n] ** 2)


def numbers(x, n):
    return np.sum(np.arange(n) * x[0])


def rows(x, n):
    return np.sum(x.reshape(n, -1)[0] * 2)


def filled(x, n):
    return np.sum(np.full((n, n), x[1]))


def trips(x, n):
    total = 0.0
    for i in range(n):
        total += x[i] * n
    return total


def half_the_trips(x, n):
    total = 0.0
    for i in range(n // 2):
        total += x[i]
    return total


def around(x, n):
    return x[(n + len(x)) % x.shape[0]]


def at_most(x, n):
    return np.sum(x[: min(n, len(x))])


def windows(x, n):
    means = np.zeros(x.shape[0] - n + 1)
    for i in range(len(means)):
        means[i] = np.sum(x[i : i + n]) / n
    return means[0] + 2 * means[-1]


@pytest.mark.parametrize(
    "f, n, expected",
    [
        (item, 2, [0, 0, 1, 0]),
        (length, 2, [2, 0, 0, 0]),
        (head, 2, [2, 4, 0, 0]),
        (numbers, 3, [3, 0, 0, 0]),
        (rows, 2, [2, 2, 0, 0]),
        (filled, 3, [0, 9, 0, 0]),
        (trips, 3, [3, 3, 3, 0]),
        (half_the_trips, 4, [1, 1, 0, 0]),
        (around, 6, [0, 0, 1, 0]),
        (at_most, 2, [1, 1, 0, 0]),
        (windows, 2, [0.5, 0.5, 1, 1]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_int_that_is_needed_as_an_int(f, n, expected):
    x = np.arange(4.0) + 1
    derived = grad(f)
    assert np.array_equal(derived(x, n), expected)
    assert np.array_equal(derived(x, n), expected)  # by the short way
    assert np.array_equal(derived(x, np.int64(n)), expected)


def test_two_ints_in_one_index():
    def f(x, n, m):
        return x[n * m - 1]

    assert np.array_equal(grad(f)(np.arange(4.0), 2, 2), [0, 0, 0, 1])


def test_a_float_among_ints_in_an_index():
    def f(x, n, a):
        return x[n * a]

    with pytest.raises(FlatgradError, match="an index is a float"):
        grad(f)(np.arange(4.0), 2, 0.5)


def test_int_that_may_be_a_float():
    def f(x, n):
        return x**n

    assert grad(f)(2.0, 3) == pytest.approx((12.0, 8 * np.log(2)))


def test_only_what_is_needed_stays_an_int():
    def f(a, n, m):
        y = a
        for _ in range(n):
            y = y * m
        return y

    found = grad(f)(2, 3, 5)
    assert found._fields == ("a", "m")
    assert found == pytest.approx((125.0, 150.0))


def test_second_order():
    def power(x, n):
        y = 1.0
        for _ in range(n):
            y = y * x
        return y

    assert grad(grad(power))(3.0, 4) == pytest.approx(108.0)
    assert fg.check_grads(power, (1.5, 4))


@pytest.mark.parametrize("argnums", ["n", ("x", "n")])
def test_asked_for_by_name(argnums):
    with pytest.raises(FlatgradError) as caught:
        grad(trips, argnums=argnums)(np.ones(4), 3)
    assert caught.value.code == "operand-type"
    assert "`range` of float64" in str(caught.value)
    assert "for i in range(n)" in str(caught.value)


def test_float_stays_refused():
    with pytest.raises(FlatgradError) as caught:
        grad(item)(np.ones(4), 2.0)
    assert caught.value.code == "unsupported-index"
    derived = grad(trips)
    derived(np.ones(4), 3)
    with pytest.raises(FlatgradError):
        derived(np.ones(4), 3.0)
    assert np.array_equal(derived(np.ones(4), 2), [2, 2, 0, 0])


def test_length_that_is_a_float():
    with pytest.raises(FlatgradError) as caught:
        grad(length)(np.ones(4), 2.0)
    assert caught.value.code == "operand-type"
    assert "`shape` of `np.zeros` is a float" in str(caught.value)


def test_source_without_a_call():
    def f(x, n):
        y = 1.0
        for i in range(n):
            y = y * np.sin(x + i)
        return y

    assert "for i in range(n):" in grad(f).source()


def power_sum(x, n):
    y = 1.0
    for i in range(n):
        y = y * np.sin(x + i)
    return y


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_sign_of_a_count(backend):
    """`range(n)` has n trips unless n is negative, for which there is code of its own."""
    slope = grad(power_sum, "x", backend=backend)
    expected = grad(lambda x: np.sin(x) * np.sin(x + 1) * np.sin(x + 2))(0.5)
    for n, wanted in ((3, expected), (-3, 0.0), (3, expected), (0, 0.0), (np.int64(-1), 0.0)):
        assert slope(0.5, n) == pytest.approx(wanted)


def test_tape_of_a_count():
    slope = grad(power_sum, "x")
    assert "y_tape = np.empty(n)\n" in slope.source(0.5, 3)
    assert "y_tape = np.empty(max(n, 0))\n" in slope.source(0.5, -3)


def test_negative_count_in_compiled_code():
    import numba

    slope = grad(power_sum, "x", backend="numba")

    @numba.njit
    def call(n):
        return slope(0.5, n)

    assert call(2) == pytest.approx(slope(0.5, 2))
    with pytest.raises(ValueError, match="negative dimensions"):
        call(-2)


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_ints_of_few_bits_overflow_as_in_the_function(dtype):
    """`g * (k + k)` is not `g * 2 * k` if `k + k` has overflowed."""
    k = np.array([100, 100, 7]).astype(dtype) + np.array(np.iinfo(dtype).max - 150).astype(dtype)

    def f(x):
        total = 0.0
        for i in range(len(x)):
            total += x[i] * (k[i] + k[i]) + x[i] * (k[i] * 2) * 3
        return total

    x = np.array([1.0, 2.0, 3.0])
    with np.errstate(over="ignore"):
        factors = [float(one + one) + 3.0 * float(one * 2) for one in k]
        np.testing.assert_array_equal(grad(f)(x), factors)


def product_of_elements(x, k):
    total = 0.0
    for i in range(len(k)):
        total += x[i] * (k[i] * k[i] - k[0])
    return total


def products_in_a_nest(x, k):
    return np.sum(np.exp(x) * (k * k + k))


def cumulative(x, k):
    return np.sum(x * k.cumsum())


@pytest.mark.parametrize("function", [product_of_elements, products_in_a_nest, cumulative])
@pytest.mark.parametrize("dtype, big", [("uint8", 120), ("int32", 2**31 - 5)])
def test_ints_of_few_bits_wrap_around_on_numba(function, dtype, big):
    k = np.array([big, 100, 7], dtype)
    x = np.array([1.0, 2.0, 3.0])
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = function(x, k)
        others = value_and_grad(function, argnums="x")(x, k)[1]
    value, slope = value_and_grad(function, argnums="x", backend="numba")(x, k)
    assert value == pytest.approx(expected, rel=1e-12)
    np.testing.assert_allclose(slope, others, rtol=1e-12)
