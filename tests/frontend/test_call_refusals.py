"""What calls, functions and objects are refused for: code, line and caret; and no wrong numbers."""

from __future__ import annotations

import dataclasses
import functools
import inspect

import numpy as np
import pytest

from flatgrad import grad
from flatgrad.errors import FlatgradError
from tests.frontend.numeric import check

X = np.array([0.5, -1.0, 2.0, 1.5])


@dataclasses.dataclass
class State:
    x: np.ndarray
    t: float = 0.0


@dataclasses.dataclass(frozen=True)
class Frozen:
    x: np.ndarray


class Setting:
    def __init__(self, x):
        self.x = x

    def __setattr__(self, name, value):
        object.__setattr__(self, name, 2.0 * value)


class Made:
    def __new__(cls, x):
        return x * 2.0


class Walked:
    def __init__(self, x):
        self.x = x

    def __iter__(self):
        yield self.x[0]


class Right:
    def __init__(self, x):
        self.x = x

    def __radd__(self, other):
        return other + self.x


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x):
        self.x = x


OUTSIDE = State(np.ones(4))


@functools.lru_cache
def cached(v):
    return v * v


def endless(x):
    def again(v):
        return again(v * 2.0)  # E: [too-deep] again(v * 2.0)

    return again(x[0])


def generator(x):
    def items():
        yield x[0]  # E: [unsupported-function-kind] yield x[0]

    return sum(items())


def returns_function(x):
    return lambda v: v  # E: [unsupported-statement] return lambda v: v


def too_few(x):
    f = lambda a, b: a * b
    return f(x[0])  # E: [static-evaluation] f(x[0])


def on_one_path(x):
    if x[0] > 0:
        f = lambda v: v * v
    else:
        f = lambda v: v
    return f(x[1])  # E: [branch-type] f


def before_it_is_made(x):
    def first(v):
        return second(v)  # E: [undefined-name] second

    value = first(x[0])

    def second(v):
        return v

    return value


def deleted(x):
    k = x[0]
    f = lambda v: v * k  # noqa: F821  # E: [undefined-name] k
    del k
    return f(x[0])


def filtered_by_data(x):
    return sum([v for v in (x[0], x[1]) if v > 0])  # E: [data-dependent-static] v > 0


def array_of_iterator(x):
    return np.sum(np.array(v for v in (x[0],)))  # E: [operand-type] np.array(v for v in (x[0],))


def outside_attribute(x):
    OUTSIDE.x = x  # E: [unsupported-write] OUTSIDE.x
    return x[0]


def frozen_attribute(x):
    f = Frozen(x)
    f.x = 2 * x  # E: [static-evaluation] f.x
    return np.sum(f.x)


def own_setattr(x):
    return np.sum(Setting(x).x)  # E: [unsupported-call] Setting(x)


def own_new(x):
    return np.sum(Made(x))  # E: [unsupported-call] Made(x)


def own_generator(x):
    return sum(Walked(x))  # E: [unsupported-function-kind] sum(Walked(x))


def array_and_object(x):
    return np.sum(x + Right(x))  # E: [operand-type] x + Right(x)


def object_to_numpy(x):
    return np.sum(np.add(2.0, Right(x)))  # E: [operand-type] np.add(2.0, Right(x))


def equal_dataclasses(x):
    a, b = State(1.0), State(2.0)
    return x[0] if a == b else x[1]  # E: [unsupported-expression] a == b


def no_attribute(x):
    return State(x).nothing  # E: [undefined-name] State(x).nothing


def no_slot(x):
    s = Slotted(x)
    s.y = x  # E: [unsupported-write] s.y
    return x[0]


def array_to_cached(x):
    return np.sum(cached(x))  # E: [operand-type] cached(x)


def class_inside(x):
    class Inside:  # E: [unsupported-statement] class Inside:
        pass

    return x[0]


def key_in_a_loop(x):
    table = {}
    for i in range(len(x)):  # E: [loop-carried-type] for i in range(len(x)):
        table["a"] = x[i]
    return x[0] * len(table)


def key_on_one_path(x):
    table = {"b": 1.0}
    if x[0] > 100:  # E: [branch-type] if x[0] > 100:
        table["a"] = x[0]
    return x[0] * len(table)


def attribute_on_one_path(x):
    s = State(x)
    if x[0] > 100:  # E: [branch-type] if x[0] > 100:
        s.extra = 1.0
    return x[0] * hasattr(s, "extra")


def list_grows_under_its_loop(x):
    items = [x[0], x[1]]
    total = 0.0
    for v in items:  # E: [unsupported-statement] items
        total = total + v
        if len(items) < 4:
            items.append(v * 2.0)
    return total


def either_object(x):
    s = State(x, 1.0)
    other = s if x[0] > 0 else State(x, 2.0)
    s.t = 5.0  # E: [unsupported-write] s.t
    return other.t * np.sum(x)


def either_list(x):
    a, b = [1.0], [2.0]
    c = a if x[0] > 0 else b
    a[0] = 5.0  # E: [unsupported-write] a[0]
    return c[0] * np.sum(x)


def object_of_the_last_trip(x):
    s = State(x)
    for i in range(3):
        s = State(s.x * x, s.t + 1)
    s.t = s.t * 2.0  # E: [unsupported-write] s.t
    return np.sum(s.x) * s.t


def derivative_of_what_changes(x):
    a = x * 1.0

    def inner(w):
        a[0] = w
        return w * a[0]

    return grad(inner)(x[1]) * a[0]  # E: [unsupported-write] grad(inner)(x[1])


def function_to_numpy(x):
    return np.sum(np.vectorize(lambda v: v)(x))  # E: [operand-type] np.vectorize(lambda v: v)


REFUSED = [
    endless, generator, returns_function, too_few, on_one_path, before_it_is_made, deleted,
    filtered_by_data, array_of_iterator, outside_attribute, frozen_attribute, own_setattr, own_new,
    own_generator, array_and_object, object_to_numpy, equal_dataclasses, no_attribute, no_slot,
    array_to_cached, class_inside, key_in_a_loop, key_on_one_path, attribute_on_one_path,
    list_grows_under_its_loop, either_object, either_list, object_of_the_last_trip,
    derivative_of_what_changes, function_to_numpy,
]  # fmt: skip


@pytest.mark.parametrize("f", REFUSED, ids=lambda f: f.__name__)
def test_refused(f):
    lines, first = inspect.getsourcelines(f)
    (k,) = [k for k, line in enumerate(lines) if "# E: [" in line]
    code, text = lines[k].split("# E: [")[1].rstrip().split("] ", 1)
    with pytest.raises(FlatgradError) as caught:
        grad(f)(X)
    found = caught.value.diagnostic
    assert (found.code, found.span.line) == (code, first + k), found
    end = found.span.end_column if found.span.end_line == found.span.line else None
    shown = found.span.text[found.span.column : end].split("  #")[0].rstrip()
    assert shown == text, found


def test_state_of_closures_in_loops_and_branches():
    def f(x):
        def make():
            total, a = 0.0, x * 1.0

            def add(k, v):
                nonlocal total
                total = total + v * a[0]
                a[k] = total
                return a

            return add

        add = make()
        for i in range(len(x)):
            add(i, x[i])
        if x[0] > 0:
            add(0, x[1])
        return np.sum(add(1, x[0]) ** 2)

    check(f, X)


def test_derivatives_of_functions_made_inside():
    def f(x):
        def inner(w):
            return np.sum(np.sin(w * x))

        w = x * 0.5
        for _ in range(2):
            w = w - 0.1 * grad(inner)(w)
        slope = grad(lambda v, k=x[1]: v * v * k * x[0], "v")
        return inner(w) + slope(x[2]) * x[3]

    check(f, X)
    check(lambda x: grad(lambda v: v * v * x[0])(x[1]) * x[2], X)
    check(lambda x: grad(grad(lambda v: v**3 * x[0]))(x[1]) * x[2], X)
