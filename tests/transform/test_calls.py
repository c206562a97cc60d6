"""Calls that stay calls: their derivatives, and what is emitted for them.

Every program is compiled twice, with all calls as functions of their own and with none: both give
the same derivatives of all kinds, those that central differences give.
"""

from __future__ import annotations

import inspect
import textwrap
import tracemalloc

import numpy as np
import pytest

import flatgrad
from flatgrad import check_grads, grad, hvp, jvp, linearize, vjp
from flatgrad.backends import python
from flatgrad.codegen.module import build_module
from flatgrad.codegen.numba_dialect import NumbaDialect
from flatgrad.ir.interpret import interpret
from flatgrad.transform import outline

rng = np.random.default_rng(3)
PROGRAMS = {}


def program(*args):
    def register(f):
        PROGRAMS[f.__name__] = (f, args)
        return f

    return register


def vector():
    return rng.uniform(0.3, 0.9, size=4)


def layer(x, W, b):
    # a layer with something to keep
    a = x @ W + b
    h = np.tanh(a)
    return h * np.exp(-h)


def smooth(x, k):
    y = x * k + np.sin(x)
    z = np.exp(-y * y)
    return y * z + np.cos(z)


def both(x, y):
    s = np.sin(x) * y
    t = np.cos(y) * s
    return s + t, t * t, np.sum(s)


def norm(x):
    total = 0.0
    for i in range(len(x)):
        total = total + x[i] * x[i] * np.sin(total + x[i])
    return total


def signed(x, s):
    if s > 1.0:
        return np.sin(x) * s
    y = x * x
    return y + s


def transposed(W):
    V = W * W + np.sin(W)
    return V.T


def first(x):
    v = np.exp(x)
    return v[0], x


def increased(x):
    x[0] = x[0] * 2.0 + np.sin(x[1])
    return x


def pair_of(params, x):
    h = np.tanh(params["W"] * x + params["b"][0])
    return {"h": h, "s": np.sum(h * h)}


def outer(x, k):
    y = smooth(x, k)
    return smooth(y, k + 1.0) * y


SCALE = np.array([0.5, 0.6, 0.7, 0.8])


def scaled(x):
    y = x * SCALE
    return np.sin(y) + y


@flatgrad.checkpoint
def block(x, w):
    h = np.tanh(x * w)
    t = h * np.exp(-h)
    return np.sin(t) + t


@flatgrad.checkpoint
def nested_block(x, w):
    y = block(x, w) + norm(x)
    return block(y, w * 0.5) * y


@flatgrad.checkpoint
def swept(x, w):
    s = 0.0
    for i in range(len(x)):
        s = np.tanh(s + x[i] * w[i])
        x = x * s
    return x, s


@program(rng.normal(size=(5, 3)), rng.normal(size=(3, 4)), vector(), rng.normal(size=(4, 2)), vector()[:2])
def network(x, W1, b1, W2, b2):
    h = layer(x, W1, b1)
    y = layer(h, W2, b2)
    return np.mean(y * y)


@program(vector(), 0.4)
def twice(x, k):
    y = smooth(x, k)
    return np.sum(smooth(y, k) * smooth(x, 2.0))


@program(0.3, 0.4)
def numbers(x, k):
    return smooth(smooth(x, k), x)


@program(vector(), vector())
def several_results(x, y):
    a, b, c = both(x, y)
    d, e, _ = both(b, x)
    return np.sum(a * d + e) * c


@program(vector(), 0.7)
def loops_inside(x, k):
    return norm(x) * k + norm(x * k)


@program(vector(), 0.4, 3)
def in_a_loop(x, k, n):
    y = x
    for i in range(n):
        y = smooth(y, k + i)
    return np.sum(smooth(y, k))


@program(vector(), 0.4)
def in_a_while(x, k):
    y = x
    s = 0.0
    while s < 2.0:
        y = smooth(y, k)
        s = s + np.sum(y * y) + 0.5
        if s > 50.0:
            break
    return s + np.sum(smooth(x, s))


@program(vector(), 0.4)
@program(vector(), 1.4)
def in_a_branch(x, k):
    if k > 1.0:
        y = smooth(x, k)
    else:
        y = smooth(x * k, k) * 2.0
    return np.sum(y)


@program(vector(), 0.4)
def ragged(x, k):
    s = 0.0
    for i in range(1, len(x)):
        s = s + np.sum(smooth(x[:i], k))
    return s + np.sum(smooth(x, k))


@program(vector(), 1.4)
@program(vector(), 0.4)
def early_return(x, k):
    return np.sum(signed(x, k)) * np.sum(signed(x * x, k * k))


@program(rng.normal(size=(2, 3)), vector()[:2])
def views(W, x):
    T = transposed(W)
    T[0] = x * T[1]
    S = transposed(T)
    return np.sum(S @ T) + np.sum(T)


@program(vector())
def handed_through(x):
    a, y = first(x)
    b, z = first(y * 2.0)
    z[0] = a
    return np.sum(z * y) * b


@program(vector())
def written_arguments(x):
    y = increased(x * 1.0)
    z = increased(y)
    return np.sum(z * z) + np.sum(increased(y * x))


@program(vector(), vector(), vector())
def containers(W, b, x):
    params = {"W": W, "b": b}
    one = pair_of(params, x)
    two = pair_of(params, one["h"])
    return one["s"] * two["s"] + np.sum(two["h"])


@program(vector(), 0.4)
def calls_in_calls(x, k):
    return np.sum(outer(x, k) * outer(x * 2.0, k))


@program(vector())
def captured(x):
    return np.sum(scaled(scaled(x)))


@program(rng.uniform(size=6))
def stencil(u):
    a = smooth(u[1:-1], 0.5) + u[:-2]
    return np.sum(smooth(a, 0.5) * smooth(u, 0.5)[2:])


@program(vector(), vector())
def checkpointed(x, w):
    for _ in range(3):
        x = block(x, w)
    return np.sum(block(block(x, w), w[::-1]))


@program(vector(), vector())
def checkpointed_once(x, w):
    return np.sum(block(x, w) * w)


@program(vector(), vector())
def checkpoints_in_checkpoints(x, w):
    return np.sum(nested_block(nested_block(x, w), w))


@program(vector(), vector())
def checkpointed_loops(x, w):
    y, s = swept(x, w)
    z, t = swept(y, w)
    return np.sum(z) * s * t


@program(vector(), vector())
def checkpoint_made_here(x, w):
    once = flatgrad.checkpoint(smooth)
    return np.sum(once(x, 2.0) * once(w, 2.0)) + flatgrad.checkpoint(norm)(w)


@pytest.fixture
def calls(monkeypatch):
    monkeypatch.setattr(outline, "LARGE", 0)


def leaves(tree):
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, tuple | list):
        return [leaf for item in tree for leaf in leaves(item)]
    return [] if tree is None else [tree]


def squared(f, argnums):
    """The squared length of the gradient of `f`, to be differentiated again."""
    slope = grad(f, argnums=argnums)
    if len(inspect.signature(f).parameters) == 1:
        return lambda x: sum_of_squares(slope(x))
    if len(inspect.signature(f).parameters) == 2:
        return lambda x, y: sum_of_squares(slope(x, y))
    if len(inspect.signature(f).parameters) == 3:
        return lambda x, y, z: sum_of_squares(slope(x, y, z))
    return lambda a, b, c, d, e: sum_of_squares(slope(a, b, c, d, e))


def sum_of_squares(parts):
    total = 0.0
    for part in parts:
        total = total + np.sum(part * part)
    return total


def floats_of(args):
    return tuple(k for k, arg in enumerate(args) if not isinstance(arg, int))


def derivatives(f, args):
    """All kinds of derivatives of one function."""
    floats = floats_of(args)
    draw = np.random.default_rng(0)
    dots = [
        None if isinstance(arg, int) else draw.normal(size=np.shape(arg))[()] for arg in args
    ]  # fmt: skip
    dots = [float(dot) if isinstance(dot, np.float64) else dot for dot in dots]
    found = {
        "grad": grad(f, argnums=floats)(*args),
        "jvp": jvp(f, args, dots),
        "hvp": hvp(f, args, dots, argnums=floats),
        "second": grad(squared(f, floats), argnums=floats)(*args),
    }
    if len(floats) == len(args):
        y, pullback = vjp(f, *args)
        found["vjp"] = (y, pullback(1.5))
    return {kind: leaves(tree) for kind, tree in found.items()}


def compare(called, inline):
    for kind, expected in inline.items():
        for one, other in zip(called[kind], expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-8, atol=1e-10, err_msg=kind)
            assert type(one) is type(other) or kind == "second", kind


@pytest.mark.parametrize("name", PROGRAMS)
def test_same_derivatives_as_inline(name, monkeypatch):
    f, args = PROGRAMS[name]
    monkeypatch.setattr(outline, "LARGE", 10**9)
    inline = derivatives(f, args)
    monkeypatch.setattr(outline, "LARGE", 0)
    compare(derivatives(f, args), inline)


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradient_against_differences(name, calls):
    f, args = PROGRAMS[name]
    check_grads(f, args, argnums=floats_of(args))


STRAIGHT = ["network", "twice", "numbers", "several_results", "views", "containers", "captured",
            "calls_in_calls", "stencil", "checkpointed_once"]  # fmt: skip


@pytest.mark.parametrize("name", STRAIGHT)
def test_linearize(name, calls):
    f, args = PROGRAMS[name]
    dots = [rng.normal(size=np.shape(arg))[()] for arg in args]
    dots = [float(dot) if np.ndim(dot) == 0 else dot for dot in dots]
    y, pushforward = linearize(f, *args)
    expected, dot_y = jvp(f, args, dots)
    np.testing.assert_allclose(y, expected)
    np.testing.assert_allclose(pushforward(*dots), dot_y)


def modules(name, kinds=("grad", "hvp")):
    """The final IR and arguments of some derivatives of a program."""
    f, args = PROGRAMS[name]
    floats = floats_of(args)
    makers = {
        "grad": lambda: (grad(f, argnums=floats), ()),
        "hvp": lambda: (hvp(f, argnums=floats), [args[k] for k in floats]),
        "jvp": lambda: (jvp(f), [args[k] for k in floats]),
    }
    for kind in kinds:
        public, dots = makers[kind]()
        derived = public.__flatgrad__
        filled = [*args, *[None] * (len(derived.seeds) and len(args))]
        if dots:
            for k, dot in zip(floats, dots, strict=True):
                filled[len(args) + k] = dot
        values = dict(zip(derived.signature.parameters, filled, strict=True))
        compiled = derived.specialise(values).compiled
        given = [float(a) if isinstance(a, float) else a for a in filled if a is not None]
        yield compiled, given + [capture.value for capture in compiled.hidden]


def run(text, name, args):
    return leaves(getattr(python.load(name, text, {}), name)(*args))


@pytest.mark.parametrize("name", PROGRAMS)
def test_interpreted_emitted_and_numba_text_agree(name, calls, monkeypatch):
    """Numba's text is run as plain Python here; no argument is changed."""
    monkeypatch.setattr("numba.njit", lambda *args, **kwargs: lambda function: function)
    for compiled, args in modules(name):
        given = [np.copy(arg) if isinstance(arg, np.ndarray) else arg for arg in args]
        expected = interpret(compiled.graph, given)
        for dialect in (None, NumbaDialect()):
            module = compiled.module
            if dialect is not None:
                module = build_module(compiled.graph, module.name, dialect)
            found = run(module.text, module.name, given)
            for one, other in zip(found, expected, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-9, err_msg=module.text)
        for one, other in zip(given, args, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", ["in_a_loop", "several_results", "checkpoints_in_checkpoints"])
def test_compiled_by_numba(name, calls):
    f, args = PROGRAMS[name]
    floats = floats_of(args)
    expected = leaves(grad(f, argnums=floats)(*args))
    found = leaves(grad(f, argnums=floats, backend="numba")(*args))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


def test_single_precision_stays(calls):
    def f(x, k):
        return np.sum(smooth(smooth(x, k), k))

    x, k = np.float32([0.3, 0.5]), np.float32(0.7)
    for backend in ("numpy", "numba"):
        gx, gk = grad(f, backend=backend)(x, k)
        assert (gx.dtype, gk.dtype) == (np.float32, np.float32)
        wide = grad(f)(np.float64(x), np.float64(k))
        np.testing.assert_allclose(gx, wide[0], rtol=1e-5)
        np.testing.assert_allclose(gk, wide[1], rtol=1e-5)


def golden(text):
    return textwrap.dedent(text).lstrip("\n")


def test_text_of_a_function_called_twice(calls):
    f, args = PROGRAMS["network"]
    derived = grad(f, argnums=("W1", "b1", "W2", "b2"))
    assert derived.source(*args) == golden(
        '''
        def layer_forward(x, W, b):
            """`layer`, and what its backward sweep reads."""
            # a layer with something to keep
            a = x @ W + b
            h = np.tanh(a)
            value_exp = np.exp(-h)
            value = h * value_exp
            return value, h, value_exp


        def layer_backward(x, W, h, value_exp, grad_value):
            """The backward sweep of `layer`."""
            # backward
            grad_h = grad_value * value_exp - grad_value * h * value_exp
            grad_a = grad_h * (1 - h * h)
            grad_b = grad_a.sum(axis=0)
            grad_x = grad_a @ W.T
            grad_W = x.T @ grad_a
            return grad_x, grad_W, grad_b


        def layer_backward_1(x, h, value_exp, grad_value):
            """The backward sweep of `layer`."""
            # backward
            grad_h = grad_value * value_exp - grad_value * h * value_exp
            grad_a = grad_h * (1 - h * h)
            grad_b = grad_a.sum(axis=0)
            grad_W = x.T @ grad_a
            return grad_W, grad_b


        def network_grad(x, W1, b1, W2, b2):
            # forward
            h, h_1, value_exp = layer_forward(x, W1, b1)
            y, h_2, value_exp_1 = layer_forward(h, W2, b2)
            # backward
            grad_value = 1.0
            grad_y = grad_value / y.size * 2 * y
            grad_h, grad_W2, grad_b2 = layer_backward(h, W2, h_2, value_exp_1, grad_y)
            grad_W1, grad_b1 = layer_backward_1(x, h_1, value_exp, grad_h)
            return grad_W1, grad_b1, grad_W2, grad_b2
        '''
    )
    assert derived.backward_source() == golden(
        '''
        def layer_backward(x, W, h, value_exp, grad_value):
            grad_h = grad_value * value_exp - grad_value * h * value_exp
            grad_a = grad_h * (1 - h * h)
            grad_b = grad_a.sum(axis=0)
            grad_x = grad_a @ W.T
            grad_W = x.T @ grad_a

        def layer_backward_1(x, h, value_exp, grad_value):
            grad_h = grad_value * value_exp - grad_value * h * value_exp
            grad_a = grad_h * (1 - h * h)
            grad_b = grad_a.sum(axis=0)
            grad_W = x.T @ grad_a

        def network_grad(x, W1, b1, W2, b2):
            grad_value = 1.0
            grad_y = grad_value / y.size * 2 * y
            grad_h, grad_W2, grad_b2 = layer_backward(h, W2, h_2, value_exp_1, grad_y)
            grad_W1, grad_b1 = layer_backward_1(x, h_1, value_exp, grad_h)
        '''
    )


def test_text_of_a_checkpoint():
    def f(x, w):
        for k in range(3):
            x = block(x, w)
        y = block(x, w)
        return np.sum(y * y)

    assert grad(f).source(vector(), vector()) == golden(
        '''
        def block(x, w):
            h = np.tanh(x * w)
            t = h * np.exp(-h)
            value = np.sin(t) + t
            return value


        def block_backward(x, w, grad_value):
            """The backward sweep of `block`, which computes its values again."""
            # forward
            h = np.tanh(x * w)
            t_exp = np.exp(-h)
            t = h * t_exp
            # backward
            grad_t = grad_value + grad_value * np.cos(t)
            grad_h = grad_t * t_exp - grad_t * h * t_exp
            grad_h_prod = grad_h * (1 - h * h)
            grad_x = grad_h_prod * w
            grad_w = grad_h_prod * x
            return grad_x, grad_w


        def f_grad(x, w):
            # forward
            x_tape = np.empty((3, x.shape[0]))
            for k in range(3):
                x_tape[k] = x
                x = block(x, w)
            y = block(x, w)
            # backward
            grad_value = 1.0
            grad_y = grad_value * 2 * y
            grad_x, grad_w = block_backward(x, w, grad_y)
            for k in range(2, -1, -1):
                x = x_tape[k]
                grad_x, grad_w_1 = block_backward(x, w, grad_x)
                grad_w += grad_w_1
            return grad_x, grad_w
        '''
    )


def test_ir_of_a_call(calls):
    f, args = PROGRAMS["numbers"]
    assert grad(f).lower(*args)["ir"] == golden(
        '''
        func smooth(%x: float64, %k: float) -> (%value) {
          %y_prod: float64 = mul(%x, %k)
          %y_sin: float64 = sin(%x)
          %y: float64 = add(%y_prod, %y_sin)
          %z_neg: float64 = neg(%y)
          %z_prod: float64 = mul(%z_neg, %y)
          %z: float64 = exp(%z_prod)
          %value_prod: float64 = mul(%y, %z)
          %value_cos: float64 = cos(%z)
          %value: float64 = add(%value_prod, %value_cos)
        }

        func numbers(%x: float, %k: float) -> (%value) {
          %smooth: float64 = smooth(%x, %k)
          %value: float64 = smooth(%smooth, %x)
        }
        '''
    ).rstrip()


def test_line_map_of_all_functions(calls):
    f, args = PROGRAMS["network"]
    derived = grad(f)
    lines = derived.line_map(*args)
    text = derived.module_source().splitlines()
    assert all(text[line.number - 1].strip() == line.text for line in lines)
    assert all("=" in line.text or "return" in line.text for line in lines)
    kept = next(line for line in lines if line.text == "h = np.tanh(a)")
    assert kept.span.text.strip() == "h = np.tanh(a)"


def test_saved_module_runs_alone(calls, tmp_path):
    f, args = PROGRAMS["network"]
    derived = grad(f)
    expected = derived(*args)
    path = derived.save(tmp_path / "saved.py", *args)
    found = run(path.read_text(), "network_grad", args)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def test_small_functions_stay_inline():
    f, args = PROGRAMS["network"]
    assert "def layer" not in grad(f).source(*args)


def test_large_functions_do_not():
    def large(x, k):
        for j in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0):
            x = x * k + np.sin(x * j) * np.cos(x + j)
        return x

    def f(x, k):
        return large(large(large(x, k), k), k)

    text = grad(f).source(0.3, 0.5)
    assert text.count("def large_forward(") == 1
    assert text.count("def large_backward(") == 1
    assert text.count("large_backward(") == 4
    check_grads(f, (0.3, 0.5))
    once = grad(lambda x, k: large(x, k))
    assert "def large" not in once.source(0.3, 0.5)


def test_lengths_that_differ_in_text_only(calls):
    def f(x, y, z):
        return np.sum(smooth(x, 0.5)) + np.sum(smooth(y, 0.5)) * np.sum(smooth(z[1:], 0.5))

    args = (vector(), vector()[:3], vector())
    assert grad(f).source(*args).count("def smooth_forward") == 1
    check_grads(f, args)


def test_what_is_static_makes_functions_differ(calls):
    def power(x, n, up):
        y = x**n + np.sin(x)
        return y * 2.0 if up else y * x

    def f(x):
        return power(x, 2, True) + power(x, 3, True) + power(x, 2, True) + power(x, 3, False)

    text = grad(f).source(0.3)
    assert text.count("def power_backward") == 1
    check_grads(f, (0.7,))


def test_mask_of_a_where_is_not_lost(calls):
    def root(x):
        y = np.sqrt(x) * 2.0
        return y + np.sqrt(x)

    def f(x):
        return np.sum(np.where(x > 0, root(x), 0.0) + np.where(x > 0, root(x), x))

    found = grad(f)(np.array([0.0, 4.0]))
    np.testing.assert_allclose(found, [1.0, 1.5])


def test_printing_happens_once(calls, capsys):
    @flatgrad.checkpoint
    def noisy(x):
        print("noisy")
        return np.sin(x) * x

    def f(x):
        return noisy(noisy(x))

    grad(f)(0.3)
    assert capsys.readouterr().out == "noisy\n" * 2


def test_printing_in_a_called_function_happens_once(calls, capsys):
    def noisy(x):
        print("noisy")
        return np.sin(x) * x

    @flatgrad.checkpoint
    def twice_noisy(x):
        return noisy(noisy(x)) * x

    grad(lambda x: twice_noisy(x) + x)(0.3)
    assert capsys.readouterr().out == "noisy\n" * 2


def test_checkpoint_is_the_function_itself():
    assert block(0.3, 0.5) == block.__wrapped__(0.3, 0.5)
    assert block.__name__ == "block"
    with pytest.raises(flatgrad.UnsupportedError, match="checkpoint of a value of type float"):
        flatgrad.checkpoint(3.0)


def test_checkpoint_of_what_has_a_rule():
    def f(x):
        return np.sum(flatgrad.checkpoint(np.tanh)(x))

    check_grads(f, (vector(),))


def test_error_in_a_function_names_its_line(calls):
    def inverse(A):
        B = np.linalg.inv(A)
        return B @ B

    def f(A):
        return np.sum(inverse(A) + inverse(A * 2.0))

    with pytest.raises(np.linalg.LinAlgError) as caught:
        grad(f)(np.zeros((2, 2)))
    assert "B = np.linalg.inv(A)" in "".join(caught.value.__notes__)


def peak(function, *args):
    function(*args)
    tracemalloc.start()
    try:
        result = function(*args)
        return result, tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def ten_steps(x):
    a = np.sin(x)
    b = a * x
    c = np.tanh(b)
    d = c * a + b
    e = np.cos(d)
    g = e * c
    h = np.exp(-g * g)
    p = h * e + d
    q = np.sin(p)
    return q * h


def test_memory_of_checkpoints():
    """Twenty blocks of ten steps: without checkpoints all values are kept, with them one block."""
    kept = flatgrad.checkpoint(ten_steps)

    def plain(x):
        for _ in (1,) * 20:
            x = ten_steps(x)
        return np.sum(x)

    def saving(x):
        for _ in (1,) * 20:
            x = kept(x)
        return np.sum(x)

    x = np.linspace(0.1, 1.0, 100_000)
    expected, much = peak(grad(plain), x)
    found, little = peak(grad(saving), x)
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    assert little < much / 3
    assert little < 80 * x.nbytes
