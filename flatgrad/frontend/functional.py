"""Functions of Python that take functions, and those that look at objects.

    map(f, xs)   filter(p, xs)   reduce(f, xs)   partial(f, a)   sorted(xs, key=f)
    getattr(s, "x")   setattr(s, "x", v)   hasattr(s, "x")   replace(s, x=x)   super()
"""

from __future__ import annotations

import ast
import builtins
import copy
import dataclasses
import functools
import operator
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from flatgrad.frontend.names import CONTAINERS
from flatgrad.frontend.objects import SPECIAL, class_of, special_method
from flatgrad.frontend.refs import Ref
from flatgrad.frontend.scopes import Closure, Once, Partial
from flatgrad.frontend.trees import Held, Record
from flatgrad.frontend.values import kind_of, needs_static, read
from flatgrad.primitives.logic import AND, OR
from flatgrad.primitives.symbolic import Symbol, apply_function

Handler = Callable[..., Any]


def _takes(
    low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any], *counts: int
) -> None:
    """Refuse another number of arguments, and keywords."""
    if len(args) not in counts or kwargs:
        name = low.source.segment(getattr(node, "func", node))
        wanted = " or ".join(map(str, counts))
        raise low.refuse(node, "unsupported-call", f"`{name}` takes {wanted} arguments here")


def _map(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Once:
    if len(args) < 2 or kwargs:
        raise low.refuse(node, "unsupported-call", "`map` takes a function and sequences")
    function, *columns = args

    def call(row: tuple[Any, ...]) -> Any:
        return low.call(node, function, row, {})

    def make() -> Iterator[Any]:
        walks = [low.walked(node, column) for column in columns]
        return map(call, zip(*walks, strict=False))

    return Once(make, list(args), lambda: low.in_turn(node, columns, call))


def _filter(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Once:
    _takes(low, node, args, kwargs, 2)
    function, items = args

    def keeps(item: Any) -> bool:
        found = item if function is None else low.call(node, function, (item,), {})
        return bool(low.truth(node, found, "the condition of `filter`"))

    return Once(lambda: filter(keeps, low.walked(node, items)), [function, items])


def _zip(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Once:
    if set(kwargs) - {"strict"}:
        raise low.refuse(node, "unsupported-call", "this form of `zip`")
    strict = bool(kwargs.get("strict"))

    def make() -> Iterator[Any]:
        try:
            yield from zip(*[low.walked(node, arg) for arg in args], strict=strict)
        except ValueError as caught:
            raise low.refuse(node, "static-evaluation", f"ValueError: {caught}") from None

    row = lambda row: row  # noqa: E731
    each = lambda: None if strict or not args else low.in_turn(node, list(args), row)  # noqa: E731
    return Once(make, list(args), each)


def _enumerate(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Once:
    start = args[1] if len(args) == 2 else kwargs.pop("start", 0)
    _takes(low, node, args, kwargs, 1, 2)
    needs_static(read(start), "the start of `enumerate`")
    rows = [range(start, start + sys.maxsize // 2), args[0]]
    row = lambda row: row  # noqa: E731
    make = lambda: enumerate(low.walked(node, args[0]), start)  # noqa: E731
    return Once(make, list(args), lambda: low.in_turn(node, rows, row))


def _reversed(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Once:
    _takes(low, node, args, kwargs, 1)
    found = args[0]
    if isinstance(found, Held):
        raise low.refuse(node, "operand-type", f"`reversed` of {kind_of(found)}")

    def make() -> Iterator[Any]:
        for k in reversed(range(low.count_of(node, found))):
            yield low.item_of(node, found, k)

    if isinstance(found, list | tuple | range | str | Ref):
        return Once(make, [found])
    items = low.items(node, found)[::-1]
    return Once(lambda: iter(items), [items])


def _reduce(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    _takes(low, node, args, kwargs, 2, 3)
    items = low.walked(node, args[1])
    found = args[2] if len(args) == 3 else next(items, items)
    if found is items:
        raise low.refuse(node, "static-evaluation", "TypeError: reduce() of an empty sequence")
    for item in items:
        found = low.call(node, args[0], (found, item), {})
    return found


def _partial(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Partial:
    if not args:
        raise low.refuse(node, "unsupported-call", "`partial` takes a function")
    return Partial(args[0], tuple(args[1:]), dict(kwargs))


def _sorted(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Only the keys must be known while compiling."""
    reverse, key = kwargs.pop("reverse", False), kwargs.pop("key", None)
    _takes(low, node, args, kwargs, 1)
    items = low.items(node, args[0])
    keys = items if key is None else [low.call(node, key, (item,), {}) for item in items]
    low.no_objects(node, keys)
    needs_static(read([*keys, reverse]), "the order of what is sorted")
    rank = lambda k: keys[k]  # noqa: E731
    order = low.static(node, sorted, range(len(items)), structural=True, key=rank, reverse=reverse)
    return [items[k] for k in order]


def _choice(either: bool) -> Handler:
    """`any` or `all`."""

    def call(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        _takes(low, node, args, kwargs, 1)
        found = args[0]
        if isinstance(found, Ref) and found.latest.ndim == 1:
            return low.apply(node, np.any if either else np.all, (found,), {})
        truths = [low.truth_of(node, item) for item in low.items(node, found)]
        symbols = [truth for truth in truths if isinstance(truth, Symbol)]
        if either in [truth for truth in truths if not isinstance(truth, Symbol)]:
            return either
        connect = OR if either else AND
        join = lambda a, b: apply_function(connect, (a, b), {}, low.builder)  # noqa: E731
        return functools.reduce(join, symbols) if symbols else not either

    return call


def _getattr(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    _takes(low, node, args, kwargs, 2, 3)
    name = _name(low, node, args[1])
    if len(args) == 3 and not _has(low, node, args[0], name):
        return args[2]
    return low.attribute(_place(node, name), args[0])


def _hasattr(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    _takes(low, node, args, kwargs, 2)
    return _has(low, node, args[0], _name(low, node, args[1]))


def _has(low: Any, node: ast.Call, found: Any, name: str) -> bool:
    if isinstance(found, Record):
        return name in found.fields or hasattr(found.kind, name)
    if isinstance(found, (Symbol, Ref, Held, *CONTAINERS, type(None))):
        raise low.refuse(node, "unsupported-call", f"the attributes of {kind_of(found)}")
    here = lambda: hasattr(found, name)  # noqa: E731
    return bool(low.captured((id(found), name, "hasattr"), name, here, here()))


def _setattr(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    _takes(low, node, args, kwargs, 3)
    low.set_attribute(_place(node, _name(low, node, args[1])), args[0], args[2])


def _put(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """`object.__setattr__(self, "x", value)` in a frozen dataclass."""
    _takes(low, node, args, kwargs, 3)
    place = _place(node, _name(low, node, args[1]))
    low.changeable(place, args[0])
    low.put_attribute(node, args[0], place.attr, args[2])


def _name(low: Any, node: ast.Call, found: Any) -> str:
    if not isinstance(found, str):
        raise low.refuse(node, "operand-type", "the name of an attribute that is no string")
    return found


def _place(node: ast.Call, name: str) -> ast.Attribute:
    first = node.args[0] if isinstance(node, ast.Call) and node.args else node
    return ast.copy_location(ast.Attribute(first, name, ast.Load()), node)


def _replace(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if len(args) != 1:
        raise low.refuse(node, "unsupported-call", "`replace` takes an object and keywords")
    return low.replaced(node, args[0], kwargs)


def _copy(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    _takes(low, node, args, kwargs, 1)
    return low.copied(node, args[0])


def _super(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    _takes(low, node, args, kwargs, 0, 2)
    return low.parent(node, args)


def _type(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    _takes(low, node, args, kwargs, 1)
    kind = class_of(args[0])
    if kind is None:
        return low.static(node, type, args[0])
    return kind


def _callable(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    _takes(low, node, args, kwargs, 1)
    found = args[0]
    if isinstance(found, Held | Symbol | Ref):
        return isinstance(found, Closure | Partial)
    return special_method(found, "call") is not None or callable(found)


def _dict(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if len(args) > 1:
        raise low.refuse(node, "unsupported-call", "`dict` takes one sequence, and keywords")
    made: dict[Any, Any] = {}
    if args:
        pairs = args[0].items() if type(args[0]) is dict else low.items(node, args[0])
        for pair in pairs:
            key, value = low.items(node, pair)
            needs_static(read(key), "a key of a dict")
            made[key] = value
    return low.static(node, lambda: made | kwargs, structural=True)


def _iter(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Once:
    _takes(low, node, args, kwargs, 1)
    if isinstance(args[0], Once):
        return args[0]
    found = args[0]
    make = lambda: low.walked(node, found)  # noqa: E731
    return Once(make, [found], lambda: low.in_turn(node, [found], lambda row: row[0]))


def _next(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    _takes(low, node, args, kwargs, 1, 2)
    found = args[0]
    turns = found.turns() if isinstance(found, Once) else None
    if turns is None:
        raise low.refuse(
            node, "unsupported-call", f"`next` of {kind_of(found)}", "make it a list, and index it"
        )
    if any(watched.changed(0) for watched in turns.watched):
        raise low.refuse(node, "unsupported-statement", "what this iterates over changed")
    found.left[:], found.watched = turns.items[1:], turns.watched
    if turns.items:
        return turns.items[0]()
    if len(args) == 2:
        return args[1]
    raise low.refuse(node, "static-evaluation", "StopIteration: nothing is left")


def _binary(function: Any) -> Handler:
    """`operator.add` and its kind."""

    def call(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        _takes(low, node, args, kwargs, 2)
        if function is operator.getitem:
            return low.subscript(node, *args)
        return low.binary(node, function, *args, low.argument_names(node, function))

    return call


def _wraps(low: Any, node: ast.Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return Partial(same, (), {})


def same(function: Any) -> Any:
    """What `functools.wraps` returns does to a function, as far as its value goes."""
    return function


FUNCTIONAL: dict[Any, Handler] = {
    builtins.map: _map,
    builtins.filter: _filter,
    builtins.zip: _zip,
    builtins.enumerate: _enumerate,
    builtins.reversed: _reversed,
    functools.reduce: _reduce,
    functools.partial: _partial,
    functools.wraps: _wraps,
    same: lambda low, node, args, kwargs: args[0],
    builtins.sorted: _sorted,
    builtins.any: _choice(True),
    builtins.all: _choice(False),
    builtins.getattr: _getattr,
    builtins.hasattr: _hasattr,
    builtins.setattr: _setattr,
    object.__setattr__: _put,
    dataclasses.replace: _replace,
    copy.copy: _copy,
    builtins.super: _super,
    builtins.type: _type,
    builtins.callable: _callable,
    builtins.dict: _dict,
    builtins.iter: _iter,
    builtins.next: _next,
    **{function: _binary(function) for function in (*SPECIAL, operator.getitem)},
}
