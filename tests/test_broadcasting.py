"""Every form of broadcasting between ranks 0 to 4: gradients, their shapes and dtypes, refusals.

    a: float32 (1, 3),  b: float64 (2, 1)      grad_a is float32 (1, 3), summed over axis 0

The reference is plain NumPy in float64: the partial derivative of the operator times the cotangent,
summed over the axes along which the operand was repeated.
"""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import flatgrad
from flatgrad import grad, value_and_grad

LENGTHS = (3, 2, 4, 5)
"""The length of each axis, counted from the last."""


def add(a, b, c):
    return np.sum(c * (a + b))


def subtract(a, b, c):
    return np.sum(c * (a - b))


def multiply(a, b, c):
    return np.sum(c * (a * b))


def divide(a, b, c):
    return np.sum(c * (a / b))


def power(a, b, c):
    return np.sum(c * a**b)


def maximum(a, b, c):
    return np.sum(c * np.maximum(a, b))


def where(a, b, c):
    return np.sum(c * np.where(a > b, a * a, b))


def hypot(a, b, c):
    return np.sum(c * np.hypot(a, b))


def summed(a, b, c):
    """A cotangent that is the same everywhere: nothing but a number flows back."""
    return c * np.sum(a * b)


def averaged(a, b, c):
    """Shapes that only the forward sweep would know."""
    return np.mean((a - b) ** 2) * c


def larger(a, b):
    """How much of the cotangent of `maximum` its first operand gets: ties are shared."""
    return np.where(a == b, 0.5, a > b)


PARTIALS = {
    add: lambda a, b: (np.ones_like(a + b), np.ones_like(a + b)),
    subtract: lambda a, b: (np.ones_like(a + b), -np.ones_like(a + b)),
    multiply: lambda a, b: (b + 0 * a, a + 0 * b),
    divide: lambda a, b: (1 / b + 0 * a, -a / b**2),
    power: lambda a, b: (b * a ** (b - 1), np.log(a) * a**b),
    maximum: lambda a, b: (larger(a, b), 1 - larger(a, b)),
    where: lambda a, b: (np.where(a > b, 2 * a, 0), np.where(a > b, 0, 1.0)),
    hypot: lambda a, b: (a / np.hypot(a, b), b / np.hypot(a, b)),
    summed: lambda a, b: (b + 0 * a, a + 0 * b),
    averaged: lambda a, b: (2 * (a - b) / (a - b).size, -2 * (a - b) / (a - b).size),
}
"""The partial derivatives of each function's inner part; both have the shape of the result."""

NUMBERS = {"f": float, "32": np.float32, "0d": np.array}
DTYPES = (("float64", "float64"), ("float32", "float32"), ("float32", "float64"),
          ("float64", "float32"))  # fmt: skip


def patterns(rank: int) -> list[tuple[bool, ...]]:
    """All choices of axes of length 1."""
    return list(itertools.product((False, True), repeat=rank))


def shape(pattern: tuple[bool, ...]) -> tuple[int, ...]:
    return tuple(1 if one else LENGTHS[len(pattern) - 1 - axis] for axis, one in enumerate(pattern))


def pairs() -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Shapes for every pair of ranks in both orders; all patterns up to rank 3, some of rank 4."""
    rng = np.random.default_rng(0)
    found = []
    for left, right in itertools.product(range(5), repeat=2):
        both = list(itertools.product(patterns(left), patterns(right)))
        if max(left, right) == 4:
            both = [both[k] for k in rng.choice(len(both), size=min(8, len(both)), replace=False)]
        found += [(shape(a), shape(b)) for a, b in both]
    return found


def summed_to(g: np.ndarray, wanted: tuple[int, ...]) -> np.ndarray:
    """What broadcasting repeated is added up again."""
    g = g.sum(axis=tuple(range(g.ndim - len(wanted))))
    axes = tuple(axis for axis, size in enumerate(wanted) if size == 1)
    return np.sum(g, axis=axes, keepdims=True) if axes else g


def operand(rng: np.random.Generator, wanted: tuple[int, ...], dtype: str, kind: str):
    """An argument around 1, where no operator has a kink but `maximum`, `where`."""
    values = rng.uniform(0.5, 2.0, size=wanted).astype(dtype)
    if wanted:
        return values
    return float(values) if kind == "f" else values[()] if kind == "np" else values


TOLERANCES = {
    "float32": {"rtol": 2e-5, "atol": 2e-5},
    "float64": {"rtol": 1e-12, "atol": 1e-12},
}

DERIVED = {function: value_and_grad(function, argnums=("a", "b")) for function in PARTIALS}


def check(function, left, right, dtypes, kind, seed, derived=None):
    """Value and gradients of one function for one pair of shapes."""
    rng = np.random.default_rng(seed)
    a, b = (operand(rng, *one, kind) for one in zip((left, right), dtypes, strict=True))
    result = np.broadcast_shapes(left, right)
    plain = function in (summed, averaged)
    c = float(rng.normal()) if plain else rng.normal(size=result)
    if not result:
        c = float(c)
    value, found = (derived or DERIVED[function])(a, b, c)
    wide = [np.asarray(x, np.float64) for x in (a, b)]
    inner = np.asarray(a * b).dtype  # float64 unless both are float32, or one and a Python number
    if function in (power, where) and "float32" in dtypes:
        inner = np.dtype("float32")  # parts of these have float32 operands alone
    assert np.shape(value) == ()
    np.testing.assert_allclose(value, function(*wide, c), **TOLERANCES[inner.name])
    for given, one, partial in zip((a, b), found, PARTIALS[function](*wide), strict=True):
        assert type(one) is type(given)
        assert np.shape(one) == np.shape(given)
        dtype = np.asarray(given).dtype
        assert np.asarray(one).dtype == dtype
        tolerance = TOLERANCES[min(inner, dtype).name]
        np.testing.assert_allclose(one, summed_to(c * partial, np.shape(given)), **tolerance)


ALL = pairs()


@pytest.mark.parametrize("function", PARTIALS, ids=lambda f: f.__name__)
def test_every_pair_of_shapes(function):
    """Each function sees every third pair of shapes, with dtypes and number kinds taking turns."""
    first = list(PARTIALS).index(function)
    for k in range(first % 3, len(ALL), 3):
        dtypes = DTYPES[(k + first) % 4]
        kind = ("f", "np", "0d")[(k // 3 + first) % 3]
        check(function, *ALL[k], dtypes, kind, seed=k)


@pytest.mark.parametrize("function", PARTIALS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("kind", ["f", "np", "0d"])
@pytest.mark.parametrize("dtypes", DTYPES, ids="-".join)
def test_number_with_array(function, dtypes, kind):
    for other in ((), (3,), (1,), (2, 1), (1, 1, 1)):
        check(function, (), other, dtypes, kind, seed=1)
        check(function, other, (), dtypes, kind, seed=2)


def test_there_is_every_pair_of_ranks():
    assert {(len(a), len(b)) for a, b in ALL} == set(itertools.product(range(5), repeat=2))
    assert len({pair for pair in ALL if max(map(len, pair)) < 4}) == (1 + 2 + 4 + 8) ** 2


def test_empty_axes():
    """An axis of length 0 against one of length 1: there is nothing to add up."""
    found = grad(multiply, argnums=("a", "b"))(np.ones((1, 3)), np.ones((0, 3)), np.ones((0, 3)))
    np.testing.assert_array_equal(found[0], np.zeros((1, 3)))
    assert found[1].shape == (0, 3)


def test_one_operand_on_both_sides():
    x = np.array([[1.0], [2.0]])
    found = grad(lambda x: np.sum((x * x.T) ** 2))(x)
    np.testing.assert_allclose(found, 4 * x * np.sum(x**2))


# --- lengths that do not agree


def refused(function, *args, **options):
    """The refusal, which comes before anything runs."""
    with pytest.raises(flatgrad.ShapeError) as caught:
        grad(function, **options)(*args)
    assert isinstance(caught.value, ValueError)
    assert caught.value.code == "shape-mismatch"
    return caught.value


def line_of(function, text):
    """The number of the line of a function in this file that holds `text`."""
    start = function.__code__.co_firstlineno
    lines = open(__file__, encoding="utf-8").read().splitlines()
    return next(k for k, line in enumerate(lines[start - 1 :], start) if text in line)


def joined(weights, inputs):
    doubled = inputs * 2.0
    return np.sum(weights * doubled)


def layer(X, W, b):
    s = X @ W + b
    return np.sum(s * s)


def nested(X, W):
    return np.sum(np.tanh(X @ W))


def test_mismatch_names_variables_and_line():
    caught = refused(joined, np.ones((2, 3)), np.ones((2, 4)))
    message = str(caught)
    assert "`weights`" in message
    assert "`doubled`" in message
    assert "3" in message
    assert "4" in message
    assert caught.diagnostic.span.line == line_of(joined, "weights * doubled")
    assert f"{__file__}:{caught.diagnostic.span.line}:" in message


def test_matmul_mismatch_in_rows_and_columns():
    caught = refused(layer, np.ones((3, 5)), np.ones((4, 2)), np.ones(2))
    assert "`X` has 5 columns, `W` has 4 rows" in str(caught)
    assert caught.diagnostic.span.line == line_of(layer, "X @ W")
    assert "`X` has 5 columns, `W` has 4 rows" in str(
        refused(nested, np.ones((3, 5)), np.ones((4, 2)))
    )


def test_bias_mismatch():
    message = str(refused(layer, np.ones((3, 4)), np.ones((4, 2)), np.ones(3)))
    assert "`b`" in message
    assert "2" in message
    assert "3" in message


MISMATCHED = [((2,), (3,)), ((2, 3), (2,)), ((4, 1, 3), (2, 2)), ((2, 3, 4), (3, 1, 4))]


@pytest.mark.parametrize("left, right", [*MISMATCHED, *[(b, a) for a, b in MISMATCHED]])
def test_mismatch_in_every_function(left, right):
    for function in PARTIALS:
        message = str(refused(function, np.ones(left), np.ones(right), 1.0, argnums="a"))
        assert "`a`" in message
        assert "`b`" in message


def test_mismatch_after_calls_that_fit():
    """The specialisation is there already; the lengths are checked all the same."""
    derived = grad(layer)
    derived(np.ones((3, 4)), np.ones((4, 2)), np.ones(2))
    derived(np.ones((7, 5)), np.ones((5, 6)), np.ones(6))
    with pytest.raises(flatgrad.ShapeError, match="`X` has 5 columns, `W` has 6 rows"):
        derived(np.ones((7, 5)), np.ones((6, 2)), np.ones(2))


def test_length_one_is_no_mismatch_but_another_specialisation():
    """The same function for (2, 3) with (2, 3), then for (2, 3) with (2, 1)."""
    derived = grad(joined)
    for columns in (3, 1, 3, 1):
        g = derived(np.ones((2, 3)), np.full((2, columns), 2.0))
        assert g.inputs.shape == (2, columns)
        np.testing.assert_allclose(g.inputs, 2.0 * 3 / columns)


def test_nothing_runs_before_the_refusal():
    """The mismatch is in the last line; an index that is out of range comes before it."""

    def f(x, y, i):
        first = x[i]
        return np.sum(x * y) + first

    refused(f, np.ones(3), np.ones(4), 99, argnums="x")
