"""Functions of the IR built by hand, for tests of what later passes make of them."""

from __future__ import annotations

import numpy as np

import flatgrad.primitives.rules  # noqa: F401
from flatgrad.ir.builder import Builder
from flatgrad.ir.dims import Dim
from flatgrad.ir.ops import Block, Const, For, Function, If, Slot, Value, While
from flatgrad.ir.types import Array, Scalar
from flatgrad.ir.verify import verify
from flatgrad.primitives.index import ADD_ITEM, SET_ITEM
from flatgrad.primitives.symbolic import Symbol, apply_function, operand_of

FLOAT, INT, BOOL = Scalar("float64", True), Scalar("int64", True), Scalar("bool", True)
VECTOR = Array("float64", (Dim.atom("N"),))
SQUARE = Array("float64", (Dim.atom("N"), Dim.atom("N")))


class Maker:
    """Builds one function; values are Symbols, constants plain numbers."""

    def __init__(self, **params):
        self.values = [Value(kind, name, kept=True) for name, kind in params.items()]
        lengths = {}
        for value in self.values:
            for axis, size in enumerate(value.type.shape):
                if not isinstance(size, int):
                    lengths.setdefault(size.name, (value, axis))
        self.block = Block(tuple(self.values))
        self.builder = Builder(self.block, lengths)
        self.params = [Symbol(value, self.builder) for value in self.values]

    def done(self, *results):
        self.block.yields = tuple(operand_of(item) for item in results)
        tree = tuple(Slot(k) for k in range(len(results)))
        fn = Function("f", self.block, tree if len(tree) > 1 else Slot(0), self.builder.lengths)
        verify(fn)
        return fn

    def call(self, function, *args, **kwargs):
        return apply_function(function, args, kwargs, self.builder)

    def named(self, name, symbol):
        symbol.value.name, symbol.value.kept = name, True
        return symbol

    def set(self, array, index, value, name=None):
        new = self.call(SET_ITEM, array, value, index)
        new.value.name = name or array.value.name
        return new

    def add(self, array, index, value):
        new = self.call(ADD_ITEM, array, value, index)
        new.value.name = array.value.name
        return new

    def variable(self, name, init):
        kind = operand_of(init).type
        if isinstance(kind, Scalar):
            kind = Scalar(kind.dtype, kind.weak)
        return Value(kind, name, kept=True)

    def filled(self, params, make):
        block = Block(params)
        with self.builder.inside(block):
            made = make(*[Symbol(value, self.builder) for value in params])
            made = made if isinstance(made, tuple) else (made,)
            block.yields = tuple(operand_of(item) for item in made)
        return block

    def results(self, like):
        values = tuple(Value(value.type, value.name, kept=True) for value in like)
        return values, tuple(Symbol(value, self.builder) for value in values)

    def loop(self, bounds, inits, make, *, index="i", exits=False):
        """`inits`: initial values by name; `make(i, *carried)` gives the next ones."""
        start, stop, step = bounds
        carried = tuple(self.variable(name, init) for name, init in inits.items())
        body = self.filled((Value(INT, index, kept=True), *carried), make)
        values, symbols = self.results(carried)
        operands = tuple(operand_of(item) for item in inits.values())
        bounds = [operand_of(item) for item in (start, stop, step)]
        self.builder.block.ops.append(
            For(*bounds, operands, body, values, exits, self.builder.origin)
        )
        return symbols[0] if len(symbols) == 1 else symbols

    def while_(self, inits, test, make, *, exits=False):
        seen = tuple(self.variable(name, init) for name, init in inits.items())
        carried = tuple(self.variable(name, init) for name, init in inits.items())
        condition, body = self.filled(seen, test), self.filled(carried, make)
        values, symbols = self.results(carried)
        operands = tuple(operand_of(item) for item in inits.values())
        self.builder.block.ops.append(
            While(operands, condition, body, values, exits, self.builder.origin)
        )
        return symbols[0] if len(symbols) == 1 else symbols

    def if_(self, condition, names, then, orelse):
        one, other = self.filled((), then), self.filled((), orelse)
        likes = tuple(
            self.variable(name, Symbol(a, None) if isinstance(a, Value) else b.value)
            if isinstance(a, Value) or isinstance(b, Const)
            else self.variable(name, Symbol(b, None))
            for name, a, b in zip(names, one.yields, other.yields, strict=True)
        )
        self.builder.block.ops.append(
            If(operand_of(condition), one, other, likes, self.builder.origin)
        )
        symbols = tuple(Symbol(value, self.builder) for value in likes)
        return symbols[0] if len(symbols) == 1 else symbols


def vector(rng, n=5):
    return rng.normal(size=n)


def square(rng, n=4):
    return rng.normal(size=(n, n))


def copies(args):
    return [arg.copy() if isinstance(arg, np.ndarray) else arg for arg in args]
