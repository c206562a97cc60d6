"""The parts of what a loop carries: numbers and arrays, the variables that hold them, their types.

    (p, v)     ->  a Place whose tree is (Leaf, Leaf)        a[i] = x    ->  Written(the buffer)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from flatgrad.frontend.join import cast, same_number, type_of
from flatgrad.frontend.lengths import undefined
from flatgrad.frontend.refs import Buffer, Ref
from flatgrad.frontend.trees import Record, children, like
from flatgrad.frontend.values import Poison
from flatgrad.ir.dims import Dim, Size
from flatgrad.ir.ops import Operand, Requirement, Value
from flatgrad.ir.types import Array, Scalar, Type
from flatgrad.primitives.symbolic import Symbol, is_number, operand_of
from flatgrad.primitives.typerules import fresh_size


@dataclass(eq=False, slots=True)
class Leaf:
    """One carried number or array; `init` is its value on entry, `end` that of the last trial.

    `widened`: lengths that change. `assumed`: pairs of lengths taken to be equal, until `refuted`;
    `entering`: what a trip requires that starts with the lengths on entry.
    """

    name: str | None
    type: Type
    init: Any
    plain: bool = True
    aliased: bool = False
    base: Buffer | None = None
    outer: set[Buffer] = field(default_factory=set)
    widened: set[Dim] = field(default_factory=set)
    assumed: list[tuple[Size, Size]] = field(default_factory=list)
    refuted: bool = False
    entering: list[Requirement] = field(default_factory=list)
    param: Value | None = None
    buffer: Buffer | None = None
    end: Any = None
    end_buffer: Buffer | None = None

    def refute(self) -> None:
        """Lengths that were taken to be equal are not: the variable has those on entry again."""
        self.type = self.init.type
        self.refuted = True

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
        return list(leaves_of(self.tree))


@dataclass(eq=False, slots=True)
class Written:
    """A buffer whose content changes."""

    buffer: Buffer
    leaf: Leaf


class Mismatch(Exception):
    """A variable that cannot be carried; `poison` says why."""

    def __init__(self, poison: Poison) -> None:
        super().__init__()
        self.poison = poison


def mismatch(name: Any, tree: Any, end: Any, line: int) -> Poison:
    """Says how a variable changes from trip to trip; `line` is that of the loop."""
    if isinstance(end, Poison):
        return end
    kind = tree.type if isinstance(tree, Leaf) else None
    last = end.latest.type if isinstance(end, Ref) else None
    if isinstance(end, Symbol) or is_number(end):
        last = type_of(end)
    if kind is not None and last is not None and kind.ndim != last.ndim:
        change = f"changes rank inside the loop: {rank_of(kind)} on entry, {rank_of(last)} after"
    elif kind is not None and last is not None and kind.dtype != last.dtype:
        change = f"changes dtype inside the loop: {kind.dtype} on entry, {last.dtype} after"
    elif kind is not None and last is not None:
        change = f"changes its axes of length 1 inside the loop: {kind} on entry, {last} after"
    else:
        first = word_for(tree)
        change = f"changes inside the loop: {first} on entry, {word_for(end)} after"
    return Poison(
        "loop-carried-type", f"`{name}` {change}",
        f"use a new name for the new value, or give `{name}` its final kind before line {line}",
    )  # fmt: skip


def zeros(low: Any, value: Any, name: str) -> Any:
    """A template for what is never read before the first trip has assigned it."""
    if isinstance(value, tuple):
        items = [zeros(low, item, name) for item in value]
        bad = [item for item in items if isinstance(item, Poison)]
        return bad[0] if bad else like(value, items)
    if isinstance(value, Symbol) or is_number(value):
        kind = type_of(value)
        size = fresh_size() if kind.dtype == "int64" else None
        zero = {"bool": False, "int64": 0}.get(kind.dtype, 0.0)
        return Leaf(name if name.isidentifier() else "value", replace(kind, size=size), zero)
    if isinstance(value, Ref):
        return _undefined(low, value.latest.type, name)
    if value is None or isinstance(value, str):
        return value
    return Poison("undefined-name", f"`{name}` is assigned in the loop first")


def _undefined(low: Any, kind: Type, name: str) -> Any:
    """A leaf that starts as an array which nobody reads."""
    with low.builder.at(low.builder.origin, name if name.isidentifier() else "value"):
        made = undefined(low, kind)
    pairs = list(zip(kind.shape, made.type.shape, strict=True))
    if any((one == 1) != (other == 1) for one, other in pairs):
        return Poison("undefined-name", f"`{name}` is assigned in the loop first")
    leaf = Leaf(name if name.isidentifier() else "value", made.type, made)
    shape = []
    for one, other in pairs:
        if one != other:
            one = fresh_size()
            leaf.widened.add(one)
        shape.append(one)
    leaf.type = Array(kind.dtype, tuple(shape))
    return leaf


def leaves_of(tree: Any) -> Iterator[Leaf]:
    if isinstance(tree, Leaf):
        yield tree
    for item in children(tree) or ():
        yield from leaves_of(item)


def widened_type(leaf: Leaf, end: Type) -> Type | None:
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


def operand_in(found: Any, kind: Type) -> Operand:
    if isinstance(found, Symbol) and found.ndim:
        return found.value
    return cast(found, kind) if isinstance(kind, Scalar) else operand_of(found)


def rank_of(kind: Type) -> str:
    return f"{kind.ndim}-d" if kind.ndim else "a number"


def word_for(found: Any) -> str:
    if isinstance(found, Leaf):
        return "an array" if found.type.ndim else "a number"
    if isinstance(found, Ref):
        return "an array"
    if isinstance(found, Symbol) or is_number(found):
        return "a number"
    if isinstance(found, Record):
        return f"an object of {found.kind.__name__}"
    return repr(found) if found is None else f"a {type(found).__name__}"
