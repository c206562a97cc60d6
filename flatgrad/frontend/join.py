"""Two paths meet: one If whose results are what differs.

    if c:  y = a       ->   %y = if %c { yield %a } else { yield 0.0 }
    else:  y = 0

Numbers join their types, arrays become a buffer of their own that may share memory with either,
tuples and lists go item by item. What has no join is a Poison: refused where it is read.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flatgrad.errors import FlatgradError, error
from flatgrad.frontend.lengths import undefined
from flatgrad.frontend.refs import Buffer, Ref
from flatgrad.frontend.state import State
from flatgrad.frontend.trees import Held, Record, children, like, rebuilt, same_form
from flatgrad.frontend.values import RETURNED, VALUE, Maybe, Poison
from flatgrad.ir.ops import Block, If, Operand, Value
from flatgrad.ir.types import Array, Scalar, Type
from flatgrad.primitives.core import ASTYPE
from flatgrad.primitives.symbolic import (
    Symbol,
    apply_function,
    constant_type,
    is_number,
    operand_of,
)
from flatgrad.primitives.typerules import fresh_size

_KINDS = {"b": 0, "i": 1, "u": 1, "f": 2}
MISSING = object()


def type_of(number: Any) -> Any:
    """The type of a Symbol or a number."""
    return number.type if isinstance(number, Symbol) else constant_type(number)


def join_types(one: Type, other: Type) -> Type | None:
    """The type that holds both: int with float is float, a Python number adapts; or None."""
    if isinstance(one, Scalar) and isinstance(other, Scalar):
        return _join_numbers(one, other)
    if not isinstance(one, Array) or not isinstance(other, Array):
        return None
    if one.dtype != other.dtype or one.ndim != other.ndim:
        return None
    shape = []
    for left, right in zip(one.shape, other.shape, strict=True):
        if left != right and 1 in (left, right):
            return None
        shape.append(left if left == right else fresh_size())
    return Array(one.dtype, tuple(shape))


def _join_numbers(one: Scalar, other: Scalar) -> Scalar | None:
    kinds = [_KINDS[np.dtype(kind.dtype).kind] for kind in (one, other)]
    if (kinds[0] == 0) != (kinds[1] == 0):
        return None
    size = one.size if one.size == other.size else None
    if one.dtype == other.dtype:
        return Scalar(one.dtype, one.weak and other.weak, size)
    if one.weak == other.weak:
        if {one.dtype, other.dtype} != {"int64", "float64"}:
            return None
        return Scalar("float64", one.weak)
    weak, strong = (one, other) if one.weak else (other, one)
    if _KINDS[np.dtype(weak.dtype).kind] <= _KINDS[np.dtype(strong.dtype).kind]:
        return Scalar(strong.dtype)
    return Scalar("float64") if strong.dtype == "int64" else None


def cast(number: Any, kind: Type) -> Operand:
    """A number in the dtype of what it is joined with."""
    if isinstance(number, Symbol):
        if number.type.dtype == kind.dtype:
            return number.value
        builder = number.builder
        if kind.weak:
            return operand_of(apply_function(float, (number,), {}, builder))
        arguments = (number, np.dtype(kind.dtype).type)
        return operand_of(apply_function(ASTYPE, arguments, {}, builder))
    if type_of(number).dtype != kind.dtype:
        plain = kind.dtype in ("float64", "int64", "bool")
        number = float(number) if plain else np.dtype(kind.dtype).type(number)
    return operand_of(number)


def same_number(one: Any, other: Any) -> bool:
    """Whether two numbers certainly are the same, 0.0 and -0.0 told apart."""
    if isinstance(one, Symbol) or isinstance(other, Symbol):
        both = isinstance(one, Symbol) and isinstance(other, Symbol)
        return both and one.value is other.value
    return type(one) is type(other) and repr(one) == repr(other)


def same_tree(one: Any, other: Any) -> bool:
    """Whether two trees of arguments certainly are the same."""
    if type(one) is not type(other):
        return False
    match one:
        case Symbol():
            return one.value is other.value
        case tuple() | list():
            pairs = zip(one, other, strict=False)
            return len(one) == len(other) and all(same_tree(*pair) for pair in pairs)
        case dict():
            return one.keys() == other.keys() and all(same_tree(one[k], other[k]) for k in one)
        case slice():
            ends = [(part.start, part.stop, part.step) for part in (one, other)]
            return same_tree(*ends)
    return one is other or same_static(one, other)


def same_static(one: Any, other: Any) -> bool:
    """Whether two static values are equal, and of the same type."""
    known = (str, bytes, int, float, bool, type(None), range, slice, np.generic, np.dtype)
    return type(one) is type(other) and isinstance(one, known) and repr(one) == repr(other)


def same_steps(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Whether two views are taken in the same way, by views that never copy."""
    return len(one) == len(other) and all(
        a.sure and b.sure and a.primitive is b.primitive and same_tree(a.arguments, b.arguments)
        for a, b in zip(one, other, strict=True)
    )


def described(found: Any) -> str:
    """The words for what a variable holds on one path."""
    match found:
        case Ref():
            kind = found.latest.type
            return f"a {kind.ndim}-d array of {kind.dtype}"
        case Symbol():
            dtype = found.type.dtype
            words = {"bool": "a bool", "float64": "a float", "float32": "a float32"}
            return words.get(dtype, "an int" if dtype == "int64" else f"an int of {dtype}")
        case None | bool():
            return repr(found)
        case tuple() | list() | dict():
            return f"a {type(found).__name__} of length {len(found)}"
        case Record():
            return f"an object of {found.kind.__name__}"
        case Held():
            return str(found)
    return f"{'an' if isinstance(found, int) else 'a'} {type(found).__name__}"


@dataclass(slots=True)
class Side:
    """One path: its block, the state at its end, what it handed out, and its arrays as read.

    `raised` tells that it ends in `raise`, so that nothing follows it.
    """

    block: Block
    state: State
    outcome: Any
    raised: Any = None
    read: dict[int, Any] = field(default_factory=dict)


class Join:
    """Joins the states at the ends of two paths into results of one If."""

    def __init__(self, low: Any, before: State, sides: tuple[Side, Side]) -> None:
        self.low = low
        self.before = before
        self.sides = sides
        self.results: list[Value] = []
        self.seen: set[tuple[int, int]] = set()
        self.memo: dict[Hashable, Any] = {}
        self.arrays: list[tuple[Buffer, Buffer, Buffer]] = []

    def finish(self, condition: Symbol, dead: Any, what: str) -> Any:
        """Append the If, make the joined state the present one; what both handed out, joined."""
        self._read_arrays(dead)
        buffers = {key: self._buffer(buffer) for key, (buffer, _) in self.before.buffers.items()}
        self.before.restore()
        for key, (current, fields) in buffers.items():
            buffer = self.before.buffers[key][0]
            buffer.current = current
            buffer.writes, buffer.lost, buffer.shares = fields
        contents = [
            (container, self._content(container))
            for container, _ in self.before.containers.values()
            if container is not dead
        ]
        for container, content in contents:
            if isinstance(container, list):
                container[:] = content
            else:
                container.clear()
                container.update(content)
        found = self.value(self.sides[0].outcome, self.sides[1].outcome, what)
        then, orelse = (side.block for side in self.sides)
        origin = self.low.builder.origin
        op = If(condition.value, then, orelse, tuple(self.results), origin)
        self.low.builder.block.ops.append(op)
        return found

    def _read_arrays(self, dead: Any) -> None:
        """Read on each side, in its state, the references that are not the same on both."""
        wanted: list[tuple[Ref, Ref]] = []
        one, other = self.sides
        for container, _ in self.before.containers.values():
            if container is not dead:
                self._collect(one.state.content(container), other.state.content(container), wanted)
        self._collect(one.outcome, other.outcome, wanted)
        for k, side in enumerate(self.sides):
            side.state.restore()
            with self.low.builder.inside(side.block):
                for pair in wanted:
                    try:
                        side.read[id(pair[k])] = pair[k].read()
                    except FlatgradError as caught:
                        side.read[id(pair[k])] = caught

    def _collect(self, one: Any, other: Any, wanted: list[tuple[Ref, Ref]]) -> None:
        if one is other or (id(one), id(other)) in self.seen or type(one) is not type(other):
            return
        match one:
            case Ref():
                wanted.append((one, other))
            case tuple() | list():
                self.seen.add((id(one), id(other)))
                for pair in zip(one, other, strict=False):
                    self._collect(*pair, wanted)
            case dict():
                self.seen.add((id(one), id(other)))
                for key in one.keys() & other.keys():
                    self._collect(one[key], other[key], wanted)
            case Record():
                self._collect(one.fields, other.fields, wanted)

    def _buffer(self, buffer: Buffer) -> tuple[Symbol, tuple[int, Any, set[Buffer]]]:
        one, other = (side.state.of(buffer) for side in self.sides)
        current, writes = one["current"], max(one["writes"], other["writes"])
        if current.value is not other["current"].value:
            name = current.value.name or other["current"].value.name
            kind = self.before.of(buffer)["current"].type
            current = self._result(kind, name, (current.value, other["current"].value))
            writes += 1
        return current, (writes, one["lost"] or other["lost"], one["shares"] | other["shares"])

    def _content(self, container: Any) -> Any:
        one, other = (side.state.content(container) for side in self.sides)
        if isinstance(container, list):
            if len(one) != len(other):
                self.low.grow_in_loop(container, one, other)
                raise error(
                    "branch-type", "a list has other lengths on the one path than on the other",
                    self.low.builder.origin.span, help="append on both paths, or on none",
                )  # fmt: skip
            pairs = zip(one, other, strict=True)
            return [self.value(*pair, "an item of a list") for pair in pairs]
        roots = [id(root) for root in self.low.roots()]
        if one.keys() != other.keys() and id(container) not in roots:
            raise error(
                "branch-type", "a dict or object has other entries on one path than on the other",
                self.low.builder.origin.span, help="give it the same entries on both paths",
            )  # fmt: skip
        names = [*one, *[key for key in other if key not in one]]
        return {
            name: self.value(one.get(name, MISSING), other.get(name, MISSING), name)
            for name in names
        }

    def _result(
        self, kind: Type, name: str | None, operands: tuple[Operand, Operand]
    ) -> Symbol:
        for side, operand in zip(self.sides, operands, strict=True):
            side.block.yields = (*side.block.yields, operand)
        name = {RETURNED: "returned", VALUE: "value"}.get(name or "", name)
        named = isinstance(name, str) and name.isidentifier()
        name = self.low.spelled(name) if isinstance(name, str) else None
        value = Value(kind, name if named else None)
        value.kept = named and self.low.shared.depth == 0
        self.results.append(value)
        return Symbol(value, self.low.builder)

    def value(self, one: Any, other: Any, name: Any) -> Any:
        """What a variable holds after the paths have met."""
        if one is other or isinstance(one, Poison):
            return one
        if isinstance(other, Poison):
            return other
        if one is MISSING or other is MISSING:
            if name == VALUE:  # read only where the loop was left by `return`
                return self.value(*self._filled(one, other), name)
            return Poison(
                "undefined-name", f"`{name}` is not assigned on every path to here",
                "give it a value before the branch",
            )  # fmt: skip
        if isinstance(one, Maybe) or isinstance(other, Maybe):
            if getattr(one, "value", None) is other:
                return one
            if getattr(other, "value", None) is one:
                return other
            return Poison(
                "undefined-name", f"`{name}` is assigned in a loop, which may have had no trips",
                "give it a value before the loop",
            )  # fmt: skip
        numbers = [isinstance(item, Symbol) or is_number(item) for item in (one, other)]
        if all(numbers):
            found = self._number(one, other, name)
        elif isinstance(one, Ref) and isinstance(other, Ref):
            found = self._array(one, other, name)
        elif type(one) is type(other) and isinstance(one, tuple | list | dict | Record):
            found = self._container(one, other, name)
        else:
            found = one if same_static(one, other) else None
        return _mismatch(one, other, name) if found is None else found

    def _filled(self, one: Any, other: Any) -> tuple[Any, Any]:
        """The two, with something like the other for the one that is missing."""
        k = 0 if one is MISSING else 1
        with self.low.builder.inside(self.sides[k].block):
            instead = self._instead(other if one is MISSING else one, self.sides[k])
        return (instead, other) if k == 0 else (one, instead)

    def _instead(self, found: Any, side: Side) -> Any:
        """What stands for a value that is never read."""
        if isinstance(found, tuple):
            return like(found, [self._instead(item, side) for item in found])
        if isinstance(found, Symbol) or is_number(found):
            return {"bool": False, "int64": 0}.get(type_of(found).dtype, 0.0)
        if isinstance(found, Ref):
            made = undefined(self.low, found.latest.type)
            result = Ref(Buffer(made))
            side.read[id(result)] = made
            read = self.sides[1 - self.sides.index(side)].read
            read.setdefault(id(found), found.read())
            return result
        return found

    def _container(self, one: Any, other: Any, name: Any) -> Any:
        if not same_form(one, other):
            return None
        key = "container", id(one), id(other)
        if key not in self.memo:
            pairs = zip(children(one) or (), children(other) or (), strict=True)
            joined = rebuilt(one, [self.value(*pair, name) for pair in pairs])
            if not isinstance(one, tuple):  # which of the two it is, nobody knows: no writes
                for either in (one, other, joined):
                    self.low.doubt(either)
            self.memo[key] = one, other, joined
        return self.memo[key][-1]

    def _number(self, one: Any, other: Any, name: Any) -> Any:
        if same_number(one, other):
            return one
        key = tuple(x.value if isinstance(x, Symbol) else (type(x), repr(x)) for x in (one, other))
        if key not in self.memo:
            kind = join_types(type_of(one), type_of(other))
            if kind is None:
                return None
            if kind.dtype == "int64" and kind.size is None:  # type: ignore[union-attr]
                kind = Scalar("int64", kind.weak, fresh_size())
            operands = []
            for side, item in zip(self.sides, (one, other), strict=True):
                with self.low.builder.inside(side.block):
                    operands.append(cast(item, kind))
            self.memo[key] = self._result(kind, name, (operands[0], operands[1]))
            self.low.note_number(self.memo[key], (one, other), [s.state for s in self.sides])
        return self.memo[key]

    def _array(self, one: Ref, other: Ref, name: Any) -> Any:
        targets = [
            side.state.target(ref) if id(ref) in side.state.refs else (ref.buffer, ref.steps)
            for side, ref in zip(self.sides, (one, other), strict=True)
        ]
        (left, steps), (right, others) = targets
        if left is right and same_steps(steps, others):
            return Ref(left, steps)
        read = [side.read[id(ref)] for side, ref in zip(self.sides, (one, other), strict=True)]
        for found in read:
            if isinstance(found, FlatgradError):
                known = found.diagnostic
                return Poison(known.code, known.message, known.help)
        key = (id(one.buffer), read[0].value, id(other.buffer), read[1].value)
        if key not in self.memo:
            kind = join_types(read[0].type, read[1].type)
            if kind is None:
                return None
            result = self._result(kind, name, (read[0].value, read[1].value))
            joined = Ref(Buffer(result))
            joined.buffer.fixed = left.fixed or right.fixed
            self._relate(joined.buffer, left, right)
            self.memo[key] = joined
        return self.memo[key]

    def _relate(self, joined: Buffer, left: Buffer, right: Buffer) -> None:
        """A joined array may be either; of two of them, what they are on the same path counts."""
        near = [
            {buffer, *(side.state.of(buffer)["shares"] if id(buffer) in side.state.buffers
                       else buffer.shares)}
            for side, buffer in zip(self.sides, (left, right), strict=True)
        ]  # fmt: skip
        found = near[0] | near[1]
        for other, one, two in self.arrays:
            found.discard(other)
            if one in near[0] or two in near[1]:
                found.add(other)
        joined.shares |= found
        for buffer in found:
            buffer.shares.add(joined)
        self.arrays.append((joined, left, right))


def _mismatch(one: Any, other: Any, name: Any) -> Poison:
    return Poison(
        "branch-type",
        f"`{name}` is {described(one)} on one path and {described(other)} on the other",
        "use different names, or give both the same kind, dtype and rank",
    )
