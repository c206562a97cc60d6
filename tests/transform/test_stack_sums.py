"""Sums of products with stacks of tangents: in place, and right where that is not allowed."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import jacobian, jacrev
from flatgrad.ir.interpret import interpret

RNG = np.random.default_rng(5)
X = RNG.normal(size=(3, 4))
A, B = RNG.normal(size=(5, 3)), RNG.normal(size=(20, 3))
W = RNG.normal(size=(5, 6))
WIDE = RNG.normal(size=(7, 9))


def blended(x, A, W):
    """Parts of which each depends on a row of `x` alone."""
    total = np.zeros((5, 4))
    for k in range(x.shape[0]):
        part = np.zeros((3, 4))
        part[k] = np.sin(x[k])
        total += W[:, k, None] * (A @ part)
    return total


def scaled(x, A, W):
    total = np.tanh(A @ x)
    for k in range(3):
        total = total + 0.5 * (A @ np.exp(x)) * x[k, 0]
        total = total - A @ x
    return total @ x.T


def read_again(x, A, W):
    """What is added to is still needed."""
    first = A @ (x * x)
    second = first + A @ np.sin(x)
    return second * first


def into_itself(x, A, W):
    """What is added depends on what it is added to."""
    square = x @ x.T
    for _ in range(2):
        square = square + (A.T @ A) @ square
        square = square + A[:3] @ square.T
    return square


def chained(x, A, W):
    """Small products from both sides."""
    P = np.eye(3)
    for k in range(4):
        R = np.zeros((3, 3))
        R[0, 1], R[1, 0], R[2, 2] = x[0, k], np.cos(x[1, k]), x[2, k]
        P = P @ R
    return A @ P


def wide(x, A, W):
    """More elements than are multiplied by loops."""
    return (A @ x @ np.ones((4, 7))) @ (WIDE * x[0, 0]) + A @ (x @ np.ones((4, 7)) @ WIDE)


FUNCTIONS = [blended, scaled, read_again, into_itself, chained, wide]
COMPILED = [into_itself]  # Numba takes seconds for each; the helpers have tests of their own


@pytest.mark.parametrize(
    ("function", "backend"),
    [*[(one, "numpy") for one in FUNCTIONS], *[(one, "numba") for one in COMPILED]],
)
def test_as_rows_by_pullbacks(function, backend):
    made = jacobian(function, "x", backend=backend)
    expected = jacrev(function, "x")(X, A, W)
    before = X.copy(), A.copy(), W.copy()
    for _ in range(2):
        np.testing.assert_allclose(made(X, A, W), expected, rtol=1e-11, atol=1e-12)
    for now, then in zip((X, A, W), before, strict=True):
        np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("function", FUNCTIONS)
def test_interpreted(function):
    made = jacobian(function, "x")
    expected = made(X, A, W)
    sweep = next(c.cell_contents for c in made.__closure__ if hasattr(c.cell_contents, "sweep"))
    graph = sweep.sweep.__flatgrad__.last.compiled.graph
    hidden = [WIDE] if graph.hidden else []
    (found,) = interpret(graph, [X.copy(), A.copy(), W.copy(), *hidden])
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


def test_emitted():
    text = jacobian(blended, "x", backend="numba").source(X, A, W)
    assert "add_products_by_row(dot_total, A, dot_part, " in text
    text = jacobian(blended, "x").source(X, A, W)
    assert "dot_total += A @ dot_part * " in text


def batches(x, A, W):
    """A product of values with many matrices is no product of tangents."""
    many = (x[:, :, None] * np.ones((3, 4, 2))).transpose(2, 0, 1)
    return np.sum((A @ many) ** 2, axis=0)


def test_values_are_multiplied_as_ever():
    made = jacobian(batches, "x", backend="numba")
    assert "matmul_2d_3d(A, " in made.source(X, A, W)


def test_nan_is_not_zero():
    bad = X.copy()
    bad[1, 2] = np.nan
    found = jacobian(blended, "x")(bad, A, W)
    assert np.isnan(found[:, 2, 1, 2]).all()
    assert np.isfinite(found[:, :2]).all()
