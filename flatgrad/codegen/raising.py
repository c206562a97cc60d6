"""How errors are written that the emitted code raises.

    raise ValueError(f"x is {x}")                    # the user's own
    if left != right: raise ValueError("...")        # lengths that must agree
"""

from __future__ import annotations

import ast
from string import Formatter

from flatgrad.codegen.expressions import call, dotted, literal
from flatgrad.codegen.format import expression_text
from flatgrad.ir.ops import Apply
from flatgrad.primitives.lengths import OUT_OF_BOUNDS


def requirement(
    operands: list[ast.expr], message: str, wrong: ast.cmpop | None = None
) -> ast.stmt:
    """`if left != right: raise ValueError(message)`; `wrong` stands in the place of `!=`."""
    left, right = operands
    raised = ast.Raise(call(dotted("ValueError"), [literal(message)], {}), None)
    return ast.If(ast.Compare(left, [wrong or ast.NotEq()], [right]), [raised], [])


def on_axis(operands: list[ast.expr], message: str) -> ast.stmt:
    """`if not 0 <= index < length: raise ValueError(message)`."""
    index, length = operands
    found = ast.Compare(ast.Constant(0), [ast.LtE(), ast.Lt()], [index, length])
    raised = ast.Raise(call(dotted("ValueError"), [literal(message)], {}), None)
    return ast.If(ast.UnaryOp(ast.Not(), found), [raised], [])


def on_axis_from_either_end(operands: list[ast.expr]) -> ast.stmt:
    """`if not -length <= index < length: raise IndexError("...")`."""
    index, length = operands
    lowest = ast.UnaryOp(ast.USub(), length)
    if isinstance(length, ast.Constant) and isinstance(length.value, int):
        lowest = ast.Constant(-length.value)  # type: ignore[assignment]
    found = ast.Compare(lowest, [ast.LtE(), ast.Lt()], [index, length])
    raised = call(dotted("IndexError"), [literal("index is out of bounds")], {})
    return ast.If(ast.UnaryOp(ast.Not(), found), [ast.Raise(raised, None)], [])


def within(operands: list[ast.expr]) -> ast.stmt:
    """`if start < stop and needed > length: raise IndexError(...)`."""
    start, stop, needed, length = operands
    runs = ast.Compare(start, [ast.Lt()], [stop])
    wrong = ast.Compare(needed, [ast.Gt()], [length])
    raised = ast.Raise(call(dotted("IndexError"), [literal(OUT_OF_BOUNDS)], {}), None)
    return ast.If(ast.BoolOp(ast.And(), [runs, wrong]), [raised], [])


def raising(op: Apply, operands: list[ast.expr], *, formats: bool) -> ast.stmt:
    """`raise ValueError(f"x is {x}")`; the message keeps its `{x}` unless the backend `formats`."""
    kind, template = op.arguments["kind"].__name__, op.arguments["message"]
    if template is None:
        return ast.Raise(dotted(kind), None)
    message = _f_string(template, operands)
    plain = all(isinstance(part, ast.Constant) for part in message.values)
    node = message if formats and not plain else ast.Constant(_as_text(message))
    return ast.Raise(call(dotted(kind), [node], {}), None)


def _f_string(template: str, operands: list[ast.expr]) -> ast.JoinedStr:
    parts: list[ast.expr] = []
    for text, field, form, conversion in Formatter().parse(template):
        if text:
            parts.append(ast.Constant(text))
        if field is not None:
            spec = ast.JoinedStr([ast.Constant(form)]) if form else None
            code = ord(conversion) if conversion else -1
            parts.append(ast.FormattedValue(operands[int(field)], code, spec))
    return ast.JoinedStr(parts)


def _as_text(message: ast.JoinedStr) -> str:
    """An f-string as it is written, without the values."""
    texts = []
    for part in message.values:
        if isinstance(part, ast.FormattedValue):
            texts.append(f"{{{expression_text(part.value)}}}")
        else:
            assert isinstance(part, ast.Constant)
            texts.append(str(part.value))
    return "".join(texts)
