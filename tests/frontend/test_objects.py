"""Objects of plain classes, dataclasses and named tuples: made inside, read, changed, operated on."""

from __future__ import annotations

import abc
import copy
import dataclasses
import functools
import types
from collections import namedtuple
from dataclasses import InitVar, dataclass, field, replace
from typing import ClassVar, NamedTuple

import numpy as np
import pytest

from flatgrad import grad
from tests.frontend.numeric import check

rng = np.random.default_rng(1)
X, Y = rng.normal(size=4), rng.normal(size=4)


@dataclass
class State:
    x: np.ndarray
    v: np.ndarray
    t: float = 0.0
    log: list = field(default_factory=list)

    def energy(self):
        return 0.5 * np.sum(self.v * self.v) + self.potential

    @property
    def potential(self):
        return np.sum(self.x**2)

    @classmethod
    def at_rest(cls, x, **more):
        return cls(x, 0.0 * x, **more)

    @staticmethod
    def force(x, k=1.0):
        return -k * x

    def step(self, h=0.1):
        v = self.v + h * self.force(self.x)
        return replace(self, x=self.x + h * v, v=v, t=self.t + h)

    def advance(self, h):
        self.v = self.v + h * State.force(self.x)
        self.x += h * self.v
        self.t += h


@dataclass(frozen=True)
class Fixed:
    a: np.ndarray
    b: float = 2.0
    c: float = field(init=False)
    start: InitVar[float] = 1.0
    kind: ClassVar[str] = "fixed"

    def __post_init__(self, start):
        object.__setattr__(self, "c", start * self.b)


@dataclass(slots=True)
class Slotted:
    a: np.ndarray
    b: float = 1.0


class Point(NamedTuple):
    x: np.ndarray
    y: float = 1.0

    def norm(self):
        return np.sum(self.x**2) + self.y**2

    @property
    def double(self):
        return self._replace(y=2.0 * self.y)


Pair = namedtuple("Pair", "a b")


class Vector:
    def __init__(self, items, scale=1.0):
        self.items = items
        self.scale = scale

    def __add__(self, other):
        if isinstance(other, Vector):
            return Vector(self.items + other.items, self.scale)
        return Vector(self.items + other, self.scale)

    __radd__ = __add__

    def __mul__(self, k):
        if isinstance(k, Vector):
            return NotImplemented
        return Vector(self.items * k, self.scale)

    def __rmul__(self, k):
        return self * k

    def __matmul__(self, other):
        return np.sum(self.items * other.items)

    def __neg__(self):
        return Vector(-self.items, self.scale)

    def __abs__(self):
        return np.sqrt(self @ self)

    def __getitem__(self, k):
        return self.items[k] * self.scale

    def __setitem__(self, k, value):
        self.items[k] = value / self.scale

    def __len__(self):
        return len(self.items)

    def __iter__(self):
        return iter([self[0], self[1]])

    def __contains__(self, k):
        return k == "items"

    def __call__(self, x):
        return np.sum(self.items * x)

    def __lt__(self, other):
        return np.sum(self.items) < np.sum(other.items)

    def __iadd__(self, other):
        self.items = self.items + other
        return self

    def __bool__(self):
        return True


class Layer:
    count = 2.0

    def __init__(self, w):
        self.w = w
        self.__hidden = w * 2.0

    def __call__(self, x):
        return np.tanh(self.w * x) + self.__hidden

    @functools.cached_property
    def total(self):
        return np.sum(self.w)

    @property
    def weight(self):
        return self.w

    @weight.setter
    def weight(self, value):
        self.w = value * self.count


class Deep(Layer):
    def __init__(self, w, b):
        super().__init__(w)
        self.b = b

    def __call__(self, x):
        return super().__call__(x) * self.b


class Base(abc.ABC):
    @abc.abstractmethod
    def f(self, x): ...

    def __call__(self, x):
        return np.sum(self.f(x))


class Square(Base):
    def f(self, x):
        return x * x


@dataclass
class Child(State):
    mass: float = 2.0

    def energy(self):
        return super().energy() * self.mass


OUTSIDE = Deep(np.array([0.5, -1.0, 2.0, 1.0]), 3.0)
VECTOR = Vector(np.array([1.0, 2.0, 3.0, 4.0]), 2.0)
CONSTANTS = types.SimpleNamespace(g=9.81, name="earth")


def made_and_read(x, v):
    s = State(x, v)
    return s.energy() + s.t + len(s.log)


def changed(x, v):
    s = State(x, v=v, t=1.0)
    same = s
    s.x = s.x * 2.0
    s.t += x[0]
    s.log.append(v)
    return same.energy() * same.t + np.sum(same.log[0])


def stepped(x, v):
    s = State.at_rest(x, t=v[0])
    for _ in range(3):
        s = s.step()
    return s.energy() * s.t


def stepped_in_place(x, v):
    s = State(x * 1.0, v)
    for i in range(len(x)):
        s.advance(0.1 * i)
    return s.energy() + s.t * np.sum(v)


def rebound_in_loop(x, v):
    s = State(x, v)
    for i in range(len(x)):
        s = State(s.x + 0.1 * s.v, s.v - 0.1 * s.x * x[i], s.t + i)
    return s.energy() * s.t


def joined(x, v):
    s = State(x, v)
    if np.sum(x) > 0:
        s.x = s.x * 3.0
    else:
        s.v = s.v + x
    return s.energy()


def chosen(x, v):
    if np.sum(x) > 100.0:
        s = State(x, v)
    else:
        s = State(v, x * v, 2.0)
    return s.energy() * s.t + s.energy()


def array_in_field_written(x, v):
    s = State(x * 1.0, v)
    s.x[0] = v[1]
    s.x[1:] += 2.0
    a = s.x
    a[2] *= 3.0
    return s.energy()


def frozen(x, v):
    f = Fixed(x, b=v[0], start=2.0)
    g = replace(f, b=3.0, start=1.0)
    return np.sum(f.a) * f.c + g.c * np.sum(g.a * v) if g.kind == "fixed" else 0.0


def slotted(x, v):
    s = Slotted(x)
    s.b = np.sum(v * s.a)
    return s.b * np.sum(s.a)


def named(x, v):
    p = Point(x)
    q = p._replace(y=v[0])
    a, b = Pair(a=q.norm(), b=q.double.norm())
    r = Point._make([v, 2.0])
    return a * b + r.norm() + sum(p._asdict()["x"])


def operated(x, v):
    a, b = Vector(x), Vector(v, 2.0)
    c = 2.0 * (a + b) * 3.0 + 1.0 + -b
    d = 1.0 + c
    return (c @ d) + abs(a) * len(a)


def container(x, v):
    a = Vector(x * 1.0, 2.0)
    a[0] = v[1]
    a[1] += v[2]
    first, second = a
    total = sum(item for item in a)
    return a[0] * first + second * total * ("items" in a) + (a(v) if a else 0.0)


def augmented(x, v):
    a = b = Vector(x)
    a += v
    return b @ Vector(v)


def compared(x, v):
    a, b = Vector(x), Vector(v)
    smaller = np.sum(x * v) if a < b else np.sum(x + v)
    return smaller if a == a and a != b else 0.0


def layers(x, v):
    layer = Deep(v, np.sum(x))
    layer.weight = x
    return np.sum(layer(x)) * layer.total + layer.total + layer.count


def outside(x, v):
    return np.sum(OUTSIDE(x)) + OUTSIDE.total * x[0] + OUTSIDE.weight[1] * v[0] * OUTSIDE.count


def outside_operators(x, v):
    moved = VECTOR + x
    return (moved @ VECTOR) * VECTOR[1] + VECTOR(v) * CONSTANTS.g * len(CONSTANTS.name)


def abstract(x, v):
    return Square()(x) * Square()(v)


def inherited(x, v):
    c = Child(x, v, mass=x[0])
    return c.energy() * isinstance(c, State) * (type(c) is Child)


def attributes(x, v):
    s = State(x, v)
    setattr(s, "x", x * getattr(s, "v"))
    extra = getattr(s, "missing", 2.0)
    return np.sum(s.x) * extra * hasattr(s, "t") + (1.0 if hasattr(s, "q") else np.sum(x))


def space(x, v):
    s = types.SimpleNamespace(a=x, b=2.0)
    s.c = v
    return np.sum(s.a * s.c) * s.b


def copied(x, v):
    s = State(x, v)
    t = copy.copy(s)
    t.x = t.x * v
    return s.energy() * t.energy()


def in_containers(x, v):
    states = [State(x * k, v) for k in (1.0, 2.0)]
    states[0].x = v
    table = {"a": states[1]}
    table["a"].t = x[0]
    return sum(s.energy() * s.t for s in states) + states[0].potential


def methods_as_values(x, v):
    s = State(x, v)
    energy = s.energy
    s.x = 2.0 * x
    return energy() + sum(map(State.energy, [s]))


def deleted_attribute(x, v):
    s = State(x, v)
    del s.t
    s.t = x[1]
    return s.energy() * s.t


ALL = [made_and_read, changed, stepped, stepped_in_place, rebound_in_loop, joined, chosen,
       array_in_field_written, frozen, slotted, named, operated, container, augmented, compared,
       layers, outside, outside_operators, abstract, inherited, attributes, space, copied,
       in_containers, methods_as_values, deleted_attribute]  # fmt: skip


@pytest.mark.parametrize("f", ALL, ids=lambda f: f.__name__)
def test_gradient(f):
    check(f, X, Y)


@pytest.mark.parametrize("f", [stepped_in_place, rebound_in_loop, chosen])
def test_compiled(f):
    check(f, X, Y, backend="numba")


def test_an_attribute_that_changes_is_seen():
    g = grad(lambda x: np.sum(OUTSIDE(x)))
    first = g(X)
    before, OUTSIDE.b = OUTSIDE.b, 6.0
    try:
        np.testing.assert_allclose(g(X), 2.0 * first)
    finally:
        OUTSIDE.b = before


def test_a_property_that_was_kept_is_read():
    layer = Layer(np.ones(4))
    g = grad(lambda x: np.sum(x) * layer.total)
    np.testing.assert_allclose(g(X), np.full(4, 4.0))
    layer.w = np.full(4, 2.0)
    np.testing.assert_allclose(g(X), np.full(4, 8.0))
    assert layer.total == 8.0
    layer.w = np.full(4, 3.0)
    np.testing.assert_allclose(g(X), np.full(4, 8.0))


def test_a_method_that_is_replaced_is_seen():
    class Model:
        def f(self, x):
            return np.sum(x)

        @property
        def scale(self):
            return 2.0

    model = Model()
    g = grad(lambda x: model.f(x) * model.scale)
    np.testing.assert_allclose(g(X), np.full(4, 2.0))
    Model.f = lambda self, x: np.sum(3.0 * x)
    np.testing.assert_allclose(g(X), np.full(4, 6.0))
    Model.scale = property(lambda self: 5.0)
    np.testing.assert_allclose(g(X), np.full(4, 15.0))


def test_callable_object_as_parameter():
    def f(x, model):
        return np.sum(model(x) * x)

    layer = Layer(np.ones(4))
    expected = (1 - np.tanh(X) ** 2) * X + np.tanh(X) + 2.0
    np.testing.assert_allclose(grad(f, "x")(X, layer), expected)


def test_all_fields_are_dataclass_fields():
    assert [f.name for f in dataclasses.fields(State)] == ["x", "v", "t", "log"]
