"""Which numbers of a nest are proportional to its seeds.

    for i in range(n):                          seeds: grad_total
        w = np.exp(-x[i])                       0: w does not depend on it
        grad_w = grad_total * w                 1: twice the seed is twice as much
        grad_x[i] += -grad_w

In a backward sweep that is true of all adjoints. A nest in which something else is done with them,
a square or a comparison, is not homogeneous.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

from flatgrad.analysis.activity import slots
from flatgrad.analysis.dependence import LENGTHS
from flatgrad.analysis.nests import Nest
from flatgrad.analysis.threads import base_of, value_of
from flatgrad.ir.ops import Apply, Block, Const, For, If, Operand, Value
from flatgrad.primitives.core import ASTYPE, IDENTITY, PLUS
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM

SUMS = (operator.add, operator.sub, operator.neg, operator.pos, IDENTITY, PLUS, ASTYPE)
"""What has the degree of all its operands."""


class Mixed(Exception):
    """Something is neither independent of the seeds nor proportional to them."""


class Degrees:
    """The degree of each value of a nest, 0 or 1; of 0.0, which is both, none is kept.

    Arrays and sums have one for all their versions. Raises Mixed.
    """

    def __init__(self, nest: Nest, seeds: Iterable[Value]) -> None:
        self.nest = nest
        self.found: dict[Any, int] = dict.fromkeys(seeds, 1)
        self.note(nest.index, 0)
        for init, param, _, _ in slots(nest.loop):
            if self.key(param) is param and param not in nest.sums:
                self.note(param, self.of(init))
        before = -1
        while before != len(self.found):
            before = len(self.found)
            self.block(nest.loop.body)

    def key(self, operand: Operand) -> Any:
        """What has a degree: an array through all its versions, a sum, a number."""
        nest = self.nest
        if operand in nest.views:
            operand = nest.views[operand].base
        if operand in nest.threads:
            return nest.threads[operand]
        return nest.sums.get(operand, operand)  # type: ignore[arg-type]

    def of(self, operand: Operand) -> int | None:
        """The degree; None of what is 0 so far as is known."""
        if isinstance(operand, Const):
            return None if operand.value == 0 else 0
        key = self.key(operand)
        inside = operand in self.nest.inside or key is not operand
        return self.found.get(key, None if inside else 0)

    def note(self, value: Value, degree: int | None) -> None:
        key = self.key(value)
        if degree is None:
            return
        if self.found.setdefault(key, degree) != degree:
            raise Mixed

    def block(self, block: Block) -> None:
        for op in block.ops:
            match op:
                case Apply():
                    self.apply(op)
                case If():
                    self.independent((op.condition,))
                    self.block(op.then)
                    self.block(op.orelse)
                    rows = zip(op.results, op.then.yields, op.orelse.yields, strict=True)
                    for result, *items in rows:
                        self.note(result, self.common(items))
                case For():
                    self.note(op.body.params[0], 0)
                    for init, param, _, _ in slots(op):
                        self.note(param, self.of(init))
                    self.block(op.body)
                    for _, param, item, result in slots(op):
                        self.note(param, self.of(item))
                        self.note(result, self.of(param))
                case _:
                    raise Mixed

    def independent(self, operands: Iterable[Operand]) -> None:
        if any(self.of(operand) == 1 for operand in operands):
            raise Mixed

    def common(self, operands: Iterable[Operand]) -> int | None:
        """The degree of a sum."""
        degrees = {self.of(operand) for operand in operands} - {None}
        if len(degrees) > 1:
            raise Mixed
        return degrees.pop() if degrees else None

    def apply(self, op: Apply) -> None:
        function = op.primitive.function
        if function in LENGTHS:
            self.note(op.result, 0)
        elif function in (np.empty, np.zeros):
            return
        elif function is operator.getitem:
            base = base_of(op)
            self.independent(one for one in op.operands if one is not base)
            if op.result not in self.nest.views:
                self.note(op.result, self.of(base))
        elif function in (SET_ITEM, ADD_ITEM):
            value = value_of(op)
            self.independent(one for one in op.operands if one not in (value, base_of(op)))
            self.note(op.result, self.of(value))
        elif function in SUMS and op.result.type.dtype.startswith("float"):
            self.note(op.result, self.common(op.operands))
        else:
            self.note(op.result, self.product(op))

    def product(self, op: Apply) -> int | None:
        """The degree of anything but a sum."""
        function, operands = op.primitive.function, op.operands
        if function is operator.mul:
            degrees = [self.of(operand) for operand in operands]
            if degrees.count(1) > 1:
                raise Mixed
            return None if None in degrees else max(degrees)  # type: ignore[type-var]
        if function is operator.truediv:
            self.independent(operands[1:])
            return self.of(operands[0])
        if function is np.where:
            self.independent(operands[:1])
            return self.common(operands[1:])
        self.independent(operands)
        return 0
