"""stop_gradient, custom_vjp and the adjoint hook: what runs in the backward sweep, and when."""

import sys

import numpy as np
import pytest

import flatgrad as fg
from flatgrad import adjoint, checkpoint, custom_vjp, grad, hvp, jvp, stop_gradient, vjp

X = np.linspace(-1.0, 2.0, 5)
SEEN = []


def note(g, what):
    SEEN.append((what, g))


class Recorder:
    def __init__(self):
        self.items = []

    def add(self, g):
        self.items.append(g)


RECORDER = Recorder()


def clipped(x, w):
    h = np.tanh(w * x)
    with adjoint(h) as g:
        g = np.clip(g, -0.1, 0.1)
    return np.sum(h * h * x)


def clipped_gradient(x, w):
    h = np.tanh(w * x)
    g = np.clip(2 * h * x, -0.1, 0.1) * (1 - h * h)
    return h * h + g * w, np.sum(g * x)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_the_adjoint_is_changed(backend):
    found = grad(clipped, backend=backend)(X, 2.0)
    for one, other in zip(found, clipped_gradient(X, 2.0), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-13)


def test_what_is_emitted():
    derived = grad(clipped, "w")
    derived(X, 2.0)
    assert derived.backward_source() == (
        "grad_value = 1.0\n"
        "grad_h = grad_value * x * h * 2\n"
        "grad_h_1 = np.clip(grad_h, -0.1, 0.1)\n"
        "grad_w = np.sum(grad_h_1 * (1 - h * h) * x)\n"
    )


def test_the_function_itself_is_unchanged():
    h = np.tanh(2.0 * X)
    assert clipped(X, 2.0) == np.sum(h * h * X)
    assert scalar(0.5) == 0.25 * 0.5
    y, dot = jvp(clipped, (X, 2.0), (np.ones(5), 0.0))
    assert y == clipped(X, 2.0)
    np.testing.assert_allclose(dot, np.sum(h * h + 2 * h * (1 - h * h) * 2.0 * X), rtol=1e-13)


def scalar(x):
    y = x * x
    with adjoint(y) as g:
        g = 10.0
    return y * x


def test_numbers():
    assert grad(scalar)(0.5) == 10.0 * 2 * 0.5 + 0.25


def looped(x, w, limit):
    h = x
    for t in range(4):
        h = np.tanh(w * h) + x
        with adjoint(h) as g:
            size = np.sqrt(np.sum(g * g))
            if size > limit * (1 + t):
                g = g * (limit * (1 + t) / size)
    return np.sum(h)


def looped_gradient(x, w, limit):
    states = [x]
    for _ in range(4):
        states.append(np.tanh(w * states[-1]) + x)
    g, grad_x, grad_w = np.ones_like(x), np.zeros_like(x), 0.0
    for t in range(3, -1, -1):
        size = np.sqrt(np.sum(g * g))
        if size > limit * (1 + t):
            g = g * (limit * (1 + t) / size)
        grad_x = grad_x + g
        s = g * (1 - np.tanh(w * states[t]) ** 2)
        grad_w += np.sum(s * states[t])
        g = s * w
    return grad_x + g, grad_w


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_in_a_loop_in_every_trip(backend):
    found = grad(looped, (0, 1), backend=backend)(X, 1.5, 0.3)
    for one, other in zip(found, looped_gradient(X, 1.5, 0.3), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def looped_again(x, w, limit):
    h = x
    for t in checkpoint(range(4)):
        h = np.tanh(w * h) + x
        with adjoint(h) as g:
            size = np.sqrt(np.sum(g * g))
            if size > limit * (1 + t):
                g = g * (limit * (1 + t) / size)
    return np.sum(h)


def test_in_a_checkpointed_loop():
    found = grad(looped_again, (0, 1))(X, 1.5, 0.3)
    for one, other in zip(found, looped_gradient(X, 1.5, 0.3), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def looking(x, w):
    h = x * 1.0
    for t in range(3):
        h[1:] += np.sin(w * h[:-1])
        with adjoint(h) as g:
            note(g, t)
            RECORDER.add(np.sum(g) * h[0])
    return np.sum(h)


def not_looking(x, w):
    h = x * 1.0
    for _ in range(3):
        h[1:] += np.sin(w * h[:-1])
    return np.sum(h)


def test_looking_changes_nothing():
    SEEN.clear()
    RECORDER.items.clear()
    found, expected = grad(looking)(X, 2.0), grad(not_looking)(X, 2.0)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [what for what, _ in SEEN] == [2, 1, 0]
    np.testing.assert_array_equal(SEEN[0][1], np.ones(5))
    assert len({id(g) for _, g in SEEN}) == 3  # each is a copy of its own
    assert RECORDER.items == [X[0] * np.sum(g) for _, g in SEEN]


def test_calls_are_refused_on_numba():
    with pytest.raises(fg.UnsupportedError) as caught:
        grad(looking, backend="numba")(X, 2.0)
    assert caught.value.code == "unsupported-backend"


def printing(x):
    h = np.sin(x)
    print("forward")
    with adjoint(h) as g:
        print("backward", g)
        print("here")
    return h * h


def test_prints_when_the_sweep_comes_by(capsys):
    grad(printing)(0.0)
    assert capsys.readouterr().out == "forward\nbackward 0.0\nhere\n"
    _, pullback = vjp(printing, 0.0)
    assert capsys.readouterr().out == "forward\n"
    pullback(1.0)
    pullback(1.0)
    assert capsys.readouterr().out == "backward 0.0\nhere\n" * 2


def stopping(x):
    h = np.sin(x)
    with adjoint(h):
        breakpoint()
    return h * h


def test_breakpoint(monkeypatch):
    stops = []
    monkeypatch.setattr(sys, "breakpointhook", lambda: stops.append(1))
    derived = grad(stopping)
    derived(0.3)
    assert stops == [1]
    assert "    breakpoint()\n" in derived.source()


def helper(h):
    h = h * 2.0
    with adjoint(h) as g:
        g = g + 1.0
    return h


def several(x, c):
    y = helper(x)
    if c > 0:
        z = y * 3.0
        with adjoint(z) as g:
            g *= 10.0
    else:
        z = y * 4.0
    with adjoint(z) as g:
        g = g + y
    with adjoint(x) as g:
        g = g * 0.0
    return np.sum(z) + np.sum(x)


def test_in_branches_and_callees_and_several():
    # z: 1 + y, times 10 in the branch; y: the sum of what comes from z, plus 1; x was read before
    y = 2 * X
    found = grad(several, "x")(X, 1.0)
    np.testing.assert_allclose(found, 2 * ((1 + y) * 10 * 3 + 1), rtol=1e-13)
    found = grad(several, "x")(X, -1.0)
    np.testing.assert_allclose(found, 2 * ((1 + y) * 4 + 1), rtol=1e-13)


def in_place(x):
    h = x * x
    with adjoint(h) as g:
        g[0] = 0.0
        g[1:] *= 2.0
    return np.sum(h * x)


def test_the_adjoint_is_written_in_place():
    factor = np.array([0.0, 2.0, 2.0, 2.0, 2.0])
    np.testing.assert_allclose(grad(in_place)(X), factor * X * 2 * X + X * X, rtol=1e-13)


def aliased(x):
    h = x * x
    k = h
    with adjoint(h) as g:
        g = g * 2.0
    return np.sum(k * x)


def test_all_names_of_an_array_are_meant():
    np.testing.assert_allclose(grad(aliased)(X), 2 * X * 2 * X + X * X, rtol=1e-13)


def scaled(x):
    h = x * x
    with adjoint(h) as g:
        g = g * h
    return np.sum(h * h)


def test_second_order_differentiates_the_backward_code():
    # The first gradient is (2 h) * h * 2 x = 4 x**5; the hook has done its work in it.
    np.testing.assert_allclose(grad(scaled)(X), 4 * X**5, rtol=1e-12)
    again = grad(lambda x: np.sum(grad(scaled)(x)))(X)
    np.testing.assert_allclose(again, 20 * X**4, rtol=1e-12)
    np.testing.assert_allclose(hvp(scaled, (X,), (np.ones(5),)), 20 * X**4, rtol=1e-12)


def overwritten(x):
    h = x * x
    with adjoint(h) as g:
        g = g * h
    h[0] = 5.0
    h *= 2.0
    return np.sum(h * x)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_the_body_reads_the_values_of_its_place(backend):
    expected = 2 * X * X * X * 2 * X + 2 * X * X
    expected[0] = 10.0
    np.testing.assert_allclose(grad(overwritten, backend=backend)(X), expected, rtol=1e-13)


def halving(x):
    h, k = x, 0
    while np.sum(h * h) > 0.5 and k < 9:
        h = np.sin(h) * h
        k += 1
        with adjoint(h) as g:
            for i in range(len(g)):
                g[i] = g[i] * k if g[i] > 0.0 else 0.0
    return np.sum(h)


def test_in_a_while_with_a_loop_in_the_body():
    states, h = [], X
    while np.sum(h * h) > 0.5 and len(states) < 9:
        states.append(h)
        h = np.sin(h) * h
    assert len(states) > 2
    g = np.ones(5)
    for k in range(len(states), 0, -1):
        g = np.where(g > 0, g * k, 0.0)
        s = states[k - 1]
        g = g * (np.cos(s) * s + np.sin(s))
    np.testing.assert_allclose(grad(halving)(X), g, rtol=1e-12)


def twice(x):
    h = x * x
    for w in (3.0, 0.5):
        h = h * w
        with adjoint(h) as g:
            size = np.sum(g * g)
            g = g / size
    with adjoint(h) as g:
        size = 2.0
        g = g * size
    return np.sum(h)


def test_names_of_one_body_in_the_next():
    g = np.full(5, 2.0)
    for w in (0.5, 3.0):
        g = g / np.sum(g * g) * w
    found = grad(twice)(X)
    np.testing.assert_allclose(found, g * 2 * X, rtol=1e-13)


def passed_by_later(x, w):
    h, k = x, w
    for _ in checkpoint(range(3)):
        with adjoint(k) as g:
            g = np.minimum(g, 1.0)
        h = np.sin(h) * k
        k = k * 1.5
    return h


def test_a_hook_that_would_run_twice():
    def slope(x, w):
        return grad(passed_by_later, "x")(x, w)

    assert isinstance(slope(0.3, 2.0), float)
    with pytest.raises(fg.UnsupportedError) as caught:
        grad(slope, "w")(0.3, 2.0)
    assert caught.value.code == "bad-hook"


def binds(x):
    h, c = x * x, 1.0
    with adjoint(h) as g:
        c = 2.0
        g = g * c
    return h * c


def writes(x):
    h, c = np.sin(x), np.zeros(5)
    with adjoint(h) as g:
        c[0] = 1.0
    return np.sum(h * c)


def appends(x):
    h, c = np.sin(x), []
    with adjoint(h) as g:
        c.append(g)
    return np.sum(h)


def leaves(x):
    h = np.sin(x)
    with adjoint(h) as g:
        return g
    return h


def breaks(x):
    for _ in range(3):
        x = np.sin(x)
        with adjoint(x) as g:
            g = g * 2
            break
    return x


def view(x):
    h = x * x
    v = h[1:]
    with adjoint(v) as g:
        g = g * 2
    return np.sum(v)


def expression(x):
    with adjoint(x * x) as g:
        g = g * 2
    return x


def reshapes(x):
    h = x * x
    with adjoint(h) as g:
        g = np.sum(g)
    return np.sum(h)


def longer(x):
    h = x * x
    with adjoint(h) as g:
        g = g[1:]
    return np.sum(h)


def reads_later(x):
    h = x * x
    with adjoint(h) as g:
        g = g * 2
    return h * g


def two(x):
    h, k = x * x, x + x
    with adjoint(h) as g, adjoint(k) as f:
        g = f
    return h * k


def plain_call(x):
    g = adjoint(x)
    return x


REFUSED = [
    (binds, 0.3, 2), (writes, X, 2), (appends, X, 2), (leaves, 0.3, 2), (breaks, 0.3, 3),
    (view, X, 3), (expression, 0.3, 1), (reshapes, X, 2), (longer, X, 2), (reads_later, 0.3, 4),
    (two, 0.3, 2), (plain_call, 0.3, 1),
]  # fmt: skip


@pytest.mark.parametrize(("f", "x", "line"), REFUSED)
def test_refused(f, x, line):
    with pytest.raises(fg.UnsupportedError) as caught:
        grad(f)(x)
    assert caught.value.code == "bad-hook"
    assert caught.value.diagnostic.span.line == f.__code__.co_firstlineno + line


def other_manager(x):
    with np.errstate(all="ignore"):
        return x * x


def test_other_context_managers():
    with pytest.raises(fg.UnsupportedError) as caught:
        grad(other_manager)(0.3)
    assert caught.value.code == "unsupported-statement"


# stop_gradient


def stopped(x):
    y = stop_gradient(x * x)
    return np.sum(y * x)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_stop_gradient(backend):
    derived = grad(stopped, backend=backend)
    np.testing.assert_allclose(derived(X), X * X, rtol=1e-14)
    assert "grad_y" not in derived.source()
    assert jvp(stopped, (X,), (X,), backend=backend)[1] == pytest.approx(np.sum(X**3))
    second = grad(lambda x: np.sum(grad(stopped)(x) * x))(X)
    np.testing.assert_allclose(second, X * X, rtol=1e-14)


def tree(x):
    a, (b, c) = stop_gradient((x, (x * x, 3)))
    return x * a * b * c


def alias_of_stopped(x):
    y = x * 1.0
    z = stop_gradient(y)
    y[0] = 5.0
    return np.sum(z * x) + np.sum(y)


def test_stop_gradient_is_the_object_itself():
    assert stop_gradient(X) is X
    assert grad(tree)(2.0) == 24.0
    # z sees the write, as in Python
    z = X.copy()
    z[0] = 5.0
    expected = z + np.array([0.0, 1.0, 1.0, 1.0, 1.0])
    np.testing.assert_allclose(grad(alias_of_stopped)(X), expected, rtol=1e-14)


# custom_vjp


@custom_vjp
def doubled(x, k):
    return np.exp(x) * k


def doubled_forward(x, k):
    y = np.exp(x)
    return y * k, (y, {"k": k})


def doubled_backward(kept, grad_y):
    y, rest = kept
    return grad_y * y * rest["k"] * 2, np.sum(grad_y * y)


doubled.defvjp(doubled_forward, doubled_backward)


def uses_doubled(x, k):
    y = doubled(x * 2, k)
    return np.sum(y * x)


@pytest.mark.parametrize("backend", ["numpy", "numba"])
def test_the_rule_is_the_gradient(backend):
    grad_x, grad_k = grad(uses_doubled, backend=backend)(X, 3.0)
    np.testing.assert_allclose(grad_x, np.exp(2 * X) * 3 * (4 * X + 1), rtol=1e-13)
    np.testing.assert_allclose(grad_k, np.sum(np.exp(2 * X) * X), rtol=1e-13)


def test_the_code_is_flat():
    derived = grad(uses_doubled, "x")
    derived(X, 3.0)
    assert " doubled(" not in derived.source()
    assert derived.source().count("np.exp") == 1
    assert doubled(X, 3.0) == pytest.approx(np.exp(X) * 3.0)


def test_second_order_is_that_of_the_rule():
    def slope(x, k):
        return np.sum(grad(uses_doubled, "x")(x, k) ** 2)

    def slope_by_hand(x, k):
        return np.sum((np.exp(2 * x) * k * (4 * x + 1)) ** 2)

    for one, other in zip(grad(slope)(X, 3.0), grad(slope_by_hand)(X, 3.0), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


def looped_custom(x, k):
    for _ in range(3):
        x = doubled(np.sin(x), k)
        if np.sum(x) > 3.0:
            x = doubled(x * 0.1, 1.0)
    return np.sum(x)


def looped_by_hand(x, k):
    """Each call has twice the slope in x; the two kinds of paths are followed by hand."""
    states, calls = [], []
    for _ in range(3):
        states.append(x)
        x = np.exp(np.sin(x)) * k
        calls.append(np.sum(x) > 3.0)
        if calls[-1]:
            states.append(x)
            x = np.exp(x * 0.1)
    g, grad_k = np.ones_like(x), 0.0
    for call in reversed(calls):
        if call:
            s = states.pop()
            g = g * np.exp(s * 0.1) * 2 * 0.1
        s = states.pop()
        grad_k += np.sum(g * np.exp(np.sin(s)))
        g = g * np.exp(np.sin(s)) * k * 2 * np.cos(s)
    return g, grad_k


def test_in_loops_and_branches():
    found = grad(looped_custom)(X, 0.4)
    for one, other in zip(found, looped_by_hand(X, 0.4), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)


@pytest.mark.parametrize("f", [uses_doubled])
def test_no_forward_mode(f):
    with pytest.raises(fg.UnsupportedError) as caught:
        jvp(f, (X, 3.0), (X, 1.0))
    assert caught.value.code == "no-derivative"
    assert caught.value.diagnostic.span is not None


def power_of(n, x):
    return x**n


def power_forward(n, x):
    return x**n, x


def power_backward(n, x, grad_y):
    return (grad_y * 100.0 * x ** (n - 1),)


power = custom_vjp(power_of, nondiff_argnums=0)
power.defvjp(power_forward, power_backward)


def test_nondiff_argnums():
    assert grad(lambda x: power(3, x) * 2.0)(2.0) == 800.0


@custom_vjp
def product(pair, c=1.0):
    a, b = pair
    return a * b * c


def product_backward(kept, grad_y):
    (a, _), c = kept
    return (None, grad_y * a * c * 5), None


product.defvjp(lambda pair, c: (pair[0] * pair[1] * c, (pair, c)), product_backward)


def test_arguments_in_tuples_and_by_keyword():
    def f(a, b):
        return np.sum(product((a, b), c=2.0))

    grad_a, grad_b = grad(f)(X, X + 1.0)
    np.testing.assert_array_equal(grad_a, np.zeros(5))
    np.testing.assert_allclose(grad_b, X * 10)


@custom_vjp
def summed(x, y=2.0):
    return product((x, x)) * y


def summed_forward(x, y):
    z = x * 0.0
    for _ in range(3):
        z = z + product((x, x)) * y / 3.0
    return z, x


def summed_backward(x, grad_y):
    for _ in range(2):
        grad_y = grad_y * x
    return grad_y, None


summed.defvjp(summed_forward, summed_backward)


def test_rules_that_call_rules_and_loop():
    def f(x):
        return np.sum(summed(x))

    def slope(x):
        return np.sum(grad(f)(x))

    np.testing.assert_allclose(grad(f)(X), X * X)
    np.testing.assert_allclose(grad(slope)(X), 2 * X)


@custom_vjp
def unfinished(x):
    return x


@custom_vjp
def one_result(x, y):
    return x * y


one_result.defvjp(lambda x, y: x * y, lambda kept, g: (g, g))


@custom_vjp
def one_cotangent(x, y):
    return x * y


one_cotangent.defvjp(lambda x, y: (x * y, x), lambda kept, g: (g,))


@custom_vjp
def same_array(x):
    return x


same_array.defvjp(lambda x: (x, None), lambda kept, g: (g,))


@custom_vjp
def wrong_shape(x):
    return x * 2


wrong_shape.defvjp(lambda x: (x * 2, x), lambda kept, g: (np.outer(g, g),))


@pytest.mark.parametrize(
    "f",
    [
        lambda x: unfinished(x), lambda x: one_result(x, x), lambda x: one_cotangent(x, x),
        lambda x: np.sum(same_array(np.stack([x, x]))), lambda x: np.sum(wrong_shape(np.stack([x, x]))),
    ],
)  # fmt: skip
def test_rules_that_do_not_fit(f):
    with pytest.raises(fg.ArgumentError) as caught:
        grad(f)(0.3)
    assert caught.value.code == "bad-rule"


def test_custom_vjp_of_no_function():
    with pytest.raises(fg.ArgumentError):
        custom_vjp(3)
    with pytest.raises(fg.ArgumentError):
        custom_vjp(power_of).defvjp(1, 2)


def test_forward_function_calls_the_function_itself():
    @custom_vjp
    def clipped(x):
        return np.clip(x, -1.0, 1.0)

    clipped.defvjp(lambda x: (clipped(x), x), lambda x, grad_y: (2.0 * grad_y,))

    def f(x):
        return np.sum(clipped(x) * x)

    x = np.array([0.3, -2.0])
    assert np.allclose(grad(f)(x), np.clip(x, -1, 1) + 2 * x)


def test_custom_vjp_is_no_function_to_differentiate():
    @custom_vjp
    def square(x):
        return x * x

    with pytest.raises(fg.FlatgradError, match="a `custom_vjp`, which has a rule") as caught:
        grad(square)(2.0)
    assert "lambda x: square(x)" in str(caught.value)
