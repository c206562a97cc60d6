"""Products that are added to a part of an array in each trip: by a nest, where nothing is between."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import value_and_grad
from tests.emitted import assert_same, plain


def substitution(L, b):
    z = np.zeros(len(b))
    for i in range(len(b)):
        z[i] = (b[i] - L[i, :i] @ z[:i]) / L[i, i]
    return np.sum(z * z)


def scaled_rows(L, b):
    out = np.zeros(L.shape)
    for i in range(len(b)):
        out[i] += b[i] * L[i]
        out[i, 1:] += b[0] * L[0, 1:]
    return np.sum(np.sin(out))


def its_own_rows(L, b):
    """What is multiplied is written to before it is added."""
    out = L.copy()
    total = np.zeros(L.shape)
    for i in range(len(b)):
        part = b[i] * out[i]
        out[i] = b
        out[0, 0] = 2.0
        total[i] += part
        out[i] += b[0] * out[i - 1]
    return np.sum(np.sin(out) * total)


@pytest.mark.parametrize("function", [substitution, scaled_rows, its_own_rows])
def test_numbers(function):
    derived = value_and_grad(function, backend="numba")
    rng = np.random.default_rng(2)
    for n in (2, 5):
        args = np.tril(rng.normal(size=(n, n))) + 2.0 * np.eye(n), rng.normal(size=n)
        found, text = plain(derived, args)
        assert_same(found(*args), value_and_grad(function)(*args), rtol=1e-12)
        main = text[text.rindex("\ndef ") :]
        if function is substitution:
            assert main.count("_loop(") == 3  # two products, and the sum
            assert "add_to_1d" not in main
            assert "z[:i], grad_L[i, :i])" in main
