"""Lists that loops append to, as arrays with an axis for the items.

    xs = []                        xs = np.empty((n, x.shape[0]))
    for i in range(n):       ->    for i in range(n):
        xs.append(x * i)               xs[i] = x * i
    np.stack(xs)                   xs

The items have one type. Where no trip appends more than is known before the loop, the array is made
for as many; else it grows. An array in the list is one object for Python: a write to it afterwards
makes the list refuse to be read.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flatgrad.errors import FlatgradError, error
from flatgrad.frontend.join import join_types, type_of
from flatgrad.frontend.lengths import empty, length_of
from flatgrad.frontend.listed import FIXED, Rows, size_of
from flatgrad.frontend.refs import Buffer, Ref
from flatgrad.frontend.trees import Record
from flatgrad.frontend.values import ControlFlow, read
from flatgrad.ir.dims import Dim
from flatgrad.ir.ops import Const, Value
from flatgrad.ir.types import Array, Scalar, Type
from flatgrad.primitives.core import ASTYPE, FILL, PUSH
from flatgrad.primitives.index import SET_ITEM
from flatgrad.primitives.symbolic import Symbol, apply_function, is_number


class Grow(ControlFlow):
    """A loop appends to `container`; `samples` are items, `most` what one trip appends at most.

    `always`: every trip appends as many.
    """

    def __init__(
        self, container: Any, samples: list[Any], most: int | None, *, always: bool = False
    ) -> None:
        super().__init__()
        self.container = container
        self.samples = samples
        self.most = most
        self.always = always


@dataclass(slots=True)
class Growing:
    """What the lowering knows of lists in loops: the loops on the way here, and their lists."""

    loops: list[Any] = field(default_factory=list)
    rows: list[Rows] = field(default_factory=list)
    unrolled: set[int] = field(default_factory=set)

    def outside(self, container: Any) -> bool:
        """Whether a loop on the way here began after the list was made."""
        return any(id(container) in loop.before.containers for loop in self.loops)


def item_type(items: list[Any]) -> Type | None:
    """The one type of the items; None where they do not fit into an array."""
    kinds: list[Type] = []
    if not items:
        return None
    if len({isinstance(item, Rows) for item in items}) > 1:
        return None
    for item in items:
        if isinstance(item, Rows):
            kinds.append(item.whole().type)
        elif isinstance(item, Ref):
            kinds.append(item.latest.type)
        elif isinstance(item, Symbol) or is_number(item):
            kinds.append(type_of(item))
        else:
            return None
    found = kinds[0]
    for kind in kinds[1:]:
        if isinstance(found, Array) or isinstance(kind, Array):
            if found != kind:
                return None
            continue
        joined = join_types(found, kind)
        if joined is None or {found.dtype, kind.dtype} - {joined.dtype, "int64"}:
            return None
        found = joined
    if isinstance(found, Scalar):
        return Scalar(found.dtype, found.weak)
    return found


def made_rows(
    low: Any, name: str, items: list[Any], kind: Type, capacity: Any, *, nested: bool
) -> Rows | None:
    """The list of `items` as an array with `capacity` places; None if it cannot be made here."""
    lengths = [length_of(low, size) for size in kind.shape]
    if any(length is None for length in lengths):
        return None
    shape = (capacity, *lengths) if lengths else capacity
    symbol = empty(low, kind, shape)
    symbol.value.name, symbol.value.kept = name, low.shared.depth == 0
    array = Ref(Buffer(symbol, fixed=FIXED))
    rows = Rows(name, kind, {"items": array, "count": 0}, nested=nested)
    for item in items:
        put(low, rows, item)
    return rows


def as_item(low: Any, item: Any) -> Any:
    """A tuple or list of numbers of one type as a list in an array; it may not change any more."""
    if type(item) not in (list, tuple) or not item:
        return item
    numbers = all(is_number(one) or (isinstance(one, Symbol) and not one.ndim) for one in item)
    kind = item_type(list(item)) if numbers else None
    if kind is None or {type_of(one).dtype for one in item} != {kind.dtype}:
        return item
    if type(item) is list:
        low.foreign(item)
    made = apply_function(np.array, (list(item),), {}, low.builder)
    if not isinstance(made, Symbol):
        return item
    number = Scalar(kind.dtype)
    return Rows("items", number, {"items": Ref(Buffer(made)), "count": len(item)}, frozen=True)


def fitted(low: Any, rows: Rows, item: Any) -> Any:
    """An item in the type of the others."""
    item = as_item(low, item)
    kind = item_type([item])
    if isinstance(item, Rows):
        item.frozen = True
    if kind is not None and isinstance(item, Rows) == rows.nested:
        same = kind == rows.kind if isinstance(rows.kind, Array) else isinstance(kind, Scalar)
        joined = same and (isinstance(kind, Array) or join_types(kind, rows.kind) is not None)
        if joined and kind.dtype in (rows.kind.dtype, "int64"):
            found = read(item)
            if kind.dtype == rows.kind.dtype or not isinstance(found, Symbol):
                return found
            return apply_function(ASTYPE, (found, np.dtype(rows.kind.dtype).type), {}, low.builder)
    raise error(
        "operand-type", f"`{rows.name}` is built in a loop and would get items of different types",
        low.builder.origin.span, help="append items of one dtype and shape, or use several lists",
    )  # fmt: skip


def put(low: Any, rows: Rows, item: Any, *, grow: bool = False) -> None:
    """Append an item; the array stands for its memory, too."""
    found = fitted(low, rows, item)
    position = rows.count
    old = rows.array.read()
    made = apply_function(PUSH if grow else FILL, (old, found, position), {}, low.builder)
    made.value.name, made.value.kept = rows.name, low.shared.depth == 0
    buffer = rows.array.buffer
    if grow:
        made_buffer = Buffer(made, fixed=FIXED)
        made_buffer.may_share({buffer})
        rows.fields["items"] = Ref(made_buffer)
    else:
        buffer.current = made
        buffer.writes += 1
    if isinstance(item, Ref):
        rows.array.buffer.may_share({item.buffer})
    with low.builder.at(low.builder.origin, "count"):
        rows.fields["count"] = shifted(position, 1)


def shifted(number: Any, by: int) -> Any:
    """`number + by`; of `i + 1` it is written `i + 2`."""
    if not isinstance(number, Symbol):
        return number + by
    op = number.builder.made.get(number.value)
    plus = op is not None and op.primitive.function is operator.add
    if op is not None and plus and isinstance(op.operands[1], Const):
        left, more = op.operands[0], op.operands[1].value
        if isinstance(left, Value) and isinstance(more, int):
            number, by = Symbol(left, number.builder), by + more
    if by == 0:
        return number
    return number + by if by > 0 else number - (-by)


def append(low: Any, rows: Rows, item: Any) -> None:
    """`xs.append(item)`.

    Raises
    ------
    Grow
        If the array was made for fewer items than the loop now turns out to append.
    """
    if rows.frozen:
        raise error(
            "unsupported-write", f"`{rows.name}` is an item of a list, and changes afterwards",
            low.builder.origin.span, help="append it when it is complete",
        )  # fmt: skip
    loops = low.shared.growing.loops
    inside = any(loop.node is rows.node for loop in loops)
    rows.appended += 1
    if inside and rows.most is not None and (
        rows.appended > rows.most or len(loops) > rows.depth + 1
    ):
        raise Grow(rows, [], None)
    put(low, rows, item, grow=not (inside and rows.most is not None))


def replaced(low: Any, rows: Rows, index: Any, item: Any) -> None:
    """`xs[index] = item`: another array, so that the item that was there stays as it is."""
    found = fitted(low, rows, item)
    if rows.frozen:
        raise error(
            "unsupported-write", f"`{rows.name}` is an item of a list, and changes afterwards",
            low.builder.origin.span, help="append it when it is complete",
        )  # fmt: skip
    symbol = rows.array.read()
    made = apply_function(
        SET_ITEM, (symbol, found, place(low, rows, index)), {}, low.builder
    )
    made.value.name, made.value.kept = rows.name, low.shared.depth == 0
    buffer = Buffer(made, fixed=FIXED)
    buffer.may_share({rows.array.buffer} | ({item.buffer} if isinstance(item, Ref) else set()))
    rows.fields["items"] = Ref(buffer)


def place(low: Any, rows: Rows, index: Any) -> Any:
    """Where an item stands in the array; checked, where the array may be longer than the list."""
    count = rows.count
    size = size_of(count)
    if size == rows.array.latest.type.shape[0]:
        return index
    known = at_least(low, size)
    if type(index) is int and index < 0:
        low.check_index(count < -index, sure=known >= -index)
        return shifted(count, index)
    if type(index) is int:
        low.check_index(count <= index, sure=known > index)
        return index
    where = size_of(index)
    distance = size - where if isinstance(where, Dim) and size is not None else None
    if isinstance(distance, int) and distance > 0:
        low.check_index(index < 0, sure=known >= distance)
        return index
    low.check_index(index >= count)
    low.check_index(index < -count)
    return apply_function(np.where, (index < 0, index + count, index), {}, low.builder)


def at_least(low: Any, size: Any) -> int:
    """A number below which a count does not lie; an index that counts trips is never negative."""
    if not isinstance(size, Dim):
        return size if isinstance(size, int) else 0
    for monomial, factor in size.terms:
        if monomial and (factor < 0 or any(atom not in low.shared.counting for atom in monomial)):
            return 0
    return max(0, sum(factor for monomial, factor in size.terms if not monomial))


def grown(low: Any, wanted: Grow, capacity: Any) -> Rows | None:
    """The list, or the array of a list, as an array of this capacity; None if it cannot be one."""
    container = wanted.container
    if isinstance(container, Rows):
        container.most, container.by_index = wanted.most, False
        return container
    container = [as_item(low, item) for item in wanted.container]
    kind = item_type([*container, *wanted.samples])
    if kind is None:
        return None
    name = next(
        (key for root in low.roots() for key, value in root.items() if value is wanted.container),
        "items",
    )
    name = name.strip("<>")
    with low.builder.at(low.builder.origin, name):
        try:
            nested = any(isinstance(item, Rows) for item in wanted.samples)
            name = name if name.isidentifier() else "items"
            return made_rows(low, name, container, kind, capacity, nested=nested)
        except FlatgradError:
            return None


def exchange(tree: Any, old: Any, new: Any) -> Any:
    """`tree` with `new` in all places of `old`; dicts and lists are changed in place."""
    if tree is old:
        return new
    if type(tree) is tuple:
        return tuple([exchange(item, old, new) for item in tree])
    if type(tree) is list:
        tree[:] = [exchange(item, old, new) for item in tree]
    elif type(tree) is dict:
        for key, item in tree.items():
            tree[key] = exchange(item, old, new)
    elif isinstance(tree, Record):
        exchange(tree.fields, old, new)
    return tree
