"""Products of stacks, of which one factor is the same for all rows; else row by row.

    dot_w @ x                             # a product of many matrices, as NumPy has it
    w @ dot_x       ->    dot_x @ w.T
    np.einsum("ij,jk->ik", dot_a, b)      ->      np.einsum("aij,jk->aik", dot_a, b)
"""

from __future__ import annotations

import operator
import string
from typing import Any

import numpy as np

from flatgrad.ir.ops import Apply
from flatgrad.primitives.einsum import EINSUM, EINSUM_VIEW, Subscripts
from flatgrad.primitives.linalg import TENSORDOT
from flatgrad.primitives.symbolic import apply_function
from flatgrad.transform.stack_rules import rule


@rule(operator.matmul, np.dot, np.inner, np.vdot)
def _product(stacker: Any, op: Apply) -> Any:
    """Products with one factor the same for all rows; the general case is row by row."""
    a, b = op.operands
    ranks = a.type.ndim, b.type.ndim
    one, other = stacker.of(a), stacker.of(b)
    if one is not None and other is not None:
        return None
    function = op.primitive.function
    if ranks == (1, 1):
        return one @ stacker.plain(b) if one is not None else other @ stacker.plain(a)
    if function is not operator.matmul and not (function is np.dot and max(ranks) <= 2):
        return None
    if 0 in ranks:
        return stacker.aligned(a, ranks[1]) * stacker.aligned(b, ranks[0])
    if one is not None:
        return _left(stacker, one, stacker.plain(b), ranks)
    if ranks[1] == 1:
        return other @ stacker.plain(a).T if ranks[0] == 2 else None
    return stacker.plain(a) @ stacker.spaced(other, max(ranks))


def _left(stacker: Any, one: Any, b: Any, ranks: tuple[int, int]) -> Any:
    """A stack of left factors times `b`."""
    if ranks[0] == 1:
        return one @ b if ranks[1] == 2 else None
    return (one if ranks[1] == 1 else stacker.spaced(one, max(ranks))) @ b


@rule(np.outer)
def _outer(stacker: Any, op: Apply) -> Any:
    a, b = op.operands
    if (a.type.ndim, b.type.ndim) != (1, 1):
        return None
    left, right = (stacker.of(x) for x in (a, b))
    one = stacker.plain(a)[:, None] if left is None else left[:, :, None]
    other = stacker.plain(b) if right is None else right[:, None]
    return one * other


@rule(TENSORDOT)
def _tensordot(stacker: Any, op: Apply) -> Any:
    a, b = (stacker.of(x) for x in op.operands)
    if a is not None and b is not None:
        return None
    axes = op.arguments.get("axes", 2)
    ranks = [x.type.ndim for x in op.operands]
    if isinstance(axes, int):
        axes = range(ranks[0] - axes, ranks[0]), range(axes)
    one, other = ([axis % rank for axis in _listed(part)]
                  for part, rank in zip(axes, ranks, strict=True))  # fmt: skip
    if a is not None:
        pair = tuple(axis + 1 for axis in one), tuple(other)
        return np.tensordot(a, stacker.plain(op.operands[1]), axes=pair)
    pair = tuple(one), tuple(axis + 1 for axis in other)
    found = np.tensordot(stacker.plain(op.operands[0]), b, axes=pair)
    place = ranks[0] - len(one)
    return np.moveaxis(found, place, 0) if place else found


def _listed(axes: Any) -> list[int]:
    return [axes] if isinstance(axes, int) else list(axes)


@rule(EINSUM, EINSUM_VIEW)
def _einsum(stacker: Any, op: Apply) -> Any:
    letters = Subscripts.read(op.arguments["subscripts"])
    used = "".join(letters.inputs) + letters.output
    row = next(letter for letter in string.ascii_letters if letter not in used)
    given = op.operands
    stacks = [stacker.of(x) for x in given]
    inputs = tuple(
        own if found is None else row + own
        for own, found in zip(letters.inputs, stacks, strict=True)
    )
    text = str(Subscripts(inputs, row + letters.output))
    args = [
        stacker.plain(x) if found is None else found
        for x, found in zip(given, stacks, strict=True)
    ]
    if op.primitive.function is EINSUM_VIEW:
        return apply_function(EINSUM_VIEW, (args[0], text), {}, stacker.builder)
    options = {k: v for k, v in op.arguments.items() if k == "optimize"}
    return apply_function(EINSUM, (args, text), options, stacker.builder)

