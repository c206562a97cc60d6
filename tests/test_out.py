"""Gradients written into arrays that are given: `step(w, X, out=grads)`."""

from __future__ import annotations

import copy
import dataclasses
import inspect
import os
import tracemalloc
from typing import Any, NamedTuple

import numpy as np
import pytest

from flatgrad import FlatgradError, grad, pipeline, value_and_grad, vjp
from tests.corpus import EXAMPLES
from tests.corpus_checks import derived
from tests.emitted import plain_module

BACKENDS = ("numpy", "numba")
FULL = os.environ.get("FLATGRAD_TEST") == "full"


def loss(params, X, y):
    h = np.tanh(X @ params["W1"] + params["b1"])
    s = h @ params["w2"] + params["b2"]
    return np.mean((s - y) ** 2)


def arguments(dtype="float64"):
    rng = np.random.default_rng(0)
    params = {"W1": rng.normal(size=(3, 8)), "b1": np.zeros(8), "w2": rng.normal(size=8), "b2": 0.5}
    params = {k: x.astype(dtype) if isinstance(x, np.ndarray) else x for k, x in params.items()}
    X = rng.normal(size=(20, 3)).astype(dtype)
    return params, X, X[:, 0].copy()


def filled(tree: Any) -> Any:
    """A tree like this one, with NaN in its arrays: what is not written is seen."""
    match tree:
        case np.ndarray():
            return np.full(tree.shape, np.nan, tree.dtype)
        case dict():
            return {key: filled(item) for key, item in tree.items()}
        case list():
            return [*map(filled, tree)]
        case tuple():
            return tree._make(map(filled, tree)) if hasattr(tree, "_make") else (*map(filled, tree),)
    if dataclasses.is_dataclass(tree):
        return dataclasses.replace(tree, **filled(dict(tree.__dict__)))
    return tree


def leaves(tree: Any) -> list[Any]:
    if dataclasses.is_dataclass(tree):
        tree = tree.__dict__
    if isinstance(tree, dict):
        tree = list(tree.values())
    return [x for item in tree for x in leaves(item)] if isinstance(tree, list | tuple) else [tree]


def check(found: Any, out: Any, expected: Any) -> None:
    """`found` has the structure and the values that are expected, and the arrays of `out`."""
    assert type(found) is type(expected)
    for one, place, wanted in zip(leaves(found), leaves(out), leaves(expected), strict=True):
        assert type(one) is type(wanted)
        if isinstance(wanted, np.ndarray):
            assert one is place
            np.testing.assert_allclose(one, wanted, rtol=1e-12)
        else:
            assert one == wanted or one == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("name", EXAMPLES)
def test_corpus(name, backend, monkeypatch):
    """On Numba the text as plain Python."""
    if backend == "numba" and not FULL and sum(name.encode()) % 4:
        pytest.skip("with FLATGRAD_TEST=full")
    monkeypatch.setattr(pipeline, "load", lambda module, backend: plain_module(module))
    function, args = derived(EXAMPLES[name], "grad", backend)
    with np.errstate(all="ignore"):
        _, expected = function(*copy.deepcopy(args))
        out = filled(expected)
        for _ in range(2):  # the second time on the fast path
            _, found = function(*copy.deepcopy(args), out=out)
            check(found, out, expected)
        _, again = function(*copy.deepcopy(args), out=found)  # as one goes on in a loop
        check(again, out, expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_net(backend, dtype):
    args = arguments(dtype)
    step = value_and_grad(loss, argnums="params", backend=backend)
    value, expected = step(*args)
    expected = copy.deepcopy(expected)
    out = filled(expected)
    again, found = step(*args, out=out)
    assert value == again
    check(found, out, expected)
    other = ({k: 2 * x for k, x in args[0].items()}, *args[1:])
    step(*other, out=found)
    check(found, out, step(*other)[1] | {"b2": found["b2"]})


def test_products_are_written_where_they_belong(monkeypatch):
    """Text of the code that runs: no array is made for a gradient."""
    texts = []

    def kept(module, backend, load=pipeline.load):
        texts.append(module.function_text)
        return load(module, backend)

    monkeypatch.setattr(pipeline, "load", kept)
    for backend in BACKENDS:
        step = grad(loss, argnums="params", backend=backend)
        step(*arguments(), out=filled(arguments()[0]))
    lines = texts[1].splitlines()
    assert "    np.matmul(X.T, grad_h_sum, out=out_W1)" in lines
    assert "    grad_h_sum.sum(axis=0, out=out_b1)" in lines
    assert "    np.matmul(h.T, grad_s, out=out_w2)" in lines
    assert "    np.dot(X.T, grad_h_sum, out_W1)" in texts[3].splitlines()


def test_calls_with_out_alone_keep_memory(monkeypatch):
    kept = []

    def load(module, backend):
        kept.append(module.has_places)
        return plain_module(module)

    monkeypatch.setattr(pipeline, "load", load)
    gradient = grad(squares, backend="numba")
    gradient(X3)
    gradient(X3, out=np.empty(3))
    assert kept == [False, True]


def test_wide_products_are_written_where_they_belong(monkeypatch):
    def f(Wx, xs):
        h = np.zeros((xs.shape[1], Wx.shape[1]))
        for t in range(len(xs)):
            h = np.tanh(xs[t] @ Wx + h)
        return np.sum(h * h)

    args = np.ones((3, 2)), np.linspace(0, 1, 24).reshape(2, 4, 3)
    text = texts_with_out(monkeypatch, f, args, "Wx", "numba")
    assert "out[...]" not in text
    assert "    np.dot(" in text


def texts_with_out(monkeypatch, function, args, argnums, backend):
    """The emitted code of a call with `out=`, whose results are compared."""
    texts = []

    def kept(module, backend):
        texts.append(module.function_text)
        return plain_module(module)

    monkeypatch.setattr(pipeline, "load", kept)
    gradient = grad(function, argnums, backend=backend)
    expected = copy.deepcopy(gradient(*args))
    out = filled(expected)
    check(gradient(*args, out=out), out, expected)
    return texts[-1]


def test_nests_fill_what_they_are_given(monkeypatch):
    def f(x, w, b):
        return np.sum(np.tanh(x * w + b) ** 2)

    args = np.ones((4, 3)), np.full((4, 3), 0.5), np.arange(3.0)
    text = texts_with_out(monkeypatch, f, args, ("x", "b"), "numba")
    assert "np.empty" not in text
    assert "np.zeros" not in text
    assert "    grad_b[...] = 0.0\n    for i in" in text
    assert "    grad_b_loop(x, w, b, grad_value * 2, out_1, out_0)\n    return out_0, out_1" in text


def weighted_sum(x, w):
    s = 0.0
    for i in range(x.shape[0]):
        s += x[i] * x[i] * w[i] * w[0]
    return s


def two_buffers(x, n):
    u, v = x.copy(), x.copy()
    for _ in range(n):
        for i in range(1, x.shape[0]):
            v[i] = u[i] * u[i - 1]
        u, v = v, u
    return np.sum(u)


@pytest.mark.parametrize("backend", BACKENDS)
def test_loops_add_up_in_what_they_are_given(monkeypatch, backend):
    x = np.arange(1.0, 5.0)
    text = texts_with_out(monkeypatch, weighted_sum, (x, x + 1), ("x", "w"), backend)
    assert "out_0[...] = 0.0" in text
    assert "out_1[...] = 0.0" in text
    assert "np.zeros" not in text


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_arrays_that_loops_swap_are_copied(monkeypatch, backend, n):
    """Which of the two ends up with the gradient is not known before the loop has run."""
    text = texts_with_out(monkeypatch, two_buffers, (np.arange(1.0, 5.0), n), "x", backend)
    assert "np.zeros" in text


def test_threads_have_zeros_of_their_own():
    gradient = grad(weighted_sum, ("x", "w"), backend="numba", parallel=True)
    x = np.arange(1.0, 40_001.0) / 40_000
    expected = copy.deepcopy(gradient(x, x + 1))
    out = filled(expected)
    check(gradient(x, x + 1, out=out), out, expected)


def test_no_large_array_is_allocated():
    def energy(W, x):
        s = W @ x
        return np.sum(s * s)

    W, x = np.ones((1000, 500)), np.ones(500)
    gradient = grad(energy, "W")
    out = np.empty_like(W)
    peaks = []
    for given in ({}, {"out": out}):
        gradient(W, x, **given)
        tracemalloc.start()
        gradient(W, x, **given)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[0] > W.nbytes
    assert peaks[1] < W.nbytes / 20


class Pair(NamedTuple):
    a: Any
    b: Any


class Other(NamedTuple):
    b: Any
    a: Any


def test_forms_of_out():
    """What the call returns, or a tuple or list in its place; numbers are not looked at."""
    both = grad(lambda a, b: np.sum(a * a) * b)
    a = np.array([1.0, 2.0])
    for make in (lambda x, y: (x, y), lambda x, y: [x, y], lambda x, y: both(a, 1.0)._make((x, y))):
        for number in (0.0, None, 3):
            place = np.empty(2)
            found = both(a, 2.0, out=make(place, number))
            assert type(found).__name__ == "Gradients"
            assert found.a is place
            assert place.tolist() == [4, 8]
            assert found.b == 5
    of_pair = grad(lambda p: np.sum(p.a * p.b))
    found = of_pair(Pair(a, 3.0), out=(place, None))
    assert type(found) is Pair
    assert found.a is place


def test_arrays_without_axes_and_axes_of_length_one():
    f = grad(lambda x, y: np.sum(x * y))
    out = (np.array(0.0), np.zeros((1, 3)))
    found = f(np.array(2.0), np.ones((1, 3)), out=out)
    assert found.x is out[0]
    assert found.y is out[1]
    assert found.x == 3
    assert out[1].tolist() == [[2, 2, 2]]


@pytest.mark.parametrize("backend", BACKENDS)
def test_gradients_that_are_one_value(backend):
    """Two parameters with one adjoint, and one that is an argument itself: each in its own array."""

    def f(a, b, c):
        s = a + b
        return np.sum(s * c), s

    f = grad(f, has_aux=True, backend=backend)
    a, b, c = np.array([1.0, 2.0]), np.array([3.0, 4.0]), np.array([5.0, 6.0])
    out = (np.empty(2), np.empty(2), np.empty(2))
    (ga, gb, gc), s = f(a, b, c, out=out)
    assert [ga is out[0], gb is out[1], gc is out[2]] == [True] * 3
    assert (ga.tolist(), gb.tolist(), gc.tolist()) == ([5, 6], [5, 6], [4, 6])
    assert s.tolist() == [4, 6]
    assert not any(np.shares_memory(s, x) for x in (*out, a, b, c))


def test_strided_places():
    memory = np.zeros((4, 6))
    gradient = grad(lambda x: np.sum(x**3))
    x = np.arange(6.0).reshape(2, 3)
    found = gradient(x, out=memory[::2, ::2])
    np.testing.assert_array_equal(memory[::2, ::2], 3 * x * x)
    assert memory.sum() == found.sum()


SCALES = np.array([1.0, 2.0])


def captured(x):
    return np.sum(SCALES * x * x)


X3 = np.array([1.0, 2.0, 3.0])
FIXED = np.ones(3)
FIXED.flags.writeable = False


def squares(x):
    return np.sum(x * x)


def pair(x, y):
    return np.sum(x * y * y)


def tree(p):
    return np.sum(p["a"] * p["b"])


MISFITS = [
    (squares, (X3,), np.empty(2), r"`out` is a float64 array of shape \(2,\); the gradient of `x`"),
    (squares, (X3,), np.empty(3, "f4"), "float32 array"),
    (squares, (X3,), None, None),
    (squares, (X3,), 1.0, "`out` is a float"),
    (squares, (X3,), [np.empty(3)], "has a container where"),
    (squares, (X3,), X3, "shares memory with an argument"),
    (squares, (X3,), X3[:], "shares memory with an argument"),
    (squares, (X3,), FIXED, "read-only"),
    (pair, (X3, X3 + 1), (np.empty(3),), "other parts"),
    (pair, (X3, X3 + 1), (FIXED * 1,) * 2, "another array of `out`"),
    (pair, (X3, X3 + 1), np.empty((2, 3)), "other parts"),
    (pair, (X3, X3 + 1), Other(np.empty(3), np.empty(3)), "other parts"),
    (tree, ({"a": X3, "b": X3 + 1},), {"a": np.empty(3)}, "other parts"),
    (tree, ({"a": X3, "b": X3 + 1},), {"a": np.empty(3), "b": None}, r"`out\['b'\]` is None"),
    (captured, (np.ones(2),), SCALES, "shares memory with an argument"),
]


@pytest.mark.parametrize("number", range(len(MISFITS)))
def test_misfits(number):
    function, args, out, words = MISFITS[number]
    gradient = grad(function)
    if words is None:  # None is no `out` at all
        assert gradient(*args, out=None).tolist() == gradient(*args).tolist()
        return
    for _ in range(2):
        with pytest.raises(FlatgradError, match=words) as caught:
            gradient(*args, out=out)
        assert caught.value.code == "bad-out"


def test_refused_on_the_fast_path_too():
    """That arrays are apart is tested at every call, not only where their shapes are new."""
    for backend in BACKENDS:
        gradient = grad(pair, backend=backend)
        x, y = X3 * 1, X3 + 1
        found = gradient(x, y, out=(np.empty(3), np.empty(3)))
        assert found.x.tolist() == (y * y).tolist()
        for out in ((x, np.empty(3)), (np.empty(3), y), (found.x, found.x)):
            with pytest.raises(FlatgradError, match="shares memory"):
                gradient(x, y, out=out)
        assert x.tolist() == X3.tolist()


def test_numba_asks_for_contiguous_places():
    gradient = grad(squares, backend="numba")
    with pytest.raises(FlatgradError, match="not contiguous"):
        gradient(X3, out=np.empty(6)[::2])


def test_a_parameter_called_out_is_the_functions_own():
    gradient = grad(lambda x, out: np.sum(x * x * out), "x")
    assert gradient(X3, out=np.ones(3)).tolist() == [2, 4, 6]


def test_vjp_has_no_out():
    with pytest.raises(TypeError, match="out"):
        vjp(squares, X3, out=np.empty(3))


def test_signature_and_keywords():
    def f(x, /, y=2.0, *, z=3.0):
        return np.sum(x * y * z)

    gradient = grad(f, "x")
    assert inspect.signature(gradient) == inspect.signature(f)
    place = np.empty(3)
    assert gradient(X3, z=5.0, out=place) is place
    assert place.tolist() == [10, 10, 10]
    assert gradient(X3, 1.0, out=place).tolist() == [3, 3, 3]


def test_values_that_become_static_and_captures_that_change(monkeypatch):
    """What sends an ordinary call back to the compiler does so here."""
    gradient = grad(lambda x, axis: np.sum(np.max(x, axis=axis)), "x")
    x, place = np.array([[1.0, 5.0], [3.0, 2.0]]), np.empty((2, 2))
    assert gradient(x, 0, out=place).tolist() == [[0, 1], [1, 0]]
    assert gradient(x, 1, out=place).tolist() == [[0, 1], [1, 0]]
    power = grad(lambda x, n: np.sum(x**EXPONENT) * n, "x")
    place = np.empty(3)
    assert power(X3, 1, out=place).tolist() == [2, 4, 6]
    monkeypatch.setitem(globals(), "EXPONENT", 3)
    assert power(X3, 1, out=place).tolist() == [3, 12, 27]
    scaled = grad(captured)
    place = np.empty(2)
    assert scaled(np.ones(2), out=place).tolist() == [2, 4]
    monkeypatch.setitem(globals(), "SCALES", np.array([3.0, 4.0]))
    assert scaled(np.ones(2), out=place).tolist() == [6, 8]


EXPONENT = 2


def test_second_derivative():
    curvature = grad(lambda x: np.sum(grad(lambda x: np.sum(x**3))(x)))
    place = np.empty(3)
    assert curvature(X3, out=place) is place
    np.testing.assert_allclose(place, 6 * X3)
