"""Loops over strips that become functions: what is looked at before, and which loops stay."""

from __future__ import annotations

import numpy as np
import pytest
from llvmlite.ir import Function, FunctionType, Module, VoidType

from flatgrad import value_and_grad
from flatgrad.backends import numba_compiler, numba_cpu, numba_width
from flatgrad.codegen import apart
from tests.emitted import assert_same

RNG = np.random.default_rng(17)


def components(x, m, k):
    """The number of components is the caller's; an index counts from the end."""
    centered = np.empty(x.shape[1])
    total = 0.0
    for i in range(x.shape[0]):
        for c in range(k):
            for a in range(x.shape[1]):
                centered[a] = x[i, a] - m[c, a]
            square = 0.0
            for a in range(x.shape[1]):
                y = 0.0
                for b in range(a + 1):
                    y += m[c - 1, a] * centered[b]
                square += y * y
            total += np.exp(-square)
    return total


def points(x, m, n):
    """So is the number of points."""
    centered = np.empty(m.shape[1])
    total = 0.0
    for i in range(n):
        for c in range(m.shape[0]):
            for a in range(m.shape[1]):
                centered[a] = x[i, a] - m[c, a]
            square = 0.0
            for a in range(m.shape[1]):
                y = 0.0
                for b in range(a + 1):
                    y += centered[b]
                square += y * y
            total += np.exp(-square)
    return total


def at_places(x, m, k):
    """An element at a place that each point has for itself."""
    centered = np.empty(x.shape[1])
    total = 0.0
    for i in range(x.shape[0]):
        place = int(x[i, 0] * x[i, 0]) % 2
        for c in range(k):
            for a in range(x.shape[1]):
                centered[a] = x[i, a] - m[c, a]
            square = 0.0
            for a in range(x.shape[1]):
                y = m[place, a]
                for b in range(a + 1):
                    y += centered[b]
                square += y * y
            total += np.exp(-square)
    return total


def arguments(n, d=3):
    return RNG.normal(size=(n, d)), RNG.normal(size=(4, d))


def derived(function):
    return value_and_grad(function, argnums=(0, 1), backend="numba")


@pytest.mark.parametrize("n", [3, 64, 70])
@pytest.mark.parametrize("function", [components, points])
def test_compiled_functions_agree_with_numpy(function, n):
    x, m = arguments(n)
    count = 4 if function is components else n
    fast = derived(function)
    assert "over_strips(" in fast.source(x, m, count)
    expected = value_and_grad(function, argnums=(0, 1))(x, m, count)
    assert_same(fast(x, m, count), expected)


def test_too_many_components():
    x, m = arguments(5)
    with pytest.raises(IndexError):
        derived(components)(x, m, 5)


def test_too_many_points():
    x, m = arguments(65)
    with pytest.raises(IndexError):
        derived(points)(x, m, 66)


def test_columns_that_one_array_lacks():
    x, _ = arguments(5, 4)
    _, m = arguments(5, 3)
    with pytest.raises(IndexError):
        derived(components)(x, m, 4)


def test_an_index_of_each_point_stays_where_it_is_looked_at():
    x, m = arguments(70)
    fast = derived(at_places)
    text = fast.source(x, m, 4)
    assert "for lane in range(64)" in text
    assert "over_strips(" not in text
    assert_same(fast(x, m, 4), value_and_grad(at_places, argnums=(0, 1))(x, m, 4))


def test_one_array_for_two_parameters():
    x, _ = arguments(70)
    expected = value_and_grad(components, argnums=(0, 1))(x, x, 70)
    assert_same(derived(components)(x, x, 70), expected)


def test_the_compiler_knows_such_functions():
    assert numba_compiler.ROLE == apart.ROLE


MODULE = '''
import numba
import numpy as np


@numba.njit(error_model="numpy")
def scaled(x, y):
    """{}"""
    for i in range(64):
        y[i] = 2.0 * x[i]


@numba.njit(error_model="numpy")
def f(x):
    y = np.empty(64)
    scaled(x, y)
    return y
'''


def llvm_text(role):
    """What is compiled of a function with a line in it."""
    module = numba_cpu.load("f", MODULE.format(role))
    module.f(np.ones(64))
    (text,) = module.f.inspect_llvm().values()
    return text


def test_the_compiler_is_told_that_arrays_share_no_memory():
    told, untold = llvm_text(apart.ROLE), llvm_text("some other line")
    assert "alias.scope" in told
    assert "alias.scope" not in untold


def test_strips_use_wide_vectors_where_they_do_not_slow_down(monkeypatch):
    monkeypatch.setattr(numba_width.config, "CPU_NAME", "icelake-server")
    function = Function(Module(), FunctionType(VoidType(), ()), "f")
    numba_width.use_wide_vectors(function)
    assert '"prefer-vector-width"="512"' in str(function)
    monkeypatch.setattr(numba_width.config, "CPU_NAME", "skylake-avx512")
    narrow = Function(Module(), FunctionType(VoidType(), ()), "f")
    numba_width.use_wide_vectors(narrow)
    assert "512" not in str(narrow)
