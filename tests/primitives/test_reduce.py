"""Reductions: zeros, ties, constants, divisors, emitted text, what is refused."""

from __future__ import annotations

import re

import numpy as np
import pytest

from flatgrad import ShapeError, TypeInferenceError, UnsupportedError, grad, value_and_grad
from flatgrad.primitives.products import product_of_others
from flatgrad.primitives.registry import call
from flatgrad.primitives.samples import A
from tests.primitives.second_order import assert_reverse_twice, assert_second_order

RNG = np.random.default_rng(0)


def backward(function, *args):
    """The lines of the backward sweep after the seed, for a function that returns its `y`."""
    derived = grad(function)
    derived(*args)
    return derived.backward_source().strip().splitlines()[1:]


def differences(function, x, h=1e-6):
    """The gradient by central differences."""
    found = np.zeros(x.shape)
    for k in np.ndindex(x.shape):
        sides = []
        for sign in (1, -1):
            moved = x.astype(np.float64)
            moved[k] += sign * h
            sides.append(function(moved))
        found[k] = (sides[0] - sides[1]) / (2 * h)
    return found


def total(x):
    y = np.sum(x)
    return y


def average(x):
    y = np.mean(x)
    return y


def variance(x):
    y = np.var(x)
    return y


def deviation(x):
    y = np.std(x)
    return y


def largest(x):
    y = np.max(x)
    return y


def length(x):
    y = np.linalg.norm(x)
    return y


def row_lengths(x):
    y = np.sum(np.linalg.norm(x, axis=1))
    return y


def product(x):
    y = np.prod(x)
    return y


def row_products(x):
    y = np.sum(np.prod(x, axis=1) ** 2)
    return y


@pytest.mark.parametrize(
    ("function", "text"),
    [
        (total, ["grad_x = np.full_like(x, grad_y)"]),
        (average, ["grad_x = np.full_like(x, grad_y / x.size)"]),
        (variance, ["grad_x = grad_y * 2 / x.size * (x - np.mean(x))"]),
        (length, ["grad_x = grad_y / np.where(y == 0, np.inf, y) * x"]),
        (largest, ["grad_x_mask = x == y", "grad_x = grad_y / np.sum(grad_x_mask) * grad_x_mask"]),
        (product, ["grad_x = grad_y * product_of_others(x)"]),
    ],
    ids=lambda item: getattr(item, "__name__", ""),
)
def test_emitted_like_a_textbook(function, text):
    assert backward(function, RNG.normal(size=(3, 4))) == text


def test_no_broadcast_of_a_number_below_an_axis():
    assert "broadcast_to" not in "".join(backward(row_lengths, RNG.normal(size=(3, 4))))


# Zeros, ties, constants


@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
def test_prod_is_right_with_zeros(zeros):
    x = np.array([2.0, -3.0, 0.5, 4.0])
    x[:zeros] = 0
    expected = [np.prod(np.delete(x, k)) for k in range(4)]
    np.testing.assert_allclose(grad(product)(x), expected)
    rows = np.stack([x, x[::-1], np.ones(4)])
    np.testing.assert_allclose(grad(row_products)(rows), differences(row_products, rows), atol=1e-6)


@pytest.mark.parametrize("axis", [None, 0, 1, -1, (0, 2), (2, 0), (-2, 1), (1, 2), (0, 1, 2), ()])
def test_product_of_others(axis):
    if axis == (-2, 1):
        axis = (-2, 2)
    x = RNG.normal(size=(2, 3, 2))
    x[0, 1, 1] = x[1, 2, 0] = 0
    axes = tuple(range(3)) if axis is None else (axis,) if isinstance(axis, int) else axis
    axes = tuple(k % 3 for k in axes)
    expected = np.empty(x.shape)
    for k in np.ndindex(x.shape):
        index = tuple(slice(None) if j in axes else k[j] for j in range(3))
        without = x.copy()
        without[k] = 1.0
        expected[k] = np.prod(without[index])
    np.testing.assert_allclose(product_of_others(x, axis), expected)


def test_product_of_others_of_nothing():
    assert product_of_others(np.ones((0, 3)), 0).shape == (0, 3)
    assert product_of_others(np.ones((3, 0)), 0).shape == (3, 0)
    assert product_of_others(np.float32(3)) == 1


@pytest.mark.parametrize("zeros", [0, 1, 2, 3])
def test_second_derivative_of_prod_with_zeros(zeros):
    x = np.array([2.0, -3.0, 0.5, 4.0])
    x[:zeros] = 0
    assert_second_order(np.prod, call(A(4)), [x])
    assert_second_order(np.prod, call(A(3, 4), axis=1), [np.stack([x, x + 1, x[::-1]])])
    assert_second_order(np.prod, call(A(4, 3), axis=0), [np.stack([x, x + 1, x[::-1]]).T.copy()])
    assert_second_order(np.prod, call(A(2, 2)), [x.reshape(2, 2)])


def test_ties_share():
    def farthest(x):
        return np.linalg.norm(x, ord=np.inf)

    def spread(x):
        return np.ptp(x)

    x = np.array([1.0, 3.0, 3.0, 2.0])
    np.testing.assert_array_equal(grad(largest)(x), [0, 0.5, 0.5, 0])
    np.testing.assert_array_equal(grad(farthest)(-x), [0, -0.5, -0.5, 0])
    np.testing.assert_array_equal(grad(spread)(np.ones(4)), np.zeros(4))


@pytest.mark.parametrize("value", [0.0, 1.0, 0.1, 1e8 + 0.1, -1 / 3])
@pytest.mark.parametrize("ddof", [0, 1])
def test_std_of_equal_numbers_has_gradient_zero(value, ddof):
    x = np.full((3, 7), value)
    x[1] = RNG.normal(size=7)

    def f(x):
        return np.sum(np.std(x, axis=1, ddof=ddof))

    gradient = grad(f)(x)
    np.testing.assert_array_equal(gradient[[0, 2]], np.zeros((2, 7)))
    centred = x[1] - x[1].mean()
    np.testing.assert_allclose(gradient[1], centred / (7 - ddof) / np.std(x[1], ddof=ddof))


def test_norm_of_zeros_has_gradient_zero():
    def f(x):
        plain = np.linalg.norm(x, axis=1) + np.linalg.norm(x, axis=1, ord=1)
        curved = np.linalg.norm(x, axis=1, ord=2.5) + np.linalg.norm(x, axis=1, ord=3)
        ends = np.linalg.norm(x, axis=1, ord=np.inf) + np.linalg.norm(x, axis=1, ord=-np.inf)
        return np.sum(plain + curved + ends)

    x = np.zeros((2, 3))
    x[1] = [1.0, -2.0, 4.0]
    with np.errstate(all="raise"):
        gradient = grad(f)(x)
    np.testing.assert_array_equal(gradient[0], np.zeros(3))
    np.testing.assert_allclose(gradient[1], differences(f, x)[1], rtol=1e-6)


def test_norm_of_high_order_stays_in_range():
    def f(x):
        return np.linalg.norm(x, ord=8)

    x = np.array([3e-3, 4e-3], np.float32)
    found = grad(f)(x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, (x / np.linalg.norm(x, ord=8)) ** 7, rtol=1e-4)


@pytest.mark.parametrize(
    ("function", "sample"),
    [
        (np.var, call(A(5), ddof=1)), (np.var, call(A(3, 4), axis=0)),
        (np.std, call(A(5))), (np.std, call(A(3, 4), axis=1, keepdims=True)),
        (np.linalg.norm, call(A(5))), (np.linalg.norm, call(A(3, 4), axis=0)),
        (np.linalg.norm, call(A(5), ord=3)), (np.linalg.norm, call(A(5), ord=1)),
        (np.max, call(A(3, 4, distinct=True), axis=0)), (np.mean, call(A(3, 4), axis=1)),
        (np.cumsum, call(A(3, 4), axis=1)), (np.prod, call(A(2, 3, 2), axis=(0, 2))),
    ],
)  # fmt: skip
def test_second_order(function, sample):
    assert_second_order(function, sample)
    assert_reverse_twice(function, sample)


# Divisors, dtypes, data that is not float


@pytest.mark.parametrize("axis", [None, 0, -1, (0, 2), (-1, 1), (0, 1, 2)])
@pytest.mark.parametrize("keepdims", [False, True])
@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 1, 4), (1, 3, 2), (1, 2, 1)])
def test_every_axis_and_length_one(axis, keepdims, shape):
    def f(x):
        a = np.var(x, axis=axis, ddof=0.5, keepdims=keepdims)
        b = np.linalg.norm(np.mean(x, axis=axis, keepdims=True) * x)
        c = np.prod(x, axis=axis, keepdims=keepdims) + np.max(x, axis, keepdims=keepdims)
        return np.sum(a * c) + b

    x = RNG.normal(size=shape)
    value, gradient = value_and_grad(f)(x)
    np.testing.assert_allclose(value, f(x))
    np.testing.assert_allclose(gradient, differences(f, x), rtol=1e-5, atol=1e-5)
    strided = np.asfortranarray(x)[::-1]
    np.testing.assert_allclose(grad(f)(strided), differences(f, strided), rtol=1e-5, atol=1e-5)


def test_float32_stays():
    def f(x):
        spread = np.std(x, axis=0) + np.linalg.norm(x, axis=0, ord=3) + np.prod(x, axis=0)
        return np.sum(spread + np.cumsum(x, axis=1)[0] + np.average(x, axis=0))

    x = RNG.normal(size=(3, 4)).astype(np.float32)
    gradient = grad(f)(x)
    assert gradient.dtype == np.float32
    np.testing.assert_allclose(gradient, differences(f, x), rtol=1e-2, atol=1e-3)


def test_integers_and_bools_are_data():
    counts, mask = np.array([3, 0, 2]), np.array([True, False, True])

    def f(x):
        scale = np.sum(counts) + np.mean(mask) + np.sum(mask) + np.max(counts) + np.prod(counts + 1)
        scale = scale + np.std(counts) + np.linalg.norm(counts) + np.count_nonzero(mask)
        return np.sum(x) * scale * (1 + np.any(mask)) * (2 - np.all(mask)) + x[np.argmax(counts)]

    x = RNG.normal(size=3)
    np.testing.assert_allclose(grad(f)(x), differences(f, x), rtol=1e-6)


def test_no_derivative_passes_a_position_or_test():
    def f(x):
        return np.sum(x * np.argmax(x)) + np.any(x > 0) + np.count_nonzero(x) * x[np.argmin(x)]

    x = np.array([0.5, -2.0, 3.0])
    np.testing.assert_allclose(grad(f)(x), [2, 5, 2])


@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_cumsum(axis):
    def f(x):
        y = np.cumsum(x, axis=axis)
        return np.sum(y * y * y)

    x = RNG.normal(size=(3, 4))
    np.testing.assert_allclose(grad(f)(x), differences(f, x), rtol=1e-6, atol=1e-5)


def test_average_with_weights():
    weights = np.array([0.5, 1.0, 3.0])

    def along(x, w):
        return np.sum(np.average(x, axis=1, weights=w) ** 2)

    def full(x, w):
        return np.average(x, weights=w) + np.sum(np.average(x, 0, w, keepdims=True) ** 2)

    x = RNG.normal(size=(2, 3))
    for f, w in ((along, weights), (full, np.abs(RNG.normal(size=(2, 3))))):
        grad_x, grad_w = grad(f)(x, w)
        np.testing.assert_allclose(grad_x, differences(lambda x: f(x, w), x), rtol=1e-6)
        np.testing.assert_allclose(grad_w, differences(lambda w: f(x, w), w), rtol=1e-6, atol=1e-9)


def test_old_names():
    def f(x):
        return np.amax(x) * np.amin(x, axis=0)[0] + np.ptp(x, axis=1, keepdims=True)[0, 0]

    x = RNG.normal(size=(3, 4))
    np.testing.assert_allclose(grad(f)(x), differences(f, x), rtol=1e-6, atol=1e-8)


def test_methods():
    def f(x):
        spread = x.var(axis=0, ddof=1).sum() + x.std() + x.prod(axis=1).max() + x.min()
        return spread + x.cumsum().mean() + x.ravel()[x.argmax()]

    x = RNG.normal(size=(3, 4))
    np.testing.assert_allclose(grad(f)(x), differences(f, x), rtol=1e-6, atol=1e-7)


# Refused


def sum_dtype(x):
    return np.sum(x, dtype=np.float32)


def cumsum_dtype(x):
    return np.cumsum(x, dtype=np.float32)[0]


def max_initial(x):
    return np.max(x, initial=0.0)


def sum_where(x):
    return np.sum(x, where=x > 0)


def axis_too_large(x):
    return np.sum(x, axis=2)


def axis_twice(x):
    return np.sum(np.sum(x, axis=(0, 0)))


def spectral_norm(x):
    return np.linalg.norm(x, ord=2)


def nuclear_norm(x):
    return np.linalg.norm(x, ord="nuc")


def half_norm(x):
    return np.sum(np.linalg.norm(x, ord=0.5, axis=0))


def zero_norm(x):
    return np.sum(np.linalg.norm(x, ord=0, axis=0))


def weights_of_other_rank(x):
    return np.average(x, weights=x[0])


def weights_that_broadcast(x):
    return np.average(x, weights=x[:1])


def average_returned(x):
    return np.average(x, returned=True)[0]


def sum_of_list(x):
    return np.sum([x, x])


def running_product(x):
    return np.cumprod(x)[0]


@pytest.mark.parametrize(
    ("function", "kind", "words"),
    [
        (sum_dtype, UnsupportedError, "`dtype` of `np.sum`"),
        (cumsum_dtype, UnsupportedError, "`dtype`"),
        (max_initial, UnsupportedError, "`initial`"),
        (sum_where, UnsupportedError, "`where`"),
        (axis_too_large, ShapeError, "axis 2"),
        (axis_twice, ShapeError, "twice"),
        (spectral_norm, UnsupportedError, "matrix with ord=2"),
        (nuclear_norm, UnsupportedError, "matrix"),
        (half_norm, UnsupportedError, "ord=0.5"),
        (zero_norm, UnsupportedError, "ord=0"),
        (weights_of_other_rank, UnsupportedError, "weights"),
        (weights_that_broadcast, ShapeError, "weights"),
        (average_returned, UnsupportedError, "returned"),
        (sum_of_list, TypeInferenceError, "np.sum"),
        (running_product, UnsupportedError, "cumprod"),
    ],
)
def test_refused(function, kind, words):
    with pytest.raises(kind, match=re.escape(words)) as caught:
        grad(function)(np.ones((2, 3)))
    assert "test_reduce.py" in str(caught.value)
