"""Lengths and arrays that are needed before what they are like exists.

    length_of(low, N - 1)                  x.shape[0] - 1
    undefined(low, Array("float64", (N,)))     np.empty(x.shape[0])
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flatgrad.frontend.refs import Ref
from flatgrad.ir.dims import Dim, Size, SliceLength
from flatgrad.ir.types import Scalar, Type
from flatgrad.primitives.core import TRIPS
from flatgrad.primitives.symbolic import DIM, Symbol, apply_function


def length_of(low: Any, size: Size) -> Any:
    """A length as a number or Symbol, from what is known here; None if it cannot be computed."""
    builder = low.builder
    if isinstance(size, int):
        return size
    if size.is_atom and size.name in builder.lengths:
        param, axis = builder.lengths[size.name]
        return apply_function(DIM, (Symbol(param, builder), axis), {}, builder)
    for found in [item for root in low.roots() for item in root.values()]:
        if isinstance(found, Ref) and size in found.latest.type.shape:
            axis = found.latest.type.shape.index(size)
            return apply_function(DIM, (found.latest, axis), {}, builder)
        if isinstance(found, Symbol) and isinstance(found.type, Scalar) and found.type.size == size:
            return found
    if size.is_atom:
        return _of_slice(low, size.name) if isinstance(size.name, SliceLength) else None
    total: Any = 0
    for monomial, factor in size.terms:
        term: Any = factor
        for atom in monomial:
            part = length_of(low, Dim.atom(atom))
            if part is None:
                return None
            term = part if _is(term, 1) else part * term
        total = term if _is(total, 0) else total + term
    return total


def _of_slice(low: Any, atom: SliceLength) -> Any:
    """The length of `[a:b]` with bounds that are known; None for others."""
    start, stop, step = atom.bounds
    whole = length_of(low, atom.size)
    if step is not None or whole is None or isinstance(start, Dim) or isinstance(stop, Dim):
        return None

    def trips(first: Any, last: Any) -> Any:
        return apply_function(TRIPS, (first, last, 1), {}, low.builder)

    if start is not None and start < 0:
        return whole - trips(-start, whole) if stop is None else None
    if stop is None:
        return trips(start, whole) if start else whole
    end = trips(-stop, whole) if stop < 0 else whole - trips(stop, whole)
    return trips(start, end) if start else end


def _is(found: Any, number: int) -> bool:
    return type(found) is int and found == number


def empty(low: Any, kind: Type, shape: Any) -> Symbol:
    """`np.empty` of this shape, with the dtype of `kind`."""
    options = {} if kind.dtype == "float64" else {"dtype": np.dtype(kind.dtype).type}
    found: Symbol = apply_function(np.empty, (shape,), options, low.builder)
    return found


def undefined(low: Any, kind: Type) -> Symbol:
    """An array of this kind that is never read; an empty one, where its shape is not known here."""
    lengths = [length_of(low, size) for size in kind.shape]
    known = all(length is not None for length in lengths)
    return empty(low, kind, tuple(lengths) if known else (0,) * kind.ndim)
