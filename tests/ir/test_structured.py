"""Structured operations in the IR: printed, verified and interpreted, built by hand."""

from __future__ import annotations

import operator

import pytest

import flatgrad.primitives.rules  # noqa: F401
from flatgrad.errors import InternalError
from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import Apply, Block, Const, For, Function, If, Slot, Value, While
from flatgrad.ir.printer import print_function
from flatgrad.ir.types import Scalar
from flatgrad.ir.verify import verify
from flatgrad.primitives.registry import PRIMITIVES

FLOAT, INT, BOOL = Scalar("float64", True), Scalar("int64", True), Scalar("bool", True)


def apply(function, operands, kind, name):
    result = Value(kind, name)
    slots = {"a": Slot(0), "b": Slot(1)}
    return Apply(PRIMITIVES[function], tuple(operands), slots, (result,)), result


def power():
    """y = 1; for i in range(n): y = y * x."""
    x, n = Value(FLOAT, "x"), Value(INT, "n")
    i, y = Value(INT, "i"), Value(FLOAT, "y")
    op, new = apply(operator.mul, [y, x], FLOAT, "y")
    out = Value(FLOAT, "out")
    body = Block((i, y), [op], (new,))
    loop = For(Const(0), n, Const(1), (Const(1.0),), body, (out,))
    return Function("power", Block((x, n), [loop], (out,)), Slot(0))


def absolute():
    """-x if x < 0 else x."""
    x, out = Value(FLOAT, "x"), Value(FLOAT, "out")
    test, negative = apply(operator.lt, [x, Const(0.0)], BOOL, "negative")
    op, minus = apply(operator.sub, [Const(0.0), x], FLOAT, "minus")
    branch = If(negative, Block((), [op], (minus,)), Block((), [], (x,)), (out,))
    return Function("absolute", Block((x,), [test, branch], (out,)), Slot(0))


def halvings(limit):
    """k = 0; while x > 1: x = x / 2; k = k + 1; leaves after `limit` trips."""
    x0, x, k = Value(FLOAT, "x0"), Value(FLOAT, "x"), Value(INT, "k")
    seen_x, seen_k = Value(FLOAT, "x"), Value(INT, "k")
    test, large = apply(operator.gt, [seen_x, Const(1.0)], BOOL, "large")
    half, smaller = apply(operator.truediv, [x, Const(2.0)], FLOAT, "x")
    count, more = apply(operator.add, [k, Const(1)], INT, "k")
    stop, done = apply(operator.ge, [more, Const(limit)], BOOL, "done")
    out_x, out_k = Value(FLOAT, "x"), Value(INT, "k")
    loop = While(
        (x0, Const(0)),
        Block((seen_x, seen_k), [test], (large,)),
        Block((x, k), [half, count, stop], (done, smaller, more)),
        (out_x, out_k),
        exits=True,
    )
    return Function("halvings", Block((x0,), [loop], (out_x, out_k)), (Slot(0), Slot(1)))


@pytest.mark.parametrize(("n", "expected"), [(0, 1.0), (1, 3.0), (4, 81.0)])
def test_for_runs_its_trips(n, expected):
    fn = power()
    verify(fn)
    assert interpret(fn, [3.0, n]) == [expected]


@pytest.mark.parametrize("x", [-2.0, 0.0, 5.0])
def test_if_takes_one_branch(x):
    fn = absolute()
    verify(fn)
    assert interpret(fn, [x]) == [abs(x)]


@pytest.mark.parametrize(("limit", "expected"), [(10, [0.75, 4]), (2, [3.0, 2])])
def test_while_ends_by_condition_or_exit(limit, expected):
    fn = halvings(limit)
    verify(fn)
    assert interpret(fn, [12.0]) == expected


def test_for_prints_as_in_the_module_docstring():
    assert print_function(power()) == (
        "func power(%x: float, %n: int) -> (%out) {\n"
        "  %out: float = for %i in (0, %n, 1) carrying (%y: float = 1.0) {\n"
        "    %y_1: float = mul(%y, %x)\n"
        "    yield %y_1\n"
        "  }\n"
        "}"
    )


def test_if_and_while_print():
    assert "if %negative {" in print_function(absolute())
    text = print_function(halvings(3))
    assert "while carrying (%x_1: float = %x0, %k_1: int = 0) exits {" in text
    assert "} do {" in text


def broken_reads_later_value():
    x, y = Value(FLOAT, "x"), Value(FLOAT, "y")
    op, _ = apply(operator.mul, [x, y], FLOAT, "z")
    return Function("f", Block((x,), [op], (x,)), Slot(0))


def broken_defines_twice():
    x = Value(FLOAT, "x")
    op, z = apply(operator.mul, [x, x], FLOAT, "z")
    return Function("f", Block((x,), [op, op], (z,)), Slot(0))


def broken_carried_type():
    fn = power()
    loop = fn.body.ops[0]
    loop.body.yields = (loop.body.params[0],)
    return fn


def broken_condition():
    fn = absolute()
    branch = fn.body.ops[1]
    x = fn.params[0]
    fn.body.ops[1] = If(x, branch.then, branch.orelse, branch.results)
    return fn


def broken_exit_flag():
    fn = halvings(3)
    loop = fn.body.ops[0]
    loop.body.yields = loop.body.yields[1:]
    return fn


def broken_slots():
    x, z = Value(FLOAT, "x"), Value(FLOAT, "z")
    op = Apply(PRIMITIVES[operator.mul], (x,), {"a": Slot(0), "b": Slot(1)}, (z,))
    return Function("f", Block((x,), [op], (z,)), Slot(0))


def broken_scope():
    fn = absolute()
    inner = fn.body.ops[1].then.ops[0].result
    fn.body.yields = (inner,)
    return fn


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (broken_reads_later_value, "read by mul before it is defined"),
        (broken_defines_twice, "defined twice"),
        (broken_carried_type, "must yield its loop-carried variables"),
        (broken_condition, "the condition of If must be a bool"),
        (broken_exit_flag, "must be a bool"),
        (broken_slots, "slots"),
        (broken_scope, "before it is defined"),
    ],
)
def test_verify_names_the_broken_rule(make, words):
    with pytest.raises(InternalError, match=words):
        verify(make())
