"""scipy.special: the error and gamma functions, their derivatives, on NumPy and Numba."""

import math

import numpy as np
import pytest
import scipy.special
from mpmath import mp, mpf

from flatgrad import grad, value_and_grad
from flatgrad.codegen.numba_helpers.elementwise import scalar
from flatgrad.testing import check_grads

X = np.array([[0.3, -0.5, 1.2], [2.5, -1.3, 0.7]])


def errors(x):
    return np.sum(scipy.special.erf(x) * scipy.special.erfc(x / 2))


def gammas(x):
    y = x * x + 0.3
    return np.sum(scipy.special.gammaln(y) + scipy.special.gamma(y) * scipy.special.psi(x))


def numbers(x):
    scipy = x[0, 0] + 2  # no module in the emitted text
    return math.lgamma(scipy) * math.gamma(x[0, 2]) * np.sum(scipy_erf(x))


def scipy_erf(x):
    return scipy.special.erf(x)


@pytest.mark.parametrize("f", [errors, gammas, numbers])
def test_gradients(f):
    check_grads(f, (X,))


def test_digamma_on_both_sides_of_zero():
    def f(x):
        return np.sum(scipy.special.digamma(x))

    wanted = [scipy.special.polygamma(1, 2.5), math.pi**2 / 2 + 4, math.pi**2 / 2]
    got = grad(f)(np.array([2.5, -0.5, 0.5]))
    np.testing.assert_allclose(got, wanted, rtol=1e-13)
    check_grads(f, (np.array([2.5, -0.5, -1.7, 0.1]),))


def test_text():
    text = grad(gammas).source(X)
    assert "scipy.special.psi(y)" in text
    assert "scipy.special.zeta(2.0, " in text


def test_float32():
    def f(x):
        return np.sum(scipy.special.gammaln(x))

    got = grad(f)(np.array([0.5, 3.0], np.float32))
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, scipy.special.psi([0.5, 3.0]), rtol=1e-6)


def likelihood(a, x):
    z = scipy.special.gamma(x[0]) * math.lgamma(x[1])
    return np.sum(scipy.special.gammaln(a) + scipy.special.erf(a) - scipy.special.erfc(a)) + z


def test_numba():
    a, x = np.abs(X), np.array([1.3, 2.2])
    wanted = value_and_grad(likelihood)(a, x)
    got = value_and_grad(likelihood, backend="numba")(a, x)
    np.testing.assert_allclose(got[0], wanted[0], rtol=1e-13)
    for mine, other in zip(got[1], wanted[1], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-13)


def test_trigamma_on_numba():
    def f(x):
        return np.sum(scipy.special.psi(x) ** 2)

    for x in (X, X.astype(np.float32)):
        got = grad(f, backend="numba")(x)
        assert got.dtype == x.dtype
        np.testing.assert_allclose(got, grad(f)(x), rtol=1e-13 if x is X else 1e-5)


def test_zeta_helper():
    namespace = {"np": np, "math": math}
    exec(scalar("zeta").source, namespace)
    x = np.concatenate([np.linspace(0.01, 40, 300), [1e-200, 1e-30, 1e5, 1e30, np.inf, np.nan]])
    for s in (2.0, 3.0, 4.0, 7.0):
        with np.errstate(over="ignore"):
            got = [namespace["zeta_scalar"](s, number) for number in x]
        np.testing.assert_allclose(got, scipy.special.zeta(s, x), rtol=2e-14)


def test_digamma_helper():
    namespace = {"np": np, "math": math}
    exec(scalar("psi").source, namespace)
    x = np.concatenate([np.linspace(0.05, 40, 500), np.linspace(-9.96, -0.05, 300), [1e5, 1e300]])
    got = [namespace["psi_scalar"](number) for number in x]
    np.testing.assert_allclose(got, scipy.special.psi(x), rtol=2e-12, atol=1e-14)
    x = np.array([-1e-200, -3e-17, -1 - 1e-12, -1 + 1e-12, -7.999999999])
    with mp.workprec(200):
        wanted = [float(mp.digamma(mpf(number))) for number in x]
    got = [namespace["psi_scalar"](number) for number in x]
    np.testing.assert_allclose(got, wanted, rtol=1e-15)
    for special in (0.0, -0.0, -1.0, -3.0, np.nan, np.inf, -np.inf):
        got = namespace["psi_scalar"](special)
        np.testing.assert_array_equal(got, scipy.special.psi(special))


def counts(rate, size, y):
    """A negative binomial likelihood; y are ints."""
    terms = scipy.special.gammaln(y + size) - scipy.special.gammaln(y + 1)
    terms = terms + size * np.log(size / (size + rate)) + y * np.log(rate / (size + rate))
    return np.sum(terms) - len(y) * scipy.special.gammaln(size)


def counts_one_by_one(rate, size, y):
    total = 0.0
    for i in range(len(y)):
        total += math.lgamma(y[i] + size) - math.lgamma(size) - math.lgamma(y[i] + 1)
        total += size * math.log(size / (size + rate[i])) + y[i] * math.log(rate[i] / (size + rate[i]))
    return total


RATES, COUNTS = np.linspace(0.1, 9, 70), np.arange(70) * 7 % 11


@pytest.mark.parametrize("f", [counts, counts_one_by_one])
def test_loops_over_elements_vectorise(f):
    args = (RATES, 2.5, COUNTS)
    both = value_and_grad(f, argnums=(0, 1), backend="numba")
    text = both.source(*args)
    assert "gammaln_f64(" in text
    assert "psi_f64(" in text
    precise = value_and_grad(f, argnums=(0, 1), backend="numba", precise=True).source(*args)
    assert "_f64(" not in precise
    wanted = value_and_grad(counts, argnums=(0, 1))(*args)
    got = both(*args)
    assert got[0] == pytest.approx(wanted[0], rel=1e-14)
    for mine, other in zip(got[1], wanted[1], strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-13, atol=1e-13)


def test_one_after_the_other_they_are_those_of_libm():
    def f(x, c):
        for i in range(len(c)):
            x = math.lgamma(x + c[i])
        return x

    text = grad(f, backend="numba").source(2.5, np.ones(3))
    assert "math.lgamma(" in text
    assert "psi_scalar(" in text
    assert "_f64(" not in text
