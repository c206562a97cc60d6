"""Finds lists that a loop appends to, and lowers the loop again with arrays in their place."""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

from flatgrad.frontend.listed import Rows
from flatgrad.frontend.rows import Grow, as_item, exchange, grown
from flatgrad.frontend.state import State
from flatgrad.frontend.trips import TripLowerer, Trips
from flatgrad.frontend.values import is_numeric
from flatgrad.primitives.core import TRIPS
from flatgrad.primitives.symbolic import Symbol, apply_function

MOST_TRIALS = 30
"""How often a loop is lowered to find the lists that it builds."""

FIRST = 16
"""Places of an array that grows, to begin with."""


class GrowingLowerer(TripLowerer):
    """Evaluates loops that build lists; the loops themselves come with the subclass."""

    def with_lists(self, node: ast.For | ast.While, run: Callable[[], None]) -> None:
        """Lower a loop, again and again until each list that it appends to is an array."""
        growing = self.shared.growing
        for _ in range(MOST_TRIALS):
            before, depth = State(self.roots()), len(self.rest)
            ops, requirements = len(self.builder.block.ops), len(self.builder.requirements)
            try:
                run()
                for rows in growing.rows:
                    if rows.node is node:  # whoever appends later finds no room made for it
                        rows.node, rows.most, rows.by_index = None, None, False
                return
            except Grow as wanted:
                container = wanted.container
                mine = container.node is node if isinstance(container, Rows) else (
                    id(container) in before.containers and not growing.outside(container)
                )
                if not mine:
                    raise
                before.restore()
                del self.builder.block.ops[ops:], self.builder.requirements[requirements:]
                del self.rest[depth:]
                self.grow(node, wanted)
        raise self.refuse(
            node, "loop-carried-type", "a list inside an object grows in this loop",
            "append to a list that is a variable of its own",
        )  # fmt: skip

    def grow(self, node: ast.For | ast.While, wanted: Grow) -> None:
        """Put an array in the place of a list; or unroll the loop, if the list cannot be one."""
        wanted.samples = [as_item(self, item) for item in wanted.samples]
        found = None
        if isinstance(node, ast.For):
            self.watched = []
            with self.at(node.iter):
                found = self.trips(node.iter)
        assert not isinstance(found, list)
        counted = found is not None and wanted.most is not None
        total = self.capacity(wanted, found) if counted and found is not None else None
        if not isinstance(wanted.container, Rows):
            start = len(wanted.container)
            rows = grown(self, wanted, max(start, FIRST) if total is None else total)
            if rows is None:
                self.unroll_instead(node, found)
                return
            rows.node, rows.depth = node, len(self.shared.growing.loops)
            rows.most = wanted.most if counted else None
            rows.total = total
            plain = found is not None and (found.start, found.step) == (0, 1) and not is_numeric(
                found.start
            )
            rows.by_index = counted and plain and wanted.always and wanted.most == 1
            self.shared.growing.rows.append(rows)
            for root in self.roots():
                exchange(root, wanted.container, rows)
            return
        grown(self, wanted, None)

    def capacity(self, wanted: Grow, found: Trips) -> Any:
        """How many items there are at most after the loop."""
        if isinstance(wanted.container, Rows):
            return None
        if found.static is not None:
            trips: Any = len(found.static)
        else:
            bounds = (found.start, found.stop, found.step)
            trips = apply_function(TRIPS, bounds, {}, self.builder)
        start = len(wanted.container)
        assert wanted.most is not None
        more = trips if wanted.most == 1 else trips * wanted.most
        return more if start == 0 else more + start

    def unroll_instead(self, node: ast.For | ast.While, found: Trips | None) -> None:
        """A list of unlike items needs its loop unrolled."""
        if found is None or found.static is None or len(found.static) > 1000:
            raise self.refuse(
                node, "loop-carried-type",
                "a list grows inside the loop by what is no number and no array of one type",
                "append numbers, or arrays of one dtype and shape that is known before the loop; "
                "unlike values go to a list each",
            )  # fmt: skip
        self.shared.growing.unrolled.add(id(node))

    def grow_in_loop(self, container: Any, one: list[Any], other: list[Any]) -> None:
        """Of two paths in a loop, one appends more to a list: it becomes an array."""
        if not self.shared.growing.outside(container):
            return
        longer, shorter = (one, other) if len(one) > len(other) else (other, one)
        if all(a is b for a, b in zip(longer, shorter, strict=False)):
            raise Grow(container, longer[len(shorter) :], 1)

    def grow_indexed(self, container: list[Any]) -> None:
        """A list that a loop on the way here appends to, and that is indexed, becomes an array."""
        for loop in self.shared.growing.loops:
            if id(container) in loop.before.containers and container and any(
                self.env.get(name) is container for name in _appended(loop.node)
            ):
                more = container[len(loop.before.content(container)) :]
                raise Grow(container, more, 1, always=True)

    def counted_lists(self, node: ast.For, trips: Trips, index: Symbol) -> list[tuple[Rows, Any]]:
        """At the start of a trip, the index tells how many items there are."""
        found = []
        for rows in self.shared.growing.rows:
            if rows.node is node and rows.by_index:
                start = rows.count
                found.append((rows, start))
                first = type(start) is int and start == 0
                rows.fields["count"] = index if first else index + start
        return found

    def check_counts(self, counted: list[tuple[Rows, Any]], left: Any) -> None:
        """At its end there must be one more in every case; else the number is carried."""
        for rows, start in counted:
            if left is not False or rows.appended != 1:
                raise Grow(rows, [], 1)
            rows.fields["count"] = start


def _appended(node: ast.For | ast.While) -> set[str]:
    """The names of lists that a loop appends to."""
    found = set()
    for part in ast.walk(node):
        match part:
            case ast.Call(ast.Attribute(ast.Name(name), "append")):
                found.add(name)
            case ast.AugAssign(ast.Name(name), ast.Add()):
                found.add(name)
    return found
