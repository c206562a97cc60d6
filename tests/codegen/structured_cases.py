"""Functions with loops and branches, built by hand; CASES holds (function, arguments)."""

from __future__ import annotations

import math

import numpy as np

from flatgrad.ir.ops import For, Origin, Value
from flatgrad.ir.types import Scalar
from flatgrad.primitives.symbolic import Symbol, operand_of
from tests.codegen.handmade import BOOL, FLOAT, INT, SQUARE, VECTOR, Maker, square, vector

CASES = {}


def case(*arguments):
    def register(make):
        key = make.__name__ if make.__name__ not in CASES else f"{make.__name__}_again"
        CASES[key] = (make, arguments)
        return make

    return register


@case(0.7, 4)
def power_sum():
    m = Maker(x=FLOAT, n=INT)
    x, n = m.params
    y = m.loop((0, n, 1), {"y": 1.0}, lambda i, y: m.named("y", y * np.sin(x + i)))
    return m.done(y)


@case(0.7, 4)
def power_sum_grad():
    m = Maker(x=FLOAT, n=INT)
    x, n = m.params
    tape = m.call(np.empty, n)
    tape.value.name = "y_tape"

    def forward(i, y, tape):
        tape = m.set(tape, i, y)
        return m.named("y", y * np.sin(x + i)), tape

    _, tape = m.loop((0, n, 1), {"y": 1.0, "y_tape": tape}, forward)

    def backward(i, grad_y, grad_x):
        y = m.named("y", tape[i])
        u = m.named("u", x + i)
        grad_x = m.named("grad_x", grad_x + grad_y * y * np.cos(u))
        return m.named("grad_y", grad_y * np.sin(u)), grad_x

    m.builder.origin = Origin(None, "backward")
    _, grad_x = m.loop((n - 1, -1, -1), {"grad_y": 1.0, "grad_x": 0.0}, backward)
    return m.done(grad_x)


@case(2.0, 3)
def int_init():
    m = Maker(x=FLOAT, n=INT)
    x, n = m.params
    zero = m.named("y", x * 0)
    y = m.loop((0, n, 1), {"y": zero}, lambda i, y: m.named("y", y + x * i))
    return m.done(y)


@case(vector, 3)
def parameter_written():
    m = Maker(x=VECTOR, n=INT)
    x, n = m.params
    return m.done(m.loop((0, n, 1), {"x": x}, lambda i, a: m.set(a, i, a[i] * 2.0)))


@case(vector, 3)
def parameter_written_and_read():
    m = Maker(x=VECTOR, n=INT)
    x, n = m.params
    return m.done(m.loop((0, n, 1), {"a": x}, lambda i, a: m.set(a, i, a[i] + x[0])), x)


@case(vector)
def prefix_sums():
    m = Maker(x=VECTOR)
    (x,) = m.params
    a = m.named("a", np.zeros_like(x))
    return m.done(m.loop((1, x.shape[0], 1), {"a": a}, lambda i, a: m.set(a, i, a[i - 1] + x[i])))


@case(vector, 4)
def stencil_swapped():
    m = Maker(x=VECTOR, n=INT)
    x, n = m.params
    u, v = m.named("u", np.copy(x)), m.named("v", np.copy(x))

    def step(t, u, v):
        inner = (1, x.shape[0] - 1, 1)
        v = m.loop(inner, {"v": v}, lambda i, v: m.set(v, i, u[i] + 0.1 * (u[i - 1] - u[i + 1])))
        return v, u

    u, _ = m.loop((0, n, 1), {"u": u, "v": v}, step, index="t")
    return m.done(u)


@case(vector, 3)
def stencil_in_place():
    m = Maker(x=VECTOR, n=INT)
    x, n = m.params
    u = m.named("u", np.copy(x))

    def step(t, u):
        inner = (1, x.shape[0] - 1, 1)
        return m.loop(inner, {"u": u}, lambda i, u: m.set(u, i, u[i] + 0.1 * (u[i - 1] - u[i + 1])))

    return m.done(m.loop((0, n, 1), {"u": u}, step, index="t"))


@case(vector, vector, 3)
def swap_parameters():
    m = Maker(u=VECTOR, v=VECTOR, n=INT)
    u, v, n = m.params
    return m.done(*m.loop((0, n, 1), {"u": u, "v": v}, lambda i, u, v: (v, u)))


@case(2.0, 3.0, 3)
def rotate():
    m = Maker(a=FLOAT, b=FLOAT, n=INT)
    a, b, n = m.params
    inits = {"a": a, "b": b, "c": 1.0}
    return m.done(*m.loop((0, n, 1), inits, lambda i, a, b, c: (b, c, m.named("a", a + b))))


@case(1.0, 2.0, 4)
def fibonacci():
    m = Maker(a=FLOAT, b=FLOAT, n=INT)
    a, b, n = m.params
    return m.done(*m.loop((0, n, 1), {"a": a, "b": b}, lambda i, a, b: (b, a + b)))


@case(vector, 3)
def older_version_read():
    m = Maker(x=VECTOR, n=INT)
    x, n = m.params

    def body(i, a):
        new = m.set(a, i, 0.0)
        return m.set(new, i + 1, np.sum(a) + new[0])

    return m.done(m.loop((0, n, 1), {"a": np.copy(x)}, body))


@case(vector, 3)
def view_in_body():
    m = Maker(x=VECTOR, n=INT)
    x, n = m.params

    def body(i, a, s):
        view = m.named("view", a[1:])
        new = m.set(a, i, 5.0)
        return new, m.named("s", s + np.sum(view))

    return m.done(*m.loop((0, n, 1), {"a": np.copy(x), "s": 0.0}, body))


@case(vector, 3)
def view_dead_before_write():
    m = Maker(x=VECTOR, n=INT)
    x, n = m.params

    def body(i, a, s):
        view = m.named("view", a[1:])
        s = m.named("s", s + np.sum(view))
        return m.set(a, i, 5.0), s

    return m.done(*m.loop((0, n, 1), {"a": np.copy(x), "s": 0.0}, body))


@case(vector, 4)
def element_before_write():
    m = Maker(x=VECTOR, n=INT)
    x, n = m.params

    def body(i, a, s):
        old = a[i]
        a = m.set(a, i, 1.0)
        return a, m.named("s", s + old * a[0])

    return m.done(*m.loop((0, n, 1), {"a": np.copy(x), "s": 0.0}, body))


@case(0.5, 6)
def if_in_for():
    m = Maker(x=FLOAT, n=INT)
    x, n = m.params

    def body(i, y):
        return m.if_(y > 1.0, ["y"], lambda: m.named("y", y / 2.0), lambda: m.named("y", y + x))

    return m.done(m.loop((0, n, 1), {"y": x}, body))


@case(0.5, 6)
def if_without_else():
    m = Maker(x=FLOAT, n=INT)
    x, n = m.params

    def body(i, y):
        y = m.named("y", y + x)
        return m.if_(y > 1.0, ["y"], lambda: m.named("y", y - 1.0), lambda: y)

    return m.done(m.loop((0, n, 1), {"y": x}, body))


@case(0.5)
@case(-0.5)
def else_only():
    m = Maker(x=FLOAT)
    (x,) = m.params
    y = m.named("y", x * 2.0)
    y = m.if_(x > 0.0, ["y"], lambda: y, lambda: m.named("y", y * x))
    return m.done(y)


@case(0.5)
def chained():
    m = Maker(x=FLOAT)
    (x,) = m.params

    def last():
        return m.if_(x > 0.0, ["y"], lambda: m.named("y", x * 3.0), lambda: 0)

    return m.done(m.if_(x > 1.0, ["y"], lambda: m.named("y", x * 2.0), last))


@case(vector, 0.5)
def merged_arrays():
    m = Maker(x=VECTOR, c=FLOAT)
    x, c = m.params
    a, b = m.named("a", np.copy(x)), m.named("b", x * 2.0)
    d = m.if_(c > 0.0, ["d"], lambda: a, lambda: b)
    d = m.set(d, 0, 9.0)
    return m.done(d, a, b)


@case(vector, 0.5)
def merged_and_written():
    m = Maker(x=VECTOR, c=FLOAT)
    x, c = m.params
    a = m.named("a", np.copy(x))
    a = m.if_(c > 0.0, ["a"], lambda: m.set(a, 0, 9.0), lambda: a)
    return m.done(m.set(a, 1, 3.0))


@case(vector, 0.5)
def maybe_parameter():
    m = Maker(x=VECTOR, c=FLOAT)
    x, c = m.params
    a = m.if_(c > 0.0, ["a"], lambda: x, lambda: m.named("a", x * 2.0))
    return m.done(m.set(a, 1, 3.0))


@case(3, 0.5)
def for_in_if():
    m = Maker(n=INT, x=FLOAT)
    n, x = m.params

    def looped():
        return m.loop((0, n, 1), {"y": x}, lambda i, y: m.named("y", y * 2.0))

    return m.done(m.if_(x > 0.0, ["y"], looped, lambda: x), x)


@case(20.0)
def halvings():
    m = Maker(x=FLOAT)
    (x,) = m.params
    return m.done(
        *m.while_(
            {"x": x, "k": 0},
            lambda x, k: x > 1.0,
            lambda x, k: (m.named("x", x / 2.0), m.named("k", k + 1)),
        )
    )


@case(20.0)
def while_with_exit():
    m = Maker(x=FLOAT)
    (x,) = m.params

    def body(x, k):
        new, more = m.named("x", x / 2.0), m.named("k", k + 1)
        return more >= 3, new, more

    return m.done(*m.while_({"x": x, "k": 0}, lambda x, k: x > 1.0, body, exits=True))


@case(20.0)
def while_true():
    m = Maker(x=FLOAT)
    (x,) = m.params

    def body(x):
        new = m.named("x", x / 2.0)
        return new < 1.0, new

    return m.done(m.while_({"x": x}, lambda x: True, body, exits=True))


@case(5.0)
def condition_with_statements():
    m = Maker(x=FLOAT)
    (x,) = m.params

    def test(y):
        t = m.named("t", y * y)
        return t + np.sin(t) > 2.0

    return m.done(m.while_({"y": x}, test, lambda y: m.named("y", y * 0.5)))


@case(1.5, 9)
def early_break():
    m = Maker(x=FLOAT, n=INT)
    x, n = m.params

    def body(i, y, z):
        y = m.named("y", y * x)
        done, z = m.if_(
            y > 10.0, ["done", "z"], lambda: (True, z), lambda: (False, m.named("z", z + y))
        )
        return done, y, z

    return m.done(*m.loop((0, n, 1), {"y": 1.0, "z": 0.0}, body, exits=True))


@case(1.5, 9)
def break_before_update():
    m = Maker(x=FLOAT, n=INT)
    x, n = m.params

    def body(i, y):
        return m.if_(
            y > 10.0, ["done", "y"], lambda: (True, y), lambda: (False, m.named("y", y * x))
        )

    return m.done(m.loop((0, n, 1), {"y": 1.0}, body, exits=True))


@case(1.5, 9)
def two_breaks():
    m = Maker(x=FLOAT, n=INT)
    x, n = m.params

    def body(i, y, k):
        def rest():
            new = m.named("y", y * x)
            inner = m.if_(
                new > 8.0, ["done", "k"], lambda: (True, 7), lambda: (False, m.named("k", k + 1))
            )
            return inner[0], new, inner[1]

        done, y2, k2 = m.if_(y > 10.0, ["done", "y", "k"], lambda: (True, y, k), rest)
        return done, y2, k2

    return m.done(*m.loop((0, n, 1), {"y": 1.0, "k": 0}, body, exits=True))


@case(1.5, 9)
def flag_of_old_value():
    m = Maker(x=FLOAT, n=INT)
    x, n = m.params

    def body(i, y, z):
        return y > 5.0, y * x, y

    return m.done(*m.loop((0, n, 1), {"y": 1.0, "z": 0.0}, body, exits=True))


@case(0.5, 0)
@case(0.5, 3)
def zero_trips():
    m = Maker(x=FLOAT, n=INT)
    x, n = m.params
    y, last = m.loop((0, n, 1), {"y": x, "last": -1}, lambda i, y, last: (m.named("y", y * 2.0), i))
    return m.done(y, last)


@case(0.5, 3)
def invariant_not_repeated():
    m = Maker(x=FLOAT, n=INT)
    x, n = m.params
    e = np.exp(x)
    return m.done(m.loop((0, n, 1), {"y": x}, lambda i, y: m.named("y", y * e)))


@case(square, 3)
def triangular():
    m = Maker(A=SQUARE, n=INT)
    A, n = m.params

    def row(i, s):
        return m.loop((0, i, 1), {"s": s}, lambda j, s: m.named("s", s + A[i, j]), index="j")

    return m.done(m.loop((0, n, 1), {"s": 0.0}, row))


@case(square, vector, 3)
def accumulated_matrix():
    m = Maker(A=SQUARE, x=VECTOR, n=INT)
    A, x, n = m.params
    g = m.named("grad_A", np.zeros_like(A))

    def body(i, h, g):
        return m.named("h", np.tanh(A @ h)), m.named("grad_A", g + np.outer(h, h))

    return m.done(*m.loop((0, n, 1), {"h": x[:4], "grad_A": g}, body))


@case(vector, 4)
def tape_of_rows():
    m = Maker(x=VECTOR, n=INT)
    x, n = m.params
    tape = m.call(np.empty, (n, x.shape[0]))
    tape.value.name = "h_tape"

    def forward(i, h, tape):
        tape = m.set(tape, i, h)
        return m.named("h", np.tanh(h * 1.5)), tape

    h, tape = m.loop((0, n, 1), {"h": x, "h_tape": tape}, forward)

    def backward(i, g):
        h = m.named("h", tape[i])
        return m.named("g", g * (1.5 - h * h))

    return m.done(m.loop((n - 1, -1, -1), {"g": np.ones_like(h)}, backward))


@case(vector, 3)
def scattered_gradient():
    m = Maker(x=VECTOR, n=INT)
    x, n = m.params
    g = m.named("grad_x", np.zeros_like(x))

    def body(i, g, s):
        return m.add(g, i, s * x[i]), m.named("s", s * 0.5)

    return m.done(*m.loop((n - 1, -1, -1), {"grad_x": g, "s": 1.0}, body))


@case(vector, 3)
def yielded_twice():
    m = Maker(x=VECTOR, n=INT)
    x, n = m.params

    def body(i, a, b):
        new = m.set(a, i, np.sum(b))
        return new, new

    a, b = m.loop((0, n, 1), {"a": np.copy(x), "b": np.copy(x)}, body)
    return m.done(m.set(a, 0, 100.0), b)


@case(vector, 3)
def carried_outer_array():
    m = Maker(x=VECTOR, n=INT)
    x, n = m.params
    w = m.named("w", x * 3.0)
    a = m.loop((0, n, 1), {"a": np.copy(x)}, lambda i, a: m.set(m.set(w, i, a[0]), 0, a[1] + i))
    return m.done(a, w)


@case(vector, 3)
def broadcast_start():
    m = Maker(x=VECTOR, n=INT)
    x, n = m.params
    a = np.broadcast_to(x[0], x.shape)
    return m.done(m.loop((0, n, 1), {"a": a}, lambda i, a: m.set(a, i, a[i] + i)))


@case(vector, 3)
def previous_kept():
    m = Maker(x=VECTOR, n=INT)
    x, n = m.params

    def body(i, a, before):
        new = m.named("a", np.copy(a))
        return m.set(new, i, before[i] + 1.0), a

    return m.done(*m.loop((0, n, 1), {"a": x, "before": x}, body))


@case(vector, 3)
def chain_of_three():
    m = Maker(x=VECTOR, n=INT)
    x, n = m.params

    def body(i, a, b, c):
        return b, c, c

    a, b, c = m.loop((0, n, 1), {"a": x * 1.0, "b": x * 2.0, "c": x * 3.0}, body)
    return m.done(m.set(a, 0, 50.0), m.set(b, 0, 60.0), c)


@case(vector, 3)
def write_in_branch():
    m = Maker(x=VECTOR, n=INT)
    x, n = m.params

    def body(i, a):
        return m.if_(
            x[i] > 0.0, ["a"], lambda: m.set(a, i, a[i] + 1.0), lambda: m.set(a, 0, a[0] - 1.0)
        )

    return m.done(m.loop((0, n, 1), {"a": x}, body))


@case(vector, 2)
def inner_writes_alias():
    m = Maker(x=VECTOR, n=INT)
    x, n = m.params

    def body(t, a, s):
        b = m.loop((0, n, 1), {"b": a}, lambda i, b: m.set(b, i, b[i] * 2.0))
        return b, m.named("s", s + np.sum(a) + np.sum(b))

    return m.done(*m.loop((0, n, 1), {"a": np.copy(x), "s": 0.0}, body, index="t"))


@case(0.3, 5)
def guarded_expression():
    m = Maker(x=FLOAT, n=INT)
    x, n = m.params

    def body(i, y):
        t = y * 2.0
        new = m.named("y", y + 1.0)
        return m.named("y", new * t + math.pi)

    return m.done(m.loop((0, n, 1), {"y": x}, body))


@case(2.0, True)
def bool_condition():
    m = Maker(x=FLOAT, c=BOOL)
    x, c = m.params
    y, z = m.if_(c, ["y", "z"], lambda: (x, 1.0), lambda: (m.named("y", x * x), x))
    return m.done(y, z, x)


@case(3, 0.5)
def stop_carried():
    m = Maker(n=INT, x=FLOAT)
    n, x = m.params
    n2, y = m.loop((0, n, 1), {"n": n, "y": x}, lambda i, k, y: (m.named("n", k + 1), y * k))
    return m.done(n2, y)


@case(vector, 3)
def result_then_written():
    m = Maker(x=VECTOR, n=INT)
    x, n = m.params
    u = m.loop((0, n, 1), {"u": x}, lambda i, u: m.named("u", u * 2.0))
    return m.done(m.set(u, 0, 1.0), x)


@case(np.float32(0.7), 3)
def float32_carried():
    m = Maker(x=Scalar("float32"), n=INT)
    x, n = m.params
    value = Value(Scalar("float32"), "y", kept=True)
    index = Value(INT, "i", kept=True)
    body = m.filled((index, value), lambda i, y: m.named("y", y + x))
    out = Value(Scalar("float32"), "y", kept=True)
    bounds = (operand_of(0), n.value, operand_of(1))
    m.builder.block.ops.append(For(*bounds, (operand_of(1),), body, (out,)))
    return m.done(Symbol(out, m.builder))


@case(1.5, 9)
@case(1.5, 2)
def flag_handed_on():
    m = Maker(x=FLOAT, n=INT)
    x, n = m.params

    def body(i, y, returned):
        done, y = m.if_(
            y > 3.0, ["done", "y"], lambda: (True, y), lambda: (False, m.named("y", y * x))
        )
        return done, y, done

    y, returned = m.loop((0, n, 1), {"y": 1.0, "returned": False}, body, exits=True)
    return m.done(m.if_(returned, ["out"], lambda: m.named("out", y * 10.0), lambda: y))
