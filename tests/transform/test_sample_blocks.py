"""Blocks of samples: the same results, where there are some, and what the text looks like."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import flatgrad.primitives.rules  # noqa: F401
from benchmarks.adbench import gmm
from flatgrad import grad, value_and_grad
from flatgrad.backends import python
from flatgrad.backends.numba_workspace import kept
from flatgrad.codegen.module import build_module
from flatgrad.codegen.numba_dialect import NumbaDialect
from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import substitute
from flatgrad.ir.verify import verify
from flatgrad.primitives.segments import block_size
from flatgrad.transform.batch_loops import batch_loops
from flatgrad.transform.fuse import fuse
from flatgrad.transform.sample_blocks import sample_blocks
from tests.emitted import graph_of, leaves, plain_text
from tests.transform.random_samples import KINDS, outcome, single

RNG = np.random.default_rng(5)
CASES = {}


def A(*shape, dtype="float64"):
    return RNG.normal(size=shape).astype(dtype)


def case(*args, blocks=True, has=(), name=""):
    def note(function):
        CASES[function.__name__ + name] = function, args, blocks, has
        return function

    return note


@case(*gmm.arguments(7, 3, 4), has=["x_block_T", "for attempt in range(2):", " = grad_y @ ("])
@case(*gmm.arguments(7, 3, 1), name="_one_component", blocks=False)
@case(*gmm.arguments(1, 3, 2), name="_one_point", blocks=False)
@case(*gmm.arguments(0, 3, 2), name="_no_points")
@case(*gmm.arguments(2, 3, 2), name="_two_points")
def mixture(alphas, means, icf, x):
    rows, columns = np.array([1, 2, 2]), np.array([0, 0, 1])
    return gmm.arrays(alphas, means, icf, x, 1.0, 0.0, 0.5, rows, columns)


def gates(scores):
    e = np.exp(scores - np.max(scores, axis=1, keepdims=True))
    return e / np.sum(e, axis=1, keepdims=True)


@case(A(3, 4, 4), A(7, 4), A(3, 4), A(7), has=["(grad_x * inverse).T"])
@case(A(3, 4, 4), A(5, 8)[:, ::2], A(4, 3).T, A(10)[::2], name="_strided")
def experts(W, x, b, target):
    """A softmax over experts, and gradients of each sample."""
    h = np.einsum("kab,nkb->nka", W, x[:, None, :] + b)
    p = gates(np.sum(h, axis=2))
    y = np.sum(p * np.sum(np.tanh(h), axis=2), axis=1)
    return np.sum((y - target) ** 2)


@case(A(3, 4, 4), A(7, 4), A(3, 4), 1.0, has=["for attempt in range(2):", "* inverse"])
@case(A(3, 4, 4), A(7, 4), A(3, 4), 1e220, name="_overflows")
@case(A(3, 4, 4), A(7, 4), A(3, 4), 1e-300, name="_tiny")
@case(A(3, 4, 4), A(7, 4), A(3, 4), 0.0, name="_zero")
@case(A(3, 4, 4), np.full((5, 4), np.nan), A(3, 4), 1.0, name="_nan")
@case(A(3, 4, 4) * 8, A(7, 4), A(3, 4), 1.0, name="_far")
def kernel(F, x, m, factor):
    y = np.einsum("kab,nkb->nka", F, x[:, None, :] - m)
    e = np.exp(-np.sum(y * y, axis=2))
    return factor * np.sum(np.sqrt(1e-300 + np.sum(e * np.sum(y, axis=2) ** 2, axis=1)[:, None] * e))


@case(A(3, 4, 4), A(7, 4), A(3, 4), has=["times_tiny_left("])
def adjoints_of_two_kinds(F, x, m):
    """What is added to each adjoint is no adjoint of the loop: the seed stays as it is."""
    y = np.einsum("kab,nkb->nka", F, x[:, None, :] - m)
    s = np.sum(np.exp(-np.sum(y * y, axis=2)), axis=1)
    return np.sum(np.cumsum(s)) + np.sum(y * s[:, None, None])


@case(A(3, 4, 4), A(6, 4), A(3, 4), blocks=False)
def nothing_meets(F, x, m):
    c = x[:, None, :] - m
    y = np.einsum("kab,nkb->nka", F, c)
    return 0.5 * np.sum(y * y)


@case(A(3, 4, 4), A(6, 4), A(3, 4), blocks=False)
def sum_that_is_read_again(F, x, m):
    """The samples are compared with their mean: two loops would be needed."""
    y = np.einsum("kab,nkb->nka", F, x[:, None, :] - m)
    s = gates(np.sum(y * y, axis=2))
    return np.sum((s - np.sum(s, axis=0)) ** 2)


@case(A(3, 4, 4), A(6, 4), A(3, 4), blocks=False)
def neighbours(F, x, m):
    """A sample is added to all later ones."""
    y = np.einsum("kab,nkb->nka", F, x[:, None, :] - m)
    s = gates(np.sum(y * y, axis=2))
    return np.sum(np.cumsum(np.max(s, axis=1)) * np.sum(s, axis=1))


@case(A(3, 4, 4), A(6, 4), A(3, 4), 2)
def in_a_loop(F, x, m, steps):
    total = 0.0
    for _ in range(steps):
        y = np.einsum("kab,nkb->nka", F, x[:, None, :] - m)
        s = gates(np.sum(y * y, axis=2))
        total += np.sum(s * s)
    return total


def copies(args):
    return [np.array(arg) if isinstance(arg, np.ndarray) else arg for arg in args]


@pytest.fixture
def two_in_a_block(monkeypatch):
    """Blocks of two samples, in the interpreter and in the text; the text as plain Python."""
    monkeypatch.setattr("numba.njit", lambda *args, **kwargs: lambda function: function)


def small(text):
    assert "max(256, 1572864 // max(row, 1))" in text or "block_size" not in text
    return text.replace("max(256, 1572864 // max(row, 1))", "2")


@pytest.mark.parametrize("name", CASES)
def test_same_results(name, two_in_a_block):
    """By the interpreter, and as Numba's text run as plain Python; arguments are not changed."""
    f, args, blocks, has = CASES[name]
    graph = graph_of(f, args)
    looped = batch_loops(sample_blocks(graph))
    verify(looped)
    fused = fuse(looped)
    verify(fused)
    given = copies(args)
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = interpret(graph, copies(args))
        found = interpret(looped, given)
        text = small(build_module(fused, "derived", NumbaDialect()).text)
        run = python.load("derived", text, {}).derived(*given)
    expected = leaves(substitute(graph.tree, expected.__getitem__))
    found = leaves(substitute(looped.tree, found.__getitem__))
    for one, other, third in zip(expected, found, leaves(run), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-11, atol=1e-12)
        np.testing.assert_allclose(third, one, rtol=1e-11, atol=1e-12, err_msg=text)
        if np.ndim(one):
            assert other.dtype == one.dtype == third.dtype
    for one, other in zip(given, args, strict=True):
        np.testing.assert_array_equal(one, other)
    main = text[text.index("def derived") :]
    assert ("block_size(" in main) == blocks, main
    assert all(piece in main for piece in has), main


def test_subnormal_weights_keep_their_digits():
    """The weight of a far sample is 1e-318, and its adjoint is multiplied by 1e300 afterwards."""

    def f(F, x, m):
        y = np.einsum("kab,nkb->nka", F, x[:, None, :] - m)
        e = np.exp(-0.5 * np.sum(y * y, axis=2))
        return np.sum(e * np.sum(e + 1, axis=1)[:, None])

    F, x, m = np.stack([np.eye(2)] * 2), np.array([[38.2, 0.5], [38.3, 0.1]]), np.zeros((2, 2))
    found = grad(f, "F", backend="numba")(F, x, m) * 1e300
    scaled = np.exp(-0.5 * np.sum(x * x, axis=1) + 700)[:, None, None]
    exact = np.sum(-2 * scaled * x[:, :, None] * x[:, None, :], axis=0) * np.exp(-700) * 1e300
    np.testing.assert_allclose(found, np.stack([exact] * 2), rtol=1e-5)


def test_no_parts_are_refused_without_samples_too(two_in_a_block):
    """A maximum over no components is an error, whether there are points or not."""
    args = gmm.arguments(0, 3, 2)
    fused = fuse(batch_loops(sample_blocks(graph_of(mixture, args))))
    text = small(build_module(fused, "derived", NumbaDialect()).text)
    run = python.load("derived", text, {}).derived
    for n in (0, 3):
        with pytest.raises(ValueError, match=r"no elements|zero-size"):
            run(*gmm.arguments(n, 3, 0))


def test_compiled():
    """More samples than a block has, of a size that is no multiple."""
    args = (A(40, 3, 3), A(1111, 3), A(40, 3), A(1111))
    derived = value_and_grad(experts, backend="numba")
    derived(*args)
    before = kept()
    value, grads = derived(*args)
    assert kept().taken > before.taken + 10  # the memory of the first call
    assert kept().asked == before.asked
    expected, others = value_and_grad(experts)(*args)
    np.testing.assert_allclose(value, expected, rtol=1e-11)
    for one, other in zip(leaves(tuple(grads)), leaves(tuple(others)), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-10)
        assert not any(np.shares_memory(one, arg) for arg in args)


def test_sizes_of_blocks():
    assert block_size(1000, 6400) == 250
    assert block_size(1000, 80) == 1000
    assert block_size(0, 80) == 1
    assert block_size(257, 10**9) == 129
    for samples in range(1, 3000, 37):
        size = block_size(samples, 8000)
        assert 1 <= size <= max(256, 1572864 // 8000)


def test_options_that_leave_the_statements():
    """Sums in blocks have another order, and threads have ranges of their own."""
    args = A(3, 4, 4), A(7, 4), A(3, 4), A(7)
    for options in ({"deterministic": True}, {"fuse": False}, {"parallel": True}):
        assert "block_size" not in grad(experts, backend="numba", **options).source(*args)


@pytest.mark.parametrize("seed", range(0, 60, 3))
def test_random_programs(seed, tmp_path, two_in_a_block):
    with np.errstate(all="ignore"):
        found = outcome(seed, tmp_path)
    assert found in KINDS, found


@pytest.mark.parametrize("seed", [5, 6, 15, 33])
def test_random_programs_in_float32(seed, tmp_path, two_in_a_block):
    with np.errstate(all="ignore"):
        found = single(seed, tmp_path)
    assert found in KINDS, found


def test_float32(two_in_a_block):
    """Sums over blocks in float64, rounded once; weights that float32 hardly holds."""

    def far(F, x, m, factor):
        y = np.einsum("kab,nkb->nka", F, x[:, None, :] - m)
        e = np.exp(-np.sum(y * y, axis=2) - 60.0)
        return factor * np.sum(np.log1p(np.sum(e * np.sum(y, axis=2) ** 2, axis=1)[:, None] + e))

    args = [np.float32(one) for one in (A(2, 3, 3), A(5, 3), A(2, 3), 1e-13)]
    derived = value_and_grad(far, argnums=(0, 1, 2), backend="numba")
    text = derived.source(*args)
    assert "block_size(" in text
    assert "scale = where_numbers(attempt == 0, 1.8446744073709552e+19, 1.0)" in text
    assert ".astype(np.float32)" in text
    run = python.load("far", small(plain_text(derived)), {}).far_value_and_grad
    found = leaves(run(*args))
    exact = value_and_grad(far, (0, 1, 2))(*[np.float64(one) for one in args])
    for one, true in zip(found[1:], exact[1], strict=True):
        assert one.dtype == np.float32
        assert 0 < np.max(np.abs(true)) < 1e-37
        np.testing.assert_allclose(one, true, rtol=1e-4, atol=1e-43)


def test_the_programs_reach_what_they_are_for(tmp_path, two_in_a_block):
    with np.errstate(all="ignore"):
        found = {outcome(seed, tmp_path) for seed in range(12)}
    assert "blocks" in found
