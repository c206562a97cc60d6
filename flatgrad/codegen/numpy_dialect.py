"""How operations are written for plain NumPy.

    sigmoid(s3)      the text of `sigmoid` goes into the module, so that it runs alone
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable
from typing import Any

from flatgrad import activations, activations_numba
from flatgrad.codegen.emit import Dialect
from flatgrad.codegen.expressions import write
from flatgrad.ir.ops import Apply


class NumpyDialect(Dialect):
    """Plain NumPy; flatgrad's own functions travel as text, scalars in their faster form."""

    backend = "numpy"

    def expression(
        self, op: Apply, operands: list[ast.expr], overrides: dict[str, ast.expr]
    ) -> ast.expr:
        """One operation as an expression."""
        if op.primitive.opaque:
            self.objects[op.primitive.text] = op.primitive.function
        if op.primitive.helper:
            self.require(op.primitive.function, scalar=all_scalars(op))
        return write(op, operands, overrides)

    def require(self, function: Callable[..., Any], *, scalar: bool) -> None:
        """Put the text of a helper, and of what it calls, into the module."""
        name = function.__name__
        if name in self.helpers and (scalar or "np." in self.helpers[name]):
            return
        for needed in activations.REQUIRES.get(name, ()):
            self.require(getattr(activations, needed), scalar=scalar)
        if scalar and name in activations.ELEMENTWISE:
            function = activations_numba.SCALAR[name]
        self.helpers[name] = plain_source(function)


def all_scalars(op: Apply) -> bool:
    """Whether a call takes floating-point numbers only, for which the faster text is right.

    That text computes in the type of the number, so it is wrong for an int.
    """
    kinds = [operand.type for operand in op.operands]
    return all(kind.ndim == 0 and kind.differentiable for kind in kinds)


def plain_source(function: object) -> str:
    """The text of a function without docstring and annotations."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))  # type: ignore[arg-type]
    node = tree.body[0]
    assert isinstance(node, ast.FunctionDef)
    node.returns = None
    for argument in (*node.args.args, *node.args.kwonlyargs):
        argument.annotation = None
    if ast.get_docstring(node):
        del node.body[0]
    return ast.unparse(node)
