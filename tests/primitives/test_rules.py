"""Every primitive on every sample: types, values, both derivative rules, emitted code."""

from __future__ import annotations

import numpy as np
import pytest

import flatgrad.primitives.rules  # noqa: F401
from flatgrad.ir.types import Scalar
from flatgrad.primitives.registry import PRIMITIVES
from tests.primitives.harness import Case, emitted, inner

ALL = [primitive for primitive in dict.fromkeys(PRIMITIVES.values()) if not primitive.opaque]
SAMPLED = [
    pytest.param(primitive, sample, id=f"{primitive.text}-{k}")
    for primitive in ALL
    if primitive.samples
    for k, sample in enumerate(primitive.samples())
]
DERIVED = [p for p in SAMPLED if p.values[0].derivative]
STEPS = (1e-3, 1e-4, 1e-5, 1e-6)


@pytest.mark.parametrize("primitive", ALL, ids=lambda p: p.text)
def test_every_primitive_has_samples_and_rules(primitive):
    assert primitive.samples or primitive.effect, f"{primitive.text} declares no samples"
    if primitive.derivative:
        assert primitive.has_derivative, f"{primitive.text} has no reverse rule"
        has_forward = primitive.partials or primitive.jvp or primitive.linear or primitive.bilinear
        assert has_forward, f"{primitive.text} has no forward rule"


@pytest.mark.parametrize(("primitive", "sample"), SAMPLED)
def test_type_rule_tells_dtype_and_shape(primitive, sample):
    case = Case(primitive, sample)
    kind, value = case.fn.results[0].type, case.output()
    assert np.asarray(value).dtype.name == kind.dtype
    assert np.ndim(value) == kind.ndim
    lengths = {}
    for param, given in zip(case.fn.params, case.values, strict=True):
        for axis, n in enumerate(np.shape(given)):
            lengths[f"{param.name}.shape[{axis}]"] = n
    for size, found in zip(kind.shape, np.shape(value), strict=True):
        known = size if isinstance(size, int) else size.value(lengths)
        assert known in (None, found), f"axis length {found}, type rule says {size}"
    if isinstance(kind, Scalar):
        assert kind.weak == (not isinstance(value, np.generic | np.ndarray))


@pytest.mark.parametrize(("primitive", "sample"), DERIVED)
def test_rules_agree_with_finite_differences(primitive, sample):
    case = Case(primitive, sample, seed=1)
    rng = np.random.default_rng(2)
    y = case.output()
    cotangent = _like(y, rng)
    dots = [_like(case.values[k], rng) for k in _active(case)]
    fn, gradients = case.pulled(cotangent)
    dot_y = case.pushed(dots)
    assert np.shape(dot_y) == np.shape(y)
    single = any(np.asarray(v).dtype == np.float32 for v in [*case.values, y])
    tolerance = 2e-4 if single else 1e-9
    scale = 1 + abs(inner(dot_y, cotangent))
    pulled = sum(inner(g, d) for g, d in zip(gradients, dots, strict=True))
    assert abs(pulled - inner(dot_y, cotangent)) < tolerance * scale, "VJP and JVP disagree"
    for gradient, k in zip(gradients, _active(case), strict=True):
        given = np.asarray(case.values[k])
        assert np.shape(gradient) == given.shape
        assert np.asarray(gradient).dtype == given.dtype
    again = emitted(fn, [*case.values, cotangent])
    for one, other in zip(gradients, again, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6 if single else 1e-14)
    if sample.smooth:
        errors = [_difference_error(case, dots, cotangent, pulled, h) for h in STEPS]
        assert min(errors) < (2e-3 if single else 1e-6) * scale, f"finite differences: {errors}"


def _active(case):
    return [k for k, param in enumerate(case.fn.params) if param in case.active]


def _like(value, rng):
    drawn = rng.uniform(0.5, 1.5, np.shape(value)) * rng.choice([-1.0, 1.0], np.shape(value))
    if np.ndim(value):
        return drawn.astype(np.asarray(value).dtype)
    return np.asarray(value).dtype.type(drawn) if isinstance(value, np.generic) else float(drawn)


def _difference_error(case, dots, cotangent, analytic, h):
    def moved(sign):
        values = list(case.values)
        for k, dot in zip(_active(case), dots, strict=True):
            values[k] = _wide(values[k]) + sign * h * _wide(dot)
        return np.asarray(case.output(values), np.float64)

    return abs(inner((moved(1) - moved(-1)) / (2 * h), cotangent) - analytic)


def _wide(value):
    return np.asarray(value, np.float64) if np.ndim(value) else float(value)
