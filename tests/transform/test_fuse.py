"""Loop nests: the same results as the statements they replace, and what they look like."""

from __future__ import annotations

import textwrap
import warnings

import numpy as np
import pytest

import flatgrad.primitives.rules  # noqa: F401
from flatgrad import grad, sigmoid, value_and_grad
from flatgrad.backends import python
from flatgrad.codegen.module import build_module
from flatgrad.codegen.numba_dialect import NumbaDialect
from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import Apply, blocks_of, substitute
from flatgrad.ir.verify import verify
from flatgrad.transform.fuse import fuse
from flatgrad.transform.fuse_groups import Grouping
from flatgrad.transform.fuse_spaces import Lengths
from tests.emitted import floats_of, graph_of, leaves

RNG = np.random.default_rng(5)


def A(*shape, dtype="float64"):
    return RNG.normal(size=shape).astype(dtype)


def chain(x):
    return np.sum(np.tanh(x) * np.exp(-x * x) + np.log1p(x * x))


def softmax_cross_entropy(X, W, Y):
    z = X @ W
    m = np.max(z, axis=1, keepdims=True)
    e = np.exp(z - m)
    log_p = z - m - np.log(np.sum(e, axis=1, keepdims=True))
    return -np.mean(np.sum(Y * log_p, axis=1))


def layer_norm(x, g, b):
    d = x - np.mean(x, axis=1, keepdims=True)
    v = np.mean(d * d, axis=1, keepdims=True)
    return np.sum((d / np.sqrt(v + 1e-5) * g + b) ** 3)


def over_last_two(x):
    p = np.exp(x) / np.sum(np.exp(x), axis=(1, 2), keepdims=True)
    return np.sum(p * p)


def middle_axis(x):
    return np.sum(np.tanh(x).sum(axis=1) ** 2)


def net(X, W, b, V):
    h = np.maximum(X @ W + b, 0.0)
    return np.mean((h @ V) ** 2)


def row_weights(x, w):
    r = np.sum(x * x, axis=1)
    return np.sum(np.sqrt(r + 1.0) * w)


def vector_then_matrix(x):
    s = np.sum(np.sin(x), axis=1)
    return np.sum(x * s[:, None] + s)


def in_a_loop(x, w, n):
    h = np.zeros_like(x)
    for _ in range(n):
        h = np.tanh(w * x + h) * sigmoid(h)
    return np.sum(h * h)


def accumulated_in_a_loop(x, n):
    total = np.zeros_like(x)
    for k in range(n):
        total = total + np.sin(x * k) * x
    return np.sum(total)


def in_branches(x, c):
    if c > 0:
        y = np.exp(x) * x
    else:
        y = np.sin(x) + np.cos(x)
    return np.sum(y * y)


def written_between(x):
    y = np.sin(x) * x
    y[0] = 0.0
    z = np.cos(y) + x
    y[1:] = z[1:] * 2.0
    return np.sum(y * z)


def chosen(x):
    y = np.where(x > 0, np.log(np.where(x > 0, x, 1.0)), -x)
    return np.sum(np.clip(y, -0.5, 0.5) * np.abs(x))


def extremes(x):
    return np.sum(np.max(x * 2.0, axis=0) - np.min(np.sin(x), axis=0)) + np.max(np.exp(x))


def slices(u):
    d = (u[2:] - 2 * u[1:-1] + u[:-2]) * np.exp(u[1:-1])
    return np.sum(d * d)


def several_sums(x, y):
    a = np.sum(x * y)
    b = np.sum(x * x)
    c = np.mean(np.exp(x) * y)
    return a / b + c


def dependent_sums(x):
    """The second nest needs a sum of the first."""
    m = np.mean(x * x)
    d = np.exp(x - m)
    return np.sum(d * d) / np.sum(d)


def as_numbers(x, s):
    return np.sum(s * x + x / s) * s


def broadcasts(a, b, c):
    return np.sum(np.sin(a) * b + c) + np.sum(np.cos(b) * c)


PROGRAMS = {
    "chain": (chain, (A(7),)),
    "chain_2d": (chain, (A(3, 4),)),
    "chain_3d": (chain, (A(3, 2, 4),)),
    "chain_f32": (chain, (A(7, dtype="float32"),)),
    "chain_one": (chain, (A(1),)),
    "chain_row": (chain, (A(1, 5),)),
    "chain_column": (chain, (A(5, 1),)),
    "chain_strided": (chain, (A(6, 4)[::2, ::-1],)),
    "chain_transposed": (chain, (A(3, 4).T,)),
    "chain_empty": (chain, (A(0),)),
    "chain_empty_rows": (chain, (A(0, 3),)),
    "softmax_cross_entropy": (softmax_cross_entropy, (A(5, 3), A(3, 4), A(5, 4))),
    "softmax_one_class": (softmax_cross_entropy, (A(5, 3), A(3, 1), A(5, 1))),
    "rows_empty": (row_weights, (A(0, 3), A(0))),
    "columns_empty": (row_weights, (A(3, 0), A(3))),
    "softmax_f32": (
        softmax_cross_entropy,
        (A(5, 3, dtype="float32"), A(3, 4, dtype="float32"), A(5, 4, dtype="float32")),
    ),
    "layer_norm": (layer_norm, (A(4, 6), A(6), A(6))),
    "layer_norm_f32": (
        layer_norm, (A(4, 6, dtype="float32"), A(6, dtype="float32"), A(6, dtype="float32")),
    ),
    "over_last_two": (over_last_two, (A(2, 3, 4),)),
    "middle_axis": (middle_axis, (A(2, 3, 4),)),
    "net": (net, (A(5, 3), A(3, 4), A(4), A(4, 2))),
    "row_weights": (row_weights, (A(5, 3), A(5))),
    "row_weights_square": (row_weights, (A(4, 4), A(4))),
    "vector_then_matrix": (vector_then_matrix, (A(4, 4),)),
    "in_a_loop": (in_a_loop, (A(4), A(4), 3)),
    "accumulated_in_a_loop": (accumulated_in_a_loop, (A(4), 3)),
    "in_branches": (in_branches, (A(4), 1.0)),
    "written_between": (written_between, (A(5),)),
    "chosen": (chosen, (A(9),)),
    "extremes": (extremes, (A(4, 3),)),
    "slices": (slices, (A(9),)),
    "several_sums": (several_sums, (A(6), A(6))),
    "dependent_sums": (dependent_sums, (A(6),)),
    "as_numbers": (as_numbers, (A(6), 1.5)),
    "broadcast_rows": (broadcasts, (A(4, 3), A(3), A(4, 1))),
    "broadcast_ones": (broadcasts, (A(1, 3), A(4, 1), A(1))),
    "broadcast_ranks": (broadcasts, (A(2, 1, 3), A(4, 1), A(3))),
}  # fmt: skip


def calls(block):
    """How many nests are called."""
    count = 0
    for op in block.ops:
        count += isinstance(op, Apply) and op.primitive.body is not None
        count += sum(calls(inner) for inner in blocks_of(op))
    return count


def copies(args):
    return [np.array(arg) if isinstance(arg, np.ndarray) else arg for arg in args]


@pytest.mark.parametrize("name", PROGRAMS)
def test_same_results(name, monkeypatch):
    """By the interpreter, and as Numba's text run as plain Python; arguments are not changed."""
    monkeypatch.setattr("numba.njit", lambda *args, **kwargs: lambda function: function)
    f, args = PROGRAMS[name]
    graph = graph_of(f, args)
    fused = fuse(graph)
    verify(fused)
    assert calls(fused.body) > 0
    given = copies(args)
    precision = {"rtol": 3e-5, "atol": 1e-6} if "f32" in name else {"rtol": 1e-11, "atol": 1e-13}
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = interpret(graph, copies(args))
        looped = interpret(fused, given)
        text = build_module(fused, "derived", NumbaDialect()).text
        found = python.load("derived", text, {}).derived(*given)
    expected = leaves(substitute(graph.tree, expected.__getitem__))
    looped = leaves(substitute(fused.tree, looped.__getitem__))
    for one, other, run in zip(expected, looped, leaves(found), strict=True):
        assert np.shape(one) == np.shape(other) == np.shape(run)
        np.testing.assert_allclose(other, one, **precision)
        np.testing.assert_allclose(run, one, err_msg=text, **precision)
        if np.ndim(one):
            assert other.dtype == one.dtype == run.dtype
    for one, other in zip(given, args, strict=True):
        np.testing.assert_array_equal(one, other)


COMPILED = ["chain", "chain_strided", "softmax_cross_entropy", "layer_norm_f32", "in_a_loop"]


@pytest.mark.parametrize("name", COMPILED)
def test_compiled(name):
    f, args = PROGRAMS[name]
    floats = floats_of(f, args)
    value, grads = value_and_grad(f, argnums=floats, backend="numba")(*args)
    expected, others = value_and_grad(f, argnums=floats)(*args)
    precision = {"rtol": 1e-4, "atol": 1e-6} if "f32" in name else {"rtol": 1e-10, "atol": 1e-13}
    np.testing.assert_allclose(value, expected, **precision)
    for one, other in zip(leaves(grads), leaves(others), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, **precision)


def test_nan_and_inf():
    """What NumPy makes of them, the nests make of them."""
    x = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e308, 5e-324, 1.0])

    def f(x):
        return np.sum(np.maximum(x, 0.0) + x / (x * x)), np.max(x * 2.0), np.exp(x) * x

    def with_extremes(x):
        y = x * 3.0
        return np.sum(np.minimum(x, 1.0) * y) + np.max(y) + np.min(y - 1.0)

    for g in (lambda x: f(x)[0], lambda x: np.sum(f(x)[2]), with_extremes):
        for given in (x, x[:4], x[5:], np.array([1.0, np.nan, 2.0]), np.array([np.nan, 5.0])):
            with np.errstate(all="ignore"):
                expected = value_and_grad(g)(given)
                found = value_and_grad(g, backend="numba")(given)
            np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
            np.testing.assert_allclose(found[1], expected[1], rtol=1e-12)


def test_a_maximum_of_nothing_is_refused():
    def f(x):
        return np.max(np.exp(x) * x)

    derived = grad(f, backend="numba")
    assert derived(np.array([1.0, 2.0]))[0] == 0.0
    with pytest.raises(ValueError, match="no elements"):
        derived(np.zeros(0))


def test_lengths_are_checked_where_only_running_tells():
    def f(x, y):
        return np.sum(np.exp(x[x > 0]) * y)

    derived = grad(f, backend="numba")
    x = np.array([1.0, -1.0, 2.0])
    np.testing.assert_allclose(derived(x, np.ones(2))[1], np.exp([1.0, 2.0]))
    with pytest.raises(ValueError, match="broadcast"):
        derived(x, np.ones(3))


def test_results_of_one_nest_share_no_memory():
    def f(x):
        return np.sum((x + 1.0) * np.exp(x))

    x = A(5)
    given = x.copy()
    _, grad_x = value_and_grad(f, backend="numba")(given)
    grad_x[:] = 0.0
    np.testing.assert_array_equal(given, x)


def test_no_group_across_what_depends_on_it():
    """`r` needs all of `s`, and is needed by the elements: two nests."""

    def f(x):
        s = np.sum(np.exp(x))
        r = np.sqrt(s) + 1.0
        return np.sum(np.sin(x) * r)

    graph = graph_of(f, (A(4),))
    groups = Grouping(graph.body, Lengths(graph)).groups
    made = [{member.op.result.name for member in group.members} for group in groups]
    assert len([one for one in made if len(one) > 1]) >= 2
    assert not any("s" in one and "value" in one for one in made)


def nests(f, *args):
    """The text of the nests, without their decorators, and of the function."""
    graph = fuse(graph_of(f, args))
    return build_module(graph, f"{f.__name__}_value_and_grad", NumbaDialect()).function_text


def test_functions_that_vectorise():
    """Nests call functions without branches, in the dtype of the data; other code calls libm's."""

    def f(x, y):
        return np.sum(np.exp(x) * np.tanh(x)) * np.exp(y) + np.sum(np.sin(x) ** 3)

    text = build_module(fuse(graph_of(f, (A(3), 0.5))), "derived", NumbaDialect()).text
    for part in ("exp_f64(x_i)", "def exp_f64(x):", "tanh_f64(x_i)", "sin_f64(x_i)", "np.exp(y)"):
        assert part in text
    single = fuse(graph_of(chain, (A(3, dtype="float32"),)))
    assert "exp_f32(" in build_module(single, "derived", NumbaDialect()).text


def test_text_of_a_map_and_its_sum():
    def weighted(x, w):
        u = w * x
        L = np.sum(np.sin(u))
        return L

    assert nests(weighted, A(3), A(3)) == textwrap.dedent('''\
        @numba.njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"})
        def L_loop(w, x):
            if x.shape[0] != w.shape[0]:
                raise ValueError('operands could not be broadcast together')
            grad_w = np.empty(w.shape)
            grad_x = np.empty(w.shape)
            L = 0.0
            for i in range(w.shape[0]):
                w_i = w[i]
                x_i = x[i]
                u_i = w_i * x_i
                L = plus(L, sin_f64(u_i))
                grad_u_cos_i = cos_f64(u_i)
                grad_w[i] = grad_u_cos_i * x_i
                grad_x[i] = grad_u_cos_i * w_i
            return L, grad_w, grad_x


        @numba.njit(cache=True, error_model="numpy", boundscheck=True)
        def weighted_value_and_grad(x, w):
            L, grad_w, grad_x = L_loop(w, x)
            return L, (grad_x, grad_w)
        ''')


def test_text_of_sums_of_rows():
    def spread(x):
        m = np.mean(x, axis=1, keepdims=True)
        L = np.sum((x - m) ** 2)
        return L

    assert nests(spread, A(3, 4)) == textwrap.dedent('''\
        @numba.njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"})
        def L_loop(x, grad_L_diff_prod):
            grad_x = np.empty(x.shape)
            L = 0.0
            for i in range(x.shape[0]):
                x_row = x[i]
                m_i = 0.0
                for j in range(x.shape[1]):
                    m_i = plus(m_i, x_row[j])
                m_i = m_i / x.shape[1]
                grad_m_total_i = 0.0
                for j in range(x.shape[1]):
                    L_diff_ij = x_row[j] - m_i
                    L = plus(L, L_diff_ij ** 2)
                    grad_m_total_i = plus(grad_m_total_i, grad_L_diff_prod * L_diff_ij)
                grad_m_i = -grad_m_total_i
                grad_x_ratio_i = grad_m_i / x.shape[1]
                for j in range(x.shape[1]):
                    grad_x_ij = grad_L_diff_prod * (x_row[j] - m_i) + grad_x_ratio_i
                    grad_x[i, j] = grad_x_ij
            return L, grad_x


        @numba.njit(cache=True, error_model="numpy", boundscheck=True)
        def spread_value_and_grad(x):
            grad_L = 1.0
            L, grad_x = L_loop(x, grad_L * 2)
            return L, grad_x
        ''')
