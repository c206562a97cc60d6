"""From an IR function to the lines of a Python function.

    func f_grad(...) { ... }      ->      def f_grad(w0, x0, w1, x1, w2):
                                              # forward
                                              s0 = w0 * x0
                                              ...

What a backend writes differently (a missing NumPy function, a cast) is its `Dialect`'s business; a
loop emitter will be another producer of `Line`s for groups of operations.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from typing import Any

from flatgrad.codegen.buffers import in_place_writes, overlapping_writes, written_operand
from flatgrad.codegen.expressions import (
    call,
    constant,
    dotted,
    literal,
    name,
    sliceless,
    subscript,
    write,
)
from flatgrad.codegen.format import statement_text
from flatgrad.codegen.names import Names
from flatgrad.codegen.schedule import schedule
from flatgrad.errors import error
from flatgrad.ir.ops import Apply, Block, Const, Function, Operand, Origin, Slot, Value, substitute
from flatgrad.ir.types import Array
from flatgrad.primitives.index import ADD_ITEM, has_duplicates
from flatgrad.primitives.symbolic import REQUIRE_EQUAL

WITHIN = {"tangent": "forward", "derived": "forward"}
"""Operations whose lines stand between those of a sweep."""


def heading(sweep: str) -> str:
    """The sweep under whose heading a line stands: `backward` for a `backward tangent`."""
    return WITHIN.get(sweep) or sweep.removesuffix(" tangent")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of emitted code, without indentation, and where it comes from."""

    text: str
    origin: Origin | None = None
    depth: int = 1


class Dialect:
    """How operations are written for NumPy; the Numba dialect overrides what Numba lacks.

    `helpers` collects the functions whose text must stand in the module, by name; `objects` the
    users' functions that the module gets as they are.
    """

    backend = "numpy"
    copies_overlap = True  # NumPy sees when what is written shares memory with where it goes
    decorator: str | None = None
    main_decorator: str | None = None

    def __init__(self) -> None:
        self.helpers: dict[str, str] = {}
        self.objects: dict[str, Any] = {}

    def returned(self, tree: Any) -> Any:
        """The structure in which results are returned."""
        return tree

    def expression(
        self, op: Apply, operands: list[ast.expr], overrides: dict[str, ast.expr]
    ) -> ast.expr:
        """One operation as an expression; `overrides` are arguments that have a shorter text."""
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

    def set_in_place(self, op: Apply, base: str, index: Any, value: ast.expr) -> ast.stmt:
        """`base[index] = value`."""
        target = subscript(name(base), index)
        target.ctx = ast.Store()  # type: ignore[attr-defined]
        return ast.Assign([target], value, lineno=0)


@dataclass(slots=True)
class Emitted:
    """The lines of a function body and the names under which its parameters go."""

    params: list[str]
    lines: list[Line] = field(default_factory=list)


def emit(fn: Function, dialect: Dialect, taken: frozenset[str] = frozenset()) -> Emitted:
    """The body of `fn` as lines."""
    emitter = _Emitter(fn, dialect, taken)
    return emitter.run()


class _Emitter:
    """Writes one function."""

    def __init__(self, fn: Function, dialect: Dialect, taken: frozenset[str]) -> None:
        self.fn = fn
        self.dialect = dialect
        self.names = Names(taken)
        self.written: dict[Value, ast.expr] = {}
        self.visible: list[Value] = []
        self.params = [self.declare(param) for param in fn.params]
        self.out = Emitted(self.params)
        self.sweep: str | None = None
        self.overlapping: set[Apply] = set()
        self.headings = {heading(op.origin.sweep) for op in fn.body.ops} - {"forward", "return"}

    def run(self) -> Emitted:
        self.block(self.fn.body)
        self.out.lines.append(Line(f"return {self.returned()}"))
        return self.out

    def returned(self) -> str:
        tree = self.dialect.returned(self.fn.tree)
        tree = substitute(tree, lambda k: self.operand(self.fn.results[k]))
        text = statement_text(ast.Return(literal(tree)))
        return text.removeprefix("return ")

    def declare(self, value: Value, base: str | None = None) -> str:
        """Give a value its name in the text."""
        identifier = self.names.fresh(self.named_after(value) or base or value.name or "value")
        self.written[value] = name(identifier)
        self.visible.append(value)
        return identifier

    def named_after(self, value: Value) -> str | None:
        """The adjoint of what is written as `s_1` is `grad_s_1`."""
        if value.of is None:
            return None
        prefix, primal = value.of
        node = self.written.get(primal)
        return f"{prefix}_{node.id}" if isinstance(node, ast.Name) else None

    def operand(self, operand: Operand) -> ast.expr:
        """An operand as an expression."""
        return constant(operand) if isinstance(operand, Const) else self.written[operand]

    def line(self, node: ast.stmt, origin: Origin) -> None:
        """Append a statement, under the heading of its sweep."""
        sweep = heading(origin.sweep)
        if self.headings and sweep != self.sweep:
            self.sweep = sweep
            self.out.lines.append(Line(f"# {sweep}"))
        for text in statement_text(node).splitlines():
            indent = len(text) - len(text.lstrip())
            self.out.lines.append(Line(text.lstrip(), origin, 1 + indent // 4))

    def block(self, block: Block) -> None:
        plan = schedule(block)
        in_place = in_place_writes(block)
        self.overlapping = set() if self.dialect.copies_overlap else overlapping_writes(block)
        final = _final_names(block, in_place)
        for op in block.ops:
            if not isinstance(op, Apply):
                raise error("internal", f"no emission of {type(op).__name__} yet")
            if op.primitive.in_place:
                self.write_in_place(op, op in in_place, final)
                continue
            operands = [self.operand(operand) for operand in op.operands]
            node = self.dialect.expression(op, operands, self.overrides(op))
            if op.primitive.function is REQUIRE_EQUAL:
                self.line(requirement(operands, op.arguments["message"]), op.origin)
            elif not op.results:
                self.line(ast.Expr(node), op.origin)
            elif op.result in plan.inline:
                self.written[op.result] = node
            else:
                named = final.get(op.result, op.result)
                target = ast.Name(self.declare(op.result, named.name), ast.Store())
                self.line(ast.Assign([target], node, lineno=0), op.origin)

    def overrides(self, op: Apply) -> dict[str, ast.expr]:
        """Arguments with a shorter text: lengths that form the shape of an array are `x.shape`."""
        shape = op.arguments.get("shape")
        if not isinstance(shape, tuple) or not any(isinstance(item, Slot) for item in shape):
            return {}
        known = self.known_shape(op)
        return {} if known is None else {"shape": known}

    def known_shape(self, op: Apply) -> ast.expr | None:
        """`x.shape` of a visible array with exactly the shape of the result."""
        wanted = op.result.type.shape
        for value in self.visible:
            if isinstance(value.type, Array) and value.type.shape == wanted:
                return ast.Attribute(self.written[value], "shape", ast.Load())
        return None

    def write_in_place(self, op: Apply, allowed: bool, final: dict[Value, Value]) -> None:
        """`a[i] = v` or `a[i] += v`, on a copy where the old version is still needed."""
        base = written_operand(op)
        assert base is not None
        arguments = substitute(op.arguments, [self.operand(o) for o in op.operands].__getitem__)
        value = arguments["value"]
        old = self.written[base]
        if allowed and isinstance(old, ast.Name):
            identifier = old.id
            self.written[op.result] = old
            self.visible.append(op.result)
            if op in self.overlapping:
                value = call(ast.Attribute(value, "copy", ast.Load()), [], {})
        else:
            copied = call(ast.Attribute(self.written[base], "copy", ast.Load()), [], {})
            identifier = self.declare(op.result)
            target = ast.Name(identifier, ast.Store())
            self.line(ast.Assign([target], copied, lineno=0), op.origin)
        index = arguments["index"]
        if op.primitive.function is ADD_ITEM:
            self.line(self.dialect.add_in_place(op, identifier, index, value), op.origin)
            return
        self.line(self.dialect.set_in_place(op, identifier, index, value), op.origin)


def requirement(operands: list[ast.expr], message: str) -> ast.stmt:
    """`if left != right: raise ValueError(message)`."""
    left, right = operands
    raised = ast.Raise(call(dotted("ValueError"), [literal(message)], {}), None)
    return ast.If(ast.Compare(left, [ast.NotEq()], [right]), [raised], [])


def _final_names(block: Block, in_place: set[Apply]) -> dict[Value, Value]:
    """For the first version of an array written in place, the last: it gives the name."""
    final: dict[Value, Value] = {}
    for op in reversed(block.ops):
        if isinstance(op, Apply) and op in in_place:
            base = written_operand(op)
            assert base is not None
            if not base.kept:
                final[base] = final.get(op.result, op.result)
    return final
