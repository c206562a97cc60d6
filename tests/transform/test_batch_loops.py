"""Products of many matrices as loops: the same results, and what the text looks like."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import flatgrad.primitives.rules  # noqa: F401
from benchmarks.adbench import gmm
from flatgrad import grad, value_and_grad
from flatgrad.backends import python
from flatgrad.codegen.module import build_module
from flatgrad.codegen.numba_dialect import NumbaDialect
from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import substitute
from flatgrad.ir.verify import verify
from flatgrad.transform.batch_loops import batch_loops
from flatgrad.transform.fuse import fuse
from tests.emitted import floats_of, graph_of, leaves
from tests.transform.random_batches import outcome, single

RNG = np.random.default_rng(11)
CASES = {}


def A(*shape, dtype="float64"):
    return RNG.normal(size=shape).astype(dtype)


def case(*args, loops=None, has=(), lacks=("einsum_",), name=""):
    """`loops` is how many loops over a batch there are."""

    def note(function):
        CASES[function.__name__ + name] = function, args, loops, has, lacks
        return function

    return note


@case(*gmm.arguments(7, 3, 4), loops=2, has=["y_rows[i] = y", "times_tiny_left(grad_y, "])
@case(*gmm.arguments(7, 3, 1), name="_one_component", loops=0, lacks=())
@case(*gmm.arguments(1, 3, 2), name="_one_point", loops=0, lacks=())
@case(*gmm.arguments(0, 3, 2), name="_no_points", loops=2)
def mixture(alphas, means, icf, x):
    rows, columns = np.array([1, 2, 2]), np.array([0, 0, 1])
    return gmm.arrays(alphas, means, icf, x, 1.0, 0.0, 0.5, rows, columns)


@case(A(3, 4, 4), A(6, 4), A(3, 4), loops=1, lacks=["einsum_", "_rows"])
@case(A(0, 4, 4), A(6, 4), A(0, 4), name="_none", loops=1)
@case(A(3, 4, 4), A(0, 4), A(3, 4), name="_no_points", loops=1)
@case(A(3, 4, 4)[::-1, :, ::-1], A(6, 8)[:, ::2], A(3, 4), name="_strided", loops=1)
@case(A(4, 4, 3).T, A(4, 6).T, A(4, 3).T, name="_transposed", loops=1)
@case(A(3, 1, 1), A(6, 1), A(3, 1), name="_units", loops=0, lacks=())
def mahalanobis(F, x, m):
    """Both sweeps in one loop; the gradient of x is a sum over it."""
    c = x[:, None, :] - m
    y = np.einsum("kab,nkb->nka", F, c)
    return 0.5 * np.sum(y * y)


@case(A(5, 2, 3), A(2, 3, 4), A(2, 4), A(5, 2, 4))
@case(A(1, 2, 3), A(2, 3, 4), A(2, 4), A(1, 2, 4), name="_one", loops=0, lacks=())
@case(A(0, 2, 3), A(2, 3, 4), A(2, 4), A(0, 2, 4), name="_none")
def linear_layers(x, W, b, target):
    h = np.tanh(np.einsum("nki,kio->nko", x, W) + b)
    return np.sum((h - target) ** 2)


@case(A(5, 2, 3), A(6, 2, 3), A(6, 2, 3))
@case(A(1, 2, 3), A(6, 2, 3), A(6, 2, 3), name="_one_query", loops=0, lacks=())
def attention(q, k, v):
    scores = np.einsum("thd,shd->hts", q, k) / np.sqrt(q.shape[2])
    e = np.exp(scores - np.max(scores, axis=2, keepdims=True))
    p = e / np.sum(e, axis=2, keepdims=True)
    y = np.einsum("hts,shd->thd", p, v)
    return np.sum(y * y)


@case(A(5, 2, 3), A(2, 3, 4), A(4, 3), lacks=())
def two_products(x, W, V):
    """The second product has no batch of its own."""
    h = np.einsum("nki,kio->nko", x, W)
    return np.sum(np.sin(h @ V) * x)


@case(A(5, 2, 3), A(2, 3, 4))
def product_that_is_returned(x, W):
    y = np.einsum("nki,kio->nko", x, W)
    s = np.sum(y, axis=(0, 2))
    return np.sum(np.exp(0.1 * s) * y[0, :, 0]) + np.sum(y[:, 1] ** 3)


@case(A(4, 2, 3), A(2, 3, 3), 3, lacks=())
def in_a_loop(x, W, n):
    for _ in range(n):
        y = np.einsum("nki,kio->nko", x, W)
        x = x + 0.1 * y / (1 + np.sum(y * y, axis=2, keepdims=True))
    return np.sum(x * x)


@case(A(4, 2, 3), A(2, 3, 3), lacks=())
def written_between(x, W):
    """The product that is read after the write is of the new array."""
    y = np.einsum("nki,kio->nko", x, W)
    W = W * 2.0
    W[0] = W[0] * W[1]
    z = np.einsum("nki,kio->nko", y, W)
    return np.sum(z * y)


@case(A(4, 2, 3, dtype="float32"), A(2, 3, 3, dtype="float32"), loops=1, lacks=(), has=("value_sum = 0.0",))
def narrow(x, W):
    return np.sum(np.einsum("nki,kio->nko", x, W) ** 2)


@case(A(4, 3, 3), A(4, 3), loops=0, lacks=())
def leading_batch(P, x):
    return np.sum(np.einsum("nij,nj->ni", P, x) * x)


@case(A(4, 3, 3), A(5, 3), loops=0, lacks=())
def diagonal(P, x):
    return np.sum(np.einsum("kaa,nka->nk", P, x[:, None, :] * np.ones((4, 1))))


@case(A(3, 3, 3), A(3, 3, 3), lacks=())
def one_length(x, W):
    """All axes have one length, and in y + x two of them are one."""
    y = np.einsum("nki,kio->nko", x, W)
    return np.sum((y + x) ** 2 * y)


def copies(args):
    return [np.array(arg) if isinstance(arg, np.ndarray) else arg for arg in args]


@pytest.mark.parametrize("name", CASES)
def test_same_results(name, as_text):
    """By the interpreter, and as Numba's text run as plain Python; arguments are not changed."""
    f, args, loops, has, lacks = CASES[name]
    graph = graph_of(f, args)
    looped = batch_loops(graph)
    verify(looped)
    verify(fuse(looped))
    given = copies(args)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = interpret(graph, copies(args))
        found = interpret(looped, given)
        text = build_module(looped, "derived", NumbaDialect()).text
        run = python.load("derived", text, {}).derived(*given)
    expected = leaves(substitute(graph.tree, expected.__getitem__))
    found = leaves(substitute(looped.tree, found.__getitem__))
    precision = {"rtol": 1e-5} if f is narrow else {"rtol": 1e-11, "atol": 1e-12}
    for one, other, third in zip(expected, found, leaves(run), strict=True):
        np.testing.assert_allclose(other, one, **precision)
        np.testing.assert_allclose(third, one, err_msg=text, **precision)
        if np.ndim(one):
            assert other.dtype == one.dtype == third.dtype
    for one, other in zip(given, args, strict=True):
        np.testing.assert_array_equal(one, other)
    main = text[text.index("def derived") :]
    if loops is not None:
        assert main.count("    for i in range(") == loops, main
    assert all(piece in main for piece in has), main
    assert not any(piece in main for piece in lacks), main


@pytest.fixture
def as_text(monkeypatch):
    monkeypatch.setattr("numba.njit", lambda *args, **kwargs: lambda function: function)


COMPILED = ["mixture", "mahalanobis_transposed", "linear_layers", "attention", "in_a_loop"]


@pytest.mark.parametrize("name", COMPILED)
def test_compiled(name):
    f, args, *_ = CASES[name]
    floats = floats_of(f, args)
    value, grads = value_and_grad(f, argnums=floats, backend="numba")(*args)
    expected, others = value_and_grad(f, argnums=floats)(*args)
    np.testing.assert_allclose(value, expected, rtol=1e-11)
    for one, other in zip(leaves(grads), leaves(others), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_options_that_leave_the_statements():
    """`deterministic` keeps the order of sums, `fuse=False` the array statements."""
    for options in ({"deterministic": True}, {"fuse": False}):
        text = grad(mahalanobis, backend="numba", **options).source(A(3, 4, 4), A(6, 4), A(3, 4))
        assert "einsum_kab_nkb_to_nka" in text


def test_lengths_that_differ(as_text):
    f = grad(mahalanobis, backend="numba")
    f(A(3, 4, 4), A(6, 4), A(3, 4))
    for args in ((A(2, 4, 4), A(6, 4), A(3, 4)), (A(3, 4, 4), A(6, 3), A(3, 4))):
        with pytest.raises(ValueError, match="length"):
            f(*args)


@pytest.mark.parametrize("seed", range(25))
def test_random_programs(seed, tmp_path, as_text):
    with np.errstate(all="ignore"):
        found = outcome(seed, tmp_path)
    assert not found.startswith("seed"), found


@pytest.mark.parametrize("seed", [2, 3, 7, 9])
def test_random_programs_in_float32(seed, tmp_path, as_text):
    with np.errstate(all="ignore"):
        found = single(seed, tmp_path)
    assert not found.startswith("seed"), found


def test_the_programs_reach_what_they_are_for(tmp_path, as_text):
    with np.errstate(all="ignore"):
        found = {outcome(seed, tmp_path) for seed in range(12)}
    assert "loops" in found
