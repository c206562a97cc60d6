"""Calls with numbers that go straight to the emitted code, and when they must not."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from flatgrad import grad, jvp, value_and_grad

BACKENDS = ["numpy", "numba"]


def shortcut_of(derived: Any) -> Any:
    """What is behind a derived function."""
    return derived.__flatgrad__.shortcut


def is_short(derived: Any) -> bool:
    """Whether a call with numbers does without a look into a dictionary."""
    found = derived.__code__ is not shortcut_of(derived).code
    assert found is shortcut_of(derived).is_open
    return found


def product(x, y=2.0, *, z=1.0):
    return x * y * y + z


@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers_of_other_classes_keep_their_kinds(backend):
    f = value_and_grad(product, ("x", "y"), backend=backend)
    assert not is_short(f)
    for _ in range(2):
        value, grads = f(3.0, y=4.0)
        assert (value, grads) == (49.0, (16.0, 24.0))
        assert {type(value), *map(type, grads)} == {float}
        assert is_short(f)
        value, (grad_x, _) = f(np.float32(3.0), np.float32(4.0), z=np.float32(1.0))
        assert type(value) is type(grad_x) is np.float32
        assert f(3, 4) == (49.0, (16.0, 24.0))
        value, (grad_x, _) = f(np.array(3.0), 4.0)
        assert type(grad_x) is np.ndarray
        assert grad_x == 16.0
        value, (grad_x, _) = f(3.0, np.array([4.0, 1.0])[0])
        assert type(grad_x) is float


def test_defaults_and_keywords_are_as_before():
    f = grad(product)
    for _ in range(3):
        assert f(3.0) == (4.0, 12.0, 1.0)
        assert f(y=1.0, z=0.0, x=2.0)._asdict() == {"x": 1.0, "y": 4.0, "z": 1.0}
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'x'"):
            f()
    assert is_short(f)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_is_compiled_in_is_looked_at(backend):
    def f(x):
        return scale[0] * x ** power[0] + np.sum(weights) * x

    scale, power, weights = [3.0], [2], np.ones(2)
    g = grad(f, backend=backend)
    assert [g(2.0), g(2.0), is_short(g)] == [14.0, 14.0, True]
    scale[0] = 1.0
    assert [g(2.0), is_short(g)] == [6.0, True]
    weights[:] = 3.0
    assert g(2.0) == 10.0
    weights = np.zeros(3)
    assert [g(2.0), g(2.0), is_short(g)] == [4.0, 4.0, True]
    power[0] = 3
    assert [g(2.0), g(2.0), is_short(g)] == [12.0, 12.0, True]
    weights = np.zeros(3, np.float32)
    assert g(2.0) == 12.0


def test_replaced_code_is_noticed():
    def f(x):
        return x * x

    def other(x):
        return x * x * x

    g = grad(f)
    assert [g(2.0), g(2.0), is_short(g)] == [4.0, 4.0, True]
    f.__code__ = other.__code__
    assert [g(2.0), g(2.0), is_short(g)] == [12.0, 12.0, True]


def test_many_changes_take_the_long_way():
    def f(x):
        return factor * x

    factor = 0
    g = grad(f)
    for factor in range(30):
        assert [g(2.0), g(2.0)] == [factor, factor]
    assert not is_short(g)


def test_names_of_parameters_are_left_alone():
    def f(emitted, explain, float, value, caught, run, class_0_0_, Exception):
        return emitted * explain * float * value * caught * run * class_0_0_ * Exception

    g = value_and_grad(f)
    expected = f(*map(float, range(1, 9)))
    for _ in range(2):
        value, grads = g(1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0)
        assert value == expected
        assert grads == tuple(expected / k for k in range(1, 9))
        assert is_short(g)


def test_errors_come_with_the_line_of_the_user():
    def f(x):
        if x < 0.0:
            raise ArithmeticError("negative")
        return x * x

    g = grad(f)
    assert [g(2.0), g(2.0), is_short(g)] == [4.0, 4.0, True]
    with pytest.raises(ArithmeticError) as caught:
        g(-1.0)
    assert any("raise ArithmeticError" in note for note in caught.value.__notes__)


def test_a_number_whose_value_is_needed():
    def f(x, n):
        return np.sum(np.ones((2, 3)), axis=n)[0] * x

    g = grad(f, "x")
    assert [g(2.0, 0), g(2.0, 0), g(2.0, 1), g(2.0, 1)] == [2.0, 2.0, 3.0, 3.0]


def test_arrays_take_the_long_way():
    f = grad(product, "x")
    assert f(3.0, 1.0) == 1.0
    assert is_short(f)
    many = grad(lambda x: np.sum(x * x))
    np.testing.assert_array_equal(many(np.ones(3)), [2.0, 2.0, 2.0])
    assert not is_short(many)


def test_out_is_looked_for():
    f = grad(product, ("x", "y"))
    place = np.empty(())
    for _ in range(2):
        assert f(3.0, 4.0) == (16.0, 24.0)
        found = f(np.array(3.0), 4.0, out=(place, None))
        assert found[0] is place
        assert place == 16.0
    assert is_short(f)


def test_other_derivatives():
    f = jvp(product)
    for _ in range(3):
        assert f(3.0, 4.0, dot_x=1.0) == (49.0, 16.0)
        assert f(3.0, 4.0, dot_y=1) == (49.0, 24.0)
    assert is_short(f)
    g = grad(grad(product, "x"), "y")
    assert [g(3.0, 4.0), g(3.0, 4.0), is_short(g)] == [8.0, 8.0, True]


def test_in_threads():
    def f(x):
        return factor * x * x

    factor = 0.0
    g = grad(f)
    failures = []

    def work(seed):
        x = float(seed)
        for _ in range(3000):
            found = g(x)
            if found % (2.0 * x):
                failures.append((x, found))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(1, 5)]
    for thread in threads:
        thread.start()
    for k in range(200):
        factor = k if k % 2 else float(k)
    for thread in threads:
        thread.join()
    assert not failures
