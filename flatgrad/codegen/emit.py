"""From an IR function to the lines of a Python function.

    func f_grad(...) { ... }      ->      def f_grad(w0, x0, w1, x1, w2):
                                              # forward
                                              s0 = w0 * x0
                                              ...

What a backend writes differently (a missing NumPy function, a cast) is its `Dialect`'s business.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

from flatgrad.codegen.apart import Apart, read_first, set_by
from flatgrad.codegen.blocks import BlockEmitter
from flatgrad.codegen.buffers import written_operand
from flatgrad.codegen.coalesce import Variable
from flatgrad.codegen.destinations import Placed
from flatgrad.codegen.dialect import Dialect, Emitted
from flatgrad.codegen.expressions import (
    call,
    constant,
    literal,
    name,
    subscript,
)
from flatgrad.codegen.filling import Place
from flatgrad.codegen.format import statement_text
from flatgrad.codegen.growing import push_helper
from flatgrad.codegen.lines import Line, sweep_heading
from flatgrad.codegen.names import Names
from flatgrad.codegen.raising import (
    on_axis,
    on_axis_from_either_end,
    raising,
    requirement,
    within,
)
from flatgrad.codegen.row_ranges import require_in_place
from flatgrad.errors import error
from flatgrad.ir.ops import (
    Apply,
    Const,
    For,
    Function,
    Operand,
    Origin,
    Slot,
    Value,
    While,
    substitute,
)
from flatgrad.ir.types import Array
from flatgrad.primitives.core import PUSH, REQUIRE_SOME
from flatgrad.primitives.effects import RAISE
from flatgrad.primitives.index import ADD_ITEM
from flatgrad.primitives.lengths import REQUIRE_ENTRY, REQUIRE_WITHIN
from flatgrad.primitives.stacked import ADD_PRODUCTS
from flatgrad.primitives.symbolic import REQUIRE_EQUAL, REQUIRE_INDEX


def emit(fn: Function, dialect: Dialect, taken: frozenset[str] = frozenset()) -> Emitted:
    """The body of `fn` as lines."""
    emitter = _Emitter(fn, dialect, taken)
    return emitter.run()


class _Emitter(BlockEmitter):
    """Writes one function: calls and writes in place here, loops and branches in its base."""

    def __init__(self, fn: Function, dialect: Dialect, taken: frozenset[str]) -> None:
        self.fn = fn
        self.dialect = dialect
        self.inline, self.buffers, self.variables = dialect.plan(fn)
        self.names = Names(taken)
        self.identifiers: dict[Variable, str] = {}
        self.written: dict[Value, ast.expr] = {}
        self.within: dict[Operand, Apply] = {}
        self.visible: list[Value] = []
        self.lines: list[Line] = []
        self.apart: list[Apart] = []
        self.depth = 1
        if dialect.in_nest and fn.places:
            require_in_place(fn.body, self.buffers)
        self.sweep: str | None = None
        sweeps = {sweep_heading(op.origin.sweep) for op in fn.body.ops}
        self.headings = set() if dialect.in_nest else sweeps - {"forward", "return"}
        self.params = [self.declared_param(param) for param in fn.params]

    def declared_param(self, param: Value) -> str:
        """The name of a parameter; of one that is a part of what is handed in, that of the whole.

        `u_next`, and in the first line `u_sum = u_next[1:-1]`.
        """
        identifier = self.declare(param)
        place = self.dialect.destinations.parts.get(self.fn, {}).get(param)
        if place is None:
            return identifier
        whole = self.names.fresh(place.name or "value")
        part = subscript(name(whole), place.index)
        target = ast.Name(identifier, ast.Store())
        self.line(ast.Assign([target], part, lineno=0), Origin())
        return whole

    def run(self) -> Emitted:
        self.block(self.fn.body)
        if self.fn.results or not self.dialect.in_nest:
            self.lines.append(Line(f"return {self.returned()}"))
        return Emitted(self.params, self.lines, self.apart)

    def in_nest(self, nest: bool) -> AbstractContextManager[None]:
        """What is written inside belongs to a loop over elements, or goes on as it is."""
        return self.dialect.inside(nest=nest or self.dialect.in_nest)

    def in_ranges(self, op: For) -> list[str] | None:
        """The lines of a loop that runs in several threads; None: it does not."""
        return self.dialect.loop_in_ranges(op, self.operand, self.names.fresh)

    def put_apart(self, op: For, lines: list[Line]) -> bool:
        """Write a call of a function that has the lines of a loop; not where it replaces arrays."""
        self.results(op)
        names = {result: self.written[result].id for result in op.results}  # type: ignore[attr-defined]
        changed = set_by(lines)
        arrays = {name for result, name in names.items() if result.type.ndim}
        known = {*self.params, *set_by(self.lines), *self.identifiers.values()}
        if not self.dialect.puts_apart or arrays & changed:
            return False
        numbers = [name for result, name in names.items() if name in changed]
        params = [name for name in read_first(lines) if name in known]
        made = self.names.fresh("over_strips")
        returned = [Line(f"return {', '.join(numbers)}")] if numbers else []
        outside = self.depth - 1
        lines = [replace(line, depth=line.depth - outside) for line in lines]
        self.apart.append(Apart(made, params, [*lines, *returned]))
        sweeps = {line.origin.sweep for line in lines if line.origin is not None}
        origin = replace(op.origin, sweep="early") if len(sweeps) > 1 else op.origin
        target = f"{', '.join(numbers)} = " if numbers else ""
        self.text(f"{target}{made}({', '.join(params)})", origin)
        return True

    def returned(self) -> str:
        tree = self.dialect.returned(self.fn.tree)
        tree = substitute(tree, lambda k: self.operand(self.fn.results[k]))
        text = statement_text(ast.Return(literal(tree)))
        return text.removeprefix("return ")

    def declare(self, value: Value) -> str:
        """The name of the variable that holds `value` from here on."""
        variable = self.variables.variable[value]
        identifier = self.identifiers.get(variable)
        if identifier is None:
            head = variable.head
            base = self.named_after(head) or self.named_after(value) or head.name
            identifier = self.names.fresh(base or value.name or "value")
            self.identifiers[variable] = identifier
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
        self.heading(origin)
        for text in statement_text(node).splitlines():
            indent = len(text) - len(text.lstrip())
            self.lines.append(Line(text.lstrip(), origin, self.depth + indent // 4))

    def origin_of_start(self, op: For | While) -> Origin:
        """All of a nest comes from the user's statements."""
        return op.origin if self.dialect.in_nest else super().origin_of_start(op)

    def heading(self, origin: Origin) -> None:
        """`# forward` or `# backward` where a sweep begins."""
        sweep = sweep_heading(origin.sweep)
        if self.depth == 1 and self.headings and sweep != self.sweep:
            self.sweep = sweep
            self.lines.append(Line(f"# {sweep}"))

    @contextmanager
    def nested(self) -> Iterator[list[Line]]:
        """Lines written inside stand one level deeper, in a list of their own."""
        lines, visible = self.lines, len(self.visible)
        self.lines, self.depth = [], self.depth + 1
        try:
            yield self.lines
        finally:
            self.lines, self.depth = lines, self.depth - 1
            del self.visible[visible:]

    def apply(self, op: Apply) -> None:
        """Write one call, as a statement or for use in an expression."""
        destinations = self.dialect.destinations
        if op in destinations.done or (op in destinations.unread and op.result not in self.inline):
            self.declare(op.result)
            return
        if op.primitive.in_place:
            self.write_in_place(op)
            return
        operands = [self.operand(operand) for operand in op.operands]
        placed = destinations.calls.get(op)
        if placed is not None:
            self.call_with_places(op, placed, operands)
            return
        if op.primitive.function is RAISE:
            self.line(raising(op, operands, formats=self.dialect.formats_messages), op.origin)
            return
        node = self.dialect.expression(op, operands, self.overrides(op))
        if op.results and op.results[0] in self.buffers.parts:
            node = call(ast.Attribute(node, "copy", ast.Load()), [], {})
        if len(op.results) > 1:
            targets: list[ast.expr] = [
                ast.Name(self.declare(result), ast.Store()) for result in op.results
            ]
            self.line(ast.Assign([ast.Tuple(targets, ast.Store())], node, lineno=0), op.origin)
        elif op.primitive.function is REQUIRE_EQUAL:
            self.line(requirement(operands, op.arguments["message"]), op.origin)
        elif op.primitive.function is REQUIRE_SOME:
            given = [*operands, ast.Constant(0)]
            self.line(requirement(given, op.arguments["message"], ast.Eq()), op.origin)
        elif op.primitive.function is REQUIRE_INDEX:
            self.line(on_axis(operands, op.arguments["message"]), op.origin)
        elif op.primitive.function is REQUIRE_ENTRY:
            self.line(on_axis_from_either_end(operands), op.origin)
        elif op.primitive.function is REQUIRE_WITHIN:
            self.line(within(operands), op.origin)
        elif not op.results:
            self.line(ast.Expr(node), op.origin)
        elif op.result in self.inline:
            self.written[op.result] = node
            self.within[op.result] = op
        else:
            statement = self.assignment(op, node)
            if not _assigns_itself(statement):
                self.line(statement, op.origin)

    def call_with_places(self, op: Apply, placed: Placed, operands: list[ast.expr]) -> None:
        """`L = L_loop(x, tape[t])`: a nest that writes some of its results where they go."""
        operands = [one for k, one in enumerate(operands) if k not in placed.read]
        parts = zip(placed.writes, placed.bases, placed.places, strict=True)
        operands += [self.part_to_fill(*part) for part in parts]
        node = call(name(self.dialect.functions[placed.callee]), operands, {})
        targets: list[ast.expr] = [
            ast.Name(self.declare(result), ast.Store()) for result in placed.results
        ]
        if not targets:
            self.line(ast.Expr(node), op.origin)
            return
        target = targets[0] if len(targets) == 1 else ast.Tuple(targets, ast.Store())
        self.line(ast.Assign([target], node, lineno=0), op.origin)

    def part_to_fill(self, op: Apply, array: Value, place: Place) -> ast.expr:
        """Where the write `op` would have put a result of a nest, or would have added it."""
        base = self.operand(array)
        index = substitute(op.arguments["index"], lambda k: self.operand(op.operands[k]))
        whole = place.index is not None or index in (slice(None), Ellipsis)
        return base if whole else subscript(base, index)

    def assignment(self, op: Apply, node: ast.expr) -> ast.stmt:
        """`y = node`, or `y += e` for a number that is replaced by a sum with it."""
        target = ast.Name(self.declare(op.result), ast.Store())
        if (
            isinstance(node, ast.BinOp)
            and isinstance(node.op, ast.Add | ast.Sub)
            and isinstance(node.left, ast.Name)
            and node.left.id == target.id
            and (op in self.buffers.in_place or self.is_number(op))
        ):
            inner = self.within.get(op.operands[1]) if len(op.operands) > 1 else None
            return self.dialect.augmented(op, target, node.op, node.right, inner)
        return ast.Assign([target], node, lineno=0)

    def is_number(self, op: Apply) -> bool:
        """Whether the first operand can be changed by nobody: not even a 0-d view of an array."""
        return op.result.type.ndim == 0 and not self.buffers.of(op.operands[0])

    def overrides(self, op: Apply) -> dict[str, ast.expr]:
        """Arguments with a shorter text: lengths that form the shape of an array are `x.shape`."""
        shape = op.arguments.get("shape")
        if not isinstance(shape, tuple) or not any(isinstance(item, Slot) for item in shape):
            return {}
        known = self.known_shape(op)
        return {} if known is None else {"shape": known}

    def known_shape(self, op: Apply) -> ast.expr | None:
        """`x.shape` of a visible array with exactly the shape of the result.

        Every value that its variable holds must have that shape: which one it is does not matter.
        """
        wanted = op.result.type.shape
        for value in self.visible:
            if isinstance(value.type, Array) and value.type.shape == wanted:
                sharers = self.variables.variable[value].values
                if all(other.type.shape == wanted for other in sharers):
                    return ast.Attribute(self.written[value], "shape", ast.Load())
        return None

    def write_in_place(self, op: Apply) -> None:
        """`a[i] = v` or `a[i] += v`, on a copy where the old version is still needed."""
        base = written_operand(op)
        assert base is not None
        arguments = substitute(op.arguments, [self.operand(o) for o in op.operands].__getitem__)
        adds = op.primitive.function is ADD_PRODUCTS
        value = arguments["b" if adds else "value"]
        identifier = self.declare(op.result)
        same = op in self.buffers.in_place
        if not same:
            before = self.written[base]
            copied = call(ast.Attribute(before, "copy", ast.Load()), [], {})
            target = ast.Name(identifier, ast.Store())
            self.line(ast.Assign([target], copied, lineno=0), op.origin)
            # A view that is written within the statement is one of the copy by now.
            same = isinstance(before, ast.Name) and before.id == identifier
        if same and self.overlaps(op, base):
            value = call(ast.Attribute(value, "copy", ast.Load()), [], {})
        if adds:
            a, w = arguments["a"], arguments["w"]
            self.line(self.dialect.add_products(op, identifier, a, value, w), op.origin)
            return
        if op.primitive.function is PUSH:
            helper = push_helper(op)
            self.dialect.helpers[helper.name] = helper.text
            given = [name(identifier), literal(value), literal(arguments["position"])]
            pushed = call(name(helper.name), given, {})
            target = ast.Name(identifier, ast.Store())
            self.line(ast.Assign([target], pushed, lineno=0), op.origin)
            return
        index = arguments["index"]
        if base in self.fn.places:
            if op not in self.buffers.in_place:
                raise error("internal", f"`{identifier}` is not written in place")
            self.line(self.dialect.into_place(identifier, value), op.origin)
            return
        if op.primitive.function is ADD_ITEM:
            self.line(self.dialect.add_in_place(op, identifier, index, value), op.origin)
            return
        self.line(self.dialect.set_in_place(op, identifier, index, value), op.origin)

    def overlaps(self, op: Apply, base: Value) -> bool:
        """Whether the array that is written may share memory with the one it is written to.

        Numba copies element by element then, and NumPy takes no copy of its own where a row goes
        into a column of the same array: `A[1] = A[:, -1]` (2.4).
        """
        adds = op.primitive.function is ADD_PRODUCTS
        value = substitute(op.arguments["b" if adds else "value"], op.operands.__getitem__)
        return value.type.ndim > 0 and bool(self.buffers.of(value) & self.buffers.of(base))


def _assigns_itself(node: ast.stmt) -> bool:
    """`grad_y = grad_y`: a second name that shares the variable of the first."""
    if not (isinstance(node, ast.Assign) and isinstance(node.value, ast.Name)):
        return False
    target = node.targets[0]
    return isinstance(target, ast.Name) and target.id == node.value.id
