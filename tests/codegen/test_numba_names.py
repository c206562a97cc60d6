"""Variables that look like versions of others get other names for Numba."""

import numpy as np

from flatgrad import grad
from flatgrad.codegen.lines import Line
from flatgrad.codegen.numba_names import told_apart


def texts(*lines, params=()):
    return [line.text for line in told_apart([Line(line) for line in lines], params)]


def test_a_name_like_a_version():
    lines = ("s = a * 2", "s = s + 1.0", "s_1 = a", "y = s * s_1 + x[s_1]", "z = s_1_")
    changed = ["s = a * 2", "s = s + 1.0", "s_1__ = a", "y = s * s_1__ + x[s_1__]", "z = s_1_"]
    assert texts(*lines, params=("a", "x")) == changed


def test_only_in_one_expression_and_of_several_versions():
    once = ("s = a * 2", "s_1 = a", "y = s * s_1")
    apart = ("s = a", "s = s + 1", "s_1 = s", "y = x[s] * s_1", "for s_2 in range(s):")
    for lines in (once, apart):
        assert texts(*lines, params=("a", "x")) == list(lines)


def test_compiled():
    def f(A):
        A = A.copy()
        for i in range(1, 3):
            A[i, 0] /= A[0, 0]
            A[i, 1:] -= A[i, 0] * A[0, 1:]
        return np.sum(A**2)

    A = np.random.default_rng(0).normal(size=(3, 3))
    np.testing.assert_allclose(grad(f, backend="numba")(A), grad(f)(A))
