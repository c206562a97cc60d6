"""How operations are written for plain NumPy.

    sigmoid(s3)      the text of `sigmoid` goes into the module, so that it runs alone
"""

from __future__ import annotations

import ast
import inspect
import textwrap

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
        if op.primitive.helper:
            self.require(op.primitive.function.__name__, scalar=all_scalars(op))
        return write(op, operands, overrides)

    def require(self, name: str, *, scalar: bool) -> None:
        """Put the text of an activation, and of what it calls, into the module."""
        if name in self.helpers and (scalar or "np." in self.helpers[name]):
            return
        for needed in activations.REQUIRES.get(name, ()):
            self.require(needed, scalar=scalar)
        use_scalar = scalar and name in activations_numba.SCALAR
        function = activations_numba.SCALAR[name] if use_scalar else getattr(activations, name)
        self.helpers[name] = plain_source(function)


def all_scalars(op: Apply) -> bool:
    """Whether a call takes numbers only."""
    return all(operand.type.ndim == 0 for operand in op.operands)


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
