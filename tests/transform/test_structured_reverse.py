"""Reverse mode through loops and branches, on programs built by hand, against differences."""

from __future__ import annotations

import importlib.util
import pathlib
from dataclasses import replace

import numpy as np
import pytest

from flatgrad.errors import FlatgradError
from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import Block, Const, For, While
from flatgrad.ir.printer import print_function
from flatgrad.ir.verify import verify
from flatgrad.pipeline import CLEAN_UP
from flatgrad.transform.clone import all_ops, with_blocks
from flatgrad.transform.forward import forward
from flatgrad.transform.reverse import reverse

_path = pathlib.Path(__file__).with_name("programs.py")
_spec = importlib.util.spec_from_file_location("programs", _path)
programs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(programs)
Program, differences = programs.Program, programs.differences

rng = np.random.default_rng(0)


def floats(*shape):
    return rng.uniform(0.5, 1.5, shape)


CASES = {}


def case(*arguments, wrt=None):
    def register(function):
        CASES[function.__name__] = (function, arguments, wrt)
        return function

    return register


@case(0.7, 5)
def power_sum(p, x, n):
    return p.loop(0, n, 1, {"y": 1.0}, lambda i, y: y * np.sin(x + i))


@case(0.7, 0)
def zero_trips(p, x, n):
    return p.loop(0, n, 1, {"y": x}, lambda i, y: y * np.sin(x + i)) * x


@case(0.7, -3)
def negative_trips(p, x, n):
    return p.loop(0, n, 1, {"y": x}, lambda i, y: y * np.sin(x + i)) * x


@case(0.9, 0.2, 7)
def linear_recurrence(p, a, b, n):
    return p.loop(0, n, 1, {"y": a}, lambda i, y: y * 0.5 + b * 2.0)


@case(floats(3, 3) / 2, floats(3), 4)
def matrix_power(p, W, h, n):
    return np.sum(p.loop(0, n, 1, {"h": h}, lambda i, h: np.tanh(W @ h)))


@case(floats(3, 3) / 2, floats(3, 2), floats(3), floats(3), 4)
def recurrent(p, W, V, b, h, n):
    return np.sum(p.loop(0, n, 1, {"h": h}, lambda i, h: np.tanh(W @ h + b) * np.sum(V)))


@case(floats(6), 3)
def stencil_swap(p, u, steps):
    def sweep(t, u, v):
        def inner(i, v):
            return p.write(v, i, u[i - 1] * u[i] + u[i + 1] ** 2, "v")

        return p.loop(1, u.shape[0] - 1, 1, {"v": v}, inner), u

    u, _ = p.loop(0, steps, 1, {"u": u * 1.0, "v": u * 1.0}, sweep)
    return np.sum(u * u)


@case(floats(6), 3)
def gauss_seidel(p, u, steps):
    def sweep(t, u):
        def inner(i, u):
            return p.write(u, i, np.sin(u[i - 1]) * u[i + 1] + u[i], "u")

        return p.loop(1, u.shape[0] - 1, 1, {"u": u}, inner)

    return np.sum(p.loop(0, steps, 1, {"u": u * 1.0}, sweep) ** 2)


@case(floats(4, 3), floats(3))
def gather_nested(p, A, w):
    def outer(i, s):
        return p.loop(0, A.shape[1], 1, {"s": s}, lambda j, s: s + np.sin(A[i, j]) * w[j])

    return p.loop(0, A.shape[0], 1, {"s": 0.0}, outer)


@case(floats(6), 5)
def triangular(p, x, n):
    def outer(i, s):
        return p.loop(0, i, 1, {"s": s}, lambda j, s: s * np.cos(x[j]) + x[i])

    return p.loop(0, n, 1, {"s": 1.0}, outer)


@case(floats(6), 5)
def triangular_down(p, x, n):
    def outer(i, s):
        return p.loop(i, 0, -2, {"s": s}, lambda j, s: np.sin(s) * np.cos(x[j]) + x[i])

    return p.loop(n, -1, -1, {"s": 1.0}, outer)


@case(floats(8) - 1.0)
def if_in_for(p, x):
    def body(i, s):
        big = x[i] > 0.0
        return p.branch(["s"], big, lambda: s * x[i] + 1.0, lambda: s - np.exp(x[i]) * s * s)

    return p.loop(0, x.shape[0], 1, {"s": 0.3}, body)


@case(floats(8) - 1.0)
def if_on_carried(p, x):
    def body(i, a, s):
        y = a[i]
        new = p.branch(
            ["y"], y > 0.0, lambda: np.sin(a[i]) * s, lambda: np.exp(np.sum(a * a) / 9.0) * y
        )
        return p.write(a, i, new, "a"), s + new * new

    a, s = p.loop(0, x.shape[0], 1, {"a": x * 1.0, "s": 0.3}, body)
    return s + np.sum(a)


@case(0.8, 4, True)
def for_in_if(p, x, n, flag):
    return p.branch(
        ["y"],
        flag,
        lambda: p.loop(0, n, 1, {"y": x}, lambda i, y: np.sin(y) * x),
        lambda: x * x,
    )


@case(0.8, 4, False)
def for_in_if_not(p, x, n, flag):
    return for_in_if(p, x, n, flag)


@case(floats(5) - 1.0, 0.6)
def for_in_if_in_for(p, x, y):
    def body(i, s):
        return p.branch(
            ["s"],
            x[i] > 0.0,
            lambda: p.loop(0, i, 1, {"s": s}, lambda j, s: np.sin(s) * x[j] + y),
            lambda: np.cos(s),
        )

    return p.loop(0, x.shape[0], 1, {"s": y}, body)


@case(0.8, 3)
def for_in_for(p, x, n):
    def outer(i, y):
        return np.tanh(p.loop(0, n, 1, {"y": y}, lambda j, y: np.sin(y * x + j)) * y)

    return p.loop(0, n, 1, {"y": x}, outer)


@case(0.8, 3)
def three_deep(p, x, n):
    def inner(k, y):
        return np.sin(y * x + k)

    def middle(j, y):
        return p.loop(0, n, 1, {"y": y}, inner) * y

    return p.loop(0, n, 1, {"y": x}, lambda i, y: p.loop(0, n, 1, {"y": y}, middle))


@case(0.8, 3)
def three_deep_triangular(p, x, n):
    def outer(i, y):
        def middle(j, y):
            return p.loop(0, j + 1, 1, {"y": y}, lambda k, y: np.sin(y * x + k)) * y

        return p.loop(0, i + 1, 1, {"y": y}, middle)

    return p.loop(0, n, 1, {"y": x}, outer)


@case(floats(9), 8)
def strided(p, x, n):
    return p.loop(n, 0, -3, {"y": 1.0}, lambda i, y: np.sin(y) * x[i])


@case(floats(9), 8)
def strided_up(p, x, n):
    return p.loop(1, n, 3, {"y": 1.0}, lambda i, y: np.sin(y) * x[i])


@case(floats(9), 8)
def backwards(p, x, n):
    return p.loop(n, 2, -1, {"y": 1.0}, lambda i, y: np.sin(y) * x[i])


@case(floats(9))
def inactive_counter(p, x):
    return p.loop(
        0, 4, 1, {"y": 1.0, "k": 0}, lambda i, y, k: (np.sin(y) * x[k], k + 2)
    )[0]


@case(0.9)
def overwritten(p, x):
    y, z = p.loop(0, 4, 1, {"y": x, "z": x}, lambda i, y, z: (np.sin(x) * i, z * y))
    return y * z


@case(6.3)
def halvings(p, x):
    y, _k = p.while_(
        {"y": x, "k": 0}, lambda y, k: y > 1.0, lambda y, k: (y / 2.0 + np.sin(y) / 9.0, k + 1)
    )
    return y * x


@case(floats(3, 3) / 2, floats(3))
def while_vectors(p, W, h):
    h, _k = p.while_(
        {"h": h, "k": 0}, lambda h, k: k < 5, lambda h, k: (np.tanh(W @ h + h), k + 1)
    )
    return np.sum(h * h)


@case(0.9, 1)
def exits(p, x, start):
    def body(i, y):
        new = y * x + np.sin(y)
        return new > 9.0, new

    return p.loop(start, 50, 2, {"y": x}, body, exits=True) ** 2


@case(floats(5), 20)
def exits_nested(p, x, n):
    def outer(i, s):
        def body(j, y):
            new = np.sin(y) * x[i] + y + 0.2
            return new > 4.0, new

        return p.loop(0, n, 1, {"y": s}, body, exits=True) * 0.3

    return p.loop(0, x.shape[0], 1, {"s": 0.5}, outer)


@case(floats(6))
def whiles_nested(p, x):
    def body(s, k):
        s, _ = p.while_(
            {"s": s, "j": 0}, lambda s, j: j < k, lambda s, j: (np.sin(s) * x[j] + x[k], j + 1)
        )
        return s, k + 1

    return p.while_({"s": 1.0, "k": 0}, lambda s, k: k < 6, body)[0]


@case(floats(5, 4), 3)
def local_arrays(p, A, n):
    def body(i, s):
        row = p.name(A[i] * s, "row")
        total = p.loop(0, 4, 1, {"q": 0.0}, lambda j, q: q + np.sin(row[j]) * row[0])
        part = np.sum(A[i, : i + 1] ** 2)
        return np.tanh(total) + part

    return p.loop(0, n, 1, {"s": 1.0}, body)


@case(floats(6))
def ragged_slices(p, x):
    def body(i, a):
        head = p.name(np.sin(a[: i + 1]), "head")
        return p.write(a, i, np.sum(head * head) / (1.0 + head[0]), "a")

    return np.sum(p.loop(0, x.shape[0], 1, {"a": x * 1.0}, body) ** 2)


@case(floats(4, 4))
def ragged_matrices(p, x):
    def body(i, a):
        head = a[: i + 1, :]
        inner = p.name(np.exp(np.sum(head, axis=1, keepdims=True) / 20.0) * head, "inner")
        return p.write(a, i, np.sum(inner @ inner.T, axis=0)[0] * a[i], "a")

    return np.sum(p.loop(0, x.shape[0], 1, {"a": x * 1.0}, body))


@case(0.7, 5)
def seed_used_outside(p, x, n):
    a = p.name(np.sin(x), "a")
    y = p.loop(0, n, 1, {"y": a}, lambda i, y: y * a + x)
    return y * a + a


def test_float32_stays():
    """Numbers read from a tape do not widen what they meet."""

    def f(p, W, h, n):
        def body(i, h, s, k):
            h = np.tanh(W @ h * s)
            return h, s * 0.9 + 0.1 * float_(h[0]), k + 1

        return np.sum(p.loop(0, n, 1, {"h": h, "s": 1.0, "k": 0}, body)[0])

    def float_(x):
        return programs.apply_function(float, (x,), {}, x.builder)

    W, h = (floats(3, 3) / 4).astype(np.float32), floats(3).astype(np.float32)
    _, derived, _ = gradient(f, (W, h, 4))
    for fn in (derived, clean(derived)):
        found = interpret(fn, (W, h, 4))
        assert [one.dtype for one in found] == ["float32"] * 3
    wide = gradient(f, (W.astype(float), h.astype(float), 4))[1]
    expected = interpret(wide, (W.astype(float), h.astype(float), 4))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4)


def tapes(name):
    """The tapes of a case after clean-up: names and ranks."""
    fn = clean(gradient(*CASES[name])[1])
    carried = [v for op in all_ops(fn.body) if isinstance(op, For | While) for v in op.results]
    return sorted(f"{v.name}:{v.type.ndim}" for v in carried if v.name.endswith("_tape"))


def test_what_is_taped():
    assert tapes("power_sum") == ["y_tape:1"]
    assert tapes("linear_recurrence") == []
    assert tapes("gather_nested") == []
    assert tapes("stencil_swap") == ["u_tape:2"]
    assert tapes("for_in_for") == ["y_tape:1", "y_tape:1", "y_tape:2", "y_tape:2"]
    assert tapes("inactive_counter") == ["y_tape:1"]


def gradient(function, arguments, wrt=None):
    program = Program(function, arguments)
    fn = program.fn
    if wrt is None:
        wrt = [k for k, param in enumerate(fn.params) if param.type.differentiable]
    derived, adjoints = reverse(fn, [fn.params[k] for k in wrt])
    derived = replace(
        derived, body=Block(derived.params, derived.body.ops, (*fn.results, *adjoints))
    )
    return fn, derived, wrt


@pytest.mark.parametrize("name", CASES)
def test_gradient(name):
    function, arguments, wrt = CASES[name]
    fn, derived, wrt = gradient(function, arguments, wrt)
    verify(derived)
    expected = differences(fn, arguments, wrt)
    value = interpret(fn, arguments)[0]
    for run in [None, *[step for _, step in CLEAN_UP]]:
        if run is not None:
            derived = run(derived)
            verify(derived)
        found = interpret(derived, arguments)
        np.testing.assert_allclose(found[0], value, rtol=1e-12)
        for one, other, k in zip(found[1:], expected, wrt, strict=True):
            assert np.shape(one) == np.shape(arguments[k])
            np.testing.assert_allclose(one, other, rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("name", CASES)
def test_second_order(name):
    """The gradient of a weighted sum of the gradient."""
    function, arguments, wrt = CASES[name]
    _fn, derived, wrt = gradient(function, arguments, wrt)
    body = Block(derived.params, list(derived.body.ops), ())
    builder = programs.Builder(body, derived.lengths)
    builder.part = "t"
    total = programs.Symbol(derived.results[0], builder) * 0.3
    for k, adjoint in enumerate(derived.results[1:]):
        if isinstance(adjoint, programs.Const):
            continue
        g = programs.Symbol(adjoint, builder)
        total = total + (np.sum(g * g) if g.ndim else g * g) * (k + 0.7)
    total.value.name, total.value.kept = "total", True
    body.yields = (total.value,)
    first = replace(derived, body=body)
    for _, run in CLEAN_UP[:3]:
        first = run(first)
        verify(first)
    second, adjoints = reverse(first, [first.params[k] for k in wrt])
    second = replace(second, body=Block(second.params, second.body.ops, tuple(adjoints)))
    expected = differences(first, arguments, wrt)
    verify(second)
    for run in [None, *[step for _, step in CLEAN_UP]]:
        if run is not None:
            second = run(second)
            verify(second)
    for one, other in zip(interpret(second, arguments), expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


def clean(fn):
    for _, run in CLEAN_UP:
        fn = run(fn)
        verify(fn)
    return fn


@pytest.mark.parametrize("name", CASES)
def test_forward_against_reverse(name):
    """The inner products <bar, J dot> and <J' bar, dot> agree."""
    function, arguments, wrt = CASES[name]
    fn, derived, wrt = gradient(function, arguments, wrt)
    pushed, dots = forward(fn, [fn.params[k] for k in wrt])
    pushed = clean(replace(pushed, body=Block(pushed.params, pushed.body.ops, tuple(dots))))
    draw = np.random.default_rng(1)
    seeds = [draw.normal(size=np.shape(arguments[k])) for k in wrt]
    seeds = [seed if np.ndim(seed) else float(seed) for seed in seeds]
    (dot,) = interpret(pushed, [*arguments, *seeds])
    gradients = interpret(derived, arguments)[1:]
    expected = sum(np.sum(g * seed) for g, seed in zip(gradients, seeds, strict=True))
    np.testing.assert_allclose(dot, expected, rtol=1e-10)


@pytest.mark.parametrize("name", CASES)
def test_forward_over_reverse(name):
    """Tangents of the gradient, against differences of the gradient along a direction."""
    function, arguments, wrt = CASES[name]
    _fn, derived, wrt = gradient(function, arguments, wrt)
    derived = clean(derived)
    pushed, dots = forward(derived, [derived.params[k] for k in wrt])
    verify(pushed)
    pushed = clean(replace(pushed, body=Block(pushed.params, pushed.body.ops, tuple(dots))))
    draw = np.random.default_rng(1)
    seeds = [draw.normal(size=np.shape(arguments[k])) for k in wrt]
    seeds = [seed if np.ndim(seed) else float(seed) for seed in seeds]
    found = interpret(pushed, [*arguments, *seeds])
    ends = []
    for sign in (1e-6, -1e-6):
        moved = list(arguments)
        for k, seed in zip(wrt, seeds, strict=True):
            moved[k] = moved[k] + sign * seed
        ends.append(interpret(derived, moved))
    for one, high, low in zip(found, *ends, strict=True):
        np.testing.assert_allclose(one, (high - low) / 2e-6, rtol=2e-5, atol=2e-6)


def show(name):
    """Print the gradient program of a case, cleaned up."""
    function, arguments, wrt = CASES[name]
    _, derived, _ = gradient(function, arguments, wrt)
    for _, run in CLEAN_UP:
        derived = run(derived)
    print(print_function(derived))
    return derived


def test_what_is_read_twice_is_recorded_once():
    def f(x, w, v):
        y = x.copy()
        total = 0.0
        for i in range(1, x.size):
            total += np.tanh(y[i] * w) + np.tanh(y[i] * v)
            y[i] = y[i - 1] * 0.5
        return total

    import flatgrad as fg

    source = fg.grad(f).source(np.ones(4), 0.5, 0.7)
    assert source.count("_tape = np.empty(") == 1
    assert fg.check_grads(f, (np.ones(4), 0.5, 0.7))


def marked(block, how):
    """The block with every loop that runs through its trips checkpointed."""
    ops = []
    for op in block.ops:
        op = with_blocks(op, lambda inner: marked(inner, how))
        if isinstance(op, For) and not op.exits:
            count = Const(how) if how else None
            op = replace(op, checkpoint="revolve" if how else "sqrt", snapshots=count)
        ops.append(op)
    return Block(block.params, ops, block.yields)


@pytest.mark.parametrize("how", [0, 1, 2, 5])
@pytest.mark.parametrize("name", CASES)
def test_checkpointed(name, how):
    """All loops of all cases, in segments or with snapshots: the same gradients."""
    function, arguments, wrt = CASES[name]
    expected = gradient(function, arguments, wrt)[1]
    fn, _, wrt = gradient(function, arguments, wrt)
    fn = replace(fn, body=marked(fn.body, how))
    try:
        found, adjoints = reverse(fn, [fn.params[k] for k in wrt])
    except FlatgradError as caught:
        if not how or caught.code != "bad-checkpoint":
            raise
        return
    found = replace(found, body=Block(found.params, found.body.ops, (*fn.results, *adjoints)))
    verify(found)
    for one, other in zip(interpret(found, arguments), interpret(expected, arguments), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-11, atol=1e-13)
