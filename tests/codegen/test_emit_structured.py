"""Loops and branches as text: what is emitted computes what the IR means, and reads well."""

from __future__ import annotations

import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))

from handmade import copies
from structured_cases import CASES

from flatgrad.codegen.module import build_module
from flatgrad.codegen.numba_dialect import NumbaDialect
from flatgrad.codegen.numpy_dialect import NumpyDialect
from flatgrad.ir.interpret import interpret


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
