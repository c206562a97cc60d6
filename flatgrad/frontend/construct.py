"""Calls of classes: an object is made, and its `__init__` lowered in place.

    State(x, v)                    a dataclass: its fields, defaults, `__post_init__`
    Point(1.0, y)                  a named tuple stays a tuple
    replace(s, x=x)                dataclasses.replace, `._replace`
    super().__init__(n)            the `__init__` of the class before
"""

from __future__ import annotations

import ast
import copy
import dataclasses
import inspect
import types
from typing import Any

from flatgrad.frontend.objects import Init, ObjectLowerer, Super, is_generated, why_not_plain
from flatgrad.frontend.refs import Ref
from flatgrad.frontend.resolve import MISSING
from flatgrad.frontend.trees import Record, like
from flatgrad.frontend.values import kind_of
from flatgrad.primitives.symbolic import Symbol

_INITVAR = dataclasses._FIELD_INITVAR  # type: ignore[attr-defined]
_FIELD = dataclasses._FIELD  # type: ignore[attr-defined]


class ConstructLowerer(ObjectLowerer):
    """Makes objects."""

    def construct(
        self, node: ast.expr, kind: type, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """The object that `kind(*args, **kwargs)` is."""
        if issubclass(kind, tuple):
            return self.named_tuple(node, kind, args, kwargs)
        if kind is types.SimpleNamespace and not args:
            return Record(kind, dict(kwargs))
        why = why_not_plain(kind)
        if why is not None:
            raise self.refuse(
                node, "unsupported-call", f"an object of `{kind.__name__}` is made: {why}",
                "use a plain class, a dataclass or a named tuple",
            )  # fmt: skip
        made = Record(kind, {})
        init = inspect.getattr_static(kind, "__init__")
        if is_generated(init):
            self.fill(node, Init(kind, made), args, kwargs)
        elif isinstance(init, types.FunctionType):
            if self.call(node, init, (made, *args), kwargs) is not None:
                raise self.refuse(node, "static-evaluation", "`__init__` returns a value")
        elif args or kwargs:
            raise self.refuse(
                node, "static-evaluation", f"TypeError: {kind.__name__}() takes no arguments"
            )
        return made

    def named_tuple(
        self, node: ast.expr, kind: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A named tuple whose `__new__` is that of collections.namedtuple."""
        space = getattr(kind.__new__, "__globals__", {})
        if not str(space.get("__name__", "")).startswith("namedtuple_"):
            raise self.refuse(
                node, "unsupported-call", f"an object of `{kind.__name__}` is made",
                "use a named tuple without a `__new__` of its own",
            )  # fmt: skip
        bound = self.bound(node, inspect.signature(kind.__new__), (kind, *args), kwargs)
        return kind._make(list(bound.arguments.values())[1:])

    def bound(
        self,
        node: ast.expr,
        signature: inspect.Signature,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> inspect.BoundArguments:
        """The argument of each parameter, defaults included."""
        try:
            found = signature.bind(*args, **kwargs)
        except TypeError as caught:
            raise self.refuse(node, "static-evaluation", f"TypeError: {caught}") from None
        found.apply_defaults()
        return found

    def fill(
        self, node: ast.expr, init: Init, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> None:
        """The `__init__` that `dataclasses` wrote."""
        kind, record = init.kind, init.record
        if kind is object:
            return
        bound = self.bound(node, inspect.signature(kind.__init__), (record, *args), kwargs)
        given, later = bound.arguments, []
        fields: dict[str, Any] = kind.__dataclass_fields__
        for name, part in fields.items():
            sort = part._field_type
            if sort not in (_FIELD, _INITVAR):
                continue
            if part.init and (name in given):
                value = given[name]
            elif part.default is not dataclasses.MISSING:
                value = part.default
            else:
                value = dataclasses._HAS_DEFAULT_FACTORY  # type: ignore[attr-defined]
            if value is dataclasses._HAS_DEFAULT_FACTORY:  # type: ignore[attr-defined]
                if part.default_factory is dataclasses.MISSING:
                    continue
                value = self.call(node, part.default_factory, (), {})
            if sort is _INITVAR:
                later.append(value)
            else:
                self.put_attribute(node, record, name, value)
        post = inspect.getattr_static(record.kind, "__post_init__", None)
        if post is not None:
            self.call(node, post, (record, *later), {})

    def replaced(self, node: ast.Call, found: Any, changes: dict[str, Any]) -> Any:
        """`dataclasses.replace(found, **changes)`, or `found._replace(**changes)`."""
        if isinstance(found, tuple):
            names = found._fields  # type: ignore[attr-defined]
            unknown = [name for name in changes if name not in names]
            if unknown:
                raise self.refuse(
                    node, "static-evaluation", f"ValueError: unexpected field name: {unknown[0]!r}"
                )
            return like(found, [changes.get(*pair) for pair in zip(names, found, strict=True)])
        kind = found.kind if isinstance(found, Record) else type(found)
        if not dataclasses.is_dataclass(kind):
            raise self.refuse(node, "operand-type", f"`replace` of {kind_of(found)}")
        values = {}
        fields: dict[str, Any] = kind.__dataclass_fields__
        for name, part in fields.items():
            if not part.init:
                continue
            if part._field_type is _INITVAR and name not in changes:
                raise self.refuse(node, "unsupported-call", f"`replace` without `{name}`")
            if name not in changes and part._field_type is _FIELD:
                values[name] = self.field_of(node, found, name)
        return self.construct(node, kind, (), values | changes)

    def field_of(self, node: ast.expr, found: Any, name: str) -> Any:
        """An attribute of an object by its name."""
        place = ast.copy_location(ast.Attribute(node, name, ast.Load()), node)
        return self.attribute(place, found)

    def copied(self, node: ast.Call, found: Any) -> Any:
        """`copy.copy(found)`."""
        if isinstance(found, Record) and getattr(found.kind, "__copy__", None) is None:
            return Record(found.kind, dict(found.fields))
        if type(found) in (list, dict):
            return copy.copy(found)
        if isinstance(found, Ref):
            return self.call_method_of(node, "copy", found)
        if isinstance(found, Symbol | tuple):
            return found
        raise self.refuse(node, "unsupported-call", f"a copy of {kind_of(found)}")

    def call_method_of(self, node: ast.Call, name: str, base: Any) -> Any:
        """A method of an array without arguments."""
        raise NotImplementedError

    def parent(self, node: ast.Call, args: tuple[Any, ...]) -> Super:
        """`super()` in a method."""
        if args:
            kind, found = args
            return Super(kind, found)
        home: Any = self
        while home.outer is not None:
            home = home.outer
        cell = home.scope.cells.get("__class__")
        names = home.source.function.__code__.co_varnames
        found = home.env.get(names[0], MISSING) if names else MISSING
        if cell is None or found is MISSING:
            raise self.refuse(node, "unsupported-call", "`super()` outside of a method")
        return Super(cell.cell_contents, found)


__all__ = ["ConstructLowerer"]
