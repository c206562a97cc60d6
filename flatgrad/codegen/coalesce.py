"""Which values share one variable of the text (out of SSA form).

    y0 = 1.0;  for: y1 = phi(y0, y2);  y2 = y1 * x       ->      y = 1.0
                                                                 for ...:
                                                                     y = y * x

Values are merged only if they do not interfere: none is defined where another is still read. What
cannot be merged is assigned: at the start of a loop, at the end of its body or of a branch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from flatgrad.codegen.buffers import Buffers, written_operand
from flatgrad.codegen.liveness import Liveness
from flatgrad.ir.ops import (
    Apply,
    Block,
    For,
    Function,
    If,
    Op,
    Operand,
    Value,
    While,
    blocks_of,
    operands_of,
)


@dataclass(slots=True, eq=False)
class Variable:
    """The values that share a name: those live at their definitions must not be among them."""

    values: list[Value]
    members: int
    at_def: int

    @property
    def head(self) -> Value:
        """The value that gives the name: the first of the user's, else the last version."""
        kept = [value for value in self.values if value.kept and value.name]
        named = [value for value in self.values if value.name]
        return kept[0] if kept else named[-1] if named else self.values[0]


class Variables:
    """The variable of every value that is not written inside an expression."""

    def __init__(self, fn: Function, live: Liveness, buffers: Buffers) -> None:
        self.live = live
        self.variable: dict[Value, Variable] = {}
        for value in live.values:
            at_def = live.at_def[value]
            self.variable[value] = Variable([value], live.bits[value], at_def)
        ops = list(_inner_first(fn.body))
        self._reserve_copies(ops, buffers)
        for op in ops:
            self._same(op, buffers)
        structured = [op for op in ops if not isinstance(op, Apply)]
        self.apart = 0
        for op in structured:
            for one, other in _wishes(op):
                if not (self.same_name(one, other) and self.merge(one, other)):
                    self.apart += isinstance(other, Value) and other not in live.inline
        if structured:
            self._reuse_names()

    def of(self, operand: Operand) -> Variable | None:
        """The variable in which an operand stands, if it stands in one."""
        return self.variable.get(operand) if isinstance(operand, Value) else None

    def _reserve_copies(self, ops: list[Op], buffers: Buffers) -> None:
        """Where a write starts with a copy, the copy is made before the value is read."""
        for op in ops:
            base = written_operand(op)
            if isinstance(op, Apply) and base is not None and op not in buffers.in_place:
                read = self.live.read(o for o in op.operands if o is not base)
                variable = self.variable[op.result]
                variable.at_def |= read & ~self.live.bits[base]

    def _same(self, op: Op, buffers: Buffers) -> None:
        """What must be one variable: versions written in place, a loop's variable and its result.

        These never interfere: the older is dead, or exists at another time.
        """
        match op:
            case Apply():
                base = written_operand(op) or op.operands[0] if op.operands else None
                if isinstance(base, Value) and op in buffers.in_place:
                    self._join(base, op.result)
            case For():
                for param, result in zip(op.body.params[1:], op.results, strict=True):
                    self._join(param, result)
            case While():
                carried = zip(op.body.params, op.condition.params, op.results, strict=True)
                for param, seen, result in carried:
                    self._join(param, seen)
                    self._join(param, result)

    def _join(self, one: Value, other: Value) -> None:
        kept, gone = self.variable[one], self.variable[other]
        if kept is gone:
            return
        kept.values = sorted(kept.values + gone.values, key=self.live.bits.__getitem__)
        kept.members |= gone.members
        kept.at_def |= gone.at_def
        for value in gone.values:
            self.variable[value] = kept

    def same_name(self, one: Operand, other: Operand) -> bool:
        """Whether the user calls both the same; what has no name takes any."""
        labels = {self._base(v.head) for v in (self.of(one), self.of(other)) if v and v.head.kept}
        return len(labels) < 2

    def merge(self, one: Operand, other: Operand) -> bool:
        """Put two values in one variable if that is right."""
        first, second = self.of(one), self.of(other)
        if first is None or second is None or first is second:
            return first is second and first is not None
        if first.at_def & second.members or second.at_def & first.members:
            return False
        if _kind(first.values[0]) != _kind(second.values[0]):
            return False
        self._join(first.values[0], second.values[0])
        return True

    def _reuse_names(self) -> None:
        """Inside loops and branches a name is used again where the user's program does so."""
        by_name: dict[object, list[Variable]] = {}
        for value in self.live.values:
            variable = self.variable[value]
            known = by_name.setdefault(self._base(value), [])
            if value.name is None or variable in known:
                continue
            nested = self.live.depth[value] > 0
            if nested and any(self.merge(other.values[0], value) for other in known):
                continue
            known.append(variable)

    def _base(self, value: Value) -> object:
        """What a variable is named after: an adjoint after the variable of its primal."""
        if value.of is None or value.of[1] not in self.variable:
            return value.name
        prefix, primal = value.of
        return prefix, id(self.variable[primal])


def _kind(value: Value) -> tuple[str, int]:
    return value.type.dtype, value.type.ndim


def _inner_first(block: Block) -> Iterator[Op]:
    for op in block.ops:
        for inner in blocks_of(op):
            yield from _inner_first(inner)
        yield op


def _wishes(op: Op) -> Iterator[tuple[Operand, Operand]]:
    """Pairs that save an assignment if they share a variable, the most frequent first."""
    match op:
        case If():
            yield from zip(op.results, op.then.yields, strict=True)
            yield from zip(op.results, op.orelse.yields, strict=True)
        case For() | While():
            params = op.body.params[1:] if isinstance(op, For) else op.body.params
            yield from zip(params, op.body.yields[int(op.exits) :], strict=True)
            yield from zip(params, op.inits, strict=True)


def yields_written_late(block: Block, inline: set[Value], variables: Variables) -> set[Value]:
    """Values that only become a variable's next: `a, b = b, a + b` needs no name for the sum.

    Nothing that could change what they read may stand between them and the end of the block.
    """
    found: set[Value] = set()
    for op in _inner_first(block):
        if not isinstance(op, For | While):
            continue
        yields = op.body.yields[int(op.exits) :]
        params = op.body.params[1:] if isinstance(op, For) else op.body.params
        targets = dict(zip(yields, params, strict=True))
        once = {item for item in yields if op.body.yields.count(item) == 1}
        reads = [o for one in _inner_first(op.body) for o in _read_by(one)]
        for last in reversed(op.body.ops):
            if not isinstance(last, Apply) or last.primitive.in_place or last.primitive.effect:
                break
            if len(last.results) != 1 or last.result not in once or last.result in reads:
                continue
            target = targets[last.result]
            named = not last.result.kept or last.result.name == target.name
            if named and variables.of(last.result) is not variables.of(target):
                found.add(last.result)
    return found - inline


def _read_by(op: Op) -> list[Operand]:
    return [*operands_of(op), *[item for inner in blocks_of(op) for item in inner.yields]]
