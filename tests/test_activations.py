"""The activations against mpmath, at the edges, in every type; their Numba text against them."""

import ast
import math
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import mpmath
import numpy as np
import pytest

from flatgrad import activations
from flatgrad.activations import (
    ALONG_AXIS,
    ELEMENTWISE,
    REQUIRES,
    elu,
    gelu,
    leaky_relu,
    log_softmax,
    logsumexp,
    relu,
    sigmoid,
    silu,
    softmax,
    softplus,
)
from flatgrad.activations_numba import SCALAR, numba_name, numba_sources
from flatgrad.codegen.numpy_dialect import plain_function

ALL = (*ELEMENTWISE, *ALONG_AXIS)
EPS = np.finfo(np.float64).eps

EXACT = {
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "relu": lambda x: max(x, mpmath.mpf(0)),
    "leaky_relu": lambda x: x if x > 0 else mpmath.mpf(0.01) * x,
    "elu": lambda x: x if x > 0 else mpmath.expm1(x),
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
    "gelu": lambda x: x * mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
    "silu": lambda x: x / (1 + mpmath.exp(-x)),
    "normal_cdf": lambda x: mpmath.erfc(-x / mpmath.sqrt(2)) / 2,
}

BY_ERFC = ("gelu", "normal_cdf")

# Value at -inf and at inf.
LIMITS = {
    "sigmoid": (0, 1),
    "relu": (0, np.inf),
    "leaky_relu": (-np.inf, np.inf),
    "elu": (-1, np.inf),
    "softplus": (0, np.inf),
    "gelu": (0, np.inf),
    "silu": (0, np.inf),
    "normal_cdf": (0, 1),
}


def sweep():
    tiny = np.logspace(-300, 0, 61)
    wide = np.linspace(-1000, 1000, 401)
    near = np.linspace(-40, 40, 201)
    return np.concatenate([-tiny, tiny, wide, near, [0.0, 1e5, -1e5, 1e300, -1e300]])


@pytest.fixture(autouse=True)
def strict():
    """Every test runs with floating-point errors raised, except for results too small."""
    with np.errstate(all="raise", under="ignore"):
        yield


# Elementwise


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_values_have_full_relative_precision(name):
    x = sweep()
    got = getattr(activations, name)(x)
    with mpmath.workdps(60):
        clipped = [max(mpmath.mpf(v), mpmath.mpf(-1e5)) for v in x]
        exact = [EXACT[name](v if name == "leaky_relu" else c) for v, c in zip(x, clipped)]
        exact = np.array([float(v) for v in exact])
    # erfc(t) turns the rounding of t into a relative error of t**2 roundings.
    rounding = 4 * EPS * (1 + (np.minimum(np.abs(x), 40) ** 2 if name in BY_ERFC else 0))
    assert np.all(np.abs(got - exact) <= rounding * np.abs(exact) + 1e-307)


def test_sigmoid_keeps_tiny_values():
    assert sigmoid(-700.0) == pytest.approx(math.exp(-700), rel=1e-15, abs=0)
    assert sigmoid(1.0) == pytest.approx(0.7310585786300049, rel=1e-15)


def test_gelu_is_the_exact_form():
    assert gelu(1.0) == pytest.approx(0.8413447460685429, rel=1e-15)  # Phi(1)


@pytest.mark.parametrize("name", ELEMENTWISE)
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8"])
def test_limits_and_nan(name, dtype):
    y = getattr(activations, name)(np.array([-np.inf, np.inf, np.nan], dtype))
    np.testing.assert_array_equal(y, np.array([*LIMITS[name], np.nan], dtype))
    assert getattr(activations, name)(np.inf) == LIMITS[name][1]
    assert np.isnan(getattr(activations, name)(np.nan))


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_float32_is_close_to_float64(name):
    x = np.linspace(-1000, 1000, 4001).astype("f4")
    wide = getattr(activations, name)(x.astype("f8"))
    rounding = 1e-6 * (1 + (np.minimum(np.abs(x), 15) ** 2 if name in BY_ERFC else 0))
    assert np.all(np.abs(getattr(activations, name)(x) - wide) <= rounding * np.abs(wide) + 1e-37)


def test_parameters():
    x = np.array([[-2.0, 3.0], [-4.0, 5.0]])
    np.testing.assert_array_equal(leaky_relu(x, 0.5), [[-1, 3], [-2, 5]])
    np.testing.assert_array_equal(leaky_relu(x, np.array([0.5, 0.1])), [[-1, 3], [-2, 5]])
    np.testing.assert_array_equal(elu(np.array([-1000.0, 2.0]), alpha=3.0), [-3, 2])
    assert leaky_relu(np.float32(-2), 0.5).dtype == np.float32
    assert elu(np.float32(-2), 2.0).dtype == np.float32


# Along axes


@pytest.mark.parametrize("scale", [1e-3, 1, 30, 1000])
def test_along_axis_values(scale):
    x = scale * np.random.default_rng(0).uniform(-1, 1, (4, 7))
    with mpmath.workdps(60):
        e = [[mpmath.exp(v) for v in row] for row in x]
        p = np.array([[float(v / mpmath.fsum(row)) for v in row] for row in e])
        log_p = np.array([[float(mpmath.log(v / mpmath.fsum(row))) for v in row] for row in e])
        total = np.array([float(mpmath.log(mpmath.fsum(row))) for row in e])
    rounding = 20 * EPS * max(scale, 1)
    np.testing.assert_allclose(softmax(x), p, rtol=rounding, atol=1e-307)
    np.testing.assert_allclose(log_softmax(x), log_p, rtol=rounding, atol=rounding)
    np.testing.assert_allclose(logsumexp(x, axis=-1), total, rtol=rounding, atol=rounding)


@pytest.mark.parametrize("axis", [0, 1, 2, -1, -3, (0, 2), (-1, 1), None])
def test_axes(axis):
    x = np.random.default_rng(1).normal(size=(2, 3, 4))
    e = np.exp(x)
    total = e.sum(axis=axis, keepdims=True)
    np.testing.assert_allclose(softmax(x, axis), e / total, rtol=1e-13)
    np.testing.assert_allclose(log_softmax(x, axis), np.log(e / total), rtol=1e-13)
    for keepdims in False, True:
        expected = np.log(e.sum(axis=axis, keepdims=keepdims))
        got = logsumexp(x, axis, keepdims)
        np.testing.assert_allclose(got, expected, rtol=1e-13)
        assert np.shape(got) == np.shape(expected)


def test_along_axis_at_the_edges():
    inf = np.inf
    x = np.array([[1000.0, -1000], [inf, 1000], [1000, -inf], [-inf, -inf], [inf, inf]])
    np.testing.assert_array_equal(softmax(x), [[1, 0], [1, 0], [1, 0], [0.5, 0.5], [0.5, 0.5]])
    log_half = math.log(0.5)
    expected = [[0, -2000], [0, -inf], [0, -inf], [log_half] * 2, [log_half] * 2]
    np.testing.assert_array_equal(log_softmax(x), expected)
    np.testing.assert_array_equal(logsumexp(x, 1), [1000, inf, 1000, -inf, inf])


def test_nan_stays_in_its_row():
    x = np.array([[np.nan, 1.0, np.inf], [0.0, 0.0, -np.inf], [1.0, np.nan, 2.0]])
    for f in softmax, log_softmax:
        np.testing.assert_array_equal(np.isnan(f(x)), [[True] * 3, [False] * 3, [True] * 3])
    np.testing.assert_array_equal(np.isnan(logsumexp(x, axis=1)), [True, False, True])


# Types, shapes, self-containment


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (2, 3), (2, 1, 3), (2, 2, 1, 2), (0, 3)])
@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "u1", "i8", "?"])
def test_dtype_and_shape(name, shape, dtype):
    f = getattr(activations, name)
    if shape == (0, 3) and name == "logsumexp":
        pytest.skip("no entry to be the largest")
    x = np.arange(math.prod(shape)).reshape(shape).astype(dtype)
    before = x.copy()
    y = f(x)
    assert y.dtype == (dtype if dtype[0] == "f" else "f8")
    assert y.shape == (() if name == "logsumexp" else shape)
    assert isinstance(y, np.ndarray) == (y.shape != ())  # a scalar, never a 0-d array
    np.testing.assert_array_equal(x, before)
    assert not np.shares_memory(x, y)
    np.testing.assert_allclose(y.astype("f8"), f(before.astype("f8")), rtol=4e-3)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("x", [2, 2.0, True, np.float64(2), np.int8(-128), np.uint8(2)])
def test_scalars_give_floats(name, x):
    y = getattr(activations, name)(x)
    assert isinstance(y, float)  # np.float64 is one
    assert y == getattr(activations, name)(float(x))
    assert type(getattr(activations, name)(np.float32(x))) is np.float32


@pytest.mark.parametrize("name", ALL)
def test_source_stands_alone(name):
    namespace = {"np": np, "math": math}
    for function in (*REQUIRES.get(name, ()), name):
        exec(ast.unparse(plain_function(getattr(activations, function))), namespace)
    x = np.linspace(-3, 3, 6).reshape(2, 3)
    np.testing.assert_array_equal(namespace[name](x), getattr(activations, name)(x))


# The text for Numba


def run_sources(name, rank, axis=None, keepdims=False, decorate=lambda f: f):
    namespace = {"np": np, "math": math}
    for function, text in numba_sources(name, rank, axis, keepdims).items():
        exec(text, namespace)
        namespace[function] = decorate(namespace[function])
    return namespace[numba_name(name, rank, axis, keepdims)]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_scalar_text_in_plain_python(name):
    f, reference = SCALAR[name], getattr(activations, name)
    for v in [*map(float, sweep()), math.inf, -math.inf, math.nan]:
        np.testing.assert_allclose(f(v), reference(v), rtol=1e-13, atol=1e-307)
    assert isinstance(f(2.0), float)
    assert type(f(np.float32(-2))) is np.float32


EDGES = np.array([[1e3, -1e3, 0], [np.inf, 5, -np.inf], [-np.inf] * 3, [np.nan, 1, 2], [1, 2, 3]])


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("rank", [1, 2, 3, 4])
def test_array_text_in_plain_python(name, rank):
    f = getattr(activations, name)
    x = np.random.default_rng(2).normal(size=(2, 3, 4, 2)[:rank])
    if name in ELEMENTWISE:
        np.testing.assert_allclose(run_sources(name, rank)(x), f(x), rtol=1e-14)
        return
    axes = [c for n in range(1, rank + 1) for c in combinations(range(rank), n)]
    for axis in [*axes, None, -1, -rank]:
        for keepdims in [False, True] if name == "logsumexp" else [False]:
            got = run_sources(name, rank, axis, keepdims)(x)
            expected = f(x, axis, keepdims) if name == "logsumexp" else f(x, axis)
            np.testing.assert_allclose(got, expected, rtol=1e-13, atol=1e-14)
            assert np.shape(got) == np.shape(expected)


def test_axis_is_checked():
    for axis in 2, -3, (0, 2), (1, -1):
        with pytest.raises(ValueError, match="axis"):
            numba_sources("softmax", 2, axis)
    with pytest.raises(ValueError, match="rank 7"):
        numba_sources("sigmoid", 7)


@pytest.mark.parametrize(("index", "name"), list(enumerate(ALL)))
def test_text_compiles(index, name):
    numba = pytest.importorskip("numba")
    f = getattr(activations, name)
    dtypes = [np.float32, np.float64]
    scalar = run_sources(name, 0, decorate=numba.njit)
    for dtype in dtypes:
        for v in -3.0, 0.5, -1000.0, 1000.0, np.inf:
            np.testing.assert_allclose(scalar(dtype(v)), f(dtype(v)), rtol=1e-5, atol=1e-37)
    returned = {s.args[0]: s.return_type for s in scalar.nopython_signatures}
    assert returned == {numba.float32: numba.float32, numba.float64: numba.float64}

    rank = 1 + index % 3
    dtype = dtypes[index % 2]
    array = run_sources(name, rank, -1, decorate=numba.njit)
    x = EDGES.astype(dtype).reshape((15, *(1,) * (rank - 1)) if rank != 2 else (5, 3))
    x = x if rank != 3 else x.reshape(5, 1, 3)
    expected = f(x, axis=-1) if name in ALONG_AXIS else f(x)
    got = array(x)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-37)
    if np.ndim(got):
        assert got.dtype == expected.dtype


def test_from_user_njit_code():
    numba = pytest.importorskip("numba")
    import flatgrad.backends.numba_activations as registered

    def everything(x, axis_free):
        h = silu(gelu(softplus(elu(leaky_relu(relu(x) - 1, slope=0.1), 2.0))))
        p = softmax(h, axis=0) + log_softmax(h)
        return sigmoid(axis_free), p, logsumexp(h), logsumexp(p, axis=(-1,), keepdims=True)

    registered.register()
    compiled = numba.njit(everything)
    x = np.random.default_rng(3).normal(size=(3, 4)).astype("f4")
    for got, expected in zip(compiled(x, 3), everything(x, 3)):
        np.testing.assert_allclose(got, expected, rtol=1e-5)
        assert np.shape(got) == np.shape(expected)
        assert np.ndim(got) == 0 or got.dtype == expected.dtype

    @numba.njit
    def axis_not_known(x, axis):
        return softmax(x, axis)

    with pytest.raises(numba.TypingError, match="`axis` must be a literal"):
        axis_not_known(x, 0)


def test_import_does_not_load_numba():
    code = "import flatgrad.activations_numba, sys; assert 'numba' not in sys.modules"
    root = Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
