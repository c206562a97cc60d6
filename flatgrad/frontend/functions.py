"""Functions and comprehensions inside a function: scopes that see the variables around them.

    double = lambda v: 2.0 * v         a value; its text is lowered where it is called
    def step(h): return h @ w          likewise, with its defaults and decorators
    [w * x for w in ws if w.ndim]      one item after the other; the sequence is static
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flatgrad.frontend.expressions import ExpressionLowerer
from flatgrad.frontend.refs import Ref
from flatgrad.frontend.scopes import Closure, Delayed, Once, Turns, Watched, targets_of
from flatgrad.frontend.source import FunctionNode, Source
from flatgrad.frontend.values import read, values_in
from flatgrad.ir.ops import CallSite
from flatgrad.primitives.symbolic import NeedStatic, Symbol

MAX_DEPTH = 64


class FunctionLowerer(ExpressionLowerer):
    """Evaluates lambdas and comprehensions, and calls functions that the program made."""

    defaults: dict[str, Any] | None = None

    def run(self) -> Any:
        """The value that the function returns."""
        raise NotImplementedError

    def call(
        self, node: Any, callee: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A call of any callee."""
        raise NotImplementedError

    def assign(self, target: ast.expr, found: Any) -> None:
        """Bind names, unpack sequences, write elements."""
        raise NotImplementedError

    def test(self, node: ast.expr) -> Any:
        """The truth of a condition."""
        raise NotImplementedError

    def eval_Lambda(self, node: ast.Lambda) -> Closure:
        return self.closure(node)

    def exec_FunctionDef(self, node: ast.FunctionDef) -> None:
        generator = next((item for item in ast.walk(node) if _yields(item)), None)
        if generator is not None:
            raise self.refuse(
                generator, "unsupported-function-kind", f"`{node.name}` is a generator",
                "return a list",
            )  # fmt: skip
        decorators = [self.value(decorator) for decorator in node.decorator_list]
        made: Any = self.closure(node)
        pairs = list(zip(decorators, node.decorator_list, strict=True))
        for decorator, part in reversed(pairs):
            with self.at(part):
                made = self.call(part, decorator, (made,), {})
        self.bind(node.name, made)

    def closure(self, node: FunctionNode) -> Closure:
        """A function value; its defaults are evaluated now."""
        args = node.args
        positional = [*args.posonlyargs, *args.args]
        given = positional[len(positional) - len(args.defaults) :]
        pairs = list(zip(given, args.defaults, strict=True))
        pairs += [
            (arg, default)
            for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True)
            if default is not None
        ]
        return Closure(node, self, {arg.arg: self.value(default) for arg, default in pairs})

    def call_closure(
        self, node: Any, callee: Closure, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Lower a function that the program made, in place."""
        self.check_depth(node)
        try:
            bound = callee.signature().bind(*args, **kwargs)
        except TypeError as caught:
            raise self.refuse(node, "static-evaluation", f"TypeError: {caught}") from None
        bound.apply_defaults()
        return self.entered(self.inside(callee, dict(bound.arguments)))

    def inside(self, callee: Closure, variables: dict[str, Any]) -> Any:
        """The lowering of a function that the program made, with its arguments."""
        home = callee.home
        known = home.source
        source = Source(
            known.function, callee.node, known.file, known.first_line, known.lines, known.comments
        )
        inner = type(self)(source, self.shared, home)
        inner.env.update(variables)
        inner.defaults = callee.defaults
        return inner

    def check_depth(self, node: ast.AST) -> None:
        """Refuse a recursion that does not end."""
        if self.shared.depth >= MAX_DEPTH:
            raise self.refuse(node, "too-deep", "a recursion that does not end")

    def entered(self, inner: Any) -> Any:
        """Run the statements of another function; its result."""
        source = inner.source
        name = getattr(source.node, "name", "<lambda>")
        place = (source.file, source.first_line, source.node.lineno, source.node.col_offset)
        site = CallSite(
            (name, place), name, self.builder.origin.span, self.builder.site,
            part=self.builder.part, names=values_in(inner.env), comments=source.comments,
        )  # fmt: skip
        with self.visiting(inner), self.builder.calling(site):
            result = inner.run()
            site.results.update(values_in({"value": result}, inner.env))
            return result

    @contextmanager
    def visiting(self, inner: Any, *, deeper: bool = True) -> Iterator[None]:
        """Variables of this function, and those that the inner one sees, are kept in mind."""
        frames = self.shared.frames
        count = len(frames)
        known = {id(frame) for frame in frames} | {id(inner.env)}
        for space in [self.env, *inner.spaces()]:
            if id(space) not in known:
                known.add(id(space))
                frames.append(space)
        more = len(frames) - count
        self.shared.depth += deeper
        try:
            yield
        finally:
            self.shared.depth -= deeper
            del frames[len(frames) - more :]

    # comprehensions

    def eval_ListComp(self, node: ast.ListComp) -> list[Any]:
        return list(self.comprehended(node, lambda inner: inner.value(node.elt)))

    def eval_SetComp(self, node: ast.SetComp) -> Any:
        return self.set_of(node, list(self.comprehended(node, lambda low: low.value(node.elt))))

    def eval_DictComp(self, node: ast.DictComp) -> dict[Any, Any]:
        pair = lambda low: (low.key(node.key), low.value(node.value))  # noqa: E731
        return dict(self.comprehended(node, pair))

    def eval_GeneratorExp(self, node: ast.GeneratorExp) -> Once:
        first = self.value(node.generators[0].iter)
        simple = len(node.generators) == 1 and not node.generators[0].ifs
        inner = self.scope_for(node)

        def item(row: tuple[Any]) -> Any:
            with self.visiting(inner, deeper=False):
                inner.assign(node.generators[0].target, row[0])
                return inner.value(node.elt)

        make = lambda: self.comprehended(node, lambda low: low.value(node.elt), first)  # noqa: E731
        each = lambda: self.in_turn(node, [first], item) if simple else None  # noqa: E731
        return Once(make, [first, *inner.spaces()], each)

    def scope_for(self, node: ast.expr) -> Any:
        """The scope of a comprehension, with its variables."""
        return type(self)(self.source, self.shared, self, targets_of(node))

    def comprehended(
        self,
        node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp,
        evaluate: Callable[[Any], Any],
        first: Any = None,
    ) -> Iterator[Any]:
        """What a comprehension evaluates, one by one; `first` is over what its first `for` runs."""
        if first is None:
            first = self.value(node.generators[0].iter)
        inner, parts = self.scope_for(node), node.generators

        def inside(function: Callable[..., Any], *args: Any) -> Any:
            with self.visiting(inner, deeper=False):
                return function(*args)

        def level(k: int, found: Any) -> Iterator[Any]:
            part = parts[k]
            for item in inner.walked(part.iter, found):
                inside(inner.assign, part.target, item)
                if not all(inside(inner.decided, condition) for condition in part.ifs):
                    continue
                if k + 1 < len(parts):
                    yield from level(k + 1, inside(inner.value, parts[k + 1].iter))
                else:
                    yield inside(evaluate, inner)

        yield from level(0, first)

    def walked(self, node: ast.AST, found: Any) -> Iterator[Any]:
        """The items over which Python would iterate, each read when it is its turn."""
        if isinstance(found, Once):
            if any(watched.changed(0) for watched in found.watched):
                raise self.refuse(node, "unsupported-statement", "what this iterates over changed")
            yield from found.used()
        elif isinstance(found, list) or (isinstance(found, Ref) and found.latest.ndim):
            k = 0
            while k < self.count_of(node, found):
                yield self.item_of(node, found, k)
                k += 1
        else:
            yield from self.items(node, found)

    def count_of(self, node: ast.AST, found: Any) -> int:
        """The number of items, now."""
        if not isinstance(found, Ref):
            return len(found)
        length = found.latest.type.shape[0]
        return length if isinstance(length, int) else len(self.items(node, found))

    def item_of(self, node: ast.AST, found: Any, k: int) -> Any:
        """An item, as it is now."""
        if isinstance(found, Ref):
            return self.apply(node, operator.getitem, (found, k), {})
        return found[k]

    def in_turn(
        self, node: ast.AST, columns: list[Any], function: Callable[[Any], Any]
    ) -> Turns | None:
        """`function` of each row of the columns, to be evaluated one by one."""
        for column in columns:
            array = isinstance(column, Ref) and column.latest.ndim
            if not (array or isinstance(column, tuple | list | range | str)):
                return None
        count = min(self.count_of(node, column) for column in columns)

        def row(k: int) -> Any:
            return function(tuple([self.item_of(node, column, k) for column in columns]))

        watched = [Watched(column, list(column)) for column in columns if type(column) is list]
        return Turns([Delayed(row, k) for k in range(count)], watched)

    def decided(self, node: ast.expr) -> bool:
        """A condition that is known while compiling: how many items there are depends on it."""
        found = self.test(node)
        if isinstance(found, Symbol | Ref):
            with self.at(node):
                raise NeedStatic(read(found), "the condition of a comprehension")
        return bool(found)

    def items(self, node: ast.AST, found: Any) -> list[Any]:
        """The items over which Python would iterate; those of an iterator come once."""
        if isinstance(found, Once):
            return list(self.walked(node, found))
        return super().items(node, found)


def _yields(node: ast.AST) -> bool:
    return isinstance(node, ast.Yield | ast.YieldFrom)


__all__ = ["FunctionLowerer"]
