"""What a function takes from outside: a changed value is seen at the next call."""

from __future__ import annotations

import dataclasses
import functools
import types

import numpy as np
import pytest

from flatgrad import grad, value_and_grad
from flatgrad.errors import FlatgradError

RATE = 2.0
ORDER = 2
W = np.array([1.0, 2.0, 3.0])
LAYERS = [np.array([1.0, 2.0]), np.array([3.0, 4.0])]
OPTIONS = {"power": 2, "scale": 3.0, "weights": [1.0, 2.0]}
SWITCHES = [True, False]
POINT = types.SimpleNamespace(rate=2.0, power=2)
config = types.ModuleType("config")
config.rate = 2.0
config.mode = "square"


class Settings:
    """Class attributes, a method and a static method."""

    rate = 2.0

    @staticmethod
    def square(x):
        return x * x


@dataclasses.dataclass
class Model:
    """An object with an array and a method that reads it."""

    w: np.ndarray
    power: int = 2

    def predict(self, x):
        return np.sum(self.w * x) ** self.power


MODEL = Model(np.array([1.0, 2.0]))


@pytest.fixture(autouse=True)
def _restored():
    """Globals of this module are as before after each test."""
    before = dict(globals())
    layers, options, switches = list(LAYERS), dict(OPTIONS), list(SWITCHES)
    yield
    globals().update(before)
    W[:], DEFAULT[:] = [1.0, 2.0, 3.0], [1.0, 2.0]
    LAYERS[:], SWITCHES[:] = layers, switches
    OPTIONS.clear()
    OPTIONS.update(options)
    POINT.rate, POINT.power, config.rate, config.mode = 2.0, 2, 2.0, "square"
    Settings.rate, MODEL.power = 2.0, 2
    MODEL.w = np.array([1.0, 2.0])


def test_float_global():
    global RATE
    g = grad(lambda x: RATE * x * x)
    assert g(1.0) == 4.0
    RATE = 5.0
    assert g(1.0) == 10.0
    RATE = 5
    assert g(1.0) == 10.0
    RATE = np.float64(6.0)
    assert g(1.0) == 12.0


def test_int_global():
    global ORDER
    g = grad(lambda x: x**ORDER)
    assert g(2.0) == 4.0
    ORDER = 3
    assert g(2.0) == 12.0
    ORDER = 2
    assert g(2.0) == 4.0


def test_array_global_replaced_and_changed_in_place():
    global W
    g = grad(lambda x: np.sum(W * x))
    x = np.zeros(3)
    np.testing.assert_array_equal(g(x), [1.0, 2.0, 3.0])
    W[0] = 7.0
    np.testing.assert_array_equal(g(x), [7.0, 2.0, 3.0])
    W = np.array([5.0])
    np.testing.assert_array_equal(g(x), [5.0, 5.0, 5.0])
    W = np.ones((2, 3))
    np.testing.assert_array_equal(g(x), [2.0, 2.0, 2.0])
    W = np.float32(3.0)
    np.testing.assert_array_equal(g(x), [3.0, 3.0, 3.0])
    W = np.array(4.0)
    np.testing.assert_array_equal(g(x), [4.0, 4.0, 4.0])
    W[()] = 5.0
    np.testing.assert_array_equal(g(x), [5.0, 5.0, 5.0])


def test_wrong_shape_of_a_global_is_reported():
    global W
    g = grad(lambda x: np.sum(W * x))
    g(np.zeros(3))
    W = np.ones(4)
    with pytest.raises(FlatgradError) as caught:
        g(np.zeros(3))
    assert caught.value.code == "shape-mismatch"


def test_list_global_changed_in_place():
    g = grad(lambda x: np.sum(LAYERS[0] * x) * np.sum(LAYERS[1]))
    x = np.ones(2)
    np.testing.assert_array_equal(g(x), [7.0, 14.0])
    LAYERS[0] = np.array([10.0, 20.0])
    np.testing.assert_array_equal(g(x), [70.0, 140.0])
    LAYERS[1][0] = 0.0
    np.testing.assert_array_equal(g(x), [40.0, 80.0])
    LAYERS[1][0] = 3.0
    LAYERS.append(np.ones(2))
    np.testing.assert_array_equal(g(x), [70.0, 140.0])
    LAYERS.reverse()
    np.testing.assert_array_equal(g(x), [7.0, 7.0])


def loop_over_layers(x):
    total = 0.0
    for k, w in enumerate(LAYERS):
        total = total + (k + 1) * np.sum(w * x)
    return total


def test_loop_over_a_list_that_grows():
    g = grad(loop_over_layers)
    np.testing.assert_array_equal(g(np.ones(2)), [7.0, 10.0])
    LAYERS.append(np.array([1.0, 1.0]))
    np.testing.assert_array_equal(g(np.ones(2)), [10.0, 13.0])
    LAYERS.clear()
    np.testing.assert_array_equal(g(np.ones(2)), [0.0, 0.0])


def test_dict_global_changed_in_place():
    g = grad(lambda x: OPTIONS["scale"] * x ** OPTIONS["power"] * OPTIONS["weights"][1])
    assert g(1.0) == 12.0
    OPTIONS["scale"] = 5.0
    assert g(1.0) == 20.0
    OPTIONS["power"] = 3
    assert g(1.0) == 30.0
    OPTIONS["weights"] = [0.0, 1.0]
    assert g(1.0) == 15.0
    del OPTIONS["scale"]
    with pytest.raises(FlatgradError) as caught:
        g(1.0)
    assert caught.value.code == "static-evaluation"


def test_list_of_switches():
    def f(x):
        if SWITCHES[0]:
            return x * x
        return x * 3.0

    g = grad(f)
    assert g(1.0) == 2.0
    SWITCHES[0] = False
    assert g(1.0) == 3.0


def test_attributes_of_modules_objects_and_classes():
    def f(x):
        return config.rate * POINT.rate * Settings.rate * Settings.square(x) ** POINT.power

    g = grad(f)
    assert g(1.0) == 32.0
    config.rate = 1.0
    assert g(1.0) == 16.0
    POINT.rate = 1.0
    assert g(1.0) == 8.0
    Settings.rate = 1.0
    assert g(1.0) == 4.0
    POINT.power = 1
    assert g(1.0) == 2.0
    del POINT.rate
    with pytest.raises(FlatgradError) as caught:
        g(1.0)
    assert caught.value.code in ("undefined-name", "unsupported-attribute")


def test_attribute_that_chooses_a_branch():
    def f(x):
        return x * x if config.mode == "square" else x * 5.0

    g = grad(f)
    assert g(1.0) == 2.0
    config.mode = "line"
    assert g(1.0) == 5.0


def test_methods_read_their_object():
    g = grad(lambda x: MODEL.predict(x))
    x = np.ones(2)
    np.testing.assert_array_equal(g(x), [6.0, 12.0])
    MODEL.w[0] = 3.0
    np.testing.assert_array_equal(g(x), [30.0, 20.0])
    MODEL.w = np.array([1.0, 0.0])
    np.testing.assert_array_equal(g(x), [2.0, 0.0])
    MODEL.power = 1
    np.testing.assert_array_equal(g(x), [1.0, 0.0])


def test_getattr_of_a_changing_object():
    g = grad(lambda x: x * getattr(config, "rate") * getattr(config, "none", 3.0))
    assert g(1.0) == 6.0
    config.rate = 5.0
    try:
        assert g(1.0) == 15.0
        config.none = 1.0
        assert g(1.0) == 5.0
    finally:
        config.rate = 2.0
        del config.none


def make(scale, order):
    def f(x):
        return scale * x**order

    def change(new_scale, new_order):
        nonlocal scale, order
        scale, order = new_scale, new_order

    return f, change


def test_closures_of_the_same_code():
    one, change_one = make(2.0, 2)
    other, _ = make(10.0, 3)
    g, h = grad(one), grad(other)
    assert (g(1.0), h(1.0)) == (4.0, 30.0)
    change_one(1.0, 2)
    assert (g(1.0), h(1.0)) == (2.0, 30.0)
    change_one(1.0, 5)
    assert (g(1.0), h(1.0)) == (5.0, 30.0)


def test_closures_of_the_same_code_together():
    one, change = make(2.0, 2)
    other, _ = make(10.0, 3)
    g = grad(lambda x: one(x) + other(x))
    assert g(1.0) == 34.0
    change(1.0, 1)
    assert g(1.0) == 31.0


def inner(x):
    return x * x


def outer(x):
    return inner(x) * 2.0


def test_callee_redefined():
    global inner
    g = grad(outer)
    assert g(1.0) == 4.0

    def inner(x):
        return x * 7.0

    assert g(1.0) == 14.0


def test_code_of_a_callee_replaced():
    def callee(x):
        return x * x

    def other(x):
        return x * 5.0

    def f(x):
        return callee(x)

    g = grad(f)
    assert g(1.0) == 2.0
    callee.__code__ = other.__code__
    assert g(1.0) == 5.0
    h = grad(callee)
    assert h(1.0) == 5.0
    callee.__code__ = reads_rate.__code__
    assert (g(1.0), h(1.0)) == (2.0, 2.0)


def reads_rate(x):
    return RATE * x


def test_global_of_a_callee_changed():
    global RATE
    g = grad(lambda x: reads_rate(x) * x)
    assert g(1.0) == 4.0
    RATE = 3.0
    assert g(1.0) == 6.0


DEFAULT = np.array([1.0, 2.0])


def with_defaults(x, w=DEFAULT, scales=[2.0, 3.0], *, power=2):
    return np.sum(w * x) * scales[1] ** power


def test_defaults_of_a_callee():
    g = grad(lambda x: with_defaults(x))
    x = np.ones(2)
    np.testing.assert_array_equal(g(x), [9.0, 18.0])
    DEFAULT[0] = 0.0
    np.testing.assert_array_equal(g(x), [0.0, 18.0])
    DEFAULT[0] = 1.0
    with_defaults.__defaults__[1][1] = 1.0
    np.testing.assert_array_equal(g(x), [1.0, 2.0])
    with_defaults.__defaults__[1][1] = 3.0
    old = with_defaults.__defaults__
    with_defaults.__defaults__ = (np.ones(2), [1.0, 1.0])
    np.testing.assert_array_equal(g(x), [1.0, 1.0])
    with_defaults.__defaults__ = old


def test_defaults_of_the_function_itself():
    g = grad(with_defaults, "x")
    h = grad(lambda x, w=DEFAULT: np.sum(w * x), "x")
    np.testing.assert_array_equal(h(np.ones(2)), DEFAULT)
    old = with_defaults.__defaults__
    np.testing.assert_array_equal(g(np.ones(2)), old[0] * old[1][1] ** 2)


def test_same_name_inside_and_outside():
    w = np.array([1.0, 2.0, 3.0])

    def uses_global(x):
        return np.sum(W * x)

    def f(W, x):
        return np.sum(W) * uses_global(x) + np.sum(w * x)

    a, b = np.array([2.0, 1.0]), np.array([1.0, 1.0, 2.0])
    one, other = grad(f)(a, b)
    np.testing.assert_allclose(one, [9.0, 9.0])
    np.testing.assert_allclose(other, 3.0 * W + w)


def test_names_that_the_compiler_uses_itself():
    def f(by_class, call_slowly, run, emitted, compiled, new, Gradients, freeze, float, KeyError):
        kept = by_class * call_slowly * run * emitted * compiled
        return kept * new * Gradients * freeze * float * np.sum(KeyError)

    arguments = [2.0, 3, np.array(2.0), 1.5, np.float64(3.0), 2.0, 1.0, 2.0, 4, np.ones(2)]
    value, gradients = value_and_grad(f)(*arguments)
    assert value == f(*arguments)
    assert gradients.run == value / 2.0
    assert gradients.float == value / 4.0

    def g(x, np, math, value, grad_value, g_grad, by_class_, run__):
        return x * np * math * value * grad_value * g_grad * by_class_ * run__

    assert grad(g)(1.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0).x == 2.0


def test_local_shadows_global():
    def f(x):
        RATE = x * x
        return RATE * 2.0

    assert grad(f)(1.0) == 4.0

    def late(x):
        y = RATE * x  # noqa: F823
        RATE = y
        return y

    with pytest.raises(FlatgradError) as caught:
        grad(late)(1.0)
    assert caught.value.code == "undefined-name"


def shadowed_later(x):
    return abs(x) * 3.0


def test_builtin_shadowed():
    g = grad(shadowed_later)
    assert g(-1.0) == -3.0
    globals()["abs"] = inner
    try:
        assert g(-1.0) == -6.0
    finally:
        del globals()["abs"]
    assert g(-1.0) == -3.0


def test_name_gone():
    globals()["GONE"] = 2.0
    g = grad(lambda x: x * GONE)  # noqa: F821
    assert g(1.0) == 2.0
    del globals()["GONE"]
    with pytest.raises(FlatgradError) as caught:
        g(1.0)
    assert caught.value.code == "undefined-name"


def doubled(f):
    @functools.wraps(f)
    def wrapper(x):
        return 2.0 * f(x)

    return wrapper


@doubled
def decorated(x):
    return x * x


def test_decorators_are_not_skipped():
    assert grad(decorated)(1.0) == 4.0
    assert grad(lambda x: decorated(x) * 3.0)(1.0) == 12.0


def starred(f):
    @functools.wraps(f)
    def wrapper(*args, **kwargs):
        return 2.0 * f(*args, **kwargs)

    return wrapper


@starred
def decorated_star(x):
    return x * x


def test_decorator_with_any_arguments():
    with pytest.raises(FlatgradError) as caught:
        grad(decorated_star)
    assert caught.value.code == "unsupported-argument"
    assert grad(lambda x: decorated_star(x))(1.0) == 4.0
    assert grad(lambda x: decorated_star(x=x))(1.0) == 4.0


def test_wraps_of_a_compiled_function_is_not_skipped():
    def f(x):
        return x * x

    f.py_func = lambda x: x * 100.0  # as functools.wraps copies it from a dispatcher
    assert grad(f)(1.0) == 2.0


def scaled(x, k):
    return k * x * x


def test_partial_and_methods():
    assert grad(MODEL.predict)(np.ones(2)).tolist() == [6.0, 12.0]
    assert grad(functools.partial(scaled, k=3.0), "x")(2.0) == 12.0
    for thing in (len, Settings, np.sin):
        with pytest.raises(FlatgradError) as caught:
            grad(thing)
        assert caught.value.code == "unsupported-function-kind"
    assert grad(lambda x: functools.partial(inner)(x))(1.0) == grad(inner)(1.0)
    assert grad(Settings.square)(2.0) == 4.0


def test_dict_of_lambdas():
    table = {"a": lambda x: x * x, "b": lambda x: x * 3.0}
    assert grad(table["a"])(2.0) == 4.0
    assert grad(table["b"])(2.0) == 3.0
    assert grad(lambda x: table["b"](x) * table["a"](x))(1.0) == 9.0


def test_function_as_argument():
    def f(g, x):
        return g(x) * x

    h = grad(f, "x")
    assert h(inner, 1.0) == 3.0
    assert h(lambda x: 5.0 * x, 1.0) == 10.0
    assert h(inner, 1.0) == 3.0


def test_value_and_grad_of_default_and_keyword_arguments():
    def f(x, /, y, *, scale=2.0, power=2):
        return scale * x * y**power

    value, g = value_and_grad(f, ("x", "scale"))(3.0, y=2.0)
    assert value == 24.0
    assert g == (8.0, 12.0)
    value, g = value_and_grad(f, ("x", "scale"))(3.0, 2.0, scale=1.0, power=3)
    assert value == 24.0
    assert g == (8.0, 24.0)
    with pytest.raises(TypeError):
        grad(f)(x=3.0, y=2.0)


def test_enum_of_module_constants_are_static():
    assert grad(lambda x: x * np.pi + np.e)(1.0) == np.pi


def test_a_captured_array_of_another_length():
    def f(x):
        return np.sum(weights) * x

    weights = np.ones(2)
    for backend in ("numpy", "numba"):
        g = grad(f, backend=backend)
        for weights in (np.ones(2), np.ones(3), np.ones(3), np.ones(2), np.zeros((0,))):
            assert g(2.0) == g(2.0) == len(weights)
