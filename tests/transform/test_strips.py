"""Nests in strips: the same results for whole and broken strips, and which nests stay."""

from __future__ import annotations

import math

import numpy as np
import pytest

from flatgrad import value_and_grad
from tests.corpus_programs import nests
from tests.emitted import assert_same, plain_function
from tests.transform.random_nests import wherever_it_is_right

RNG = np.random.default_rng(31)
STRIP = "for lane in range(64)"
OVER_POINTS = "for start in range(0, x.shape[0], 64)"


def text_and_results(function, args, argnums, **options):
    """The text for Numba, what it returns as plain Python, and what NumPy finds."""
    expected = value_and_grad(function, argnums=argnums)(*args)
    derived = value_and_grad(function, argnums=argnums, backend="numba", **options)
    text = derived.source(*args)
    with np.errstate(all="ignore"):
        return text, plain_function(derived)(*args), expected


def clusters(x, m, scale):
    centered = np.empty(x.shape[1], x.dtype)
    total = 0.0
    for i in range(x.shape[0]):
        for c in range(m.shape[0]):
            for a in range(x.shape[1]):
                centered[a] = x[i, a] - m[c, a]
            square = 0.0
            for a in range(x.shape[1]):
                y = 0.0
                for b in range(a + 1):
                    y += scale[b] * centered[b]
                square += y * y
            total += np.exp(-square)
    return total


def capped(x, m, scale):
    """A branch inside, and a constant that all points share."""
    total = 0.0
    for i in range(x.shape[0]):
        for c in range(m.shape[0]):
            distance = 0.0
            offset = 0.0
            for a in range(x.shape[1]):
                distance += abs(x[i, a] - m[c, a])
                offset += scale[a]
            if distance > 1.0:
                distance = 2.0 * distance - 1.0
            total += distance * offset
    return total


def backwards(x, m, scale):
    """The points from the last to the first, an exchange of two variables, nested sums."""
    total = 0.0
    for i in range(x.shape[0] - 1, -1, -1):
        one, other = 1.0, 0.5
        for c in range(m.shape[0]):
            for a in range(x.shape[1]):
                one, other = other + scale[a] * x[i, a], one * m[c, a]
        total += one * np.sin(other)
    return total


def labelled(x, m, scale):
    """Elements at places that the data give."""
    total = 0.0
    row = np.zeros(3)
    for i in range(x.shape[0]):
        for a in range(x.shape[1]):
            row[a] = m[int(x[i, a] * x[i, a]) % 3, a]
        for a in range(x.shape[1]):
            for b in range(x.shape[1]):
                total += row[a] * row[b] * scale[b] * x[i, a] * x[i, b]
    return total


def kept_from_the_last(x, m, scale):
    """An element that no trip but the first writes before it is read."""
    seen = np.zeros(m.shape[0])
    total = 0.0
    for i in range(x.shape[0]):
        for c in range(1, m.shape[0]):
            seen[c] = scale[0] * x[i, 0] - m[c, 0]
        for c in range(m.shape[0]):
            for a in range(x.shape[1]):
                total += seen[c] * scale[a]
        seen[0] = total
    return total


def recurrence(x, m, scale):
    """A number that goes from point to point."""
    h = 0.0
    for i in range(x.shape[0]):
        for c in range(m.shape[0]):
            for a in range(x.shape[1]):
                h = np.tanh(h * scale[a] + x[i, a] * m[c, a])
    return h


def sum_that_is_read(x, m, scale):
    total = 0.0
    for i in range(x.shape[0]):
        for c in range(m.shape[0]):
            for a in range(x.shape[1]):
                total += scale[a] * x[i, a] * np.cos(total) * m[c, a]
    return total


def read_afterwards(x, m, scale):
    """A buffer whose last contents are the result."""
    last = np.zeros(m.shape[0])
    for i in range(x.shape[0]):
        for c in range(m.shape[0]):
            square = 0.0
            for a in range(x.shape[1]):
                square += scale[a] * (x[i, a] - m[c, a]) ** 2
            last[c] = square
    return np.sum(last)


def fast_as_it_is(x, m, scale):
    """The columns of a row stand one behind the other."""
    total = 0.0
    for i in range(x.shape[0]):
        for a in range(x.shape[1]):
            total += np.exp(scale[a] * x[i, a] * m[0, a])
    return total


def arguments(n):
    return RNG.normal(size=(n, 3)), RNG.normal(size=(4, 3)), RNG.normal(size=3)


@pytest.mark.parametrize("n", [0, 2, 64, 65, 130])
@pytest.mark.parametrize("function", [clusters, backwards])
def test_strips_give_the_same(function, n):
    text, found, expected = text_and_results(function, arguments(n), ("m", "scale"))
    assert_same(found, expected, rtol=1e-10, atol=1e-11)
    assert STRIP in text
    assert OVER_POINTS in text
    assert "_tape = np.empty((x.shape[0]" not in text


@pytest.mark.parametrize("function", [capped, labelled, fast_as_it_is])
def test_strips_that_do_not_pay(function):
    with wherever_it_is_right():
        text, found, expected = text_and_results(function, arguments(70), ("m", "scale"))
    assert_same(found, expected, rtol=1e-10, atol=1e-11)
    assert STRIP in text


STAYING = [capped, labelled, kept_from_the_last, recurrence, sum_that_is_read, read_afterwards, fast_as_it_is]


@pytest.mark.parametrize("function", STAYING)
def test_nests_that_stay(function):
    text, found, expected = text_and_results(function, arguments(5), ("m", "scale"))
    assert_same(found, expected, rtol=1e-10, atol=1e-11)
    assert OVER_POINTS not in text
    if function is not kept_from_the_last:  # its adjoints take the elements of a point in strips
        assert STRIP not in text


def test_corpus_in_strips():
    x = RNG.normal(size=(70, 2))
    args = RNG.normal(size=3), RNG.normal(size=(3, 2)), RNG.normal(size=(3, 3)), x
    text, found, expected = text_and_results(nests.mixture, args, (0, 1, 2))
    assert_same(found, expected, rtol=1e-10, atol=1e-11)
    assert STRIP in text


@pytest.mark.parametrize("function", [nests.nearest_centers, nests.kernel_density])
def test_elements_of_each_trip_in_strips(function):
    args = (RNG.normal(size=(70, 2)), RNG.normal(size=(4, 2)), 0.7)
    args = args[: function.__code__.co_argcount]
    with wherever_it_is_right():
        text, found, expected = text_and_results(function, args, (0, 1))
    assert_same(found, expected, rtol=1e-10, atol=1e-11)
    assert "grad_x[i, j] += grad_x_strip[j, lane]" in text


@pytest.mark.parametrize("options", [{"fuse": False}, {"deterministic": True}, {"parallel": True}])
def test_options_that_keep_nests(options):
    text, _, _ = text_and_results(clusters, arguments(3), ("m", "scale"), **options)
    assert STRIP not in text


def test_a_nan_after_the_last_point_does_not_count():
    def logs(x, m):
        total = 0.0
        for i in range(x.shape[0]):
            for c in range(m.shape[0]):
                s = 1.0
                for a in range(x.shape[1]):
                    s = s * x[i, a] * m[c, a]
                total += math.sqrt(s)
        return total

    x, m = np.ones((3, 2)), np.ones((2, 2))
    x[2, 0] = np.inf
    with np.errstate(all="ignore"):
        text, found, expected = text_and_results(logs, (x, m), ("m",))
    assert STRIP in text
    assert found[0] == np.inf
    assert_same(found, expected)


def test_an_index_that_is_wrong_raises():
    def beyond(x, m):
        total = 0.0
        for i in range(x.shape[0]):
            for c in range(m.shape[0]):
                for a in range(x.shape[1]):
                    total += x[i, a] * m[c, a + 1]
        return total

    x, m = np.ones((3, 2)), np.ones((2, 2))
    derived = value_and_grad(beyond, argnums=("m",), backend="numba")
    derived.source(x, m)
    with pytest.raises(IndexError):
        plain_function(derived)(x, m)
