"""Systems of equations and inverses whose matrix is a lower triangle, by substitution.

    L = np.linalg.cholesky(S)                    L = np.linalg.cholesky(S)
    z = np.linalg.solve(L, x)            ->      z = solve_lower(L, x)
    grad_x = np.linalg.solve(L.T, grad_z)        grad_x = solve_lower(L, grad_z, transposed=True)
    inverse = np.linalg.inv(L)                   inverse = inverse_lower(L)

NumPy's functions would factorise the triangle once more. Which matrices are triangles is known from
the functions that made them; nothing is looked at while running.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flatgrad.ir.ops import Apply, Block, Const, Function, Op, Slot, Value
from flatgrad.primitives.core import IDENTITY
from flatgrad.primitives.registry import PRIMITIVES
from flatgrad.primitives.triangular import fold_lower, half_lower, inverse_lower, solve_lower
from flatgrad.transform.clone import with_blocks
from flatgrad.transform.dce import eliminate_dead

MAKING = (np.linalg.cholesky, half_lower, fold_lower, inverse_lower)
"""Their results are 0 above the diagonal."""

KEEPING = (np.copy, np.ascontiguousarray, IDENTITY)


def solve_triangles(fn: Function) -> Function:
    """The function with substitution in place of factorisation."""
    changed = _block(fn.body, set(), {})
    return fn if changed is fn.body else eliminate_dead(replace(fn, body=changed))


def _block(block: Block, lower: set[Value], flipped: dict[Value, Value]) -> Block:
    """`lower` are the triangles known so far, `flipped` those by their transposes."""
    lower, flipped = set(lower), dict(flipped)
    ops: list[Op] = []
    for op in block.ops:
        new = with_blocks(op, lambda inner: _block(inner, lower, flipped))
        if isinstance(new, Apply):
            new = _substituted(new, lower, flipped)
            if _is_lower(new, lower):
                lower.add(new.result)
            elif new.primitive.function is np.transpose and new.operands[0] in lower:
                source = new.operands[0]
                assert isinstance(source, Value)
                flipped[new.result] = source
        ops.append(new)
    same = all(one is other for one, other in zip(ops, block.ops, strict=True))
    return block if same else Block(block.params, ops, block.yields)


def _is_lower(op: Apply, lower: set[Value]) -> bool:
    """Whether the result is a matrix without anything above its diagonal."""
    function = op.primitive.function
    if function is np.tril:
        return op.result.type.ndim == 2 and op.arguments.get("k", 0) == 0
    if function in KEEPING:
        return op.operands[0] in lower
    return function in MAKING and op.result.type.ndim == 2


def _substituted(op: Apply, lower: set[Value], flipped: dict[Value, Value]) -> Apply:
    """A call for a triangle in the place of a call for any matrix."""
    function = op.primitive.function
    if function not in (np.linalg.solve, np.linalg.inv) or op.result.type.ndim > 2:
        return op
    a, *rest = op.operands
    if isinstance(a, Const):
        return op
    if function is np.linalg.inv:
        if a not in lower:
            return op
        return replace(op, primitive=PRIMITIVES[inverse_lower], arguments={"a": Slot(0)})
    if a not in lower and a not in flipped:
        return op
    arguments: dict[str, object] = {"a": Slot(0), "b": Slot(1)}
    if a in flipped:
        arguments["transposed"] = True
    operands = (flipped.get(a, a), *rest)
    return replace(op, primitive=PRIMITIVES[solve_lower], operands=operands, arguments=arguments)
