"""Functions of the program as primitives: what a call of one means, and what depends on what.

    func layer(%x, %w) -> (%y) { ... }
    func f(%x, %w) -> (%z) {
      %h = layer(%x, %w)                 an Apply, whose primitive has `layer` as its `body`
      %z = layer(%h, %w)
    }

A call reads its arguments and returns new arrays: its body never writes to a parameter, and no
result shares memory with one. Its derivatives are functions of the program, too.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, field
from typing import Any

from flatgrad.ir.interpret import interpret
from flatgrad.ir.ops import Apply, Function, Operand, Origin, Slot, Value
from flatgrad.primitives.registry import Param, Primitive


@dataclass(eq=False, slots=True)
class Callee(Primitive):
    """A function of the program.

    `reach` has for each result the positions of the parameters on which it depends differentiably.
    `checkpoint`: its backward function runs it again instead of reading what it kept. `known` are
    its derivatives by what was asked for, so that each is made once. `role` says what it is to
    readers of the emitted code. `nest`: loops over elements whose bounds are known to be right.
    `ranges`: its loop can be made in ranges (`primitives/ranges.py`).
    """

    reach: tuple[frozenset[int], ...] = ()
    checkpoint: bool = False
    known: dict[Any, Any] = field(default_factory=dict)
    comments: dict[int, str] = field(default_factory=dict)
    role: str = ""
    nest: bool = False
    ranges: Any = None

    @property
    def called(self) -> Function:
        """The function."""
        assert self.body is not None
        return self.body

    def evaluate(self, arguments: dict[str, Any]) -> Any:
        """The reference semantics: the result, or the list of them."""
        results = interpret(self.called, list(arguments.values()))
        return results[0] if len(results) == 1 else results


def function_of(fn: Function, **facts: Any) -> Callee:
    """`fn` as a primitive."""
    names = unique([param.name or "value" for param in fn.params])
    params = tuple(Param(name, True, True, True, inspect.Parameter.empty) for name in names)

    def function(*args: Any) -> Any:
        return made.evaluate(dict(zip(names, args, strict=True)))

    def type_rule(*_: Any) -> Any:
        raise NotImplementedError("the types of a call are those of its results")

    made = Callee(
        name=fn.name, function=function, text=fn.name, type_rule=type_rule, params=params,
        body=fn, **facts,
    )  # fmt: skip
    return made


def unique(names: list[str]) -> list[str]:
    """The names, with numbers where one occurs again."""
    found: list[str] = []
    for name in names:
        made, count = name, 0
        while made in found:
            count += 1
            made = f"{name}_{count}"
        found.append(made)
    return found


def call_of(
    callee: Callee, operands: tuple[Operand, ...], results: tuple[Value, ...], origin: Origin
) -> Apply:
    """The operation `results = callee(operands)`."""
    names = [param.name for param in callee.params]
    arguments = {name: Slot(k) for k, name in enumerate(names)}
    return Apply(callee, operands, arguments, results, origin)


__all__ = ["Callee", "call_of", "function_of"]
