"""Functions made inside functions, passed around, partial, decorated; all kinds of parameters."""

from __future__ import annotations

import functools
import operator

import numpy as np
import pytest

from flatgrad import grad
from flatgrad.errors import FlatgradError
from tests.frontend.numeric import check

rng = np.random.default_rng(0)
X, Y = rng.normal(size=4), rng.normal(size=4)
W = rng.normal(size=(4, 4))
SCALE = 1.5


def helper(x, k=2.0, *rest, power=2, **more):
    total = k * np.sum(x**power)
    for item in rest:
        total = total + np.sum(item)
    for name, item in more.items():
        total = total * item if name == "times" else total
    return total


def apply(function, *args, **kwargs):
    return function(*args, **kwargs)


def compose(*functions):
    def composed(x):
        for function in functions:
            x = function(x)
        return x

    return composed


def scaled_by(k):
    return lambda v: v * k


def late(x):
    k = 2.0
    f = lambda v: np.sum(v * k)
    first = f(x)
    k = 3.0
    return first * f(x)


def defaults_early(x):
    k = 2.0

    def f(v, scale=k, *, shift=x[0]):
        return np.sum(v * scale + shift)

    k = 30.0
    return f(x) * k + f(x, 1.0, shift=0.5)


def counted(x):
    count = 0
    total = 0.0

    def add(v):
        nonlocal count, total
        count += 1
        total += v * count

    for item in (x[0], x[1], x[2]):
        add(item)
    return total * count


def nonlocal_in_loop(x):
    total = 0.0

    def add(v):
        nonlocal total
        total = total * 0.5 + v * v

    for i in range(len(x)):
        add(x[i])
    return total


def nonlocal_in_branch(x, s):
    last = s

    def update(v):
        nonlocal last
        if v > 0:
            last = last * v

    for v in (x[0], x[1], x[2], x[3]):
        update(v)
    return last


def nested_recursion(x):
    def power(v, n):
        if n == 0:
            return 1.0
        return v * power(v, n - 1)

    return power(x[0], 3) + power(np.sum(x), 2)


def mutual(x):
    def even(v, n):
        return v if n == 0 else odd(np.sin(v), n - 1)

    def odd(v, n):
        return v if n == 0 else even(np.cos(v), n - 1)

    return np.sum(even(x, 5))


def in_static_loop(x):
    functions = []
    for k in range(3):
        functions.append(lambda v, k=k: v**k)
    return np.sum(functions[2](x)) + functions[1](x)[0]


def late_in_loop(x):
    functions = []
    for scale in (1.0, 2.0, 3.0):
        functions.append(lambda v: v * scale)
    return np.sum(functions[0](x) * functions[1](x))


def defined_in_branch(x, mode=None):
    if mode is None:
        def act(v):
            return np.tanh(v)
    else:
        def act(v):
            return v
    return np.sum(act(x) * x)


def in_run_time_loop(x):
    y = 1.0
    for i in range(len(x)):
        def step(v):
            return v * np.sin(x[i] + y)
        y = step(y)
    return y


def closure_in_loop(x):
    y = 1.0
    decay = lambda v: 0.5 * v + y
    for i in range(len(x)):
        y = decay(x[i]) * y
    return y


def table_of_functions(x):
    table = {"square": lambda v: v * v, "sine": np.sin, "scaled": scaled_by(3.0)}
    return np.sum(sum(f(x) for f in table.values()) * table["square"](x))


def returned_from_helper(x, k):
    f = scaled_by(k)
    return np.sum(compose(f, np.tanh, f, lambda v: v**2)(x))


def writes_through_closure(x):
    a = x * 1.0

    def put(k, v):
        a[k] = v * a[k]

    put(0, x[1])
    view = a[1:]

    def shift():
        view[0] += x[0]

    shift()
    return np.sum(a * a)


def writes_to_argument(x):
    def double(v):
        v *= 2.0
        return v

    a = x * 1.0
    b = double(a)
    b[0] = x[1]
    return np.sum(a * a) + b[0]


def returns_view(x):
    def tail(v):
        return v[1:]

    a = x * 1.0
    tail(a)[0] = x[0] * x[0]
    return np.sum(a)


def several_returns(x):
    def choose(v, k):
        if k == 0:
            return np.sum(v)
        if k == 1:
            return np.sum(v * v)
        return None

    last = choose(x, 2)
    return choose(x, 0) * choose(x, 1) if last is None else last


def run_time_returns(x):
    def leaky(v):
        if v > 0:
            return v * v
        return 0.1 * v

    return leaky(x[0]) + leaky(x[1]) + leaky(x[2])


def stars(x, y):
    def total(a, *rest, scale=1.0, **more):
        result = np.sum(a) * scale
        for item in rest:
            result = result + np.sum(item * item)
        return result * more.get("k", 1.0) + len(more)

    args = (x, y)
    options = {"k": x[0]}
    return total(*args, y, *(), scale=2.0, **options) + total(x, **{"scale": 3.0, "z": 1})


def positional_only(x):
    def f(a, /, b, *, c):
        return np.sum(a * b) * c

    return f(x, 2.0, c=x[0]) + f(x, b=x, c=1.0)


def module_stars(x, y):
    return helper(x, 1.0, y, y, power=3, times=x[0]) + helper(x) + apply(helper, y, k=x[1])


def partials(x, y):
    f = functools.partial(helper, x, power=3)
    g = functools.partial(f, 2.0)
    return f() + g(y) * functools.partial(lambda a, b: np.sum(a * b), y)(x)


CAPTURED = functools.partial(lambda w, v: np.sum(w * v * v), Y)
NAMED = functools.partial(helper, k=1.5, power=3)


def captured_partial(x):
    return CAPTURED(x) * NAMED(x)


def functional(x, y):
    squares = list(map(lambda v: v * v, [x, y]))
    both = functools.reduce(operator.add, squares)
    kept = list(filter(lambda k: k % 2, range(4)))
    pairs = sum(a * b for a, b in zip(x.reshape(2, 2).T if False else [x, y], [y, x]))
    return np.sum(both) * len(kept) + np.sum(pairs) + functools.reduce(operator.mul, [2.0, 3.0])


def with_order(x, y):
    items = [("b", x), ("a", y)]
    first, second = sorted(items, key=lambda item: item[0])
    ranks = sorted([3, 1, 2], key=lambda v: -v)
    return np.sum(first[1] * first[1] * second[1]) * ranks[0]


def any_all(x, s):
    if any(v > 100.0 for v in (s, s * 2.0)) or not all([s > -50.0, True]):
        return s
    return np.sum(x) * s if any(k == 2 for k in (1, 2)) else 0.0


def conversions(x, s):
    return abs(s) * float(len(x)) + float(s) * bool(1) + round(2.7) * np.sum(x * x) + int(2.9) * s


def of_operator(x, y):
    return np.sum(operator.mul(x, y) + operator.neg(operator.sub(x, operator.truediv(y, 2.0))))


def once_only(x):
    pairs = zip([x[0], x[1]], [x[2], x[3]])
    first = sum(a * b for a, b in pairs)
    return first + sum(a for a, _ in pairs)


def lazily(x):
    a = x * 1.0
    squares = map(lambda v: v * a[0], [x[1], x[2]])
    a[0] = 3.0 * x[3]
    total = 0.0
    for square in squares:
        total += square
        a[0] = a[0] * x[0]
    return total


def lazy_generator(x):
    a = x * 1.0
    total = 0.0
    for v in (a[0] * k for k in (1.0, 2.0, 3.0)):
        total += v
        a[0] = a[0] * x[1]
    return total


def iterators(x):
    it = iter([x[0], x[1], x[2]])
    first = next(it)
    rest = list(it)
    return first * rest[0] + rest[1] * next(it, 2.0)


def walrus(x):
    y = 1.0
    if (s := np.sum(x)) > 0:
        y = (z := s * s) + z * (n := len(x)) - n
    return y * s + (lambda v: (u := v * v) + u)(x[0])


def walrus_in_comprehension(x):
    items = [(last := v) * v for v in (x[0], x[1], x[2])]
    return sum(items) * last


def starred(x):
    a, *middle, b = x[0], x[1], x[2], x[3]
    [c, (d, *e)] = [a, (b, *middle)]
    u = v = x * 1.0
    v[0] = c * d
    return a * b + e[0] * e[1] + np.sum(u * u)


def deleted(x):
    y = x * x
    table = {"a": y, "b": x}
    del table["b"]
    del x
    x = y + 1.0
    items = [x, y]
    del items[0], y
    return np.sum(x) * len(items) + np.sum(table["a"])


def message(x, mode="fast"):
    if mode not in ("fast", "slow"):
        raise ValueError(f"unknown mode {mode!r}: {len(mode):3d}")
    return np.sum(x * x)


def shadows(x):
    sum = lambda v: np.sum(v * v)
    x = x * 2.0

    def f(x):
        y = x * 3.0
        return sum(y)

    y = x + 1.0
    return f(y) + sum(x)


def reads_globals(x):
    def f(v):
        return v * SCALE

    return np.sum(f(f(x)))


def decorated(x):
    def twice(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(function(*args, **kwargs), **kwargs)

        return wrapper

    @twice
    def step(v, k=2.0):
        return np.tanh(v * k)

    return np.sum(step(x, k=x[0]))


def logged(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        return 2.0 * function(*args, **kwargs)

    return wrapper


@logged
def wrapped(x, k=1.0):
    return np.sum(x * x) * k


def calls_wrapped(x):
    return wrapped(x, k=x[1])


@functools.lru_cache
def cached(s, n):
    return s**n


def calls_cached(s):
    return cached(s, 3) * s


def takes_function(x, f=np.sin):
    return np.sum(f(x) * x)


def of_strings(x):
    total = 0.0
    for name in ("W_2", "b", "W_1"):
        if name.startswith("W") and not name.lower().endswith("1"):
            total = total + np.sum(x) * int(name.split("_")[1])
        total = total * len(name.replace("_", "")) + x[0]
    return total


ONE = [late, defaults_early, counted, nonlocal_in_loop, nested_recursion, mutual, in_static_loop,
       late_in_loop, defined_in_branch, in_run_time_loop, closure_in_loop, table_of_functions,
       writes_through_closure, writes_to_argument, returns_view, several_returns,
       run_time_returns, positional_only, captured_partial, once_only, lazily, lazy_generator,
       iterators, walrus, walrus_in_comprehension, starred, deleted, message, shadows,
       reads_globals, decorated, calls_wrapped, takes_function, of_strings]  # fmt: skip
TWO = [stars, module_stars, partials, functional, with_order, of_operator]


@pytest.mark.parametrize("f", ONE, ids=lambda f: f.__name__)
def test_of_one_array(f):
    check(f, X)


@pytest.mark.parametrize("f", TWO, ids=lambda f: f.__name__)
def test_of_two_arrays(f):
    check(f, X, Y)


@pytest.mark.parametrize(
    "f", [nonlocal_in_branch, returned_from_helper, any_all, conversions], ids=lambda f: f.__name__
)
def test_of_an_array_and_a_number(f):
    check(f, X, 0.7)


def test_of_a_number():
    check(calls_cached, 0.7)


def test_function_as_parameter():
    g = grad(takes_function, "x")
    np.testing.assert_allclose(g(X, np.cos), np.cos(X) - np.sin(X) * X)
    np.testing.assert_allclose(g(X, lambda v: v * v), 3 * X**2)
    np.testing.assert_allclose(g(X, functools.partial(np.multiply, 2.0)), 4 * X)


@pytest.mark.parametrize("f", [nonlocal_in_loop, closure_in_loop, decorated])
def test_compiled(f):
    check(f, X, backend="numba")


def test_message_of_a_static_error():
    with pytest.raises(FlatgradError):
        grad(message, "x")(X, "other")
