"""What a name that holds an array refers to: a buffer, or a view of one.

    b = a            # the same buffer: writing through one is seen through the other
    v = a[1:]        # a view: reads and writes go to a
    c = a * 2        # a buffer of its own

A buffer has one current version, an SSA value; a write makes the next. What cannot be followed (a
`reshape` that may or may not have copied) is refused when one of the two is read after the other
was written.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flatgrad.errors import error
from flatgrad.hooks import stop_gradient
from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Slot, Value, substitute
from flatgrad.primitives.index import SET_ITEM, has_duplicates, is_advanced, is_mask
from flatgrad.primitives.rearrange import DIAGONAL
from flatgrad.primitives.registry import Primitive
from flatgrad.primitives.symbolic import Symbol, apply_function, symbol_of

SURE = frozenset(
    {operator.getitem, np.transpose, np.swapaxes, np.expand_dims, np.squeeze, np.broadcast_to,
     np.moveaxis, np.flip, np.diagonal, DIAGONAL, stop_gradient}
)  # fmt: skip
"""View functions that never copy; of others it is unknown."""


@dataclass(eq=False, slots=True)
class Buffer:
    """One piece of memory: its current version, and how often it was written.

    `fixed` says why it may not be written; `lost` why its content is no longer known. `shares`
    are buffers that stand for the same memory on some path: a write to one loses the others.
    """

    current: Symbol
    writes: int = 0
    fixed: str | None = None
    lost: str | None = None
    shares: set[Buffer] = field(default_factory=set)

    def may_share(self, others: set[Buffer]) -> None:
        """This may be the memory of `others`, or of what those may share."""
        found = set().union(*[{other, *other.shares} for other in others]) - {self}
        self.shares |= found
        for other in found:
            other.shares.add(self)
            self.fixed = self.fixed or other.fixed

    def wrote(self) -> None:
        """Count a write; what may share the memory is not known any more."""
        self.writes += 1
        for other in self.shares:
            other.writes += 1
            other.lost = "what may share its memory was written"


@dataclass(frozen=True, slots=True)
class Step:
    """How a view is taken of what it views; `sure` unless NumPy may have copied."""

    primitive: Primitive
    arguments: dict[str, Any]
    sure: bool


@dataclass(eq=False, slots=True)
class Ref:
    """A buffer seen through the steps of a view (none: the buffer itself)."""

    buffer: Buffer
    steps: tuple[Step, ...] = ()
    cached: Symbol | None = None
    seen: int = field(default=0)

    @property
    def sure(self) -> bool:
        """Whether this certainly shares the memory of the buffer."""
        return all(step.sure for step in self.steps)

    @property
    def latest(self) -> Symbol:
        """The content when it was last known; for names and types, not for its value."""
        return self.buffer.current if self.cached is None else self.cached

    def read(self) -> Symbol:
        """The present content as an SSA value.

        Raises
        ------
        UnsupportedError
            If the memory was written since and it is unknown whether this shares it.
        """
        if self.steps and self.cached is not None and self.seen == self.buffer.writes:
            return self.cached
        if self.buffer.lost or not self.sure:
            raise self._unknown()
        symbol = self.buffer.current
        for step in self.steps:
            symbol = _take(symbol, step)
        self.cached, self.seen = symbol, self.buffer.writes
        return symbol

    def _unknown(self) -> Exception:
        return error(
            "unsupported-write",
            "this array may or may not share the memory of one that was written to since",
            self.buffer.current.builder.origin.span,
            help="take a `.copy()` before the write",
        )

    def view(self, steps: tuple[Step, ...], symbol: Symbol) -> Ref:
        """A view of this, whose content now is `symbol`."""
        return Ref(self.buffer, (*self.steps, *steps), symbol, self.buffer.writes)

    def write(self, symbol: Symbol) -> None:
        """Replace the whole content of what this refers to.

        Raises
        ------
        UnsupportedError
            If the memory belongs to others, or the write cannot be followed to what is viewed.
        """
        if self.buffer.fixed:
            raise error(
                "unsupported-write", self.buffer.fixed, symbol.builder.origin.span,
                help="write to a copy of it",
            )  # fmt: skip
        if self.sure:
            self._write_through(symbol)
            return
        if any(_is_read_only(step) for step in self.steps):
            raise _cannot_follow(self.steps[-1], symbol)
        # Only this view is known from here on; what it was taken of may have changed with it.
        self.buffer.wrote()
        self.buffer.lost = "a view of it was written"
        self.buffer, self.steps = Buffer(symbol), ()
        self.cached = None

    def _write_through(self, symbol: Symbol) -> None:
        levels = [self.buffer.current]
        for step in self.steps[:-1]:
            levels.append(_take(levels[-1], step))
        for level, step in zip(reversed(levels), reversed(self.steps), strict=False):
            symbol = _put(level, step, symbol)
        self.buffer.current = symbol
        self.buffer.wrote()


def _take(symbol: Symbol, step: Step) -> Symbol:
    arguments = step.arguments | {str(step.primitive.alias): symbol}
    args, kwargs = step.primitive.call_form(arguments)
    result: Symbol = apply_function(step.primitive.function, args, kwargs, symbol.builder)
    return result


def _put(base: Symbol, step: Step, content: Symbol) -> Symbol:
    """The version of `base` in which the view taken by `step` has `content`."""
    function, arguments = step.primitive.function, step.arguments
    result: Symbol
    if function is operator.getitem:
        args = (base, content, arguments["index"])
        result = apply_function(SET_ITEM, args, {}, base.builder)
        return result
    if function is np.transpose and arguments.get("axes") is None:
        return _take(content, step)
    if function in (np.swapaxes, np.flip):
        return _take(content, step)
    if function is np.transpose:
        order = np.argsort([axis % base.ndim for axis in arguments["axes"]])
        inverse = tuple(int(axis) for axis in order)
        result = apply_function(np.transpose, (content, inverse), {}, base.builder)
        return result
    if function is np.moveaxis:
        args = (content, arguments["destination"], arguments["source"])
        result = apply_function(np.moveaxis, args, {}, base.builder)
        return result
    if function in (np.expand_dims, np.squeeze):
        result = apply_function(np.reshape, (content, base.shape), {}, base.builder)
        return result
    raise _cannot_follow(step, base)


def _is_read_only(step: Step) -> bool:
    return step.primitive.function in (np.broadcast_to, np.diagonal, DIAGONAL)


def _cannot_follow(step: Step, symbol: Symbol) -> Exception:
    return error(
        "unsupported-write",
        f"a write through `{step.primitive.text}` cannot be followed",
        symbol.builder.origin.span,
        help="write to the array itself, or to a copy",
    )


def located(symbol: Symbol, sources: dict[Value, Ref], whole: bool) -> Ref:
    """What a call on arrays returned: one of them, a view of one, or a buffer of its own.

    `sources` are the arrays by their content. `whole` says that the call's own view operations are
    NumPy's: those inside a composite may stand for a copy.
    """
    builder: Builder = symbol.builder
    steps: list[Step] = []
    value = symbol.value
    while value not in sources:
        op = builder.made.get(value)
        alias = op.primitive.alias if op is not None else None
        slot = op.arguments.get(alias) if op is not None and alias else None
        viewed = op.operands[slot.index] if op is not None and isinstance(slot, Slot) else None
        if op is None or not isinstance(viewed, Value):
            return Ref(Buffer(symbol, fixed=_repeated([*steps, op])))
        operands = op.operands
        arguments = substitute(op.arguments, lambda k, o=operands: symbol_of(o[k], builder))  # type: ignore[misc]
        function = op.primitive.function
        if function is operator.getitem and not is_view_index(arguments["index"]):
            return Ref(Buffer(symbol, fixed=_repeated(steps)))
        del arguments[alias]
        steps.append(Step(op.primitive, arguments, whole and function in SURE))
        value = viewed
    base = sources[value]
    return base.view(tuple(reversed(steps)), symbol) if steps else base


def _repeated(made_by: list[Any]) -> str | None:
    """Why an array that repeats a number or an element of a copy may not be written to."""
    spread = any(one is not None and one.primitive.function is np.broadcast_to for one in made_by)
    return "this array repeats one element in its memory and is written to" if spread else None


def is_view_without_axes(symbol: Symbol) -> bool:
    """Whether a number is, in NumPy, a 0-d array that shares memory: `np.squeeze(x)`, `x[..., 0]`.

    Indexing by integers alone gives a number of its own.
    """
    op = symbol.builder.made.get(symbol.value)
    if op is None or op.primitive.alias is None:
        return False
    if op.primitive.function is operator.getitem:
        index = op.arguments["index"]
        return any(entry is Ellipsis for entry in (index if isinstance(index, tuple) else (index,)))
    return True


def is_view_index(index: Any) -> bool:
    """Whether reading by this index gives a view: no integer or boolean array in it."""
    entries = index if isinstance(index, tuple) else (index,)
    return not any(
        is_advanced(e.type if isinstance(e, Symbol) else e)
        or is_mask(e.type if isinstance(e, Symbol) else e)
        for e in entries
        if e is not None and e is not Ellipsis and not isinstance(e, slice | int)
    )


__all__ = [
    "Buffer", "Ref", "Step", "has_duplicates", "is_view_index", "is_view_without_axes", "located",
]  # fmt: skip
