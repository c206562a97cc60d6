"""The Numba text of every rule: run as plain Python for all samples, compiled for the first ones."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

import flatgrad.primitives.rules  # noqa: F401
from flatgrad.backends import numba_cpu
from flatgrad.codegen.module import build_module
from flatgrad.codegen.numba_dialect import NumbaDialect
from flatgrad.errors import UnsupportedError
from flatgrad.ir.interpret import interpret
from flatgrad.primitives.registry import PRIMITIVES
from tests.primitives.harness import Case

ALL = list(dict.fromkeys(p for p in PRIMITIVES.values() if p.samples))


def derivative_cases(first: int | None):
    """(primitive, sample) for primitives with derivatives."""
    return [
        (primitive, sample, k)
        for primitive in ALL
        if (primitive.derivative and primitive.vjp) or primitive.partials
        for k, sample in enumerate(list(primitive.samples())[:first])
    ]


def check(primitive, sample):
    """The gradient by Numba text equals the interpreter's."""
    case = Case(primitive, sample, seed=3)
    y = np.asarray(case.output())
    rng = np.random.default_rng(4)
    cotangent = rng.normal(size=y.shape).astype(y.dtype)
    cotangent = cotangent if y.ndim else y.dtype.type(cotangent)
    fn, expected = case.pulled(cotangent)
    arguments = [*case.values, cotangent]
    before = [np.array(value) for value in arguments]
    module = build_module(fn, "case_grad", NumbaDialect())
    found = numba_cpu.load("case_grad", module.text).case_grad(*arguments)
    single = y.dtype == np.float32 or any(np.asarray(g).dtype == np.float32 for g in expected)
    for one, other in zip(found, expected, strict=True):
        assert np.shape(one) == np.shape(other)
        if np.ndim(one):
            assert np.asarray(one).dtype == np.asarray(other).dtype
        np.testing.assert_allclose(
            one, other, rtol=2e-5 if single else 1e-11, atol=1e-6 if single else 1e-12
        )
    for one, other in zip(arguments, before, strict=True):
        np.testing.assert_array_equal(one, other)
    forward = build_module(case.fn, "case", NumbaDialect())
    value = numba_cpu.load("case", forward.text).case(*case.values)
    np.testing.assert_allclose(
        value, interpret(case.fn, case.values)[0], rtol=2e-5 if single else 1e-11, atol=1e-12
    )


def run_uncompiled() -> int:
    """All samples with Numba's JIT switched off; prints what differs."""
    failures = unsupported = 0
    for primitive, sample, k in derivative_cases(None):
        try:
            check(primitive, sample)
        except UnsupportedError as caught:
            unsupported += 1
            print(f"unsupported {primitive.text}-{k}: {caught}")
        except Exception as caught:
            failures += 1
            print(f"FAILED {primitive.text}-{k} {sample}: {type(caught).__name__}: {caught}")
    print(f"{failures} failures, {unsupported} unsupported")
    return failures


def test_all_samples_as_plain_python():
    env = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    code = "from tests.backends.test_numba_rules import run_uncompiled as r; raise SystemExit(r())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]


FULL = os.environ.get("FLATGRAD_TEST") == "full"
"""Whether every function is compiled, or every second one; all run as plain Python above."""

FIRST = [p for p in derivative_cases(2) if p[2] == min(1, len(list(p[0].samples())) - 1)]
FIRST = FIRST if FULL else FIRST[::2]


@pytest.mark.parametrize(
    ("primitive", "sample"), [p[:2] for p in FIRST], ids=[f"{p[0].text}-{p[2]}" for p in FIRST]
)
def test_compiled(primitive, sample):
    try:
        check(primitive, sample)
    except UnsupportedError:
        pytest.skip("refused on this backend")
