"""Arrays whose references are not counted.

    def cell(x, w, n):
        gate = w[:n]           gate[i] is read while the caller has w

    for t in range(n):
        x = x_tape[t]          x is read while this function has x_tape
        y = cell(x, w, 4)

Numba counts the references to the memory of an array with a locked instruction when a variable is
set, and another one when it is deleted. In a nest with eight parts of two arguments that takes
longer than to compute a dozen elements. Who calls a function keeps the arguments alive; so the
parts that the function takes of them, and the parts of these, are alive as well. A part of an array
of the function's own is alive as long as the variable that has the array: it is not counted where
all that is done with it stands in one block, in which that variable is neither deleted nor set.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from numba.core import ir, types
from numba.core.lowering import Lower

BASIC = types.Integer, types.SliceType, types.EllipsisType, types.NoneType
"""The types of indices that take a part of an array, and copy nothing."""


class BorrowingLower(Lower):
    """Writes the instructions of a function, and none that count for variables that borrow."""

    borrowed: frozenset[str] = frozenset()
    counts = True

    def lower_normal_function(self, fndesc: Any) -> None:
        """Write the function."""
        self.borrowed = borrowed_names(self.func_ir.blocks, fndesc.typemap)
        super().lower_normal_function(fndesc)

    def lower_assign(self, ty: Any, inst: Any) -> Any:
        """The value of an assignment.

        What takes a part counts it; it is taken back at once, and LLVM removes both.
        """
        if inst.target.name not in self.borrowed:
            return super().lower_assign(ty, inst)
        if isinstance(inst.value, ir.Expr):
            value = super().lower_assign(ty, inst)
            self.decref(ty, value)
            return value
        self.counts = False
        value = super().lower_assign(ty, inst)
        self.counts = True
        return value

    def storevar(self, value: Any, name: str, argidx: Any = None) -> None:
        """Set a variable; what it had before is not its own if it borrows."""
        self.counts = name not in self.borrowed
        super().storevar(value, name, argidx)
        self.counts = True

    def delvar(self, name: str) -> None:
        """Delete a variable."""
        self.counts = name not in self.borrowed
        super().delvar(name)
        self.counts = True

    def incref(self, typ: Any, val: Any) -> None:
        """Count one more."""
        if self.counts:
            super().incref(typ, val)

    def decref(self, typ: Any, val: Any) -> None:
        """Count one less."""
        if self.counts:
            super().decref(typ, val)


def borrowed_names(blocks: Mapping[int, Any], kinds: Mapping[str, Any]) -> frozenset[str]:
    """The variables of a function that have parts of arrays which others keep alive."""
    values: dict[str, list[tuple[int, Any]]] = defaultdict(list)
    changed: dict[str, set[int]] = defaultdict(set)
    present: dict[str, set[int]] = defaultdict(set)
    for key, block in blocks.items():
        for inst in block.body:
            for name in _names(inst):
                present[name].add(key)
            if isinstance(inst, ir.Assign):
                values[inst.target.name].append((key, inst.value))
                changed[inst.target.name].add(key)
            elif isinstance(inst, ir.Del):
                changed[inst.value].add(key)
    return from_arguments(values, kinds) | _within_blocks(values, changed, present, kinds)


def from_arguments(values: Mapping[str, list[Any]], kinds: Mapping[str, Any]) -> frozenset[str]:
    """Those that never have anything but arguments and parts of them."""
    found = {name for name in values if type(kinds[name]) is types.Array}
    while True:
        wrong = {
            name for name in found for _, value in values[name]
            if not isinstance(value, ir.Arg) and _owner(value, kinds) not in found
        }  # fmt: skip
        if not wrong:
            return frozenset(found)
        found -= wrong


def _within_blocks(
    values: Mapping[str, list[Any]], changed: Mapping[str, set[int]],
    present: Mapping[str, set[int]], kinds: Mapping[str, Any],
) -> frozenset[str]:  # fmt: skip
    """Those that stand in one block, where the array that they are part of stays."""
    owners: dict[str, str] = {}
    for name, several in values.items():  # in the order of the text
        if len(several) > 1 or len(present[name]) > 1 or type(kinds[name]) is not types.Array:
            continue
        key, value = several[0]
        owner = _owner(value, kinds)
        if owner is None:
            continue
        owner = owners.get(owner, owner)
        if key not in changed[owner]:
            owners[name] = owner
    return frozenset(owners)


def _owner(value: Any, kinds: Mapping[str, Any]) -> str | None:
    """The variable whose array a value is, or is a part of; None for other values."""
    if isinstance(value, ir.Var):
        return str(value.name) if type(kinds[value.name]) is types.Array else None
    if not isinstance(value, ir.Expr) or value.op not in ("getitem", "static_getitem"):
        return None
    index = value.index if value.op == "getitem" else value.index_var
    if index is None or type(kinds[value.value.name]) is not types.Array:
        return None
    kind = kinds[index.name]
    entries = getattr(kind, "types", (kind,))  # those of a tuple
    if not all(isinstance(types.unliteral(one), BASIC) for one in entries):
        return None
    return str(value.value.name)


def _names(inst: Any) -> Iterator[str]:
    if isinstance(inst, ir.Del):
        yield inst.value
    else:
        yield from [one.name for one in inst.list_vars()]
