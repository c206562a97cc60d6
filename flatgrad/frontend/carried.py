"""What a loop hands from trip to trip, found by lowering its body until nothing changes.

    y = y * x        a name with another number        carried as a number, of the joined type
    a[i] = v         the content of a buffer           carried per buffer: aliases keep working
    u, v = v, u      a name with another array         carried per name, as a buffer of its own

A buffer that stands for a name may be any of those which the name had before: a write to one makes
the others refuse (`Buffer.shares`), unless at the end of every trip they are certainly distinct.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flatgrad.errors import FlatgradError
from flatgrad.frontend.assumed import assume_lengths, lengths_follow
from flatgrad.frontend.join import (
    join_types,
    same_number,
    same_static,
    same_steps,
    type_of,
)
from flatgrad.frontend.leaves import (
    Leaf,
    Mismatch,
    Place,
    Written,
    leaves_of,
    mismatch,
    widened_type,
    zeros,
)
from flatgrad.frontend.refs import Ref
from flatgrad.frontend.rows import Grow
from flatgrad.frontend.trees import Record, children, same_form
from flatgrad.frontend.trial import Trial, keys_of
from flatgrad.frontend.values import VALUE, Poison, Unroll, occurrences
from flatgrad.ir.ops import Block, Requirement
from flatgrad.ir.types import Scalar, Type
from flatgrad.primitives.symbolic import Symbol, is_number

MOST_TRIALS = 60


class Carrying(Trial):
    """Finds out what a loop carries."""

    def settle(self, trip: Callable[[Block], Any]) -> tuple[Block, Any]:
        """Lower the body until what it carries is stable; the last body, and what `trip` said."""
        builder = self.low.builder
        mark = len(builder.requirements)
        for _ in range(MOST_TRIALS):
            del builder.requirements[mark:]
            self.block = Block()
            with builder.inside(self.block):
                self.install(self.block)
                left = self.left = self.one_trip(trip)
                wanted, stable = self._compare()
            entering = builder.requirements[mark:]
            stable = self._lengths_hold(entering) and stable
            if stable and not wanted and not self._drop():
                for leaf in self.leaves():
                    builder.requirements += leaf.entering if not leaf.refuted else ()
                return self.block, left
            self.before.restore()
            for container, key in wanted:
                self._add(container, key)
            with builder.inside(self.outer):
                self._add_new()
        raise self.low.refuse(
            self.node, "loop-carried-type", "the variables of this loop change without end"
        )

    def one_trip(self, trip: Callable[[Block], Any]) -> Any:
        """Lower one trip, known as a loop on the way to what is lowered in it."""
        growing = self.low.shared.growing
        for rows in growing.rows:
            if rows.node is self.node:
                rows.appended = 0
        growing.loops.append(self)
        try:
            return trip(self.block)
        finally:
            growing.loops.pop()

    def _lengths_hold(self, required: list[Requirement]) -> bool:
        """Take back lengths that were assumed and do not follow from what trips require."""
        hold = True
        for leaf in [leaf for leaf in self.leaves() if leaf.assumed and not leaf.refuted]:
            if leaf.param is None or leaf.param.type != leaf.type:
                leaf.entering = required
            elif not lengths_follow(leaf, [*self.low.builder.requirements, *leaf.entering]):
                leaf.refute()
                hold = False
        return hold

    def changes(self) -> bool:
        """Whether anything is not as at the start of the trip."""
        for container, content in self.before.containers.values():
            if len(container) != len(content) + self.added(container, content):
                return True
            for key in keys_of(content):
                if not self._same(self.start[id(container), key], container[key]):
                    return True
        return any(
            buffer.current.value is not self.started[key].value
            for key, (buffer, _) in self.before.buffers.items()
        )

    def added(self, container: Any, content: Any) -> int:
        """How many variables are in a trip, from its start, that were not before the loop."""
        return sum(
            place.container is container and not place.first and place.key not in content
            for place in self.places.values()
            if isinstance(container, dict)
        )

    def _compare(self) -> tuple[list[tuple[Any, Any]], bool]:
        """The places that must be carried, too; whether what is carried was right."""
        wanted: list[tuple[Any, Any]] = []
        stable = True
        for container, content in self.before.containers.values():
            if type(container) is list and len(container) != len(content):
                if len(container) < len(content) or container[: len(content)] != content:
                    if self.loop.unrollable:
                        raise Unroll(self.loop)
                    raise self.low.refuse(
                        self.node, "loop-carried-type", "a list becomes shorter inside the loop",
                        "keep the length of the list, or use an array and an index",
                    )  # fmt: skip
                more = container[len(content) :]
                raise Grow(container, more, len(more), always=self.left is False)
            if self._resized(container, content):
                if self.loop.unrollable:
                    raise Unroll(self.loop)
                raise self.low.refuse(
                    self.node, "loop-carried-type",
                    "a dict or object changes its length inside the loop",
                    "write to an array that is made before the loop",
                )  # fmt: skip
            for key in keys_of(content):
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

    def _resized(self, container: Any, content: Any) -> bool:
        """Whether a list, or a dict that holds no variables, has other entries than before."""
        if isinstance(container, list):
            return len(container) != len(content)
        roots = [id(root) for root in self.low.roots()]
        return container.keys() != content.keys() and id(container) not in roots

    def _compare_new(self) -> bool:
        """What the body is the first to assign can be had after the loop, if it has run."""
        env, stable = self.low.env, True
        self.new_names = [name for name in env if name not in self.before.content(env)]
        for name in self.new_names:
            place = self.places.get((id(env), name))
            if place is not None:
                stable = self._matches(place, env[name]) and stable
            elif name in self.read_after and name not in self.hopeless and (
                name == VALUE or self.runs or self.bounds is not None
            ):
                self.first[name] = env[name]
                stable = False
        return stable

    def _add_new(self) -> None:
        """Carry what the body is the first to assign; called with everything as before the loop."""
        env = self.low.env
        for name, value in self.first.items():
            tree = zeros(self.low, value, name)
            if isinstance(tree, Poison) or not any(True for _ in leaves_of(tree)):
                self.hopeless.add(name)
            else:
                self.places[id(env), name] = Place(env, name, tree, first=name != VALUE)
        self.first.clear()

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
        known = self.before.buffers
        links = {
            (key, id(other))
            for key, (buffer, _) in known.items()
            for other in buffer.shares
            if id(other) in known and other not in self.before.of(buffer)["shares"]
        }
        fresh = links - self.links
        self.links |= links
        arrays = [leaf for leaf in self.leaves() if leaf.end_buffer is not None]
        found = {
            frozenset((one, other))
            for k, one in enumerate(arrays)
            for other in arrays[:k]
            if _may_be_same(one.end_buffer, other.end_buffer)
        }
        stable = found <= self.pairs and not fresh
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
        except Mismatch as found:
            place.tree = found.poison
            return False

    def _match(self, tree: Any, end: Any, name: Any) -> bool:
        if isinstance(tree, Leaf):
            return self._match_leaf(tree, end, name)
        if isinstance(tree, Poison):
            return True
        if isinstance(tree, tuple | list | dict | Record) and same_form(tree, end):
            pairs = zip(children(tree) or (), children(end) or (), strict=True)
            found = [self._match(*pair, name) for pair in pairs]
            return all(found)
        if tree is not end and not same_static(tree, end):
            raise Mismatch(mismatch(name, tree, end, self.line))
        return True

    def _match_leaf(self, leaf: Leaf, end: Any, name: Any) -> bool:
        if isinstance(leaf.type, Scalar):
            if not (isinstance(end, Symbol) or is_number(end)):
                raise Mismatch(mismatch(name, leaf, end, self.line))
            kind = join_types(leaf.type, type_of(end))
            if kind is None:
                raise Mismatch(mismatch(name, leaf, end, self.line))
            leaf.end = end
            return self._settle_number(leaf, kind, end)
        if not isinstance(end, Ref):
            raise Mismatch(mismatch(name, leaf, end, self.line))
        try:
            symbol = end.read()
        except FlatgradError as caught:
            known = caught.diagnostic
            raise Mismatch(Poison(known.code, known.message, known.help)) from None
        if leaf.assumed and not leaf.refuted and symbol.type != leaf.type:
            leaf.refute()
            return False
        assumed = assume_lengths(leaf, symbol.type)
        kind = leaf.type if assumed else widened_type(leaf, symbol.type)
        if kind is None:
            raise Mismatch(mismatch(name, leaf, end, self.line))
        leaf.end, leaf.end_buffer = symbol, end.buffer
        outer = {
            other for other in (end.buffer, *end.buffer.shares) if id(other) in self.before.buffers
        }
        stable = not assumed and kind == leaf.type and outer <= leaf.outer
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
        idle = [k for k, w in self.written.items() if w.leaf.unchanged and k not in self.kept]
        for buffer in idle:
            del self.written[buffer]
            self.kept.add(buffer)
        return bool(found or idle)


def _may_be_same(one: Any, other: Any) -> bool:
    return one is other or other in one.shares
