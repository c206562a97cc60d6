"""Loops and branches as text: what is emitted computes what the IR means, and reads well."""

from __future__ import annotations

import textwrap
from dataclasses import replace

import numpy as np
import pytest

from flatgrad.codegen.module import build_module
from flatgrad.codegen.numba_dialect import NumbaDialect
from flatgrad.codegen.numpy_dialect import NumpyDialect
from flatgrad.errors import Span
from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import Origin
from tests.codegen.handmade import copies
from tests.codegen.random_functions import random_arguments, random_function
from tests.codegen.structured_cases import CASES


def arguments_of(case, seed):
    rng = np.random.default_rng(seed)
    return [arg(rng) if callable(arg) else arg for arg in case[1]]


def text_of(name, dialect=NumpyDialect):
    return build_module(CASES[name][0](), "f", dialect()).function_text


def run(module, args):
    namespace = {"__name__": "generated"}
    exec(compile(module.text, "generated", "exec"), namespace)
    found = namespace["f"](*args)
    return list(found) if isinstance(found, tuple) else [found]


def check(name, dialect):
    fn = CASES[name][0]()
    module = build_module(fn, "f", dialect())
    for seed in range(3):
        args = arguments_of(CASES[name], seed)
        given = copies(args)
        with np.errstate(all="ignore"):
            found = run(module, given)
        for one, other in zip(args, given, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=f"input changed\n{module.text}")
        for one, other in zip(found, interpret(fn, args), strict=True):
            np.testing.assert_allclose(one, other, err_msg=module.text)


@pytest.mark.parametrize("name", CASES)
def test_emitted_equals_interpreted(name):
    check(name, NumpyDialect)


@pytest.mark.parametrize("name", CASES)
def test_numba_text_runs_as_python(name, monkeypatch):
    monkeypatch.setattr("numba.njit", lambda *args, **kwargs: lambda function: function)
    check(name, NumbaDialect)


COMPILED = [
    "power_sum_grad", "stencil_swapped", "parameter_written", "two_breaks", "chained", "halvings",
    "write_in_branch", "accumulated_matrix", "zero_trips", "float32_carried", "while_true",
    "maybe_parameter", "inner_writes_alias",
]  # fmt: skip


@pytest.mark.parametrize("name", COMPILED)
def test_numba_compiled(name, monkeypatch):
    import numba

    njit = numba.njit
    monkeypatch.setattr("numba.njit", lambda cache, **options: njit(**options))
    check(name, NumbaDialect)


@pytest.mark.parametrize("start", range(0, 200, 20))
def test_random_functions(start):
    for seed in range(start, start + 20):
        fn = random_function(seed)
        module = build_module(fn, "f", NumpyDialect())
        args = random_arguments(seed)
        given = copies(args)
        with np.errstate(all="ignore"):
            found, expected = run(module, given), interpret(fn, args)
        for one, other in zip(args, given, strict=True):
            np.testing.assert_array_equal(one, other, err_msg=f"input changed\n{module.text}")
        for one, other in zip(found, expected, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-9, err_msg=f"{seed}\n{module.text}")


def golden(text):
    return textwrap.dedent(text).lstrip("\n")


GOLDEN = {
    "power_sum_grad": """
        def f(x, n):
            # forward
            y = 1.0
            y_tape = np.empty(n)
            for i in range(n):
                y_tape[i] = y
                y = y * np.sin(x + i)
            # backward
            grad_y = 1.0
            grad_x = 0.0
            for i in range(n - 1, -1, -1):
                y = y_tape[i]
                u = x + i
                grad_x += grad_y * y * np.cos(u)
                grad_y = grad_y * np.sin(u)
            return grad_x
        """,
    "stencil_swapped": """
        def f(x, n):
            u = np.copy(x)
            v = np.copy(x)
            for t in range(n):
                for i in range(1, x.shape[0] - 1):
                    v[i] = u[i] + 0.1 * (u[i - 1] - u[i + 1])
                u, v = v, u
            return u
        """,
    "two_breaks": """
        def f(x, n):
            y = 1.0
            k = 0
            for i in range(n):
                if y > 10.0:
                    break
                y = y * x
                if y > 8.0:
                    k = 7
                    break
                k += 1
            return y, k
        """,
    "chained": """
        def f(x):
            if x > 1.0:
                y = x * 2.0
            elif x > 0.0:
                y = x * 3.0
            else:
                y = 0.0
            return y
        """,
    "parameter_written": """
        def f(x, n):
            x = x.copy()
            for i in range(n):
                x[i] = x[i] * 2.0
            return x
        """,
    "view_in_body": """
        def f(x, n):
            a = np.copy(x)
            s = 0.0
            for i in range(n):
                view = a[1:].copy()
                a[i] = 5.0
                s += np.sum(view)
            return a, s
        """,
    "fibonacci": """
        def f(a, b, n):
            for i in range(n):
                a, b = b, a + b
            return a, b
        """,
    "accumulated_matrix": """
        def f(A, x, n):
            grad_A = np.zeros_like(A)
            h = x[:4]
            for i in range(n):
                grad_A += np.outer(h, h)
                h = np.tanh(A @ h)
            return h, grad_A
        """,
    "condition_with_statements": """
        def f(x):
            y = x
            while True:
                t = y * y
                if not t + np.sin(t) > 2.0:
                    break
                y = y * 0.5
            return y
        """,
}


@pytest.mark.parametrize("name", GOLDEN)
def test_text(name):
    assert text_of(name) == golden(GOLDEN[name])


def test_comments_stand_inside_loops():
    fn = CASES["if_without_else"][0]()
    (loop,) = fn.body.ops
    first, test, branch = loop.body.ops
    (inner,) = branch.then.ops

    def at(line):
        return Origin(Span("f.py", line, 0, line, 1, ""))

    branch = replace(branch, then=replace(branch.then, ops=[replace(inner, origin=at(5))]))
    first = replace(first, origin=at(3))
    body = replace(loop.body, ops=[first, test, replace(branch, origin=at(4))])
    loop = replace(loop, body=body, origin=at(2))
    fn = replace(fn, body=replace(fn.body, ops=[loop]))
    comments = {2: "# each step", 4: "# too large", 5: "# once"}
    module = build_module(fn, "f", NumpyDialect(), comments)
    assert module.function_text == golden("""
        def f(x, n):
            y = x
            for i in range(n):  # each step
                y = y + x
                if y > 1.0:  # too large
                    y -= 1.0  # once
            return y
        """)
    lines = module.text.splitlines()
    spans = {lines[k - 1].strip(): origin.span for k, origin in module.lines.items()}
    assert spans["y -= 1.0  # once"].line == 5
