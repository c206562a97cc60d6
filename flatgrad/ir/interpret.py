"""The reference semantics: evaluate a function, operation by operation, on concrete values.

    interpret(fn, [2.0, x])        # the list of the function's results

What the emitted code computes is right if it equals this.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flatgrad.ir.ops import (
    Apply,
    Block,
    Const,
    For,
    Function,
    If,
    Operand,
    Value,
    While,
    substitute,
)

Environment = dict[Value, Any]


def interpret(fn: Function, arguments: Sequence[Any]) -> list[Any]:
    """The results of `fn` for one argument per parameter."""
    return _run(fn.body, arguments, {})


def _read(operand: Operand, env: Environment) -> Any:
    return operand.value if isinstance(operand, Const) else env[operand]


def _run(block: Block, arguments: Sequence[Any], outer: Environment) -> list[Any]:
    env = dict(outer)
    env.update(zip(block.params, arguments, strict=True))
    for op in block.ops:
        match op:
            case Apply():
                results = _apply(op, env)
            case If():
                chosen = op.then if _read(op.condition, env) else op.orelse
                results = _run(chosen, (), env)
            case For():
                results = _for(op, env)
            case While():
                results = _while(op, env)
        env.update(zip(op.results, results, strict=True))
    return [_read(item, env) for item in block.yields]


def _apply(op: Apply, env: Environment) -> list[Any]:
    values = [_read(operand, env) for operand in op.operands]
    outcome = op.primitive.evaluate(substitute(op.arguments, values.__getitem__))
    return [outcome] if len(op.results) == 1 else list(outcome if op.results else ())


def _for(op: For, env: Environment) -> list[Any]:
    carried = [_read(item, env) for item in op.inits]
    for index in range(*(int(_read(o, env)) for o in (op.start, op.stop, op.step))):
        carried = _run(op.body, [index, *carried], env)
        if op.exits and carried.pop(0):
            break
    return carried


def _while(op: While, env: Environment) -> list[Any]:
    carried = [_read(item, env) for item in op.inits]
    while _run(op.condition, carried, env)[0]:
        carried = _run(op.body, carried, env)
        if op.exits and carried.pop(0):
            break
    return carried
