"""Expressions: each becomes a Symbol, a Ref to an array, a static Python value, or a container.

    X @ W1 + b1        # two operations
    x.shape[0]         # an int, where the signature knows it, else a symbol
    bias is not None   # decided here
"""

from __future__ import annotations

import ast
import operator
import types
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flatgrad.errors import FlatgradError, error
from flatgrad.frontend.refs import Buffer, Ref, Step, is_view_index
from flatgrad.frontend.resolve import Captures, Scope, is_data
from flatgrad.frontend.source import Source
from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Origin, Value
from flatgrad.ir.types import Scalar, Type, constant_type, make
from flatgrad.primitives.registry import METHODS, PRIMITIVES, Primitive
from flatgrad.primitives.symbolic import NeedStatic, Symbol, apply_function, is_symbolic

BINARY: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
    ast.Pow: operator.pow, ast.MatMult: operator.matmul, ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_, ast.BitXor: operator.xor,
}  # fmt: skip
UNARY: dict[type[ast.unaryop], Callable[..., Any]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.invert,
}  # fmt: skip
COMPARE: dict[type[ast.cmpop], Callable[..., Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip


@dataclass(slots=True)
class Shared:
    """What the lowering of a function and of all that it calls inline has in common."""

    builder: Builder
    captures: Captures = field(default_factory=Captures)
    hidden: dict[str, Any] = field(default_factory=dict)
    hidden_type: Callable[[str, Any], Type] | None = None
    depth: int = 0


class ExpressionLowerer:
    """Evaluates the expressions of one function symbolically."""

    def __init__(self, source: Source, shared: Shared) -> None:
        self.source = source
        self.shared = shared
        self.builder = shared.builder
        self.scope = Scope(source.function)
        self.env: dict[str, Any] = {}

    @contextmanager
    def at(self, node: ast.AST, part: str | None = None):  # type: ignore[no-untyped-def]
        """Operations and errors inside belong to `node`."""
        span = self.source.span(node)
        try:
            with self.builder.at(Origin(span), part or self.builder.part):
                yield
        except FlatgradError as caught:
            if caught.diagnostic.span is not None:
                raise
            known = caught.diagnostic
            raise error(known.code, known.message, span, help=known.help) from None
        except NeedStatic as needed:
            self.needs_value(needed, span)

    def needs_value(self, needed: NeedStatic, span: Any) -> None:
        """Compile again with an int parameter static, or refuse."""
        kind = needed.symbol.type
        is_param = needed.symbol.value in self.builder.block.params
        if is_param and isinstance(kind, Scalar) and kind.dtype in ("int64", "bool"):
            raise needed
        raise error(
            "data-dependent-static",
            f"{needed.reason} must be known while compiling, but depends on run-time data",
            span,
            help="pass it as an int argument, a string or a constant",
        ) from None

    def refuse(self, node: ast.AST, code: str, message: str, help: str | None = None) -> Exception:
        """An error at `node`."""
        return error(code, message, self.source.span(node), help=help)

    def value(self, node: ast.expr) -> Any:
        """What an expression is: Ref, Symbol, static value or container of these."""
        with self.at(node):
            method = getattr(self, f"eval_{type(node).__name__}", None)
            if method is None:
                raise self.refuse(
                    node, "unsupported-expression", f"{_describe(node)} is not supported"
                )
            return method(node)

    def operand(self, node: ast.expr) -> Any:
        """An expression as an argument of an operation: arrays are read."""
        return read(self.value(node))

    def eval_Constant(self, node: ast.Constant) -> Any:
        if isinstance(node.value, complex):
            raise self.refuse(node, "unsupported-dtype", "complex numbers have no gradient here")
        return node.value

    def eval_Name(self, node: ast.Name) -> Any:
        if node.id in self.env:
            return self.env[node.id]
        if node.id in self.source.function.__code__.co_varnames:
            raise self.refuse(node, "undefined-name", f"`{node.id}` is read before it is assigned")
        return self.captured(node.id, node)

    def captured(self, name: str, node: ast.AST) -> Any:
        """A name from outside: data becomes a hidden argument, the rest is static."""
        capture = self.scope.lookup(name, self.source.span(node))
        if not is_data(capture.value):
            self.shared.captures.static.setdefault(f"{id(self.scope.function)}.{name}", capture)
            return capture.value
        key = f"{id(self.scope.function.__globals__)}.{name}"
        if name in self.scope.cells:
            key = f"{id(self.scope.cells[name])}.{name}"
        if key not in self.shared.hidden:
            assert self.shared.hidden_type is not None
            value = Value(self.shared.hidden_type(name, capture.value), name, kept=True)
            self.builder.block.params += (value,)
            for axis, size in enumerate(value.type.shape):
                if not isinstance(size, int):
                    self.builder.lengths[size.name] = (value, axis)
            self.shared.captures.hidden[key] = capture
            self.shared.hidden[key] = wrap(Symbol(value, self.builder))
        return self.shared.hidden[key]

    def eval_Tuple(self, node: ast.Tuple) -> Any:
        return tuple(self.elements(node.elts))

    def eval_List(self, node: ast.List) -> Any:
        return self.elements(node.elts)

    def elements(self, nodes: list[ast.expr]) -> list[Any]:
        """The items of a display, stars unpacked."""
        items: list[Any] = []
        for node in nodes:
            if isinstance(node, ast.Starred):
                items.extend(self.iterated(node.value))
            else:
                items.append(self.value(node))
        return items

    def iterated(self, node: ast.expr) -> list[Any]:
        """The items of a static sequence."""
        found = self.value(node)
        if isinstance(found, tuple | list | range | dict):
            return list(found)
        raise self.refuse(
            node, "unsupported-expression", f"`{self.source.segment(node)}` is no static sequence"
        )

    def eval_Dict(self, node: ast.Dict) -> Any:
        made = {}
        for key, item in zip(node.keys, node.values, strict=True):
            if key is None:
                made.update(self.value(item))
            else:
                made[self.value(key)] = self.value(item)
        return made

    def eval_JoinedStr(self, node: ast.JoinedStr) -> Any:
        return self.source.segment(node)

    def eval_BinOp(self, node: ast.BinOp) -> Any:
        function = BINARY.get(type(node.op))
        left, right = self.value(node.left), self.value(node.right)
        if function is None or (not is_numeric(left) and not is_numeric(right)):
            return self.static(node, BINARY.get(type(node.op), operator.lshift), left, right)
        names = {"a": self.source.segment(node.left), "b": self.source.segment(node.right)}
        return self.apply(node, function, (left, right), {}, _ticked(names))

    def eval_UnaryOp(self, node: ast.UnaryOp) -> Any:
        inner = self.value(node.operand)
        if isinstance(node.op, ast.Not):
            if is_symbolic(read(inner)):
                raise NeedStatic(read(inner), "the operand of `not`")
            return not inner
        function = UNARY[type(node.op)]
        if isinstance(inner, bool | int | float) and not isinstance(inner, np.generic):
            return self.static(node, function, inner)
        return self.apply(node, function, (inner,), {})

    def eval_Compare(self, node: ast.Compare) -> Any:
        if len(node.ops) > 1:
            return self.chained(node)
        return self.compare(node, node.ops[0], self.value(node.left), self.value(node.comparators[0]))

    def chained(self, node: ast.Compare) -> Any:
        """`a < b < c` of static values."""
        items = [self.value(item) for item in (node.left, *node.comparators)]
        for op, left, right in zip(node.ops, items, items[1:], strict=False):
            outcome = self.compare(node, op, left, right)
            if is_symbolic(outcome):
                raise NeedStatic(outcome, "a chained comparison")
            if not outcome:
                return False
        return True

    def compare(self, node: ast.Compare, op: ast.cmpop, left: Any, right: Any) -> Any:
        if isinstance(op, ast.Is | ast.IsNot):
            same = left is right and not isinstance(left, Symbol | Ref)
            return same if isinstance(op, ast.Is) else not same
        if isinstance(op, ast.In | ast.NotIn):
            if is_symbolic(read(left)) or is_symbolic(read(right)):
                raise NeedStatic(read(left), "the operand of `in`")
            return (left in right) == isinstance(op, ast.In)
        function = COMPARE[type(op)]
        if is_numeric(left) or is_numeric(right):
            return self.apply(node, function, (left, right), {})
        return self.static(node, function, left, right)

    def eval_BoolOp(self, node: ast.BoolOp) -> Any:
        result: Any = None
        for item in node.values:
            result = self.value(item)
            truth = self.truth(item, result, "an operand of `and` or `or`")
            if truth == isinstance(node.op, ast.Or):
                break
        return result

    def eval_IfExp(self, node: ast.IfExp) -> Any:
        condition = self.value(node.test)
        chosen = self.truth(node.test, condition, "the condition of `if`")
        return self.value(node.body if chosen else node.orelse)

    def truth(self, node: ast.expr, found: Any, what: str) -> bool:
        """The truth of a static value."""
        symbol = read(found)
        if isinstance(symbol, Symbol):
            raise NeedStatic(symbol, what)
        return bool(found)

    def eval_NamedExpr(self, node: ast.NamedExpr) -> Any:
        found = self.value(node.value)
        self.bind(node.target.id, found)
        return self.env[node.target.id]

    def bind(self, name: str, found: Any) -> None:
        """Give a value its variable."""
        self.env[name] = found

    def eval_Attribute(self, node: ast.Attribute) -> Any:
        base = self.value(node.value)
        if isinstance(base, Ref | Symbol):
            return self.array_attribute(node, base)
        if isinstance(base, types.ModuleType) or is_namespace(base):
            try:
                return getattr(base, node.attr)
            except AttributeError:
                raise self.refuse(
                    node, "undefined-name", f"`{self.source.segment(node)}` does not exist"
                ) from None
        if isinstance(base, np.dtype | type | np.ufunc) or base is None:
            return self.static(node, getattr, base, node.attr)
        raise self.refuse(
            node, "unsupported-attribute", f"`.{node.attr}` of a {type(base).__name__}"
        )

    def array_attribute(self, node: ast.Attribute, base: Any) -> Any:
        """`x.shape`, `x.T`, `x.ndim`, `x.size`, `x.dtype`."""
        match node.attr:
            case "shape" | "ndim" | "size" | "dtype":
                return getattr(read(base), node.attr)
            case "T":
                return self.apply(node, np.transpose, (base,), {})
        if node.attr in METHODS:
            raise self.refuse(
                node, "unsupported-attribute", f"the method `.{node.attr}` as a value",
                "call it",
            )  # fmt: skip
        raise self.refuse(
            node, "unsupported-attribute", f"`.{node.attr}` of an array is not supported"
        )

    def eval_Subscript(self, node: ast.Subscript) -> Any:
        base = self.value(node.value)
        index = self.index(node.slice)
        if isinstance(base, Ref):
            return self.apply(node, operator.getitem, (base, index), {})
        if isinstance(base, np.ndarray):
            return self.apply(node, operator.getitem, (base, index), {})
        if is_symbolic(index):
            raise NeedStatic(index, "an index into a Python sequence")
        return self.static(node, operator.getitem, base, index)

    def index(self, node: ast.expr) -> Any:
        """An index expression with slices as `slice` objects."""
        if isinstance(node, ast.Slice):
            parts = (node.lower, node.upper, node.step)
            return slice(*[None if part is None else self.operand(part) for part in parts])
        if isinstance(node, ast.Tuple):
            return tuple(self.index(item) for item in node.elts)
        return self.operand(node)

    def static(self, node: ast.AST, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Evaluate now, on static values."""
        try:
            return function(*args, **kwargs)
        except FlatgradError:
            raise
        except Exception as caught:
            text = f"{type(caught).__name__}: {caught}"
            raise self.refuse(node, "static-evaluation", text) from caught

    def wrapped(self, result: Any) -> Any:
        """A result of a rule as the value of an expression."""
        return wrap(result)

    def apply(
        self,
        node: ast.AST,
        function: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        names: dict[str, str] | None = None,
        spelling: str | None = None,
    ) -> Any:
        """Call a function that has rules; views of arrays stay views."""
        plain = tuple(read(arg) for arg in args)
        keywords = {key: read(item) for key, item in kwargs.items()}
        known = PRIMITIVES.get(function)
        creates = known is not None and known.creates
        if not is_symbolic((plain, keywords)) and not creates:
            return self.static(node, function, *plain, **keywords)
        result = apply_function(
            function, plain, keywords, self.builder, names=names, spelling=spelling
        )
        if isinstance(known, Primitive) and known.alias and isinstance(result, Symbol):
            base = args[0]
            views = function is not operator.getitem or is_view_index(plain[1])
            if isinstance(base, Ref) and views and result.ndim:
                return base.view(Step(function, plain[1:], keywords, is_sure(function)), result)
        return wrap(result)


def is_sure(function: Callable[..., Any]) -> bool:
    """Whether a view function never copies."""
    return function not in (np.reshape, np.ravel)


def is_numeric(found: Any) -> bool:
    """Whether operators on this build operations."""
    return isinstance(found, Ref | Symbol | np.ndarray)


def is_namespace(base: Any) -> bool:
    """Classes used as namespaces of functions and constants."""
    return isinstance(base, type) and not issubclass(base, np.generic)


def read(found: Any) -> Any:
    """A value with the arrays in it read."""
    match found:
        case Ref():
            return found.read()
        case tuple() if type(found) is tuple:
            return tuple([read(item) for item in found])
        case list():
            return [read(item) for item in found]
        case dict():
            return {key: read(item) for key, item in found.items()}
    return found


def wrap(result: Any) -> Any:
    """A fresh array gets a buffer of its own."""
    if isinstance(result, Symbol) and result.ndim:
        return Ref(Buffer(result))
    if isinstance(result, list | tuple) and type(result) in (list, tuple):
        return type(result)(wrap(item) for item in result)
    return result


def _ticked(names: dict[str, str]) -> dict[str, str]:
    """Short expressions are quoted as the user wrote them."""
    return {key: f"`{text}`" for key, text in names.items() if len(text) <= 40 and "\n" not in text}


def _describe(node: ast.AST) -> str:
    words = {
        "Await": "`await`", "Yield": "`yield`", "YieldFrom": "`yield from`", "Lambda": "a lambda",
        "ListComp": "a list comprehension", "GeneratorExp": "a generator expression",
        "SetComp": "a set comprehension", "DictComp": "a dict comprehension", "Set": "a set",
    }  # fmt: skip
    return words.get(type(node).__name__, type(node).__name__)


__all__ = ["ExpressionLowerer", "Shared", "constant_type", "make", "read", "wrap"]
