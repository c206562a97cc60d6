"""One call as the Numba writers see it, and the casts that Numba's promotion makes necessary.

    site.arguments["x"]      the expression of an argument
    site.types["x"]          its type
    site.helper(h, x)        a call of a helper, whose text goes into the module
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from flatgrad.codegen import numba_helpers as numba_text
from flatgrad.codegen.expressions import call, dotted, literal, name
from flatgrad.errors import error
from flatgrad.ir.ops import Apply
from flatgrad.options import Options


class HelperSink(Protocol):
    """Where the text of helpers is collected."""

    in_nest: bool
    options: Options

    def need(self, helper: numba_text.Helper) -> None:
        """Put a helper into the module."""


@dataclass(slots=True)
class Site:
    """One call: its operation, its arguments as expressions and as types."""

    op: Apply
    arguments: dict[str, Any]
    types: dict[str, Any]
    dialect: HelperSink

    @property
    def dtype(self) -> str:
        """The dtype of the result."""
        return str(self.op.result.type.dtype)

    @property
    def operands(self) -> list[Any]:
        """The operand arguments, in order."""
        names = self.op.primitive.operand_names
        return [self.arguments[key] for key in names if key in self.arguments]

    @property
    def kinds(self) -> list[Any]:
        """The types of the operand arguments, in order."""
        return [self.types[key] for key in self.op.primitive.operand_names if key in self.types]

    def static(self, key: str, default: Any = None) -> Any:
        """A static argument."""
        return self.op.arguments.get(key, default)

    def helper(self, helper: numba_text.Helper, *args: Any) -> ast.expr:
        """A call of a helper, which goes into the module."""
        self.dialect.need(helper)
        return call(name(helper.name), [literal(arg) for arg in args], {})


Writer = Callable[[Site], ast.expr | None]
"""Writes a call; None leaves it to the plain text."""


def unsupported(op: Apply) -> Exception:
    """A call that Numba cannot run."""
    return error(
        "unsupported-backend",
        f"`{op.primitive.text}` in this form is not available on the Numba backend",
        op.origin.span,
        help='use backend="numpy", or write it with other functions',
    )


def fitted(op: Apply, operands: list[ast.expr]) -> list[ast.expr]:
    """Operands converted where Numba's promotion differs from NumPy's (NEP 50)."""
    result = op.result.type.dtype
    kinds = [operand.type for operand in op.operands]
    compared = [kind.dtype for kind in kinds if not kind.weak and kind.dtype.startswith("float")]
    working = result
    if not result.startswith("float") and compared and set(compared) == {"float32"}:
        working = "float32"
    if result == "uint64":
        working = result
    return [fit(node, kind, working) for node, kind in zip(operands, kinds, strict=True)]


NARROW = frozenset({"int8", "int16", "int32", "uint8", "uint16", "uint32", "uint64"})
"""Ints whose arithmetic Numba does with more bits, or, of uint64 and an int, with floats."""


def narrowed(op: Apply, node: ast.expr) -> ast.expr:
    """The result of arithmetic with ints of few bits, which wraps around in NumPy."""
    if not (op.primitive.elementwise and op.results) or op.result.type.dtype not in NARROW:
        return node
    kind = dotted(f"np.{op.result.type.dtype}")
    if not op.result.type.ndim:
        return call(kind, [node], {})
    if not any(operand.type.weak for operand in op.operands):
        return node
    return call(ast.Attribute(node, "astype", ast.Load()), [kind], {})


LOGICAL = {"add": ast.BitOr, "mul": ast.BitAnd}


def of_bools(site: Site) -> ast.expr | None:
    """Sums and products of NumPy's bools, which are bools; of single ones Numba makes ints."""
    key = site.op.primitive.name
    if site.dtype != "bool" or any(kind.dtype != "bool" for kind in site.kinds):
        return None
    nodes = [literal(item) for item in site.operands]
    if key in LOGICAL:
        return ast.BinOp(nodes[0], LOGICAL[key](), nodes[1])
    if key == "invert" and not site.kinds[0].ndim:
        return ast.UnaryOp(ast.Not(), nodes[0])
    return None


def fit(node: ast.expr, kind: Any, working: str) -> ast.expr:
    if working == "uint64" and kind.weak:
        return call(dotted("np.uint64"), [node], {})
    if working == "float32" and kind.dtype in ("float64", "int64") and kind.weak:
        return call(dotted("np.float32"), [node], {})
    if working == "float32" and kind.dtype == "bool" and kind.ndim:
        return call(ast.Attribute(node, "astype", ast.Load()), [dotted("np.float32")], {})
    if working == "float64" and kind.dtype == "float32":
        wide = dotted("np.float64")
        if kind.ndim:
            return call(ast.Attribute(node, "astype", ast.Load()), [wide], {})
        return call(wide, [node], {})
    return node
