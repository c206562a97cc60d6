"""How operations are written for a backend: what `emit` asks, with NumPy's answers.

    y = np.exp(x)     a[i] += v     y += x

What a backend writes differently (a missing NumPy function, a cast) is overridden there.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from flatgrad.codegen.apart import Apart
from flatgrad.codegen.destinations import Destinations
from flatgrad.codegen.expressions import (
    call,
    dotted,
    literal,
    name,
    sliceless,
    subscript,
    takes_out,
    whole_assigned,
    write,
)
from flatgrad.codegen.lines import Line
from flatgrad.codegen.plan import Plan, plan_text
from flatgrad.ir.ops import Apply, Const, For, Function, Operand, substitute
from flatgrad.ir.trees import as_tuples, comes_as_tuples
from flatgrad.options import DEFAULT, Options
from flatgrad.primitives.index import has_duplicates

ONTO: dict[type[ast.operator], str] = {
    ast.Add: "np.add", ast.Sub: "np.subtract", ast.Mult: "np.multiply", ast.Div: "np.divide",
    ast.MatMult: "np.matmul",
}  # fmt: skip
"""Functions that write what an operator gives into an array."""


class Dialect:
    """How operations are written for NumPy; the Numba dialect overrides what Numba lacks.

    `helpers` collects the functions whose text must stand in the module, by name; `objects` the
    users' functions that the module gets as they are; `functions` names those of the program.
    """

    backend = "numpy"
    formats_messages = True
    decorator: str | None = None
    main_decorator: str | None = None
    reserved: frozenset[str] = frozenset()  # names that no variable may have
    in_nest = False  # whether loops over elements are being written
    exact = False  # whether what is computed twice must be equal to the last bit
    contracts = False  # whether a product and a sum may be rounded once
    contracts_apart = False  # the same in the functions of strips
    puts_apart = False  # whether loops with `apart` become functions of their own

    def __init__(self, options: Options = DEFAULT) -> None:
        self.options = options
        self.helpers: dict[str, str] = {}
        self.objects: dict[str, Any] = {}
        self.functions: dict[Any, str] = {}
        self.plans: dict[Function, Plan] = {}
        self.destinations = Destinations(zeros=not options.parallel)

    @contextmanager
    def inside(self, *, nest: bool) -> Iterator[None]:
        """What is written inside belongs to loops over elements, or does not."""
        saved, self.in_nest = self.in_nest, nest
        try:
            yield
        finally:
            self.in_nest = saved

    def told_apart(self, emitted: Emitted) -> list[Line]:
        """The lines of a function, under names that the backend can tell apart."""
        return emitted.lines

    def returned(self, tree: Any) -> Any:
        """The structure in which results are returned."""
        return as_tuples(tree) if comes_as_tuples(tree) else tree

    def decorator_apart(self) -> str | None:
        """What stands above a loop that has become a function."""
        return self.decorator

    def decorator_of(self, fn: Function, *, nest: bool) -> str | None:
        """What stands above a function; `nest` for loops over elements."""
        return self.main_decorator

    def in_ranges(self, callees: list[Any]) -> list[Any]:
        """The functions to write for these: also those for ranges of their rows, before them."""
        return callees

    def loop_in_ranges(
        self, loop: For, operand: Callable[[Operand], ast.expr], fresh: Callable[[str], str]
    ) -> list[str] | None:
        """The lines of a loop that runs in several threads; None: it does not."""
        return None

    def plan(self, fn: Function) -> Plan:
        """The plan for the text of a function, made once."""
        if fn not in self.plans:
            self.plans[fn] = plan_text(fn)
        return self.plans[fn]

    def enter(self, fn: Function) -> None:
        """Take note of a function that others call, before it is written."""

    def called(self, op: Apply, operands: list[ast.expr]) -> ast.expr:
        """A call of a function of the program, under its name in the module."""
        return call(name(self.functions[op.primitive]), operands, {})

    def expression(
        self, op: Apply, operands: list[ast.expr], overrides: dict[str, ast.expr]
    ) -> ast.expr:
        """One operation as an expression; `overrides` are arguments that have a shorter text."""
        if op.primitive.body is not None:
            return self.called(op, operands)
        return write(op, operands, overrides)

    def add_in_place(self, op: Apply, base: str, index: Any, value: ast.expr) -> ast.stmt:
        """`base[index] += value`, with duplicates adding up."""
        kinds = substitute(op.arguments["index"], lambda k: op.operands[k].type)
        if has_duplicates(kinds):
            place = literal(sliceless(index))
            add_at = call(dotted("np.add.at"), [name(base), place, value], {})
            return ast.Expr(add_at)
        target = subscript(name(base), index)
        target.ctx = ast.Store()  # type: ignore[attr-defined]
        return ast.AugAssign(target, ast.Add(), value)  # type: ignore[arg-type]

    def add_products(self, op: Apply, base: str, a: Any, b: Any, w: Any) -> ast.stmt:
        """`base += (a @ b) * w`."""
        value = ast.BinOp(literal(a), ast.MatMult(), literal(b))
        if not isinstance(op.operands[3], Const):
            value = ast.BinOp(value, ast.Mult(), literal(w))
        return ast.AugAssign(ast.Name(base, ast.Store()), ast.Add(), value)

    def augmented(
        self, op: Apply, target: ast.Name, sign: ast.operator, value: ast.expr, inner: Apply | None
    ) -> ast.stmt:
        """`y += value`; `inner` is the call that `value` is the text of, if it is one."""
        return ast.AugAssign(target, sign, value)

    def into_place(self, place: str, value: ast.expr) -> ast.stmt:
        """A result written into the whole of an array that is there for it."""
        if isinstance(value, ast.BinOp) and type(value.op) in ONTO:
            function = dotted(ONTO[type(value.op)])
            return ast.Expr(call(function, [value.left, value.right], {"out": name(place)}))
        if isinstance(value, ast.Call) and takes_out(value):
            out = ast.keyword("out", name(place))
            return ast.Expr(ast.Call(value.func, value.args, [*value.keywords, out]))
        return whole_assigned(place, value)

    def set_in_place(self, op: Apply, base: str, index: Any, value: ast.expr) -> ast.stmt:
        """`base[index] = value`."""
        target = subscript(name(base), index)
        target.ctx = ast.Store()  # type: ignore[attr-defined]
        return ast.Assign([target], value, lineno=0)


@dataclass(slots=True)
class Emitted:
    """The lines of a function body and the names under which its parameters go.

    `apart` are loops that have become functions of their own.
    """

    params: list[str]
    lines: list[Line] = field(default_factory=list)
    apart: list[Apart] = field(default_factory=list)
