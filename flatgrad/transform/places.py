"""Results that are written into arrays of the caller's.

    grad_w = X.T @ grad_r                   np.matmul(X.T, grad_r, out=out_w)
    grad_b = np.sum(grad_r)         ->      grad_b = np.sum(grad_r)
    return grad_w, grad_b                   return out_w, grad_b

The arrays are new parameters, which share no memory with any other. What one operation computes is
written where it is computed, and read there by whoever comes after; the result of a loop or of a
branch is copied in the end.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Apply, Block, Function, Op, Operand, Origin, Value
from flatgrad.primitives.index import set_item
from flatgrad.primitives.symbolic import Symbol
from flatgrad.transform.clone import picked, rewired


def into_places(fn: Function, names: dict[int, str]) -> Function:
    """The function with a parameter of the given name for some of its results, by number."""
    writer = _Writer(fn)
    results: list[Operand] = list(fn.results)
    places = []
    for k, name in names.items():
        place = Value(fn.results[k].type, name, kept=True)
        places.append(place)
        results[k] = writer.written(place, results[k])
    results = [picked(item, writer.known) for item in results]
    body = Block((*fn.params, *places), writer.ops, tuple(results))
    return replace(fn, body=body, places=(*fn.places, *places))


class _Writer:
    """Puts the writes among the operations; `known` are results with what is read for them."""

    def __init__(self, fn: Function) -> None:
        self.fn = fn
        self.ops: list[Op] = list(fn.body.ops)
        self.known: dict[Value, Operand] = {}

    def written(self, place: Value, result: Operand) -> Operand:
        """The version of `place` that holds `result`."""
        op = self.made(result)
        if op is None:
            return self.write(place, result, Origin(None, "return", "out"), len(self.ops))
        at = self.ops.index(op)
        if op.primitive.function is np.copy and op.origin.sweep == "return":
            # A copy by `separate_results`: what is copied may be another result.
            del self.ops[at]
            return self.write(place, op.operands[0], op.origin, len(self.ops))
        fresh = Value(op.result.type, part=op.result.name)
        self.ops[at] = replace(op, results=(fresh,))
        version = self.write(place, fresh, op.origin, at + 1)
        later = self.ops[at + 2 :]
        self.ops[at + 2 :] = [rewired(one, {op.result: version}) for one in later]
        self.known[op.result] = version
        return version

    def made(self, result: Operand) -> Apply | None:
        """The operation of the function itself that has this result alone."""
        found = [op for op in self.ops if isinstance(op, Apply) and op.results == (result,)]
        return found[0] if found else None

    def write(self, place: Value, result: Operand, origin: Origin, at: int) -> Operand:
        """Insert `place[...] = result`."""
        block = Block((), [], ())
        builder = Builder(block, self.fn.lengths)
        with builder.at(origin, place.name):
            source = picked(result, self.known)
            assert isinstance(source, Value)  # there are no constant arrays
            value = set_item(Symbol(place, builder), Symbol(source, builder), Ellipsis)
        self.ops[at:at] = block.ops
        version: Operand = value.value
        return version
