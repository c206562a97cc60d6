"""Every mode over control flow and state: what test_modes.py shows of straight-line programs.

Loops, branches, `while`, `break`, early returns, writes in place, aliases, against differences and
one mode against the other.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from flatgrad import (
    FlatgradError,
    ShapeError,
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
from flatgrad.cli import main
from tests.mode_checks import close, copies, differences, directions, leaves, like

RNG = np.random.default_rng(11)
V = RNG.uniform(0.5, 1.5, 5)
X = RNG.uniform(0.5, 1.5, (3, 4))
B = RNG.uniform(0.5, 1.5, 4)
LONG = RNG.uniform(0.5, 1.5, 11)


def power_sum(x):
    y = 1.0
    for i in range(4):
        y = y * np.sin(x + i)
    return y


def by_elements(v):
    total = 0.0
    for i in range(len(v)):
        for j in range(i):
            total += v[i] * np.sin(v[j])
    return total


def branches(x, w):
    if x > w:
        y = x * x * w
    elif x > 0:
        y = np.sin(x) * w
    else:
        y = w
    return y if y > 0.1 else y * 2 + x


def branches_in_loop(v):
    total = 0.0
    for x in v:
        if x > 1.0:
            total += x**3
        else:
            total -= np.cos(x) * total
    return total


def doubling(x):
    s, n = x, 0
    while s < 40.0:
        s = s * s + x
        n += 1
    return s / 10


def newton(a):
    x = a
    for _ in range(50):
        step = (x * x - a) / (2 * x)
        x = x - step
        if abs(step) < 1e-12:
            break
    return x


def first_over(v, limit):
    total = 0.0
    for x in v:
        total = total + x * x * x
        if total > limit * 2:
            return total * limit
    return total - limit


def stencil(u, r):
    v, w = u.copy(), u.copy()
    for _ in range(3):
        for i in range(1, len(v) - 1):
            w[i] = v[i] + r * (v[i - 1] - 2 * v[i] * v[i] + v[i + 1])
        v, w = w, v
    return v


def aliased(v):
    a = v * 1.0
    b = a
    for i in range(1, len(v)):
        b[i] = b[i] * a[i - 1]
        a[i] += b[0]
    return a * v


def views(x):
    y = x * x
    for k in range(x.shape[0]):
        row = y[k]
        row[1:] *= x[k, 0]
        y[:, 0] += row[1]
    return y


def own_argument(v):
    for i in range(1, len(v)):
        v[i] = v[i] * v[i - 1]
    return v[1:] * v[:-1]


def recurrent(x, b):
    h = np.zeros(4)
    for t in range(x.shape[0]):
        h = np.tanh(x[t] + 0.5 * h * b)
    return h


def rk4(a, b, c, d):
    x, y, h = 3.0, 1.0, 0.1
    for _ in range(4):
        k1, l1 = x * (a - b * y), y * (c * x - d)
        x2, y2 = x + h / 2 * k1, y + h / 2 * l1
        k2, l2 = x2 * (a - b * y2), y2 * (c * x2 - d)
        x, y = x + h * k2, y + h * l2
    return x, {"prey": x * 1.0, "steps": 4, "hunters": [y]}


def growing(x):
    total, n = x * 0.0, 0
    while np.sum(total) < 6.0:
        total = np.sin(total) + x * x
        n += 1
    return total


def skipping(v):
    total = 0.0
    for i in range(len(v)):
        if i % 2:
            continue
        total += v[i] ** 2 * total + v[i]
    else:
        total = total * 2
    return total


PROGRAMS = [
    (power_sum, (0.7,)), (by_elements, (V,)), (branches, (0.7, 0.9)), (branches, (1.2, 0.9)),
    (branches_in_loop, (V,)), (doubling, (1.1,)), (newton, (2.3,)), (first_over, (V, 1.3)),
    (first_over, (V, 40.0)), (stencil, (LONG, 0.1)), (aliased, (V,)), (views, (X,)),
    (own_argument, (V,)), (recurrent, (X, B)), (rk4, (1.1, 0.4, 0.1, 0.4)), (growing, (V,)),
    (skipping, (V,)),
]  # fmt: skip
each_program = pytest.mark.parametrize(
    ("f", "args"), PROGRAMS, ids=[f"{f.__name__}-{k}" for k, (f, _) in enumerate(PROGRAMS)]
)
LOSSES = {f.__name__: f for f, args in PROGRAMS if np.ndim(f(*copies(args))) == 0 and f is not rk4}


def loss_of(f):
    """A scalar program from one that returns an array."""
    if f.__name__ in LOSSES:
        return f
    if f in (stencil, recurrent):
        return lambda x, y: np.sum(f(x, y) ** 2)
    if f is rk4:
        return lambda a, b, c, d: f(a, b, c, d)[0] * f(a, b, c, d)[1]["hunters"][0]
    return lambda x: np.sum(f(x) ** 2)


@each_program
def test_tangents(f, args):
    before, dots = copies(args), directions(args)
    y, dot_y = jvp(f, args, dots)
    close(leaves(y), leaves(f(*copies(args))), rtol=1e-12)
    close(leaves(dot_y), differences(f, args, dots), rtol=1e-5)
    same_y, pushforward = linearize(f, *args)
    close(leaves(same_y), leaves(y), rtol=1e-12)
    for _ in range(2):
        close(leaves(pushforward(*dots)), leaves(dot_y), rtol=1e-10, atol=1e-10)
    for old, new in zip(before, args, strict=True):
        np.testing.assert_array_equal(old, new)


@each_program
def test_pullbacks(f, args):
    dots = directions(args)
    y, dot_y = jvp(f, args, dots)
    same_y, pullback = vjp(f, *args)
    close(leaves(same_y), leaves(y), rtol=1e-12)
    for seed in (3, 4):
        adjoint = like(y, np.random.default_rng(seed))
        gradients = pullback(adjoint)
        assert [np.shape(g) for g in gradients] == [np.shape(a) for a in args]
        pulled = sum(float(np.sum(g * d)) for g, d in zip(gradients, dots, strict=True))
        parts = zip(leaves(adjoint), leaves(dot_y), strict=True)
        assert abs(pulled - sum(float(np.sum(g * d)) for g, d in parts)) < 1e-9 * (1 + abs(pulled))


@each_program
def test_stacked_tangents(f, args):
    several = [directions(args, seed) for seed in (1, 2, 3)]
    stacks = [np.stack([dots[j] for dots in several]) for j in range(len(args))]
    y, rows = jvp(f, args, stacks, stacked=True)
    close(leaves(y), leaves(f(*copies(args))), rtol=1e-12)
    for k, dots in enumerate(several):
        single = leaves(jvp(f, args, dots)[1])
        close([leaf[k] for leaf in leaves(rows)], single, rtol=1e-10, atol=1e-10)
    one = jvp(f, args, [stack[:1] for stack in stacks], stacked=True)[1]
    close([leaf[:1] for leaf in leaves(rows)], leaves(one), rtol=1e-10, atol=1e-10)


@each_program
def test_jacobians(f, args):
    columns, rows = jacfwd(f)(*args), jacrev(f)(*args)
    close(leaves(columns), leaves(rows), rtol=1e-9, atol=1e-10)
    y, either = value_and_jacobian(f)(*args)
    close(leaves(either), leaves(rows), rtol=1e-9, atol=1e-10)
    close(leaves(jacobian(f)(*args)), leaves(rows), rtol=1e-9, atol=1e-10)
    close(leaves(y), leaves(f(*copies(args))), rtol=1e-12)
    first = tuple(np.zeros_like(a) if np.ndim(a) else 0.0 for a in args[1:])
    along = np.ones_like(args[0]) if np.ndim(args[0]) else 1.0
    expected = leaves(jvp(f, args, (along, *first))[1])
    blocks = leaves(rows)[:: len(args)]
    summed = [b.sum(axis=tuple(range(b.ndim - np.ndim(along), b.ndim))) for b in blocks]
    close(summed, expected, rtol=1e-8, atol=1e-9)


@each_program
def test_second_order(f, args):
    loss, dots = loss_of(f), directions(args)
    chosen = tuple(range(len(args)))
    products = leaves(hvp(loss, args, dots, chosen))
    close(products, differences(grad(loss, chosen), args, dots), rtol=1e-4, atol=1e-5)
    _, pullback = vjp(grad(loss, chosen), *args)
    close(leaves(pullback(tuple(dots))), products, rtol=1e-8, atol=1e-9)
    whole = hessian(loss, chosen)(*args)
    total = [
        sum(np.tensordot(block, dot, np.ndim(dot)) for block, dot in zip(row, dots, strict=True))
        for row in whole
    ]
    close(total, products, rtol=1e-8, atol=1e-9)
    several = [np.stack([dot, 2 * dot]) for dot in dots]
    rows = leaves(hvp(loss, args, several, chosen, stacked=True))
    close([row[1] for row in rows], [2 * one for one in products], rtol=1e-9, atol=1e-9)


@each_program
def test_tangent_of_a_gradient_of_a_tangent(f, args):
    """Forward over forward, and reverse over forward, are the Hessian between two directions."""
    loss, one, other = loss_of(f), directions(args, 1), directions(args, 2)
    products = hvp(loss, args, other, tuple(range(len(args))))
    between = sum(float(np.sum(a * b)) for a, b in zip(one, products, strict=True))
    derived = jvp(jvp(loss))
    found = derived(*args, *one, *other, *[None] * len(args))[1][1]
    assert abs(found - between) < 1e-8 * (1 + abs(between))
    _, pullback = vjp(jvp(loss), *args, *one)
    gradients = pullback((0.0, 1.0))[: len(args)]
    close(leaves(list(gradients)), leaves(list(hvp(loss, args, one, tuple(range(len(args)))))),
          rtol=1e-8, atol=1e-9)  # fmt: skip


def test_orders():
    def cosine(x):  # cos by its series
        term, total = 1.0, 1.0
        for k in range(1, 14):
            term = -term * x * x / ((2 * k - 1) * (2 * k))
            total = total + term
        return total

    one = grad(cosine)
    two = grad(one)
    found = [one(0.6), two(0.6), grad(two)(0.6), grad(grad(two))(0.6)]
    expected = [-math.sin(0.6), -math.cos(0.6), math.sin(0.6), math.cos(0.6)]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_third_order_with_state():
    def f(x):
        a = np.zeros(4)
        a[0] = x
        for i in range(1, 4):
            a[i] = a[i - 1] * x
            if i == 2:
                a[i] += x
        return a[3]  # x^4 + x^2

    found = [grad(f)(1.3), grad(grad(f))(1.3), grad(grad(grad(f)))(1.3)]
    expected = [4 * 1.3**3 + 2 * 1.3, 12 * 1.3**2 + 2, 24 * 1.3]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


inner_slope = grad(power_sum)
inner_newton = value_and_grad(newton)


def slope_in_loop(v):
    total = 0.0
    for x in v:
        total += inner_slope(x) * x
    return total


def slope_in_branch(x, w):
    y = inner_slope(x * w) if x > 0.5 else x
    while y * y < 3.0:
        value, slope = inner_newton(w + y * y)
        y = value + slope * y
    return y


def descent(x, rate):
    for _ in range(3):
        x = x - rate * grad(power_sum)(x)
    return x


def slope_of_loop_with_array(v):
    slopes = grad(by_elements)(v)
    for i in range(len(v)):
        slopes[i] *= v[i]
    return np.sum(slopes**2)


INSIDE = [
    (slope_in_loop, (V,)), (slope_in_branch, (0.7, 1.1)), (descent, (0.4, 0.3)),
    (slope_of_loop_with_array, (V,)),
]  # fmt: skip


@pytest.mark.parametrize(("f", "args"), INSIDE, ids=[f.__name__ for f, _ in INSIDE])
def test_derivatives_inside(f, args):
    value, gradients = value_and_grad(f, tuple(range(len(args))))(*args)
    assert value == pytest.approx(f(*copies(args)))
    dots = directions(args)
    pulled = sum(float(np.sum(g * d)) for g, d in zip(gradients, dots, strict=True))
    assert pulled == pytest.approx(float(differences(f, args, dots)[0]), rel=1e-5)
    assert jvp(f, args, dots)[1] == pytest.approx(pulled, rel=1e-10)
    product = hvp(f, args, dots, tuple(range(len(args))))
    slope = grad(f, tuple(range(len(args))))
    close(leaves(product), differences(slope, args, dots), rtol=1e-4, atol=1e-5)


COMPILED = [
    (stencil, (LONG, 0.1)), (first_over, (V, 1.3)), (rk4, (1.1, 0.4, 0.1, 0.4)), (growing, (V,))
]  # fmt: skip


@pytest.mark.parametrize(("f", "args"), COMPILED, ids=[f.__name__ for f, _ in COMPILED])
def test_compiled(f, args):
    pytest.importorskip("numba")
    dots = directions(args)
    expected = jvp(f, args, dots)
    close(leaves(jvp(f, args, dots, backend="numba")), leaves(expected), rtol=1e-10)
    found = jacfwd(f, backend="numba")(*args)
    close(leaves(found), leaves(jacrev(f)(*args)), rtol=1e-9, atol=1e-10)
    if f is stencil:
        _, pushforward = linearize(f, *args, backend="numba")
        close(leaves(pushforward(*dots)), leaves(expected[1]), rtol=1e-10)
        loss = loss_of(f)
        close(leaves(hessian(loss, 0, backend="numba")(*args)), leaves(hessian(loss, 0)(*args)))


def lotka_volterra(p, steps):
    x, y = 3.0, 1.0
    for _ in range(steps):
        dx = x * (p[0] - y)
        y = y + p[1] * x
        x = x + dx
    return x


def test_text_of_a_tangent_over_a_loop():
    assert jvp(power_sum).source(0.5, 1.0) == """\
def power_sum_jvp(x, dot_x):
    y = 1.0
    dot_y = 0.0
    for i in range(4):
        y_sum = x + i
        y_sin = np.sin(y_sum)
        dot_y = dot_y * y_sin + dot_x * np.cos(y_sum) * y
        y = y * y_sin
    return y, dot_y
"""


def test_text_of_a_jacobian_over_a_loop():
    """Unit vectors are not there: an element of `p` has the tangent 1 along itself, else none."""
    assert jacfwd(lotka_volterra).source(np.ones(2), 5) == """\
def lotka_volterra_jacfwd(p, steps):
    x = 3.0
    y = 1.0
    dot_p1_x = 0.0
    dot_p1_y = 0.0
    dot_p0_x = 0.0
    dot_p0_y = 0.0
    for _ in range(steps):
        dx_diff = p[0] - y
        dx = x * dx_diff
        dot_p0_dx = dot_p0_x * dx_diff + (1.0 - dot_p0_y) * x
        dot_p1_dx = dot_p1_x * dx_diff - dot_p1_y * x
        y_item = p[1]
        y += y_item * x
        dot_p0_y += dot_p0_x * y_item
        dot_p1_y = dot_p1_y + x + dot_p1_x * y_item
        x += dx
        dot_p0_x += dot_p0_dx
        dot_p1_x += dot_p1_dx
    jacobian = np.array([dot_p0_x, dot_p1_x])
    return jacobian
"""


def test_text_of_stacks():
    text = jacfwd(stencil, 0).source(LONG, 0.1)
    assert "dot_u = np.eye(u.shape[0])" in text
    assert "dot_w[:, i] = " in text
    assert "return dot_v.T" in text or "jacobian = dot_v.T" in text


@pytest.mark.parametrize(
    ("primal", "stack", "words"),
    [
        (V, V, "the rows of `dot_v` have shape (), `v` has shape (5,)"),
        (V, np.ones((2, 4)), "the rows of `dot_v` have shape (4,)"),
        (V, np.ones((0, 5)), "`dot_v` has no rows"),
        (V, 1.0, "`dot_v` is a float; a stack of tangents is an array"),
        (V, np.ones((2, 5), "f4"), "`dot_v` has dtype float32"),
    ],
)
def test_refused_stacks(primal, stack, words):
    with pytest.raises(FlatgradError) as caught:
        jvp(aliased, (primal,), (stack,), stacked=True)
    assert words in str(caught.value)


def test_stacks_of_unlike_numbers_and_inside():
    with pytest.raises(ShapeError, match="unlike numbers of tangents: `dot_r` 2 and `dot_u` 3"):
        jvp(stencil, (LONG, 0.1), (np.ones((3, 11)), np.ones(2)), stacked=True)

    def inside(v):
        return np.sum(jvp(aliased, (v,), (np.ones((2, 5)),), stacked=True)[1])

    with pytest.raises(FlatgradError) as caught:
        grad(inside)(V)
    assert caught.value.code == "unsupported-call"


def test_stacks_of_float32_and_of_some_arguments():
    x, r = LONG.astype("f4"), np.float32(0.1)
    y, rows = jvp(stencil, (x, r), (np.eye(11, dtype="f4"), None), stacked=True)
    assert y.dtype == rows.dtype == np.float32
    np.testing.assert_allclose(rows.T, jacrev(stencil, 0)(x, r), rtol=1e-4, atol=1e-5)
    assert jacfwd(stencil, 1)(x, r).dtype == np.float32


def test_command_line_shows_a_tangent_over_a_loop(tmp_path, capsys):
    file = tmp_path / "loop.py"
    file.write_text("def f(x, n):\n    for i in range(n):\n        x = x * i\n    return x\n")
    for typed in ([], ["--at", "n=3"]):
        assert main(["show", f"{file}:f", "--mode", "forward", *typed]) == 0
        assert "dot_x *= i" in capsys.readouterr().out.replace("dot_x = dot_x * i", "dot_x *= i")


def test_pullback_of_a_gradient_with_a_checked_length():
    def f(A):
        x = np.diag(A)
        return np.sum(x**3)

    A = np.array([[0.3, -1.2], [0.7, 0.1]])
    value, pullback = vjp(grad(f), A)
    assert np.allclose(value, np.diag(3 * np.diag(A) ** 2))
    assert np.allclose(pullback(np.ones((2, 2)))[0], np.diag(6 * np.diag(A)))
