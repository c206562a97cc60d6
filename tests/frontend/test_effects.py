"""`print` stays in the forward code, once and in its order."""

from __future__ import annotations

import numpy as np
import pytest

from flatgrad import grad, value_and_grad
from flatgrad.errors import FlatgradError


def told(x):
    y = x * x
    print("before", y, None, True, 2)
    y[0] = 5.0
    print("after", y)
    print("after", y)
    return np.sum(y)


def test_print(capsys):
    x = np.array([1.0, 2.0])
    told(x)
    expected = capsys.readouterr().out
    for derive in (grad, value_and_grad):
        derive(told)(x)
        assert capsys.readouterr().out == expected


def test_print_on_numba(capfd):
    @grad(backend="numba")
    def f(x):
        print("x is", x)
        return x * x

    assert f(3.0) == 6.0
    assert capfd.readouterr().out.split() == ["x", "is", "3.0"]


def test_refused():
    for f in (lambda x: print(x, end=""), lambda x: print([x]), lambda x: print(np)):
        with pytest.raises(FlatgradError):
            grad(f)(1.0)
    with pytest.raises(FlatgradError) as caught:
        grad(lambda x: print(x))(1.0)
    assert caught.value.code == "non-scalar-output"
