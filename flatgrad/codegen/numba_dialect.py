"""How operations are written for Numba: as for NumPy where that is right, else by helpers.

    x.sum(axis=0)        sum_axis0_2d(x)             # a small function, printed into the module
    0.5 * x              np.float32(0.5) * x         # Numba would compute in float64
    x[rows, columns]     gather_array1d_array1d(x, rows, columns)      # which checks its indices
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from typing import Any

import numpy as np

from flatgrad import activations_numba
from flatgrad.codegen import numba_helpers as numba_text
from flatgrad.codegen import numba_loop_ranges
from flatgrad.codegen.destinations import part_type
from flatgrad.codegen.dialect import Dialect, Emitted
from flatgrad.codegen.expressions import (
    call,
    dotted,
    literal,
    name,
    subscript,
    whole_assigned,
    write,
)
from flatgrad.codegen.lines import Line
from flatgrad.codegen.numba_index import indexed
from flatgrad.codegen.numba_loops import loop_helper
from flatgrad.codegen.numba_names import told_apart
from flatgrad.codegen.numba_parallel import (
    NAMES,
    PARALLEL_DECORATOR,
    ROW_AT,
    parts_of,
    ranges_text,
)
from flatgrad.codegen.numba_site import Site, fitted, narrowed, of_bools, unsupported
from flatgrad.codegen.numba_vector import vector_call
from flatgrad.codegen.numba_writers import PLAIN, WRITERS
from flatgrad.codegen.row_ranges import RowRanges, row_ranges
from flatgrad.ir.ops import Apply, For, Function, Operand, substitute
from flatgrad.ir.trees import as_tuples
from flatgrad.options import DEFAULT, Options
from flatgrad.primitives.callee import Callee
from flatgrad.primitives.ranges import LoopRanges

DECORATOR = '@numba.njit(cache=True, error_model="numpy")'
MAIN_DECORATOR = '@numba.njit(cache=True, error_model="numpy", boundscheck=True)'
"""Numba checks no index by itself; in the function itself it must."""
CONTRACTED_DECORATOR = (
    '@numba.njit(cache=True, error_model="numpy", boundscheck=True, fastmath={"contract"})'
)
"""With fused multiply-adds, where no rounding decides anything (contracting.py)."""
NEST_DECORATOR = '@numba.njit(cache=True, error_model="numpy", fastmath={"contract", "nsz"})'
"""Loops over elements, whose lengths are checked before them. NaN and inf keep their meaning."""
APART_DECORATOR = '@numba.njit(cache=True, error_model="numpy", fastmath={"contract"})'
"""Loops over strips, whose indices are looked at before they are used."""
EXACT_DECORATOR = '@numba.njit(cache=True, error_model="numpy", fastmath={"nsz"})'
"""Without `contract`: `x * y + z` would be rounded once in one loop and twice in another."""


class NumbaDialect(Dialect):
    """NumPy as far as Numba computes it right, helpers for the rest."""

    backend = "numba"
    formats_messages = False
    decorator = DECORATOR
    main_decorator: str | None = MAIN_DECORATOR
    puts_apart = True

    def __init__(self, options: Options = DEFAULT) -> None:
        super().__init__(options)
        self.ranges: dict[For, RowRanges | LoopRanges] = {}
        names = NAMES | numba_loop_ranges.NAMES if options.parallel else frozenset()
        self.reserved = frozenset({numba_text.PLUS.name, *names})

    def decorator_of(self, fn: Function, *, nest: bool) -> str | None:
        """With flags that a nest needs to be fast; none where each rounding is to be as written.

        In other functions smooth loops have fused multiply-adds.
        """
        if any(isinstance(op, For) and op in self.ranges for op in fn.body.ops):
            return PARALLEL_DECORATOR
        if not nest:
            contracts = self.contracts and not self.options.deterministic
            usual = self.main_decorator == MAIN_DECORATOR
            return CONTRACTED_DECORATOR if contracts and usual else self.main_decorator
        if self.options.deterministic:
            return DECORATOR
        return EXACT_DECORATOR if self.exact else NEST_DECORATOR

    def decorator_apart(self) -> str:
        """That of a function that checks no index."""
        return APART_DECORATOR if self.contracts_apart else DECORATOR

    def in_ranges(self, callees: list[Callee]) -> list[Callee]:
        """With `parallel=True`, a function for ranges of the rows of each nest."""
        if not self.options.parallel:
            return callees
        found: list[Callee] = []
        for callee in callees:
            if callee.ranges is not None:
                self.ranges[callee.ranges.loop] = callee.ranges
                found.append(callee.ranges.rows)
            elif callee.nest:
                ranges = row_ranges(callee.called)
                self.ranges |= ranges
                found += [one.rows for one in ranges.values()]
            found.append(callee)
        return found

    def loop_in_ranges(
        self, loop: For, operand: Callable[[Operand], ast.expr], fresh: Callable[[str], str]
    ) -> list[str] | None:
        """The lines of a loop whose ranges run in several threads."""
        found = self.ranges.get(loop)
        if found is None:
            return None
        if isinstance(found, LoopRanges):
            self.need(numba_loop_ranges.parts_of_trips())
            self.need(numba_loop_ranges.TRIP_AT)
            rows = self.functions[found.rows]
            return numba_loop_ranges.loop_ranges_text(found, rows, operand, fresh)
        self.need(parts_of(found))
        self.need(ROW_AT)
        return ranges_text(loop, found, self.functions[found.rows], operand, fresh)

    def need(self, helper: numba_text.Helper) -> None:
        """Put a helper, and what it requires, into the module."""
        for one in numba_text.in_order([helper]):
            self.helpers.setdefault(one.name, one.source)

    def told_apart(self, emitted: Emitted) -> list[Line]:
        """With other names where Numba's versions of a variable would get the same."""
        return told_apart(emitted.lines, emitted.params)

    def returned(self, tree: Any) -> Any:
        """Tuples, taken apart by the caller: Numba returns no lists or dicts of unlike things."""
        return as_tuples(tree)

    def expression(
        self, op: Apply, operands: list[ast.expr], overrides: dict[str, ast.expr]
    ) -> ast.expr:
        """One operation as an expression.

        Raises
        ------
        UnsupportedError
            If there is neither a text that Numba compiles rightly nor a helper.
        """
        return narrowed(op, self.unbounded(op, operands, overrides))

    def unbounded(
        self, op: Apply, operands: list[ast.expr], overrides: dict[str, ast.expr]
    ) -> ast.expr:
        """The expression, of which Numba may make an int of more bits than NumPy does."""
        if op.primitive.body is not None:
            return self.called(op, operands)
        if op.primitive.opaque:
            raise unsupported(op)
        key = op.primitive.name
        arguments = substitute(op.arguments, operands.__getitem__) | overrides
        types = substitute(op.arguments, lambda k: op.operands[k].type)
        site = Site(op, arguments, types, self)
        fast = self.in_nest and op.results and not self.options.precise
        vector = vector_call(site, self.helpers) if fast else None
        if vector is not None:
            return vector
        if op.primitive.helper and key not in WRITERS:
            return self.activation(site)
        writer = WRITERS.get(key)
        if writer is not None:
            written = writer(site)
            if written is not None:
                return written
        elif op.primitive.elementwise:
            logical = of_bools(site)
            if logical is not None:
                return logical
            # Numba warns of an array statement in a function in which only `prange` is parallel.
            alone = self.in_nest and self.options.parallel
            helper = loop_helper(op, 1) if alone else loop_helper(op)
            fit = fitted(op, operands)
            return write(op, fit, overrides) if helper is None else site.helper(helper, *fit)
        elif key not in PLAIN and op.results:
            raise unsupported(op)
        return write(op, operands, overrides)

    def activation(self, site: Site) -> ast.expr:
        """One of flatgrad's own functions, in its text for these ranks."""
        function = site.op.primitive.function.__name__
        kind = site.kinds[0]
        known = (*activations_numba.ALONG_AXIS, *activations_numba.SCALAR)
        numbers = not any(other.ndim for other in site.kinds[1:])
        if function not in known or not numbers or kind.ndim > len(activations_numba.INDICES):
            raise unsupported(site.op)
        keywords = {
            key: value for key, value in site.op.arguments.items() if key in ("axis", "keepdims")
        }
        if function in activations_numba.ALONG_AXIS and "axis" not in keywords:
            keywords["axis"] = None if function == "logsumexp" else -1
        sources = activations_numba.numba_sources(function, kind.ndim, **keywords)
        for key, text in sources.items():
            self.helpers.setdefault(key, text)
        target = activations_numba.numba_name(function, kind.ndim, **keywords)
        args = fitted(site.op, [literal(arg) for arg in site.operands])
        return call(name(target), args, {})

    def add_in_place(self, op: Apply, base: str, index: Any, value: ast.expr) -> ast.stmt:
        """`base[index] += value`, with duplicates adding up."""
        return self.written(op, base, index, value, add=True)

    def into_place(self, place: str, value: ast.expr) -> ast.stmt:
        """A result written into the whole of an array; Numba has `out` for products alone."""
        if isinstance(value, ast.BinOp) and isinstance(value.op, ast.MatMult):
            return ast.Expr(call(dotted("np.dot"), [value.left, value.right, name(place)], {}))
        return whole_assigned(place, value)

    def set_in_place(self, op: Apply, base: str, index: Any, value: ast.expr) -> ast.stmt:
        """`base[index] = value`."""
        return self.written(op, base, index, value, add=False)

    def add_products(self, op: Apply, base: str, a: Any, b: Any, w: Any) -> ast.stmt:
        """`base += (a @ b) * w` by a helper that passes over what is 0."""
        helper = numba_text.add_products(op.operands[3].type.ndim)
        self.need(helper)
        args = [name(base), *[literal(item) for item in (a, b, w)]]
        return ast.Expr(call(name(helper.name), args, {}))

    def written(self, op: Apply, base: str, index: Any, value: ast.expr, *, add: bool) -> ast.stmt:
        """A write as a statement, or as a call of a helper that checks its indices."""
        kinds = substitute(op.arguments["index"], lambda k: op.operands[k].type)
        rank = op.result.type.ndim
        plan = indexed(index, kinds, rank)
        if plan is None:
            target = subscript(name(base), index)
            target.ctx = ast.Store()  # type: ignore[attr-defined]
            helped = self.on_part(op, target, value, add=add)
            if helped is not None:
                return helped
            if add:
                return ast.AugAssign(target, ast.Add(), value)  # type: ignore[arg-type]
            return ast.Assign([target], value, lineno=0)
        value_rank = substitute(op.arguments["value"], lambda k: op.operands[k].type).ndim
        make = numba_text.add_items if add else numba_text.set_items
        helper = make(plan.pattern, value_rank)
        self.need(helper)
        view = subscript(name(base), plan.view) if plan.view is not None else name(base)
        args = [view, *[literal(entry) for entry in plan.entries], value]
        return ast.Expr(call(name(helper.name), args, {}))

    def on_part(
        self, op: Apply, part: ast.expr, value: ast.expr, *, add: bool
    ) -> ast.stmt | None:
        """`part = value` or `part += value` for slices, by a helper.

        None for an element and rare shapes, and where Numba's own statement is as fast.
        """
        kinds = substitute(op.arguments["index"], lambda k: op.operands[k].type)
        entries = kinds if isinstance(kinds, tuple) else (kinds,)
        if any(entry is None or entry is Ellipsis for entry in entries):
            return None
        rank = op.result.type.ndim - sum(not isinstance(entry, slice) for entry in entries)
        kind = substitute(op.arguments["value"], lambda k: op.operands[k].type)
        if not 1 <= rank <= len(numba_text.INDICES) or kind.ndim not in (0, rank):
            return None
        if 1 in kind.shape and kind.shape != part_type(op).shape:
            return None
        if add:
            helper = numba_text.add_region(rank, kind.ndim)
        elif kind.ndim and kind.dtype == op.result.type.dtype and _cuts(entries):
            helper = numba_text.set_region(rank)
        else:
            return None
        self.need(helper)
        if isinstance(part, ast.Subscript) and all(entry == slice(None) for entry in entries):
            part = part.value  # `x[:]` is `x`
        part.ctx = ast.Load()  # type: ignore[attr-defined]
        return ast.Expr(call(name(helper.name), [part, value], {}))

    def augmented(
        self, op: Apply, target: ast.Name, sign: ast.operator, value: ast.expr, inner: Apply | None
    ) -> ast.stmt:
        """`grad_W += np.outer(a, b)` in one pass."""
        outer = inner is not None and inner.primitive.function is np.outer
        vectors = inner is not None and all(operand.type.ndim == 1 for operand in inner.operands)
        if not (outer and vectors and isinstance(sign, ast.Add) and isinstance(value, ast.Call)):
            return super().augmented(op, target, sign, value, inner)
        helper = numba_text.add_outer()
        self.need(helper)
        given = [name(target.id), *value.args]
        return ast.Expr(call(name(helper.name), given, {}))


def _cuts(entries: tuple[Any, ...]) -> bool:
    """Whether an index takes a part of an axis."""
    return any(isinstance(entry, slice) and entry != slice(None) for entry in entries)
