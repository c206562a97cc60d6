"""Every function at the arguments of `compiled`: within 2 ulp, and IEEE's special values."""

import math

import numba
import numpy as np
import pytest
import scipy.special

from flatgrad.vector_math import (
    _KNOWN,
    DECORATOR,
    FUNCTIONS,
    LIMITS,
    LOOP_DECORATOR,
    TABLES,
    array_source,
    numba_name,
    numba_sources,
)
from tests.vector_math.compiled import BINARY, arguments, compiled, special
from tests.vector_math.references import by_long_double, domain, exact, left_errors, ulps


def log_gamma(x):
    """SciPy's, but for subnormals, of which it makes inf, and -inf, where C has inf."""
    tiny = (abs(x) < 1e-300) & (x != 0)
    return np.where(tiny, 1.0, scipy.special.gammaln(np.where(tiny | (x == -np.inf), abs(x), x)))


NUMPY = {
    "sigmoid": lambda x: np.where(x >= 0, 1.0, np.exp(np.minimum(x, 0))) / (1 + np.exp(-abs(x))),
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    "erf": np.vectorize(math.erf, otypes=[float]),
    "erfc": np.vectorize(math.erfc, otypes=[float]),  # SciPy's has no subnormals
    "gammaln": log_gamma,
    "psi": scipy.special.psi,
    "pow": np.power,
}
COUNT = 500
LONG_DOUBLE = np.finfo(np.longdouble).nmant >= 63


def results(dtype, names, within=False, run=None, **how):
    """The arguments and results of each function, by name; `run` computes them."""
    rng = np.random.default_rng(7)
    given = {name: arguments(name, dtype, COUNT, rng, within=within) for name in names}
    width = max(args[0].size for args in given.values())
    x, second, out = (np.ones((len(names), width), dtype) for _ in range(3))
    for k, args in enumerate(given.values()):
        x[k, : args[0].size] = args[0]
        if len(args) == 2:
            second[k, : args[1].size] = args[1]
    run = run or compiled(names, dtype, within=within, **how)
    if how:
        order = rng.permutation(width)
        run(x, second, order, out)
        out = out[:, order]
    else:
        run(x, second, out)
    return {name: (args, out[k, : args[0].size]) for k, (name, args) in enumerate(given.items())}


@pytest.fixture(scope="module", params=["float64", "float32"])
def everything(request):
    """The dtype and all functions, of which function k is applied to row k."""
    return request.param, compiled(list(FUNCTIONS), request.param)


@pytest.fixture(scope="module")
def computed(everything):
    dtype, run = everything
    return dtype, results(dtype, list(FUNCTIONS), run=run)


def check_accuracy(name, args, got, bound=2.0):
    if name in BINARY:
        finite = np.isfinite(args[0]) & np.isfinite(args[1])
        args, got = [a[finite] for a in args], got[finite]
        if got.dtype == np.float32:
            with np.errstate(all="ignore"):
                wide = NUMPY.get(name, np.arctan2)(*(a.astype(float) for a in args))
            head, tail = wide, np.zeros(got.size)
        else:
            head, tail = by_long_double(getattr(np, name.replace("pow", "power")), *args)
        regular = ~np.isnan(head)
    else:
        regular = domain(name, args[0])
        head, tail = exact(name, args[0][regular])
        got, args = got[regular], [args[0][regular]]
        regular = np.ones(got.size, bool)
    errors = ulps(got[regular], head[regular], tail[regular])
    worst = errors.argmax()
    at = [a[regular][worst] for a in args]
    assert errors[worst] <= bound, (name, at, got[regular][worst], errors[worst])


@pytest.mark.parametrize("name", [n for n in FUNCTIONS if n not in BINARY])
def test_within_two_ulp(computed, name):
    dtype, found = computed
    args, got = found[name]
    check_accuracy(name, args, got, 2.0 if dtype == "float64" else 1.0)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_up_to_the_limit(dtype):
    """The faster forms, with inf, nan and signed zeros."""
    for name, (args, got) in results(dtype, list(LIMITS), within=True).items():
        check_accuracy(name, args, got, 2.0 if dtype == "float64" else 1.0)
        check_special(name, args, got)


@pytest.mark.parametrize("name", BINARY)
def test_of_two_numbers_within_two_ulp(computed, name):
    if not LONG_DOUBLE:
        pytest.skip("the reference is computed in long double")
    args, got = computed[1][name]
    check_accuracy(name, args, got)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values(computed, name):
    """inf, nan and signed zeros where NumPy and SciPy have them."""
    _, found = computed
    check_special(name, *found[name])


def check_special(name, args, got):
    f = NUMPY.get(name) or getattr(np, name)
    with np.errstate(all="ignore"):
        wanted = f(*args).astype(got.dtype)
    for test in (np.isnan, np.isinf, lambda y: y == 0):
        assert np.array_equal(test(got), test(wanted)), name
    definite = (wanted == 0) | np.isinf(wanted)
    assert np.array_equal(np.signbit(got[definite]), np.signbit(wanted[definite]))


@pytest.mark.parametrize("name", ["gammaln", "psi"])
def test_left_of_zero(computed, name):
    """Where terms meet, the error is small next to them; in float32 all is rounded once."""
    dtype, found = computed
    (x,), got = found[name]
    left = (x < 0) & (x != np.floor(x)) & np.isfinite(got)
    x, got = x[left], got[left]
    assert x.size > COUNT
    if dtype == "float64":
        assert left_errors(name, x, got).max() < 3.0
    else:
        wide = scipy.special.psi if name == "psi" else NUMPY["gammaln"]
        np.testing.assert_allclose(got, wide(x.astype(float)), rtol=6.1e-8, atol=1e-11)


def test_in_scalar_code():
    """The same where the loop around cannot be vectorised, with `reassoc` all the same."""
    names = ["exp", "log1p", "tanh", "sin", "erfc", "log2", "cbrt"]
    for name, (args, got) in results("float64", names, vectorised=False).items():
        check_accuracy(name, args, got)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_in_plain_python(name, dtype):
    """On NumPy scalars, where nothing is contracted."""
    function = _KNOWN[numba_name(name, dtype)]
    args = arguments(name, dtype, 40, np.random.default_rng(3))
    with np.errstate(all="ignore"):
        got = np.array([function(*numbers) for numbers in zip(*args, strict=True)], dtype)
    if name not in BINARY or LONG_DOUBLE:
        check_accuracy(name, args, got)


def test_every_exponent(everything):
    """Arguments of all sizes, next to each other and next to inf and nan, against mpmath."""
    dtype, run = everything
    kind = np.finfo(dtype)
    powers = np.arange(kind.minexp - kind.nmant, kind.maxexp)
    x = (np.ldexp(1.0, powers) * np.linspace(1.0, 1.99, powers.size)).astype(dtype)
    x[1::2] *= -1
    given = np.array([[*x, np.inf, np.nan, -np.inf]] * len(FUNCTIONS), dtype)
    out = np.empty_like(given)
    run(given, given, out)
    for name in LIMITS:
        got = out[FUNCTIONS.index(name)]
        assert np.isnan(got[-3:]).all()
        check_accuracy(name, [x], got[:-3], 2.0 if dtype == "float64" else 1.0)


def test_array_function_compiled():
    x = np.array([0.5, -1.0, 0.0, np.nan])
    namespace = {"np": np, "math": math, "numba": numba}
    for text in numba_sources("tanh", "float64").values():
        exec(DECORATOR.replace("cache=True, ", "") + "\n" + text, namespace)
    title, text = array_source("tanh", "float64")
    exec(LOOP_DECORATOR.replace("cache=True, ", "") + "\n" + text, namespace)
    namespace[title](x, x)
    np.testing.assert_allclose(x, np.tanh([0.5, -1.0, 0.0, np.nan]), rtol=1e-15)


def test_sources_are_complete():
    """Each function's text comes with that of all it calls, before it."""
    for name in FUNCTIONS:
        for dtype in ("float64", "float32"):
            namespace = {"np": np, "math": math}
            for key, text in numba_sources(name, dtype).items():
                if key not in TABLES:
                    assert text.startswith(f"def {key}(")
                    code = compile(text, key, "exec").co_consts[0]
                    assert {n for n in code.co_names if n in {*_KNOWN, *TABLES}} <= set(namespace)
                exec(text, namespace)
            assert key == numba_name(name, dtype)
    assert '"reassoc"' not in DECORATOR


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="no vector function 'sqrt'"):
        numba_name("sqrt", "float64")
    with pytest.raises(ValueError, match="'float16'"):
        numba_sources("exp", "float16")
    with pytest.raises(ValueError, match="'exp'"):
        numba_name("exp", "float64", within=True)
    with pytest.raises(ValueError, match="two numbers"):
        array_source("pow", "float64")


def test_special_arguments_are_tried():
    assert special("float32").dtype == np.float32
    assert np.isnan(special("float64")).any()
