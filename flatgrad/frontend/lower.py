"""Statements and calls: a function's ast becomes an IR function for one signature.

    fn, captures = lower(read_source(f), {"x": Array("float64", (N,)), "n": Static(3)})

Calls of other Python functions are lowered in place. What is outside the subset is refused here, at
its line and column, before anything is built from it.
"""

from __future__ import annotations

import ast
import inspect
from operator import getitem as _getitem
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from flatgrad.errors import error
from flatgrad.frontend.builtin_calls import BUILTINS, is_pure
from flatgrad.frontend.expressions import BINARY, ExpressionLowerer, Shared, read, wrap
from flatgrad.frontend.refs import Ref, has_duplicates
from flatgrad.frontend.resolve import Captures
from flatgrad.frontend.source import FunctionNode, Source, read_source
from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Block, Const, Function, Operand, Slot, Value
from flatgrad.ir.types import Scalar, Type
from flatgrad.primitives.core import ASTYPE
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.primitives.registry import METHODS, lookup
from flatgrad.primitives.symbolic import Symbol, apply_function, is_number, is_symbolic
from flatgrad.primitives.typerules import restart_fresh_sizes

MAX_DEPTH = 64


@dataclass(frozen=True, slots=True)
class Static:
    """A parameter whose value is part of the signature."""

    value: Any


class _Returned(Exception):
    """Control reached a return statement."""


def lower(
    source: Source,
    signature: dict[str, Type | Static],
    hidden_type: Callable[[str, Any], Type],
) -> tuple[Function, Captures]:
    """The IR of a function for one signature, and what it took from outside.

    Raises
    ------
    FlatgradError
        At the first statement, expression, call or argument outside the supported subset.
    """
    restart_fresh_sizes()
    block = Block()
    builder = Builder(block)
    shared = Shared(builder, hidden_type=hidden_type)
    env: dict[str, Any] = {}
    for name, kind in signature.items():
        if isinstance(kind, Static):
            env[name] = kind.value
            continue
        value = Value(kind, name, kept=True)
        block.params += (value,)
        for axis, size in enumerate(kind.shape):
            if not isinstance(size, int) and size.is_atom:
                builder.lengths.setdefault(size.name, (value, axis))
        env[name] = wrap(Symbol(value, builder))
    lowerer = Lowerer(source, shared)
    lowerer.env = env
    result = lowerer.run()
    leaves: list[Operand] = []
    tree = _flatten(read(result), leaves, source, builder)
    block.yields = tuple(leaves)
    name = "f" if source.function.__name__ == "<lambda>" else source.function.__name__
    fn = Function(
        name, block, tree, builder.lengths, builder.requirements,
        tuple(capture.name for capture in shared.captures.hidden.values()),
        inspect.getdoc(source.function),
    )  # fmt: skip
    return fn, shared.captures


def _flatten(result: Any, leaves: list[Operand], source: Source, builder: Builder) -> Any:
    """The tree of a result with slots for its leaves."""
    match result:
        case Symbol():
            leaves.append(result.value)
            return Slot(len(leaves) - 1)
        case tuple() | list():
            return type(result)([_flatten(item, leaves, source, builder) for item in result])
        case dict():
            return {key: _flatten(item, leaves, source, builder) for key, item in result.items()}
    if is_number(result) and not isinstance(result, bool):
        leaves.append(Const(result))
        return Slot(len(leaves) - 1)
    return result


class Lowerer(ExpressionLowerer):
    """Runs the statements of one function symbolically."""

    result: Any = None

    def run(self) -> Any:
        """The value that the function returns."""
        node: FunctionNode = self.source.node
        if isinstance(node, ast.Lambda):
            with self.at(node.body, "value"):
                return self.name_result(self.value(node.body))
        try:
            self.body(node.body)
        except _Returned:
            return self.result
        return None

    def body(self, statements: list[ast.stmt]) -> None:
        """The statements of a block, in order."""
        for statement in statements:
            with self.at(statement):
                method = getattr(self, f"exec_{type(statement).__name__}", None)
                if method is None:
                    raise self.refuse(
                        statement, "unsupported-statement",
                        f"`{_keyword(statement)}` is not supported",
                    )  # fmt: skip
                method(statement)

    def exec_Pass(self, node: ast.Pass) -> None:
        pass

    def exec_Return(self, node: ast.Return) -> None:
        if node.value is not None:
            part = "value" if not isinstance(node.value, ast.Name) else None
            with self.at(node, part):
                self.result = self.name_result(self.value(node.value))
        raise _Returned

    def name_result(self, found: Any) -> Any:
        """An unnamed returned value is called `value`."""
        symbol = read(found)
        if isinstance(symbol, Symbol) and self.shared.depth == 0:
            self.name_value(symbol.value, "value")
        return found

    def exec_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return
        self.value(node.value)

    def exec_Assert(self, node: ast.Assert) -> None:
        found = self.value(node.test)
        if not self.truth(node.test, found, "an asserted condition"):
            message = read(self.value(node.msg)) if node.msg is not None else ""
            raise self.refuse(node, "static-evaluation", f"AssertionError: {message}")

    def exec_Assign(self, node: ast.Assign) -> None:
        with self.at(node, _part(node.targets[0])):
            found = self.value(node.value)
        for target in node.targets:
            self.assign(target, found)

    def exec_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            with self.at(node, _part(node.target)):
                found = self.value(node.value)
            self.assign(node.target, found)

    def assign(self, target: ast.expr, found: Any) -> None:
        """Bind names, unpack sequences, write elements."""
        match target:
            case ast.Name():
                self.bind(target.id, found)
            case ast.Tuple() | ast.List():
                self.unpack(target, found)
            case ast.Subscript():
                self.write(target, found)
            case _:
                raise self.refuse(
                    target, "unsupported-statement", "assignment to an attribute",
                    "assign to a local name",
                )  # fmt: skip

    def unpack(self, target: ast.Tuple | ast.List, found: Any) -> None:
        """`a, *rest = ...`."""
        items = self.items(target, found)
        stars = [k for k, item in enumerate(target.elts) if isinstance(item, ast.Starred)]
        if stars:
            k, rest = stars[0], len(target.elts) - stars[0] - 1
            middle = items[k : len(items) - rest]
            items = [*items[:k], middle, *items[len(items) - rest :]]
        if len(items) != len(target.elts):
            raise self.refuse(
                target, "static-evaluation",
                f"{len(target.elts)} names for {len(items)} values",
            )  # fmt: skip
        for item, part in zip(target.elts, items, strict=True):
            self.assign(item.value if isinstance(item, ast.Starred) else item, part)

    def items(self, node: ast.AST, found: Any) -> list[Any]:
        """The items over which Python would iterate."""
        if isinstance(found, Ref):
            length = read(found).type.shape[0]
            if isinstance(length, int):
                return [self.apply(node, _getitem, (found, k), {}) for k in range(length)]
        if isinstance(found, tuple | list | range | dict | str):
            return list(found)
        raise self.refuse(
            node, "unsupported-statement", "unpacking of a value whose length is not known"
        )

    def bind(self, name: str, found: Any) -> None:
        """Give a value its variable; the statement keeps the user's name."""
        symbol = read(found)
        if isinstance(symbol, Symbol):
            self.name_value(symbol.value, name)
        self.env[name] = found

    def name_value(self, value: Value, name: str) -> None:
        """Name a value that has no variable yet."""
        if value.kept or value in self.builder.block.params:
            return
        value.name = name
        value.kept = self.shared.depth == 0

    def exec_AugAssign(self, node: ast.AugAssign) -> None:
        function = BINARY.get(type(node.op))
        if function is None:
            raise self.refuse(node, "unsupported-statement", "this augmented assignment")
        with self.at(node, _part(node.target)):
            right = self.operand(node.value)
            if isinstance(node.target, ast.Name):
                left = self.value(ast.copy_location(ast.Name(node.target.id, ast.Load()), node))
                self.augment_name(node, node.target.id, left, function, right)
            elif isinstance(node.target, ast.Subscript):
                self.augment_item(node, node.target, function, right)
            else:
                raise self.refuse(node, "unsupported-statement", "assignment to an attribute")

    def augment_name(
        self, node: ast.AST, name: str, left: Any, function: Callable[..., Any], right: Any
    ) -> None:
        """In place on an array, so that aliases see it; a new binding for numbers."""
        if not isinstance(left, Ref):
            if isinstance(left, list):
                raise self.refuse(node, "unsupported-statement", "augmented assignment to a list")
            self.bind(name, self.apply(node, function, (left, right), {}))
            return
        old = left.read()
        new = read(self.apply(node, function, (old, right), {}))
        new = self.same_type(node, new, old)
        self.name_value(new.value, name)
        left.write(new)

    def same_type(self, node: ast.AST, new: Symbol, old: Symbol) -> Symbol:
        """What an in-place operation stores: the array keeps its shape and dtype."""
        if new.type.shape != old.type.shape:
            raise self.refuse(
                node, "shape-mismatch",
                f"an in-place operation cannot change the shape {_shape(old)} to {_shape(new)}",
            )  # fmt: skip
        return self.cast(node, new, old)

    def cast(self, node: ast.AST, new: Any, old: Symbol) -> Any:
        """A value in the dtype of the array that it is stored in."""
        kind = new.type if isinstance(new, Symbol) else None
        if kind is None or kind.dtype == old.type.dtype:
            return new
        if np.dtype(kind.dtype).kind == "f" and np.dtype(old.type.dtype).kind != "f":
            raise self.refuse(
                node, "operand-type", f"floats are stored into an array of {old.type.dtype}",
                "make the array a float array",
            )  # fmt: skip
        if isinstance(kind, Scalar) and kind.weak:
            return new
        return apply_function(ASTYPE, (new, np.dtype(old.type.dtype).type), {}, self.builder)

    def augment_item(
        self, node: ast.AugAssign, target: ast.Subscript, function: Callable[..., Any], right: Any
    ) -> None:
        """`a[i] += v`: read, combine, write back (NumPy's rule for duplicates)."""
        base, index = self.written_base(target)
        old = self.apply(target, _getitem, (base.read(), index), {})
        new = self.apply(node, function, (old, right), {})
        self.store(node, base, index, read(new))

    def write(self, target: ast.Subscript, found: Any) -> None:
        """`a[index] = v`."""
        base = self.value(target.value)
        if isinstance(base, list | dict):
            index = self.index(target.slice)
            base[index] = found
            return
        ref, index = self.written_base(target)
        self.store(target, ref, index, read(found))

    def written_base(self, target: ast.Subscript) -> tuple[Ref, Any]:
        """The array that an element is written to, and the index."""
        base = self.value(target.value)
        if not isinstance(base, Ref):
            raise self.refuse(
                target, "unsupported-write", f"`{self.source.segment(target.value)}` is no array"
            )
        return base, self.index(target.slice)

    def store(self, node: ast.AST, ref: Ref, index: Any, new: Any) -> None:
        """Make the next version of a buffer."""
        old = ref.read()
        with self.at(node, old.value.name):
            new = self.cast(node, new, old)
            symbol = apply_function(SET_ITEM, (old, new, index), {}, self.builder)
            self.name_value(symbol.value, old.value.name or "a")
            ref.write(symbol)

    def exec_If(self, node: ast.If) -> None:
        found = self.value(node.test)
        self.body(node.body if self.truth(node.test, found, "the condition of `if`") else node.orelse)

    def exec_For(self, node: ast.For) -> None:
        """A loop over a static sequence is unrolled."""
        sequence = self.value(node.iter)
        if not isinstance(sequence, tuple | list):
            raise self.refuse(
                node, "unsupported-statement", "a loop over `range` or an array is not supported",
                "loop over a tuple or list, or use array operations",
            )  # fmt: skip
        for item in sequence:
            self.assign(node.target, item)
            self.body(node.body)
        self.body(node.orelse)

    def exec_FunctionDef(self, node: ast.FunctionDef) -> None:
        raise self.refuse(
            node, "unsupported-statement", "a function defined inside the function",
            "define it outside",
        )  # fmt: skip

    def eval_Call(self, node: ast.Call) -> Any:
        """A method of an array, a function with rules, a builtin, or another Python function."""
        if isinstance(node.func, ast.Attribute):
            base = self.value(node.func.value)
            if isinstance(base, Ref | Symbol):
                return self.call_method(node, node.func.attr, base)
        callee = self.value(node.func)
        args = tuple(self.elements(node.args))
        kwargs = self.keywords(node)
        if isinstance(callee, Symbol | Ref) or not callable(callee):
            raise self.refuse(node, "unsupported-call", "a call of something that is no function")
        builtin = BUILTINS.get(callee) if _hashable(callee) else None
        if builtin is not None:
            return builtin(self, node, args, kwargs)
        names = self.argument_names(node, callee)
        if lookup(callee) is not None:
            return self.apply(node, callee, args, kwargs, names)
        if not is_symbolic(read((args, kwargs))) and is_pure(callee):
            return self.static(node, callee, *read(args), **read(kwargs))
        if isinstance(callee, types.FunctionType) or hasattr(callee, "py_func"):
            return self.inline(node, callee, args, kwargs)
        raise self.refuse(
            node, "unsupported-call", f"`{self.source.segment(node.func)}` has no rule",
            "write it with functions that have rules, or register one with flatgrad.defvjp",
        )  # fmt: skip

    def keywords(self, node: ast.Call) -> dict[str, Any]:
        """Keyword arguments, `**static` unpacked."""
        found: dict[str, Any] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                found.update(self.value(keyword.value))
            else:
                found[keyword.arg] = self.value(keyword.value)
        return found

    def argument_names(self, node: ast.Call, callee: Any) -> dict[str, str] | None:
        """The user's words for the operands of a call."""
        known = lookup(callee)
        names = getattr(known, "operand_names", None)
        if not names or any(isinstance(arg, ast.Starred) for arg in node.args):
            return None
        texts = [self.source.segment(arg) for arg in node.args]
        return {name: f"`{text}`" for name, text in zip(names, texts, strict=False)}

    def call_method(self, node: ast.Call, name: str, base: Any) -> Any:
        """`x.sum(axis=0)`."""
        args = tuple(self.elements(node.args))
        kwargs = self.keywords(node)
        if name == "fill" and isinstance(base, Ref):
            self.store(node, base, slice(None), read(args[0]))
            return None
        if name in ("reshape", "transpose") and len(args) > 1:
            args = (tuple(args),)
        target = METHODS.get(name)
        if target is None:
            raise self.refuse(
                node, "unsupported-attribute", f"the method `.{name}` of an array is not supported"
            )
        return self.apply(node, target, (base, *args), kwargs, spelling="method")

    def inline(
        self, node: ast.Call, callee: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Lower another Python function in place."""
        if self.shared.depth >= MAX_DEPTH:
            raise self.refuse(node, "unsupported-call", "recursion that does not end")
        source = read_source(callee)
        try:
            bound = inspect.signature(source.function).bind(*args, **kwargs)
        except TypeError as caught:
            raise self.refuse(node, "static-evaluation", f"TypeError: {caught}") from None
        bound.apply_defaults()
        inner = type(self)(source, self.shared)
        inner.env = dict(bound.arguments)
        self.shared.depth += 1
        try:
            return inner.run()
        finally:
            self.shared.depth -= 1

    def add_at(self, node: ast.AST, base: Any, index: Any, value: Any) -> None:
        """`np.add.at(a, index, v)`."""
        old = base.read()
        new = self.cast(node, value, old)
        symbol = apply_function(ADD_ITEM, (old, new, index), {}, self.builder)
        self.name_value(symbol.value, old.value.name or "a")
        base.write(symbol)






def _hashable(callee: Any) -> bool:
    try:
        hash(callee)
    except TypeError:
        return False
    return True


def _part(target: ast.expr) -> str | None:
    """The variable that a statement defines."""
    while isinstance(target, ast.Subscript):
        target = target.value
    if isinstance(target, ast.Tuple | ast.List) and target.elts:
        return _part(target.elts[0])
    return target.id if isinstance(target, ast.Name) else None


def _shape(symbol: Symbol) -> str:
    return f"({', '.join(str(size) for size in symbol.type.shape)})"


def _keyword(node: ast.stmt) -> str:
    words = {"AsyncFor": "async for", "AsyncWith": "async with", "ImportFrom": "import"}
    return words.get(type(node).__name__, type(node).__name__.lower())


__all__ = ["Lowerer", "Static", "error", "has_duplicates", "lower"]
