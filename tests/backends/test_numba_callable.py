"""Derived functions called from the user's own `@njit` code."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap

import numba
import numpy as np
import pytest

from flatgrad import grad, value_and_grad

compiled = numba.njit(error_model="numpy")


def loss(w, b, X, y):
    s = X @ w + b
    return np.mean((s - y) ** 2)


@value_and_grad(argnums=("w", "b"), backend="numba")
def fit(w, b, X, y):
    s = X @ w + b
    return np.mean((s - y) ** 2)


@compiled
def train(w, b, X, y, steps):
    value = 0.0
    for _ in range(steps):
        value, (grad_w, grad_b) = fit(w, b, X, y)
        w = w - 0.1 * grad_w
        b = b - 0.1 * grad_b
    return value, w, b


def data(dtype="float64"):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(50, 3)).astype(dtype)
    return X, (X @ np.array([1.0, -2.0, 0.5]) + 0.7).astype(dtype)


def test_training_loop_never_called_from_python():
    X, y = data()
    value, w, b = train(np.zeros(3), 0.0, X, y, 200)
    assert value < 1e-10
    np.testing.assert_allclose(w, [1.0, -2.0, 0.5], atol=1e-5)
    np.testing.assert_allclose(b, 0.7, atol=1e-5)
    step = value_and_grad(loss, argnums=("w", "b"))
    w, b = np.zeros(3), 0.0
    for _ in range(200):
        _, (grad_w, grad_b) = step(w, b, X, y)
        w, b = w - 0.1 * grad_w, b - 0.1 * grad_b
    np.testing.assert_allclose(train(np.zeros(3), 0.0, X, y, 200)[1], w, rtol=1e-9)


def test_several_dtypes_in_one_process():
    @compiled
    def gradient(w, b, X, y):
        return fit(w, b, X, y)

    for dtype in ("float64", "float32"):
        X, y = data(dtype)
        number = np.dtype(dtype).type(0.5)
        value, (grad_w, grad_b) = gradient(np.zeros(3, dtype), number, X, y)
        expected, wanted = value_and_grad(loss, argnums=("w", "b"))(
            np.zeros(3, dtype), number, X, y
        )
        assert grad_w.dtype == dtype
        tolerance = 1e-5 if dtype == "float32" else 1e-12
        np.testing.assert_allclose(value, expected, rtol=tolerance)
        np.testing.assert_allclose(grad_w, wanted[0], rtol=tolerance, atol=tolerance)
        np.testing.assert_allclose(grad_b, wanted[1], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("number", [2.0, 2, np.float32(2), np.float64(2), np.int64(2)])
def test_numbers_of_every_kind(number):
    @grad(backend="numba")
    def cube(x):
        return x * x * x

    @compiled
    def twice(x):
        return 2 * cube(x)

    assert twice(number) == 24.0


def test_gradient_of_float32_number_is_float32():
    @grad(backend="numba")
    def same(x, y):
        return x + y

    @compiled
    def kinds(x, y):
        one, other = same(x, y)
        return np.array([one]), np.array([other])

    one, other = kinds(np.float32(1), 2.0)
    assert (one.dtype, other.dtype) == (np.float32, np.float64)


def test_literals_share_one_specialisation():
    @grad(backend="numba")
    def g(x, y):
        return x * y * y

    @compiled
    def caller():
        return g(1, 2)[0] + g(3, 4)[0] + g(5.0, 6.0)[0] + g(7, 8)[1]

    assert caller() == 4 + 16 + 36 + 2 * 7 * 8
    assert len(g.__flatgrad__.specialisations) == 1


def test_keywords_and_defaults():
    @grad(argnums=("x", "b"), backend="numba")
    def g(x, a=3.0, b=5.0):
        return a * x + b * b * x

    @compiled
    def caller(x):
        return g(x), g(x, b=1.0), g(x, a=1.0), g(b=2.0, x=x), g(x, 1.0, b=1.0)

    expected = [((a + b * b), 2 * b * 2.0) for a, b in [(3, 5), (3, 1), (1, 5), (3, 2), (1, 1)]]
    assert list(caller(2.0)) == expected


def test_keyword_only_and_positional_only():
    @grad(argnums="x", backend="numba")
    def g(x, /, y, *, scale=2.0):
        return x * x * y * scale

    @compiled
    def caller(x):
        return g(x, 3.0), g(x, y=1.0, scale=1.0)

    assert caller(1.0) == (12.0, 2.0)


def test_prange():
    @grad(argnums="w", backend="numba")
    def g(w, x):
        return np.tanh(w * x)

    @numba.njit(parallel=True)
    def each(w, x):
        out = np.empty_like(w)
        for i in numba.prange(len(w)):
            out[i] = g(w[i], x)
        return out

    w = np.random.default_rng(1).normal(size=20)
    np.testing.assert_allclose(each(w, 0.7), 0.7 * (1 - np.tanh(w * 0.7) ** 2), rtol=1e-12)


def test_strided_arrays():
    @grad(argnums="w", backend="numba")
    def g(w, X):
        return np.sum(X * w * w)

    @compiled
    def caller(w, X):
        return g(w[::2], X[:, ::2]), g(w[::-1], X)

    w, X = np.arange(6.0), np.arange(24.0).reshape(4, 6)
    one, other = caller(w, X)
    np.testing.assert_allclose(one, 2 * X[:, ::2].sum(axis=0) * w[::2])
    np.testing.assert_allclose(other, 2 * X.sum(axis=0) * w[::-1])


def test_called_from_python_and_from_compiled_code():
    @grad(backend="numba")
    def g(x):
        return np.sum(x**3)

    caller = compiled(lambda x: g(x))
    x = np.array([1.0, 2.0])
    np.testing.assert_array_equal(caller(x), g(x))
    np.testing.assert_array_equal(g(np.array([[2.0]])), [[12.0]])
    np.testing.assert_array_equal(caller(np.array([3.0, 4.0])), [27.0, 48.0])


def test_scalar_array():
    @grad(backend="numba")
    def g(x, y):
        return np.sum(x * y)

    one, other = compiled(lambda x, y: g(x, y))(np.array(3.0), np.array([1.0, 2.0]))
    assert one == 3.0
    np.testing.assert_array_equal(other, [3.0, 3.0])


# --- what compiled code checks when it runs


def test_axis_of_length_one_is_refused():
    X, y = data()
    with pytest.raises(ValueError, match=r"`X` has an axis of length 1.*call it from Python"):
        train(np.zeros(3), 0.0, X[:1], y[:1], 1)
    with pytest.raises(ValueError, match="`w` has an axis of length 1"):
        train(np.zeros(1), 0.0, X[:, :1], y, 1)


def test_lengths_that_disagree_are_refused():
    X, y = data()
    with pytest.raises(ValueError, match=r"`X` has .* columns, `w` has .* elements.*py:\d+"):
        train(np.zeros(4), 0.0, X, y, 1)
    with pytest.raises(ValueError, match="`y`"):
        train(np.zeros(3), 0.0, X, y[:-1], 1)


def test_lengths_of_slices_are_checked():
    @grad(argnums="x", backend="numba")
    def g(x, y):
        return np.sum(x[1:] * y)

    caller = compiled(lambda x, y: g(x, y))
    np.testing.assert_array_equal(caller(np.ones(4), np.arange(3.0)), [0, 0, 1, 2])
    for wrong in (2, 4, 5):
        with pytest.raises(ValueError, match="`y`"):
            caller(np.ones(4), np.ones(wrong))


def test_index_out_of_range_is_refused():
    @grad(argnums="x", backend="numba")
    def g(x, i):
        return x[i] ** 2

    caller = compiled(lambda x, i: g(x, i))
    np.testing.assert_array_equal(caller(np.arange(3.0), 2), [0, 0, 4])
    np.testing.assert_array_equal(caller(np.arange(3.0), -1), [0, 0, 4])
    for wrong in (3, -4):
        with pytest.raises(IndexError):
            caller(np.arange(3.0), wrong)


def test_shared_memory_is_refused_where_one_is_written():
    @grad(argnums="y", backend="numba")
    def g(x, y):
        x[0] = 5.0
        return np.sum(x * y)

    caller = compiled(lambda x, y: g(x, y))
    x, y = np.ones(3), np.arange(3.0)
    np.testing.assert_array_equal(caller(x, y), [5, 1, 1])
    np.testing.assert_array_equal(x, np.ones(3))
    for one, other in [(x, x), (x[:2], x[1:]), (x[::-1], x)]:
        with pytest.raises(ValueError, match="shares memory"):
            caller(one, other)
    np.testing.assert_array_equal(caller(x, x.copy()), [5, 1, 1])


# --- what is known when compiling


def test_literal_string_bool_and_none():
    @grad(argnums="x", backend="numba")
    def g(x, kind, squared=False, bias=None):
        y = np.tanh(x) if kind == "tanh" else np.sin(x)
        if bias is not None:
            y = y + bias
        if squared:
            y = y * y
        return y

    @compiled
    def caller(x):
        return (
            g(x, "tanh"),
            g(x, "sin"),
            g(x, "sin", True),
            g(x, "sin", True, 1.0),
            g(x, "tanh", False, None),
        )

    t, s, c = np.tanh(0.3), np.sin(0.3), np.cos(0.3)
    expected = [1 - t * t, c, 2 * s * c, 2 * (s + 1) * c, 1 - t * t]
    np.testing.assert_allclose(caller(0.3), expected, rtol=1e-14)


def refused(caller, *args):
    with pytest.raises(numba.TypingError) as caught:
        caller(*args)
    return str(caught.value)


def test_static_values_that_are_not_literals_are_refused():
    @grad(argnums="x", backend="numba")
    def g(x, flag):
        return x * x if flag else x

    assert "`flag`" in refused(compiled(lambda x, flag: g(x, flag)), 1.0, True)

    @grad(argnums="x", backend="numba")
    def h(x, kind):
        return np.sin(x) if kind == "sin" else x

    assert "`kind`" in refused(compiled(lambda x, kind: h(x, kind)), 1.0, "sin")


def test_int_that_must_be_known():
    """An axis: a literal is right, a value of run time is refused and never guessed."""

    @grad(argnums="x", backend="numba")
    def g(x, axis):
        total = np.sum(x, axis=axis)
        return total[0] * 2.0

    x = np.ones((2, 3))
    first, last = compiled(lambda x: (g(x, 0), g(x, -1)))(x)
    np.testing.assert_array_equal(first, [[2, 0, 0], [2, 0, 0]])
    np.testing.assert_array_equal(last, [[2, 2, 2], [0, 0, 0]])
    message = refused(compiled(lambda x, axis: g(x, axis)), x, 0)
    assert "the value of `axis` must be known while compiling" in message


def test_int_that_must_be_known_and_is_not_one():
    """The value that stands for an int while compiling, 1, would be out of range here."""

    @grad(argnums="x", backend="numba")
    def g(x, axis):
        return np.max(x, axis=axis)

    np.testing.assert_array_equal(compiled(lambda x: g(x, 0))(np.array([1.0, 2.0])), [0, 1])
    fresh = grad(g.primal, argnums="x", backend="numba")
    assert "`axis`" in refused(compiled(lambda x, k: fresh(x, k)), np.array([1.0, 2.0]), 0)


def test_types_that_have_no_derivative_are_refused():
    @grad(backend="numba")
    def g(x):
        return np.sum(x * x)

    caller = compiled(lambda x: g(x))
    assert "complex128" in refused(caller, np.ones(2, complex))
    assert "`x`" in refused(caller, 1j)
    assert "argument" in refused(compiled(lambda x: g(x, x)), 1.0)


SCALE = np.array([1.0, 2.0])
RATE = 0.5
POWER = 2


def scaled(x):
    return np.sum(SCALE * x)


def rated(x):
    return RATE * x


def powered(x):
    return x**POWER


def with_default(x, scale=SCALE):
    return np.sum(scale * x)


@pytest.mark.parametrize("function", [scaled, rated])
def test_captured_data_is_refused(function):
    """Numba would freeze the values; from Python they are read at every call."""
    derived = grad(function, backend="numba")
    name = "SCALE" if function is scaled else "RATE"
    message = refused(compiled(lambda x: derived(x)), np.ones(2) if function is scaled else 1.0)
    assert f"`{name}` is read from outside the function" in message
    assert f"pass `{name}` as an argument" in message


def test_array_as_default_is_refused():
    derived = grad(with_default, argnums="x", backend="numba")
    assert "`scale` is an array by default" in refused(compiled(lambda x: derived(x)), np.ones(2))
    caller = compiled(lambda x, scale: derived(x, scale))
    np.testing.assert_array_equal(caller(np.ones(2), SCALE), SCALE)


def test_changed_global(monkeypatch):
    """A caller that is compiled after the change sees it; one compiled before keeps what it has,
    as with every global that Numba reads."""
    derived = grad(powered, backend="numba")
    before = compiled(lambda x: derived(x))
    assert before(3.0) == 6.0
    monkeypatch.setattr(sys.modules[__name__], "POWER", 3)
    assert compiled(lambda x: derived(x))(3.0) == 27.0
    assert derived(3.0) == 27.0
    assert before(3.0) == 6.0


PROGRAM = """
import sys, warnings
import numba, numpy as np
from flatgrad import grad
import model

g = grad(model.f, backend="numba")

@numba.njit(cache=True)
def outer(x):
    return g(x)

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(outer(3.0))
print([str(w.message) for w in caught if "cannot cache" in str(w.message).lower()])
print(sum(outer.stats.cache_hits.values()))
"""


def test_cached_caller_is_not_stale(tmp_path):
    """`cache=True` on a caller: Numba says that it cannot, and a changed derivative is seen."""
    (tmp_path / "program.py").write_text(textwrap.dedent(PROGRAM))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([os.getcwd(), str(tmp_path)])}
    for text, expected in (("x * x", "6.0"), ("x * x", "6.0"), ("x * x * x", "27.0")):
        (tmp_path / "model.py").write_text(f"def f(x):\n    return {text}\n")
        done = subprocess.run(
            [sys.executable, "-B", "program.py"], cwd=tmp_path, env=environment,
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        value, warned, hits = done.stdout.splitlines()
        assert value == expected
        assert "dynamic globals" in warned
        assert hits == "0"


def test_value_and_aux():
    @value_and_grad(has_aux=True, backend="numba")
    def g(x):
        y = x * x
        return np.sum(y), y

    @compiled
    def caller(x):
        (value, y), gradient = g(x)
        return value, y, gradient

    value, y, gradient = caller(np.array([1.0, 3.0]))
    assert value == 10.0
    np.testing.assert_array_equal(y, [1, 9])
    np.testing.assert_array_equal(gradient, [2, 6])
