"""What a loop hands from trip to trip, found by lowering its body until nothing changes.

    y = y * x        a name with another number        carried as a number, of the joined type
    a[i] = v         the content of a buffer           carried per buffer: aliases keep working
    u, v = v, u      a name with another array         carried per name, as a buffer of its own

A buffer that stands for a name may be any of those which the name had before: a write to one makes
the others refuse (`Buffer.shares`), unless at the end of every trip they are certainly distinct.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from flatgrad.errors import FlatgradError
from flatgrad.frontend.join import (
    cast,
    join_types,
    same_number,
    same_static,
    same_steps,
    type_of,
)
from flatgrad.frontend.refs import Buffer, Ref
from flatgrad.frontend.state import State
from flatgrad.frontend.values import RETURNED, VALUE, Loop, Poison, like, occurrences
from flatgrad.ir.dims import Dim
from flatgrad.ir.ops import Block, Operand, Value
from flatgrad.ir.types import Array, Scalar, Type
from flatgrad.primitives.symbolic import Symbol, is_number, operand_of
from flatgrad.primitives.typerules import fresh_size

MOST_TRIALS = 60


@dataclass(eq=False, slots=True)
class Leaf:
    """One carried number or array; `init` is its value on entry, `end` that of the last trial."""

    name: str | None
    type: Type
    init: Any
    plain: bool = True
    aliased: bool = False
    entry: set[Buffer] = field(default_factory=set)
    outer: set[Buffer] = field(default_factory=set)
    widened: set[Dim] = field(default_factory=set)
    param: Value | None = None
    buffer: Buffer | None = None
    end: Any = None
    end_buffer: Buffer | None = None

    @property
    def unchanged(self) -> bool:
        """Whether each trip leaves it as it was, or as it was on entry."""
        if isinstance(self.end, Symbol) and self.end.value is self.param:
            return True
        static = not isinstance(self.end, Symbol) and not isinstance(self.init, Symbol)
        return static and same_number(self.end, self.init)


@dataclass(eq=False, slots=True)
class Place:
    """A variable, or an item of a list or dict, that changes; `tree` has leaves in its place.

    `first`: the variable does not exist before the first trip assigns it.
    """

    container: Any
    key: Any
    tree: Any
    first: bool = False

    def leaves(self) -> list[Leaf]:
        """The carried parts."""
        return list(_leaves_of(self.tree))


@dataclass(eq=False, slots=True)
class Written:
    """A buffer whose content changes."""

    buffer: Buffer
    leaf: Leaf


class _Mismatch(Exception):
    def __init__(self, poison: Poison) -> None:
        super().__init__()
        self.poison = poison


class Carrying:
    """The carried variables of one loop; `runs`: it certainly has a trip."""

    def __init__(
        self, low: Any, node: Any, targets: set[str], loop: Loop, *, runs: bool = False
    ) -> None:
        self.low = low
        self.node = node
        self.targets = targets
        self.runs = runs
        self.loop = loop
        self.before = State(low.roots())
        self.places: dict[tuple[int, Any], Place] = {}
        self.written: dict[int, Written] = {}
        self.lost: dict[int, str] = {}
        self.pairs: set[frozenset[Leaf]] = set()
        self.arrays: list[Leaf] = []
        self.writes: dict[int, int] = {}
        self.dropped: set[tuple[int, Any]] = set()
        self.start: dict[tuple[int, Any], Any] = {}
        self.started: dict[int, Symbol] = {}
        self.new_names: list[str] = []
        self.block = Block()
        for name in sorted(_stored(node)):
            if name in low.env and _has_number(low.env[name]):
                self._add(low.env, name)

    # trials

    def settle(self, trip: Callable[[Block], Any]) -> tuple[Block, Any]:
        """Lower the body until what it carries is stable; the last body, and what `trip` said."""
        builder = self.low.builder
        mark = len(builder.requirements)
        for _ in range(MOST_TRIALS):
            del builder.requirements[mark:]
            self.block = Block()
            with builder.inside(self.block):
                self.install(self.block)
                left = trip(self.block)
                wanted, stable = self._compare()
            if stable and not wanted and not self._drop():
                return self.block, left
            self.before.restore()
            for container, key in wanted:
                self._add(container, key)
        raise self.low.refuse(
            self.node, "loop-carried-type", "the variables of this loop change without end"
        )

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
            for key in _keys(content)
        }
        self.started = {key: b.current for key, (b, _) in self.before.buffers.items()}
        block.params = tuple([leaf.param for leaf in self.leaves()])  # type: ignore[misc]

    def _relate(self) -> None:
        """Note which of the carried arrays, and of those outside, may be the same memory."""
        for place in self.places.values():
            for leaf in place.leaves():
                if leaf.buffer is None:
                    continue
                for other in leaf.outer:
                    leaf.buffer.shares.add(other)
                    other.shares.add(leaf.buffer)
                    leaf.buffer.fixed = leaf.buffer.fixed or other.fixed
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
                return like(tree, [self._built(item) for item in tree])
            case list():
                return self.low.foreign([self._built(item) for item in tree])
            case dict():
                return self.low.foreign({key: self._built(item) for key, item in tree.items()})
        return tree

    # what a trial has shown

    def changes(self) -> bool:
        """Whether anything is not as at the start of the trip."""
        for container, content in self.before.containers.values():
            if len(container) != len(content):
                return True
            for key in _keys(content):
                if not self._same(self.start[id(container), key], container[key]):
                    return True
        return any(
            buffer.current.value is not self.started[key].value
            for key, (buffer, _) in self.before.buffers.items()
        )

    def _compare(self) -> tuple[list[tuple[Any, Any]], bool]:
        """The places that must be carried, too; whether what is carried was right."""
        wanted: list[tuple[Any, Any]] = []
        stable = True
        for container, content in self.before.containers.values():
            if type(container) is list and len(container) != len(content):
                raise self.low.refuse(
                    self.node, "loop-carried-type", "a list changes its length inside the loop",
                    "write to an array that is made before the loop",
                )  # fmt: skip
            for key in _keys(content):
                if container is self.low.env and key in self.targets:
                    continue
                place = self.places.get((id(container), key))
                if place is None:
                    if not self._same(self.start[id(container), key], container[key]):
                        wanted.append((container, key))
                elif not self._matches(place, container[key]):
                    stable = False
        stable = self._compare_new() and stable
        stable = self._compare_buffers() and stable
        return wanted, self._compare_pairs() and stable

    def _compare_new(self) -> bool:
        """Numbers that the body is the first to assign can be had after a loop that surely runs."""
        env, stable = self.low.env, True
        self.new_names = [name for name in env if name not in self.before.content(env)]
        for name in self.new_names:
            place = self.places.get((id(env), name))
            if place is not None:
                stable = self._matches(place, env[name]) and stable
            elif (self.runs or name == VALUE) and name not in self.targets:
                tree = _zeros(env[name], name)
                if not isinstance(tree, Poison):
                    self.places[id(env), name] = Place(env, name, tree, first=True)
                    stable = False
        return stable

    def _compare_buffers(self) -> bool:
        stable = True
        for key, (buffer, _) in self.before.buffers.items():
            if buffer.lost and key not in self.lost and not self.before.of(buffer)["lost"]:
                self.lost[key] = buffer.lost
                stable = False
            if key in self.written:
                self.written[key].leaf.end = buffer.current
            elif buffer.current.value is not self.started[key].value:
                init = self.before.of(buffer)["current"]
                name = init.value.name or buffer.current.value.name
                self.written[key] = Written(buffer, Leaf(name, init.type, init))
                stable = False
        return stable

    def _compare_pairs(self) -> bool:
        arrays = [leaf for leaf in self.leaves() if leaf.end_buffer is not None]
        found = {
            frozenset((one, other))
            for k, one in enumerate(arrays)
            for other in arrays[:k]
            if _may_be_same(one.end_buffer, other.end_buffer)
        }
        stable = found <= self.pairs
        self.pairs |= found
        return stable

    def _same(self, one: Any, other: Any) -> bool:
        """Whether a variable still holds what it held."""
        if isinstance(one, Ref) and isinstance(other, Ref):
            if one is other and id(one) in self.before.refs:
                buffer, steps = self.before.target(one)
                return other.buffer is buffer and other.steps is steps
            same = one.buffer is other.buffer and same_steps(one.steps, other.steps)
            return one is other or same
        if one is other:
            return True
        if isinstance(one, Symbol) or is_number(one):
            return (isinstance(other, Symbol) or is_number(other)) and same_number(one, other)
        if type(one) is type(other) is tuple and len(one) == len(other):
            return all(self._same(*pair) for pair in zip(one, other, strict=True))
        return same_static(one, other)

    def _matches(self, place: Place, end: Any) -> bool:
        try:
            return self._match(place.tree, end, place.key)
        except _Mismatch as found:
            place.tree = found.poison
            return False

    def _match(self, tree: Any, end: Any, name: Any) -> bool:
        if isinstance(tree, Leaf):
            return self._match_leaf(tree, end, name)
        if isinstance(tree, Poison):
            return True
        if isinstance(tree, tuple | list) and type(end) is type(tree) and len(tree) == len(end):
            found = [self._match(*pair, name) for pair in zip(tree, end, strict=True)]
            return all(found)
        if isinstance(tree, dict) and type(end) is dict and list(tree) == list(end):
            found = [self._match(tree[key], end[key], name) for key in tree]
            return all(found)
        if tree is not end and not same_static(tree, end):
            raise _Mismatch(self._mismatch(name, tree, end))
        return True

    def _match_leaf(self, leaf: Leaf, end: Any, name: Any) -> bool:
        if isinstance(leaf.type, Scalar):
            if not (isinstance(end, Symbol) or is_number(end)):
                raise _Mismatch(self._mismatch(name, leaf, end))
            kind = join_types(leaf.type, type_of(end))
            if kind is None:
                raise _Mismatch(self._mismatch(name, leaf, end))
            leaf.end = end
            return self._settle_number(leaf, kind, end)
        if not isinstance(end, Ref):
            raise _Mismatch(self._mismatch(name, leaf, end))
        try:
            symbol = end.read()
        except FlatgradError as caught:
            known = caught.diagnostic
            raise _Mismatch(Poison(known.code, known.message, known.help)) from None
        kind = _widened(leaf, symbol.type)
        if kind is None:
            raise _Mismatch(self._mismatch(name, leaf, end))
        leaf.end, leaf.end_buffer = symbol, end.buffer
        outer = {
            other for other in (end.buffer, *end.buffer.shares) if id(other) in self.before.buffers
        }
        stable = kind == leaf.type and outer <= leaf.outer
        leaf.type = kind
        leaf.outer |= outer
        return stable

    def _settle_number(self, leaf: Leaf, kind: Type, end: Any) -> bool:
        old = leaf.type
        assert isinstance(old, Scalar)
        assert isinstance(kind, Scalar)
        size = old.size if kind.dtype == "int64" else None
        leaf.type = replace(kind, size=size)
        plain = leaf.plain and self.low.surely_number(end)
        aliased = leaf.aliased
        if not plain and isinstance(end, Symbol):
            many = occurrences(end, self.low.roots()) > 1
            aliased = aliased or many or end.value in self.low.shared.aliased
        stable = (old.dtype, old.weak) == (kind.dtype, kind.weak)
        stable = stable and plain == leaf.plain and aliased == leaf.aliased
        leaf.plain, leaf.aliased = plain, aliased
        return stable

    def _mismatch(self, name: Any, tree: Any, end: Any) -> Poison:
        kind = tree.type if isinstance(tree, Leaf) else None
        last = end.latest.type if isinstance(end, Ref) else None
        if isinstance(end, Symbol) or is_number(end):
            last = type_of(end)
        if kind is not None and last is not None and kind.ndim != last.ndim:
            change = f"changes rank inside the loop: {_rank(kind)} on entry, {_rank(last)} after"
        elif kind is not None and last is not None and kind.dtype != last.dtype:
            change = f"changes dtype inside the loop: {kind.dtype} on entry, {last.dtype} after"
        elif kind is not None and last is not None:
            change = f"changes its axes of length 1 inside the loop: {kind} on entry, {last} after"
        else:
            first = _word(tree)
            change = f"changes inside the loop: {first} on entry, {_word(end)} after"
        line = self.low.source.span(self.node).line
        return Poison(
            "loop-carried-type", f"`{name}` {change}",
            f"use a new name for the new value, or give `{name}` its final kind before line {line}",
        )  # fmt: skip

    # adding and dropping

    def _add(self, container: Any, key: Any) -> None:
        """Carry a variable; called with everything as before the loop."""
        value = self.before.content(container)[key]
        name = key if isinstance(key, str) else None
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
                leaf.entry = {value.buffer, *value.buffer.shares}
                leaf.outer = set(leaf.entry)
                self._pair_on_entry(leaf)
                return leaf
            case tuple():
                return like(value, [self._template(item, name) for item in value])
            case list():
                return [self._template(item, name) for item in value]
            case dict():
                return {key: self._template(item, name) for key, item in value.items()}
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
            if leaf.entry & other.entry:
                self.pairs.add(frozenset((leaf, other)))
        self.arrays.append(leaf)

    def _drop(self) -> bool:
        """Stop carrying what no trip changes, so that it stays known while compiling."""
        found = [
            key
            for key, place in self.places.items()
            if key not in self.dropped
            and not place.first
            and not isinstance(place.tree, Poison)
            and all(leaf.unchanged for leaf in place.leaves())
        ]
        for key in found:
            del self.places[key]
            self.dropped.add(key)
        return bool(found)

    # the loop itself

    def yields(self, block: Block) -> tuple[Operand, ...]:
        """What the last body hands on, in the types that were found."""
        with self.low.builder.inside(block):
            return tuple([_operand(leaf.end, leaf.type) for leaf in self.leaves()])

    def inits(self) -> tuple[Operand, ...]:
        """What enters the loop; everything is as before it from here on."""
        self.writes = {key: b.writes for key, (b, _) in self.before.buffers.items()}
        self.before.restore()
        return tuple([_operand(leaf.init, leaf.type) for leaf in self.leaves()])

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
            place.container[place.key] = self._concluded(place.tree, found)
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
                return like(tree, [self._concluded(item, found) for item in tree])
            case list():
                return self.low.foreign([self._concluded(item, found) for item in tree])
            case dict():
                items = {key: self._concluded(item, found) for key, item in tree.items()}
                return self.low.foreign(items)
        return tree


def _zeros(value: Any, name: str) -> Any:
    """A template for what is never read before the first trip has assigned it."""
    if isinstance(value, tuple):
        items = [_zeros(item, name) for item in value]
        bad = [item for item in items if isinstance(item, Poison)]
        return bad[0] if bad else like(value, items)
    if isinstance(value, Symbol) or is_number(value):
        kind = type_of(value)
        size = fresh_size() if kind.dtype == "int64" else None
        zero = {"bool": False, "int64": 0}.get(kind.dtype, 0.0)
        return Leaf(name if name.isidentifier() else None, replace(kind, size=size), zero)
    if value is None or isinstance(value, str):
        return value
    return Poison("undefined-name", f"`{name}` is assigned in the loop first")


def _leaves_of(tree: Any) -> Iterator[Leaf]:
    match tree:
        case Leaf():
            yield tree
        case tuple() | list():
            for item in tree:
                yield from _leaves_of(item)
        case dict():
            for item in tree.values():
                yield from _leaves_of(item)


def _keys(content: Any) -> Any:
    return range(len(content)) if isinstance(content, list) else list(content)


def _stored(node: Any) -> set[str]:
    """The names that a loop assigns."""
    parts = [*node.body, *([node.test] if isinstance(node, ast.While) else [])]
    inside = [item for part in parts for item in ast.walk(part)]
    names = {
        item.id for item in inside if isinstance(item, ast.Name) and isinstance(item.ctx, ast.Store)
    }
    return names | ({RETURNED} if any(isinstance(item, ast.Return) for item in inside) else set())


def _has_number(value: Any) -> bool:
    if isinstance(value, tuple):
        return any(_has_number(item) for item in value)
    return isinstance(value, Symbol) or is_number(value)


def _may_be_same(one: Any, other: Any) -> bool:
    return one is other or other in one.shares


def _widened(leaf: Leaf, end: Type) -> Type | None:
    """The leaf's type, with a length of its own for each axis whose length changes."""
    kind = leaf.type
    if not isinstance(end, Array) or not isinstance(kind, Array):
        return None
    if (kind.dtype, kind.ndim) != (end.dtype, end.ndim):
        return None
    shape = []
    for one, other in zip(kind.shape, end.shape, strict=True):
        size = one
        if one not in leaf.widened and one != other:
            if 1 in (one, other):
                return None
            size = fresh_size()
            leaf.widened.add(size)
        elif one in leaf.widened and other == 1:
            return None
        shape.append(size)
    return Array(kind.dtype, tuple(shape))


def _operand(found: Any, kind: Type) -> Operand:
    if isinstance(found, Symbol) and found.ndim:
        return found.value
    return cast(found, kind) if isinstance(kind, Scalar) else operand_of(found)


def _rank(kind: Type) -> str:
    return f"{kind.ndim}-d" if kind.ndim else "a number"


def _word(found: Any) -> str:
    if isinstance(found, Leaf):
        return "an array" if found.type.ndim else "a number"
    if isinstance(found, Ref):
        return "an array"
    if isinstance(found, Symbol) or is_number(found):
        return "a number"
    return repr(found) if found is None else f"a {type(found).__name__}"
