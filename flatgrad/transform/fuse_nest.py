"""A group of array operations as a function of its own: one nest of loops over elements.

    p = x * w;  L = sum(p)        ->      def L_loop(x, w):
                                              L = 0.0
                                              for i in range(x.shape[0]):
                                                  L += x[i] * w[i]
                                              return L

Arrays that somebody reads outside are written element by element, all others are numbers. Where a
number per row (a sum over the last axes) is read by the elements of its row, the loop over a row
is followed by another one; what both need is computed again if that is cheap, else kept in an
array of one row.
"""

from __future__ import annotations

import operator
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.dims import Dim, Size, opaque
from flatgrad.ir.ops import Apply, Block, Const, Function, Operand, Origin, Slot, Value, size_of
from flatgrad.ir.types import Array, Scalar
from flatgrad.primitives.callee import Callee, function_of, unique
from flatgrad.primitives.core import REQUIRE_SOME
from flatgrad.primitives.symbolic import (
    DIM,
    REQUIRE_EQUAL,
    apply_function,
)
from flatgrad.transform.fuse_groups import Group, Member
from flatgrad.transform.fuse_loops import INDICES, Place, Variable, loop
from flatgrad.transform.fuse_phases import Phases
from flatgrad.transform.fuse_spaces import (
    PASSING,
    Form,
    Lengths,
    data_operands,
    operand_form,
    shape_operands,
)
from flatgrad.transform.fuse_writes import Sums, dtype_of, is_extreme, is_mean, is_one, start_of

EMPTY = "a maximum or minimum over no elements"


class Unbound(Exception):
    """The length of an axis cannot be found: the group stays as it is."""


def nest_of(
    group: Group, wanted: list[Value], lengths: Lengths, known: dict[Value, Const]
) -> tuple[Callee, list[Value]]:
    """The function for a group that hands out `wanted`, and the operands of its call.

    `known` are numbers from outside that are constants.

    Raises
    ------
    Unbound
        If the number of trips of one of its loops cannot be found.
    """
    writer = _Nest(group, wanted, lengths, known)
    fn = writer.function()
    return function_of(fn, nest=True), writer.outside


class _Nest(Sums):
    """Writes one nest."""

    def __init__(
        self, group: Group, wanted: list[Value], lengths: Lengths, known: dict[Value, Const]
    ) -> None:
        self.group = group
        self.known = known
        self.wanted = wanted
        self.lengths = lengths
        self.outer = group.rank - 1 if group.outer is None else group.outer
        origins = [member.op.origin for member in group.members]
        self.origin = next((one for one in origins if one.sweep == "forward"), origins[0])
        self.outside: list[Value] = []
        self.params: dict[Value, Value] = {}
        self.top = Block()
        self.builder = Builder(self.top)
        self.builder.origin = self.origin
        self.bounds: list[Operand] = []
        self.index: list[Operand] = [Const(0)] * group.rank
        self.rows = Place(self.top)
        self.cells: Place | None = None
        self.at_top = Place(self.top)
        self.arrays: dict[Value, Variable] = {}
        self.sums: dict[Value, Variable] = {}
        self.phases = Phases(group, set(wanted))
        self.phase = 0

    # The function.

    def function(self) -> Function:
        """All of it: lengths, checks, arrays, loops, results."""
        for member in self.group.members:
            for operand in self.data(member):
                inside = operand in self.group.made or operand in self.known
                if isinstance(operand, Value) and not inside and self.axis_of(operand) is None:
                    self.param(operand)
        self.bounds = [self.bound(axis) for axis in range(self.group.rank)]
        self.checks()
        for member in self.group.members:
            self.prepare(member)
        outer = [axis for axis in range(self.outer) if self.has_loop(axis)]
        loop(self, outer, [*self.arrays.values(), *self.sums.values()], self.rows_body)
        results = [self.result(value) for value in self.wanted]
        params = tuple([self.params[value] for value in self.outside])
        tree: Any = tuple([Slot(k) for k in range(len(results))])
        tree = tree if len(results) > 1 else Slot(0)
        return Function(f"{self.title()}_loop", Block(params, self.top.ops, tuple(results)), tree)

    def has_loop(self, axis: int) -> bool:
        """Whether there is a loop over the axis: its length is not 1."""
        return self.group.space[axis] != 1

    def letters(self, form: Form) -> str:
        """The indices of an element, as the end of its name: `_ij`."""
        used = [INDICES[axis] for axis in form if axis is not None and self.has_loop(axis)]
        return "_" + "".join(used) if used else ""

    def row_name(self, value: Value) -> str:
        """The name of the number that a value has for a row."""
        return f"{value.name or 'value'}{self.letters(tuple(range(self.outer)))}"

    def title(self) -> str:
        """The name of the first result, the user's and the forward ones preferred."""

        def rank(value: Value) -> tuple[bool, bool]:
            return self.group.made[value].op.origin.sweep != "forward", not value.kept

        return min(self.wanted, key=rank).name or "values"

    def data(self, member: Member) -> list[Any]:
        op = member.op
        return [op.operands[0]] if member.into else data_operands(op)

    def axis_of(self, operand: Operand) -> int | None:
        """The axis of which a number is the length; such a number need not be handed in."""
        size = size_of(operand)
        if not isinstance(size, Dim) or opaque(size) or operand in self.params:
            return None
        return next((k for k, own in enumerate(self.group.space) if own == size), None)

    def param(self, value: Value) -> Value:
        """The parameter for a value from outside."""
        made = self.params.get(value)
        if made is None:
            taken = [v.name or "value" for v in self.params.values()]
            name = unique([*taken, value.name or "value"])[-1]
            made = self.params[value] = Value(value.type, name, kept=True)
            self.outside.append(value)
        return made

    # Lengths.

    def bound(self, axis: int) -> Operand:
        """The number of trips over an axis."""
        size = self.group.space[axis]
        if isinstance(size, int):
            return Const(size)
        for value in [*self.outside]:
            for k, own in enumerate(value.type.shape):
                if own == size:
                    return self.make(DIM, self.symbol(self.params[value]), k)
        for value in [*self.outside]:
            for k, own in enumerate(value.type.shape):
                if self.lengths.equal(own, size):
                    return self.make(DIM, self.symbol(self.params[value]), k)
        for member in self.group.members:
            for _, given in shape_operands(member.op):
                length = size_of(given)
                if isinstance(given, Value) and length and self.lengths.equal(length, size):
                    return self.param(given)
        raise Unbound

    def checks(self) -> None:
        """Refuse arrays whose lengths do not fit, where their types alone do not say that they do.

        The nest reads them without looking at their bounds.
        """
        for value, used in self.uses():
            for k, axis in enumerate(used):
                own = value.type.shape[k]
                if axis is None or own == self.group.space[axis]:
                    continue
                length = self.make(DIM, self.symbol(self.params[value]), k)
                message = "operands could not be broadcast together"
                left, right = self.symbol(length), self.symbol(self.bounds[axis])
                apply_function(REQUIRE_EQUAL, (left, right, message), {}, self.builder)

    def uses(self) -> list[tuple[Value, Form]]:
        """The arrays that are read, and by which indices; each pair once."""
        found: dict[tuple[Value, Form], None] = {}
        for member in self.group.members:
            for operand, form in self.operand_forms(member):
                if operand in self.params and operand.type.ndim:
                    found[operand, form] = None
        return list(found)

    def operand_forms(self, member: Member) -> list[tuple[Any, Form]]:
        if member.into:
            return [(member.op.operands[0], member.source)]
        forms = []
        for operand in data_operands(member.op):
            form = operand_form(member.op, operand, member.form, self.lengths)
            assert form is not None
            forms.append((operand, form))
        return forms

    # Variables: arrays that are filled, sums that grow.

    def prepare(self, member: Member) -> None:
        """What must exist before the loops: an array to fill, or a sum to add to."""
        value = member.op.result
        if member.into is not None:
            self.nonempty(member)
        if member.into in ("total", "array"):
            self.sums[value] = self.accumulator(member)
        elif value in self.wanted:
            self.arrays[value] = self.array(value, member.form, value.name)
        elif value in self.phases.stored:
            inner = tuple(range(self.outer, self.group.rank))
            self.arrays[value] = self.array(value, inner, f"{value.name or 'value'}_row")

    def array(self, value: Value, form: Form, name: str | None) -> Variable:
        """An empty array with the lengths of these axes."""
        dtype = value.type.dtype
        keywords = {} if dtype == "float64" else {"dtype": np.dtype(dtype).type}
        made = apply_function(np.empty, (self.shape(form),), keywords, self.builder).value
        made.type = Array(dtype, tuple(map(self.size, form)))
        made.name, made.kept = name, value.kept
        return Variable(made, form, made)

    def shape(self, form: Form) -> tuple[Any, ...]:
        """The lengths of these axes as they are written."""
        return tuple([1 if axis is None else self.symbol(self.bounds[axis]) for axis in form])

    def size(self, axis: int | None) -> Size:
        return 1 if axis is None else self.group.space[axis]

    def accumulator(self, member: Member) -> Variable:
        """A sum in float64, or the largest element so far."""
        dtype, start, name = dtype_of(member), start_of(member), self.sum_name(member)
        if member.into == "total":
            kept = member.op.result.kept
            return Variable(Const(start), (), Value(Scalar(dtype), name, kept=kept))
        keywords = {} if dtype == "float64" else {"dtype": np.dtype(dtype).type}
        shape = self.shape(member.form)
        create, given = (np.full, (shape, start)) if start else (np.zeros, (shape,))
        made = apply_function(create, given, keywords, self.builder).value
        made.type = Array(dtype, tuple(map(self.size, member.form)))
        made.name, made.kept = name, member.op.result.kept
        return Variable(made, member.form, made)

    def sum_name(self, member: Member) -> str | None:
        name = member.op.result.name
        narrow = member.op.result.type.dtype != dtype_of(member)
        return f"{name or 'value'}_total" if narrow or is_mean(member) else name

    def nonempty(self, member: Member) -> None:
        """A maximum of nothing is refused, as by NumPy."""
        if not is_extreme(member):
            return
        for axis in self.reduced(member):
            length = self.bounds[axis]
            if not (isinstance(length, Const) and length.value > 0):
                apply_function(REQUIRE_SOME, (self.symbol(length), EMPTY), {}, self.builder)

    # Loops.

    def rows_body(self) -> None:
        """What happens for one row: numbers of the row, and loops over its elements in turn."""
        self.rows = Place(self.builder.block)
        inner = [axis for axis in range(self.outer, self.group.rank) if self.has_loop(axis)]
        for phase in range(self.phases.count + 1):
            self.phase = phase
            for member in self.phases.at_row(phase):
                self.member(member)
            cells = self.phases.at_cells(phase)
            changed = [v for member in cells for v in self.changed(member)]
            if changed:
                loop(self, inner, changed, partial(self.cells_body, cells))
            self.cells = None
            for member in cells:
                if member.into == "row":
                    self.end_of_row(member)

    def changed(self, member: Member) -> list[Variable]:
        """What a member in the loop over a row writes; the sum of a row begins here."""
        value = member.op.result
        if member.into == "row":
            model = Value(Scalar(dtype_of(member)), self.row_name(value), kept=value.kept)
            self.sums[value] = Variable(Const(start_of(member)), (), model)
        held = self.sums if member.into else self.arrays
        return [held[value]] if value in held else []

    def cells_body(self, cells: list[Member]) -> None:
        self.cells = Place(self.builder.block)
        for member in cells:
            self.member(member)

    def end_of_row(self, member: Member) -> None:
        """The number of the row is complete."""
        value = member.op.result
        self.builder.origin = self.at(member)
        done = self.finished(member, self.sums[value].current, self.row_name(value))
        self.rows.elements[value] = done
        if value in self.arrays:
            self.write(self.arrays[value], done)

    # Elements.

    def member(self, member: Member) -> None:
        """Compute the element that the operation makes, and put it where it is wanted."""
        value = member.op.result
        self.builder.origin = self.at(member)
        if member.into is not None:
            source = self.element(member.op.operands[0], member.source)
            self.accumulate(member, self.sums[value], source)
            return
        element = self.computed(member)
        if value in self.arrays:
            self.write(self.arrays[value], element)

    def at(self, member: Member) -> Origin:
        """Where an operation comes from; a nest as a whole belongs to one sweep."""
        return replace(member.op.origin, sweep=self.origin.sweep)

    def computed(self, member: Member) -> Operand:
        """The element of a map; once in each body of a loop."""
        place = self.rows if member.is_row else self.cells
        assert place is not None
        value = member.op.result
        if value not in place.elements:
            forms = self.operand_forms(member)
            operands = [self.element(operand, form) for operand, form in forms]
            place.elements[value] = self.scalar(member, operands, place)
        return place.elements[value]

    def scalar(self, member: Member, operands: list[Operand], place: Place) -> Operand:
        op, result = member.op, member.op.result
        if op.primitive.function in PASSING:
            return operands[0]
        if op.primitive.operator == "*":
            for one, other in (operands, operands[::-1]):
                if is_one(one) and other.type.dtype == result.type.dtype:
                    return other
        axes = tuple(range(self.outer if member.is_row else self.group.rank))
        name = f"{result.name or 'value'}{self.letters(axes)}"
        kept = result.kept and result not in self.arrays
        made = Value(Scalar(result.type.dtype), name, kept=kept, part=result.part)
        place.block.ops.append(
            Apply(op.primitive, tuple(operands), op.arguments, (made,), self.at(member))
        )
        return made

    def element(self, operand: Operand, form: Form) -> Operand:
        """The element of an operand that stands at the indices of the nest."""
        if isinstance(operand, Const) or operand in self.known:
            return operand if isinstance(operand, Const) else self.known[operand]
        maker = self.group.made.get(operand)
        if maker is None:
            axis = self.axis_of(operand)
            return self.read(operand, form) if axis is None else self.bounds[axis]
        if maker.into is not None:
            return self.rows.elements[operand]
        if not maker.is_row and operand in self.arrays and self.phases.phase[operand] < self.phase:
            return self.read_back(operand)
        return self.computed(maker)

    def read(self, value: Value, form: Form) -> Operand:
        """An element of an array from outside; numbers are what they are."""
        param = self.param(value)
        if not isinstance(value.type, Array):
            return param
        used = [axis for axis in form if axis is not None and self.has_loop(axis)]
        inner = any(axis >= self.outer for axis in used)
        place = self.cells if inner else self.rows if used else self.at_top
        assert place is not None
        if (value, form) not in place.elements:
            source, rest = self.row_view(param, form) if inner else (param, form)
            name = f"{param.name}{self.letters(form)}"
            place.elements[value, form] = self.get(place, source, rest, name)
        return place.elements[value, form]

    def row_view(self, param: Value, form: Form) -> tuple[Value, Form]:
        """The row of an array, taken before the loop over it: `x_row = x[i]`."""
        count = next(k for k, axis in enumerate(form) if axis is not None and axis >= self.outer)
        leading = form[:count]
        if not self.letters(leading):
            return param, form
        if (param, leading) not in self.rows.elements:
            name = f"{param.name}_row"
            self.rows.elements[param, leading] = self.get(self.rows, param, leading, name)
        row = self.rows.elements[param, leading]
        assert isinstance(row, Value)
        return row, form[count:]

    def get(self, place: Place, source: Value, form: Form, name: str) -> Value:
        with self.builder.inside(place.block):
            index = self.indices(form)
            return self.make(operator.getitem, self.symbol(source), index, name=name)

    def read_back(self, value: Value) -> Operand:
        """An element that an earlier loop over the row has left in an array."""
        assert self.cells is not None
        if value not in self.cells.elements:
            variable = self.arrays[value]
            assert isinstance(variable.current, Value)
            name = f"{value.name or 'value'}{self.letters(tuple(range(self.group.rank)))}"
            found = self.get(self.cells, variable.current, variable.form, name)
            self.cells.elements[value] = found
        return self.cells.elements[value]
