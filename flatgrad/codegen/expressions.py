"""Writes one operation as an expression.

    matmul(x_T, grad_s)   ->  x.T @ grad_s
    sum(x, axis=0)        ->  grad_s.sum(axis=0), or np.sum(a * b, axis=0)
    dim(X, 0)             ->  X.shape[0]
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

import flatgrad.primitives.rules  # noqa: F401  (fills METHODS)
from flatgrad.errors import error
from flatgrad.hooks import stop_gradient
from flatgrad.ir.dims import natural
from flatgrad.ir.ops import Apply, Const, size_of, substitute
from flatgrad.primitives.core import ASTYPE, IDENTITY, PLUS, TRIPS
from flatgrad.primitives.effects import PRINT
from flatgrad.primitives.einsum import EINSUM, EINSUM_VIEW
from flatgrad.primitives.linalg import TENSORDOT
from flatgrad.primitives.logic import AND, NOT, OR
from flatgrad.primitives.registry import METHODS
from flatgrad.primitives.shape import FLATTEN
from flatgrad.primitives.solve import LOG_OF_DET, SIGN_OF_DET
from flatgrad.primitives.symbolic import DIM, SIZE

BINARY: dict[str, Callable[[], ast.operator]] = {
    "+": ast.Add, "-": ast.Sub, "*": ast.Mult, "/": ast.Div, "//": ast.FloorDiv, "%": ast.Mod,
    "**": ast.Pow, "@": ast.MatMult, "&": ast.BitAnd, "|": ast.BitOr, "^": ast.BitXor,
}  # fmt: skip
COMPARE: dict[str, Callable[[], ast.cmpop]] = {
    "<": ast.Lt, "<=": ast.LtE, ">": ast.Gt, ">=": ast.GtE, "==": ast.Eq, "!=": ast.NotEq,
}  # fmt: skip
UNARY: dict[str, Callable[[], ast.unaryop]] = {
    "unary -": ast.USub, "unary +": ast.UAdd, "~": ast.Invert,
}  # fmt: skip

_METHOD_NAMES = {function: name for name, function in METHODS.items()}


def name(identifier: str) -> ast.Name:
    """A name that is read."""
    return ast.Name(identifier, ast.Load())


def dotted(text: str) -> ast.expr:
    """`np.linalg.norm` as a tree."""
    head, *rest = text.split(".")
    node: ast.expr = name(head)
    for part in rest:
        node = ast.Attribute(node, part, ast.Load())
    return node


def call(function: ast.expr, args: list[ast.expr], kwargs: dict[str, ast.expr]) -> ast.expr:
    """A call."""
    return ast.Call(function, args, [ast.keyword(key, value) for key, value in kwargs.items()])


def literal(value: Any) -> ast.expr:
    """A static value as source.

    Raises
    ------
    UnsupportedError
        If it cannot be written down.
    """
    match value:
        case ast.expr():
            return value
        case bool() | str() | None:
            return ast.Constant(value)
        case np.generic():
            return call(dotted(f"np.{value.dtype.name}"), [literal(value.item())], {})
        case int() | float():
            return number(value)
        case tuple():
            return ast.Tuple([literal(item) for item in value], ast.Load())
        case list():
            return ast.List([literal(item) for item in value], ast.Load())
        case dict():
            keys: list[ast.expr | None] = [literal(key) for key in value]
            return ast.Dict(keys, [literal(item) for item in value.values()])
        case slice():
            parts = (value.start, value.stop, value.step)
            lower, upper, step = [None if part is None else literal(part) for part in parts]
            return ast.Slice(lower, upper, step)
        case np.dtype():
            return dotted(f"np.{value.name}")
        case type() if value in (float, int, bool):
            return name(value.__name__)
        case type() if issubclass(value, np.generic):
            return dotted(f"np.{np.dtype(value).name}")
        case np.ndarray():
            kind = {"dtype": dotted(f"np.{value.dtype.name}")} if value.dtype.kind == "f" else {}
            return call(dotted("np.array"), [literal(value.tolist())], kind)
    if value is Ellipsis:
        return ast.Constant(...)
    raise error("unsupported-argument", f"{value!r} cannot be written into generated code")


def number(value: float) -> ast.expr:
    """A Python number; inf and nan by name."""
    if isinstance(value, float) and not math.isfinite(value):
        plain = dotted("np.nan" if math.isnan(value) else "np.inf")
        return ast.UnaryOp(ast.USub(), plain) if value < 0 else plain
    if value < 0 or (value == 0 and math.copysign(1.0, value) < 0):
        return ast.UnaryOp(ast.USub(), ast.Constant(-value))
    return ast.Constant(value)


def write(
    op: Apply, operands: list[ast.expr], overrides: dict[str, ast.expr] | None = None
) -> ast.expr:
    """The expression for a call, given those for its operands and for some arguments."""
    primitive = op.primitive
    function, sign = primitive.function, primitive.operator
    if sign in BINARY:
        return ast.BinOp(operands[0], BINARY[sign](), operands[1])
    if sign in COMPARE:
        return ast.Compare(operands[0], [COMPARE[sign]()], [operands[1]])
    if sign in UNARY:
        return ast.UnaryOp(UNARY[sign](), operands[0])
    arguments = substitute(op.arguments, operands.__getitem__) | (overrides or {})
    special = SPECIAL.get(function)
    if special is not None:
        written = special(op, arguments)
        if written is not None:
            return written
    args, kwargs = primitive.call_form(arguments)
    nodes = [literal(arg) for arg in args]
    keywords = {key: literal(item) for key, item in kwargs.items()}
    method = _METHOD_NAMES.get(function)
    by_method = op.spelling == "method" or (op.origin.sweep != "forward" and kwargs)
    has_methods = bool(op.operands) and op.operands[0].type.ndim > 0  # numbers lack some of them
    if method and by_method and has_methods and nodes and isinstance(nodes[0], ast.Name):
        return call(ast.Attribute(nodes[0], method, ast.Load()), nodes[1:], keywords)
    return call(dotted(primitive.text), nodes, keywords)


def subscript(base: ast.expr, index: Any) -> ast.expr:
    """`base[index]`."""
    node = literal(index)
    if isinstance(node, ast.Tuple) and not node.elts:
        return ast.Subscript(base, node, ast.Load())
    return ast.Subscript(base, node, ast.Load())


def sliceless(index: Any) -> Any:
    """An index for use outside brackets: `x[1:, i]` is `x[(slice(1, None), i)]`."""
    match index:
        case slice():
            parts = [literal(part) for part in (index.start, index.stop, index.step)]
            if index.step is None:
                parts = parts[1:2] if index.start is None else parts[:2]
            return call(name("slice"), parts, {})
        case tuple():
            return tuple([sliceless(item) for item in index])
    return index


def _dim(op: Apply, arguments: dict[str, Any]) -> ast.expr:
    return subscript(ast.Attribute(arguments["x"], "shape", ast.Load()), arguments["axis"])


def _size(op: Apply, arguments: dict[str, Any]) -> ast.expr:
    return ast.Attribute(arguments["x"], "size", ast.Load())


def _transpose(op: Apply, arguments: dict[str, Any]) -> ast.expr | None:
    axes = arguments.get("axes")
    if axes is not None:  # the method takes them by position only
        if op.spelling == "method":
            return call(_method(arguments["x"], "transpose"), [literal(axis) for axis in axes], {})
        return call(dotted("np.transpose"), [arguments["x"], literal(axes)], {})
    return ast.Attribute(arguments["x"], "T", ast.Load())


def _method(node: ast.expr, name: str) -> ast.expr:
    """`x.name`."""
    return ast.Attribute(node, name, ast.Load())


def _reshape(op: Apply, arguments: dict[str, Any]) -> ast.expr | None:
    """`x.reshape(2, 3)`, or `x.reshape(y.shape)` where the lengths have a shorter text."""
    if op.spelling != "method" or op.operands[0].type.ndim == 0:
        return None
    shape = arguments["shape"]
    entries = [literal(item) for item in shape] if isinstance(shape, tuple) and shape else None
    return call(_method(arguments["a"], "reshape"), entries or [literal(shape)], {})


def _flatten(op: Apply, arguments: dict[str, Any]) -> ast.expr:
    return call(_method(arguments["a"], "flatten"), [], {})


def _arange(op: Apply, arguments: dict[str, Any]) -> ast.expr:
    """The bounds of a range are written without their names."""
    given = [arguments.get(key) for key in ("start_or_stop", "stop", "step")]
    while given[-1] is None:
        given.pop()
    extra = {"dtype": literal(arguments["dtype"])} if arguments.get("dtype") is not None else {}
    return call(dotted("np.arange"), [literal(item) for item in given], extra)


def _astype(op: Apply, arguments: dict[str, Any]) -> ast.expr:
    kind = literal(np.dtype(arguments["dtype"]).type)
    if op.operands[0].type.ndim == 0:
        return call(kind, [arguments["x"]], {})
    return call(ast.Attribute(arguments["x"], "astype", ast.Load()), [kind], {})


def _einsum(op: Apply, arguments: dict[str, Any]) -> ast.expr:
    """`np.einsum("ij,j->i", a, b)`; with a path, a result without axes is still an array."""
    operands = arguments.get("operands") or [arguments["x"]]
    keywords = {"optimize": literal(arguments["optimize"])} if "optimize" in arguments else {}
    args = [literal(item) for item in (arguments["subscripts"], *operands)]
    node = call(dotted("np.einsum"), args, keywords)
    return subscript(node, ()) if keywords and op.result.type.ndim == 0 else node


def _tensordot(op: Apply, arguments: dict[str, Any]) -> ast.expr:
    """`np.tensordot(a, b, axes=1)`; `[()]` makes numbers of its arrays without axes."""
    keywords = {"axes": literal(arguments["axes"])} if "axes" in arguments else {}
    operands = [literal(arguments["a"]), literal(arguments["b"])]
    node = call(dotted("np.tensordot"), operands, keywords)
    return subscript(node, ()) if op.result.type.ndim == 0 else node


def _slogdet(part: int) -> Callable[[Apply, dict[str, Any]], ast.expr]:
    """One of the pair that `np.linalg.slogdet` hands out."""
    return lambda op, arguments: subscript(
        call(dotted("np.linalg.slogdet"), [literal(arguments["a"])], {}), part
    )


def _print(op: Apply, arguments: dict[str, Any]) -> ast.expr:
    return call(name("print"), [literal(item) for item in arguments["values"]], {})


def _trips(op: Apply, arguments: dict[str, Any]) -> ast.expr:
    """How often a loop runs: `n` if that cannot be negative, `max(n, 0)`, or `len(range(...))`."""
    start, stop, step = op.operands
    plain = [isinstance(one, Const) and one.value == k for one, k in ((start, 0), (step, 1))]
    bounds = [literal(arguments[key]) for key in ("start", "stop", "step")]
    if not all(plain):
        given = bounds[:2] if plain[1] else bounds
        return call(name("len"), [call(name("range"), given, {})], {})
    size = size_of(stop)
    if size is not None and natural(size):
        return bounds[1]
    return call(name("max"), [bounds[1], ast.Constant(0)], {})


def _logical(join: Callable[[], ast.boolop]) -> Callable[[Apply, dict[str, Any]], ast.expr]:
    def written(op: Apply, arguments: dict[str, Any]) -> ast.expr:
        return ast.BoolOp(join(), [literal(arguments["a"]), literal(arguments["b"])])

    return written


SPECIAL: dict[Any, Callable[[Apply, dict[str, Any]], ast.expr | None]] = {
    TRIPS: _trips,
    AND: _logical(ast.And),
    OR: _logical(ast.Or),
    NOT: lambda op, arguments: ast.UnaryOp(ast.Not(), literal(arguments["a"])),
    DIM: _dim,
    SIZE: _size,
    IDENTITY: lambda op, arguments: arguments["x"],
    PLUS: lambda op, arguments: ast.BinOp(arguments["total"], ast.Add(), arguments["term"]),
    stop_gradient: lambda op, arguments: arguments["x"],
    ASTYPE: _astype,
    PRINT: _print,
    np.transpose: _transpose,
    np.reshape: _reshape,
    FLATTEN: _flatten,
    np.arange: _arange,
    operator.getitem: lambda op, arguments: subscript(arguments["x"], arguments["index"]),
    EINSUM: _einsum,
    EINSUM_VIEW: _einsum,
    TENSORDOT: _tensordot,
    SIGN_OF_DET: _slogdet(0),
    LOG_OF_DET: _slogdet(1),
}


def constant(operand: Const) -> ast.expr:
    """A constant operand."""
    return literal(operand.value)


def takes_out(value: ast.Call) -> bool:
    """Whether this is a call of a NumPy function that can write what it gives into an array."""
    match value.func:
        case ast.Attribute(ast.Name("np"), attribute):
            return attribute in ("outer", "sum") or isinstance(getattr(np, attribute), np.ufunc)
        case ast.Attribute(_, "sum"):
            return True
    return False


def whole_assigned(place: str, value: ast.expr) -> ast.stmt:
    """`place[...] = value`."""
    target = ast.Subscript(ast.Name(place, ast.Load()), ast.Constant(...), ast.Store())
    return ast.Assign([target], value, lineno=0)
