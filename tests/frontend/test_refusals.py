"""Every statement and expression of Python is supported, with the right gradient, or refused.

    del y  # E: [unsupported-statement] del y

The comment names the code, and the text under the caret of the message.
"""

from __future__ import annotations

import ast
import itertools
import linecache
import textwrap
from collections import OrderedDict

import numpy as np
import pytest

import flatgrad
from flatgrad import grad
from flatgrad.errors import CODES, FlatgradError
from tests.frontend.numeric import check

X = np.array([0.3, 1.2, 2.0])

PRELUDE = """
import math
import numpy as np
from types import SimpleNamespace
K = 3
W = np.array([1.0, 2.0, 3.0])
LAYERS = [W, 2 * W]
NAME = "a"
OPTIONS = {"a": 2.0}
POINT = SimpleNamespace(rate=2.0)
def square(v, *, by=1.0):
    return v * v * by
def many(*args, **kwargs):
    return args[0] * kwargs["scale"]
class Open:
    def __call__(self, v):
        return v
OPEN = Open()
"""

SUPPORTED = {
    # statements
    ast.Pass: "pass\nreturn np.sum(x * x)",
    ast.Return: "return np.sum(x * x)",
    ast.Expr: "'a docstring'\nnp.sum(x)\nreturn np.sum(x * x)",
    ast.Assign: "y = z = x * 2.0\nreturn np.sum(y * z)",
    ast.AnnAssign: "y: np.ndarray = x * 2.0\nz: float\nreturn np.sum(y * y)",
    ast.AugAssign: "y = x * 1.0\ny += x\ny **= 2\ny[1:] -= 1.0\nreturn np.sum(y)",
    ast.Assert: "assert x is not None, 'never'\nassert x.ndim == 1\nreturn np.sum(x * x)",
    ast.If: "if x.ndim == 1 and K > 2:\n    return np.sum(x * x)\nelse:\n    return np.sum(x)",
    ast.For: (
        "y = x\nfor w, k in zip(LAYERS, (1, 2)):\n    y = y * w + k\nelse:\n    y = y * y\n"
        "return np.sum(y)"
    ),
    ast.While: "while K > 5:\n    pass\nreturn np.sum(x * x)",
    ast.Break: (
        "y = x\nfor k in (1, 2, 3):\n    if k == 2:\n        break\n    y = y * y\n"
        "return np.sum(y)"
    ),
    ast.Continue: (
        "y = x\nfor k in [1, 2, 3]:\n    if k == 2:\n        continue\n    y = y * k * x\n"
        "return np.sum(y)"
    ),
    # expressions
    ast.BoolOp: "y = None or x\nreturn np.sum(y * y) if x.ndim == 1 and K else 0.0",
    ast.NamedExpr: "return np.sum((y := x * 2.0) * y)",
    ast.BinOp: (
        "y = (x + 1) * 2 - x / 3 + x // 1 + x % 1.0 + x ** 2\n"
        "k = (7 >> 1) + (1 << 2) + (6 & 3 | 8 ^ 1)\n"
        "return np.sum(y * k) + x @ x"
    ),
    ast.UnaryOp: "return -np.sum(+x) * (~K) * (not K == 2)",
    ast.IfExp: "return np.sum(x * x) if K == 3 else np.sum(x)",
    ast.Dict: "d = {'a': x, **{'b': 2.0}}\nreturn np.sum(d['a'] * d['a']) * d['b']",
    ast.Compare: "return np.sum(x * x) if 1 < K <= 3 and K in (3,) and K is not None else x[0]",
    ast.Call: "return np.sum(square(x, by=2.0)) + many(x, scale=2.0)[0] + x.sum()",
    ast.FormattedValue: "return np.sum(x * x) * OPTIONS[f'{NAME}']",
    ast.JoinedStr: "return np.sum(x * x) * {'a3': 2.0, 'b': 1.0}[f'{NAME}{K:d}']",
    ast.FunctionDef: "def g(v, k=x[0]):\n    return v * k\nreturn np.sum(g(x))",
    ast.Delete: "y = x * x\nz = y\ndel y\nreturn np.sum(z)",
    ast.Lambda: "g = lambda v: v * v\nreturn np.sum(g(x))",
    ast.Set: "return np.sum(x * x) if K in {K, 5} else x[0]",
    ast.ListComp: "return np.sum(sum([v * x for v in LAYERS if K for k in (1, 2)]))",
    ast.SetComp: "return np.sum(x * x) if 'a' in {v for v in 'ab'} else x[0]",
    ast.DictComp: "s = {v: x * k for k, v in enumerate('ab')}\nreturn np.sum(s['b'] * x)",
    ast.GeneratorExp: "return np.sum(sum(v * x for v in LAYERS))",
    ast.Constant: "return np.sum(x * 2.5 * 1e-1 + True)",
    ast.Attribute: "return np.sum(x.T * x) * x.ndim * x.shape[0] * POINT.rate * np.pi",
    ast.Subscript: (
        "return x[0] * x[-1] + np.sum(x[::2]) + x[np.array([0, 0])].sum()"
        " + LAYERS[1][0] * x[1]"
    ),
    ast.Starred: "parts = [x[0], *(x[1], x[2])]\nreturn math.prod(parts) if K < 0 else max(*parts)",
    ast.Name: "y = W * x\nreturn np.sum(y * y)",
    ast.List: "parts = [x, x * x]\nparts[0] = 2.0 * x\nreturn np.sum(parts[0] * parts[1])",
    ast.Tuple: "a, (b, *c) = x[0], (x[1], x[2], x[0])\nreturn a * b * c[0] * c[1]",
    ast.ListComp: "parts = [x * k for k in range(4) if k > 1]\nreturn np.sum(parts[0] * parts[1])",
    ast.DictComp: "d = {k: x[i] for i, k in enumerate('ab')}\nreturn d['a'] * d['b']",
    ast.GeneratorExp: "return sum(v * v for v in x)",
    ast.Slice: "return np.sum(x[1:] * x[:-1]) + np.sum(x[::-1] * x)",
}

REFUSED = {
    # statements
    ast.AsyncFunctionDef: (
        "async def g(v):  # E: [unsupported-statement] async def g(v):\n    pass\n"
        "return x"
    ),
    ast.ClassDef: "class C:  # E: [unsupported-statement] class C:\n    pass\nreturn x[0]",
    ast.With: (
        "with np.errstate():  # E: [unsupported-statement] with np.errstate():\n    pass\n"
        "return x[0]"
    ),
    ast.Match: (
        "match K:  # E: [unsupported-statement] match K:\n    case 3:\n        pass\n"
        "return x[0]"
    ),
    ast.Raise: "raise ValueError  # E: [unsupported-statement] raise ValueError",
    ast.Try: (
        "try:  # E: [unsupported-statement] try:\n    pass\nexcept ValueError:\n    pass\n"
        "return x[0]"
    ),
    ast.TryStar: (
        "try:  # E: [unsupported-statement] try:\n    pass\nexcept* ValueError:\n    pass\n"
        "return x[0]"
    ),
    ast.Import: "import os  # E: [unsupported-statement] import os\nreturn x[0]",
    ast.ImportFrom: (
        "from os import path  # E: [unsupported-statement] from os import path\n"
        "return x[0]"
    ),
    ast.Global: "global K\nK = 4  # E: [unsupported-statement] K = 4\nreturn x[0]",
}

ELSEWHERE = {
    ast.Nonlocal: "a function with `nonlocal` is compiled below",
    ast.AsyncFor: "only stands in coroutines, which are refused as a whole",
    ast.AsyncWith: "only stands in coroutines, which are refused as a whole",
    ast.Await: "only stands in coroutines, which are refused as a whole",
    ast.Yield: "makes a generator, which is refused as a whole",
    ast.YieldFrom: "makes a generator, which is refused as a whole",
}

SUPPORTED_MORE = [
    "return OPEN(x)[0]",
    "return x[0] * getattr(POINT, 'rate')",
    "y = x * 1.0\nparts = [y]\nparts.append(x)\nparts += [x * 2.0]\nreturn np.sum(sum(parts) ** 2)",
    "d = {'a': x}\nd['b'] = x * x\nreturn np.sum(sum(d.values())) + len(d)",
    "total = 0.0\nfor k, v in {'a': x, 'b': x * x}.items():\n    total += np.sum(v)\nreturn total",
    "y = list(reversed([x, 2.0 * x]))\nreturn np.sum(y[0] ** 3)",
    "return np.sum(np.array([x[0], 2.0 * x[1], 3.0]) ** 2)",
    "y = np.zeros(3)\ny[0:2] = [x[0], x[1] ** 2]\nreturn np.sum(y * y)",
    "a, b, c = 1.0, *(x[0], x[1])\nreturn a * b * c",
    "t = (x,) + (x * x,)\nreturn np.sum(t[0] * t[1])",
    "y = x\nif x.shape == x.shape and x.shape[0] == len(x):\n    y = y * x\nreturn np.sum(y)",
    "y = None\nif y is None:\n    y = x * x\nreturn np.sum(y)",
    "return np.sum(x * np.float32(2.0)) + float(x[0]) * int(K) + abs(x[1]) + pow(x[2], 2)",
    "y = x[0]\ny += x[1]\ny *= y\nreturn y",
    "n = 1\nn += 2\nn <<= 1\nreturn np.sum(x ** n)",
    "w = np.sqrt(2.0) * np.array([1.0, 2.0, 3.0])\nb = w\nb += 1.0\nreturn np.sum(w * x * x)",
    "i = np.array([0, 2])\nj = i\nj += -1\nreturn np.sum(x[i] ** 2)",
]

REFUSED_MORE = [
    # data-dependent control flow
    "assert x > 0  # E: [operand-type] x > 0\nreturn x[0]",
    "y = [x][int(x[0])]  # E: [data-dependent-static] [x][int(x[0])]\nreturn y[0]",
    "y = x[0] in (1, 2)  # E: [data-dependent-static] x[0] in (1, 2)\nreturn x[0]",
    "y = {x[0]: 1}  # E: [data-dependent-static] {x[0]: 1}\nreturn x[0]",
    # assignments
    "x.flags = 1  # E: [unsupported-write] x.flags\nreturn x[0]",
    "x.shape += (1,)  # E: [unsupported-write] x.shape\nreturn x[0]",
    "K.a = x  # E: [unsupported-write] K.a\nreturn x[0]",
    "(x, x.a) = x, x  # E: [unsupported-write] x.a\nreturn x[0]",
    "y = (x, x)\ny[0] = x  # E: [unsupported-write] y[0]\nreturn x[0]",
    "OPTIONS['a'] = x  # E: [unsupported-write] OPTIONS['a']\nreturn x[0]",
    "LAYERS[0] += x  # E: [unsupported-write] LAYERS[0]\nreturn x[0]",
    "for LAYERS[0] in [x]:  # E: [unsupported-write] LAYERS[0]\n    pass\nreturn x[0]",
    "W[0] = x[0]  # E: [unsupported-write] W[0]\nreturn x[0]",
    "LAYERS[0][1] = x[0]  # E: [unsupported-write] LAYERS[0][1]\nreturn x[0]",
    "y = x * 1.0\ny[0] = 'a'  # E: [operand-type] y[0]\nreturn y[0]",
    "y = x * 1.0\ny[0] = None  # E: [operand-type] y[0]\nreturn y[0]",
    "y = np.zeros(3, dtype=int)\ny[0] = x[0]  # E: [operand-type] y[0]\nreturn x[0]",
    "a, b = x[0], x[1], x[2]  # E: [static-evaluation] a, b\nreturn a",
    "a, *b = x  # E: [data-dependent-static] a, *b\nreturn a",
    (
        "y = x * 1.0\ny += np.ones((2, 3))  # E: [shape-mismatch] y += np.ones((2, 3))\n"
        "return np.sum(y)"
    ),
    "a, b = K  # E: [operand-type] a, b\nreturn x[0]",
    # names and attributes
    "return missing * x[0]  # E: [undefined-name] missing",
    "return np.missing(x)  # E: [undefined-name] np.missing",
    "return np.sum(x.real)  # E: [unsupported-attribute] x.real",
    "return x.flat[0]  # E: [unsupported-attribute] x.flat",
    "return np.sum(x.view())  # E: [unsupported-attribute] x.view()",
    "x.partition(1)  # E: [unsupported-attribute] x.partition(1)\nreturn x[0]",
    "s = x.sum  # E: [unsupported-attribute] x.sum\nreturn s()",
    "return x[0] * NAME.encode()  # E: [unsupported-attribute] NAME.encode()",
    "return x[0] * POINT.missing  # E: [unsupported-attribute] POINT.missing",
    "return OPEN.missing(x)[0]  # E: [unsupported-attribute] OPEN.missing",
    # calls
    "return np.sum(np.fft.fft(x))  # E: [unsupported-call] np.fft.fft(x)",
    "return np.sum(np.unique(x))  # E: [unsupported-call] np.unique(x)",
    "return np.sum(x) + np.random.normal()  # E: [unsupported-call] np.random.normal()",
    (
        "return np.sum(x) + np.random.default_rng(0).normal()"
        "  # E: [unsupported-call] np.random.default_rng(0)"
    ),
    "return np.add.reduce(x)  # E: [unsupported-call] np.add.reduce(x)",
    "np.place(x, x > 0, 1.0)  # E: [unsupported-call] np.place(x, x > 0, 1.0)\nreturn x[0]",
    "np.fill_diagonal(W, 1.0)  # E: [unsupported-call] np.fill_diagonal(W, 1.0)\nreturn x[0]",
    "return x[0] * float(np.load('x.npy'))  # E: [unsupported-call] np.load('x.npy')",
    "return x(1)  # E: [unsupported-call] x(1)",
    "return NAME(x)  # E: [unsupported-call] NAME(x)",
    "return open(NAME) * x[0]  # E: [unsupported-call] open(NAME)",
    "return eval('x')  # E: [unsupported-call] eval('x')",
    "return square(x, 2.0)  # E: [static-evaluation] square(x, 2.0)",
    (
        "return square(x, by=1.0, **{'by': 2.0})"
        "  # E: [static-evaluation] square(x, by=1.0, **{'by': 2.0})"
    ),
    "return square(**x)  # E: [operand-type] x",
    "return math.sin(x)  # E: [operand-type] math.sin(x)",
    "return len(x[0]) * x[0]  # E: [operand-type] len(x[0])",
    "return max(x, 2.0 * x)[0]  # E: [operand-type] max(x, 2.0 * x)",
    "return np.sum(x, axis=3)  # E: [axis-out-of-range] np.sum(x, axis=3)",
    "return np.sum(x + [1.0, 2.0, 3.0])  # E: [operand-type] x + [1.0, 2.0, 3.0]",
    "return np.sum(x + None)  # E: [operand-type] x + None",
    "return np.sum(NAME * x)  # E: [operand-type] NAME * x",
    "return np.sum(x * (1.0, 2.0, 3.0))  # E: [operand-type] x * (1.0, 2.0, 3.0)",
    "return np.sum(x * 2j)  # E: [unsupported-dtype] 2j",
    "return np.sum(x / (K - 3) * (1 / (K - 3)))  # E: [static-evaluation] 1 / (K - 3)",
    "return x[0] if x is W else x[1]  # E: [unsupported-expression] x is W",
    "return x[0] if x[0] is K else x[1]  # E: [unsupported-expression] x[0] is K",
    # indices
    "return x[0.5]  # E: [unsupported-index] x[0.5]",
    "return x['a']  # E: [unsupported-index] x['a']",
    "return x[0, 0]  # E: [unsupported-index] x[0, 0]",
    "return np.sum(x[True])  # E: [unsupported-index] x[True]",
    "return np.sum(x[x])  # E: [unsupported-index] x[x]",
    "return K[0] * x[0]  # E: [operand-type] K[0]",
    "return (x, x)[5][0]  # E: [static-evaluation] (x, x)[5]",
]

KEYWORDS = [
    "return np.sum(np.tanh(x, out=x[0]))  # E: [unsupported-write] np.tanh(x, out=x[0])",
    "return np.sum(np.tanh(x, where=x > 0))  # E: [unsupported-keyword] np.tanh(x, where=x > 0)",
    (
        "return np.sum(np.tanh(x, dtype=np.float32))"
        "  # E: [unsupported-keyword] np.tanh(x, dtype=np.float32)"
    ),
    "return np.sum(np.tanh(x, casting='no'))  # E: [unsupported-keyword] np.tanh(x, casting='no')",
    "return np.sum(np.add(x, x, out=2.0))  # E: [unsupported-write] np.add(x, x, out=2.0)",
    "return np.sum(x, initial=1.0)  # E: [unsupported-keyword] np.sum(x, initial=1.0)",
    "return np.sum(x, where=x > 0)  # E: [unsupported-keyword] np.sum(x, where=x > 0)",
    "return np.sum(x, out=x)  # E: [shape-mismatch] np.sum(x, out=x)",
    "return x.sum(out=x)  # E: [shape-mismatch] x.sum(out=x)",
    "return np.sum(np.zeros(3, order='F') * x)  # E: [unsupported-keyword] np.zeros(3, order='F')",
    (
        "return np.sum(np.reshape(x, 3, order='F'))"
        "  # E: [unsupported-keyword] np.reshape(x, 3, order='F')"
    ),
    (
        "return np.sum(x.astype(float, casting='no'))"
        "  # E: [unsupported-keyword] x.astype(float, casting='no')"
    ),
    "return np.sum(np.matmul(x, x, out=x))  # E: [shape-mismatch] np.matmul(x, x, out=x)",
]


def kinds(base):
    """The concrete node classes below an abstract one."""
    old = {"Num", "Str", "Bytes", "NameConstant", "Ellipsis", "Index", "ExtSlice", "AugLoad",
           "AugStore", "Param", "Suite", "TemplateStr", "Interpolation", "TypeAlias"}  # fmt: skip
    return {kind for kind in base.__subclasses__() if kind.__name__ not in old}


def test_no_kind_of_node_is_forgotten():
    known = {*SUPPORTED, *REFUSED, *ELSEWHERE}
    assert kinds(ast.stmt) | kinds(ast.expr) == known


count = itertools.count()


def build(body):
    """A function `f(x)` with this body, in a file of its own."""
    text = PRELUDE + "def f(x):\n" + textwrap.indent(body, "    ") + "\n"
    name = f"<refusals {next(count)}>"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    space = {}
    exec(compile(text, name, "exec"), space)
    return space["f"]


def ids(values):
    return [getattr(key, "__name__", None) for key in values]


@pytest.mark.parametrize("body", SUPPORTED.values(), ids=ids(SUPPORTED))
def test_supported(body):
    check(build(body), X.copy())


@pytest.mark.parametrize("body", SUPPORTED_MORE)
def test_supported_more(body):
    check(build(body), X.copy())


@pytest.mark.parametrize("body", REFUSED.values(), ids=ids(REFUSED))
def test_refused(body):
    refused(body)


@pytest.mark.parametrize("body", [*REFUSED_MORE, *KEYWORDS])
def test_refused_more(body):
    refused(body)


def refused(body, x=X):
    f = build(body)
    (line,) = [k for k, text in enumerate(body.splitlines()) if "# E: [" in text]
    code, text = body.splitlines()[line].split("# E: [")[1].split("] ", 1)
    with pytest.raises(FlatgradError) as caught:
        grad(f)(x.copy())
    found = caught.value.diagnostic
    assert found.code == code, found
    assert isinstance(caught.value, CODES[code][0])
    assert found.span.line - PRELUDE.count("\n") - 2 == line
    end = found.span.end_column if found.span.end_line == found.span.line else None
    shown = found.span.text[found.span.column : end].split("  #")[0].rstrip()
    assert shown == text, found
    assert "^" in str(found)


def test_nonlocal():
    y = 1.0

    def f(x):
        nonlocal y
        y = x
        return y

    with pytest.raises(FlatgradError) as caught:
        grad(f)(1.0)
    assert caught.value.code == "unsupported-statement"


class Series:
    """Looks like an array, as those of other libraries do."""

    def __array__(self, dtype=None, copy=None):
        return np.ones(3)


ARGUMENTS = {
    "complex in a list": ([1.0, 1j], "unsupported-argument"),
    "set in a dict": ({"a": {1.0}}, "unsupported-argument"),
    "float16 in a tuple": ((1.0, np.float16(2)), "unsupported-dtype"),
    "ordered dict": (OrderedDict(a=1.0), "unsupported-argument"),
    "complex": (1j, "unsupported-argument"),
    "series": (Series(), "unsupported-argument"),
    "set": ({1.0}, "unsupported-argument"),
    "float16": (np.ones(3, np.float16), "unsupported-dtype"),
    "float16 number": (np.float16(1), "unsupported-dtype"),
    "longdouble": (np.ones(3, np.longdouble), "unsupported-dtype"),
    "longdouble number": (np.longdouble(1), "unsupported-dtype"),
    "complex array": (np.ones(3, complex), "unsupported-dtype"),
    "object array": (np.array([None, 1.0]), "unsupported-dtype"),
    "string array": (np.array(["a"]), "unsupported-dtype"),
    "records": (np.zeros(2, [("a", float)]), "unsupported-dtype"),
    "dates": (np.array(["2020-01-01"], "M8[D]"), "unsupported-dtype"),
    "byte order": (np.ones(3).astype(">f8"), "unsupported-dtype"),
    "masked": (np.ma.masked_array([1.0], [True]), "unsupported-argument"),
    "matrix": (np.asmatrix([[1.0]]), "unsupported-argument"),
    "numpy bool": (np.bool_(True), "unsupported-argument"),
    "subclass": (np.ones(3).view(type("Sub", (np.ndarray,), {})), "unsupported-argument"),
}


def ignores(x, other):
    return np.sum(x * x)


@pytest.mark.parametrize("value,code", ARGUMENTS.values(), ids=ARGUMENTS)
def test_argument_types(value, code):
    with pytest.raises(FlatgradError) as caught:
        grad(ignores)(X, value)
    assert caught.value.code == code
    assert "`other" in str(caught.value)


@pytest.mark.parametrize(
    "value", [None, "text", True, (1, "a"), int, np.float32, slice(1, 2), range(3), len, b"b"]
)
def test_static_arguments(value):
    g = grad(ignores)
    for _ in range(2):
        np.testing.assert_array_equal(g(X, value), 2 * X)


def test_captured_arrays_are_checked_too():
    for bad in (np.ones(3, np.float16), np.array([None]), np.ma.masked_array([1.0], [True])):
        with pytest.raises(FlatgradError) as caught:
            grad(lambda x: np.sum(x * bad))(X)
        assert caught.value.code in ("unsupported-dtype", "unsupported-argument")
        assert caught.value.diagnostic.span.text.strip().startswith("grad(lambda")


def test_data_in_an_f_string():
    f = build("return x[0] * len(f'{x[0]:.1f}')")
    with pytest.raises(FlatgradError) as caught:
        grad(f)(X)
    assert caught.value.code == "data-dependent-static"


def test_recursion_and_deep_nesting():
    f = build("return f(x)")
    with pytest.raises(FlatgradError) as caught:
        grad(f)(X)
    assert caught.value.code == "too-deep"
    f = build("return " + " + ".join(["x[0]"] * 900))
    with pytest.raises(FlatgradError) as caught:
        grad(f)(X)
    assert caught.value.code == "too-deep"


def count_down(x, n):
    return x if n == 0 else count_down(x, n - 1) * x


def test_recursion_that_ends():
    assert grad(count_down, "x")(2.0, 3) == 32.0


KINDS_OF_NUMBER = [2, 2.0, True, np.float64(2), np.float32(2), np.int64(2), np.array(2.0)]


def test_numbers_of_every_kind():
    def f(x, y):
        return x * y * y

    g = grad(f, "x")
    for kind in KINDS_OF_NUMBER:
        assert g(3.0, kind) == kind * kind
        if not isinstance(kind, bool | np.int64):
            found = g(kind, 3.0)
            assert found == 9.0
            expected = float if isinstance(kind, int) else type(kind)
            assert isinstance(found, expected)
    found = g(np.array(2.0, np.float32), 3.0)
    assert (type(found), found.dtype, found.shape) == (np.ndarray, np.float32, ())


def test_arrays_of_every_layout():
    def f(x):
        y = x * 1.0
        y[0] = x[-1]
        return np.sum(y * y * x) + np.sum(x.T[0])

    base = np.arange(24.0).reshape(4, 6) / 7
    read_only = base.copy()
    read_only.flags.writeable = False
    for x in (base, base.T, base[::-1], base[:, ::-2], np.asfortranarray(base), read_only):
        gradient = check(f, x)[0]
        assert gradient.dtype == x.dtype
        assert gradient.flags.writeable


def test_empty_arrays():
    def f(x, y):
        return np.sum(x * x) + np.sum(y)

    one, other = grad(f)(np.ones((0, 3)), np.ones(2))
    assert one.shape == (0, 3)
    np.testing.assert_array_equal(other, [1.0, 1.0])


def test_float32_stays():
    def f(x):
        return np.sum(x * math_scale * np.sqrt(2.0))

    math_scale = 2.0
    x = np.ones(3, np.float32)
    value, gradient = flatgrad.value_and_grad(f)(x)
    assert gradient.dtype == np.float32
    assert value == f(x)
    assert type(value) is type(f(x))
