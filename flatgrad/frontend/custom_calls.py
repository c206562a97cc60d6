"""Calls of a `custom_vjp`: its forward function in place, its backward function held for later.

    y = f(x)        %y_1, %kept = ...forward...       on %x_1 = detached(%x)
                    %y = custom_vjp(%y_1, [%x], [%kept])       # holds the lines of backward
"""

from __future__ import annotations

import ast
import inspect
from typing import Any

from flatgrad.frontend.refs import Buffer, Ref
from flatgrad.frontend.values import flattened, kind_of, read, wrap
from flatgrad.hooks import custom_vjp
from flatgrad.ir.ops import Block, Operand, Slot, Value, substitute
from flatgrad.primitives.hooked import custom_rule, template
from flatgrad.primitives.symbolic import Symbol, apply_primitive, symbol_of


def call_custom(
    low: Any, node: ast.Call, callee: custom_vjp, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """A call of a `custom_vjp`: its forward function in place, its backward function held."""
    forward, backward = callee.forward, callee.backward
    if forward is None or backward is None:
        raise low.refuse(
            node, "bad-rule", f"`{_title(callee)}` has no rule yet", "call its `defvjp` first"
        )
    if callee in low.shared.inside_rules:  # its forward function calls the function itself
        return low.inline(node, callee.function, args, kwargs)
    try:
        bound = inspect.signature(callee.function).bind(*args, **kwargs)
    except TypeError as caught:
        raise low.refuse(node, "static-evaluation", f"TypeError: {caught}") from None
    bound.apply_defaults()
    given = list(bound.args)
    static = [k % len(given) for k in callee.nondiff_argnums]
    operands: list[Operand] = []
    trees = [
        arg if k in static else flattened(read(arg), operands) for k, arg in enumerate(given)
    ]
    names = list(bound.arguments)
    lines = _CustomCall(low, node, callee)
    leaves = [symbol_of(operand, low.builder) for operand in operands]
    return lines.run(given, trees, leaves, static, names)


def _title(callee: custom_vjp) -> str:
    return getattr(callee, "__name__", "function")


class _CustomCall:
    """One call of a `custom_vjp`."""

    def __init__(self, low: Any, node: ast.Call, callee: custom_vjp) -> None:
        self.low = low
        self.node = node
        self.callee = callee
        self.name = _title(callee)

    def refuse(self, message: str, help: str | None = None) -> Exception:
        refusal: Exception = self.low.refuse(self.node, "bad-rule", message, help)
        return refusal

    def run(
        self, given: list[Any], trees: list[Any], leaves: list[Any], static: list[int],
        names: list[str],
    ) -> Any:  # fmt: skip
        """The value of the call."""
        low = self.low
        group = _Group()
        detached = [group.detached(low, leaf) for leaf in leaves]
        args = [
            arg if k in static else wrap(substitute(tree, detached.__getitem__))
            for k, (arg, tree) in enumerate(zip(given, trees, strict=True))
        ]
        buffers = _buffers(args)
        inside = low.shared.inside_rules
        low.shared.inside_rules = (*inside, self.callee)
        try:
            found = low.inline(self.node, self.callee.forward, tuple(args), {})
        finally:
            low.shared.inside_rules = inside
        if not isinstance(found, tuple) or len(found) != 2:
            raise self.refuse(
                f"the forward function of `{self.name}` returns {kind_of(found)}",
                "return a pair: the value, and what the backward function needs",
            )
        y, kept = read(found[0]), read(found[1])
        if not isinstance(y, Symbol):
            raise self.refuse(
                f"the forward function of `{self.name}` returns {kind_of(found[0])} as the value",
                "let the value be one number or array",
            )
        if isinstance(found[0], Ref) and found[0].buffer in buffers:
            what = f"the forward function of `{self.name}` returns its argument"
            raise self.refuse(what, "return a copy of it")
        lines, outside, chosen = self.backward(given, trees, static, y, kept, len(leaves))
        if any(buffer.writes for buffer in buffers):
            raise self.refuse(f"`{self.name}` writes to its argument", "let it make a copy first")
        titles = [name for k, (name, tree) in enumerate(zip(names, trees, strict=False))
                  if k not in static for _ in _slots(tree)]
        titles += ["an argument"] * (len(leaves) - len(titles))
        rule = group.rule(self.name, lines, chosen, titles)
        values = [Symbol(value, low.builder) for value in outside]
        with low.at(self.node):
            made = apply_primitive(rule, (y, list(leaves), values), {}, low.builder)
        return wrap(made)

    def backward(
        self, given: list[Any], trees: list[Any], static: list[int], y: Symbol, kept: Any,
        count: int,
    ) -> tuple[Any, list[Value], list[int | None]]:  # fmt: skip
        """The backward function as lines, what they read, and the yield for each leaf."""
        low = self.low
        grad_y = Value(y.type, f"grad_{y.value.name or 'y'}")
        block = Block()
        with low.builder.inside(block):
            args = (*[given[k] for k in static], wrap(kept), wrap(Symbol(grad_y, low.builder)))
            found = read(low.inline(self.node, self.callee.backward, args, {}))
        wanted = [tree for k, tree in enumerate(trees) if k not in static]
        if not isinstance(found, tuple | list) or len(found) != len(wanted):
            size = len(found) if isinstance(found, tuple | list) else 1
            raise self.refuse(
                f"the backward function of `{self.name}` returns {size} cotangents for "
                f"{len(wanted)} arguments", "return a tuple with one for each, None for none",
            )
        chosen: list[int | None] = [None] * count
        yields: list[Operand] = []
        for tree, cotangent in zip(wanted, found, strict=True):
            self.match(tree, cotangent, chosen, yields)
        block.yields = tuple(yields)
        lines, outside = template(block, [grad_y])
        return lines, outside, chosen

    def match(
        self, tree: Any, cotangent: Any, chosen: list[int | None], yields: list[Operand]
    ) -> None:
        """Pair the leaves of an argument with those of its cotangent."""
        if cotangent is None or not _slots(tree):
            return
        if isinstance(tree, Slot):
            leaves: list[Operand] = []
            if not isinstance(flattened(cotangent, leaves), Slot):
                raise self.refuse(f"a cotangent of `{self.name}` is {kind_of(cotangent)}")
            chosen[tree.index] = len(yields)
            yields += leaves
            return
        if type(cotangent) is not type(tree) or len(cotangent) != len(tree):
            raise self.refuse(f"a cotangent of `{self.name}` is not built like its argument")
        keys = list(tree) if isinstance(tree, dict) else range(len(tree))
        for key in keys:
            part = cotangent.get(key) if isinstance(tree, dict) else cotangent[key]
            self.match(tree[key], part, chosen, yields)


class _Group:
    """The two primitives of one call, made when the rule is known."""

    def __init__(self) -> None:
        self.pair: Any = custom_rule("", None, [], [])  # type: ignore[arg-type]

    def detached(self, low: Any, leaf: Any) -> Any:
        """A leaf through which no derivative flows."""
        if not isinstance(leaf, Symbol) or not leaf.type.differentiable:
            return leaf
        found = apply_primitive(self.pair[1], (leaf,), {}, low.builder)
        found.value.name = leaf.value.name
        return found

    def rule(self, name: str, lines: Any, chosen: list[int | None], titles: list[str]) -> Any:
        made, _ = custom_rule(name, lines, chosen, titles)
        made.hook = self.pair[1].hook
        return made


def _slots(tree: Any) -> list[int]:
    found: list[int] = []
    substitute(tree, found.append)
    return found


def _buffers(tree: Any) -> list[Buffer]:
    match tree:
        case Ref():
            return [tree.buffer]
        case tuple() | list():
            return [buffer for item in tree for buffer in _buffers(item)]
        case dict():
            return [buffer for item in tree.values() for buffer in _buffers(item)]
    return []


__all__ = ["call_custom"]
