"""A small language for building loops and branches in IR by hand.

    def power_sum(p, x, n):
        return p.loop(0, n, 1, {"y": 1.0}, lambda i, y: y * np.sin(x + i))
"""

from __future__ import annotations

from contextlib import contextmanager

import numpy as np

import flatgrad.primitives.rules  # noqa: F401
from flatgrad.ir.builder import Builder
from flatgrad.ir.dims import Dim
from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import Block, Const, For, Function, If, Slot, Value, While
from flatgrad.ir.types import Array, Scalar
from flatgrad.ir.verify import verify
from flatgrad.primitives.index import set_item
from flatgrad.primitives.symbolic import Symbol, apply_function, operand_of
from flatgrad.primitives.typerules import fresh_size, restart_fresh_sizes


def type_of(name, value):
    if isinstance(value, np.ndarray):
        shape = tuple(
            1 if n == 1 else Dim.atom(f"{name}.shape[{k}]") for k, n in enumerate(value.shape)
        )
        return Array(value.dtype.name, shape)
    if isinstance(value, bool):
        return Scalar("bool", True)
    if isinstance(value, int):
        return Scalar("int64", True, Dim.atom(f"?{name}"))
    if isinstance(value, np.generic):
        return Scalar(value.dtype.name)
    return Scalar("float64", True)


def plain(kind):
    """The type of a carried variable: its value is not known."""
    return Scalar(kind.dtype, kind.weak) if isinstance(kind, Scalar) else kind


class Program:
    """A function under construction."""

    def __init__(self, function, arguments):
        restart_fresh_sizes()
        names = function.__code__.co_varnames[1 : function.__code__.co_argcount]
        params = [
            Value(type_of(name, value), name, kept=True)
            for name, value in zip(names, arguments, strict=True)
        ]
        block = Block(tuple(params))
        lengths = {
            size.name: (param, axis)
            for param in params
            for axis, size in enumerate(param.type.shape)
            if isinstance(size, Dim)
        }
        self.builder = Builder(block, lengths)
        self.builder.part = "t"
        self.params = params
        out = function(self, *[Symbol(param, self.builder) for param in params])
        if isinstance(out, Symbol) and not out.value.kept:
            self.name(out, "out")
        block.yields = (operand_of(out),)
        self.fn = Function(function.__name__, block, Slot(0), lengths)
        verify(self.fn)

    def name(self, symbol, name):
        """Make a symbol the user's variable `name`, as an assignment does."""
        symbol.value.name, symbol.value.kept = name, True
        return symbol

    @contextmanager
    def block(self):
        with self.builder.inside(Block()) as block:
            yield block

    def carry(self, names, outs, kinds):
        outs = outs if isinstance(outs, tuple) else (outs,)
        for name, out in zip(names, outs, strict=True):
            if isinstance(out, Symbol) and not out.value.kept and out.value in self.builder.made:
                self.name(out, name)
        return tuple(operand_of(out) for out in outs)

    def results(self, names, kinds):
        return tuple(Value(kind, name, kept=True) for name, kind in zip(names, kinds, strict=True))

    def give(self, results):
        symbols = tuple(Symbol(result, self.builder) for result in results)
        return symbols[0] if len(symbols) == 1 else symbols

    def loop(self, start, stop, step, carried, body, exits=False):
        """`for`; `body(i, *carried)` returns the carried values (first the exit flag)."""
        inits = tuple(operand_of(init) for init in carried.values())
        kinds = [plain(init.type) for init in inits]
        index = Value(Scalar("int64", True, fresh_size()), "i", kept=True)
        params = self.results(carried, kinds)
        with self.block() as block:
            outs = body(*[Symbol(value, self.builder) for value in (index, *params)])
            outs = outs if isinstance(outs, tuple) else (outs,)
            flag, outs = (outs[:1], outs[1:]) if exits else ((), outs)
            block.yields = (*map(operand_of, flag), *self.carry(carried, outs, kinds))
        block.params = (index, *params)
        results = self.results(carried, kinds)
        bounds = [operand_of(bound) for bound in (start, stop, step)]
        self.builder.block.ops.append(For(*bounds, inits, block, results, exits))
        return self.give(results)

    def while_(self, carried, test, body, exits=False):
        inits = tuple(operand_of(init) for init in carried.values())
        kinds = [plain(init.type) for init in inits]
        params, seen = self.results(carried, kinds), self.results(carried, kinds)
        with self.block() as condition:
            condition.yields = (operand_of(test(*[Symbol(v, self.builder) for v in seen])),)
        condition.params = seen
        with self.block() as block:
            outs = body(*[Symbol(value, self.builder) for value in params])
            outs = outs if isinstance(outs, tuple) else (outs,)
            flag, outs = (outs[:1], outs[1:]) if exits else ((), outs)
            block.yields = (*map(operand_of, flag), *self.carry(carried, outs, kinds))
        block.params = params
        results = self.results(carried, kinds)
        self.builder.block.ops.append(While(inits, condition, block, results, exits))
        return self.give(results)

    def branch(self, names, condition, then, orelse):
        blocks = []
        for side in (then, orelse):
            with self.block() as block:
                outs = side()
                block.yields = self.carry(names, outs, None)
            blocks.append(block)
        kinds = [plain(item.type) for item in blocks[0].yields]
        results = self.results(names, kinds)
        self.builder.block.ops.append(If(operand_of(condition), *blocks, results))
        return self.give(results)

    def write(self, array, index, value, name):
        return self.name(set_item(array, value, index), name)


def differences(fn, arguments, wrt, step=1e-6):
    """Central differences of the first result by each argument in `wrt`."""
    found = []
    for k in wrt:
        x = np.asarray(arguments[k], dtype=float)
        gradient = np.zeros_like(x)
        for position in np.ndindex(x.shape):
            ends = []
            for sign in (1, -1):
                moved = x.copy()
                moved[position] += sign * step
                trial = list(arguments)
                trial[k] = moved if x.ndim else float(moved)
                ends.append(float(interpret(fn, trial)[0]))
            gradient[position] = (ends[0] - ends[1]) / (2 * step)
        found.append(gradient)
    return found


__all__ = ["Const", "Program", "differences", "apply_function", "interpret"]
