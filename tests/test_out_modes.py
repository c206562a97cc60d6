"""Tangents, Jacobians and rows of Hessians written into arrays that are given."""

from __future__ import annotations

import copy
import os

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import FlatgradError, hvp, jacfwd, jacobian, jvp, pipeline
from tests.corpus import EXAMPLES
from tests.corpus_checks import derived
from tests.emitted import plain_module
from tests.test_out import BACKENDS, check, filled

FULL = os.environ.get("FLATGRAD_TEST") == "full"
CHOSEN = [name for name in EXAMPLES if FULL or sum(name.encode()) % 5 == 0]


@pytest.fixture
def plain(monkeypatch):
    """Numba's text as plain Python."""
    monkeypatch.setattr(pipeline, "load", lambda module, backend: plain_module(module))


@pytest.mark.parametrize("mode", ["jvp", "hvp"])
@pytest.mark.parametrize("name", CHOSEN)
def test_corpus(name, mode, plain):
    example = EXAMPLES[name]
    if mode == "hvp" and not example.second:
        pytest.skip("no second derivative")
    backend = BACKENDS[len(name) % 2]
    function, args = derived(example, mode, backend)
    with np.errstate(all="ignore"):
        expected = function(*copy.deepcopy(args))
        expected = expected[1] if mode == "jvp" else expected
        out = filled(expected)
        for _ in range(2):  # the second time on the fast path
            found = function(*copy.deepcopy(args), out=out)
            check(found[1] if mode == "jvp" else found, out, expected)


X, W = np.linspace(0.1, 1, 4), np.linspace(1, 2, 4)
LONG = np.linspace(0, 1, 513)


def parts(x, w):
    return {"y": np.tanh(x * w), "n": (np.sum(x * w), 3)}


def few(x, w):
    return np.array([np.sum(x * w), np.sum(x * x * w)])


def number(x, w):
    return np.sum(np.tanh(x * w) * x)


def ends(x):
    return np.array([np.sum(x * x), x[3]])


JACOBIANS = [
    ("jacfwd", parts, (X, W)),
    ("jacfwd", ends, (LONG,)),
    ("jacrev", parts, (X, W)),
    ("jacrev", few, (X, W)),
    ("jacobian", few, (X, W)),
    ("jacobian", number, (X, W)),
    ("value_and_jacobian", parts, (X, W)),
    ("value_and_jacobian", few, (X, W)),
    ("hessian", number, (X, W)),
    ("hessian", number, (X.astype("f4"), W.astype("f4"))),
]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("kind", "f", "args"), JACOBIANS)
def test_jacobians(kind, f, args, backend, plain):
    """Whichever way they are computed."""
    function = getattr(fg, kind)(f, backend=backend)
    expected = function(*args)
    with_value = kind.startswith("value")
    out = filled(expected[1] if with_value else expected)
    for _ in range(2):
        found = function(*args, out=out)
        check(found, (found[0], out) if with_value else out, expected)


def test_the_derivative_is_computed_where_it_belongs(plain, monkeypatch):
    texts = []

    def kept(module, backend):
        texts.append(module.function_text)
        return plain_module(module)

    monkeypatch.setattr(pipeline, "load", kept)
    product = jvp(lambda A, x: A @ x)
    A, x = np.ones((3, 3)), X[:3]
    _, dot = product(A, x, None, x)
    _, again = product(A, x, None, x, out=dot)
    assert again is dot
    assert "np.matmul(A, dot_x, out=out)" in texts[-1]


def squares(x):
    return x * x


SCALES = np.array([1.0, 2.0, 3.0, 4.0])


def scaled(x):
    return SCALES * x * x


MISFITS = [
    (jvp(squares), (X, W), np.empty(3), r"`out` is .* of shape \(3,\); the tangent is a float64"),
    (jvp(squares), (X, W), X, "shares memory"),
    (jvp(squares), (X, W), W[:], "shares memory"),
    (jvp(parts), (X, W, X, W), {"y": np.empty(4)}, "other parts"),
    (jvp(parts), (X, W, X, W), {"y": None, "n": (0.0, 0)}, r"`out\['y'\]` is None"),
    (jvp(lambda x: x[x > 0.5]), (X, W), np.empty(3), "known only when the function has run"),
    (hvp(number), (X, W, X, W), (np.empty(4),), "other parts"),
    (hvp(number), (X, W, X, W), (np.empty(4), np.empty(4, "f4")), "float32.*; the product"),
    (jacfwd(scaled), (X,), np.empty((4, 3)), "the Jacobian is a float64 array"),
    (jacfwd(squares), (X,), np.broadcast_to(0.0, (4, 4)), "read-only"),
    (jacobian(few), (X, W), np.empty((2, 4)), "other parts"),
    (fg.jacrev(scaled), (X,), np.empty((4, 4), "f4"), "float32.*; the Jacobian is a float64"),
    (fg.jacrev(lambda x: np.sum(x * SCALES)), (X,), SCALES, "shares memory"),
    (fg.jacrev(lambda x: np.sum(x * x)), (X,), X, "shares memory"),
    (fg.hessian(number), (X, W), ((np.zeros((4, 4)),) * 2,) * 2, "another array of `out`"),
]


@pytest.mark.parametrize("number", range(len(MISFITS)))
def test_misfits(number):
    function, args, out, words = MISFITS[number]
    for _ in range(2):
        with pytest.raises(FlatgradError, match=words) as caught:
            function(*args, out=out)
        assert caught.value.code == "bad-out"
    assert function(*args, out=None) is not None


def test_a_parameter_called_out_is_the_functions_own():
    assert jacobian(lambda x, out: x * out, "x")(X[:2], out=3.0).tolist() == [[3, 0], [0, 3]]
    _, dot = jvp(lambda out: out * out)(out=X, dot_out=W)
    np.testing.assert_allclose(dot, 2 * X * W)


def test_several_tangents_at_once():
    function = jvp(squares, stacked=True)
    stack = np.eye(4)
    out = np.empty((4, 4))
    y, found = function(X, stack, out=out)
    assert found is out
    np.testing.assert_allclose(found, np.diag(2 * X))
    np.testing.assert_allclose(y, X * X)


def test_compiled():
    """The arrays themselves come back from machine code."""
    function = hvp(number, argnums="x", backend="numba")
    expected = hvp(number, argnums="x")(X, W, W)
    out = np.empty(4)
    for _ in range(2):
        assert function(X, W, W, out=out) is out
        np.testing.assert_allclose(out, expected, rtol=1e-12)
