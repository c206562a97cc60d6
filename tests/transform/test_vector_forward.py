"""Several tangents in one sweep are the same as one sweep for each, for every primitive's samples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import flatgrad.primitives.rules  # noqa: F401
from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import Block, Slot
from flatgrad.primitives.registry import PRIMITIVES
from flatgrad.transform.forward import forward
from flatgrad.transform.vector_forward import stacked_parameters
from tests.primitives.harness import Case, cleaned, emitted


def differentiable():
    seen = []
    for primitive in PRIMITIVES.values():
        is_new = primitive not in seen and primitive.samples is not None
        is_new = is_new and primitive.name != "push"  # of tapes that start empty only
        if is_new and primitive.derivative and not primitive.effect:
            seen.append(primitive)
    return seen


def case_of(primitive, sample):
    case = Case(primitive, sample, seed=3)
    return case if case.active and case.fn.results[0].type.differentiable else None


def rows_of(case, count):
    rng = np.random.default_rng(4)
    places = [case.fn.params.index(param) for param in case.active]
    kinds = [np.asarray(case.values[k]) for k in places]
    return [rng.standard_normal((count, *x.shape)).astype(x.dtype) for x in kinds]


def row(stack, k):
    return stack[k] if stack.ndim > 1 else stack[k].item() if stack.dtype == "f8" else stack[k]


@pytest.mark.parametrize("primitive", differentiable(), ids=lambda one: f"{one.text}-{one.name}")
def test_rows_are_single_tangents(primitive):
    for sample in primitive.samples():
        case = case_of(primitive, sample)
        if case is None:
            continue
        for count in (3, 1):
            dots = rows_of(case, count)
            with np.errstate(all="ignore"):
                expected = [case.pushed([row(dot, k) for dot in dots]) for k in range(count)]
                fn, tangents = forward(case.fn, case.active)
                body = Block(fn.params, fn.body.ops, tuple(tangents))
                fn = replace(fn, body=body, tree=Slot(0))
                given = fn.params[len(case.fn.params) :]
                fn = cleaned(stacked_parameters(fn, given, (0,), one=count == 1))
                found = interpret(fn, [*case.values, *dots])[0]
                text = emitted(fn, [*case.values, *dots])
            for one in (found, text):
                assert one.dtype == np.asarray(expected[0]).dtype or one.dtype == np.float64
                np.testing.assert_allclose(one, np.stack(expected), rtol=1e-5, atol=1e-6)
