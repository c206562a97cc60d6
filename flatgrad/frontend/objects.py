"""Objects of plain classes, dataclasses and named tuples: made, read, changed, and their operators.

    s = State(x, v)          a Record; `__init__` is lowered in place, a dataclass's is known
    s.x = s.x + h * s.v      its attribute; seen through every name of the object
    s.energy()               the method, with `s` for `self`; a property without the parentheses
    a + b                    `__add__` of the user's class

What runs code that cannot be followed (`__setattr__`, metaclasses, descriptors) is refused.
"""

from __future__ import annotations

import ast
import functools
import inspect
import operator
import types
from abc import ABCMeta
from collections.abc import Callable
from typing import Any

import numpy as np

from flatgrad.frontend.functions import FunctionLowerer
from flatgrad.frontend.names import CONTAINERS
from flatgrad.frontend.refs import Ref
from flatgrad.frontend.resolve import MISSING, attribute_reader, is_builtin
from flatgrad.frontend.scopes import Closure, Partial
from flatgrad.frontend.trees import Held, Record
from flatgrad.frontend.values import kind_of
from flatgrad.primitives.symbolic import Symbol, is_number

SPECIAL: dict[Any, str] = {
    operator.add: "add", operator.sub: "sub", operator.mul: "mul", operator.truediv: "truediv",
    operator.floordiv: "floordiv", operator.mod: "mod", operator.pow: "pow",
    operator.matmul: "matmul", operator.and_: "and", operator.or_: "or", operator.xor: "xor",
    operator.lshift: "lshift", operator.rshift: "rshift",
}  # fmt: skip
MIRRORED = {"lt": "gt", "le": "ge", "gt": "lt", "ge": "le", "eq": "eq", "ne": "ne"}


class Super:
    """`super()`: attributes are looked up after `kind` in the classes of the object."""

    def __init__(self, kind: type, self_: Any) -> None:
        self.kind = kind
        self.self_ = self_


class Init:
    """The `__init__` that was written for a dataclass, of one object."""

    def __init__(self, kind: Any, record: Any) -> None:
        self.kind = kind
        self.record = record


def class_of(found: Any) -> type | None:
    """The class of an object of the user's; None for arrays, numbers and Python's own things."""
    if isinstance(found, Record):
        return found.kind
    if isinstance(found, Ref | Symbol | Held | Super | Init | type | types.ModuleType):
        return None
    if isinstance(found, tuple) and hasattr(type(found), "_fields"):
        return type(found)
    if isinstance(found, (*CONTAINERS, np.ndarray, np.generic, np.dtype, type(None))):
        return None
    return None if is_builtin(type(found)) else type(found)


def special_method(found: Any, name: str) -> Any:
    """`__name__` of the class of an object, if that is a Python function; None otherwise."""
    kind = class_of(found)
    method = None if kind is None else inspect.getattr_static(kind, f"__{name}__", None)
    return method if isinstance(method, types.FunctionType) else None


def is_generated(function: Any) -> bool:
    """Whether this was written by `dataclasses`, so that there is no source."""
    return isinstance(function, types.FunctionType) and function.__code__.co_filename == "<string>"


class ObjectLowerer(FunctionLowerer):
    """Evaluates attributes, operators and items of objects."""

    def attribute(self, node: ast.Attribute, base: Any) -> Any:
        name = self.mangled(node.attr)
        if isinstance(base, Record):
            return self.attribute_of(node, base, base.kind, name)
        if isinstance(base, Super):
            return self.inherited(node, base, name)
        if isinstance(base, Closure) and name == "__name__":
            return base.name
        if isinstance(base, Partial) and name in ("func", "args", "keywords"):
            return {"func": base.function, "args": base.args, "keywords": base.kwargs}[name]
        if isinstance(base, Held):
            raise self.refuse(node, "unsupported-attribute", f"`.{name}` of {kind_of(base)}")
        kind = class_of(base)
        if kind is None or name in getattr(base, "__dict__", {}):
            return super().attribute(node, base)
        if isinstance(base, tuple):
            if name in base._fields:  # type: ignore[attr-defined]
                return getattr(base, name)
            return self.attribute_of(node, base, kind, name)
        found = inspect.getattr_static(kind, name, MISSING)
        if isinstance(found, functools.cached_property):  # once it is kept, that value counts
            kept = lambda: name in vars(base)  # noqa: E731
            self.captured((id(base), name, "kept"), name, kept, kept())
        if isinstance(found, property | functools.cached_property):
            return self.attribute_of(node, base, kind, name)
        return super().attribute(node, base)

    def attribute_of(self, node: ast.AST, base: Any, kind: type, name: str) -> Any:
        """An attribute of an object: a property, its own, or one of its class."""
        found = inspect.getattr_static(kind, name, MISSING)
        if isinstance(found, property):
            if found.fget is None:
                raise self.refuse(node, "unsupported-attribute", f"`{name}` cannot be read")
            self.depends_on(kind, name)
            return self.call(node, found.fget, (base,), {})
        if isinstance(base, Record) and name in base.fields:
            return base.fields[name]
        if isinstance(found, functools.cached_property):
            value = self.call(node, found.func, (base,), {})
            if isinstance(base, Record):
                base.fields[name] = value
            return value
        return self.of_class(node, base, kind, name, found)

    def of_class(self, node: ast.AST, base: Any, kind: type, name: str, found: Any) -> Any:
        """`found` in a class as an attribute of an object: methods are bound."""
        if name == "__class__":
            return kind
        if isinstance(found, types.FunctionType) or hasattr(found, "py_func"):
            self.depends_on(kind, name)
            return types.MethodType(found, base)
        if isinstance(found, staticmethod | classmethod):
            self.depends_on(kind, name)
            function = found.__func__
            return types.MethodType(function, kind) if isinstance(found, classmethod) else function
        if isinstance(base, tuple) and name in ("_replace", "_asdict"):
            return types.MethodType(found, base)
        if found is MISSING or isinstance(found, types.MemberDescriptorType):
            raise self.refuse(
                node, "undefined-name", f"an object of `{kind.__name__}` has no `{name}` here"
            )
        if hasattr(type(found), "__get__"):
            raise self.refuse(node, "unsupported-attribute", f"`.{name}` of {kind_of(base)}")
        return self.captured((id(kind), name), name, attribute_reader(kind, name), found)

    def depends_on(self, kind: type, name: str) -> None:
        """A method or property that is replaced is compiled again."""
        read = functools.partial(inspect.getattr_static, kind, name, MISSING)
        self.captured((id(kind), name, "static"), name, read, read())

    def inherited(self, node: ast.AST, base: Super, name: str) -> Any:
        """`super().name`."""
        kind = base.self_ if isinstance(base.self_, type) else class_of(base.self_)
        assert kind is not None
        line = kind.__mro__
        for parent in line[line.index(base.kind) + 1 :]:
            if name in vars(parent):
                found = vars(parent)[name]
                if parent is object and name == "__init__":
                    return Init(object, base.self_)
                if isinstance(found, property):
                    return self.call(node, found.fget, (base.self_,), {})
                if name == "__init__" and is_generated(found):
                    return Init(parent, base.self_)
                return self.of_class(node, base.self_, parent, name, found)
        raise self.refuse(node, "undefined-name", f"`super()` has no `{name}`")

    def mangled(self, name: str) -> str:
        """`__name` inside a class is `_Class__name`."""
        if not name.startswith("__") or name.endswith("__"):
            return name
        parts = self.source.function.__qualname__.split(".")
        owner = parts[-2] if len(parts) > 1 else "<locals>"
        return name if owner == "<locals>" else f"_{owner.lstrip('_')}{name}"

    # changes

    def set_attribute(self, node: ast.Attribute, base: Any, found: Any) -> None:
        """`base.name = found`."""
        name = self.mangled(node.attr)
        kind = self.changeable(node, base)
        known = inspect.getattr_static(kind, name, MISSING)
        if isinstance(known, property):
            if known.fset is None:
                raise self.refuse(
                    node, "static-evaluation", f"AttributeError: `{name}` has no setter"
                )
            self.call(node, known.fset, (base, found), {})
            return
        if getattr(getattr(kind, "__dataclass_params__", None), "frozen", False):
            raise self.refuse(
                node, "static-evaluation", f"FrozenInstanceError: cannot assign to `{name}`",
                "use dataclasses.replace",
            )  # fmt: skip
        self.put_attribute(node, base, name, found)

    def put_attribute(self, node: ast.AST, base: Record, name: str, found: Any) -> None:
        """Store an attribute, past what a class says about assignments."""
        known = inspect.getattr_static(base.kind, name, MISSING)
        slot = isinstance(known, types.MemberDescriptorType)
        if not slot and (hasattr(type(known), "__set__") or not _has_dict(base.kind)):
            raise self.refuse(
                node, "unsupported-write", f"`.{name}` of {kind_of(base)} cannot be assigned"
            )
        base.fields[name] = found

    def changeable(self, node: ast.Attribute, base: Any) -> type:
        """The class of an object that the function made; refused for all others."""
        if not isinstance(base, Record):
            text = self.source.segment(node.value)
            raise self.refuse(
                node, "unsupported-write", f"an attribute of `{text}` is assigned",
                "assign to a local name, or to an object that the function makes",
            )  # fmt: skip
        self.check_owned(node, base.fields, kind_of(base))
        return base.kind

    def delete_attribute(self, node: ast.Attribute, base: Any) -> None:
        """`del base.name`."""
        self.changeable(node, base)
        self.attribute(node, base)
        del base.fields[self.mangled(node.attr)]

    # operators

    def binary(
        self,
        node: ast.AST,
        function: Callable[..., Any],
        left: Any,
        right: Any,
        names: dict[str, str] | None = None,
    ) -> Any:
        """An operator; of objects, the method of their class."""
        name = SPECIAL.get(function)
        if name is not None and (class_of(left) or class_of(right)):
            forward, reflected = special_method(left, name), special_method(right, f"r{name}")
            found = self.operated(node, (forward, reflected), left, right)
            if found is not NotImplemented:
                return found
        return super().binary(node, function, left, right, names)

    def operated(self, node: ast.AST, methods: tuple[Any, Any], left: Any, right: Any) -> Any:
        """The first of `left.method(right)` and `right.method(left)` that is implemented."""
        forward, reflected = methods
        one, other = class_of(left), class_of(right)
        calls = [(forward, (left, right)), (reflected, (right, left))]
        if one is not None and other is not None and one is not other and issubclass(other, one):
            calls.reverse()
        if reflected is not None and forward is None and not _is_python_number(left):
            self.check_array_operand(node, left, other)
        for method, args in calls:
            if method is not None and not (is_generated(method) and len(args) == 2):
                found = self.call(node, method, args, {})
                if found is not NotImplemented:
                    return found
        return NotImplemented

    def check_array_operand(self, node: ast.AST, left: Any, other: type | None) -> None:
        """NumPy takes an object as an operand of each element, unless its class says no."""
        if not isinstance(left, Ref | Symbol | np.generic):
            return
        if getattr(other, "__array_ufunc__", MISSING) is not None:
            assert other is not None
            raise self.refuse(
                node, "operand-type",
                f"an operator on an array and an object of {other.__name__}",
                f"write the object first, or set `__array_ufunc__ = None` in {other.__name__}",
            )  # fmt: skip

    def compare(self, node: ast.Compare, op: ast.cmpop, left: Any, right: Any) -> Any:
        """One comparison; of objects, by the method of their class."""
        if not (class_of(left) or class_of(right)) or isinstance(op, ast.Is | ast.IsNot):
            return super().compare(node, op, left, right)
        if isinstance(op, ast.In | ast.NotIn):
            method = special_method(right, "contains")
            if method is None:
                return super().compare(node, op, left, right)
            found = self.truth_of(node, self.call(node, method, (right, left), {}))
            if isinstance(op, ast.In):
                return found
            return not found if isinstance(found, bool) else self.inverted(found)
        name = {"Lt": "lt", "LtE": "le", "Gt": "gt", "GtE": "ge", "Eq": "eq", "NotEq": "ne"}[
            type(op).__name__
        ]
        methods = special_method(left, name), special_method(right, MIRRORED[name])
        if any(map(is_generated, methods)):
            raise self.refuse(
                node, "unsupported-expression", "the comparison of dataclasses",
                "compare their attributes",
            )  # fmt: skip
        found = self.operated(node, methods, left, right)
        if found is NotImplemented and isinstance(left, Record | None) and name in ("eq", "ne"):
            return (left is right) == (name == "eq")
        return super().compare(node, op, left, right) if found is NotImplemented else found

    def truth_of(self, node: ast.expr, found: Any) -> Any:
        """`bool(found)`."""
        raise NotImplementedError

    def inverted(self, found: Any) -> Any:
        """`not found`, of a truth value that is known when running."""
        raise NotImplementedError

    def unary(self, node: ast.AST, name: str, inner: Any) -> Any:
        """`-a` and its kind of an object; NotImplemented if its class has no method."""
        method = special_method(inner, name)
        return NotImplemented if method is None else self.call(node, method, (inner,), {})

    def truth_of_object(self, node: ast.expr, found: Any) -> Any:
        """The truth of an object: `__bool__`, `__len__`, or true."""
        for name in ("bool", "len"):
            if special_method(found, name) is not None:
                return self.truth_of(node, self.unary(node, name, found))
        return True

    def subscript(self, node: ast.Subscript, base: Any, index: Any) -> Any:
        """`base[index]`."""
        method = special_method(base, "getitem")
        if method is not None:
            return self.call(node, method, (base, index), {})
        return super().subscript(node, base, index)

    def items(self, node: ast.AST, found: Any) -> list[Any]:
        """The items over which Python would iterate."""
        method = special_method(found, "iter")
        if method is not None:
            if not isinstance(node, ast.expr):
                raise self.refuse(node, "operand-type", f"the items of {kind_of(found)}")
            return self.items(node, self.call(node, method, (found,), {}))
        return super().items(node, found)


def why_not_plain(kind: type) -> str | None:
    """Why objects of a class cannot be followed; None if they can."""
    if type(kind) not in (type, ABCMeta):
        return "it has a metaclass"
    if getattr(kind, "__abstractmethods__", None):
        return "it is abstract"
    if getattr(kind, "__new__", None) is not object.__new__:
        return "it has a `__new__`, or is one of Python's own kinds"
    for name in ("__setattr__", "__getattribute__", "__delattr__"):
        found = getattr(kind, name)
        if found is not getattr(object, name) and not is_generated(found):
            return f"it has a `{name}`"
    return "it has a `__getattr__`" if hasattr(kind, "__getattr__") else None


def _has_dict(kind: type) -> bool:
    return kind.__dictoffset__ != 0


def _is_python_number(found: Any) -> bool:
    if isinstance(found, Symbol):
        return found.ndim == 0 and bool(found.type.weak)
    return is_number(found) and not isinstance(found, np.generic)


__all__ = [
    "Init", "ObjectLowerer", "Super", "class_of", "is_generated", "special_method",
    "why_not_plain",
]  # fmt: skip
