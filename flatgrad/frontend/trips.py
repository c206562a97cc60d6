"""What a `for` iterates over, as a counted loop: bounds, and the item of each index.

    range(a, b, c)       a, b, c; the item is the index       X            0, len(X), 1; X[k]
    enumerate(it)        0, len, 1; (k, it[k])                zip(a, b)    0, min(len), 1
    reversed(range(n))   n - 1, -1, -1
"""

from __future__ import annotations

import ast
import builtins
import operator
import types
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from flatgrad.checkpointing import checkpoint
from flatgrad.errors import error
from flatgrad.frontend.control import ControlLowerer
from flatgrad.frontend.list_calls import item_of
from flatgrad.frontend.listed import Rows
from flatgrad.frontend.refs import Ref
from flatgrad.frontend.scopes import Once, Watched
from flatgrad.frontend.values import kind_of, read, same_length
from flatgrad.primitives.symbolic import NeedInteger, Symbol, is_number, is_symbolic

_ITERATORS: dict[str, Any] = {
    "range": builtins.range, "enumerate": builtins.enumerate, "zip": builtins.zip,
    "reversed": builtins.reversed,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Trips:
    """The indices of a loop, `static` where known while compiling, and the item of each.

    `plain`: the items are the indices; `arrays` are those over which it runs.
    """

    start: Any
    stop: Any
    step: Any
    item: Callable[[Any], Any]
    static: range | None = None
    arrays: tuple[Ref, ...] = ()
    plain: bool = False
    checkpoint: str | None = None
    snapshots: Any = None

    def items(self) -> list[Any]:
        """All items; only where the indices are static."""
        assert self.static is not None
        return [self.item(k) for k in self.static]


def _of_range(
    found: range, item: Callable[[Any], Any], arrays: tuple[Ref, ...] = (), plain: bool = False
) -> Trips:
    return Trips(found.start, found.stop, found.step, item, found, arrays, plain)


class Items(list[Any]):
    """The items of a loop that is unrolled, and the lists and dicts that must not change in it."""

    def __init__(self, items: list[Any], watched: list[Watched], done: int = 0) -> None:
        super().__init__(items)
        self.watched = watched
        self.done = done

    def after(self, k: int) -> Items:
        """The items from the k-th on."""
        return Items(self[k:], self.watched, self.done + k)

    def changed(self, k: int) -> bool:
        """Whether, at the start of the k-th trip, what comes is not what came first."""
        return any(watched.changed(self.done + k) for watched in self.watched)


class TripLowerer(ControlLowerer):
    """Finds out over what a loop runs."""

    watched: list[Watched]

    def trips(self, node: ast.expr, *, lazily: bool = False) -> Trips | list[Any]:
        """A counted loop, or the items of a static sequence; `lazily`, computed at their trips.

        `self.watched` takes up the lists and dicts over which the loop runs.
        """
        if isinstance(node, ast.Call) and self.callee(node.func) is checkpoint:
            with self.at(node):
                return self.over_checkpoint(node)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            handler = _ITERATORS.get(node.func.id)
            starred = any(isinstance(arg, ast.Starred) for arg in node.args)
            plain = handler and not starred and node.args and self.value(node.func) is handler
            if plain and (not node.keywords or handler is enumerate):
                with self.at(node):
                    made: Trips | list[Any] = getattr(self, f"over_{node.func.id}")(node)
                    return made
        found = self.value(node)
        if type(found) in (list, dict):
            self.watched.append(Watched(found, list(found)))
        if isinstance(found, Once):
            return self.turns(node, found) if lazily else self.items(node, found)
        return self.over(node, found)

    def turns(self, node: ast.expr, found: Once) -> list[Any]:
        """The items of an iterator, each to be read at the start of its trip."""
        turns = found.turns()
        if turns is None:
            raise self.refuse(
                node, "unsupported-statement", "a loop over this iterator", "make it a list first"
            )
        found.left.clear()
        self.watched += turns.watched
        return list(turns.items)

    def over(self, node: ast.expr, found: Any) -> Trips | list[Any]:
        """The rows of an array, or the items of a static sequence."""
        if isinstance(found, Ref) and found.latest.ndim:
            length = found.read().shape[0]
            item = lambda k: self.apply(node, operator.getitem, (found, k), {})  # noqa: E731
            static = range(length) if isinstance(length, int) else None
            return Trips(0, length, 1, item, static, (found,))
        if isinstance(found, Rows):
            pick = lambda k: item_of(self, node, found, k, checked=False)  # noqa: E731
            known = range(found.count) if type(found.count) is int else None
            return Trips(0, found.count, 1, pick, known, (found.array,))
        if isinstance(found, range):
            return _of_range(found, lambda k: k, plain=True)
        if isinstance(found, Symbol | Ref):
            raise self.refuse(node, "operand-type", f"a loop over {kind_of(found)}")
        return self.items(node, found)

    def over_range(self, node: ast.Call) -> Trips:
        """`range(...)`; each argument may be known only when running."""
        args = [self.operand(arg) for arg in node.args]
        if not is_symbolic(args):
            return _of_range(self.static(node, range, *args), lambda k: k, plain=True)
        for arg, part in zip(args, node.args, strict=True):
            kind = arg.type.dtype if isinstance(arg, Symbol) else type(arg).__name__
            integer = isinstance(arg, Symbol) and arg.ndim == 0 and "int" in kind
            if isinstance(arg, Symbol) and not arg.ndim and arg.type.differentiable:
                with self.at(part):
                    refusal = error("operand-type", f"`range` of {kind}", help="use an int")
                    raise NeedInteger(arg, refusal)
            if not integer and type(arg) is not int:
                raise self.refuse(part, "operand-type", f"`range` of {kind}", "use an int")
        args = [_as_int(self, node, arg) for arg in args]
        if len(args) > 3:
            self.static(node, range, 0, 0, 0, 0)
        start, stop, step = [(0, *args, 1), (*args, 1), args][len(args) - 1]
        if isinstance(step, int) and step == 0:
            self.static(node, range, 0, 0, 0)
        return Trips(start, stop, step, lambda k: k, plain=True)

    def callee(self, node: ast.expr) -> Any:
        """What is called, if it is a name or the attribute of a module."""
        if isinstance(node, ast.Name):
            owner = self.owner(node.id)
            return self.value(node) if owner is None else owner.env.get(node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            base = self.callee(node.value)
            return self.attribute(node, base) if isinstance(base, types.ModuleType) else None
        return None

    def over_checkpoint(self, node: ast.Call) -> Trips:
        """`checkpoint(range(n), snapshots=s)`."""
        keywords = self.keywords(node)
        snapshots = keywords.pop("snapshots", None)
        ranged = len(node.args) == 1 and isinstance(node.args[0], ast.Call) and not keywords
        inner = self.trips(node.args[0]) if ranged else None
        if not isinstance(inner, Trips) or not inner.plain or inner.checkpoint:
            raise self.refuse(
                node, "bad-checkpoint", "a loop is checkpointed over a `range`",
                "write `for i in checkpoint(range(n)):`, or with `snapshots=10`",
            )  # fmt: skip
        if snapshots is None:
            return replace(inner, checkpoint="sqrt")
        snapshots = read(snapshots)
        whole = isinstance(snapshots, Symbol) and snapshots.ndim == 0
        if whole and snapshots.type.dtype == "int64":
            return replace(inner, checkpoint="revolve", snapshots=snapshots)
        if type(snapshots) is not int or snapshots < 1:
            raise self.refuse(
                node, "bad-checkpoint", "`snapshots` is an int of at least 1",
                "leave it out to keep about sqrt(n) states",
            )  # fmt: skip
        return replace(inner, checkpoint="revolve", snapshots=snapshots)

    def over_enumerate(self, node: ast.Call) -> Trips | list[Any]:
        """`enumerate(it, start=0)`."""
        inner = self.trips(node.args[0])
        given = [*node.args[1:], *[keyword.value for keyword in node.keywords]]
        first = self.operand(given[0]) if given else 0
        if isinstance(inner, list):
            if is_symbolic(first):
                return [
                    (self.binary(node, operator.add, first, k), x) for k, x in enumerate(inner)
                ]
            return self.static(
                node, lambda: list(enumerate(inner, first)), structural=True
            )
        base = self.counted(node, inner)
        item = lambda k: (_shifted(self, node, first, k, 1), base.item(k))  # noqa: E731
        return Trips(0, base.stop, 1, item, base.static, inner.arrays)

    def over_zip(self, node: ast.Call) -> Trips | list[Any]:
        """`zip(a, b)`: as far as the shortest."""
        parts = [self.trips(arg) for arg in node.args]
        if any(isinstance(part, list) for part in parts):
            columns = []
            for arg, part in zip(node.args, parts, strict=True):
                if isinstance(part, Trips) and part.static is None:
                    raise self.refuse(
                        arg, "data-dependent-static",
                        "`zip` of a sequence with an array or range whose length is not known",
                        "index the sequence",
                    )  # fmt: skip
                columns.append(part.items() if isinstance(part, Trips) else part)
            return list(zip(*columns, strict=False))
        bases = [self.counted(node, part) for part in parts if isinstance(part, Trips)]
        stop, static = bases[0].stop, bases[0].static
        for base in bases[1:]:
            if static is not None and base.static is not None:
                static = min(static, base.static, key=len)
                stop = len(static)
            elif not same_length(stop, base.stop):
                stop, static = self.apply(node, np.minimum, (stop, base.stop), {}), None
        item = lambda k: tuple([base.item(k) for base in bases])  # noqa: E731
        arrays = tuple([ref for base in bases for ref in base.arrays])
        return Trips(0, stop, 1, item, static, arrays)

    def over_reversed(self, node: ast.Call) -> Trips | list[Any]:
        """`reversed(range(n))`, `reversed(x)`."""
        count = len(self.watched)
        inner = self.trips(node.args[0])
        for watched in self.watched[count:]:
            watched.backward = not watched.backward
        if isinstance(inner, list):
            return inner[::-1]
        if inner.static is not None:
            return _of_range(inner.static[::-1], inner.item, inner.arrays, inner.plain)
        if inner.step != 1:
            inner = self.counted(node, inner)
        less = lambda one: self.binary(node, operator.sub, one, 1)  # noqa: E731
        return Trips(less(inner.stop), less(inner.start), -1, inner.item, None, inner.arrays)

    def counted(self, node: ast.AST, found: Trips) -> Trips:
        """The same items for the indices 0, 1, 2, ..."""
        start, step = found.start, found.step
        if found.static is not None:
            known = found.static
            return _of_range(
                range(len(known)), lambda k: found.item(_shifted(self, node, start, k, step)),
                found.arrays,
            )  # fmt: skip
        if isinstance(step, Symbol):
            raise self.refuse(
                node, "unsupported-statement", "this loop over a range whose step is not known",
                "loop over the range alone",
            )  # fmt: skip
        if _is_zero(start) and step == 1:
            return found
        stop = self.binary(node, operator.sub, found.stop, start)
        if step != 1:
            more = self.binary(node, operator.add, stop, step - (1 if step > 0 else -1))
            stop = self.binary(node, operator.floordiv, more, step)
        item = lambda k: found.item(_shifted(self, node, start, k, step))  # noqa: E731
        return Trips(0, stop, 1, item, None, found.arrays)


def _is_zero(found: Any) -> bool:
    return type(found) is int and found == 0


def _shifted(low: Any, node: ast.AST, start: Any, k: Any, step: int) -> Any:
    """`start + k * step`."""
    moved = k if step == 1 else low.binary(node, operator.mul, k, step)
    return moved if _is_zero(start) else low.binary(node, operator.add, start, moved)


def _as_int(low: Any, node: ast.AST, found: Any) -> Any:
    if is_number(found) or found.type.dtype == "int64":
        return found
    return read(low.apply(node, int, (found,), {}))
