"""Carried arrays in one order of memory, for compilers that give each variable one layout.

    X = A.T * 0.4                           X = np.ascontiguousarray(A.T * 0.4)
    for _ in range(n):               ->     for _ in range(n):
        X = X @ B                               X = X @ B

Numba's type of an array says whether its memory is in C or in Fortran order. A variable that is one
here and the other there has neither, and what is computed from it cannot be compiled. An argument
may come in either order. An array that is in C order already is not copied.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from flatgrad.analysis.activity import carried_params, carried_yields
from flatgrad.ir.copies import twin
from flatgrad.ir.ops import Apply, Block, For, Function, If, Op, Operand, Origin, Slot, Value, While
from flatgrad.primitives.callee import Callee
from flatgrad.primitives.core import ASTYPE, IDENTITY
from flatgrad.primitives.registry import PRIMITIVES

C, STRIDED, UNKNOWN = "C", "strided", "unknown"
"""In C order; in no order, which counts as C where a new array is computed; either order."""

Order = str | Value
"""One of these, or a parameter of the function, in the order of which the array is."""

KEEPING = (
    np.copy, np.zeros_like, np.ones_like, np.empty_like, np.full_like, ASTYPE, IDENTITY,
)  # fmt: skip
"""New arrays in the order of their first operand, and that operand itself."""


def in_one_order(fn: Function) -> Function:
    """The function with loops and branches whose arrays are in one order from trip to trip."""
    if all(isinstance(op, Apply) for op in fn.body.ops):
        return fn
    orders: dict[Value, Order] = {p: p if p.type.ndim > 1 else C for p in fn.params}
    return replace(fn, body=_block(fn.body, orders))


def _block(block: Block, orders: dict[Value, Order]) -> Block:
    """The block rewritten; `orders` gets those of its values."""
    ops: list[Op] = []
    for op in block.ops:
        match op:
            case Apply():
                orders.update(zip(op.results, _orders(op, orders), strict=True))
            case If():
                op = _branches(op, orders)
            case For() | While():
                op = _loop(op, orders, ops)
        ops.append(op)
    return Block(block.params, ops, block.yields)


def _orders(op: Apply, orders: dict[Value, Order]) -> list[Order]:
    """The orders of the results of a call."""
    return [_order(op, orders) if result.type.ndim > 1 else C for result in op.results]


def _order(op: Apply, orders: dict[Value, Order]) -> Order:
    primitive = op.primitive
    found = [_of(o, orders) for o in op.operands if isinstance(o, Value) and o.type.ndim > 1]
    function = primitive.function
    if primitive.in_place is not None:
        return _of(op.operands[op.arguments[primitive.in_place].index], orders)
    if isinstance(primitive, Callee) and primitive.nest:
        return C  # a nest makes its arrays itself
    if function is np.linalg.cholesky:
        return C  # as it is written for Numba
    if primitive.body is not None or getattr(function, "__module__", "") == "numpy.linalg":
        return UNKNOWN
    if function in (np.transpose, np.swapaxes):
        return UNKNOWN
    if primitive.elementwise or function is np.where:
        return _computed(found)
    if function in KEEPING:
        return found[0] if found else C
    if primitive.alias is not None and function is not np.ascontiguousarray:
        return STRIDED if all(one in (C, STRIDED) for one in found) else UNKNOWN
    return C


def _computed(found: list[Order]) -> Order:
    """Numba makes a new array in Fortran order if an operand is in that, and none is in C order."""
    others = set(found) - {STRIDED}
    if C in others or not others:
        return C
    return others.pop() if len(others) == 1 else UNKNOWN


def _of(operand: Operand, orders: dict[Value, Order]) -> Order:
    return orders.get(operand, C) if isinstance(operand, Value) else C


def _branches(op: If, orders: dict[Value, Order]) -> If:
    """Both branches hand on an array in one order."""
    then, orelse = _block(op.then, orders), _block(op.orelse, orders)
    for k, result in enumerate(op.results):
        pair = [_of(block.yields[k], orders) for block in (then, orelse)]
        if _agree(*pair):
            orders[result] = STRIDED if STRIDED in pair else pair[0]
            continue
        then, orelse = (_yielding(block, k, orders, op.origin) for block in (then, orelse))
        orders[result] = C
    return replace(op, then=then, orelse=orelse)


def _agree(one: Order, other: Order) -> bool:
    return one is other is not UNKNOWN or {one, other} <= {C, STRIDED}


def _loop(op: For | While, orders: dict[Value, Order], before: list[Op]) -> For | While:
    """Where a carried array may start in another order than a trip leaves it, both are C order."""
    params = carried_params(op)
    known = {param: _of(init, orders) for param, init in zip(params, op.inits, strict=True)}
    mixed: set[int] = set()
    while True:
        inside = orders | known
        if isinstance(op, For):
            inside[op.body.params[0]] = C
        body = _block(op.body, inside)
        yields = carried_yields(op)
        found = {
            k for k, param in enumerate(params)
            if param.type.ndim > 1 and not _agree(known[param], _of(yields[k], inside))
        } - mixed  # fmt: skip
        if not found:
            break
        mixed |= found
        known.update({params[k]: C for k in found})
    inits = list(op.inits)
    for k in sorted(mixed):
        inits[k] = _in_c_order(inits[k], params[k], orders, before, op.origin)
        body = _yielding(body, k + int(op.exits), inside, op.origin)
    for k, result in enumerate(op.results):
        order = known[params[k]]
        strided = order is C and _of(yields[k], inside) is STRIDED
        orders[result] = STRIDED if strided else order
    if isinstance(op, For):
        return replace(op, inits=tuple(inits), body=body)
    condition = dict(inside)
    condition.update(zip(op.condition.params, known.values(), strict=True))
    return replace(
        op, inits=tuple(inits), body=body, condition=_block(op.condition, condition)
    )


def _yielding(block: Block, k: int, orders: dict[Value, Order], origin: Origin) -> Block:
    """The block with its yield number `k` in C order."""
    ops = list(block.ops)
    item = block.yields[k]
    changed = _in_c_order(item, item, orders, ops, origin)
    return Block(block.params, ops, (*block.yields[:k], changed, *block.yields[k + 1 :]))


def _in_c_order(
    item: Operand, like: Operand, orders: dict[Value, Order], ops: list[Op], origin: Origin
) -> Operand:
    """The array in C order, by an operation that is appended if it may be in another."""
    if not isinstance(item, Value) or not isinstance(like, Value) or _of(item, orders) is C:
        return item
    made = twin(like)
    ops.append(contiguous(item, made, origin))
    return made


def contiguous(array: Value, made: Value, origin: Origin) -> Apply:
    """`made = np.ascontiguousarray(array)`."""
    origin = replace(origin, span=None)
    return Apply(PRIMITIVES[np.ascontiguousarray], (array,), {"a": Slot(0)}, (made,), origin)
