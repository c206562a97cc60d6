"""What a nest writes: elements of arrays, sums and maxima that grow.

    out[i, j] = value;  total = plus(total, x_i);  out[j] += x_ij
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from functools import reduce
from typing import Any

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Apply, Const, Operand, Origin, Slot, Value
from flatgrad.ir.types import Scalar
from flatgrad.primitives.core import ASTYPE, PLUS
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.primitives.registry import Primitive, lookup
from flatgrad.primitives.symbolic import Symbol, apply_function, operand_of
from flatgrad.transform.fuse_groups import Group, Member
from flatgrad.transform.fuse_loops import Variable
from flatgrad.transform.fuse_spaces import Form, reduced_axes

EXTREMES = (np.max, np.min)


def dtype_of(member: Member) -> str:
    """The dtype in which a reduction is computed: sums of float32 are taken in float64."""
    own = str(member.op.result.type.dtype)
    return "float64" if own == "float32" and not is_extreme(member) else own


def start_of(member: Member) -> float:
    """What a reduction starts from."""
    if is_extreme(member):
        return -np.inf if member.op.primitive.function is np.max else np.inf
    return 0 if dtype_of(member) == "int64" else 0.0


def is_extreme(member: Member) -> bool:
    return member.op.primitive.function in EXTREMES


def is_one(operand: Operand) -> bool:
    return isinstance(operand, Const) and operand.value == 1 and operand.type.dtype != "bool"


def is_mean(member: Member) -> bool:
    return member.into is not None and member.op.primitive.function is np.mean


class Sums:
    """The part of a nest that writes."""

    builder: Builder
    group: Group
    index: list[Operand]
    bounds: list[Operand]
    arrays: dict[Value, Variable]
    sums: dict[Value, Variable]
    origin: Origin

    def symbol(self, value: Any) -> Any:
        return Symbol(value, self.builder) if isinstance(value, Value) else value.value

    def make(self, function: Callable[..., Any], *args: Any, name: str | None = None) -> Value:
        """One call in the block that is being written."""
        made: Value = apply_function(function, args, {}, self.builder).value
        made.name = name or made.name
        return made

    def indices(self, form: Form) -> Any:
        index = tuple(0 if axis is None else self.symbol(self.index[axis]) for axis in form)
        return index[0] if len(index) == 1 else index

    def write(self, variable: Variable, value: Operand) -> None:
        """`out[i, j] = value`."""
        self.replaced(variable, SET_ITEM, value)

    def replaced(self, variable: Variable, function: Callable[..., Any], value: Operand) -> None:
        """The next version of an array, with another element."""
        given = (self.symbol(variable.current), self.symbol(value), self.indices(variable.form))
        made = apply_function(function, given, {}, self.builder).value
        made.type, made.name, made.kept = variable.model.type, variable.model.name, True
        variable.current = made

    def accumulate(self, member: Member, variable: Variable, element: Operand) -> None:
        """`total += element`; a maximum keeps a NaN, as NumPy's does."""
        working = dtype_of(member)
        if element.type.dtype != working:
            element = self.make(ASTYPE, self.symbol(element), np.dtype(working).type)
        if is_extreme(member):
            self.extreme(member, variable, element)
        elif variable.form:
            self.replaced(variable, ADD_ITEM, element)
        else:
            old = variable.current
            self.next_number(variable, PLUS, old, element)

    def next_number(
        self, variable: Variable, function: Callable[..., Any], *operands: Operand
    ) -> None:
        """The next version of a number."""
        primitive = lookup(function)
        assert isinstance(primitive, Primitive)
        arguments = {name: Slot(k) for k, name in enumerate(primitive.operand_names)}
        made = variable.version()
        self.builder.block.ops.append(
            Apply(primitive, operands, arguments, (made,), self.builder.origin)
        )

    def extreme(self, member: Member, variable: Variable, element: Operand) -> None:
        """`where(x > m or x != x, x, m)`."""
        old: Any = self.symbol(variable.current)
        if variable.form:
            old = old[self.indices(variable.form)]
        x: Any = self.symbol(element)
        compare = operator.gt if member.op.primitive.function is np.max else operator.lt
        better = apply_function(compare, (x, old), {}, self.builder)
        invalid = apply_function(operator.ne, (x, x), {}, self.builder)
        either = apply_function(operator.or_, (better, invalid), {}, self.builder)
        if not variable.form:
            self.next_number(variable, np.where, either.value, element, operand_of(old))
            return
        chosen = apply_function(np.where, (either, x, old), {}, self.builder)
        chosen.value.type = Scalar(dtype_of(member))
        self.write(variable, chosen.value)

    # Results.

    def result(self, value: Value) -> Operand:
        """What the function hands out for a value of the group."""
        member = self.group.made[value]
        if member.into not in ("total", "array"):
            return self.arrays[value].current
        done = self.finished(member, self.sums[value].current, value.name)
        if done.type.ndim == value.type.ndim:
            return done
        ones = (1,) * value.type.ndim  # a total that keeps its axes
        dtype = value.type.dtype
        keywords = {} if dtype == "float64" else {"dtype": np.dtype(dtype).type}
        made = apply_function(np.full, (ones, self.symbol(done)), keywords, self.builder).value
        made.name = value.name
        return made

    def finished(self, member: Member, total: Operand, name: str | None) -> Operand:
        """The result of a reduction in its own dtype, divided by how many elements it took."""
        value = total
        if is_mean(member):
            lengths = [self.symbol(self.bounds[axis]) for axis in self.reduced(member)]
            count = reduce(operator.mul, lengths) if lengths else 1
            value = self.make(operator.truediv, self.symbol(value), count, name=name)
        dtype = member.op.result.type.dtype
        if dtype != dtype_of(member):
            value = self.make(ASTYPE, self.symbol(value), np.dtype(dtype).type, name=name)
        return value

    def reduced(self, member: Member) -> list[int]:
        """The axes of the nest over which a reduction goes."""
        form = member.source
        axes = [form[k] for k in reduced_axes(member.op)]
        return [axis for axis in axes if axis is not None]
