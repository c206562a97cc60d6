"""Ints of few bits and unsigned ones wrap around in derivatives as in the function."""

import warnings

import numpy as np
import pytest

from flatgrad import grad, jvp, value_and_grad


def number_less(v, k):
    return np.sum(v) * (k - 2) + v[0] * -k


def number_doubled(v, k):
    return np.sum(v * (k + k)) + v[1] * (k * 3)


def array_less(v, k):
    return np.sum(v * (k - 2))


def array_in_a_nest(v, k):
    return np.sum(np.sin(v) * np.where(k > 100, k + 100, -k)) + np.sum(v * np.minimum(k + 60, 100))


def powers(v, k):
    return np.sum(v * k**2) + v[0] * k[1] ** 2 + np.sum(v * (k // 2)) + np.sum(v * (k % 3))


def negatives(v, k):
    total = 0.0
    for i in range(len(v)):
        total += v[i] * (k[i] + k[i]) * -k[i]
        total -= k[i] * 2
    return total + np.sum(v * -k) - np.sum(v[0] * -k)


def in_place(v, k):
    k = k.copy()
    k += 100
    k[0] -= 5
    k *= 2
    return np.sum(v * k)


def outer(v, k):
    return np.sum(np.exp(-v)[:, None] * (k + 100))


NUMBERS = [number_less, number_doubled]
ARRAYS = [array_less, array_in_a_nest, powers, negatives, in_place, outer]


def agrees(f, k, **options):
    """Value, gradient and slope: all functions here are sums of terms that `sloped` knows."""
    v = np.array([0.5, 1.5, 2.0, 3.0])
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        steps = 1e-5 * np.eye(4)
        wanted = [(f(v + step, k) - f(v - step, k)) / 2e-5 for step in steps]
        value, found = value_and_grad(f, "v", **options)(v, k)
        _, slope = jvp(f, (v, k), (np.ones(4), None), **options)
        alone = grad(f, "v", **options)(v, k)
        expected = f(v, k)
    assert value == pytest.approx(expected, rel=1e-12)
    scale = max(1.0, abs(expected))
    np.testing.assert_allclose(found, wanted, atol=1e-6 * scale)
    np.testing.assert_array_equal(alone, found)
    assert slope == pytest.approx(np.sum(found), rel=1e-12)


@pytest.mark.parametrize("f", NUMBERS)
@pytest.mark.parametrize("k", [np.uint8(200), np.uint8(1), np.int8(-100), np.uint16(40000)])
def test_numbers(f, k):
    agrees(f, k)


@pytest.mark.parametrize("f", ARRAYS)
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16"])
def test_arrays(f, dtype):
    agrees(f, np.array([1, 200, 255, 0]).astype(dtype))


@pytest.mark.parametrize("f, k", [
    (number_less, np.uint64(1)), (number_doubled, np.uint8(200)),
    (array_in_a_nest, np.array([1, 200, 255, 0], np.uint8)),
    (negatives, np.array([1, 200, 255, 0], np.uint8)),
])  # fmt: skip
def test_compiled(f, k):
    agrees(f, k, backend="numba")


@pytest.mark.parametrize("f", [array_less, powers, in_place])
def test_compiled_without_nests(f):
    k = np.array([1, 200, 255, 0], np.uint8)
    agrees(f, k, backend="numba", fuse=False)


@pytest.mark.parametrize("kind", [np.int32, np.uint8])
def test_counts(kind):
    def f(x, n):
        kept = np.zeros(n)
        for i in range(n):
            kept[i] = x[i] * n
        return np.sum(kept[: n - 1]) + x[n]

    found = grad(f, "x")(np.ones(4), kind(3))
    np.testing.assert_array_equal(found, [3.0, 3.0, 0.0, 1.0])
