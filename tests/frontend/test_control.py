"""Branches and loops: the IR, interpreted, computes what the function computes."""

from __future__ import annotations

import importlib.util
import math
import textwrap

import numpy as np
import pytest

from flatgrad.errors import FlatgradError
from flatgrad.ir.ops import For, If, While, blocks_of
from tests.frontend.lowered import assert_same, lowered

RNG = np.random.default_rng(0)
NUMBERS = [(-2.0,), (-0.5,), (0.0,), (0.5,), (1.0,), (3.0,)]
PAIRS = [(a, b) for a in (-1.0, 0.0, 2.0) for b in (-3.0, 0.0, 1.5)]
V = [(RNG.normal(size=n),) for n in (2, 3, 5, 8)]
VN = [(RNG.normal(size=5), n) for n in (0, 1, 2, 5)]
VV = [(RNG.normal(size=n), RNG.normal(size=n)) for n in (3, 5)]
XN = [(x, n) for x in (-1.5, 0.3, 2.0) for n in (-1, 0, 1, 2, 5)]
MATRICES = [(RNG.normal(size=(m, n)),) for m, n in ((2, 3), (4, 4), (3, 1))]

CASES = {}


def case(calls):
    def register(f):
        CASES[f.__name__] = f, calls
        return f

    return register


@case(NUMBERS)
def one_branch(x):
    y = x
    if x < 0:
        y = -x * 2
    return y


@case(NUMBERS)
def elif_chain(x):
    if x < -1:
        y = x * x
    elif x < 0:
        y = 3 * x
    elif x == 0:
        y = 7
    else:
        y = math.sqrt(x)
    return y


@case(NUMBERS)
def nested_ifs(x):
    y, z = 1.0, 2
    if x > -1:
        if x > 1:
            y = x
            z = y * 2
        else:
            z = x
    return y + z


@case(NUMBERS)
def early_returns(x):
    if x < -1:
        return x * 2
    y = x + 1
    if y > 1.2:
        if y > 3:
            return y * y
        y = y - 5
    return y * 3


@case(NUMBERS)
def return_in_both(x):
    if x > 0:
        z = x * 2
        return z, x
    else:
        return 0.0, x + 1


def clipped(v, low):
    if v < low:
        return low
    return v * 2


@case(NUMBERS)
def early_return_of_a_callee(x):
    return clipped(x, 0.25) + clipped(x * x, 1.0)


@case(NUMBERS)
def conditional_expressions(x):
    return (x if x > 0 else -x) + (1 if x > 1 else 2.5) * (x if 0 < x < 2 else 3)


@case(PAIRS)
def logic(a, b):
    y = 0.0
    if a > 0 and b > 0:
        y += 1
    if a > 0 or b < 0:
        y += 10
    if not (a < 0 or not b > 1):
        y += 100
    if not a or b:
        y += 1000
    return y


@case(PAIRS)
def short_circuit(a, b):
    y = 0.0
    if b != 0 and a / b > 0.1:
        y = a / b
    return y + (a and b) + (a or b) * 10


@case(PAIRS)
def chained_comparisons(a, b):
    y = 1.0 if -2 < a < b < 5 else 2.0
    z = 1.0 if -2 < a != b / 2 else 3.0
    return y + 10 * z


@case(V)
def branch_on_elements(x):
    if x[0] > x[1]:
        y = x * 2
    else:
        y = x + 1
    return np.sum(y * y)


@case(V)
def branch_writes_in_place(x):
    a = x.copy()
    b = a
    v = a[1:]
    if x[0] > 0:
        a[0] = 5.0
        v[0] = 3.0
    else:
        b *= 2
    return a, b, v


@case(V)
def branch_rebinds_array(x):
    y = x
    if x[0] > 0:
        y = np.zeros_like(x)
        y[1] = 2.0
    return y * 3, x


@case(V)
def branch_in_containers(x):
    state = [x[0], x[1]]
    pair = (x[0], x)
    if x[0] > 0:
        state[0] = 4.0
        pair = (1.0, x * 2)
    return state[0] + state[1], pair[0], pair[1]


@case(V)
def branch_reads_a_view(x):
    v = x[1:] if x[0] > 0 else x[:-1]
    return np.sum(v * v)


@case(V)
def bool_from_branch(x):
    up = False
    if x[0] > 0:
        up = x[1] > 0
    return 2.0 if up else 1.0


@case(XN)
def power_sum(x, n):
    y = 1.0
    for i in range(n):
        y = y * np.sin(x + i)
    return y


@case(XN)
def bounds_of_every_kind(x, n):
    y = x
    for i in range(2, n):
        y = y + i
    for i in range(n, 0, -1):
        y = y * 0.5 + i
    for i in range(-3, 3, 2):
        y = y + x * i
    for _ in range(5, 5):
        y = 1000.0
    return y


@case([(0.5, k) for k in (1, 2, -1, -3)])
def run_time_step(x, k):
    y = x
    for i in range(-4 * k, 3 * k, k):
        y = y * 0.9 + i
    return y


@case(XN)
def triangular(x, n):
    y = 0.0
    for i in range(n):
        for j in range(i):
            y = y + x * i - j
    return y


@case(XN)
def fibonacci(x, n):
    a, b = 0, 1
    for _ in range(n):
        a, b = b, a + b
    return a * x


@case(XN)
def integer_then_float(x, n):
    s = 0
    for i in range(n):
        s = s + x * i
    return s


@case(VN)
def partial_sum(x, n):
    s = 0.0
    for i in range(n):
        s += x[i] * x[i]
    return s


@case(V)
def over_shape(x):
    s = 0.0
    for i in range(x.shape[0]):
        if x[i] > 0:
            s += x[i]
    for i in range(len(x) - 1):
        s += x[i] * x[i + 1]
    return s


@case(V)
def cumulative(x):
    y = np.zeros_like(x)
    s = 0.0
    for i in range(len(x)):
        s = s + x[i]
        y[i] = s
    return y


@case(V)
def in_place_recurrence(x):
    y = x.copy()
    for i in range(1, len(y)):
        y[i] += 0.5 * y[i - 1]
    return np.sum(y), y


@case(VN)
def stencil(u, n):
    u = u.copy()
    for _ in range(n):
        u[1:-1] = u[1:-1] + 0.1 * (u[2:] - 2 * u[1:-1] + u[:-2])
    return u


@case(VN)
def two_buffers(u0, n):
    u = u0.copy()
    v = np.zeros_like(u0)
    for _ in range(n):
        v[1:-1] = 0.5 * (u[2:] + u[:-2])
        u, v = v, u
    return u


@case(VN)
def rebinding(u, n):
    for _ in range(n):
        u = u + 0.1 * np.sin(u)
    return u


@case([(a, b, n) for a, b in VV for n in (0, 1, 3)])
def swaps(u, v, n):
    for _ in range(n):
        u, v = v, u + 1
    return u - 2 * v


@case(VN)
def alias_written_in_loop(x, n):
    a = x.copy()
    b = a
    for i in range(n):
        b[i] = a[i] * 2
        a += 1
    return a, b


@case(VN)
def view_written_in_loop(x, n):
    a = x.copy()
    v = a[1:]
    for i in range(n - 1):
        v[i] = 2 * v[i] + a[0]
    return a, v


@case(VN)
def parameter_written_in_loop(x, n):
    for i in range(n):
        x[i] = x[i] ** 2
    return np.sum(x)


@case(MATRICES)
def over_rows(m):
    s = 0.0
    for row in m:
        s = s + np.sum(row) * row[0]
    return s


@case(MATRICES)
def rows_written(m):
    a = m.copy()
    for row in a:
        row *= 2
    return a


@case(V)
def over_items(x):
    s = 1.0
    for v in x:
        s = s * (1 + v)
    return s


@case(V)
def enumerates(x):
    s = 0.0
    for i, v in enumerate(x):
        s += i * v
    for i, v in enumerate(x, start=2):
        s += i * v * v
    for i, j in enumerate(range(3, 9, 2), 1):
        s += i * j
    return s


@case(VV)
def zips(x, y):
    s = 0.0
    for a, b in zip(x, y):
        s += a * b
    for i, (a, b) in enumerate(zip(x, reversed(y))):
        s += i * a * b
    for a, k in zip(x[1:], range(2)):
        s += a * k
    return s


@case(VN)
def reverses(x, n):
    s = 0.0
    for i in reversed(range(n)):
        s = s * 0.5 + x[i]
    for v in reversed(x):
        s = s * 0.5 + v
    for i in reversed(range(1, 5, 2)):
        s = s * 0.5 + x[i]
    return s


@case(V)
def unrolled_for_static_index(x):
    scales = [2.0, 3.0]
    y = x
    for k in range(2):
        y = y * scales[k]
    return np.sum(y)


@case(MATRICES)
def unrolled_for_axis(m):
    s = 0.0
    for axis in range(2):
        s = s + np.sum(np.sum(m, axis=axis) ** 2)
    return s


@case([(0.5, n) for n in (1, 2, 3)])
def parameter_made_static_by_its_loop(x, n):
    scales = [2.0, 3.0, 4.0]
    y = x
    for k in range(n):
        y = y * scales[k]
    return y


@case(NUMBERS)
def loop_over_layers(x):
    for a, b in [(1.0, 2.0), (0.5, -1.0)]:
        x = a * x + b
        if x > 2:
            continue
        x = x * 3
    return x


@case(NUMBERS)
def break_in_unrolled(x):
    y = 0.0
    for a in (1.0, 2.0, 3.0):
        y = y + a * x
        if y > 1.5:
            break
        y = y * 2
    else:
        y = y + 100
    return y


@case(NUMBERS)
def newton(x):
    y = 1.0
    while abs(y * y - x * x - 1) > 1e-9:
        y = 0.5 * (y + (x * x + 1) / y)
    return y


@case(NUMBERS)
def while_counts(x):
    k = 0
    while x > 0.1 and k < 20:
        x = x / 2
        k = k + 1
    return x, k


@case(NUMBERS)
def while_with_break(x):
    y, k = x, 0
    while True:
        y = y / 2 + 1
        k += 1
        if y > 1.9 or k > 10:
            break
        y = y + 0.01
    return y * k


@case(V)
def break_and_continue(x):
    s = 0.0
    for v in x:
        if v < -0.8:
            continue
        s += v
        if s > 1.0:
            break
        s = s * 1.5
    return s


@case(V)
def loop_else(x):
    y = 0.0
    for v in x:
        y = v
        if v > 0.5:
            break
    else:
        y = -1.0
    return y


@case(V)
def return_in_loop(x):
    s = 0.0
    for v in x:
        s = s + v
        if s > 0.5:
            return s * 10
    return s


@case(V)
def return_in_nested_loops(x):
    k = 0
    for i in range(len(x)):
        while k < 20:
            k += 1
            if x[i] * k > 2:
                return x[i], k
            if k % 5 == 0:
                break
    else:
        k = 7
    return 0.5, k


@case(NUMBERS)
def first_assigned_in_loop(x):
    for epoch in range(3):
        loss = x * epoch
        x = x + 1
    return loss + epoch


@case(V)
def nested_break(x):
    s = 0.0
    for i in range(len(x)):
        for j in range(len(x)):
            if j > i:
                break
            if x[j] < 0:
                if x[i] < 0:
                    continue
                s += 1
            s += x[i] * x[j]
    return s


@case(XN)
def branch_in_loop(x, n):
    y, z = x, 1
    for i in range(n):
        if y > 2:
            y = y / 2
            z = z + 1
        elif i > 1:
            y = y + 1
    return y * z


@case(XN)
def tuple_state(x, n):
    state = (x, 0.0)
    for _ in range(n):
        p, v = state
        state = (p + 0.1 * v, v - 0.1 * p)
    return state


def force(p):
    if p > 1:
        return 1 - p
    return -p


@case(XN)
def calls_in_loop(x, n):
    v = 0.0
    for _ in range(n):
        v = v + 0.1 * force(x)
        x = x + 0.1 * v
    return x


@case(V)
def windows(x):
    s = 0.0
    for i in range(len(x) - 1):
        w = x[i : i + 2]
        s += np.sum(w * x[i : i + 2]) * w[0]
    return s


@case(V)
def shrinking(x):
    y = x
    for _ in range(len(x) - 1):
        y = y[1:] + y[:-1]
    return y


@case(V)
def sort_in_place(x):
    a = x.copy()
    for i in range(len(a)):
        for j in range(len(a) - 1 - i):
            if a[j] > a[j + 1]:
                t = a[j]
                a[j] = a[j + 1]
                a[j + 1] = t
    return a


@case(XN)
def integer_parameter_condition(x, n):
    if n > 1:
        return x * n
    return x


def power(x, n):
    if n <= 0:
        return 1.0
    return x * power(x, n - 1)


@case(XN)
def recursion(x, n):
    return power(x, n)


@case(V)
def maximum_by_hand(x):
    best, where = x[0], 0
    for i, v in enumerate(x):
        if v > best:
            best, where = v, i
    return best, where


SCALE = np.array([1.0, 2.0, 3.0])


@case(XN)
def captured_in_loop(x, n):
    s = 0.0
    for i in range(n):
        if i < 3:
            s += x * SCALE[i]
    return s


@case(XN)
def list_items(x, n):
    s = [x, 1.0]
    for _ in range(n):
        s[0] = s[0] * 0.5 + s[1]
        s[1] = s[1] + 1
    return s[0]


@case(VN)
def whole_network_state(x, n):
    h = np.zeros(3)
    w = np.ones((3, 3)) * 0.3
    for i in range(n):
        h = np.tanh(w @ h + x[i])
    return h


@case(VN)
def previous_array_is_kept(x, n):
    old = x
    new = x * 2
    for _ in range(n):
        old = new
        new = new * 0.5 + old
    return old + new


@case(XN)
def unchanged_stays_static(x, n):
    axis = 0
    a = np.ones((2, 3)) * x
    for _ in range(n):
        axis = 0
        a = a + np.sum(a, axis=axis)
    return a


@pytest.mark.parametrize("name", CASES)
def test_interpreted(name):
    f, calls = CASES[name]
    assert_same(f, calls)


def kinds(block):
    """How many operations of each structured kind there are, nested ones too."""
    found = []
    for op in block.ops:
        if isinstance(op, If | For | While):
            found.append(type(op).__name__)
        for inner in blocks_of(op):
            found += kinds(inner)
    return found


@pytest.mark.parametrize(
    ("f", "expected"),
    [
        (power_sum, ["For"]), (triangular, ["For", "For"]), (newton, ["While"]),
        (unrolled_for_static_index, []), (logic, ["If"] * 4), (over_rows, ["For"]),
        (two_buffers, ["For"]), (break_and_continue, ["For", "If", "If"]),
    ],
)  # fmt: skip
def test_structure(f, expected):
    fn, _, _ = lowered(f, CASES[f.__name__][1][0])
    assert sorted(kinds(fn.body)) == sorted(expected)


REFUSED = [
    "y = x[0]\nif x[0] > 0:\n    y = x\nreturn y  # E: branch-type: y",
    "if x[0] > 0:\n    y = x[0]\nreturn y  # E: undefined-name: y",
    "y = None\nif x[0] > 0:\n    y = x[0]\nreturn y * 2  # E: branch-type: y",
    "if x > 0:  # E: operand-type: x > 0\n    return x[0]\nreturn x[1]",
    "parts = []\nif x[0] > 0:  # E: branch-type: if x[0] > 0:\n    parts.append(1.0)\nreturn x[0]",
    "a, b = x.copy(), x * 2\nc = a if x[0] > 0 else b\nc[0] = 1.0\n"
    "return a[0]  # E: unsupported-write: a[0]",
    "h = x\nfor k in range(n):\n    h = np.outer(h, x)  # E: loop-carried-type: h\nreturn x[0]",
    "y = x[0]\nfor k in range(n):\n    y = y * x  # E: loop-carried-type: y\nreturn x[0]",
    "y = None\nfor k in range(n):\n    y = x[0] + (y or 0)  # E: loop-carried-type: y\nreturn 1.0",
    "y = x[:1]\nfor k in range(n):\n    y = np.concatenate((y, x))  # E: loop-carried-type: y\n"
    "return x[0]",
    "for k in range(n):\n    if x[k] > 0:\n        z = x[k]\nreturn z  # E: undefined-name: z",
    "while x[n] > 0:\n    z = x[n]\n    n += 1\nreturn z  # E: undefined-name: z",
    "for k in range(n):\n    if k > 1:\n        x[0] = z  # E: undefined-name: z\n    z = 1.0\n"
    "return 1.0",
    "parts = []\nfor k in range(n):  # E: loop-carried-type: for k in range(n):\n"
    "    parts.append(x[:k])\nreturn 1.0",
    "parts = [x[0]]\nfor k in range(n):  # E: loop-carried-type: for k in range(n):\n"
    "    parts.pop()\nreturn 1.0",
    "for k in range(x[0]):  # E: operand-type: x[0]\n    pass\nreturn 1.0",
    "u = x.copy()\nw = u\nfor k in range(n):\n    u[0] = u[0] + 1\n    u = u * 2\n"
    "return w[0]  # E: unsupported-write: w[0]",
    "u = x.copy()\nv = u\nfor k in range(n):\n    u[0] = 1.0\n"
    "    v[1] = v[0]  # E: unsupported-write: v[0]\n    u, v = v * 1, u * 1\nreturn u[0]",
    "a = x.copy()\nb = a.reshape(-1)\ns = 0.0\nfor k in range(n):\n"
    "    s += b[0]  # E: unsupported-write: b[0]\n    a[0] += 1\nreturn s",
    "s = np.array(0.0)\nt = s\nfor k in range(n):\n    s += 1  # E: unsupported-write: s += 1\n"
    "return t",
    "s = [x[0]]\nt = s\nfor k in range(n):\n    s[0] = 1.0  # E: unsupported-write: s[0]\n"
    "    s = [s[0]]\nreturn t[0]",
    "k = 0\nfor v in x:\n    while (k := k + 1) < n:  # E: unsupported-statement: (k := k + 1) < n\n"
    "        pass\n    else:\n        continue\nreturn k",
    "for v in x:  # E: branch-type: for v in x:\n    if v > 0:\n        return x\n"
    "return x[0]",
    "for k in range(n):\n    y = [x, x][int(x[k])]  # E: data-dependent-static: [x, x][int(x[k])]\n"
    "return 1.0",
]


@pytest.mark.parametrize("body", REFUSED)
def test_refused(body, tmp_path):
    path = tmp_path / "refused.py"
    path.write_text("import numpy as np\ndef f(x, n):\n" + textwrap.indent(body, "    "))
    spec = importlib.util.spec_from_file_location("refused", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    with pytest.raises(FlatgradError) as caught:
        lowered(module.f, (np.array([0.5, -1.0, 2.0]), 3))
    found = caught.value.diagnostic
    code, text = found.span.text.split("  # E: ")[1].split(": ", 1)
    end = found.span.end_column if found.span.end_line == found.span.line else None
    shown = found.span.text[found.span.column : end].split("  #")[0]
    assert (found.code, shown) == (code, text), found


def test_a_change_of_rank_is_described():
    def f(h, w):
        for _ in range(3):
            h = np.outer(h, w)
        return h

    with pytest.raises(FlatgradError) as caught:
        lowered(f, (np.ones(3), np.ones(3)))
    found = caught.value.diagnostic
    assert found.message == "`h` changes rank inside the loop: 1-d on entry, 2-d after"
    assert found.help.startswith("use a new name for the new value, or give `h` its final kind")
