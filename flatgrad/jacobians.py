"""Jacobians and Hessians as functions: which way is the cheaper, and how parts are put together.

    J = jacobian(f)(x)        few inputs: all columns in one sweep (`columns.py`)
                              few results: a row for each run of the pullback
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np

from flatgrad.callers import check_places
from flatgrad.columns import BY_STACKS
from flatgrad.derivatives import mapped, slots
from flatgrad.derived import Derived
from flatgrad.errors import FlatgradError
from flatgrad.into import OUT, check_place, matched
from flatgrad.ir.ops import Slot
from flatgrad.ir.trees import finished
from flatgrad.ir.types import Type
from flatgrad.linear_maps import Late
from flatgrad.specialisation import Specialisation, check_requirements
from flatgrad.structures import Spread, spread

Function = Callable[..., Any]

PLAIN = (np.ndarray, np.generic, float, int, str, type(None))
"""Arguments of these classes are no containers."""


@dataclass(slots=True, eq=False)
class Jacobian:
    """One Jacobian of a function: its derivatives in each direction, those that it may use.

    `sweep` gives all columns at once, `linearize` column by column, `vjp` row by row.
    """

    with_value: bool
    sweep: Any = None
    linearize: Any = None
    vjp: Any = None
    ways: dict[Any, str] = field(default_factory=dict)

    @property
    def behind(self) -> Derived:
        """What is behind one of the derivatives: the signature, and what is differentiated."""
        derived: Derived = (self.sweep or self.vjp).__flatgrad__
        return derived

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        has_out = OUT in kwargs and OUT not in self.behind.signature.parameters
        out = kwargs.pop(OUT) if has_out else None
        values = self.bound(args, kwargs)
        given: Spread | None = None
        key: tuple[Any, ...]
        if all(isinstance(value, PLAIN) for value in values):
            key = tuple([(type(value), np.shape(value)) for value in values])
        else:
            given = self.spread(values)
            leaves = [(type(leaf), np.shape(leaf)) for leaf in given.values.values()]
            key = (*given.trees.values(), *leaves)
        way = self.ways.get(key)
        if way is None:
            way = self.ways[key] = self.chosen(given or self.spread(values))
        if way == "sweep":
            into = {} if out is None else {OUT: out}
            return self.sweep(*args, **kwargs, **into)
        y, linear = getattr(self, way)(*args, **kwargs)
        places = {} if out is None else self.places(linear, out, given or self.spread(values))
        found = assembled(linear, places)
        return (y, found) if self.with_value else found

    def places(self, linear: Late, out: Any, given: Spread) -> dict[int, list[np.ndarray]]:
        """For each float result, the arrays of `out` for its Jacobians.

        Raises
        ------
        ArgumentError
            If `out` has other parts than the Jacobian, or arrays that do not fit.
        """
        blocks = linear.empty_blocks()
        count = len(linear.wrt)
        form = mapped(linear.tree, lambda k: _form(linear, k, count) if k in blocks else None, None)
        spread_out = spread({OUT: out})
        found = []
        for k, leaf in matched(form, spread_out.trees[OUT]):
            block = blocks[k // count][k % count]
            if block.ndim:
                place = spread_out.values[leaf.name]
                check_place(leaf.shown, place, "the Jacobian", block.dtype, block.shape)
                blocks[k // count][k % count] = place
                found.append(place)
        others = [*given.values.values(), *[one.read() for one in linear.hidden]]
        arrays = tuple([one for one in others if isinstance(one, np.ndarray)])
        check_places(tuple(found), arrays, self.behind.options.backend == "numba")
        return blocks

    def bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
        """The arguments, one for each parameter."""
        signature = self.behind.signature
        if not kwargs and len(args) == len(signature.parameters):
            return list(args)
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return list(bound.arguments.values())

    def spread(self, values: list[Any]) -> Spread:
        """The arguments taken apart."""
        derived = self.behind
        return derived.spread(dict(zip(derived.signature.parameters, values, strict=True)))

    def chosen(self, given: Spread) -> str:
        """The way to take for arguments of some types and shapes."""
        if self.sweep is None:
            return "vjp"
        derived, values = self.behind, given.values
        if self.vjp is None:
            inputs = _count(values, derived.chosen(given))
            return "sweep" if 0 < inputs <= BY_STACKS else "linearize"
        try:
            found = derived.specialised(given)
        except FlatgradError as caught:
            if caught.code != "no-derivative":
                raise
            return "vjp"
        check_requirements(found, values)
        inputs = _count(values, found.wrt)
        if inputs == 0 or self.outputs(found, values) / inputs < inputs:
            return "vjp"
        return "sweep" if inputs <= BY_STACKS else "linearize"

    def outputs(self, found: Specialisation, values: dict[str, Any]) -> float:
        """The number of elements of all Jacobians, which their types tell, mostly."""
        graph = found.compiled.graph
        lengths = {
            atom: np.shape(values[param.name or ""])[axis]
            for atom, (param, axis) in graph.lengths.items()
            if param.name in values
        }
        blocks = slots(graph.tree[1] if self.with_value else graph.tree)
        sizes = [_size(graph.results[k].type, lengths) for k in blocks]
        return float("inf") if None in sizes else float(sum(filter(None, sizes)))


def _count(values: dict[str, Any], wrt: tuple[str, ...]) -> int:
    return sum(math.prod(np.shape(values[name])) for name in wrt)


def _size(kind: Type, lengths: dict[str, int]) -> int | None:
    total = 1
    for size in kind.shape:
        length = size if isinstance(size, int) else size.value(lengths)
        if length is None:
            return None
        total *= length
    return total


def public(made: Jacobian, function: Function) -> Function:
    """The function that users call, with the name and the signature of theirs."""

    def jacobian(*args: Any, **kwargs: Any) -> Any:
        return made(*args, **kwargs)

    behind = made.behind
    jacobian.__name__ = jacobian.__qualname__ = behind.primal.__name__
    jacobian.__doc__ = behind.primal.__doc__
    jacobian.__module__ = behind.primal.__module__
    jacobian.__signature__ = behind.signature  # type: ignore[attr-defined]
    jacobian.primal = function  # type: ignore[attr-defined]
    jacobian.__flatgrad__ = SimpleNamespace(wrapper=jacobian)  # type: ignore[attr-defined]
    if made.sweep is not None:
        jacobian.source = made.sweep.source  # type: ignore[attr-defined]
    return jacobian


def _form(linear: Late, k: int, count: int) -> Any:
    """The Jacobians of one result in their structure, numbered among those of all results."""
    return mapped(linear.form, lambda j: Slot(k * count + j))


def assembled(linear: Late, places: dict[int, list[np.ndarray]]) -> Any:
    """The Jacobians of all results by all chosen arguments, in their structures.

    They are written into `places`, if there are any.
    """
    blocks = places or linear.empty_blocks()
    linear.fill(blocks)

    def row(k: int) -> Any:
        if k not in blocks:
            return None
        parts = [_number(part, linear, j) for j, part in enumerate(blocks[k])]
        return mapped(linear.form, parts.__getitem__)

    return finished(mapped(linear.tree, row, None))


def _number(block: np.ndarray, linear: Late, j: int) -> Any:
    """A Jacobian without axes as a number, unless the argument is an array."""
    argument = linear.arguments[linear.wrt[j]]
    if block.ndim or isinstance(argument, np.ndarray):
        return block
    return float(block) if linear.kinds[j].weak else block[()]
