"""How operations are written for plain NumPy.

    sigmoid(s3)      the text of `sigmoid` goes into the module, so that it runs alone
"""

from __future__ import annotations

import ast
import inspect
import operator
import textwrap
from collections.abc import Callable
from typing import Any

import numpy as np

from flatgrad import activations, activations_numba
from flatgrad.codegen.dialect import Dialect
from flatgrad.codegen.expressions import write
from flatgrad.ir.ops import Apply, Function, Value
from flatgrad.options import DEFAULT, Options
from flatgrad.primitives.core import ASTYPE, IDENTITY

NUMBERS = frozenset(
    {np.sum, np.mean, np.max, np.min, np.prod, np.var, np.std, np.linalg.norm, np.dot, np.vdot,
     np.inner, np.matmul, operator.matmul, np.trace, np.float32, np.float64, ASTYPE}
)  # fmt: skip
"""Functions whose results of rank 0 are numbers, not arrays of no axes."""


class NumpyDialect(Dialect):
    """Plain NumPy; flatgrad's own functions travel as text, scalars in their faster form."""

    backend = "numpy"

    def __init__(self, options: Options = DEFAULT) -> None:
        super().__init__(options)
        self.forms: dict[str, set[str]] = {}
        self.without_axes: set[Value] = set()

    def expression(
        self, op: Apply, operands: list[ast.expr], overrides: dict[str, ast.expr]
    ) -> ast.expr:
        """One operation as an expression."""
        if op.primitive.body is not None:
            self.without_axes.update(result for result in op.results if may_be_0d(result))
            return self.called(op, operands)
        if op.primitive.opaque:
            self.objects[op.primitive.text] = op.primitive.function
        if op.primitive.helper:
            scalar = all_scalars(op) and self.without_axes.isdisjoint(op.operands)
            self.require(op.primitive.function, scalar=scalar)
        if any(result.type.ndim == 0 for result in op.results) and self.may_be_array(op):
            self.without_axes.update(op.results)
        return write(op, operands, overrides)

    def enter(self, fn: Function) -> None:
        """The numbers that a function takes may be arrays of no axes."""
        self.without_axes.update(param for param in fn.params if may_be_0d(param))

    def may_be_array(self, op: Apply) -> bool:
        """Whether NumPy may hand out an array of no axes, which no helper for numbers takes."""
        function = op.primitive.function
        if op.result.type.weak or function in NUMBERS:
            return False
        if function is operator.getitem:
            index = op.arguments["index"]
            entries = index if isinstance(index, tuple) else (index,)
            return any(entry is Ellipsis for entry in entries)
        if op.primitive.elementwise and function is not np.where and not op.primitive.helper:
            return False
        passes_on = op.primitive.helper or function is IDENTITY
        return not passes_on or not self.without_axes.isdisjoint(op.operands)

    def require(self, function: Callable[..., Any], *, scalar: bool) -> None:
        """Put the text of a helper, and of what it calls, into the module."""
        name = function.__name__
        kinds = self.forms.setdefault(name, set())
        kinds.add("scalar" if scalar and name in activations.ELEMENTWISE else "array")
        for needed in activations.REQUIRES.get(name, ()):
            self.require(getattr(activations, needed), scalar=scalar)
        self.helpers.pop(name, None)
        self.helpers[name] = helper_text(function, kinds)


def may_be_0d(value: Value) -> bool:
    """Whether a number that another function handed over may be an array of no axes."""
    return value.type.ndim == 0 and not value.type.weak


def helper_text(function: Callable[..., Any], kinds: set[str]) -> str:
    """The text of a helper for numbers, for arrays, or, told apart by type, for both."""
    name = function.__name__
    if kinds == {"array"}:
        return ast.unparse(plain_function(function))
    number = plain_function(activations_numba.SCALAR[name])
    if kinds == {"scalar"}:
        return ast.unparse(number)
    both = plain_function(function)
    is_float = ast.parse(f"type({both.args.args[0].arg}) is float", mode="eval").body
    both.body.insert(0, ast.If(is_float, number.body, []))
    return ast.unparse(ast.fix_missing_locations(both))


def all_scalars(op: Apply) -> bool:
    """Whether a call takes floating-point numbers only, for which the faster text is right.

    That text computes in the type of the number, so it is wrong for an int.
    """
    kinds = [operand.type for operand in op.operands]
    return all(kind.ndim == 0 and kind.differentiable for kind in kinds)


def plain_function(function: Callable[..., Any]) -> ast.FunctionDef:
    """A function without docstring, annotations and decorators."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    node = tree.body[0]
    assert isinstance(node, ast.FunctionDef)
    node.returns, node.decorator_list = None, []
    for argument in (*node.args.args, *node.args.kwonlyargs):
        argument.annotation = None
    if ast.get_docstring(node):
        del node.body[0]
    return node
