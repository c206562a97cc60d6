"""`with adjoint(h) as g:`: lines that belong to the backward sweep.

    with adjoint(h) as g:                %h_1 = adjoint(%h, [%limit])
        g = np.clip(g, -1, limit)   ->       # holds  (%g, %limit): clip(%g, -1, %limit)

The lines are lowered here, where their variables are known, into a block that the operation holds.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from flatgrad.frontend.builtin_calls import BUILTINS
from flatgrad.frontend.refs import Ref
from flatgrad.frontend.resolve import Capture
from flatgrad.frontend.state import State
from flatgrad.frontend.values import Poison, kind_of, read, wrap
from flatgrad.hooks import adjoint
from flatgrad.ir.ops import Block, Const, Operand, Value, blocks_of
from flatgrad.primitives.hooked import adjoint_hook, template
from flatgrad.primitives.registry import Param, Primitive, lookup
from flatgrad.primitives.symbolic import Symbol, apply_primitive, is_number


def lower_with(low: Any, node: ast.With) -> None:
    """`with adjoint(h) as g:`; other context managers are refused."""
    item = node.items[0]
    called = item.context_expr
    if not isinstance(called, ast.Call) or low.callee(called.func) is not adjoint:
        raise low.refuse(
            node, "unsupported-statement", "`with` is not supported",
            "a `with` may be one of flatgrad.adjoint",
        )  # fmt: skip
    target = item.optional_vars
    plain = len(node.items) == 1 and len(called.args) == 1 and not called.keywords
    if not plain or not isinstance(called.args[0], ast.Name):
        raise low.refuse(
            called, "bad-hook", "`adjoint` takes one variable",
            "write `with adjoint(h) as g:`, with a statement of its own for each variable",
        )  # fmt: skip
    if target is not None and not isinstance(target, ast.Name):
        raise low.refuse(target, "bad-hook", "the adjoint is bound to one name")
    returns = any(isinstance(inside, ast.Return) for inside in ast.walk(node))
    if returns or _leaves(node.body):
        raise low.refuse(
            node, "bad-hook", "control leaves the body of `adjoint`",
            "the body runs in the backward sweep: put this after it",
        )  # fmt: skip
    name = called.args[0].id
    found = low.value(called.args[0])
    inner = target.id if target is not None else None
    block, param, new, end = _body(low, node, found, inner)
    _poison(low, [*new, *([inner] if inner else [])])
    symbol = read(found)
    if not isinstance(symbol, Symbol) or not symbol.type.differentiable:
        return  # it has no adjoint
    block.yields = (_adjoint(low, node, symbol, end),)
    _rename(block, inner, f"grad_{symbol.value.name or name}")
    _rebind(low, node, name, found, _hooked(low, symbol, block, param))


def _rename(block: Block, old: str | None, new: str) -> None:
    """The adjoint goes by one name in the emitted code."""
    for op in block.ops:
        for value in op.results:
            value.name = new if value.name == old and old else value.name
        for inner in blocks_of(op):
            for value in inner.params:
                value.name = new if value.name == old and old else value.name
            _rename(inner, old, new)


def _leaves(statements: list[ast.stmt]) -> bool:
    """Whether a `break` or `continue` belongs to a loop around the statements."""
    for statement in statements:
        match statement:
            case ast.Break() | ast.Continue():
                return True
            case ast.If():
                if _leaves([*statement.body, *statement.orelse]):
                    return True
            case ast.For() | ast.While():
                if _leaves(statement.orelse):
                    return True
    return False


def _body(
    low: Any, node: ast.With, found: Any, name: str | None
) -> tuple[Block, Value, list[str], Any]:
    """The lines in a block, its parameter, the names they bind first, and `g` at the end."""
    if not isinstance(found, Ref | Symbol) and not is_number(found):
        raise low.refuse(node, "operand-type", f"the adjoint of {kind_of(found)}")
    symbol = read(found)
    kind = symbol.type if isinstance(symbol, Symbol) else Const(symbol).type
    param = Value(kind, name or "g", kept=low.shared.depth == 0)
    before, block = State(low.roots()), Block()
    low.shared.hooked += 1
    try:
        with low.builder.inside(block):
            if name is not None:
                low.env[name] = wrap(Symbol(param, low.builder))
            low.body(node.body)
            end = read(low.env[name]) if name is not None else Symbol(param, low.builder)
        new = _new_names(low, node, before, name)
    finally:
        low.shared.hooked -= 1
        before.restore()
    return block, param, new, end


def _new_names(low: Any, node: ast.With, before: State, name: str | None) -> list[str]:
    """The names that the lines bind first; they may bind and change no others."""
    for container, content in before.containers.values():
        keys = range(len(content)) if isinstance(content, list) else content
        changed = [
            key for key in keys
            if not (container is low.env and (key == name or isinstance(content[key], Poison)))
            and (len(container) < len(content) or container[key] is not content[key])
        ]  # fmt: skip
        grown = container is not low.env and len(container) != len(content)
        if changed or grown:
            what = f"`{changed[0]}`" if changed and container is low.env else "a container"
            raise _outer(low, node, f"{what} is assigned in the body of `adjoint`")
    for buffer, _ in before.buffers.values():
        if buffer.current.value is not before.of(buffer)["current"].value:
            raise _outer(low, node, f"`{buffer.current.value.name}` is written in the body of "
                                    "`adjoint`")  # fmt: skip
    earlier = before.content(low.env)
    return [key for key in low.env if key != name and low.env[key] is not earlier.get(key)]


def _outer(low: Any, node: ast.With, message: str) -> Exception:
    help = "the body runs in the backward sweep; hand values out by a call, as in `log(g)`"
    refusal: Exception = low.refuse(node, "bad-hook", message, help)
    return refusal


def _poison(low: Any, names: list[str]) -> None:
    for name in names:
        low.env[name] = Poison(
            "bad-hook", f"`{name}` is bound in the body of `adjoint`, in the backward sweep",
            "read it there only",
        )  # fmt: skip


def _adjoint(low: Any, node: ast.With, symbol: Symbol, end: Any) -> Operand:
    """What the body leaves in `g`, which has the shape and dtype of the variable."""
    if is_number(end) and not isinstance(end, bool) and not symbol.ndim:
        return Const(float(end))
    if not isinstance(end, Symbol) or end.type.ndim != symbol.ndim:
        raise low.refuse(node, "bad-hook", f"the body makes the adjoint {kind_of(end)}"
                         if not isinstance(end, Symbol)
                         else f"the body makes the adjoint {end.ndim}-d, the variable is "
                         f"{symbol.ndim}-d")  # fmt: skip
    if end.type.shape != symbol.type.shape or not end.type.differentiable:
        raise low.refuse(
            node, "bad-hook", f"the body makes the adjoint {end.type}, the variable is "
            f"{symbol.type}", "an adjoint has the shape and dtype of its variable",
        )  # fmt: skip
    return end.value


def _hooked(low: Any, symbol: Symbol, block: Block, param: Value) -> Symbol:
    """The variable after this place."""
    lines, outside = template(block, [param])
    values = [Symbol(value, low.builder) for value in outside]
    result = apply_primitive(adjoint_hook(lines), (symbol, values), {}, low.builder)
    result.value.name, result.value.kept = symbol.value.name, symbol.value.kept
    assert isinstance(result, Symbol)
    return result


def _rebind(low: Any, node: ast.With, name: str, found: Any, symbol: Symbol) -> None:
    """Make it what the variable holds from here on."""
    if isinstance(found, Ref):
        if found.steps:
            raise low.refuse(
                node, "bad-hook", f"`{name}` is a view of another array",
                f"take the adjoint of the array itself, or of a copy: `{name} = {name}.copy()`",
            )  # fmt: skip
        found.buffer.current = symbol
        return
    if low.shared.depth == 0 and not symbol.value.kept:
        symbol.value.name, symbol.value.kept = name, True
    if found.value in low.shared.plain:
        low.shared.plain.add(symbol.value)
    if found.value in low.shared.aliased:
        low.shared.aliased.add(symbol.value)
    low.env[name] = symbol


# Calls for what they do.


def effect_call(low: Any, node: ast.Call) -> bool:
    """A call of the user's function in a hook, kept as a call; False if it is another kind."""
    callee = _raw_callee(low, node.func)
    known = callee is None or lookup(callee) is not None or isinstance(callee, Symbol | Ref)
    if known or not callable(callee) or _is_builtin(callee) or isinstance(callee, type):
        return False
    args = [low.operand(arg) for arg in node.args]
    if node.keywords or any(isinstance(arg, ast.Starred) for arg in node.args):
        raise low.refuse(node, "unsupported-call", "keywords in a call for what it does")
    text = getattr(callee, "__name__", "call")
    owner = node.func.value if isinstance(node.func, ast.Attribute) else None
    if isinstance(owner, ast.Name):
        text = f"{owner.id}_{text}"
    params = [
        Param(f"p{k}", True, dynamic, dynamic, None)
        for k, dynamic in enumerate(isinstance(arg, Symbol) or is_number(arg) for arg in args)
    ]
    function = callee if callee is breakpoint else partial(_observe, callee)
    effect = Primitive(
        name=text, function=function, text=_unique(low, text, callee), type_rule=_nothing,
        params=tuple(params), opaque=True, effect=True, derivative=False, creates=True,
    )  # fmt: skip
    with low.at(node):
        apply_primitive(effect, args, {}, low.builder)
    return True


def _is_builtin(callee: Any) -> bool:
    try:
        return callee in BUILTINS
    except TypeError:
        return False


def _nothing(*args: Any) -> None:
    return None


def _observe(callee: Callable[..., Any], *args: Any) -> None:
    """Call with copies of the arrays: the sweep goes on with its own."""
    callee(*[np.copy(arg) if isinstance(arg, np.ndarray) else arg for arg in args])


def _unique(low: Any, text: str, callee: Any) -> str:
    """A name for a function in the module."""
    base = text if text.isidentifier() else "call"
    if callee is breakpoint:
        return base
    taken = low.shared.effects
    candidate, count = base, 0
    while taken.setdefault(candidate, callee) != callee or candidate in low.shared.names:
        count += 1
        candidate = f"{base}_{count}"
    return candidate


def _raw_callee(low: Any, node: ast.expr) -> Any:
    """What is called: a name, or an attribute of an object outside."""
    if isinstance(node, ast.Name):
        return low.value(node)
    if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
        return None
    name = node.value.id
    owner = low.owner(name)
    if owner is not None:
        base = owner.env.get(name)
        if base is None or isinstance(base, Symbol | Ref | Poison | tuple | list | dict):
            return None
        return getattr(base, node.attr, None)
    capture = low.scope.lookup(name, low.source.span(node))
    base = capture.value
    if isinstance(base, types.ModuleType | np.ndarray) or is_number(base):
        return low.callee(node) if isinstance(base, types.ModuleType) else None
    same = Capture(name, lambda: id(capture.read()), id(base))
    low.shared.captures.static[f"{id(base)}.{node.attr}"] = same
    return getattr(base, node.attr, None)


__all__ = ["effect_call", "lower_with"]
