"""Results that are written into arrays of the caller's.

    grad_w = X.T @ grad_r                   np.matmul(X.T, grad_r, out=out_w)
    grad_b = np.sum(grad_r)         ->      grad_b = np.sum(grad_r)
    return grad_w, grad_b                   return out_w, grad_b

    grad_x = np.zeros_like(x)               out_x[...] = 0.0
    for i in range(n):              ->      for i in range(n):
        grad_x[i] += ...                        out_x[i] += ...

The arrays are new parameters, which share no memory with any other. What one operation computes is
written where it is computed, and read there by whoever comes after, what loops add up in zeros is
added up there; the result of a branch is copied in the end.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Function,
    Op,
    Operand,
    Origin,
    Value,
    While,
    blocks_of,
    operands_of,
)
from flatgrad.primitives.index import set_item
from flatgrad.primitives.symbolic import Symbol
from flatgrad.transform.clone import picked, rewired
from flatgrad.transform.dce import reads, swept


def into_places(fn: Function, names: dict[int, str], copied: Collection[int] = ()) -> Function:
    """The function with a parameter of the given name for some of its results, by number.

    Results that are `copied` are written at the end, others as soon as may be.
    """
    writer = _Writer(fn)
    results: list[Operand] = list(fn.results)
    places = []
    for k, name in names.items():
        place = Value(fn.results[k].type, name, kept=True)
        places.append(place)
        results[k] = writer.written(place, results[k], copied=k in copied)
    results = [picked(item, writer.known) for item in results]
    body = Block((*fn.params, *places), writer.ops, tuple(results))
    return replace(fn, body=swept(body), places=(*fn.places, *places))


class _Writer:
    """Puts the writes among the operations; `known` are results with what is read for them."""

    def __init__(self, fn: Function) -> None:
        self.fn = fn
        self.ops: list[Op] = list(fn.body.ops)
        self.known: dict[Value, Operand] = {}

    def written(self, place: Value, result: Operand, *, copied: bool) -> Operand:
        """The version of `place` that holds `result`."""
        zeros = None if copied else self.zeros(result, place)
        if zeros is not None:
            self.start(place, zeros)
            return result
        op = self.made(result)
        if op is None:
            return self.write(place, result, Origin(None, "return", "out"), len(self.ops))
        at = self.ops.index(op)
        if op.primitive.function is np.copy and op.origin.sweep == "return":
            # A copy by `separate_results`: what is copied may be another result.
            del self.ops[at]
            return self.write(place, op.operands[0], op.origin, len(self.ops))
        assert isinstance(result, Value)
        fresh = Value(result.type, result.name)
        self.ops[at] = replace(op, results=tuple([fresh if r is result else r for r in op.results]))
        version = self.write(place, fresh, op.origin, at + 1)
        self.put(version, result, at + 2)
        self.known[result] = version
        return version

    def put(self, version: Operand, value: Value, at: int) -> None:
        """Have what comes after read `version` instead of `value`."""
        self.ops[at:] = [rewired(one, {value: version}) for one in self.ops[at:]]

    def made(self, result: Operand) -> Apply | None:
        """The operation of the function itself, or the call of a nest, that has this result."""
        found = [op for op in self.ops if isinstance(op, Apply) and result in op.results]
        return found[0] if found else None

    def zeros(self, result: Operand, place: Value) -> Apply | None:
        """The array of zeros like `place` that loops make a result of, and nobody else reads."""
        makers = {value: op for op in self.ops for value in op.results}
        op = makers.get(result) if isinstance(result, Value) else None
        if not isinstance(op, For | While):
            return None
        while isinstance(op, For | While):
            result = op.inits[op.results.index(result)]
            op = makers.get(result) if isinstance(result, Value) else None
            if self.count(result) > 1:
                return None
        if not isinstance(op, Apply) or op.primitive.function not in (np.zeros, np.zeros_like):
            return None
        return op if op.result.type == place.type else None

    def count(self, value: Operand) -> int:
        """How often a value is read."""
        own = [one for op in self.ops for one in operands_of(op)]
        inside = [reads(block) for op in self.ops for block in blocks_of(op)]
        return [*own, *self.fn.results].count(value) + sum(value in read for read in inside)

    def start(self, place: Value, zeros: Apply) -> None:
        """Fill the place with zeros where an array of zeros was made."""
        at = self.ops.index(zeros)
        version = self.write(place, Const(0.0), zeros.origin, at)
        del self.ops[at + 1]
        self.put(version, zeros.result, at + 1)

    def write(self, place: Value, result: Operand, origin: Origin, at: int) -> Value:
        """Insert `place[...] = result`."""
        block = Block((), [], ())
        builder = Builder(block, self.fn.lengths)
        with builder.at(origin, place.name):
            source = picked(result, self.known)
            given = source.value if isinstance(source, Const) else Symbol(source, builder)
            value = set_item(Symbol(place, builder), given, Ellipsis)
        self.ops[at:at] = block.ops
        version: Value = value.value
        return version
