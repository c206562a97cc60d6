"""Jacobians and stacks of tangents in the structures of arguments and results."""

import dataclasses
from collections import namedtuple

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.errors import FlatgradError

Pair = namedtuple("Pair", "a b")
BACKENDS = ["numpy", "numba"]


@dataclasses.dataclass
class Scaled:
    w: np.ndarray
    s: float
    n: int = 3


def program(p, x):
    q = p["q"]
    z = q.b.s * np.sum(q.b.w ** q.b.n) * x[1]
    return {"y": np.sin(p["w"]) * x[0] * q.a, "z": (z, 3)}


def loss(p, x):
    r = program(p, x)
    return np.sum(r["y"] ** 2) + r["z"][0] ** 2


def arguments(n, seed=0):
    rng = np.random.default_rng(seed)
    p = {"w": rng.normal(size=n), "q": Pair(1.5, Scaled(rng.normal(size=2), 0.3))}
    return p, (2.0, 3.0)


def same(one, other):
    """Equal in classes, keys, dtypes and shapes, and close in numbers."""
    assert type(one).__name__ == type(other).__name__
    match one:
        case dict():
            assert list(one) == list(other)
            parts = zip(one.values(), other.values(), strict=True)
        case tuple() | list():
            parts = zip(one, other, strict=True)
        case Scaled():
            parts = zip(vars(one).values(), vars(other).values(), strict=True)
        case None:
            return
        case _:
            assert np.shape(one) == np.shape(other)
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)
            return
    for a, b in parts:
        same(a, b)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n", [2, 9])
def test_columns_and_rows_are_one_jacobian(n, backend):
    p, x = arguments(n)
    rows = fg.jacrev(program, backend=backend)(p, x)
    y, found = fg.value_and_jacobian(program, backend=backend)(p, x)
    same(fg.jacfwd(program, backend=backend)(p, x), rows)
    same(found, rows)
    same(y, program(p, x))
    assert found["y"].p["w"].shape == (n, n)
    assert found["y"].p["q"].b.n is None
    assert found["z"][1] is None


def test_jacobian_against_differences():
    p, x = arguments(3)
    J = fg.jacobian(program)(p, x)
    h = 1e-6
    for k in range(3):
        step = np.eye(3)[k] * h
        ends = [program({**p, "w": p["w"] + sign * step}, x)["y"] for sign in (1, -1)]
        column = (ends[0] - ends[1]) / (2 * h)
        np.testing.assert_allclose(J["y"].p["w"][:, k], column, atol=1e-8)
    ends = [program(p, (x[0], x[1] + sign * h))["z"][0] for sign in (1, -1)]
    np.testing.assert_allclose(J["z"][0].x[1], (ends[0] - ends[1]) / (2 * h), atol=1e-8)


def test_jacobian_by_parameters_that_are_named():
    p, x = arguments(2)
    whole = fg.jacrev(program)(p, x)
    same(fg.jacfwd(program, argnums="x")(p, x)["y"], whole["y"].x)
    some = fg.jacfwd(program, argnums=["x", "p"])(p, x)["y"]
    same(some, (whole["y"].x, whole["y"].p))


def test_one_sweep_shows_readable_leaves():
    def f(p):
        return p["a"] * p["b"][0]

    J = fg.jacfwd(f)
    assert J({"a": 2.0, "b": [3.0, 1]}) == {"a": 3.0, "b": [2.0, None]}
    assert J.source() == (
        "def f_jacfwd(p_a, p_b_0, p_b_1):\n"
        "    dot_p_a_value = p_b_0\n"
        "    dot_p_b_0_value = p_a\n"
        "    return {'a': dot_p_a_value, 'b': [dot_p_b_0_value, None]}\n"
    )


@pytest.mark.parametrize("mode", [fg.jacfwd, fg.jacrev, fg.jacobian])
def test_leaves_that_are_empty_or_of_rank_0_or_float32(mode):
    def f(p):
        return p["a"] * p["b"]

    found = mode(f)({"a": 2.0, "b": np.zeros(0)})
    assert found["a"].shape == (0,)
    assert found["b"].shape == (0, 0)
    found = mode(f)({"a": np.array(2.0), "b": 3.0})
    assert isinstance(found["a"], np.ndarray)
    assert found["a"] == 3.0
    assert type(found["b"]) is float
    found = mode(f)({"a": np.float32(2), "b": np.ones(2, np.float32)})
    assert found["a"].dtype == found["b"].dtype == np.float32


def test_jacobian_chooses_anew_for_another_structure():
    def f(p):
        total = 0.0
        for item in p:
            total = total + np.sum(item * item)
        return total

    J = fg.jacobian(f)
    for p in ([1.0], [1.0, 2.0], [np.arange(3.0)], [np.arange(3.0), 2.0], (1.0, 2.0)):
        found = J(p)
        assert type(found) is type(p)
        for one, item in zip(found, p, strict=True):
            np.testing.assert_allclose(one, 2 * np.asarray(item))


def test_hessian_in_the_structure_of_both():
    p, x = arguments(2)
    H = fg.hessian(loss)(p, x)
    dots = ({"w": np.array([1.0, 0.0]), "q": None}, None)
    along = fg.hvp(loss, (p, x), dots)
    np.testing.assert_allclose(H.p["w"].p["w"][:, 0], along.p["w"])
    np.testing.assert_allclose(H.p["q"].b.w.p["w"][:, 0], along.p["q"].b.w)
    np.testing.assert_allclose(H.x[0].p["w"][0], along.x[0])
    assert H.p["q"].b.n is None


def row(dots, k):
    """The tangent in row `k` of stacks."""
    q = dots["q"]
    return {"w": dots["w"][k], "q": Pair(q.a[k], Scaled(q.b.w[k], None, None))}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("rows", [1, 4])
def test_stacked_tangents(rows, backend):
    p, x = arguments(3)
    rng = np.random.default_rng(1)
    w, a, v = (rng.normal(size=(rows, *shape)) for shape in ((3,), (), (2,)))
    dots = {"w": w, "q": Pair(a, Scaled(v, None, None))}
    y, dot_y = fg.jvp(program, (p, x), (dots, None), stacked=True, backend=backend)
    found = fg.hvp(loss, (p, x), (dots, None), stacked=True, backend=backend)
    same(y, program(p, x))
    assert dot_y["y"].shape == (rows, 3)
    assert dot_y["z"][0].shape == (rows,)
    assert dot_y["z"][1] is None
    for k in range(rows):
        _, single = fg.jvp(program, (p, x), (row(dots, k), None))
        np.testing.assert_allclose(dot_y["y"][k], single["y"])
        np.testing.assert_allclose(dot_y["z"][0][k], single["z"][0])
        of_loss = fg.hvp(loss, (p, x), (row(dots, k), None))
        np.testing.assert_allclose(found.p["w"][k], of_loss.p["w"])
        np.testing.assert_allclose(found.p["q"].a[k], of_loss.p["q"].a)
        np.testing.assert_allclose(found.p["q"].b.w[k], of_loss.p["q"].b.w)
        np.testing.assert_allclose(found.x[1][k], of_loss.x[1])


@pytest.mark.parametrize(
    ("w", "q", "code", "text"),
    [
        (np.ones((4, 2)), Pair(np.ones(3), None), "shape-mismatch", "`dot_p['q'].a` 3 and"),
        (np.ones((4, 3)), None, "shape-mismatch", "rows of `dot_p['w']` have shape (3,), `p['w']`"),
        (np.ones((0, 2)), None, "shape-mismatch", "`dot_p['w']` has no rows"),
        (np.ones((4, 2)), Pair(1.0, None), "operand-type", "`dot_p['q'].a` is a float"),
        (np.ones((4, 2)), (np.ones(4), None), "bad-tangent", "`dot_p['q']` has another structure"),
    ],
)  # fmt: skip
def test_wrong_stacks(w, q, code, text):
    p, x = arguments(2)
    with pytest.raises(FlatgradError) as caught:
        fg.jvp(program, (p, x), ({"w": w, "q": q}, None), stacked=True)
    assert caught.value.code == code
    assert text in str(caught.value)


@fg.checkpoint
def layer(p, x):
    return {"h": np.tanh(p["W"] @ x + p["b"])}


def through_layers(ps, x):
    for p in ps:
        x = layer(p, x)["h"]
    return np.sum(x**2)


def test_several_tangents_through_checkpointed_calls():
    rng = np.random.default_rng(2)
    ps = [{"W": rng.normal(size=(3, 3)), "b": rng.normal(size=3)} for _ in range(2)]
    x = rng.normal(size=3)
    gradient = fg.grad(through_layers)(ps, x)
    columns = fg.jacfwd(through_layers)(ps, x)
    same(columns, gradient)
    dots = [{name: np.stack([leaf, -leaf]) for name, leaf in p.items()} for p in ps]
    found = fg.hvp(through_layers, (ps, x), (dots, None), stacked=True)
    single = fg.hvp(through_layers, (ps, x), (ps, None))
    for one, other in zip(found.ps, single.ps, strict=True):
        for name in one:
            np.testing.assert_allclose(one[name], np.stack([other[name], -other[name]]))


def test_jacobian_goes_backwards_where_there_is_no_forward_rule():
    @fg.custom_vjp
    def exp(x):
        return np.exp(x)

    exp.defvjp(lambda x: (np.exp(x), np.exp(x)), lambda y, grad_y: (grad_y * y,))

    def f(p):
        return exp(p["x"]) * p["a"]

    p = {"x": np.array([0.1, 0.2]), "a": 3.0}
    same(fg.jacobian(f)(p), {"x": np.diag(3 * np.exp(p["x"])), "a": np.exp(p["x"])})


def test_a_list_of_a_loop_is_not_returned_in_an_object():
    def f(p, n):
        xs = []
        for i in range(n):
            xs.append(p["a"] * i)
        return xs[-1], Scaled(xs, 1.0)

    with pytest.raises(FlatgradError) as caught:
        fg.grad(f, 0, has_aux=True)({"a": 2.0}, 4)
    assert caught.value.code == "unsupported-statement"
    assert "the list `xs`, built in a loop, is returned" in str(caught.value)
