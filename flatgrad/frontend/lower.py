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

from flatgrad.errors import error
from flatgrad.frontend.control import Returned
from flatgrad.frontend.expressions import BINARY
from flatgrad.frontend.hooks import effect_call, lower_with
from flatgrad.frontend.list_calls import refuse_lists
from flatgrad.frontend.names import Shared
from flatgrad.frontend.raising import Raised
from flatgrad.frontend.refs import Ref
from flatgrad.frontend.resolve import Captures
from flatgrad.frontend.source import FunctionNode, Source
from flatgrad.frontend.trees import held_in
from flatgrad.frontend.unpacking import of_unknown_length, unpacked
from flatgrad.frontend.values import (
    Poison,
    flattened,
    kind_of,
    needs_static,
    read,
    wrap,
)
from flatgrad.frontend.writes import WriteLowerer, defined_name
from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Block, Function, Operand, Value
from flatgrad.ir.types import Type
from flatgrad.primitives.symbolic import Symbol
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


class Lowerer(WriteLowerer):
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
        with self.at(node, defined_name(node.targets[0])):
            found = self.value(node.value)
        for target in node.targets:
            self.assign(target, found)

    def exec_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            with self.at(node, defined_name(node.target)):
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
        stars = [k for k, item in enumerate(target.elts) if isinstance(item, ast.Starred)]
        if not stars and of_unknown_length(found):
            items = unpacked(self, target, found, len(target.elts))
        else:
            items = self.items(target, found)
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

    def exec_AugAssign(self, node: ast.AugAssign) -> None:
        function = BINARY[type(node.op)]
        with self.at(node, defined_name(node.target)):
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
            self.name_value(symbol.value, defined_name(node) or node.attr)
        super().set_attribute(node, base, found)



__all__ = ["Lowerer", "Static", "lower"]
