"""Turns a sample call of a primitive into a function and checks its rules numerically."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from flatgrad.backends.python import load
from flatgrad.codegen.module import build_module
from flatgrad.codegen.numpy_dialect import NumpyDialect
from flatgrad.ir.builder import Builder
from flatgrad.ir.dims import Dim
from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import Block, Function, Slot, Value
from flatgrad.ir.types import Array, Scalar
from flatgrad.ir.verify import verify
from flatgrad.pipeline import CLEAN_UP
from flatgrad.primitives.registry import Call, Primitive
from flatgrad.primitives.samples import A, I, draw
from flatgrad.primitives.symbolic import Symbol, apply_primitive
from flatgrad.transform.forward import forward
from flatgrad.transform.reverse import reverse


class Case:
    """One sample call as an IR function of its arrays, with drawn arguments."""

    def __init__(self, primitive: Primitive, sample: Call, seed: int = 0) -> None:
        self.primitive = primitive
        self.rng = np.random.default_rng(seed)
        self.values: list[Any] = []
        self.active: list[Value] = []
        block = Block()
        self.builder = Builder(block)
        args = [self.lift(arg, block) for arg in sample.args]
        kwargs = {key: self.lift(arg, block) for key, arg in sample.kwargs.items()}
        self.builder.part = "y"
        result = apply_primitive(primitive, args, kwargs, self.builder)
        assert isinstance(result, Symbol), "samples must have an array or number described by A"
        result.value.name, result.value.kept = "y", True
        block.yields = (result.value,)
        self.fn = Function("case", block, Slot(0), self.builder.lengths)
        verify(self.fn)

    def lift(self, tree: Any, block: Block) -> Any:
        """Described arrays become parameters."""
        if isinstance(tree, A | I):
            return self.parameter(draw(tree, self.rng), block, varies=isinstance(tree, A))
        if isinstance(tree, tuple | list):
            return type(tree)([self.lift(item, block) for item in tree])
        if isinstance(tree, slice):
            return slice(*self.lift((tree.start, tree.stop, tree.step), block))
        return tree

    def parameter(self, value: Any, block: Block, *, varies: bool) -> Symbol:
        """A parameter of the type of `value`."""
        name = f"x{len(self.values)}"
        if isinstance(value, np.ndarray) and value.ndim == 0:
            value = value[()]
        if isinstance(value, np.ndarray):
            sizes = [
                1 if n == 1 else Dim.atom(f"{name}.shape[{k}]") for k, n in enumerate(value.shape)
            ]
            kind: Any = Array(value.dtype.name, tuple(sizes))
        else:
            kind = Scalar(np.asarray(value).dtype.name, weak=not isinstance(value, np.generic))
        param = Value(kind, name, kept=True)
        block.params += (param,)
        for k in range(kind.ndim):
            if not isinstance(kind.shape[k], int):
                self.builder.lengths[kind.shape[k].name] = (param, k)
        self.values.append(value)
        if varies:
            self.active.append(param)
        return Symbol(param, self.builder)

    def output(self, values: list[Any] | None = None) -> Any:
        """The primitive's value for these arguments (by the interpreter)."""
        return interpret(self.fn, values or self.values)[0]

    def pulled(self, cotangent: Any) -> tuple[Function, list[Any]]:
        """The reverse function and its gradients for a cotangent of the result."""
        out = self.fn.results[0]
        assert isinstance(out, Value)
        seed = Value(out.type, "seed", kept=True)
        params = (*self.fn.params, seed)
        fn = replace(self.fn, body=Block(params, self.fn.body.ops, self.fn.body.yields))
        fn, adjoints = reverse(fn, self.active, seed=seed)
        fn = replace(fn, body=Block(params, fn.body.ops, tuple(adjoints)))
        fn = replace(fn, tree=tuple(Slot(k) for k in range(len(adjoints))))
        fn = cleaned(fn)
        return fn, interpret(fn, [*self.values, cotangent])

    def pushed(self, dots: list[Any]) -> Any:
        """The tangent of the result for tangents of the arrays."""
        fn, tangents = forward(self.fn, self.active)
        fn = cleaned(replace(fn, body=Block(fn.params, fn.body.ops, tuple(tangents))))
        return interpret(fn, [*self.values, *dots])[0]


def cleaned(fn: Function) -> Function:
    """After all clean-up passes, verified."""
    verify(fn)
    for _, run in CLEAN_UP:
        fn = run(fn)
        verify(fn)
    return fn


def emitted(fn: Function, arguments: list[Any]) -> Any:
    """The result of the emitted NumPy code."""
    module = build_module(fn, "case_grad", NumpyDialect())
    return load("case_grad", module.text).case_grad(*arguments)


def inner(one: Any, other: Any) -> float:
    """The inner product in float64."""
    return float(np.sum(np.asarray(one, np.float64) * np.asarray(other, np.float64)))
