"""Which values are active: they vary with the chosen inputs and matter to the chosen outputs.

    def f(x, w):  a = floor(x);  b = x * w;  return b        wrt x
                  # varied: x b      useful: b x w      active: x b
"""

from __future__ import annotations

from collections.abc import Iterable

from flatgrad.ir.ops import Apply, Block, Op, Operand, Value, blocks_of, operands_of


def passes_derivative(op: Op) -> bool:
    """Whether a derivative can flow from the operands of `op` to its results."""
    return not isinstance(op, Apply) or op.primitive.derivative


def varied(block: Block, inputs: Iterable[Value]) -> set[Value]:
    """The values of floating type that depend differentiably on `inputs`."""
    found = set(inputs)
    for op in block.ops:
        if not passes_derivative(op):
            continue
        reads = list(operands_of(op))
        for inner in blocks_of(op):
            reads += inner.yields
        if any(operand in found for operand in reads):
            found.update(result for result in op.results if result.type.differentiable)
    return found


def useful(block: Block, outputs: Iterable[Operand]) -> set[Value]:
    """The values on which `outputs` depend differentiably."""
    found = {output for output in outputs if isinstance(output, Value)}
    for op in reversed(block.ops):
        if passes_derivative(op) and any(result in found for result in op.results):
            found.update(o for o in operands_of(op) if isinstance(o, Value))
    return found


def active(block: Block, inputs: Iterable[Value], outputs: Iterable[Operand]) -> set[Value]:
    """The values that get an adjoint."""
    return varied(block, inputs) & useful(block, outputs)
