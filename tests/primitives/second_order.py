"""The rule of a rule: the tangents of gradients against differences of gradients."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import Block, Function, Slot, Value
from flatgrad.primitives.registry import PRIMITIVES, Call
from flatgrad.primitives.symbolic import Symbol
from flatgrad.transform.forward import forward
from flatgrad.transform.reverse import reverse
from tests.primitives.harness import Case, cleaned, inner


def assert_second_order(function: Any, sample: Call, values: list[Any] | None = None) -> None:
    """Forward over reverse mode agrees with central differences of reverse mode."""
    case = Case(PRIMITIVES[function], sample, seed=3)
    case.values = values or case.values
    rng = np.random.default_rng(4)
    y = np.asarray(case.output())
    cotangent = rng.uniform(0.5, 1.5, y.shape) if y.ndim else float(rng.uniform(0.5, 1.5))
    dots = [rng.standard_normal(np.shape(v)) if np.ndim(v) else 0.7 for v in case.values]
    fn, _ = case.pulled(cotangent)
    dot_fn, tangents = forward(fn, case.active)
    dot_fn = cleaned(_yielding(dot_fn, tangents))
    found = interpret(dot_fn, [*case.values, cotangent, *dots])
    h = 1e-5
    sides = []
    for step in (h, -h):
        moved = [v + step * d for v, d in zip(case.values, dots, strict=True)]
        sides.append(interpret(fn, [*moved, cotangent]))
    for one, plus, minus in zip(found, *sides, strict=True):
        expected = (np.asarray(plus) - minus) / (2 * h)
        scale = 1 + np.max(np.abs(expected), initial=0.0)
        np.testing.assert_allclose(one, expected, rtol=1e-5, atol=1e-6 * scale)


def assert_reverse_twice(function: Any, sample: Call) -> None:
    """Reverse over reverse mode agrees with forward over reverse mode, by an inner product."""
    case = Case(PRIMITIVES[function], sample, seed=5)
    rng = np.random.default_rng(6)
    y = np.asarray(case.output())
    cotangent = rng.uniform(0.5, 1.5, y.shape) if y.ndim else 1.1
    fn, gradients = case.pulled(cotangent)
    dots = [rng.standard_normal(np.shape(v)) if np.ndim(v) else 0.7 for v in case.values]
    dot_fn, tangents = forward(fn, case.active)
    pushed = interpret(cleaned(_yielding(dot_fn, tangents)), [*case.values, cotangent, *dots])
    for output, (gradient, tangent) in enumerate(zip(gradients, pushed, strict=True)):
        seed = np.ones_like(gradient) if np.ndim(gradient) else 1.0
        if not isinstance(fn.results[output], Value):
            continue
        twice = replace(fn, body=Block(fn.params, list(fn.body.ops), fn.body.yields))
        total = _seeded(twice, output, case)
        found = interpret(total, [*case.values, cotangent])
        pulled = sum(inner(g, d) for g, d in zip(found, dots, strict=True))
        assert abs(pulled - inner(tangent, seed)) < 1e-8 * (1 + abs(pulled))


def _seeded(fn: Function, output: int, case: Case) -> Function:
    """The gradient of the sum of one result."""
    builder = Builder(fn.body, fn.lengths)
    builder.part = "total"
    result = fn.results[output]
    if result.type.ndim:
        result = np.sum(Symbol(result, builder)).value
        result.name, result.kept = "total", True
    fn = replace(fn, body=Block(fn.params, fn.body.ops, (result,)))
    fn, adjoints = reverse(fn, case.active)
    return cleaned(_yielding(fn, adjoints))


def _yielding(fn: Function, results: list[Any]) -> Function:
    body = Block(fn.params, fn.body.ops, tuple(results))
    return replace(fn, body=body, tree=tuple(Slot(k) for k in range(len(results))))
