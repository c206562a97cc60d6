"""`raise` and `assert`: what depends on run-time data stays in the emitted code, in its place.

    if x < 0:                                  if x < 0:
        raise ValueError(f"x is {x}")     ->       raise ValueError(f"x is {x}")
    else:                                      y = np.sqrt(x)
        y = np.sqrt(x)

A path that ends in `raise` meets no other: what follows is the other path alone. What is raised
whatever the data are is refused while compiling.
"""

from __future__ import annotations

import ast
import builtins
from collections.abc import Callable
from typing import Any

from flatgrad.errors import error
from flatgrad.frontend.calls import CallLowerer
from flatgrad.frontend.refs import Ref
from flatgrad.frontend.values import ControlFlow, Maybe, read
from flatgrad.primitives.core import TRIPS
from flatgrad.primitives.effects import RAISE
from flatgrad.primitives.symbolic import Symbol, apply_function


class Raised(ControlFlow):
    """Control ended in an error; `refusal` is what the user is told if no data avoid it."""

    def __init__(self, refusal: Exception) -> None:
        super().__init__()
        self.refusal = refusal


class RaiseLowerer(CallLowerer):
    """Evaluates statements that raise errors."""

    def exec_Raise(self, node: ast.Raise) -> None:
        refusal = self.refuse(
            node, "unsupported-statement", "`raise` is reached whatever the data are",
            "raise under a condition",
        )  # fmt: skip
        if node.exc is None or not (node.cause is None or _is_none(node.cause)):
            what = "`raise` of the error being handled" if node.exc is None else "`raise ... from`"
            raise self.refuse(node, "unsupported-statement", what, "raise a new error")
        made = node.exc
        kind = self.value(made.func if isinstance(made, ast.Call) else made)
        if getattr(builtins, getattr(kind, "__name__", ""), None) is not kind or not (
            isinstance(kind, type) and issubclass(kind, Exception)
        ):
            raise self.refuse(
                node, "unsupported-statement", "`raise` of something that is no built-in exception",
                'raise one of Python\'s, as `raise ValueError("...")`',
            )  # fmt: skip
        given: list[ast.expr] = []
        if isinstance(made, ast.Call):
            given = made.args
            if made.keywords or len(given) > 1 or any(isinstance(a, ast.Starred) for a in given):
                raise self.refuse(
                    made, "unsupported-statement", "an error with more than a message",
                    "give it one string",
                )  # fmt: skip
        self.emit_raise(kind, given[0] if given else None)
        raise Raised(refusal)

    def emit_raise(self, kind: type[Exception], message: ast.expr | None) -> None:
        """Append the operation that raises."""
        values: list[Any] = []
        text = None if message is None else self.message(message, values)
        apply_function(RAISE, (values,), {"kind": kind, "message": text}, self.builder)

    def message(self, node: ast.expr, values: list[Any]) -> str:
        """The text of an error as a template; run-time data in an f-string go to `values`."""
        if not isinstance(node, ast.JoinedStr):
            return self.part_of_message(node, self.value(node), "", values)
        parts = []
        for part in node.values:
            if not isinstance(part, ast.FormattedValue):
                parts.append(self.part_of_message(part, self.value(part), "", values))
                continue
            form = "" if part.format_spec is None else f":{self.value(part.format_spec)}"
            if part.conversion != -1:
                form = f"!{chr(part.conversion)}{form}"
            parts.append(self.part_of_message(part, self.value(part.value), form, values))
        return "".join(parts)

    def part_of_message(self, node: ast.AST, found: Any, form: str, values: list[Any]) -> str:
        """One part of a template, with its braces doubled, or a field for what is not static."""
        if isinstance(found, Symbol | Ref):
            values.append(read(found))
            return f"{{{len(values) - 1}{form}}}"
        text = self.static(node, f"{{0{form}}}".format, found)
        return str(text).replace("{", "{{").replace("}", "}}")

    def exec_Assert(self, node: ast.Assert) -> None:
        condition = self.test(node.test)
        if condition is True:
            return
        message = "AssertionError"
        if node.msg is not None:
            message += f": {self.source.segment(node.msg)}"
        refusal = self.refuse(node, "static-evaluation", message)

        def fail() -> None:
            self.emit_raise(AssertionError, node.msg)
            raise Raised(refusal)

        if condition is False:
            fail()
        self.fork(condition, lambda: None, fail)

    def surely(self, name: str, found: Maybe) -> Any:
        """What a loop has assigned; an error where it has had no trip."""
        start, stop, step = found.bounds
        if (type(start), start, type(step), step) == (int, 0, int, 1):
            trips = stop
        else:
            trips = apply_function(TRIPS, found.bounds, {}, self.builder)

        def fail() -> None:
            where = "where it is not associated with a value"
            message = f"cannot access local variable '{name}' {where}"
            values = {"kind": UnboundLocalError, "message": message}
            apply_function(RAISE, ([],), values, self.builder)
            raise Raised(error("undefined-name", f"`{name}` is not assigned"))

        self.fork(trips < 1, fail, lambda: None)
        if not self.shared.growing.loops:
            owner = self.owner(name)
            assert owner is not None
            owner.env[name] = found.value
        return found.value

    def eval_Name(self, node: ast.Name) -> Any:
        found = super().eval_Name(node)
        return self.surely(node.id, found) if isinstance(found, Maybe) else found

    def check_index(self, wrong: Any, *, sure: bool = False) -> None:
        """Raise an IndexError where a list has fewer items, unless it surely has enough."""
        if sure or wrong is False:
            return

        def fail() -> None:
            values = {"kind": IndexError, "message": "list index out of range"}
            apply_function(RAISE, ([],), values, self.builder)
            span = self.builder.origin.span
            raise Raised(error("static-evaluation", "IndexError: list index out of range", span))

        if wrong is True:
            fail()
        self.fork(wrong, fail, lambda: None)

    def test(self, node: ast.expr) -> Any:
        """The truth of a condition: a bool, or a Symbol of one."""
        raise NotImplementedError

    def fork(
        self,
        condition: Symbol,
        then: Callable[[], Any],
        orelse: Callable[[], Any],
        *,
        dead: Any = None,
        what: str = "the value",
    ) -> Any:
        """Lower both paths; what they hand out, joined."""
        raise NotImplementedError


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None
