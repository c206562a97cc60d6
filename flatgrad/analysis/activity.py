"""Which values are active: they vary with the chosen inputs and matter to the chosen outputs.

    def f(x, w):  a = floor(x);  b = x * w;  return b        wrt x
                  # varied: x b      useful: b x w      active: x b

A variable that a loop carries is varied if its value on entry or after some trip is, and useful if
some trip or what follows the loop needs it: loops are walked until nothing changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from flatgrad.ir.ops import Apply, Block, For, If, Op, Operand, Value, While, operands_of


def passes_derivative(op: Op) -> bool:
    """Whether a derivative can flow from the operands of `op` to its results."""
    return not isinstance(op, Apply) or op.primitive.derivative


def carried_params(op: For | While) -> tuple[Value, ...]:
    """The parameters of the body that are carried from trip to trip."""
    return op.body.params[1:] if isinstance(op, For) else op.body.params


def carried_yields(op: For | While) -> tuple[Operand, ...]:
    """What the body yields for them."""
    return op.body.yields[1:] if op.exits else op.body.yields


def slots(op: For | While) -> Iterator[tuple[Operand, Value, Operand, Value]]:
    """For each carried variable: its init, parameter, yield and result."""
    return zip(op.inits, carried_params(op), carried_yields(op), op.results, strict=True)


def varied(block: Block, inputs: Iterable[Value]) -> set[Value]:
    """The values of floating type that depend differentiably on `inputs`, nested ones included."""
    found = set(inputs)
    _vary(block, found)
    return found


def _vary(block: Block, found: set[Value]) -> None:
    for op in block.ops:
        match op:
            case Apply() if op.primitive.body is not None:
                for result, reach in zip(op.results, op.primitive.reach, strict=True):
                    if any(op.operands[k] in found for k in reach):
                        _add((result,), found)
            case Apply():
                if op.primitive.derivative and any(operand in found for operand in op.operands):
                    _add(op.results, found)
            case If():
                _vary(op.then, found)
                _vary(op.orelse, found)
                for result, *yields in zip(
                    op.results, op.then.yields, op.orelse.yields, strict=True
                ):
                    if any(item in found for item in yields):
                        _add((result,), found)
            case For() | While():
                _vary_loop(op, found)


def _vary_loop(op: For | While, found: set[Value]) -> None:
    before = -1
    while before != len(found):
        before = len(found)
        for init, param, item, result in slots(op):
            if init in found or item in found:
                _add((param, result), found)
        _vary(op.body, found)


def _add(values: Iterable[Value], found: set[Value]) -> None:
    found.update(value for value in values if value.type.differentiable)


def useful(block: Block, outputs: Iterable[Operand]) -> set[Value]:
    """The values on which `outputs` depend differentiably, nested ones included."""
    found = {output for output in outputs if isinstance(output, Value)}
    _use(block, found)
    return found


def _use(block: Block, found: set[Value]) -> None:
    for op in reversed(block.ops):
        match op:
            case Apply() if op.primitive.body is not None:
                for result, reach in zip(op.results, op.primitive.reach, strict=True):
                    if result in found:
                        found.update(o for k in reach if isinstance(o := op.operands[k], Value))
            case Apply():
                if op.primitive.derivative and any(result in found for result in op.results):
                    found.update(o for o in operands_of(op) if isinstance(o, Value))
            case If():
                for result, *yields in zip(
                    op.results, op.then.yields, op.orelse.yields, strict=True
                ):
                    if result in found:
                        found.update(item for item in yields if isinstance(item, Value))
                _use(op.then, found)
                _use(op.orelse, found)
            case For() | While():
                _use_loop(op, found)


def _use_loop(op: For | While, found: set[Value]) -> None:
    before = -1
    while before != len(found):
        before = len(found)
        for init, param, item, result in slots(op):
            if param in found or result in found:
                found.update(one for one in (init, item) if isinstance(one, Value))
        _use(op.body, found)


def active(block: Block, inputs: Iterable[Value], outputs: Iterable[Operand]) -> set[Value]:
    """The values that get an adjoint."""
    return varied(block, inputs) & useful(block, outputs)
