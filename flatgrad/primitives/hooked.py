"""Operations that are there for the backward sweep: forward they hand on their operand.

    h1 = adjoint(h, [c])          # backward: the lines of a `with adjoint(h) as g:`, which read c
    y1 = custom_vjp(y, [x], [r])  # backward: the cotangent of x is what a rule of the user's says

Each such place has a primitive of its own, which holds the lines as IR. When a sweep has run them,
the operation is taken out of the program: it has no part in further derivatives.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from flatgrad.errors import error
from flatgrad.ir.builder import Builder
from flatgrad.ir.copies import copied_ops, twin
from flatgrad.ir.ops import Apply, Block, Operand, Value, blocks_of, operands_of
from flatgrad.primitives.custom import _check_fit
from flatgrad.primitives.registry import Param, Primitive
from flatgrad.primitives.symbolic import operand_of, symbol_of


class Place:
    """A `with adjoint(h) as g:` in the user's program.

    `repeated`: a checkpointed loop runs it again, so that a further sweep would come by twice.
    """

    repeated = False


@dataclass(frozen=True, slots=True)
class Template:
    """Operations over parameters, to be put into a backward sweep."""

    block: Block

    def placed(self, operands: Sequence[Any], builder: Builder) -> list[Any]:
        """Append the operations with the operands in place of the parameters; what they yield."""
        mapping: dict[Value, Operand] = {}
        for param, given in zip(self.block.params, operands, strict=True):
            mapping[param] = operand_of(given)
        ops = copied_ops(self.block.ops, mapping, "backward")
        builder.block.ops += ops
        for op in ops:
            if isinstance(op, Apply):
                builder.made.update(dict.fromkeys(op.results, op))
        yields = [
            mapping.get(item, item) if isinstance(item, Value) else item
            for item in self.block.yields
        ]
        made = {value for op in ops if isinstance(op, Apply) for value in op.results}
        for item in yields:
            if item in made:
                item.kept = False  # the sweep gives it the name of the adjoint that it is
        return [symbol_of(item, builder) for item in yields]


def template(block: Block, params: Sequence[Value]) -> tuple[Template, list[Value]]:
    """A block over `params` and over all that it reads from outside, which is returned, too."""
    outside = _reads(block, set(params))
    inside: list[Value] = [twin(value) for value in outside]
    mapping: dict[Value, Operand] = dict(zip(outside, inside, strict=True))
    ops = copied_ops(block.ops, mapping, "backward")
    yields = tuple(
        [mapping.get(item, item) if isinstance(item, Value) else item for item in block.yields]
    )
    return Template(Block((*params, *inside), ops, yields)), outside


def _reads(block: Block, defined: set[Value]) -> list[Value]:
    found: dict[Value, None] = {}
    known = {*defined, *block.params}
    for op in block.ops:
        for operand in operands_of(op):
            if isinstance(operand, Value) and operand not in known:
                found[operand] = None
        for inner in blocks_of(op):
            found.update(dict.fromkeys(_reads(inner, known)))
        known.update(op.results)
    yields = [item for item in block.yields if isinstance(item, Value) and item not in known]
    found.update(dict.fromkeys(yields))
    return list(found)


def _param(name: str) -> Param:
    return Param(name, True, True, True, inspect.Parameter.empty)


def _first(x: Any, *rest: Any) -> Any:
    return x


def adjoint_hook(lines: Template) -> Primitive:
    """The primitive of one `with adjoint(h) as g:`, whose lines take g and what they read."""

    def vjp(grad_y: Any, y: Any, x: Any, values: list[Any]) -> Any:
        builder = y.builder
        (found,) = lines.placed([grad_y, *values], builder)
        return found, [None] * len(values)

    return Primitive(
        name="adjoint", function=_first, text="adjoint", type_rule=_first,
        params=(_param("x"), _param("values")), alias="x", hook=Place(), vjp=vjp,
        jvp=lambda dots, y, x, values: dots[0],
    )  # fmt: skip


def custom_rule(
    name: str, lines: Template, chosen: list[int | None], names: list[str]
) -> tuple[Primitive, Primitive]:
    """The primitive of one call of a `custom_vjp`, and the one that detaches its arguments.

    `chosen` tells for each argument which yield of `lines` is its cotangent; `lines` take the
    adjoint and what they read.
    """
    group = object()

    def vjp(grad_y: Any, y: Any, x: Any, args: list[Any], values: list[Any]) -> Any:
        found = lines.placed([grad_y, *values], y.builder)
        cotangents = [None if k is None else found[k] for k in chosen]
        for title, arg, cotangent in zip(names, args, cotangents, strict=True):
            _check_fit(rule, f"the cotangent of `{title}`", cotangent, arg)
        return grad_y, cotangents, [None] * len(values)

    def jvp(dots: Any, y: Any, x: Any, args: Any, values: Any) -> Any:
        if all(dot is None for dot in dots[1]):
            return dots[0]
        raise error(
            "no-derivative", f"`{name}` has a custom_vjp, and so no forward rule",
            y.builder.origin.span,
            help="use reverse mode, or give it rules by flatgrad.defvjp and flatgrad.defjvp",
        )  # fmt: skip

    rule = Primitive(
        name="custom_vjp", function=_first, text=name, type_rule=_first,
        params=(_param("x"), _param("args"), _param("values")), alias="x", hook=group,
        vjp=vjp, jvp=jvp,
    )  # fmt: skip
    detach = Primitive(
        name="detached", function=_first, text="detached", type_rule=_first,
        params=(_param("x"),), alias="x", derivative=False, hook=group,
    )  # fmt: skip
    return rule, detach



__all__ = ["Place", "Template", "adjoint_hook", "custom_rule", "template"]
