"""diff, interp, median and kin: values as NumPy's, gradients right, on both backends."""

import numpy as np
import pytest

from flatgrad import FlatgradError, check_grads, grad, value_and_grad

RNG = np.random.default_rng(0)
x = RNG.normal(size=6)
X = RNG.normal(size=(3, 4))
T = np.sort(RNG.normal(size=6))
WITH_NAN = np.where(np.arange(6) == 2, np.nan, x)

PROGRAMS = {
    "diff": (lambda x: np.sum(np.diff(x) ** 3), (x,)),
    "diff_twice": (lambda x: np.sum(np.diff(x, n=2, axis=1) ** 3) + np.sum(np.diff(x, axis=0) ** 2), (X,)),
    "ediff1d": (lambda x: np.sum(np.ediff1d(x) ** 3), (X,)),
    "trapezoid_at": (lambda x, t: np.trapezoid(x * x, t), (x, T)),
    "trapezoid_dx": (lambda x: np.sum(np.trapezoid(x * x, dx=0.3, axis=0) ** 2), (X,)),
    "trapezoid_rows": (lambda x: np.sum(np.trapezoid(x * x, np.array([0.0, 1.0, 3.0]), axis=0) ** 2), (X,)),
    "gradient": (lambda x: np.sum(np.gradient(x, 0.1) ** 3), (x,)),
    "gradient_axis": (lambda x: np.sum(np.gradient(x, axis=0) ** 3), (X,)),
    "median_of_even": (lambda x: np.median(x) ** 2, (x,)),
    "median_of_odd": (lambda x: np.median(x[:5]) ** 2, (x,)),
    "median_of_all": (lambda x: np.median(x) ** 2, (X,)),
    "quantile": (lambda x: np.quantile(x, 0.3) ** 2 + np.percentile(x, 77) ** 2, (x,)),
    "quantile_ends": (lambda x: np.quantile(x, 0) ** 2 + np.percentile(x, 100) ** 2, (x,)),
    "nan": (lambda x: np.nansum(x * x) + np.nanmean(x**3) + np.nanmax(x) * np.nanmin(x), (x,)),
    "interp": (lambda t, y, v: np.sum(np.interp(v, t, y) ** 2), (T, x, np.array([-9.0, 0.1, 0.3, 9.0]))),
    "interp_number": (lambda t, y, v: np.interp(v, t, y) ** 2, (T, x, 0.1)),
    "select": (lambda x: np.sum(np.select([x > 1, x > 0], [x * x, x**3], 0.5)), (x,)),
    "logspace": (lambda a: np.sum(np.logspace(a, 1.0, 5)), (0.3,)),
    "polyval": (lambda x: np.polyval([x, 2.0, x * x], 0.5 * x), (0.7,)),
    "vecdot": (lambda x: np.sum(np.vecdot(x, x[0]) ** 2), (X,)),
    "matvec": (lambda x: np.sum(np.matvec(x, x[0]) ** 2), (X,)),
    "transposed": (lambda x: np.sum(np.matrix_transpose(x)[0] ** 3), (X,)),
}  # fmt: skip
WITHOUT_MEMBER = ("vecdot", "matvec", "transposed")  # names that came with NumPy 2.x


COMPILED = ("trapezoid_at", "quantile", "nan", "interp")


@pytest.mark.parametrize(
    "name, backend", [(name, "numpy") for name in PROGRAMS] + [(name, "numba") for name in COMPILED]
)
def test_value_and_gradient(name, backend):
    if name in WITHOUT_MEMBER and not hasattr(np, "matvec"):
        pytest.skip("needs NumPy 2.2")
    f, args = PROGRAMS[name]
    value, _ = value_and_grad(f, backend=backend)(*args)
    assert value == pytest.approx(f(*args), rel=1e-12)
    check_grads(f, args, gradient=grad(f, backend=backend))


def test_median_along_an_axis():
    check_grads(lambda x: np.sum(np.median(x, axis=1) ** 2), (X,))


def test_nan_has_no_part():
    f, _ = PROGRAMS["nan"]
    value, found = value_and_grad(f)(WITH_NAN)
    assert value == pytest.approx(f(WITH_NAN))
    assert found[2] == 0
    assert np.isfinite(found).all()


def test_interp_at_the_entries():
    """Where the line has a corner, the slope is that of the piece to the right."""
    table = np.array([0.0, 1.0, 3.0])
    values = np.array([0.0, 2.0, 1.0])

    def f(v):
        return np.interp(v, table, values)

    assert grad(f)(1.0) == -0.5
    for v in (0.0, 1.0, 3.0, -1.0, 4.0):
        assert value_and_grad(f)(v)[0] == np.interp(v, table, values)


@pytest.mark.parametrize(
    "f, words",
    [
        (lambda x: np.gradient(x)[0], "along several axes"),
        (lambda x: np.quantile(x, x[0]), "no constant number"),
        (lambda x: np.polyval(x, 2.0), "coefficients in an array"),
        (lambda x: np.median(x, axis=(0, 1)), "several axes"),
    ],
)
def test_refusals(f, words):
    with pytest.raises(FlatgradError) as caught:
        grad(f)(X)
    assert words in str(caught.value)
    assert "help:" in str(caught.value)
