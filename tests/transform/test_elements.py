"""Small arrays taken apart compute what they did, and no array is left where none is needed."""

from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest

from flatgrad.errors import FlatgradError
from flatgrad.frontend.lower import Static, lower
from flatgrad.frontend.source import read_source, unwrap
from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import Apply, For
from flatgrad.ir.types import Array
from flatgrad.ir.verify import verify
from flatgrad.primitives.symbolic import NeedInteger, NeedStatic
from flatgrad.signature import hidden_type, type_of
from flatgrad.transform.clone import all_ops
from flatgrad.transform.elements import take_apart
from flatgrad.transform.paths import on_each_path
from tests.corpus import EXAMPLES


def lowered(function, arguments):
    """The function for arrays of exactly these shapes, with the arguments that it takes."""
    signature, given = {}, []
    for name, value in zip(inspect.signature(function).parameters, arguments, strict=False):
        kind = type_of(name, value, wants_gradient=isinstance(value, float))
        if isinstance(kind, Array):
            kind = replace(kind, shape=value.shape)
        signature[name] = kind
        if not isinstance(kind, Static):
            given.append(np.copy(value) if isinstance(value, np.ndarray) else value)
    fn, captures = lower(read_source(unwrap(function)), signature, hidden_type)
    return fn, [*given, *[capture.read() for capture in captures.hidden.values()]]


def check(function, *arguments):
    """The function taken apart gives the same results, also path by path."""
    fn, given = lowered(function, arguments)
    expected = interpret(fn, given)
    apart = take_apart(fn)
    verify(apart)
    split = on_each_path(apart, lambda path: path)
    verify(split)
    for one in (apart, split):
        fn, given = lowered(function, arguments)
        found = interpret(one, given)
        for left, right in zip(found, expected, strict=True):
            np.testing.assert_allclose(left, right, rtol=1e-11, atol=1e-13)
    return apart


@pytest.mark.parametrize("name", EXAMPLES)
def test_corpus(name):
    found = EXAMPLES[name]
    try:
        lowered(found.function, found.arguments)
    except (FlatgradError, NeedStatic, NeedInteger):
        pytest.skip("takes containers, or ints whose values are needed")
    check(found.function, *found.arguments)


def arrays_of(fn):
    """The operations that still make arrays."""
    return [op for op in all_ops(fn.body) for value in op.results if value.type.ndim]


X, M = np.array([0.3, -0.7, 1.1]), np.arange(9.0).reshape(3, 3) / 7 - 0.5


def products(x, M):
    y = M @ x + np.outer(x, x)[1]
    z = np.stack([y, x]).T.reshape(2, 3)
    z[1] += y
    z[:, 0] = 2 * z[:, 1]
    return np.sum(z * z) + np.dot(x, y) + np.cross(x, y)[0] + np.mean(z, axis=0)[1]


def branches(x, M):
    y = np.zeros(3)
    if x[0] > 0:
        y[1] = x[2]
        y = y + x
    else:
        y = M[0] * 2
    return y @ x


def loops(x, M):
    v = x.copy()
    for k in range(3):
        v[k] += v[k - 1] * M[k, 2 - k]
        if k == 1:
            v = v * 2.0
    total = 0.0
    for k in range(40):
        v = np.array([v[1], v[2], v[0] * 0.9])
        total += v[0]
    while total > 1.0:
        v = v / 2
        total = total - 1.0 - v[0] ** 2
    return v @ v + total


@pytest.mark.parametrize("function", [products, branches, loops])
def test_no_array_is_left(function):
    for sign in (1.0, -1.0):
        apart = check(function, sign * X, M)
        reads = [op for op in arrays_of(apart) if isinstance(op, Apply)]
        assert not reads


def triangular(x):
    total = 0.0
    for k in range(3):
        part = np.zeros(k + 1)
        part[k] = x[k]
        total += np.sum(part) * part.size
    return total


def test_a_loop_whose_lengths_depend_on_the_trip_stays():
    apart = check(triangular, X)
    assert any(isinstance(op, For) for op in apart.body.ops)


def single(x):
    return np.zeros(3) * 0.1 + x


def test_float32_stays_as_it_is():
    fn, _ = lowered(single, (np.ones(3, np.float32),))
    assert take_apart(fn) is fn
