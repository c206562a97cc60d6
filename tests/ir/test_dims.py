"""Symbolic lengths: a normal form, arithmetic, and when a length can be 1."""

from __future__ import annotations

import itertools

import pytest

from flatgrad.ir.dims import Dim, may_be_one, product

N, M = Dim.atom("N"), Dim.atom("M")


def test_equal_polynomials_are_equal_objects():
    assert N + M == M + N
    assert (N + 1) * 2 == 2 * N + 2
    assert N * M + N == N * (M + 1)
    assert N - N == 0
    assert N + 1 - N == 1
    assert hash(N + M) == hash(M + N)


def test_prints_readably():
    assert str(2 * N * M - N + 3) == "2*M*N - N + 3"
    assert str(3 - N) == "-N + 3"


@pytest.mark.parametrize(("n", "m"), [(n, m) for n in (0, 2, 5) for m in (0, 3)])
def test_value_is_the_polynomial(n, m):
    size = 2 * N * M - N + 3
    assert size.value({"N": n, "M": m}) == 2 * n * m - n + 3
    assert size.value({"N": n}) is None


@pytest.mark.parametrize(
    "size", [N, M, N + M, N * M, N + 2, 2 * N + 3 * M, 3, 0], ids=str
)
def test_lengths_that_are_never_one(size):
    """Atoms are 0 or at least 2: tried for all small values."""
    assert not may_be_one(size)
    for n, m in itertools.product([0, 2, 3, 4], repeat=2):
        assert (size if isinstance(size, int) else size.value({"N": n, "M": m})) != 1


@pytest.mark.parametrize("size", [1, N - 1, N + 1, M - N, Dim.atom("?1")], ids=str)
def test_lengths_that_may_be_one(size):
    assert may_be_one(size)


def test_product_of_a_shape():
    assert product(()) == 1
    assert product((N, 2, M)) == 2 * N * M
