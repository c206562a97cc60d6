"""Checks the invariants that every pass relies on, and says which one is broken.

    verify(fn)      # raises InternalError: "%y is read before it is defined"
"""

from __future__ import annotations

from typing import Any

from flatgrad.errors import error
from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Function,
    If,
    Op,
    Operand,
    Slot,
    Value,
    While,
    blocks_of,
    called_functions,
    operands_of,
)
from flatgrad.ir.trees import children
from flatgrad.ir.types import Scalar


def verify(fn: Function) -> None:
    """Check single definition, definition before use, operand slots, block signatures and types.

    Raises
    ------
    InternalError
        With the first broken rule.
    """
    defined: set[Value] = set()
    _verify_block(fn.body, defined, fn.name)
    for callee in called_functions(fn.body):
        _verify_block(callee.body.body, set(), callee.name)


def _fail(message: str) -> None:
    raise error("internal", f"broken IR: {message}")


def _define(values: tuple[Value, ...], defined: set[Value]) -> None:
    for value in values:
        if value in defined:
            _fail(f"{value!r} is defined twice")
        defined.add(value)


def _use(operand: Operand, defined: set[Value], where: str) -> None:
    if isinstance(operand, Value) and operand not in defined:
        _fail(f"{operand!r} is read by {where} before it is defined")


def _verify_block(block: Block, defined: set[Value], where: str) -> None:
    """Values defined inside a nested block are not visible outside it."""
    _define(block.params, defined)
    for op in block.ops:
        name = op.primitive.name if isinstance(op, Apply) else type(op).__name__
        for operand in operands_of(op):
            _use(operand, defined, name)
        _verify_op(op)
        for inner in blocks_of(op):
            _verify_block(inner, set(defined), name)
        _define(op.results, defined)
    for operand in block.yields:
        _use(operand, defined, f"the yields of {where}")


def _verify_op(op: Op) -> None:
    match op:
        case Apply():
            slots = sorted(set(_slots(op.arguments)))
            if slots != list(range(len(op.operands))):
                _fail(f"{op.primitive.name} has operands 0..{len(op.operands) - 1}, slots {slots}")
            if op.primitive.body is not None:
                _verify_call(op, op.primitive.body)
        case If():
            _require_bool(op.condition, "the condition of If")
            _same_types(op.then.yields, op.results, "the then block of If")
            _same_types(op.orelse.yields, op.results, "the else block of If")
            if op.then.params or op.orelse.params:
                _fail("the blocks of If take no parameters")
        case For():
            for bound in (op.start, op.stop, op.step):
                if not (isinstance(bound.type, Scalar) and bound.type.dtype == "int64"):
                    _fail(f"a bound of For must be an int, found {bound.type}")
            if len(op.body.params) != len(op.inits) + 1:
                _fail("the body of For takes the index and its loop-carried variables")
            _carried(op.inits, op.body.params[1:], op)
        case While():
            _carried(op.inits, op.body.params, op)
            _same_types(op.inits, op.condition.params, "the condition of While")
            if len(op.condition.yields) != 1:
                _fail("the condition of While must yield one bool")
            _require_bool(op.condition.yields[0], "the condition of While")


def _verify_call(op: Apply, called: Function) -> None:
    """A call gives the function what it takes, and gets what it returns."""
    name = op.primitive.name
    if len(op.operands) != len(called.params):
        _fail(f"{name} takes {len(called.params)} operands, found {len(op.operands)}")
    _same_types(op.operands, called.params, f"the operands of {name}")
    _same_types(called.results, op.results, f"the results of {name}")


def _slots(tree: Any) -> list[int]:
    match tree:
        case Slot(index):
            return [index]
        case slice():
            return [i for item in (tree.start, tree.stop, tree.step) for i in _slots(item)]
    return [i for item in children(tree) or () for i in _slots(item)]


def _carried(inits: tuple[Operand, ...], params: tuple[Value, ...], op: For | While) -> None:
    kind = type(op).__name__
    yields = op.body.yields
    if op.exits:
        if not yields:
            _fail(f"the body of {kind} must yield its exit flag")
        _require_bool(yields[0], f"the exit flag of {kind}")
        yields = yields[1:]
    _same_types(inits, params, f"the entry of {kind}")
    _same_types(yields, params, f"the body of {kind}, which must yield its loop-carried variables")
    _same_types(params, op.results, f"the results of {kind}")


def _require_bool(operand: Operand, where: str) -> None:
    if not (isinstance(operand.type, Scalar) and operand.type.dtype == "bool"):
        _fail(f"{where} must be a bool, found {operand.type}")


def _same_types(
    given: tuple[Operand, ...], expected: tuple[Value, ...], where: str
) -> None:
    if len(given) != len(expected):
        _fail(f"{where}: expected {len(expected)} values, found {len(given)}")
    for one, other in zip(given, expected, strict=True):
        same_kind = (one.type.dtype, one.type.ndim) == (other.type.dtype, other.type.ndim)
        if not (same_kind or (isinstance(one, Const) and other.type.ndim == 0)):
            _fail(f"{where}: expected {other.type}, found {one.type}")
