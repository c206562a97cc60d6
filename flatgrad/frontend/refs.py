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
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flatgrad.errors import error
from flatgrad.primitives.index import SET_ITEM, has_duplicates, is_advanced, is_mask
from flatgrad.primitives.symbolic import Symbol, apply_function


@dataclass(eq=False, slots=True)
class Buffer:
    """One piece of memory: its current version, and how often it was written."""

    current: Symbol
    writes: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """How a view is taken of what it views; `sure` unless NumPy may have copied."""

    function: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    sure: bool


@dataclass(eq=False, slots=True)
class Ref:
    """A buffer seen through the steps of a view (none: the buffer itself)."""

    buffer: Buffer
    steps: tuple[Step, ...] = ()
    cached: Symbol | None = None
    seen: int = field(default=0)

    def read(self) -> Symbol:
        """The present content as an SSA value.

        Raises
        ------
        UnsupportedError
            If the memory was written since and it is unknown whether this shares it.
        """
        if not self.steps:
            return self.buffer.current
        if self.cached is None or self.seen != self.buffer.writes:
            if self.cached is not None and not all(step.sure for step in self.steps):
                raise error(
                    "unsupported-write",
                    "this may or may not share the memory of an array that was written to",
                    self.buffer.current.builder.origin.span,
                    help="take a `.copy()` before the write",
                )
            symbol = self.buffer.current
            for step in self.steps:
                symbol = _take(symbol, step)
            self.cached, self.seen = symbol, self.buffer.writes
        return self.cached

    def view(self, step: Step, symbol: Symbol) -> Ref:
        """A view of this, whose content now is `symbol`."""
        return Ref(self.buffer, (*self.steps, step), symbol, self.buffer.writes)

    def write(self, symbol: Symbol) -> None:
        """Replace the whole content of what this refers to."""
        levels = [self.buffer.current]
        for step in self.steps[:-1]:
            levels.append(_take(levels[-1], step))
        for level, step in zip(reversed(levels), reversed(self.steps), strict=False):
            symbol = _put(level, step, symbol)
        self.buffer.current = symbol
        self.buffer.writes += 1


def _take(symbol: Symbol, step: Step) -> Symbol:
    result: Symbol = apply_function(
        step.function, (symbol, *step.args), step.kwargs, symbol.builder
    )
    return result


def _put(base: Symbol, step: Step, content: Symbol) -> Symbol:
    """The version of `base` in which the view taken by `step` has `content`."""
    if step.function is operator.getitem:
        result: Symbol = apply_function(SET_ITEM, (base, content, *step.args), {}, base.builder)
        return result
    if step.function is np.transpose and not step.args and not step.kwargs:
        return _take(content, step)
    if step.function is np.swapaxes:
        return _take(content, step)
    raise error(
        "unsupported-write",
        f"a write through `{getattr(step.function, '__name__', '?')}` cannot be followed",
        base.builder.origin.span,
        help="write to the array itself",
    )


def is_view_index(index: Any) -> bool:
    """Whether reading by this index gives a view: no integer or boolean array in it."""
    entries = index if isinstance(index, tuple) else (index,)
    return not any(
        is_advanced(e.type if isinstance(e, Symbol) else e)
        or is_mask(e.type if isinstance(e, Symbol) else e)
        for e in entries
        if e is not None and e is not Ellipsis and not isinstance(e, slice | int)
    )


__all__ = ["Buffer", "Ref", "Step", "has_duplicates", "is_view_index"]
