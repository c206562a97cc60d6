"""Statements and calls: a function's ast becomes an IR function for one signature.

    fn, captures = lower(read_source(f), {"x": Array("float64", (N,)), "n": Static(3)})

Calls of other Python functions are lowered in place. What is outside the subset is refused here, at
its line and column, before anything is built from it.
"""

from __future__ import annotations

import ast
import inspect
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from flatgrad.errors import error
from flatgrad.frontend.comprehensions import ComprehensionLowerer
from flatgrad.frontend.control import Returned
from flatgrad.frontend.expressions import BINARY
from flatgrad.frontend.hooks import effect_call, lower_with
from flatgrad.frontend.list_calls import item_of, refuse_lists
from flatgrad.frontend.listed import Rows
from flatgrad.frontend.names import Shared
from flatgrad.frontend.objects import SPECIAL, class_of, special_method
from flatgrad.frontend.raising import Raised
from flatgrad.frontend.refs import Ref
from flatgrad.frontend.resolve import Captures
from flatgrad.frontend.rows import append, replaced
from flatgrad.frontend.source import FunctionNode, Source
from flatgrad.frontend.trees import held_in
from flatgrad.frontend.values import (
    Poison,
    flattened,
    kind_of,
    needs_static,
    occurrences,
    read,
    wrap,
)
from flatgrad.ir.builder import Builder
from flatgrad.ir.dims import Dim, Size
from flatgrad.ir.ops import Block, Function, Operand, Value
from flatgrad.ir.types import Scalar, Type
from flatgrad.primitives.core import ASTYPE
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM, is_mask
from flatgrad.primitives.symbolic import Symbol, apply_function, is_number
from flatgrad.primitives.typerules import restart_fresh_sizes


@dataclass(frozen=True, slots=True)
class Static:
    """A parameter whose value is part of the signature."""

    value: Any


def lower(
    source: Source,
    signature: dict[str, Type | Static],
    hidden_type: Callable[[str, Any], Type],
    differentiate: Callable[..., Function] | None = None,
    trees: dict[str, Any] | None = None,
) -> tuple[Function, Captures]:
    """The IR of a function for one signature, and what it took from outside.

    `differentiate` makes the derivatives that are called in it. `trees` tells for each parameter
    how it is built of what `signature` names (see structures.py); without them it is one of these.

    Raises
    ------
    FlatgradError
        At the first statement, expression, call or argument outside the supported subset.
    """
    restart_fresh_sizes()
    block = Block()
    builder = Builder(block)
    shared = Shared(builder, block, hidden_type=hidden_type, names={*signature, *(trees or ())})
    shared.differentiate = differentiate
    leaves: dict[str, Any] = {}
    for name, kind in signature.items():
        if isinstance(kind, Static):
            leaves[name] = kind.value
            continue
        value = Value(kind, name, kept=True)
        block.params += (value,)
        for axis, size in enumerate(kind.shape):
            if not isinstance(size, int) and size.is_atom:
                builder.lengths.setdefault(size.name, (value, axis))
        leaves[name] = wrap(Symbol(value, builder))
    arrays = {name: found for name, found in leaves.items() if isinstance(found, Ref)}
    buffers = {name: ref.buffer for name, ref in arrays.items()}
    lowerer = Lowerer(source, shared)
    lowerer.env = leaves
    if trees is not None:
        lowerer.env = {name: lowerer.parameter(tree, leaves) for name, tree in trees.items()}
    lowerer.depends_on_code()
    try:
        result = lowerer.run()
        with lowerer.at(lowerer.statement):
            tree, block.yields = lowerer.returned(result)
    except Raised as caught:
        raise caught.refusal from None
    except RecursionError:
        raise error(
            "too-deep", f"`{source.function.__name__}` is nested too deeply",
            source.span(source.node), help="split long expressions into statements",
        ) from None  # fmt: skip
    shared.captures.written |= {name for name, buffer in buffers.items() if buffer.writes}
    name = "f" if source.function.__name__ == "<lambda>" else source.function.__name__
    fn = Function(
        name, block, tree, builder.lengths, builder.requirements,
        tuple(capture.name for capture in shared.captures.hidden.values()),
        inspect.getdoc(source.function),
    )  # fmt: skip
    return fn, shared.captures


class Lowerer(ComprehensionLowerer):
    """Runs the statements of one function symbolically."""

    def parameter(self, tree: Any, leaves: dict[str, Any]) -> Any:
        """The value of a parameter; lists, dicts and records in it belong to the caller."""

        def mark(found: Any) -> Any:
            return found if isinstance(found, tuple) else self.foreign(found)

        return tree.built(lambda leaf: leaves[leaf.name], mark)

    def returned(self, result: Any) -> tuple[Any, tuple[Operand, ...]]:
        """The tree of what the function returns, and its leaves."""
        refuse_lists(result)
        for held in held_in(result):
            raise self.refuse(
                self.statement, "unsupported-statement",
                f"`{self.source.function.__name__}` returns {kind_of(held)}",
                "return numbers and arrays, in tuples, lists, dicts or objects",
            )  # fmt: skip
        leaves: list[Operand] = []
        tree = flattened(read(result), leaves)
        return tree, tuple(leaves)

    def run(self) -> Any:
        """The value that the function returns."""
        node: FunctionNode = self.source.node
        if isinstance(node, ast.Lambda):
            with self.at(node.body, None if self.shared.depth else "value"):
                return self.name_result(self.value(node.body))
        try:
            self.body(node.body)
        except Returned:
            return self.result
        return None

    def exec_Pass(self, node: ast.Pass | ast.Nonlocal | ast.Global) -> None:
        pass

    exec_Nonlocal = exec_Global = exec_Pass

    def exec_Delete(self, node: ast.Delete) -> None:
        for target in node.targets:
            self.delete(target)

    def delete(self, target: ast.expr) -> None:
        """`del x`, `del items[0]`, `del state.x`."""
        match target:
            case ast.Tuple() | ast.List():
                for item in target.elts:
                    self.delete(item)
            case ast.Name():
                name = target.id
                self.value(ast.copy_location(ast.Name(name, ast.Load()), target))
                self.bind(name, Poison("undefined-name", f"`{name}` was deleted"))
            case ast.Subscript():
                base, index = self.value(target.value), self.index(target.slice)
                self.check_container(target, base)
                needs_static(index, "an index into a Python sequence")
                self.static(target, operator.delitem, base, index, structural=True)
            case ast.Attribute():
                self.delete_attribute(target, self.value(target.value))

    def name_result(self, found: Any) -> Any:
        """An unnamed returned value is called `value`."""
        first = found[0] if isinstance(found, tuple) and found else found
        symbol = first.latest if isinstance(first, Ref) else first
        if isinstance(symbol, Symbol) and self.shared.depth == 0:
            self.name_value(symbol.value, "value")
        return found

    def exec_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return
        if self.shared.hooked and isinstance(node.value, ast.Call) and (
            effect_call(self, node.value)
        ):
            return
        self.value(node.value)

    def exec_With(self, node: ast.With) -> None:
        lower_with(self, node)

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
            case ast.Attribute():
                self.set_attribute(target, self.value(target.value), found)
            case _:
                raise self.refuse(target, "unsupported-write", "this assignment")

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

    def bind(self, name: str, found: Any) -> None:
        """Give a value its variable; the statement keeps the user's name."""
        symbol = found.latest if isinstance(found, Ref) else found
        if isinstance(symbol, Symbol):
            self.name_value(symbol.value, self.spelled(name))
        owner = self.owner(name)
        if owner is None:
            raise error(
                "unsupported-statement", f"the global variable `{name}` is assigned",
                help="return the value instead",
            )  # fmt: skip
        owner.env[name] = found

    def name_value(self, value: Value, name: str) -> None:
        """Name a value that has no variable yet."""
        if value.kept or value in self.shared.root.params:
            return
        value.name = name
        value.kept = self.shared.depth == 0
        if not value.kept:
            value.part = name  # a variable of a function that is called, no temporary

    def exec_AugAssign(self, node: ast.AugAssign) -> None:
        function = BINARY[type(node.op)]
        with self.at(node, _part(node.target)):
            if isinstance(node.target, ast.Name):
                name = ast.copy_location(ast.Name(node.target.id, ast.Load()), node.target)
                left = self.value(name)
                found = self.augmented(node, left, function, self.value(node.value))
                if found is not left:
                    self.bind(node.target.id, found)
            elif isinstance(node.target, ast.Subscript):
                self.augment_item(node, node.target, function)
            else:
                base = self.value(node.target.value)
                self.changeable(node.target, base)
                left = self.attribute(node.target, base)
                found = self.augmented(node, left, function, self.value(node.value))
                self.set_attribute(node.target, base, found)

    def set_attribute(self, node: ast.Attribute, base: Any, found: Any) -> None:
        symbol = found.latest if isinstance(found, Ref) else found
        if isinstance(symbol, Symbol):
            self.name_value(symbol.value, _part(node) or node.attr)
        super().set_attribute(node, base, found)

    def augmented(
        self, node: ast.AugAssign, left: Any, function: Callable[..., Any], right: Any
    ) -> Any:
        """In place on an array, list or dict, so that aliases see it; a new value for numbers."""
        if isinstance(left, Ref):
            new = self.binary(node, function, left.read(), right)
            symbol = self.same_type(node, read(new), left.read())
            self.name_value(symbol.value, _part(node.target) or "a")
            left.write(symbol)
            return left
        if isinstance(left, Rows) and function is operator.add:
            if not isinstance(right, list | tuple):
                right = self.items(node.value, right)
            for item in right:
                append(self, left, item)
            return left
        if isinstance(left, list):
            if function is not operator.add:
                raise self.refuse(node, "unsupported-statement", "this operation on a list")
            self.owned(node, left)
            left.extend(self.items(node.value, right))
            return left
        if type(left) is dict:
            if function is not operator.or_ or type(right) is not dict:
                raise self.refuse(node, "unsupported-statement", "this operation on a dict")
            self.owned(node, left)
            left.update(right)
            return left
        in_place = special_method(left, f"i{SPECIAL[function]}")
        if in_place is not None:
            return self.call(node.value, in_place, (left, right), {})
        if type(left) is dict and type(right) is dict and function is operator.or_:
            self.owned(node, left)
            left.update(right)
            return left
        if isinstance(left, Symbol):
            self.check_one_name(node, left)
        return self.binary(node, function, left, right)

    def check_one_name(self, node: ast.AST, number: Symbol) -> None:
        """Refuse to augment what may be a 0-d array that goes by another name, too.

        A number is replaced by `+=`, a 0-d array is changed for all that hold it; which of the two
        a NumPy number is, its type does not tell.
        """
        if self.surely_number(number):
            return
        among = occurrences(number, self.roots())
        if number.value in self.shared.aliased or among > 1:
            raise self.refuse(
                node, "unsupported-write",
                "this may be an array of no axes that another name holds, too",
                "write `a = a + b` for a new value",
            )  # fmt: skip

    def same_type(self, node: ast.AST, new: Symbol, old: Symbol) -> Symbol:
        """What an in-place operation stores: the array keeps its shape and dtype.

        Lengths that may be equal are checked by the operation that broadcasts or stores them.
        """
        made = self.builder.made.get(new.value)
        product = made is not None and made.primitive.function is operator.matmul
        shapes = new.type.shape, old.type.shape
        if not _may_be_same(*shapes) or (product and shapes[0] != shapes[1]):
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
        self, node: ast.AugAssign, target: ast.Subscript, function: Callable[..., Any]
    ) -> None:
        """`a[i] += v`: read, combine, write back (NumPy's rule for duplicates)."""
        base, index = self.value(target.value), self.index(target.slice)
        if isinstance(base, Ref):
            old = self.apply(target, operator.getitem, (base, index), {})
            new = self.binary(node, function, old, self.value(node.value))
            if isinstance(old, Ref):
                new = self.same_type(node, read(new), old.latest)
            self.store(node, base, index, read(new))
            return
        if isinstance(base, Rows):
            old = item_of(self, target, base, index)
            new = self.augmented(node, old, function, self.value(node.value))
            replaced(self, base, index, new)
            return
        if class_of(base) is not None:
            old = self.subscript(target, base, index)
            new = self.augmented(node, old, function, self.value(node.value))
            self.set_item(target, base, index, new)
            return
        self.check_container(target, base)
        old = self.static(target, operator.getitem, base, index, structural=True)
        base[index] = self.augmented(node, old, function, self.value(node.value))

    def set_item(self, target: ast.Subscript, base: Any, index: Any, found: Any) -> None:
        """`__setitem__` of the class of an object."""
        method = special_method(base, "setitem")
        if method is None:
            raise self.refuse(target, "unsupported-write", f"an item of {kind_of(base)}")
        self.call(target, method, (base, index, found), {})

    def write(self, target: ast.Subscript, found: Any) -> None:
        """`a[index] = v`."""
        base, index = self.value(target.value), self.index(target.slice)
        if isinstance(base, Ref):
            mask = index.type if isinstance(index, Symbol) else index
            if isinstance(found, Ref) and found.buffer is base.buffer and is_mask(mask):
                raise self.refuse(
                    target, "unsupported-write",
                    "NumPy reads this array while it writes to the same memory by a mask",
                    "take a `.copy()` of the value",
                )  # fmt: skip
            self.store(target, base, index, read(found))
            return
        if isinstance(base, Rows):
            replaced(self, base, index, found)
            return
        if class_of(base) is not None:
            self.set_item(target, base, index, found)
            return
        self.check_container(target, base)
        self.static(target, operator.setitem, base, index, found, structural=True)

    def check_container(self, target: ast.Subscript, base: Any) -> None:
        """Elements are written to arrays, and to lists and dicts that the function made."""
        if type(base) not in (list, dict):
            text = self.source.segment(target.value)
            raise self.refuse(target, "unsupported-write", f"`{text}` is no array")
        self.owned(target, base)

    def store(self, node: ast.AST, ref: Ref, index: Any, new: Any) -> None:
        """Make the next version of a buffer."""
        old = ref.read()
        if isinstance(new, list | tuple):
            new = read(self.apply(node, np.array, (list(new),), {}))
        if not isinstance(new, Symbol) and not is_number(new):
            raise self.refuse(
                node, "operand-type", f"{kind_of(new)} is stored into an array"
            )
        with self.at(node, old.value.name):
            new = self.cast(node, new, old)
            symbol = apply_function(SET_ITEM, (old, new, index), {}, self.builder)
            self.name_value(symbol.value, old.value.name or "a")
            ref.write(symbol)

    def add_at(self, node: ast.AST, base: Any, index: Any, value: Any) -> None:
        """`np.add.at(a, index, v)`."""
        old = base.read()
        new = self.cast(node, value, old)
        symbol = apply_function(ADD_ITEM, (old, new, index), {}, self.builder)
        self.name_value(symbol.value, old.value.name or "a")
        base.write(symbol)


def _part(target: ast.expr) -> str | None:
    """The variable that a statement defines."""
    while isinstance(target, ast.Subscript):
        target = target.value
    if isinstance(target, ast.Attribute):
        base = _part(target.value)
        return target.attr if base in (None, "self") else f"{base}_{target.attr}"
    if isinstance(target, ast.Tuple | ast.List) and target.elts:
        return _part(target.elts[0])
    return target.id if isinstance(target, ast.Name) else None


def _may_be_same(one: tuple[Size, ...], other: tuple[Size, ...]) -> bool:
    """Whether two shapes are equal, as far as it is known while compiling."""
    return len(one) == len(other) and all(
        left == right
        or (1 not in (left, right) and (isinstance(left, Dim) or isinstance(right, Dim)))
        for left, right in zip(one, other, strict=True)
    )


def _shape(symbol: Symbol) -> str:
    return f"({', '.join(str(size) for size in symbol.type.shape)})"


__all__ = ["Lowerer", "Static", "lower"]
