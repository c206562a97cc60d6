"""Products that leave loops: the same results, and where they stand then."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import flatgrad.primitives.rules  # noqa: F401
from flatgrad import checkpoint, grad, sigmoid, value_and_grad, vjp
from flatgrad.backends import python
from flatgrad.codegen.module import build_module
from flatgrad.codegen.numba_dialect import NumbaDialect
from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import substitute
from flatgrad.ir.verify import verify
from flatgrad.transform.products_after import products_after_loops
from flatgrad.transform.products_before import products_before_loops
from tests.emitted import floats_of, graph_of, leaves

RNG = np.random.default_rng(7)
CASES = {}


def A(*shape, dtype="float64"):
    return RNG.normal(size=shape).astype(dtype)


def case(*args, has=(), lacks=(), name=""):
    """`has` and `lacks` are pieces of the text for Numba with products outside of loops."""

    def note(function):
        CASES[function.__name__ + name] = function, args, has, lacks
        return function

    return note


@case(A(3, 4), A(4, 4), A(4), A(5, 3), lacks=["outer", "xs[t] @"],
      has=["xs_Wx = xs @ Wx", "xs_Wx[t] + h @ Wh", "xs.T @", "h_tape[:xs.shape[0]].T @"])
@case(A(3, 4), A(4, 4), A(4), A(0, 3), name="_no_trips", has=["xs.T @"])
@case(A(3, 4), A(4, 4), A(4), A(1, 3), name="_one_trip", has=["xs.T @"])
@case(A(3, 1), A(1, 1), A(1), A(5, 3), name="_one_unit", has=["outer"])
@case(A(3, 4, dtype="float32"), A(4, 4, dtype="float32"), A(4, dtype="float32"),
      A(5, 3, dtype="float32"), name="_f32", has=["xs.T @", "np.float32"])  # fmt: skip
@case(A(3, 4), A(4, 4), A(4), A(10, 6)[::2, ::-2], name="_strided", has=["xs.T @"])
@case(A(3, 4), A(4, 4), A(4), A(5, 2, 3), name="_batch", has=["reshape_3d(xs", "xs_Wx[t]"],
      lacks=["h.T @"])
@case(A(3, 4), A(4, 4), A(4), A(0, 2, 3), name="_batch_no_trips", has=["reshape_3d(xs"])
@case(A(3, 4), A(4, 4), A(4), A(5, 0, 3), name="_empty_batch", has=["reshape_3d(xs"])
def recurrent(Wx, Wh, b, xs):
    h = np.zeros(xs.shape[1:-1] + Wh.shape[:1])
    for t in range(len(xs)):
        h = np.tanh(xs[t] @ Wx + h @ Wh + b)
    return np.sum(h * h)


@case(A(3, 16), A(4, 16), A(16), A(5, 3), A(4), has=["xs.T @ grad_z_rows"], lacks=["grad_b +="])
@case(A(3, 16), A(4, 16), A(16), A(5, 2, 3), A(2, 4), name="_batch", has=["grad_z_rows[t] = "])
def lstm(Wx, Wh, b, xs, target):
    H = Wh.shape[0]
    h = np.zeros(target.shape)
    c = np.zeros(target.shape)
    for t in range(len(xs)):
        z = xs[t] @ Wx + h @ Wh + b
        i, f, o = sigmoid(z[..., :H]), sigmoid(z[..., H : 2 * H]), sigmoid(z[..., 2 * H : 3 * H])
        c = f * c + i * np.tanh(z[..., 3 * H :])
        h = o * np.tanh(c)
    return np.sum((h - target) ** 2)


@case(A(4, 4), A(4), 3, has=["x_tape[:n]"], lacks=["add_outer"])
def power_iteration(W, x, n):
    for _ in range(n):
        x = np.tanh(W @ x)
    return np.sum(x)


@case(A(4, 4), A(4, 4), A(6, 4), 5, has=["xs_rows[t - 1] = xs[t]", "h_tape["], lacks=["add_outer"])
def some_rows(W, V, xs, n):
    """Fewer trips than rows: each row is kept when it is read, so that a wrong index is an error."""
    h = np.zeros(4)
    for t in range(1, n):
        h = np.tanh(W @ h + V @ xs[t])
    return np.sum(h)


@case(A(4, 4), A(6, 4), lacks=["add_outer"])
def downwards(W, xs):
    h = np.zeros(4)
    for t in range(len(xs) - 1, -1, -1):
        h = np.tanh(W @ h + xs[t])
    return np.sum(h)


@case(A(4, 4), A(6, 4), has=["rows[t"], lacks=["add_outer"])
def around_the_end(W, x_tape):
    """The user's own array with the name of a tape, read from its last rows on."""
    h = np.zeros(4)
    for t in range(-2, 3):
        h = np.tanh(W @ x_tape[t + 1] + h * x_tape[t])
    return np.sum(h)


@case(A(4, 4), A(7, 4), has=["add_outer"])
def every_other(W, xs):
    h = np.zeros(4)
    for t in range(0, len(xs), 2):
        h = np.tanh(W @ h + xs[t])
    return np.sum(h)


@case(A(3, 3), A(3), lacks=["add_outer"])
def ends_early(W, x):
    """The number of trips is known at the end: the tape grows."""
    k = 0
    while k < 9:
        x = np.tanh(W @ x) * 0.9
        k = k + 1
        if np.sum(x * x) < 0.05:
            break
    return np.sum(x)


@case(A(3, 3), A(3), lacks=["add_outer"])
def twice_in_a_trip(W, x):
    for _ in range(4):
        x = np.tanh(W @ np.sin(W @ x))
    return np.sum(x)


@case(A(3, 3), A(3), has=["add_outer"])
def in_a_branch(W, x):
    for k in range(4):
        if k % 2 == 0:
            x = np.tanh(W @ x)
    return np.sum(x)


@case(A(3, 3), A(4, 3), 3, lacks=["add_outer"])
def epochs(W, xs, n):
    h = np.zeros(3)
    for _ in range(n):
        for t in range(len(xs)):
            h = np.tanh(W @ h + xs[t])
        h = 0.5 * h
    return np.sum(h)


@case(A(3, 3), A(3), 7, lacks=["add_outer"])
def segments(W, x, n):
    for _ in checkpoint(range(n)):
        x = np.tanh(W @ x)
    return np.sum(x)


@case(A(3, 3), A(3), 7, has=["add_outer"])
def snapshots(W, x, n):
    for _ in checkpoint(range(n), snapshots=2):
        x = np.tanh(W @ x)
    return np.sum(x)


@case(A(3, 3), A(5, 3), lacks=["grad_W = xs"])
def written_rows(W, xs):
    """The rows that are factors are not those at the end."""
    xs = xs.copy()
    h = np.zeros(3)
    for t in range(len(xs)):
        h = np.tanh(W @ xs[t] + h)
        xs[t] = h * 2.0
    return np.sum(h) + np.sum(xs * xs)


@case(A(3, 3), A(5, 3), has=["add_outer"])
def read_on_the_way(W, xs):
    """The user's own sum, which each trip reads."""
    G = np.zeros((3, 3))
    total = 0.0
    for t in range(len(xs)):
        G = G + np.outer(W @ xs[t], xs[t])
        total = total + np.sum(G * G)
    return total


@case(A(3, 3), A(5, 3), lacks=["add_outer"])
def starts_from_another(W, xs):
    G = W * W
    for t in range(len(xs)):
        G = G + np.outer(np.sin(xs[t]), xs[t])
    return np.sum(G * G)


@case(A(4, 3), A(4), has=["grad_W + np.outer"])
def linear(W, x):
    """Nothing is kept of the trips, and nothing will be."""
    y = np.zeros(3)
    for k in range(5):
        y = y * 0.5 + np.sin(x * k) @ W
    return np.sum(y * y)


@case(A(4, 3), A(5, 3), has=["xs_V = xs @ V.T", "xs_V[t]"])
def matrix_on_the_left(V, xs):
    h = np.zeros(4)
    for t in range(len(xs)):
        h = np.tanh(np.dot(V, xs[t]) + 0.5 * h)
    return np.sum(h)


@case(A(3, 4), A(2, 5, 3), has=["xs_W = matmul_3d_2d(xs, W)", "xs_W_1 = xs_W[k]"])
def rows_of_rows(W, xs):
    h = np.zeros(4)
    for k in range(xs.shape[0]):
        for t in range(xs.shape[1]):
            h = np.tanh(xs[k, t] @ W + h)
    return np.sum(h)


@case(A(3, 4), A(5, 3), has=["z = xs_W[t]"])
def written_after(W, xs):
    """The product is an array of its own, in which the user writes."""
    h = np.zeros(4)
    for t in range(len(xs)):
        z = xs[t] @ W
        z[0] = h[1] * z[1]
        z *= 2.0
        h = np.tanh(z)
    return np.sum(h)


@case(A(3, 3), A(5, 3), lacks=["xs @"])
def changing_matrix(W, xs):
    h = np.zeros(3)
    for t in range(len(xs)):
        h = h + xs[t] @ W
        W = W * 0.9
    return np.sum(h * h)


@case(A(3, 3), A(5, 3), lacks=["xs @"])
def not_in_every_trip(W, xs):
    h = np.zeros(3)
    for t in range(len(xs)):
        if h[0] < 0.5:
            h = np.tanh(h + xs[t] @ W)
    return np.sum(h)


@case(A(3, 3), A(5, 3), lacks=["xs @"])
def perhaps_not_all(W, xs):
    h = np.zeros(3)
    for t in range(len(xs)):
        h = np.tanh(h + xs[t] @ W)
        if h[0] > 0.5:
            break
    return np.sum(h)


@case(A(3, 3), A(5, 3), lacks=["xs @"])
def rows_that_change(W, xs):
    xs = xs.copy()
    h = np.zeros(3)
    for t in range(len(xs)):
        xs[t, 0] = h[1]
        h = np.tanh(h + xs[t] @ W)
    return np.sum(h)


def copies(args):
    return [np.array(arg) if isinstance(arg, np.ndarray) else arg for arg in args]


def text_of(graph):
    return build_module(graph, "derived", NumbaDialect()).text


def same(one, other, text=""):
    """Equal up to the order of summation, with the same dtype and shape."""
    single = np.asarray(one).dtype == np.float32
    precision = {"rtol": 3e-5, "atol": 1e-6} if single else {"rtol": 1e-10, "atol": 1e-13}
    assert np.shape(one) == np.shape(other), text
    assert np.asarray(one).dtype == np.asarray(other).dtype, text
    np.testing.assert_allclose(other, one, err_msg=text, **precision)


@pytest.mark.parametrize("name", CASES)
def test_same_results(name, monkeypatch):
    """By the interpreter, and as Numba's text run as plain Python; arguments are not changed."""
    monkeypatch.setattr("numba.njit", lambda *args, **kwargs: lambda function: function)
    f, args, has, lacks = CASES[name]
    graph = graph_of(f, args)
    early = products_before_loops(graph)
    verify(early)
    moved = products_after_loops(early)
    verify(moved)
    text = text_of(moved)
    assert not [piece for piece in has if piece not in text], text
    assert not [piece for piece in lacks if piece in text], text
    given = copies(args)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = interpret(graph, copies(args))
        found = interpret(moved, given)
        before = interpret(early, given)
        run = python.load("derived", text, {}).derived(*given)
    expected = leaves(substitute(graph.tree, expected.__getitem__))
    found = leaves(substitute(moved.tree, found.__getitem__))
    before = leaves(substitute(early.tree, before.__getitem__))
    for one, *others in zip(expected, before, found, leaves(run), strict=True):
        for other in others:
            same(one, other, text)
    for one, other in zip(given, args, strict=True):
        np.testing.assert_array_equal(one, other)


COMPILED = ["recurrent_no_trips", "recurrent_empty_batch", "epochs", "some_rows", "rows_of_rows"]


@pytest.mark.parametrize("name", COMPILED)
def test_compiled(name):
    f, args, _, _ = CASES[name]
    floats = floats_of(f, args)
    value, grads = value_and_grad(f, argnums=floats, backend="numba")(*args)
    expected, others = value_and_grad(f, argnums=floats)(*args)
    same(expected, value)
    for one, other in zip(leaves(others), leaves(grads), strict=True):
        same(one, other)


def test_an_index_out_of_range_is_an_error_still():
    def f(W, xs, n):
        total = 0.0
        for t in range(n):
            total = total + np.sum(W @ xs[t])
        return total

    derived = grad(f, argnums="W", backend="numba")
    W, xs = A(3, 3), A(4, 3)
    np.testing.assert_allclose(derived(W, xs, 3), np.outer(np.ones(3), xs[:3].sum(axis=0)))
    with pytest.raises(IndexError):
        derived(W, xs, 5)


def test_pullbacks_have_it_too():
    f, args, _, _ = CASES["recurrent"]
    value, pull = vjp(f, *args, backend="numba")
    expected, other = vjp(f, *args)
    same(expected, value)
    for one, two in zip(other(2.0), pull(2.0), strict=True):
        same(one, two)


def test_numpy_keeps_the_sums_in_the_loop():
    f, args, _, _ = CASES["recurrent"]
    derived = grad(f)
    derived(*args)
    assert "grad_Wh += np.outer(h, grad_h_sum)" in derived.source()
