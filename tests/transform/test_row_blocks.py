"""Products with a matrix and with its transpose, for blocks of its rows: where, and the numbers."""

from __future__ import annotations

import random

import numpy as np
import pytest

from flatgrad import value_and_grad
from tests.emitted import assert_same, plain_function
from tests.fuzz_programs import load

RNG = np.random.default_rng(5)


def logistic(w, b, X, y):
    z = X @ w + b
    return np.mean(np.maximum(z, 0) - y * z + np.log1p(np.exp(-np.abs(z))))


def penalised(w, b, X, y):
    r = X @ w - b * y
    return 0.5 * np.sum(r * r) / len(y) + 0.1 * np.sum(w**2) + b**2


def robust(w, b, X, y):
    r = np.abs(y - X @ w - b)
    return np.sum(np.where(r < 1.0, 0.5 * r * r, r - 0.5)) + np.mean(r) * b


def steps(w, b, X, y):
    """The forward sweep has a tape with an element for each row, the backward sweep reads it."""
    for _ in range(3):
        w = w - 0.01 * (X.T @ (np.tanh(X @ w + b) - y)) / len(y)
    return np.sum(w * w)


def as_many_columns_as_rows(w, b, X, y):
    z = X @ w + w * b
    return np.sum(np.tanh(z) * y)


def product_of_a_product(w, b, X, y):
    return np.sum(np.tanh(X @ (X @ w)) * y) * b


def centered(w, b, X, y):
    """A row needs the mean over all rows."""
    z = X @ w
    return np.sum(np.tanh(z - np.mean(z) + b) * y)


def first_row_as_well(w, b, X, y):
    z = np.tanh(X @ w + b)
    return np.sum(z * y) + z[0]


def scaled_by_a_sum(w, b, X, y):
    """What an array from outside has follows from a sum over the rows."""
    z = X @ w
    scale = y * np.sum(z * z)
    return np.sum(np.tanh(z) * y) + np.sum(scale * scale) * b


IN_BLOCKS = [logistic, penalised, robust]
AS_THEY_ARE = [product_of_a_product, centered, first_row_as_well]
ALL = [*IN_BLOCKS, *AS_THEY_ARE, steps, as_many_columns_as_rows, scaled_by_a_sum]
SQUARE = (as_many_columns_as_rows, product_of_a_product)


def arguments(function, rows, columns, dtype="float64"):
    """X, and the others for it; it has as many columns as rows where it must."""
    columns = rows if function in SQUARE else columns
    X = RNG.normal(size=(rows, columns)) / np.sqrt(columns + 1.0)
    w, y = RNG.normal(size=columns), RNG.normal(size=rows)
    return tuple([np.asarray(one, dtype=dtype) for one in (w, 0.3, X, y)])


def derived_and_text(function, args):
    derived = value_and_grad(function, ("w", "b"), backend="numba")
    return derived, derived.source(*args)


@pytest.mark.parametrize("function", ALL)
def test_same_numbers(function):
    """600 rows of 800 numbers are three blocks."""
    derived, _ = derived_and_text(function, arguments(function, 4, 3))
    for rows, columns in ((600, 800), (5, 3), (257, 900), (0, 3)):
        if rows == 0 and function is not scaled_by_a_sum:
            continue  # most have no value there
        w, b, X, y = arguments(function, rows, columns)
        args = w, float(b), X, y
        derived.source(*args)
        expected = value_and_grad(function, ("w", "b"))(*args)
        assert_same(plain_function(derived)(*args), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("function", IN_BLOCKS)
def test_in_blocks(function):
    _, text = derived_and_text(function, arguments(function, 4, 3))
    assert "X_block.T @" in text
    assert "= X @" not in text
    assert "(X @" not in text


@pytest.mark.parametrize("function", AS_THEY_ARE)
def test_as_they_are(function):
    _, text = derived_and_text(function, arguments(function, 4, 3))
    assert "block" not in text


def test_a_sweep_in_blocks():
    derived, _ = derived_and_text(steps, arguments(steps, 4, 3))
    assert "X_block" not in derived.forward_source()
    assert "X_block.T @" in derived.backward_source()


def test_the_matrix_itself():
    """Its adjoint has the rows, so they are handed out."""
    args = arguments(logistic, 4, 3)
    text = value_and_grad(logistic, ("w", "X"), backend="numba").source(*args)
    assert "block" not in text


def test_order_of_sums():
    for options in ({"deterministic": True}, {"fuse": False}, {"parallel": True}):
        derived = value_and_grad(logistic, ("w", "b"), backend="numba", **options)
        assert "block" not in derived.source(*arguments(logistic, 4, 3))


def test_compiled():
    """Either order of memory, and single precision."""
    derived = value_and_grad(logistic, ("w", "b"), backend="numba")
    w, _, X, y = arguments(logistic, 700, 800)
    expected = value_and_grad(logistic, ("w", "b"))(w, 0.3, X, y)
    assert_same(derived(w, 0.3, X, y), expected, rtol=1e-9, atol=1e-12)
    assert_same(derived(w, 0.3, np.asfortranarray(X), y), expected, rtol=1e-9, atol=1e-12)
    single = [np.float32(one) for one in (w, 0.3, X, y)]
    value, (grad_w, _) = derived(*single)
    assert grad_w.dtype == np.float32
    assert_same((float(value), grad_w), (expected[0], expected[1][0]), rtol=1e-4, atol=1e-6)


FUNCTIONS = ("np.tanh({})", "np.exp(-{} * {})", "np.maximum({}, 0.1)", "{} * {}", "np.sin({}) * b")
TERMS = ("z", "u", "y", "b", "v", "0.5", "np.ones_like(y)", "np.zeros(len(y))", "np.mean(y)")


def program(seed):
    """The text of a function of rows, some of which need more than their own numbers."""
    choice = random.Random(seed)

    def value():
        a, c = choice.choice(TERMS), choice.choice(TERMS)
        term = f"({a} {choice.choice('+-*')} {c})"
        return choice.choice(FUNCTIONS).format(*[term] * 2)

    lines = ["v = y * 2.0", "z = X @ w", f"u = {choice.choice(['X @ w + b', 'z + y', 'y - b'])}"]
    for _ in range(choice.randint(1, 4)):
        lines.append(f"{choice.choice('zuv')} = {value()} + {choice.choice('zuv')}")
    sums = [f"np.{choice.choice(['sum', 'mean'])}({choice.choice('zuv')} * {value()})"]
    if choice.random() < 0.4:
        sums.append(choice.choice(["np.max(z)", "np.sum(w * w)", "u[1]", "np.sum(X.T @ v)"]))
    if choice.random() < 0.3:
        lines.append(f"z = z + {choice.choice(['np.mean(z)', 'X @ (w * w)', 'np.sum(w)'])}")
    body = "\n".join(f"    {line}" for line in [*lines, "return " + " + ".join(sums)])
    return f"import numpy as np\n\n\ndef f(w, b, X, y):\n{body}\n"


@pytest.mark.parametrize("seed", range(10))
def test_random_programs(seed, tmp_path):
    """40 programs when the pass was written: blocks in half of them."""
    function = load(program(seed), tmp_path / f"rows_{seed}.py")
    w, b, X, y = arguments(function, 520, 800)
    args = w, float(b), X, y
    derived, _ = derived_and_text(function, args)
    expected = value_and_grad(function, ("w", "b"))(*args)
    assert_same(plain_function(derived)(*args), expected, rtol=1e-8, atol=1e-8)
