"""Whether a product and a sum may be one instruction in the functions of strips.

    y = y + q * x            contracted: rounded once
    main[c] = 0.5 * y
    largest = max(largest, main[c])
    grad_c = grad_largest * (main[c] == largest)       the same number, stored once: still equal
    s = s + exp(main[c] - largest)                     above zero, however y was rounded
    total = largest + log(s)

In a function in which all is smooth they may be anyway (`contracting.py`). Here something is not;
what is contracted is followed through rows, loops and functions. Nothing may be decided by it, but
for largest and smallest elements; these are found again by an equality, whose two sides must be
copies of what one operation has made, so that it is computed once. So they must be in the same
function as the extreme, which those of a backward half are not. And it must not come to a root, a
logarithm or under a fraction as a difference that may be 0: an exponential on the way ends that.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Iterator

from flatgrad.codegen.contracting import SMOOTH, is_smooth
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Function,
    If,
    Op,
    Operand,
    Value,
    While,
    blocks_of,
    called_functions,
)
from flatgrad.primitives.index import SET_ITEM

SUMS = frozenset({"add", "sub", "plus", "add_item"})
COPIES = frozenset("identity float float64 astype copy ascontiguousarray".split())  # noqa: SIM905
EXTREMES = frozenset({"maximum", "minimum"})
CHOICES = EXTREMES | {"where"}
EQUALITIES = frozenset({"eq", "ne"})
POSITIVE = frozenset({"exp", "exp2"})
NEW = frozenset({"empty", "empty_like"})
INDIFFERENT = frozenset("isfinite dim size empty_like zeros_like".split())  # noqa: SIM905
"""Functions of the shape, and one that a rounding does not change."""


def may_contract_apart(fn: Function) -> bool:
    """Whether the loops over strips of a function may be contracted."""
    callees = called_functions(fn.body)
    if not _holds_strips(fn.body) or any(_holds_strips(one.body.body) for one in callees):
        return False
    flow = _Flow(fn)
    sums = {op.result for op in flow.apart if flow.may_be_contracted(op)}
    anywhere = flow.reached(sums, frozenset())
    near = flow.reached(sums, POSITIVE)
    return all(flow.is_right(op, anywhere, near) for op in flow.ops)


class _Flow:
    """What goes where in a function; `copied` are the values of which a value may be a copy."""

    def __init__(self, fn: Function) -> None:
        self.ops: list[Op] = []
        self.apart: list[Apply] = []
        self.copied: dict[Value, list[Operand]] = {}
        self.made: dict[Value, Apply] = {}
        self.equalities: list[set[Operand]] | None = None
        self.block(fn.body, inside=False)

    def block(self, block: Block, *, inside: bool) -> None:
        for op in block.ops:
            self.ops.append(op)
            for inner in blocks_of(op):
                self.block(inner, inside=inside or (isinstance(op, For) and op.apart))
            if isinstance(op, Apply):
                self.call(op)
                if inside and op.primitive.name in SUMS and _is_float(op.result):
                    self.apart.append(op)
            elif isinstance(op, If):
                for result, *items in zip(
                    op.results, op.then.yields, op.orelse.yields, strict=True
                ):
                    self.copied[result] = items
            else:
                for init, param, item, result in _carried(op):
                    self.copied[param] = self.copied[result] = [init, item]
                if isinstance(op, While):
                    for seen, param in zip(op.condition.params, op.body.params, strict=True):
                        self.copied[seen] = [param]

    def call(self, op: Apply) -> None:
        name = op.primitive.name
        for result in op.results:
            self.made[result] = op
            if op.primitive.function is operator.getitem:
                self.copied[result] = [op.operands[op.arguments["x"].index]]
            elif op.primitive.function is SET_ITEM:
                slots_of = (op.arguments[op.primitive.in_place], op.arguments["value"])
                self.copied[result] = [op.operands[slot.index] for slot in slots_of]
            elif name in COPIES or name in CHOICES:
                self.copied[result] = list(op.operands)
            elif name in NEW:
                self.copied[result] = []

    def origins(self, operand: Operand) -> set[Operand]:
        """The values, computed or given, of which an operand may be a copy."""
        found: set[Operand] = set()
        seen: set[Operand] = set()
        left = [operand]
        while left:
            one = left.pop()
            if one in seen:
                continue
            seen.add(one)
            made = self.made.get(one) if isinstance(one, Value) else None
            if isinstance(one, Value) and one in self.copied:
                left += self.copied[one]
                continue
            if made is not None and made.primitive.in_place is not None:
                left.append(made.operands[made.arguments[made.primitive.in_place].index])
            if _is_float(one) and not (isinstance(one, Const) and math.isinf(one.value)):
                found.add(one)
        return found

    def origins_of(self, op: Apply) -> set[Operand]:
        """Those of all operands of an operation."""
        return set().union(*map(self.origins, op.operands))

    def compared(self, anywhere: set[Value]) -> list[set[Operand]]:
        """The origins of what equalities compare: an extreme is found again in this function."""
        if self.equalities is None:
            calls = [op for op in self.ops if isinstance(op, Apply)]
            tests = [op for op in calls if op.primitive.name in EQUALITIES]
            self.equalities = [
                self.origins_of(op) for op in tests if anywhere & _values(op.operands)
            ]
        return self.equalities

    def may_be_contracted(self, op: Apply) -> bool:
        """Whether a sum may have a product as its term."""
        for operand in op.operands:
            for one in self.origins(operand):
                made = self.made.get(one) if isinstance(one, Value) else None
                if made is not None and made.primitive.name in ("mul", "neg", "square"):
                    return True
        return False

    def reached(self, first: set[Value], ends: frozenset[str]) -> set[Value]:
        """What depends on values; not behind functions of these names."""
        found = set(first)
        before = -1
        while before != len(found):
            before = len(found)
            for op in self.ops:
                if isinstance(op, Apply):
                    ended = op.primitive.name in ends | INDIFFERENT
                    if not ended and any(operand in found for operand in op.operands):
                        found.update(op.results)
            for value, sources in self.copied.items():
                if value not in found and any(one in found for one in sources):
                    made = self.made.get(value)
                    if made is None or made.primitive.name not in ends:
                        found.add(value)
        return found

    def is_right(self, op: Op, anywhere: set[Value], near: set[Value]) -> bool:
        """Whether an operation does the same, or as good as, with what is contracted."""
        if isinstance(op, If):
            return op.condition not in anywhere
        if isinstance(op, While):
            return not anywhere & _values(op.condition.yields)
        if isinstance(op, For):
            flags = op.body.yields[:1] if op.exits else ()
            return not anywhere & _values((op.start, op.stop, op.step, *flags))
        name, given = op.primitive.name, _values(op.operands)
        if not given & anywhere:
            return True
        if op.primitive.body is not None:
            return is_smooth(op.primitive.body.body)
        if name in EQUALITIES:
            return len(self.origins_of(op)) == 1
        if name in EXTREMES and self.origins_of(op) not in self.compared(anywhere):
            return False
        if name in SMOOTH | CHOICES | INDIFFERENT:
            return True
        if name == "truediv":
            return op.operands[1] not in near
        return name == "log" and not given & near


def _carried(op: For | While) -> Iterator[tuple[Operand, Value, Operand, Value]]:
    """What a loop starts from, has, hands on and leaves, by variable."""
    params = op.body.params[len(op.body.params) - len(op.inits) :]
    items = op.body.yields[len(op.body.yields) - len(op.inits) :]
    return zip(op.inits, params, items, op.results, strict=True)


def _holds_strips(block: Block) -> bool:
    return any(
        (isinstance(op, For) and op.apart) or any(map(_holds_strips, blocks_of(op)))
        for op in block.ops
    )


def _values(operands: tuple[Operand, ...]) -> set[Value]:
    return {one for one in operands if isinstance(one, Value)}


def _is_float(operand: Operand) -> bool:
    return operand.type.dtype.startswith("float")
