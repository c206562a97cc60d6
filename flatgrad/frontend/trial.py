"""The start of a trip, and the end of a loop: carried values in variables and buffers.

    before the loop   u -> Ref(x)          in a trip   u -> Ref(%u)          after   u -> Ref(%u_2)
"""

from __future__ import annotations

import ast
from dataclasses import replace
from typing import Any

from flatgrad.errors import FlatgradError
from flatgrad.frontend.join import (
    type_of,
)
from flatgrad.frontend.leaves import (
    Leaf,
    Place,
    Written,
    operand_in,
)
from flatgrad.frontend.refs import Buffer, Ref
from flatgrad.frontend.state import State
from flatgrad.frontend.trees import Record, mapped
from flatgrad.frontend.values import RETURNED, VALUE, Loop, Maybe, Poison, occurrences
from flatgrad.ir.ops import Block, Operand, Value
from flatgrad.ir.types import Array, Scalar
from flatgrad.primitives.symbolic import Symbol, is_number
from flatgrad.primitives.typerules import fresh_size

ARRAY_RETURNED = Poison(
    "unsupported-statement", "an array is returned inside a loop",
    "assign it to a variable, leave the loop with `break`, and return it after the loop",
)  # fmt: skip


class Trial:
    """What one loop carries, and the state before it.

    `runs`: it certainly has a trip; else that can be told from its `bounds`, if it has some.
    """

    def __init__(
        self, low: Any, node: Any, targets: set[str], loop: Loop, *,
        runs: bool = False, bounds: tuple[Any, Any, Any] | None = None,
    ) -> None:  # fmt: skip
        self.low = low
        self.node = node
        self.line = low.source.span(node).line
        self.targets = targets - _read_elsewhere(low.source.node, node, targets)
        self.runs = runs
        self.bounds = None if runs else bounds
        self.loop = loop
        self.before = State(low.roots())
        self.places: dict[tuple[int, Any], Place] = {}
        self.written: dict[int, Written] = {}
        self.lost: dict[int, str] = {}
        self.pairs: set[frozenset[Leaf]] = set()
        self.kept: set[int] = set()
        self.arrays: list[Leaf] = []
        self.writes: dict[int, int] = {}
        self.dropped: set[tuple[int, Any]] = set()
        self.start: dict[tuple[int, Any], Any] = {}
        self.started: dict[int, Symbol] = {}
        self.new_names: list[str] = []
        self.left: Any = None
        self.outer = low.builder.block
        self.first: dict[str, Any] = {}
        self.hopeless: set[str] = set()
        self.read_after = _read_outside(low.source.node, node) | {VALUE}
        self.links: set[tuple[int, int]] = set()
        self.block = Block()
        for name in sorted(_stored(node) - self.targets):
            if name in low.env and _has_number(low.env[name]):
                self._add(low.env, name)

    def install(self, block: Block) -> None:
        """Make variables and buffers what they are at the start of a trip."""
        self.before.restore()
        low = self.low
        for place in self.places.values():
            value = self._built(place.tree)
            if not place.first:
                place.container[place.key] = value
        for found in self.written.values():
            found.leaf.param = self._param(found.leaf)
            found.buffer.current = Symbol(found.leaf.param, low.builder)
            found.buffer.writes += 1
        self._relate()
        for key, reason in self.lost.items():
            buffer = self.before.buffers[key][0]
            buffer.lost = reason
            buffer.writes += 1
        self.start = {
            (id(container), key): container[key]
            for container, content in self.before.containers.values()
            for key in keys_of(content)
        }
        self.started = {key: b.current for key, (b, _) in self.before.buffers.items()}
        block.params = tuple([leaf.param for leaf in self.leaves()])  # type: ignore[misc]

    def _relate(self) -> None:
        """Note which of the carried arrays, and of those outside, may be the same memory."""
        for key, shared in self.links:
            self.before.buffers[key][0].shares.add(self.before.buffers[shared][0])
        for place in self.places.values():
            for leaf in place.leaves():
                if leaf.buffer is None:
                    continue
                for outer in leaf.outer:
                    leaf.buffer.shares.add(outer)
                    outer.shares.add(leaf.buffer)
                    leaf.buffer.fixed = leaf.buffer.fixed or outer.fixed
        for pair in self.pairs:
            one, other = pair
            if one.buffer is not None and other.buffer is not None:
                one.buffer.shares.add(other.buffer)
                other.buffer.shares.add(one.buffer)

    def leaves(self) -> list[Leaf]:
        """All that is carried, in order."""
        found = [leaf for place in self.places.values() for leaf in place.leaves()]
        return found + [written.leaf for written in self.written.values()]

    def _param(self, leaf: Leaf) -> Value:
        low = self.low
        made = Value(leaf.type, leaf.name)
        made.kept = leaf.name is not None and low.shared.depth == 0
        if isinstance(leaf.type, Scalar):
            if leaf.type.dtype == "int64":
                low.shared.loops[made] = self.loop
            if leaf.plain:
                low.shared.plain.add(made)
            if leaf.aliased:
                low.shared.aliased.add(made)
        return made

    def _built(self, tree: Any) -> Any:
        match tree:
            case Leaf():
                tree.param = self._param(tree)
                symbol = Symbol(tree.param, self.low.builder)
                if isinstance(tree.type, Scalar):
                    return symbol
                tree.buffer = Buffer(symbol)
                return Ref(tree.buffer)
            case tuple():
                return mapped(tree, self._built)
            case list() | dict() | Record():
                made = mapped(tree, self._built)
                self.low.doubt(made)
                return made
        return tree

    def _add(self, container: Any, key: Any) -> None:
        """Carry a variable; called with everything as before the loop."""
        value = self.before.content(container)[key]
        name = self.low.spelled(key.strip("<>")) if isinstance(key, str) else None
        self.places[id(container), key] = Place(container, key, self._template(value, name))

    def _template(self, value: Any, name: str | None) -> Any:
        match value:
            case Ref():
                try:
                    symbol = value.read()
                except FlatgradError as caught:
                    known = caught.diagnostic
                    return Poison(known.code, known.message, known.help)
                leaf = Leaf(name, symbol.type, symbol)
                leaf.base = value.buffer
                leaf.outer = {value.buffer, *value.buffer.shares}
                self._pair_on_entry(leaf)
                return leaf
            case tuple() | list() | dict() | Record():
                self.low.doubt(value)
                return mapped(value, lambda item: self._template(item, name))
        if isinstance(value, Symbol) or is_number(value):
            kind = type_of(value)
            size = fresh_size() if kind.dtype == "int64" else None
            leaf = Leaf(name, replace(kind, size=size), value)
            leaf.plain = self.low.surely_number(value)
            if not leaf.plain:
                leaf.aliased = occurrences(value, self.low.roots()) > 1
                leaf.aliased |= value.value in self.low.shared.aliased
            return leaf
        return value

    def _pair_on_entry(self, leaf: Leaf) -> None:
        """Two variables may hold the same memory before the loop."""
        for other in self.arrays:
            one, two = leaf.base, other.base
            if one is None or two is None:
                continue
            if one is two or one in two.shares or two in one.shares:
                self.pairs.add(frozenset((leaf, other)))
        self.arrays.append(leaf)

    def yields(self, block: Block) -> tuple[Operand, ...]:
        """What the last body hands on, in the types that were found."""
        with self.low.builder.inside(block):
            return tuple([operand_in(leaf.end, leaf.type) for leaf in self.leaves()])

    def inits(self) -> tuple[Operand, ...]:
        """What enters the loop; everything is as before it from here on."""
        self.writes = {key: b.writes for key, (b, _) in self.before.buffers.items()}
        self.before.restore()
        return tuple([operand_in(leaf.init, leaf.type) for leaf in self.leaves()])

    def results(self) -> tuple[Value, ...]:
        """What leaves the loop; lengths that changed are not those of the last trip."""
        made = []
        for leaf in self.leaves():
            kind = leaf.type
            if isinstance(kind, Array):
                shape = [fresh_size() if size in leaf.widened else size for size in kind.shape]
                kind = Array(kind.dtype, tuple(shape))
            elif kind.dtype == "int64":
                kind = replace(kind, size=fresh_size())
            value = Value(kind, leaf.name)
            value.kept = leaf.name is not None and self.low.shared.depth == 0
            if isinstance(kind, Scalar) and leaf.plain:
                self.low.shared.plain.add(value)
            if leaf.aliased:
                self.low.shared.aliased.add(value)
            made.append(value)
        return tuple(made)

    def conclude(self, results: tuple[Value, ...]) -> None:
        """Put the results into variables and buffers."""
        builder = self.low.builder
        leaves = self.leaves()
        found = dict(zip(leaves, results, strict=False))
        for leaf in leaves:
            leaf.buffer = None
        for place in self.places.values():
            value = self._concluded(place.tree, found)
            if place.first and self.bounds is not None:
                value = Maybe(value, self.bounds)
            place.container[place.key] = value
        for written in self.written.values():
            written.buffer.current = Symbol(found[written.leaf], builder)
        for key, (buffer, _) in self.before.buffers.items():
            if key in self.written or key in self.lost:
                buffer.writes = self.writes[key] + 1
        self._relate()
        for key, reason in self.lost.items():
            self.before.buffers[key][0].lost = reason
        for name in {*self.new_names, *self.targets}:
            if (id(self.low.env), name) in self.places:
                continue
            if name == VALUE:
                self.low.env[name] = ARRAY_RETURNED
                continue
            self.low.env[name] = Poison(
                "undefined-name",
                f"`{name}` is assigned in a loop, which may have had no trips",
                "give it a value before the loop under another name, and assign to that",
            )

    def _concluded(self, tree: Any, found: dict[Leaf, Value]) -> Any:
        match tree:
            case Leaf():
                symbol = Symbol(found[tree], self.low.builder)
                if isinstance(tree.type, Scalar):
                    return symbol
                tree.buffer = Buffer(symbol)
                return Ref(tree.buffer)
            case tuple():
                return mapped(tree, lambda item: self._concluded(item, found))
            case list() | dict() | Record():
                made = mapped(tree, lambda item: self._concluded(item, found))
                self.low.doubt(made)
                return made
        return tree


def _stored(node: Any) -> set[str]:
    """The names that a loop assigns."""
    parts = [*node.body, *([node.test] if isinstance(node, ast.While) else [])]
    inside = [item for part in parts for item in ast.walk(part)]
    names = {
        item.id for item in inside if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)
    }
    return names | ({RETURNED} if any(isinstance(item, ast.Return) for item in inside) else set())


def _read_outside(function: Any, loop: Any) -> set[str]:
    """The names that a function reads outside of one of its loops."""
    found: set[str] = set()
    pending = [function]
    while pending:
        part = pending.pop()
        if part is loop:
            continue
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load):
            found.add(part.id)
        pending.extend(ast.iter_child_nodes(part))
    return found


def _read_elsewhere(function: Any, loop: Any, targets: set[str]) -> set[str]:
    """Variables of a loop that are read outside of it, but in loops which set them anew."""
    found: set[str] = set()
    pending: list[tuple[Any, set[str]]] = [(function, targets)]
    while pending and targets:
        part, names = pending.pop()
        inside: list[Any] = []
        if isinstance(part, ast.For):
            bound = {item.id for item in ast.walk(part.target) if isinstance(item, ast.Name)}
            inside = part.body
            if part is not loop:
                pending += [(one, names - bound) for one in inside]
        if isinstance(part, ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
            names = names - {item.id for item in ast.walk(part) if isinstance(item, ast.Name)
                             and isinstance(item.ctx, ast.Store)}
        if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Load) and part.id in names:
            found.add(part.id)
        pending += [(one, names) for one in ast.iter_child_nodes(part) if one not in inside]
    return found


def _has_number(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(_has_number(item) for item in value)
    return isinstance(value, Symbol) or is_number(value)


def keys_of(content: Any) -> Any:
    """The keys of a dict, or the indices of a list."""
    return range(len(content)) if isinstance(content, list) else list(content)
