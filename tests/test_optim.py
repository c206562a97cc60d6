"""Steps of optimizers: the published formulas, from Python and from `@njit` code."""

from __future__ import annotations

import inspect
import pickle
import subprocess
import sys
import textwrap
import tomllib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

import numba
import numpy as np
import pytest

from flatgrad import FlatgradError, grad, optim, value_and_grad
from flatgrad.backends import numba_optim  # noqa: F401  (where no entry point is installed)

compiled = numba.njit(error_model="numpy")
STEPS = 12


class Layer(NamedTuple):
    W: np.ndarray
    b: float


class Other(NamedTuple):
    b: float
    W: np.ndarray


@dataclass
class Net:
    W: np.ndarray
    layers: list


def reference(method, p, gradients, rate, **options):
    """The formulas as published, one float64 number after the other, by Python's own floats."""
    p, mean, square = [float(x) for x in p], [0.0] * len(p), [0.0] * len(p)
    for t, g in enumerate(gradients, start=1):
        for i, x in enumerate(map(float, g)):
            if method == "sgd":
                p[i] -= rate(t) * x
            elif method == "momentum":  # Polyak
                mean[i] = options["beta"] * mean[i] + x
                p[i] -= rate(t) * mean[i]
            elif method == "nesterov":  # Sutskever et al. (2013), as PyTorch and optax have it
                mean[i] = options["beta"] * mean[i] + x
                p[i] -= rate(t) * (x + options["beta"] * mean[i])
            else:  # Kingma and Ba (2015), algorithm 1
                b1, b2 = options["beta1"], options["beta2"]
                mean[i] = b1 * mean[i] + (1 - b1) * x
                square[i] = b2 * square[i] + (1 - b2) * x * x
                m_hat, v_hat = mean[i] / (1 - b1**t), square[i] / (1 - b2**t)
                p[i] -= rate(t) * m_hat / (v_hat**0.5 + options["epsilon"])
    return np.array(p)


def schedule(t):
    return 0.1 / t


def sgd(p, gradients, in_place):
    for k in range(len(gradients)):
        p = optim.sgd(p, gradients[k], 0.1 / (k + 1), in_place=in_place)
    return p


def momentum(p, gradients, in_place):
    state = optim.momentum_init(p)
    for k in range(len(gradients)):
        p, state = optim.momentum(p, gradients[k], state, 0.1 / (k + 1), 0.8, in_place=in_place)
    return p


def nesterov(p, gradients, in_place):
    state = optim.momentum_init(p)
    for k in range(len(gradients)):
        p, state = optim.momentum(
            p, gradients[k], state, rate=0.1 / (k + 1), beta=0.8, nesterov=True, in_place=in_place
        )
    return p


def adam(p, gradients, in_place):
    state = optim.adam_init(p)
    for k in range(len(gradients)):
        p, state = optim.adam(
            p, gradients[k], state, 0.1 / (k + 1), 0.8, 0.99, epsilon=1e-3, in_place=in_place
        )
    return p


METHODS = {
    "sgd": (sgd, {}),
    "momentum": (momentum, {"beta": 0.8}),
    "nesterov": (nesterov, {"beta": 0.8}),
    "adam": (adam, {"beta1": 0.8, "beta2": 0.99, "epsilon": 1e-3}),
}


def in_njit(train, in_place):
    """The same loop, compiled with the option written out."""
    text = textwrap.dedent(inspect.getsource(train)).replace("in_place=in_place", f"in_place={in_place}")
    space = {"optim": optim}
    exec(text, space)
    found = compiled(space[train.__name__])
    return lambda p, gradients: found(p, gradients, in_place)


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize("name", METHODS)
def test_formulas(name, in_place):
    train, options = METHODS[name]
    rng = np.random.default_rng(0)
    for dtype, tolerance in (("float64", 1e-12), ("float32", 2e-5)):
        start = rng.normal(size=(2, 3)).astype(dtype)
        gradients = rng.normal(size=(STEPS, 2, 3)).astype(dtype)
        flat = gradients.reshape(STEPS, 6)
        expected = reference(name, start.ravel(), flat, schedule, **options).reshape(2, 3)
        p = start.copy()
        found = train(p, gradients, in_place)
        assert found.dtype == dtype
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
        assert np.array_equal(p, found if in_place else start)
        assert np.shares_memory(p, found) == in_place


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("dtype, in_place", [("float64", False), ("float32", True)])
def test_compiled_is_what_python_gives(name, dtype, in_place):
    """To the last digit: the formulas are one text, and nothing is reassociated."""
    train, _ = METHODS[name]
    rng = np.random.default_rng(1)
    start = rng.normal(size=(3, 5)).astype(dtype)
    gradients = rng.normal(size=(STEPS, 3, 5)).astype(dtype)
    p = start.copy()
    found = in_njit(train, in_place)(p, gradients)
    np.testing.assert_array_equal(found, train(start.copy(), gradients, in_place))
    assert np.array_equal(p, found if in_place else start)
    assert np.shares_memory(p, found) == in_place


def test_numbers_keep_their_kind():
    for number, kind in ((2.0, float), (np.float32(2), np.float32), (np.float64(2), np.float64), (2, float)):
        new, state = optim.adam(number, 0.5, optim.adam_init(number), rate=0.25)
        assert type(new) is kind
        assert new == pytest.approx(1.75)
        assert type(state.mean) is kind
    new = optim.sgd(np.array(2.0, "f4"), np.float64(0.5), 1.0)
    assert (new.dtype, new.shape, new[()]) == ("float32", (), 1.5)
    place = np.array(2.0)
    assert optim.sgd(place, 0.5, 1.0, in_place=True) is place
    assert place == 1.5


def test_first_step_of_adam_is_the_rate():
    p, state = optim.adam(np.zeros(2), np.array([3.0, -1e-3]), optim.adam_init(np.zeros(2)), 0.01)
    np.testing.assert_allclose(p, [-0.01, 0.01], rtol=1e-4)
    assert state.step == 1


def structures():
    W, b = np.arange(6.0).reshape(2, 3), np.ones(3)
    yield {"W": W, "layers": [(b, 0.5), Layer(W + 1, 1.0)], "units": 3, "name": "relu", "shape": (2, 3)}
    yield [W, b]
    yield Layer(W, 0.5)
    yield Net(W, [b, {"scale": 2.0}, None])
    yield (W, (b, (0.5, ())))
    yield {}


def leaves(tree):
    if isinstance(tree, dict):
        return [leaf for item in tree.values() for leaf in leaves(item)]
    if isinstance(tree, Net):
        return leaves([tree.W, tree.layers])
    if isinstance(tree, list | tuple) and not all(type(x) is int for x in tree):
        return [leaf for item in tree for leaf in leaves(item)]
    return [tree]


@pytest.mark.parametrize("params", [*structures()], ids=lambda tree: type(tree).__name__)
@pytest.mark.parametrize("in_place", [False, True])
def test_structures(params, in_place):
    before = pickle.dumps(params)
    params = pickle.loads(before)  # of its own: it is written to
    grads = gradient_of_halved_squares(params)
    news = [
        optim.sgd(params, grads, 0.5),
        optim.momentum(params, grads, optim.momentum_init(params), 0.5)[0],
        optim.momentum(params, grads, optim.momentum_init(params), 0.25, 1.0, True)[0],
    ]
    assert pickle.dumps(params) == before
    news.append(optim.sgd(params, grads, 0.5, in_place=in_place))
    for new in news:
        assert type(new) is type(params)
        for one, old in zip(leaves(new), leaves(pickle.loads(before)), strict=True):
            assert type(one) is type(old)
            changes = isinstance(old, float | np.ndarray)
            assert np.array_equal(one, 0.5 * old) if changes else one == old
    arrays = [x for x in leaves(params) if isinstance(x, np.ndarray)]
    assert len(arrays) == sum(isinstance(x, np.ndarray) for x in leaves(grads))
    kept = [any(x is y for y in leaves(news[-1])) for x in arrays]
    assert kept == [in_place] * len(arrays)


def gradient_of_halved_squares(tree):
    """The gradient is what the parameters are, in the form in which flatgrad hands it out."""
    if isinstance(tree, dict):
        return {key: gradient_of_halved_squares(item) for key, item in reversed(tree.items())}
    if isinstance(tree, Net):
        return Net(*map(gradient_of_halved_squares, (tree.W, tree.layers)))
    if isinstance(tree, Layer):
        return Layer(*map(gradient_of_halved_squares, tree))
    if isinstance(tree, list | tuple) and (not tree or not all(type(x) is int for x in tree)):
        return type(tree)(map(gradient_of_halved_squares, tree))
    return 1.0 * tree if isinstance(tree, float | np.ndarray) else None


def test_with_gradients_of_flatgrad():
    """What `value_and_grad` hands out goes straight into a step."""

    def loss(params, scale, X):
        return np.mean((X @ params["W"] + params["b"][0]) ** 2) * scale

    params = ({"W": np.ones(3), "b": [0.5, 2], "units": 3}, 2.0)
    X = np.arange(12.0).reshape(4, 3) - 5
    step = value_and_grad(loss, argnums=("params", "scale"))
    first, _ = step(*params, X)
    state = optim.adam_init(params)
    for k in range(40):
        value, grads = step(*params, X)
        params, state = optim.adam(params, grads, state, 0.05 * 0.97**k)
    assert value < 0.1 * first
    assert params[0]["units"] == 3
    both = grad(lambda W, b: np.sum(W * W) + b * b)
    W, b = optim.sgd([np.ones(2), 1.0], both(np.ones(2), 1.0), 0.25)
    assert (W.tolist(), b) == ([0.5, 0.5], 0.5)


MISFITS = [
    (lambda: optim.sgd(np.ones(3), np.ones(2), 0.1), "gradient of `params` is a float64 array"),
    (lambda: optim.sgd(np.ones(3), 1.0, 0.1), "gradient of `params` is a number"),
    (lambda: optim.sgd(1.0, np.ones(3), 0.1), "`params` is a number"),
    (lambda: optim.sgd({"W": np.ones(3)}, {"V": np.ones(3)}, 0.1), "other parts"),
    (lambda: optim.sgd((1.0, 2.0), (1.0,), 0.1), "other parts"),
    (lambda: optim.sgd(Layer(1.0, 2.0), Other(1.0, 2.0), 0.1), "other parts"),
    (lambda: optim.sgd(Net(1.0, []), {"W": 1.0, "layers": []}, 0.1), "other parts"),
    (lambda: optim.sgd({"n": np.arange(3)}, {"n": np.ones(3)}, 0.1), "no float array"),
    (lambda: optim.sgd({"on": True}, {"on": 1.0}, 0.1), "no float"),
    (lambda: optim.adam(1.0, 1.0, None), "the state is a NoneType"),
    (lambda: optim.adam(1.0, 1.0, optim.momentum_init(1.0)), "the state is a MomentumState"),
    (lambda: optim.adam(np.ones(3), np.ones(3), optim.adam_init(np.ones(2))), "state of `params`"),
    (lambda: optim.adam(np.ones(3), np.ones(3), optim.adam_init(np.ones(3, "f4"))), "state of `params`"),
    (lambda: optim.adam({"a": [1.0]}, {"a": [1.0]}, optim.adam_init({"a": [None]})), r"params\['a'\]\[0\]"),
    (lambda: sharing_moments(), "share memory"),
]  # fmt: skip


def sharing_moments():
    zeros = np.zeros(3)
    return optim.adam(np.ones(3), np.ones(3), optim.AdamState(0, zeros, zeros), in_place=True)


@pytest.mark.parametrize("number", range(len(MISFITS)))
def test_misfits(number):
    call, words = MISFITS[number]
    with pytest.raises(FlatgradError, match=words) as caught:
        call()
    assert caught.value.code == "bad-update"


def test_in_place_with_overlap_is_as_if_copied():
    memory = np.arange(6.0)
    expected = memory[1:] - 0.5 * memory[:-1]
    optim.sgd(memory[1:], memory[:-1], 0.5, in_place=True)
    np.testing.assert_array_equal(memory[1:], expected)


# Compiled code


@compiled
def adam_of_structure(params, grads, steps):
    state = optim.adam_init(params)
    for k in range(steps):
        params, state = optim.adam(params, grads, state, rate=0.1 * 0.9**k)
    return params, state


@compiled
def momentum_of_structure(params, grads, steps):
    state = optim.momentum_init(params)
    for _ in range(steps):
        params, state = optim.momentum(params, grads, state, 0.1, nesterov=True, in_place=True)
        params = optim.sgd(params, grads, 0.1)
    return params, state


def same_tree(one, other):
    assert type(one) is type(other)
    if isinstance(one, tuple):
        assert len(one) == len(other)
        for x, y in zip(one, other):
            same_tree(x, y)
    elif isinstance(one, np.ndarray):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-12 if one.dtype == "f8" else 1e-6)
    else:
        assert one == other or one == pytest.approx(other, rel=1e-12)


def test_compiled_structures():
    rng = np.random.default_rng(2)
    W, b, V = rng.normal(size=(2, 3)), rng.normal(size=3).astype("f4"), rng.normal(size=(2, 2, 2))
    params = (Layer(W, 0.5), (b, (V, 1.5)), 3, np.asfortranarray(W), None)
    grads = (Layer(W + 1, 2.0), (b - 1, (V * 2, -1.0)), None, np.asfortranarray(W - 1), None)
    for run in (adam_of_structure, momentum_of_structure):
        found = run(pickle.loads(pickle.dumps(params)), grads, 5)
        expected = run.py_func(pickle.loads(pickle.dumps(params)), grads, 5)
        same_tree(found, expected)


def test_compiled_with_strides_and_mixed_layouts():
    rng = np.random.default_rng(3)
    memory = rng.normal(size=(6, 8))
    g = np.asfortranarray(rng.normal(size=(3, 4)))

    @compiled
    def run(p, g):
        state = optim.adam_init(p)
        for _ in range(3):
            p, state = optim.adam(p, g, state, 0.1, in_place=True)
        return p

    expected = run.py_func(memory.copy()[::2, ::2], g)
    around = memory.copy()
    found = run(memory[::2, ::2], g)
    np.testing.assert_array_equal(found, expected)
    around[::2, ::2] = expected
    np.testing.assert_array_equal(memory, around)  # and nothing between


def test_compiled_float32_stays_float32():
    @compiled
    def kinds(p, number, g):
        new, state = optim.adam((p, number), (g, 1.0), optim.adam_init((p, number)))
        return new[0], np.array([new[1]]), state.mean[0], np.array([state.square[1]])

    found = kinds(np.ones(3, "f4"), np.float32(2), np.ones(3))
    assert [x.dtype for x in found] == [np.float32] * 4


def compiled_refusals():
    @compiled
    def shapes(p, g):
        return optim.sgd(p, g, 0.1)

    @compiled
    def parts(p, g):
        return optim.sgd((p, p), (g,), 0.1)

    @compiled
    def names(p, g):
        return optim.sgd(Layer(p, 1.0), Other(1.0, g), 0.1)

    @compiled
    def state(p, g):
        return optim.adam(p, g, optim.momentum_init(p))

    @compiled
    def option(p, g, yes):
        return optim.sgd(p, g, 0.1, in_place=yes)

    @compiled
    def no_gradient_type(p, g):
        return optim.sgd(p, "g", 0.1)

    @compiled
    def same_memory(p, g):
        return optim.momentum(p, g, optim.MomentumState(p), 0.1, in_place=True)

    @compiled
    def shifted(p, g):
        return optim.sgd(p[1:], p[:-1], 0.1, in_place=True)

    @compiled
    def integers(p, g):
        return optim.sgd(p, g, 0.1)

    fixed = np.ones(3)
    fixed.flags.writeable = False

    @compiled
    def written(p, g):
        return optim.sgd(p, g, 0.1, in_place=True)

    x = np.ones(3)
    return [
        (shapes, (x, np.ones(2)), ValueError, "another shape"),
        (shapes, (x, 1.0), numba.TypingError, "`params` is of type"),
        (parts, (x, x), numba.TypingError, "other parts"),
        (names, (x, x), numba.TypingError, "other parts"),
        (state, (x, x), numba.TypingError, "optim.adam_init"),
        (option, (x, x, True), numba.TypingError, "`in_place` must be"),
        (no_gradient_type, (x, x), numba.TypingError, "its gradient of"),
        (same_memory, (x, np.ones(3)), ValueError, "share memory"),
        (shifted, (x, x), ValueError, "share memory"),
        (integers, (np.arange(3), x), numba.TypingError, "`params` is of type"),
        (written, (fixed, x), numba.TypingError, "read-only"),
    ]


@pytest.mark.parametrize("number", range(11))
def test_compiled_refusals(number):
    call, args, kind, words = compiled_refusals()[number]
    with pytest.raises(kind, match=words):
        call(*args)


def test_gradient_may_be_the_parameter_itself():
    @compiled
    def halve(p):
        return optim.sgd(p, p, 0.5, in_place=True)

    p = np.array([1.0, 2.0])
    assert halve(p).tolist() == [0.5, 1.0]
    assert p.tolist() == [0.5, 1.0]


def in_two_places():
    """Parameters and gradients, of which a later one would see what is written for an earlier."""
    a, b, c, d = (np.full(3, number) for number in (1.0, 5.0, 2.0, 3.0))
    return [((a, b), (c, a)), ((a, b), (c, a[::-1])), ((a, b, c), (d, d, b))]


def shared_states():
    a, b, c, v = (np.full(3, number) for number in (1.0, 5.0, 2.0, 0.0))
    return [((a, b), (c, c), (v, v)), ((a, b), (c, v), (v, c)), ((a, b), (c, c), (b, v))]


@pytest.mark.parametrize("number", range(3))
def test_arrays_of_two_parameters_are_refused(number):
    @compiled
    def plain(p, g):
        return optim.sgd(p, g, 0.1, in_place=True)

    @compiled
    def heavy(p, g, v):
        return optim.momentum(p, g, optim.MomentumState(v), 0.1, in_place=True)

    for function in (plain, plain.py_func):
        with pytest.raises((ValueError, FlatgradError), match="of another parameter"):
            function(*in_two_places()[number])
    for function in (heavy, heavy.py_func):
        with pytest.raises((ValueError, FlatgradError), match="of another parameter"):
            function(*shared_states()[number])


def test_an_array_that_stands_twice_gets_both_steps():
    @compiled
    def step(p, g):
        return optim.sgd(p, g, 0.5, in_place=True)

    for function in (step, step.py_func):
        p, g = np.ones(3), np.ones(3)
        function((p, p, np.zeros(0), p[:2]), (g, g, np.zeros(0), g[:2]))
        assert p.tolist() == [-0.5, -0.5, 0.0]
        grid = np.ones((2, 4))
        function((grid[:, :2], grid[:, 2:]), (g[:1] + np.zeros((2, 2)), np.zeros((2, 2))))
        assert grid.tolist() == [[0.5, 0.5, 1.0, 1.0]] * 2


def test_entry_point_registers_with_numba():
    """An installed flatgrad needs no import of a backend."""
    root = Path(__file__).parent.parent
    declared = tomllib.loads((root / "pyproject.toml").read_text())["project"]["entry-points"]
    assert declared["numba_extensions"] == {"init": "flatgrad.backends.numba_extensions:register"}
    if not any(
        point.value == declared["numba_extensions"]["init"]
        for point in metadata.entry_points(group="numba_extensions")
    ):
        pytest.skip("flatgrad is not installed, or was before there was an entry point")
    code = """
    import numba, numpy as np
    from flatgrad import optim, sigmoid
    print(numba.njit(lambda p: optim.sgd(p, sigmoid(p), 2.0))(0.0))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) == -1.0
