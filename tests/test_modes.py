"""Tangents, pullbacks, Jacobians, Hessians and derivatives of derivatives, against differences.

Every program of PROGRAMS is taken through every mode; what it returns may have any rank.
"""

from __future__ import annotations

import inspect
import math
from typing import NamedTuple

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import (
    ArgumentError,
    FlatgradError,
    ShapeError,
    TypeInferenceError,
    grad,
    hessian,
    hvp,
    jacfwd,
    jacobian,
    jacrev,
    jvp,
    linearize,
    value_and_grad,
    value_and_jacobian,
    vjp,
)
from tests.mode_checks import close, copies, differences, directions, leaves, like, sum_of

RNG = np.random.default_rng(7)
X = RNG.uniform(0.5, 1.5, (3, 4))
W = RNG.uniform(0.5, 1.5, (4, 2))
B = RNG.uniform(0.5, 1.5, 2)
V = RNG.uniform(0.5, 1.5, 5)
S = RNG.uniform(-0.3, 0.3, (3, 3)) + 2 * np.eye(3)
IDS = np.array([0, 2, 2, 1])


def neuron(w, x):
    s = w * x
    L = fg.sigmoid(s)
    return L


def polynomial(x):
    y = x * x
    z = y * x + 2 * y
    return z


def elementwise(v):
    a = np.exp(-v) * np.sin(v)
    return a / (1 + v**2) + np.log(v) - np.sqrt(v)


def powers(v):
    return v**3 + 2**v + v ** (v / 2) + np.abs(v - 1)


def dense(x, w, b):
    s = x @ w + b
    return np.tanh(s)


def dense_loss(x, w, b):
    s = x @ w + b
    h = np.tanh(s)
    return np.mean(h * h) + 0.1 * np.sum(w**2)


def broadcasting(x, b):
    return x[:, :2] * b + b[0] - x.sum(axis=0, keepdims=True)[:, 2:]


def reductions(x):
    return np.mean(x, axis=0) * np.prod(x) + np.max(x, axis=0) - np.min(x)


def statistics(x):
    return np.var(x, axis=1) + np.std(x) + np.linalg.norm(x)


def cumulative(v):
    return np.cumsum(v)[::-1] * np.roll(v, 1)


def indexing(x):
    return x[1:, ::2] * x[0, 1] + x[[0, 2], 1:3]


def gathered(v):
    return v[IDS] * v[0]


def writes(x):
    y = x.copy()
    y[1] = x[0] * x[2]
    y[:, 2] += 2 * x[:, 0]
    y *= x
    return y


def writes_views(v):
    a = np.zeros(6)
    b = a[1:]
    b[...] = v * v
    a[0] = b[2] * v[1]
    b[1:3] *= v[0]
    return a


def writes_argument(v):
    v[0] = v[1] * v[2]
    v += v[0]
    return v * v


def choices(v):
    return np.where(v > 1, v**3, np.sin(v)) + np.clip(v, 0.7, 1.2) + np.maximum(v, 1.0)


def contraction(x, w):
    return np.einsum("ij,jk,il->kl", x, w, x)


def attention(x, w):
    s = x @ w
    p = fg.softmax(s, axis=-1)
    return p.T @ x


def entropy(x):
    return -np.sum(fg.log_softmax(x, axis=1)[np.arange(3), [0, 3, 1]]) + fg.logsumexp(x)


def solved(s, v):
    return np.linalg.solve(s, v[:3])


def decomposed(s):
    a = s @ s.T + np.eye(3)
    c = np.linalg.cholesky(a)
    return np.log(np.diag(c)).sum() + np.linalg.det(s) + np.trace(np.linalg.inv(a))


def stacked(v, b):
    a = np.stack([v[:2] * b, np.concatenate([b[:1], v[3:4]])])
    return a.T.reshape(-1) + np.outer(b, b).ravel()


def structured(x, b):
    h = np.tanh(x[:, :2] * b)
    return h, {"norm": np.sum(h * h), "rows": 3, "parts": [b * b, h[0]]}


def returned_twice(v):
    a = v * v
    return a, a, v, np.sum(a * v)


def unused(v, b):
    return np.sum(v * v)


PROGRAMS = [
    (neuron, (0.7, -0.3)), (polynomial, (1.3,)), (elementwise, (V,)), (powers, (V,)),
    (dense, (X, W, B)), (dense_loss, (X, W, B)), (broadcasting, (X, B)), (reductions, (X,)),
    (statistics, (X,)), (cumulative, (V,)), (indexing, (X,)), (gathered, (V,)), (writes, (X,)),
    (writes_views, (V,)), (writes_argument, (V,)), (choices, (V,)), (contraction, (X, W)),
    (attention, (X, W)), (entropy, (X,)), (solved, (S, V)), (decomposed, (S,)),
    (stacked, (V, B)), (structured, (X, B)), (returned_twice, (V,)), (unused, (V, B)),
]  # fmt: skip
IDENTIFIERS = [function.__name__ for function, _ in PROGRAMS]
each_program = pytest.mark.parametrize(("f", "args"), PROGRAMS, ids=IDENTIFIERS)


@each_program
def test_jvp_against_differences(f, args):
    before = copies(args)
    dots = directions(args)
    y, dot_y = jvp(f, args, dots)
    close(leaves(y), leaves(f(*copies(args))), rtol=1e-12)
    close(leaves(dot_y), differences(f, args, dots))
    for old, new in zip(before, args, strict=True):
        np.testing.assert_array_equal(old, new)


@each_program
def test_vjp_against_jvp(f, args):
    dots = directions(args)
    y, dot_y = jvp(f, args, dots)
    same_y, pullback = vjp(f, *args)
    close(leaves(same_y), leaves(y), rtol=1e-12)
    for seed in (3, 4):  # a pullback can be called again
        rng = np.random.default_rng(seed)
        adjoint = like(y, rng)
        gradients = pullback(adjoint)
        assert [np.shape(g) for g in gradients] == [np.shape(a) for a in args]
        pulled = sum(float(np.sum(g * d)) for g, d in zip(gradients, dots, strict=True))
        parts = zip(leaves(adjoint), leaves(dot_y), strict=True)
        pushed = sum(float(np.sum(g * d)) for g, d in parts)
        assert abs(pulled - pushed) < 1e-9 * (1 + abs(pulled))


@each_program
def test_linearize_is_jvp(f, args):
    dots = directions(args)
    y, dot_y = jvp(f, args, dots)
    same_y, pushforward = linearize(f, *args)
    close(leaves(same_y), leaves(y), rtol=1e-12)
    for _ in range(2):
        close(leaves(pushforward(*dots)), leaves(dot_y), rtol=1e-10, atol=1e-10)


@each_program
def test_jacobians_agree(f, args):
    columns, rows = jacfwd(f)(*args), jacrev(f)(*args)
    close(leaves(columns), leaves(rows), rtol=1e-9, atol=1e-10)
    close(leaves(jacobian(f)(*args)), leaves(rows), rtol=1e-9, atol=1e-10)
    dots = directions(args)
    results = leaves(f(*copies(args)))
    pushed = []
    found = iter(leaves(rows))
    for result in results:
        total = np.zeros(result.shape)
        for dot in dots:
            block = next(found)
            assert block.shape == result.shape + np.shape(dot)
            total += np.tensordot(block, dot, np.ndim(dot)) if np.ndim(dot) else block * dot
        pushed.append(total)
    close(pushed, leaves(jvp(f, args, dots)[1]), rtol=1e-8, atol=1e-9)


SCALARS = [
    (f, args) for f, args in PROGRAMS if len(leaves(f(*copies(args)))) == 1
    and leaves(f(*copies(args)))[0].ndim == 0
]  # fmt: skip


TO_SCALAR = [
    (f if (f, args) in SCALARS else sum_of(f), args)
    for f, args in PROGRAMS
    if len(leaves(f(*copies(args)))) == 1
]
SCALAR_IDENTIFIERS = [
    f.__name__ for f, args in PROGRAMS if len(leaves(f(*copies(args)))) == 1
]
each_scalar = pytest.mark.parametrize(("f", "args"), TO_SCALAR, ids=SCALAR_IDENTIFIERS)


@each_scalar
def test_hvp_against_differences(f, args):
    dots = directions(args)
    found = leaves(hvp(f, args, dots))
    close(found, differences(grad(f), args, dots), rtol=1e-5, atol=1e-6)
    through_jvp = jvp(grad(f), args, dots)[1]
    close(found, leaves(through_jvp), rtol=1e-10)


@each_scalar
def test_hessian(f, args):
    found = hessian(f, tuple(range(len(args))))(*args)
    for j, row in enumerate(found):
        for k, block in enumerate(row):
            assert np.shape(block) == np.shape(args[j]) + np.shape(args[k])
            turned = np.moveaxis(found[k][j], range(np.ndim(args[k])), range(-np.ndim(args[k]), 0))
            np.testing.assert_allclose(block, turned, rtol=1e-8, atol=1e-9)
    close(leaves(jacrev(grad(f))(*args)), leaves(hessian(f)(*args)), rtol=1e-8, atol=1e-9)


@each_scalar
def test_reverse_over_reverse(f, args):
    """The gradient of <grad f, v> is the Hessian times v."""
    slope = grad(f, tuple(range(len(args))))
    dots = directions(args)
    hessian_vector = leaves(hvp(f, args, dots))
    _, pullback = vjp(slope, *args)
    close(leaves(pullback(tuple(dots))), hessian_vector, rtol=1e-8, atol=1e-9)


def sine(x):
    return np.sin(2 * x)


def reciprocal(x):
    y = 1 / x
    return y


def exponential(x):
    a = x * x
    return math.exp(-a)


@pytest.mark.parametrize("x", [0.0, 0.4, -1.7])
def test_orders(x):
    one, two, three = grad(polynomial), grad(grad(polynomial)), grad(grad(grad(polynomial)))
    found = [one(x), two(x), three(x), grad(three)(x)]
    np.testing.assert_allclose(found, [3 * x**2 + 4 * x, 6 * x + 4, 6, 0], atol=1e-14)
    found = [grad(sine)(x), grad(grad(sine))(x), grad(grad(grad(sine)))(x)]
    expected = [2 * np.cos(2 * x), -4 * np.sin(2 * x), -8 * np.cos(2 * x)]
    np.testing.assert_allclose(found, expected, atol=1e-14)
    e = math.exp(-x * x)
    found = [grad(grad(exponential))(x), grad(grad(grad(exponential)))(x)]
    np.testing.assert_allclose(found, [(4 * x**2 - 2) * e, (12 * x - 8 * x**3) * e], atol=1e-14)


def test_orders_of_powers_at_zero():
    def cube(x):
        return x**3

    found = [grad(cube)(0.0), grad(grad(cube))(0.0), grad(grad(grad(cube)))(0.0)]
    assert found == [0.0, 0.0, 6.0]
    assert grad(grad(grad(grad(cube))))(0.0) == 0.0
    assert grad(grad(reciprocal))(2.0) == pytest.approx(0.25)


def test_mixed_partials():
    def f(x, y):
        return x * x * np.sin(y)

    assert grad(grad(f, "x"), "y")(1.5, 0.3) == pytest.approx(3 * np.cos(0.3))
    assert grad(grad(f, 1), 0)(1.5, 0.3) == pytest.approx(3 * np.cos(0.3))
    assert grad(grad(f, "x"))(1.5, 0.3) == pytest.approx((2 * np.sin(0.3), 3 * np.cos(0.3)))
    value, slope = value_and_grad(grad(f, "x"), "x")(1.5, 0.3)
    assert (value, slope) == pytest.approx((3 * np.sin(0.3), 2 * np.sin(0.3)))
    assert hessian(f)(1.5, 0.3).x.y == pytest.approx(3 * np.cos(0.3))


def test_names_of_second_derivatives():
    text = grad(grad(polynomial)).source(2.0)
    assert "return grad2_x" in text
    assert "# second backward" in text
    assert "grad_grad" not in text.partition("\n")[2]
    assert "dot2_x" in jvp(jvp(polynomial)).source(1.0, 1.0, 1.0, 1.0)
    assert "return grad3_x" in grad(grad(grad(polynomial))).source(2.0)


slope_of_neuron = grad(neuron)
value_and_slope = value_and_grad(neuron, "w")
tangent_of_dense = jvp(dense)


def uses_gradient(w, x):
    slopes = slope_of_neuron(w, x * w)
    return slopes.w * w + slopes[1] ** 2


def uses_value_and_gradient(w, x):
    value, slope = value_and_slope(w, x)
    return value * slope + x


def uses_tangent(x, w, b):
    y, dot_y = tangent_of_dense(x, w, b, dot_x=x * 2)
    return np.sum(y * dot_y)


def penalised(x, w, b):
    gradient = grad(dense_loss, "w")(x, w, b)
    return dense_loss(x, w, b) + np.sum(gradient**2)


def products(w, x):
    along = jvp(neuron, (w, x), (x, w))[1]
    return along * hvp(neuron, (w, x), (1.0, w), argnums="w")


def loss_and_extra(v):
    return np.sum(v**3), v * v


def auxiliary(v):
    slope, extra = grad(loss_and_extra, has_aux=True)(v)
    return np.sum(slope * extra)


@pytest.mark.parametrize(
    ("f", "args"),
    [
        (uses_gradient, (0.7, -0.3)), (uses_value_and_gradient, (0.7, -0.3)),
        (uses_tangent, (X, W, B)), (penalised, (X, W, B)), (products, (0.7, -0.3)),
        (auxiliary, (V,)),
    ],
)  # fmt: skip
def test_derivatives_inside(f, args):
    value, gradients = value_and_grad(f, tuple(range(len(args))))(*args)
    assert value == pytest.approx(f(*args))
    dots = directions(args)
    pulled = sum(float(np.sum(g * d)) for g, d in zip(gradients, dots, strict=True))
    assert pulled == pytest.approx(float(differences(f, args, dots)[0]), rel=1e-6)
    close([np.asarray(jvp(f, args, dots)[1])], [np.asarray(pulled)], rtol=1e-10)


def test_auxiliary_results_of_inner_derivatives():
    slope = grad(loss_and_extra, has_aux=True)
    y, pullback = vjp(slope, V)
    np.testing.assert_allclose(y[0], 3 * V**2)
    (found,) = pullback((V, 2 * V))
    np.testing.assert_allclose(found, 6 * V * V + 2 * V * 2 * V)
    found = linearize(slope, V)[1](V)
    np.testing.assert_allclose(found, (6 * V * V, 2 * V * V))
    np.testing.assert_allclose(jvp(slope, (V,), (V,))[1], (6 * V * V, 2 * V * V))


inner_slope = grad(polynomial)
outer_slope = grad(lambda x: inner_slope(x) ** 2)


def test_derivatives_inside_derivatives_inside():
    # p = x^3 + 2x^2, q = p'^2, q' = 2 p' p''
    f = grad(lambda x: x * outer_slope(x))
    p1, p2, p3 = [g(1.3) for g in orders(polynomial)]
    expected = 2 * p1 * p2 + 1.3 * 2 * (p2 * p2 + p1 * p3)
    assert f(1.3) == pytest.approx(expected)


def orders(f):
    return grad(f), grad(grad(f)), grad(grad(grad(f)))


def test_inside_an_argument_is_not_written_to():
    slope = grad(lambda v: np.sum(writes_argument(v)))
    x = V.copy()
    found = grad(lambda v: np.sum(slope(v) * v))(x)
    np.testing.assert_array_equal(x, V)
    expected = differences(lambda v: np.sum(slope(v) * v), (V,), (np.eye(5)[2],))
    np.testing.assert_allclose(found[2], expected[0], rtol=1e-6)
    base = V.copy()
    two = grad(lambda a, b: np.sum(writes_argument(a) * b))
    with pytest.raises(FlatgradError) as caught:
        grad(lambda v: np.sum(two(v, v).a))(base)
    assert caught.value.code == "unsupported-write"


def test_float32():
    args = X.astype("f4"), W.astype("f4"), B.astype("f4")
    dots = directions(args)
    y, dot_y = jvp(dense, args, dots)
    assert y.dtype == dot_y.dtype == np.float32
    y, pullback = vjp(dense, *args)
    assert [g.dtype for g in pullback(y)] == [np.float32] * 3
    assert all(block.dtype == np.float32 for block in jacobian(dense)(*args))
    products = hvp(dense_loss, args, dots)
    assert [p.dtype for p in products] == [np.float32] * 3
    exact = hvp(dense_loss, (X, W, B), tuple(d.astype("f8") for d in dots))
    close(products, exact, rtol=1e-3, atol=1e-4)
    dot = jvp(neuron, (np.float32(0.7), np.float32(0.3)), (1.0, None))[1]
    assert type(dot) is np.float32
    assert jacobian(lambda x: x * B.astype("f4"))(2.0).dtype == np.float32


@pytest.mark.parametrize("f", [dense, dense_loss])
def test_numba(f):
    pytest.importorskip("numba")
    args, dots = (X, W, B), directions((X, W, B))
    close(
        leaves(jvp(f, args, dots, backend="numba")), leaves(jvp(f, args, dots)), rtol=1e-10
    )
    y, pullback = vjp(f, *args, backend="numba")
    close(leaves(pullback(y)), leaves(vjp(f, *args)[1](y)), rtol=1e-10)


def test_numba_structures_and_orders():
    pytest.importorskip("numba")
    found = jvp(structured, (X, B), directions((X, B)), backend="numba")
    expected = jvp(structured, (X, B), directions((X, B)))
    close(leaves(found), leaves(expected), rtol=1e-10)
    assert found[0][1].keys() == expected[0][1].keys()
    assert isinstance(found[1][1]["parts"], list)
    assert grad(grad(polynomial, backend="numba"), backend="numba")(1.3) == pytest.approx(11.8)


class Pair(NamedTuple):
    first: object
    second: object


constants = Pair(2.0, 3)


def pair(x, n):
    return x * n, [x, n, None, "text"], constants


def test_structures():
    y, dot_y = jvp(pair, (2.0, 3), (1.0, None))
    assert y == (6.0, [2.0, 3, None, "text"], Pair(2.0, 3))
    assert dot_y == (3.0, [1.0, None, None, None], Pair(0.0, None))
    assert isinstance(y[2], Pair)
    assert isinstance(dot_y[2], Pair)
    y, _ = vjp(pair, 2.0, 3)
    assert isinstance(y[2], Pair)


def test_kinds_of_numbers():
    array = np.asarray(0.5)
    y, dot_y = jvp(neuron, (array, 2.0), (array, 1))
    assert isinstance(y, float)
    assert isinstance(dot_y, float)
    _, pullback = vjp(neuron, array, 2.0)
    first, second = pullback(1.0)
    assert isinstance(first, np.ndarray)
    assert first.shape == ()
    assert type(second) is float
    assert type(hessian(neuron, 1)(0.5, 2.0)) is float
    assert isinstance(hvp(neuron, (array, 2.0), (array, 1.0)).w, np.ndarray)


def test_zero_tangents_and_defaults():
    def f(x, y=2.0, *, z=3.0):
        return x * y * z

    assert jvp(f, (1.0,), (1.0,)) == (6.0, 6.0)
    assert jvp(f, (1.0, 4.0), (None, 1.0)) == (12.0, 3.0)
    derived = jvp(f)
    assert list(inspect.signature(derived).parameters) == ["x", "y", "dot_x", "dot_y", "z", "dot_z"]
    assert derived(1.0, dot_z=1.0) == (6.0, 2.0)
    assert vjp(f, 1.0)[1](1.0) == (6.0, None, None)
    y, pushforward = linearize(f, 1.0, 4.0)
    assert (y, pushforward(1.0), pushforward(None, 1.0)) == (12.0, 12.0, 3.0)


def test_parameters_named_like_tangents():
    def f(x, dot_x):
        return x * dot_x

    derived = jvp(f)
    assert list(inspect.signature(derived).parameters)[2:] == ["dot_x_1", "dot_dot_x"]
    assert derived(2.0, 3.0, 1.0, 0.0) == (6.0, 3.0)


captured = np.array([1.0, 2.0])


def test_captured_arrays_are_read_anew():
    def f(x):
        return x * captured * dot_x

    dot_x = np.array([1.0, 1.0])
    derived = jvp(f)
    np.testing.assert_array_equal(derived(2.0, 1.0)[1], [1.0, 2.0])
    captured[0] = 5.0
    np.testing.assert_array_equal(derived(2.0, 1.0)[1], [5.0, 2.0])
    _, pullback = vjp(f, 2.0)
    captured[0] = 1.0
    assert pullback(np.ones(2)) == (7.0,)


def test_pullback_does_not_see_later_changes():
    x, w = X.copy(), W.copy()
    y, pullback = vjp(dense, x, w, B)
    y_before = y.copy()
    _, pushforward = linearize(dense, x, w, B)
    before = pullback(np.ones_like(y)), pushforward(X, W, B)
    x[...] = w[...] = y[...] = 7.0
    for gradient in before[0]:
        gradient_copy = gradient.copy()
        gradient[...] = 3.0
        gradient[...] = gradient_copy
    after = pullback(np.ones_like(y)), pushforward(X, W, B)
    close(leaves(after), leaves(before), rtol=0, atol=0)
    assert not np.array_equal(y, y_before)


def test_pullback_reads_the_length_of_its_seed():
    A = np.arange(6.0).reshape(3, 2)
    y, pullback = vjp(lambda A: np.diag(A), A)
    np.testing.assert_array_equal(y, [0.0, 3.0])
    (grad_A,) = pullback(np.array([5.0, 7.0]))
    np.testing.assert_array_equal(grad_A, [[5.0, 0.0], [0.0, 7.0], [0.0, 0.0]])


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_gradients_by_numbers_are_numbers(backend):
    def summed(a, b, x):
        s = 0.0
        for i in range(len(x)):
            s += a * x[i] ** 2 if x[i] > 0 else b * a
        return s

    b = np.float64(0.5)
    arguments = (2.0, b, V)
    found = [
        grad(summed, backend=backend)(*arguments),
        hvp(summed, arguments, (1.0, b, V), backend=backend),
        vjp(summed, *arguments, backend=backend)[1](1.0),
        vjp(grad(summed), *arguments, backend=backend)[1]((1.0, b, V)),
    ]
    for grad_a, grad_b, grad_x in found:
        assert (type(grad_a), type(grad_b), type(grad_x)) == (float, np.float64, np.ndarray)


def test_results_share_no_memory():
    def f(x):
        return x

    x = V.copy()
    y, dot_y = jvp(f, (x,), (x,))
    y2, pullback = vjp(f, x)
    (gradient,) = pullback(y2)
    arrays = [x, y, dot_y, y2, gradient]
    for k, one in enumerate(arrays):
        assert not any(np.shares_memory(one, other) for other in arrays[k + 1 :])


def test_jacobian_takes_the_cheaper(monkeypatch):
    from flatgrad.linear_maps import Pullback, Pushforward

    runs = []
    for kind in (Pullback, Pushforward):
        run = kind.run
        monkeypatch.setattr(
            kind, "run", lambda self, s, run=run, kind=kind: runs.append(kind) or run(self, s)
        )
    f = jacobian(dense_loss, "x")
    f(X, W, B)
    assert runs == [Pullback]
    runs.clear()
    jacobian(dense, "b")(X, W, B)
    assert runs == []  # both columns in one sweep
    y, columns = value_and_jacobian(dense, "b")(X, W, B)
    assert columns.shape == (3, 2, 2)
    assert y.shape == (3, 2)


def summed(x, n):
    return np.sum(x, axis=n)


def test_parameters_needed_while_compiling():
    gradient, none = vjp(summed, X, 0)[1](np.ones(4))
    np.testing.assert_array_equal(gradient, np.ones((3, 4)))
    assert none is None
    np.testing.assert_allclose(jvp(summed, (X, 1), (X, None))[1], X.sum(axis=1))
    for _ in range(2):
        with pytest.raises(FlatgradError):
            jvp(summed, (X, 1), (X, 1.0))


def test_empty_and_one():
    assert jacfwd(elementwise)(np.ones(0)).shape == (0, 0)
    assert jacrev(elementwise)(np.ones(0)).shape == (0, 0)
    assert jacobian(elementwise)(np.ones(1)).shape == (1, 1)
    _, dot_y = jvp(broadcasting, (X[:1], B), (X[:1], B))
    assert dot_y.shape == (1, 2)


def test_source():
    derived = jvp(neuron)
    text = derived.source(0.5, 2.0, 1.0, 1.0)
    assert "dot_s = dot_w * x + dot_x * w" in text
    assert "# " not in text
    assert derived.tangent_source().splitlines()[0] == "dot_s = dot_w * x + dot_x * w"
    assert "# forward" in hvp(dense_loss).source(X, W, B, X, W, B)
    _, pullback = vjp(neuron, 0.5, 2.0)
    assert pullback.source().startswith("def neuron_pullback(")
    assert "dot_w" in jvp(neuron).source()


def test_same_function_is_compiled_once():
    assert jvp(neuron) is jvp(neuron)
    calls = []
    from flatgrad import derived

    original = derived.compile_derivative
    derived.compile_derivative = lambda *args: calls.append(1) or original(*args)
    try:
        vjp(polynomial, 1.0)
        vjp(polynomial, 2.0)
    finally:
        derived.compile_derivative = original
    assert len(calls) <= 1


REFUSED = [
    (lambda: jvp(dense, (X, W, B), (X, W, B[:1])), ShapeError, "shape-mismatch"),
    (lambda: jvp(dense, (X, W, B), (X, W, 1.0)), ShapeError, "shape-mismatch"),
    (lambda: jvp(neuron, (1.0, 2.0), (V, None)), ShapeError, "shape-mismatch"),
    (lambda: jvp(dense, (X, W, B), (X, W, B.astype("f4"))), TypeInferenceError, "operand-type"),
    (lambda: jvp(dense, (X, W, B), (X, W, [1.0, 2.0])), ShapeError, None),
    (lambda: jvp(neuron, (1.0, 2.0), ("one", None)), TypeInferenceError, "operand-type"),
    (lambda: jvp(neuron, (1.0, 2.0), (True, None)), TypeInferenceError, "operand-type"),
    (lambda: jvp(gathered_by, (V, IDS), (V, IDS)), ArgumentError, "not-differentiable"),
    (lambda: jvp(neuron, (1.0, 2.0), (1.0,)), ArgumentError, "bad-tangent"),
    (lambda: jvp(neuron, (1.0, 2.0), (None, None)), ArgumentError, "nothing-to-differentiate"),
    (lambda: jvp(neuron, 1.0, 2.0), ArgumentError, "bad-tangent"),
    (lambda: jvp(neuron, (1.0, 2.0, 3.0), (1.0, 2.0, 3.0)), ArgumentError, "bad-tangent"),
    (lambda: vjp(dense, X, W, B)[1](B), ShapeError, "shape-mismatch"),
    (lambda: vjp(dense, X, W, B)[1](np.ones((3, 2), "f4")), TypeInferenceError, "operand-type"),
    (lambda: vjp(structured, X, B)[1](1.0), ArgumentError, "bad-tangent"),
    (lambda: vjp(structured, X, B)[1]((1.0, {})), ArgumentError, "bad-tangent"),
    (lambda: vjp(gathered_by, V, IDS)[1](1), ShapeError, "shape-mismatch"),
    (lambda: vjp(lambda x: 3, 1.0), ArgumentError, "non-scalar-output"),
    (lambda: vjp(gathered_by, IDS, IDS), ArgumentError, "nothing-to-differentiate"),
    (lambda: linearize(gathered_by, V, IDS)[1](V, IDS), ArgumentError, "not-differentiable"),
    (lambda: linearize(dense, X, W, B)[1](X, W, X), ShapeError, "shape-mismatch"),
    (lambda: grad(grad(dense_loss))(X, W, B), ArgumentError, "non-scalar-output"),
    (lambda: grad(jacobian(neuron)), FlatgradError, "unsupported-call"),
    (lambda: grad(lambda x: jacobian(neuron)(x, x)[0])(1.0), FlatgradError, "unsupported-call"),
    (lambda: grad(lambda x: vjp(neuron, x, x)[0])(1.0), FlatgradError, "unsupported-call"),
    (lambda: grad(lambda x: jvp(dense, (x, W, B), (X[:1], None, None))[1].sum())(X), FlatgradError,
     "shape-mismatch"),
    (lambda: jacobian(neuron, ("w", 0))(1.0, 2.0), ArgumentError, "bad-argnums"),
    (lambda: jacobian(neuron, "z"), ArgumentError, "bad-argnums"),
    (lambda: jacobian(neuron, ())(1.0, 2.0), ArgumentError, "bad-argnums"),
    (lambda: hessian(dense)(X, W, B), ArgumentError, "non-scalar-output"),
    (lambda: hvp(dense_loss, (X, W, B), (X, W, X)), ShapeError, "shape-mismatch"),
]


def gathered_by(v, ids):
    return v[ids] * 2


@pytest.mark.parametrize(("call", "kind", "code"), REFUSED)
def test_refusals(call, kind, code):
    with pytest.raises(FlatgradError if code is None else kind) as caught:
        call()
    assert code is None or caught.value.code == code


def renaming(a, b):
    h = a
    return np.sum(np.sin(h * b))


def test_the_parameter_of_an_inner_derivative_keeps_its_name():
    def slope(x, y):
        return grad(renaming, "a")(x, y) * x

    y = np.array([0.3, -1.2, 0.7])
    fg.check_grads(slope, (0.4, y))
