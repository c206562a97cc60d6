"""Sums of products with stacks, added up in place.

    dot_moved = base @ dot_placed                 ->      dot_places += (base @ dot_placed) * weight
    dot_places = dot_places + dot_moved * weight

A Jacobian carries a row for each input. A sum over many parts, each of which depends on few inputs,
would otherwise make three arrays of all rows for each part, most of them full of zeros.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace

from flatgrad.ir.ops import Apply, Block, Const, Function, Op, Operand, Slot, Value, all_reads
from flatgrad.primitives.stacked import ADD_PRODUCTS_OP, STACK_PRODUCT_OP
from flatgrad.transform.clone import with_blocks
from flatgrad.transform.dce import eliminate_dead


def add_products(fn: Function) -> Function:
    """The function with products of a matrix and a stack by rows, and their sums in place."""
    reads = Counter(all_reads(fn.body))
    return eliminate_dead(replace(fn, body=_changed(fn.body, reads)))


def _changed(block: Block, reads: Counter[Operand]) -> Block:
    made: dict[Operand, Apply] = {}
    ops: list[Op] = []
    for op in block.ops:
        op = with_blocks(op, lambda inner: _changed(inner, reads))
        if isinstance(op, Apply):
            op = _product(op) or _sum(op, made, reads) or op
            made.update((result, op) for result in op.results)
        ops.append(op)
    return Block(block.params, ops, block.yields)


def _product(op: Apply) -> Apply | None:
    """A matrix times a stack, or a stack times a matrix."""
    if op.primitive.function is not operator.matmul or not op.origin.sweep.endswith("tangent"):
        return None
    a, b = op.operands
    ranks = (a.type.ndim, b.type.ndim)
    if ranks not in ((2, 3), (3, 2)) or {a.type.dtype, b.type.dtype} != {"float64"}:
        return None
    arguments = {"a": Slot(0), "b": Slot(1)}
    return replace(op, primitive=STACK_PRODUCT_OP, operands=(a, b), arguments=arguments)


@dataclass(frozen=True, slots=True)
class _Part:
    """A product that is added: `a @ b`, times `w`."""

    a: Operand
    b: Operand
    w: Operand


def _sum(op: Apply, made: dict[Operand, Apply], reads: Counter[Operand]) -> Apply | None:
    """A stack plus a product that is read here alone."""
    if op.primitive.function is not operator.add:
        return None
    for x, added in (op.operands, op.operands[::-1]):
        if not isinstance(x, Value) or not _same_lengths(x, added, op.result):
            continue
        part = _part(added, made, reads)
        if part is not None:
            operands = (x, part.a, part.b, part.w)
            arguments = {key: Slot(k) for k, key in enumerate("xabw")}
            return replace(op, primitive=ADD_PRODUCTS_OP, operands=operands, arguments=arguments)
    return None


def _same_lengths(*values: Operand) -> bool:
    """Whether nothing is broadcast among stacks of float64."""
    return all(
        value.type.ndim == 3 and value.type.dtype == "float64" and 1 not in value.type.shape
        for value in values
    )


def _part(added: Operand, made: dict[Operand, Apply], reads: Counter[Operand]) -> _Part | None:
    for product, w in _scaled(added, made, reads):
        op = made.get(product)
        if op is None or op.primitive is not STACK_PRODUCT_OP or reads[product] != 1:
            continue
        a, b = op.operands
        if b.type.ndim == 3:
            return _Part(a, b, w)
    return None


def _scaled(
    added: Operand, made: dict[Operand, Apply], reads: Counter[Operand]
) -> Iterator[tuple[Operand, Operand]]:
    """What a value may be a product of, and the numbers by which it is scaled."""
    yield added, Const(1.0)
    op = made.get(added)
    if op is None or op.primitive.function is not operator.mul or reads[added] != 1:
        return
    for product, w in (op.operands, op.operands[::-1]):
        by_row = w.type.ndim == 2 and w.type.shape[1] == 1 and w.type.shape[0] != 1
        if (by_row or w.type.ndim == 0) and w.type.dtype == "float64":
            yield product, w
