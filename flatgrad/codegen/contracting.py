"""Whether a product and a sum may be one instruction in the loops of a function.

    y = y + h * k        rounded once, where the machine has fused multiply-adds, else twice

What is computed again in the backward sweep may then differ from the first time by a rounding. That
must not decide anything: which branch is taken, which element is the largest, whether there is a
root. So all that is done with floats must be smooth: sums, products, functions without edges. Loops
over elements have rules of their own (`module.py`).
"""

from __future__ import annotations

from flatgrad.ir.ops import Apply, Block, Const, For, Function, While, blocks_of, called_functions

ARITHMETIC = frozenset({"add", "sub", "mul", "neg", "pos", "plus"})
QUOTIENTS = frozenset({"truediv"})
"""By constants alone: elsewhere a difference that is 0 would be a number by which is divided."""
SMOOTH = ARITHMETIC | frozenset(
    """
    exp sin cos tanh arctan atan sinh cosh sigmoid identity float float64 float32 astype square
    getitem set_item add_item fill copy zeros zeros_like ones ones_like empty empty_like full
    full_like broadcast_to transpose ascontiguousarray dim size trips sum matmul dot outer
    """.split()  # noqa: SIM905
)


def may_contract(fn: Function) -> bool:
    """Whether there are loops that gain by it, and nothing that could be decided otherwise."""
    bodies = [fn.body, *[callee.body.body for callee in called_functions(fn.body)]]
    return _has_products(fn.body, inside=False) and all(map(is_smooth, bodies))


def _has_products(block: Block, *, inside: bool) -> bool:
    """Whether numbers are multiplied in a loop."""
    for op in block.ops:
        if isinstance(op, Apply) and inside and op.primitive.name == "mul":
            kind = op.result.type
            if kind.ndim == 0 and kind.dtype.startswith("float"):
                return True
        loop = inside or isinstance(op, For | While)
        if any(_has_products(inner, inside=loop) for inner in blocks_of(op)):
            return True
    return False


def is_smooth(block: Block) -> bool:
    """Whether nothing is decided in a block, and nothing is not smooth."""
    for op in block.ops:
        if isinstance(op, Apply) and not _passes(op):
            return False
        if not all(map(is_smooth, blocks_of(op))):
            return False
    return True


def _passes(op: Apply) -> bool:
    """Whether the operation computes with no floats, or smoothly, or calls another function."""
    if op.primitive.body is not None or op.primitive.name in SMOOTH:
        return True
    if op.primitive.name in QUOTIENTS:
        return isinstance(op.operands[1], Const)
    return not any(operand.type.dtype.startswith("float") for operand in op.operands)
