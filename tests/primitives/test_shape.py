"""Rearranging, joining and creating arrays: rules of rules, lengths, refusals, emitted text."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import flatgrad.primitives.rules  # noqa: F401
from flatgrad.errors import FlatgradError
from flatgrad.ir.builder import Builder
from flatgrad.ir.dims import Dim
from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import Block, Function, Slot, Value
from flatgrad.ir.types import Array, Scalar
from flatgrad.primitives import create, join, order, rearrange, shape
from flatgrad.primitives.registry import COMPOSITES, PRIMITIVES
from flatgrad.primitives.samples import A, draw
from flatgrad.primitives.shape import quotient
from flatgrad.primitives.symbolic import NeedInteger, NeedStatic, Symbol, apply_function
from flatgrad.transform.reverse import reverse
from tests.primitives.harness import Case, cleaned, inner

MODULES = {module.__name__ for module in (create, join, order, rearrange, shape)}
OWN = [
    pytest.param(primitive, sample, id=f"{primitive.text}-{k}")
    for primitive in dict.fromkeys(PRIMITIVES.values())
    if primitive.type_rule.__module__ in MODULES and primitive.derivative and primitive.vjp
    for k, sample in enumerate(primitive.samples())
]


@pytest.mark.parametrize(("primitive", "sample"), OWN)
def test_reverse_rules_have_reverse_rules(primitive, sample):
    """A gradient is linear in the seed: its adjoint is the forward derivative of the function."""
    case = Case(primitive, sample, seed=3)
    active = [k for k, param in enumerate(case.fn.params) if param in case.active]
    rng = np.random.default_rng(4)
    y = np.asarray(case.output())
    seed = rng.normal(size=y.shape).astype(y.dtype)
    fn, _ = case.pulled(seed if y.ndim else seed[()])
    for place, k in enumerate(active):
        direction = np.asarray(rng.normal(size=np.shape(case.values[k])))
        direction = direction.astype(np.asarray(case.values[k]).dtype)
        dots = [np.zeros_like(np.asarray(case.values[j])) for j in active]
        dots[place] = direction
        pushed = case.pushed([dot if dot.ndim else dot[()] for dot in dots])
        given = fn.params[-1]
        outgoing = Value(fn.results[place].type, "outgoing", kept=True)
        body = Block((*fn.params, outgoing), list(fn.body.ops), fn.body.yields)
        twice, adjoints = reverse(replace(fn, body=body), [given], seed=outgoing, output=place)
        body = Block(twice.params, twice.body.ops, tuple(adjoints))
        twice = cleaned(replace(twice, body=body, tree=Slot(0)))
        values = [*case.values, seed if seed.ndim else seed[()]]
        (found,) = interpret(twice, [*values, direction if direction.ndim else direction[()]])
        assert np.shape(found) == y.shape
        np.testing.assert_allclose(found, pushed, rtol=1e-5, atol=1e-6)


class Composite(Case):
    """A call of a composite, as an IR function that sums up what it returns."""

    def __init__(self, function, args, kwargs, seed=0):
        self.rng = np.random.default_rng(seed)
        self.values, self.active = [], []
        block = Block()
        self.builder = Builder(block)
        args = [self.lift(arg, block) for arg in args]
        kwargs = {key: self.lift(arg, block) for key, arg in kwargs.items()}
        result = COMPOSITES[function](*args, **kwargs)
        self.parts = list(result) if isinstance(result, list | tuple) else [result]
        block.yields = tuple(part.value for part in self.parts)
        self.fn = Function("case", block, tuple(Slot(k) for k in range(len(self.parts))))
        self.fn.lengths = self.builder.lengths

    def outputs(self, values=None):
        return interpret(self.fn, values or self.values)


COMPOSED = [
    (np.hstack, [[A(3), A(2)]], {}), (np.hstack, [[A(2, 1), A(2, 3)]], {}),
    (np.hstack, [[A(), 1.0, A()]], {}), (np.hstack, [(A(), A(3))], {}),
    (np.vstack, [[A(3), A(3)]], {}), (np.vstack, [[A(1, 3), A(3), A(2, 3)]], {}),
    (np.vstack, [[A(), A()]], {}), (np.column_stack, [[A(3), A(3)]], {}),
    (np.column_stack, [[A(3), A(3, 2), A(3, 1)]], {}), (np.dstack, [[A(3), A(3)]], {}),
    (np.dstack, [[A(2, 3), A(2, 3)]], {}), (np.dstack, [[A(2, 3, 2), A(2, 3)]], {}),
    (np.append, [A(3), A()], {}), (np.append, [A(2, 3), 1.5], {}),
    (np.append, [A(3), [A(), 2.0]], {}), (np.append, [A(2, 3), A(2, 1)], {"axis": 1}),
    (np.split, [A(6), 3], {}), (np.split, [A(2, 6), 2], {"axis": -1}), (np.split, [A(1), 1], {}),
    (np.split, [A(5), [1, 3]], {}), (np.split, [A(3, 5), (2, -1)], {"axis": 1}),
    (np.split, [A(3), [2, 5]], {}), (np.array_split, [A(7), 3], {}),
    (np.array_split, [A(2, 1), 2], {"axis": 1}), (np.array_split, [A(2), 3], {}),
    (np.hsplit, [A(2, 4), 2], {}), (np.hsplit, [A(4), 2], {}), (np.vsplit, [A(4, 2), [1]], {}),
    (np.rollaxis, [A(2, 3, 4), 2], {}), (np.rollaxis, [A(2, 3, 4), 0, 3], {}),
    (np.rollaxis, [A(2, 3, 4), 1, 1], {}), (np.rollaxis, [A(2, 3, 4), -1, -2], {}),
    (np.rot90, [A(2, 3)], {}), (np.rot90, [A(2, 3), 2], {}), (np.rot90, [A(2, 3), -1], {}),
    (np.rot90, [A(2, 3, 4), 1, (1, 2)], {}), (np.rot90, [A(2, 3, 1), 3, (2, 0)], {}),
    (np.flipud, [A(3)], {}), (np.fliplr, [A(2, 3)], {}), (np.diag, [A(3)], {"k": 1}),
    (np.diag, [A(3, 4)], {"k": -1}), (np.meshgrid, [A(2), A(3)], {}),
    (np.meshgrid, [A(2), A(3), A(1)], {"indexing": "ij"}), (np.meshgrid, [A(2), A(3), A(4)], {}),
    (np.atleast_1d, [A()], {}), (np.atleast_1d, [A(3), A()], {}), (np.atleast_2d, [A(3)], {}),
    (np.atleast_2d, [A()], {}), (np.atleast_3d, [A(3)], {}), (np.atleast_3d, [A(2, 3)], {}),
    (np.broadcast_arrays, [A(3), A(2, 1), A()], {}), (np.asarray, [A(3)], {}),
    (np.asarray, [[A(), 2.0]], {}), (np.asarray, [A(3, dtype="float32"), np.float64], {}),
]  # fmt: skip


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [pytest.param(*case, id=f"{case[0].__name__}-{k}") for k, case in enumerate(COMPOSED)],
)
def test_composites_agree_with_numpy(function, args, kwargs):
    case = Composite(function, args, kwargs)
    numbers = np.random.default_rng(0)
    expected = function(*draw(args, numbers), **draw(kwargs, numbers))
    expected = list(expected) if isinstance(expected, list | tuple) else [expected]
    found = case.outputs()
    assert len(found) == len(expected)
    lengths = {}
    for param, given in zip(case.fn.params, case.values, strict=True):
        for axis, n in enumerate(np.shape(given)):
            lengths[f"{param.name}.shape[{axis}]"] = n
    for part, one, other in zip(case.parts, found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        assert np.asarray(one).dtype == np.asarray(other).dtype == part.dtype
        for size, n in zip(part.type.shape, np.shape(other), strict=True):
            known = size if isinstance(size, int) else size.value(lengths)
            assert known in (None, n)


@pytest.mark.parametrize(
    ("function", "args", "kwargs"),
    [pytest.param(*case, id=f"{case[0].__name__}-{k}") for k, case in enumerate(COMPOSED)],
)
def test_gradients_of_composites(function, args, kwargs):
    case = Composite(function, args, kwargs)
    active = [k for k, param in enumerate(case.fn.params) if param in case.active]
    rng = np.random.default_rng(1)
    for place, value in enumerate(case.outputs()):
        seed = rng.normal(size=np.shape(value)).astype(np.asarray(value).dtype)
        out = case.parts[place].value
        given = Value(out.type, "seed", kept=True)
        body = Block((*case.fn.params, given), list(case.fn.body.ops), case.fn.body.yields)
        fn, adjoints = reverse(replace(case.fn, body=body), case.active, seed=given, output=place)
        tree = tuple(Slot(k) for k in range(len(adjoints)))
        fn = cleaned(replace(fn, body=Block(fn.params, fn.body.ops, tuple(adjoints)), tree=tree))
        gradients = interpret(fn, [*case.values, seed])
        for gradient, k in zip(gradients, active, strict=True):
            assert np.shape(gradient) == np.shape(case.values[k])
            direction = rng.normal(size=np.shape(case.values[k]))
            plus, minus = list(case.values), list(case.values)
            plus[k] = case.values[k] + 0.5 * direction
            minus[k] = case.values[k] - 0.5 * direction
            change = case.outputs(plus)[place] - case.outputs(minus)[place]
            assert abs(inner(change, seed) - inner(gradient, direction)) < 1e-5


def symbols(*types):
    """Symbols of parameters of these types."""
    builder = Builder(Block())
    made = []
    for k, kind in enumerate(types):
        value = Value(kind, "xyz"[k], kept=True)
        for axis, size in enumerate(kind.shape):
            if not isinstance(size, int):
                builder.lengths[size.name] = (value, axis)
        made.append(Symbol(value, builder))
    return made


N, M, K = (Dim.atom(name) for name in ("x.shape[0]", "x.shape[1]", "y.shape[0]"))
VECTOR, OTHER, MATRIX = Array("float64", (N,)), Array("float64", (K,)), Array("float64", (N, M))


@pytest.mark.parametrize(
    ("total", "known", "length"),
    [(N * M, N, M), (N * M, N * M, 1), (6, 2, 3), (N * 6, 3, N * 2), (N * 2 + M * 2, 2, N + M)],
)
def test_the_length_for_minus_one(total, known, length):
    assert quotient(total, known) == length


def test_a_length_that_does_not_divide_evenly_is_computed():
    found = quotient(N * M, 3)
    assert found.value({"x.shape[0]": 2, "x.shape[1]": 6}) == 4
    assert found == quotient(N * M, 3)


def test_lengths_of_parts_and_joins():
    x, y = symbols(VECTOR, OTHER)
    joined = np.concatenate([x, y, [1.0]])
    assert joined.type.shape == (N + K + 1,)
    assert joined[: x.shape[0]].type.shape == (N,)
    assert joined[x.shape[0] : x.shape[0] + y.shape[0]].type.shape == (K,)
    one, other = np.split(x, 2)
    assert one.type.shape[0].value({"x.shape[0]": 6}) == 3
    assert other.type.shape[0].value({"x.shape[0]": 6}) == 3


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda x, y: np.reshape(x, (2, 2), order="F"), "unsupported-keyword"),
        (lambda x, y: np.reshape(x, (-1, -1)), "shape-mismatch"),
        (lambda x, y: np.concatenate([x, y[0]]), "operand-type"),
        (lambda x, y: np.concatenate([x, x[None]]), "shape-mismatch"),
        (lambda x, y: np.concatenate([x, y], axis=1), "axis-out-of-range"),
        (lambda x, y: apply_function(np.concatenate, (x,), {}, x.builder), "operand-type"),
        (lambda x, y: np.concatenate([x, y], dtype=np.float32), "unsupported-keyword"),
        (lambda x, y: np.stack([x, x[None]]), "shape-mismatch"),
        (lambda x, y: np.append(x, [x, x]), "unsupported-argument"),
        (lambda x, y: np.repeat(x, [1, 2]), "unsupported-argument"),
        (lambda x, y: np.repeat(x, y), "unsupported-argument"),
        (lambda x, y: np.repeat(x, 1.5), "operand-type"),
        (lambda x, y: np.pad(x, 1, mode="linear_ramp"), "unsupported-argument"),
        (lambda x, y: np.pad(x, 1, mode="reflect", reflect_type="odd"), "unsupported-keyword"),
        (lambda x, y: np.roll(x, y), "operand-type"),
        (lambda x, y: np.triu(x), "operand-type"),
        (lambda x, y: np.diag(x[None, None]), "operand-type"),
        (lambda x, y: np.transpose(x, (0, 1)), "axis-out-of-range"),
        (lambda x, y: np.moveaxis(x[None], (0, 0), (0, 1)), "axis-out-of-range"),
        (lambda x, y: np.squeeze(x, 0), "shape-mismatch"),
        (lambda x, y: np.squeeze(x[x > 0.0]), "data-dependent-static"),
        (lambda x, y: np.sort(x, axis=None), "unsupported-argument"),
        (lambda x, y: np.split(x, 0), "shape-mismatch"),
        (lambda x, y: np.vsplit(x, 2), "axis-out-of-range"),
        (lambda x, y: np.fliplr(x), "axis-out-of-range"),
        (lambda x, y: np.zeros_like(x, dtype=complex), "unsupported-dtype"),
        (lambda x, y: apply_function(np.linspace, (x, 1.0), {}, x.builder), "operand-type"),
    ],
)  # fmt: skip
def test_refusals(call, code):
    x, y = symbols(VECTOR, OTHER)
    with pytest.raises(FlatgradError) as caught:
        call(x, y)
    assert caught.value.diagnostic.code == code


def test_lengths_are_ints():
    """A float there sends the compiler back, if it comes from an int argument."""
    (x,) = symbols(VECTOR)
    with pytest.raises(NeedInteger) as caught:
        apply_function(np.arange, (x[0],), {}, x.builder)
    assert caught.value.refusal.code == "operand-type"


def test_static_attributes_are_needed_while_compiling():
    x, n = symbols(MATRIX, Scalar("int64", weak=True))
    for call in (lambda: np.concatenate([x, x], axis=n), lambda: np.flip(x, axis=n)):
        with pytest.raises(NeedStatic):
            call()


def test_lengths_that_must_agree_are_required():
    x, y = symbols(VECTOR, OTHER)
    np.stack([x, y])
    (requirement,) = x.builder.requirements
    assert {requirement.left, requirement.right} == {N, K}
