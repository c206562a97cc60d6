"""Methods, partial functions and objects with `__call__`, as functions of their own.

    grad(model.loss)      def loss(x, scale=1.0):
                              return function(x, scale=scale)      # the method, which is inlined
"""

from __future__ import annotations

import functools
import inspect
import itertools
import linecache
import types
from typing import Any

_numbers = itertools.count()


def adapted(function: Any) -> types.FunctionType | None:
    """A function that calls `function`; None for what is no method, partial or object."""
    called = inspect.getattr_static(type(function), "__call__", None)
    known = isinstance(function, types.MethodType | functools.partial)
    if isinstance(function, type) or not (known or isinstance(called, types.FunctionType)):
        return None
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return None
    name = _name_of(function)
    params = list(signature.parameters.values())
    own = "function"
    while own in signature.parameters or own == name:
        own += "_"
    given = ", ".join(_argument(param) for param in params)
    plain = [
        param.replace(annotation=param.empty, default=None)
        if param.default is not param.empty else param.replace(annotation=param.empty)
        for param in params
    ]  # fmt: skip
    text = f"def {name}{inspect.Signature(plain)}:\n    return {own}({given})\n"
    file = f"<flatgrad {name} {next(_numbers)}>"
    linecache.cache[file] = len(text), None, text.splitlines(keepends=True), file
    space: dict[str, Any] = {own: function, "__name__": getattr(function, "__module__", None)}
    exec(compile(text, file, "exec", dont_inherit=True), space)
    made: types.FunctionType = space[name]
    made.__defaults__ = tuple(
        param.default for param in params
        if param.default is not param.empty and param.kind is not param.KEYWORD_ONLY
    ) or None  # fmt: skip
    made.__kwdefaults__ = {
        param.name: param.default for param in params
        if param.default is not param.empty and param.kind is param.KEYWORD_ONLY
    }  # fmt: skip
    made.__annotations__ = {
        param.name: param.annotation for param in params if param.annotation is not param.empty
    }
    made.__doc__ = getattr(function, "__doc__", None) if known else type(function).__doc__
    return made


def _name_of(function: Any) -> str:
    """The name of the function behind, or that of the class."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__name__", type(function).__name__)
    return name if name.isidentifier() else "function_of"


def _argument(param: inspect.Parameter) -> str:
    """How a parameter is handed on."""
    if param.kind is param.VAR_POSITIONAL:
        return f"*{param.name}"
    if param.kind is param.VAR_KEYWORD:
        return f"**{param.name}"
    return f"{param.name}={param.name}" if param.kind is param.KEYWORD_ONLY else param.name
