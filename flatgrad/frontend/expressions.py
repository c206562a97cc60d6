"""Expressions: each becomes a Symbol, a Ref to an array, a static Python value, or a container.

    X @ W1 + b1        # two operations
    x.shape[0]         # an int, where the signature knows it, else a symbol
    bias is not None   # decided here
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from flatgrad.errors import FlatgradError
from flatgrad.frontend.list_calls import item_of
from flatgrad.frontend.listed import Rows
from flatgrad.frontend.names import NameLowerer, Shared
from flatgrad.frontend.refs import Ref
from flatgrad.frontend.trees import objects_in
from flatgrad.frontend.values import (
    VIEWS,
    ControlFlow,
    is_numeric,
    kind_of,
    needs_static,
    place,
    read,
    refs_in,
    same_length,
    wrap,
)
from flatgrad.primitives.registry import METHODS, PRIMITIVES
from flatgrad.primitives.symbolic import Symbol, apply_function, is_number, is_symbolic

BINARY: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
    ast.Pow: operator.pow, ast.MatMult: operator.matmul, ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_, ast.BitXor: operator.xor, ast.LShift: operator.lshift,
    ast.RShift: operator.rshift,
}  # fmt: skip
UNARY: dict[type[ast.unaryop], Callable[..., Any]] = {
    ast.USub: operator.neg, ast.UAdd: operator.pos, ast.Invert: operator.invert,
}  # fmt: skip
COMPARE: dict[type[ast.cmpop], Callable[..., Any]] = {
    ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.Eq: operator.eq, ast.NotEq: operator.ne,
}  # fmt: skip


class ExpressionLowerer(NameLowerer):
    """Evaluates the expressions of one function symbolically."""

    def eval_Constant(self, node: ast.Constant) -> Any:
        if isinstance(node.value, complex):
            raise self.refuse(node, "unsupported-dtype", "complex numbers have no gradient here")
        return node.value

    def eval_Tuple(self, node: ast.Tuple) -> Any:
        return tuple(self.elements(node.elts))

    def eval_List(self, node: ast.List) -> Any:
        return self.elements(node.elts)

    def eval_Set(self, node: ast.Set) -> Any:
        return self.set_of(node, self.elements(node.elts))

    def set_of(self, node: ast.expr, items: list[Any]) -> Any:
        """A set of static values; it is asked for what it holds, not for its order."""
        self.no_objects(node, items)
        needs_static(read(items), "an item of a set")
        return self.static(node, set, items)

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
        return self.items(node, self.value(node))

    def items(self, node: ast.AST, found: Any) -> list[Any]:
        """The items over which Python would iterate."""
        if isinstance(found, Ref) and found.latest.ndim:
            length = found.read().type.shape[0]
            if isinstance(length, int):
                return [self.apply(node, operator.getitem, (found, k), {}) for k in range(length)]
            raise self.refuse(
                node, "data-dependent-static",
                "the items of an array whose length is known only when running",
                "index the elements that are meant",
            )  # fmt: skip
        if isinstance(found, Rows) and type(found.count) is int:
            return [item_of(self, node, found, k) for k in range(found.count)]
        if isinstance(found, tuple | list | range | str) or type(found) is dict:
            return list(found)
        raise self.refuse(node, "operand-type", f"the items of {kind_of(found)}")

    def eval_Dict(self, node: ast.Dict) -> Any:
        made = {}
        for key, item in zip(node.keys, node.values, strict=True):
            if key is None:
                made.update(self.mapping(item))
            else:
                found = self.key(key)
                made[found] = self.value(item)
        return made

    def mapping(self, node: ast.expr) -> dict[Any, Any]:
        """A static dict, for `**`."""
        found = self.value(node)
        if type(found) is not dict:
            raise self.refuse(node, "operand-type", f"`**` of {kind_of(found)}")
        return found

    def key(self, node: ast.expr) -> Any:
        """A static key of a dict."""
        found = self.value(node)
        needs_static(read(found), "a key of a dict")
        self.static(node, hash, found)
        return found

    def eval_JoinedStr(self, node: ast.JoinedStr) -> Any:
        return "".join(str(self.value(part)) for part in node.values)

    def eval_FormattedValue(self, node: ast.FormattedValue) -> Any:
        found = self.value(node.value)
        needs_static(read(found), "a value inside an f-string")
        form = "" if node.format_spec is None else self.value(node.format_spec)
        if node.conversion != -1:
            convert: Any = {"r": repr, "s": str, "a": ascii}[chr(node.conversion)]
            found = convert(found)
        return self.static(node, format, found, form)

    def eval_BinOp(self, node: ast.BinOp) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        names = {"a": self.source.segment(node.left), "b": self.source.segment(node.right)}
        return self.binary(node, BINARY[type(node.op)], left, right, _ticked(names))

    def binary(
        self,
        node: ast.AST,
        function: Callable[..., Any],
        left: Any,
        right: Any,
        names: dict[str, str] | None = None,
    ) -> Any:
        """An operator on arrays and numbers, or on static values and sequences."""
        if is_numeric(left) or is_numeric(right):
            for one in (left, right):
                if not is_numeric(one) and not is_number(one):
                    raise self.refuse(
                        node, "operand-type",
                        f"an operator on an array or number and {kind_of(one)}",
                        "make it an array first",
                    )  # fmt: skip
            return self.apply(node, function, (left, right), {}, names)
        if type(left) is type(right) is dict and function is operator.or_:
            return left | right
        plain = isinstance(left, tuple | list) or isinstance(right, tuple | list)
        if plain and function not in (operator.add, operator.mul):
            raise self.refuse(node, "operand-type", "this operator on a tuple or list")
        return self.static(node, function, left, right, structural=plain)

    def eval_UnaryOp(self, node: ast.UnaryOp) -> Any:
        if isinstance(node.op, ast.Not):
            return self.negation(node)
        inner = self.value(node.operand)
        function = UNARY[type(node.op)]
        found = self.unary(node, function.__name__, inner)
        if found is not NotImplemented:
            return found
        if is_numeric(inner):
            return self.apply(node, function, (inner,), {})
        return self.static(node, function, inner)

    def unary(self, node: ast.AST, name: str, inner: Any) -> Any:
        """`-a` by a method of the class of `a`; NotImplemented if there is none."""
        return NotImplemented

    def negation(self, node: ast.UnaryOp) -> Any:
        """`not a`."""
        raise NotImplementedError

    def compare(self, node: ast.Compare, op: ast.cmpop, left: Any, right: Any) -> Any:
        """One comparison."""
        if isinstance(op, ast.Is | ast.IsNot):
            return self.identity(node, left, right) == isinstance(op, ast.Is)
        if isinstance(op, ast.In | ast.NotIn):
            needs_static(read(left), "the operand of `in`")
            right = list(right) if type(right) is dict else right
            needs_static(read(right), "the operand of `in`")
            return self.static(node, operator.contains, right, left) == isinstance(op, ast.In)
        function = COMPARE[type(op)]
        if is_numeric(left) or is_numeric(right):
            known = same_length(left, right) if isinstance(op, ast.Eq | ast.NotEq) else None
            if known is not None:
                return known == isinstance(op, ast.Eq)
            return self.binary(node, function, left, right)
        if isinstance(op, ast.Eq | ast.NotEq) and type(left) is type(right) is tuple:
            known = same_length(left, right)
            if known is not None:
                return known == isinstance(op, ast.Eq)
        needs_static(read(left), "an operand of a comparison")
        needs_static(read(right), "an operand of a comparison")
        return self.static(node, function, left, right)

    def identity(self, node: ast.AST, left: Any, right: Any) -> bool:
        """`left is right`, where it does not depend on how numbers and arrays are stored."""
        if left is right and (isinstance(left, Ref) or not isinstance(left, Symbol)):
            return True
        for one, other in ((left, right), (right, left)):
            if isinstance(one, Symbol | Ref) and (
                isinstance(other, Symbol | Ref) or is_number(other)
            ):
                raise self.refuse(
                    node, "unsupported-expression", "`is` between numbers or arrays", "use `==`"
                )
        if self.is_outside(left) and self.is_outside(right):
            message = "`is` between the caller's containers"
            raise self.refuse(node, "unsupported-expression", message)
        return False

    def eval_NamedExpr(self, node: ast.NamedExpr) -> Any:
        found = self.value(node.value)
        home: Any = self
        while home.inside_expression:
            home = home.outer
        home.bind(node.target.id, found)
        return found

    def bind(self, name: str, found: Any) -> None:
        """Give a value its variable."""
        raise NotImplementedError

    def eval_Subscript(self, node: ast.Subscript) -> Any:
        return self.subscript(node, self.value(node.value), self.index(node.slice))

    def subscript(self, node: ast.Subscript, base: Any, index: Any) -> Any:
        """`base[index]`."""
        if isinstance(base, Ref | Symbol):
            found = self.apply(node, operator.getitem, (base, index), {})
            entries = index if isinstance(index, tuple) else (index,)
            if isinstance(found, Symbol) and any(entry is Ellipsis for entry in entries):
                raise self.refuse(
                    node, "unsupported-index", "a view of one element (`...` and all axes)",
                    "leave the `...` out",
                )  # fmt: skip
            return found
        if isinstance(base, Rows):
            return item_of(self, node, base, index)
        if not isinstance(base, tuple | str | range) and type(base) not in (list, dict):
            raise self.refuse(node, "operand-type", f"an index into {kind_of(base)}")
        if type(base) is list and isinstance(index, Symbol):
            self.grow_indexed(base)
        needs_static(index, "an index into a Python sequence")
        return self.static(node, operator.getitem, base, index, structural=True)

    def grow_indexed(self, container: list[Any]) -> None:
        """A list that a loop appends to, and indexes, becomes an array."""
        raise NotImplementedError

    def index(self, node: ast.expr) -> Any:
        """An index expression with slices as `slice` objects."""
        if isinstance(node, ast.Slice):
            parts = (node.lower, node.upper, node.step)
            return slice(*[None if part is None else self.operand(part) for part in parts])
        if isinstance(node, ast.Tuple):
            return tuple(self.index(item) for item in node.elts)
        return self.operand(node)

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

    def static(
        self,
        node: ast.AST,
        function: Callable[..., Any],
        *args: Any,
        structural: bool = False,
        **kwargs: Any,
    ) -> Any:
        """Evaluate now, on static values; `structural` functions look at no item of a container."""
        if not structural:
            self.no_objects(node, (args, kwargs))
            needs_static(read([*args, *kwargs.values()]), "this")
        try:
            found = function(*args, **kwargs)
        except FlatgradError:
            raise
        except Exception as caught:
            text = f"{type(caught).__name__}: {caught}"
            raise self.refuse(node, "static-evaluation", text) from caught
        return self.constants(node, found)

    def no_objects(self, node: ast.AST, tree: Any) -> None:
        """Refuse objects and functions of the program where NumPy or Python would look at them."""
        for found in objects_in(tree):
            raise self.refuse(
                node, "operand-type", f"{kind_of(found)} is passed to what cannot be followed",
                "pass numbers and arrays",
            )  # fmt: skip

    def constants(self, node: ast.AST, found: Any) -> Any:
        """A static result with arrays of the program in place of NumPy's."""
        if isinstance(found, np.ndarray):
            if found.dtype.kind not in "biuf" or type(found) is not np.ndarray:
                raise self.refuse(node, "unsupported-dtype", f"an array of {found.dtype}")
            symbol = apply_function(
                np.array, (found.tolist(),), {"dtype": found.dtype.type}, self.builder
            )
            return wrap(symbol)
        if type(found) in (list, tuple):
            items = [self.constants(node, item) for item in found]
            same = all(one is other for one, other in zip(items, found, strict=True))
            return found if same else type(found)(items)  # an item of a list is the list itself
        return found

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
        self.no_objects(node, (args, kwargs))
        plain = tuple(read(arg) for arg in args)
        keywords = {key: read(item) for key, item in kwargs.items()}
        known = PRIMITIVES.get(function)
        creates = known is not None and known.creates
        if not is_symbolic((plain, keywords)) and not creates:
            return self.static(node, function, *plain, **keywords)
        result = apply_function(
            function, plain, keywords, self.builder, names=names, spelling=spelling
        )
        sources = {ref.read().value: ref for ref in refs_in((args, kwargs))}
        return place(result, sources, known is not None or function in VIEWS)


def _ticked(names: dict[str, str]) -> dict[str, str]:
    """Short expressions are quoted as the user wrote them."""
    return {key: f"`{text}`" for key, text in names.items() if len(text) <= 40 and "\n" not in text}


__all__ = ["ControlFlow", "ExpressionLowerer", "Shared", "read", "wrap"]
