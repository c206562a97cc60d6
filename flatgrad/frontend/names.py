"""Names and attributes: local variables, and what a function takes from outside.

    scale * x          # a captured float: a hidden argument
    layers[0] @ x      # a captured list: its arrays are hidden arguments
    config.rate        # the attribute of a captured object: likewise
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flatgrad.errors import FlatgradError, error
from flatgrad.frontend.refs import Ref
from flatgrad.frontend.resolve import (
    MISSING,
    Capture,
    Captures,
    Reader,
    Scope,
    attribute_reader,
    has_plain_attribute,
    is_data,
    is_fixed,
    is_sequence,
    item_reader,
    structure,
)
from flatgrad.frontend.rows import Growing
from flatgrad.frontend.scopes import Variables, variables_of
from flatgrad.frontend.source import Source
from flatgrad.frontend.trees import Record, children, like
from flatgrad.frontend.values import ControlFlow, Loop, Poison, Unroll, number_in, read, wrap
from flatgrad.ir.builder import Builder
from flatgrad.ir.ops import Block, Origin, Value
from flatgrad.ir.types import Scalar, Type
from flatgrad.primitives.symbolic import NeedInteger, NeedStatic, Symbol

CONTAINERS = (list, tuple, dict, set, frozenset, str, bytes, int, float, slice, range)



@dataclass(slots=True)
class Shared:
    """What the lowering of a function and of all that it calls inline has in common.

    `names` are those of the parameters; `imported` what was captured, by where it came from;
    `outside` the lists and dicts that belong to the user; `ambiguous` those which are perhaps what
    another name holds, after a branch or in a loop; `stubs` the functions of the program that are
    differentiated, by the functions that stand for them; `first` the lowering of the function
    itself; `frames` the variables of each function on the way to the present call. `loops` tells
    which loop an index or carried int belongs to. `plain` are the results of loops and branches
    that are numbers, never arrays of no axes; `aliased` those which may be an array of no axes
    that another name holds; `differentiate` makes the derivatives that are called. `hooked` counts
    the bodies of `adjoint` around the present statement, `effects` are the functions that these
    call for what they do; `inside_rules` are the `custom_vjp`s in whose forward function it stands.
    `growing` are lists in loops; `counting` the symbolic values of indices that count from 0.
    """

    builder: Builder
    root: Block
    captures: Captures = field(default_factory=Captures)
    hidden_type: Callable[[str, Any], Type] | None = None
    depth: int = 0
    names: set[str] = field(default_factory=set)
    imported: dict[Any, Any] = field(default_factory=dict)
    outside: dict[int, Any] = field(default_factory=dict)
    ambiguous: dict[int, Any] = field(default_factory=dict)
    stubs: dict[Any, Any] = field(default_factory=dict)
    first: Any = None
    frames: list[dict[str, Any]] = field(default_factory=list)
    hidden_values: set[Value] = field(default_factory=set)
    loops: dict[Value, Loop] = field(default_factory=dict)
    plain: set[Value] = field(default_factory=set)
    aliased: set[Value] = field(default_factory=set)
    differentiate: Callable[..., Any] | None = None
    hooked: int = 0
    inside_rules: tuple[Any, ...] = ()
    effects: dict[str, Any] = field(default_factory=dict)
    growing: Growing = field(default_factory=Growing)
    counting: set[str] = field(default_factory=set)


class NameLowerer:
    """Finds what names and attributes mean, and says where errors are."""

    def __init__(
        self,
        source: Source,
        shared: Shared,
        outer: Any = None,
        targets: frozenset[str] | None = None,
    ) -> None:
        """`outer` is the function around; `targets` are the variables of a comprehension in it."""
        self.source = source
        self.shared = shared
        self.outer = outer
        self.inside_expression = targets is not None
        self.builder = shared.builder
        self.scope = Scope(source.function)
        self.env: dict[str, Any] = {}
        self.variables = variables_of(source.node) if targets is None else Variables(targets)
        shared.first = shared.first or self

    def spelled(self, name: str) -> str:
        """What a variable is called in emitted code: `layer_h` in `layer`, if there is an `h`, too.

        There is one if the function that is compiled has a variable of this name.
        """
        first, owner = self.shared.first, self.owner(name)
        if first is owner or name not in first.variables.local:
            return name
        home = getattr(self.source.node, "name", "").strip("_")
        return f"{home}_{name}" if home else name

    def spaces(self) -> list[dict[str, Any]]:
        """The variables of this function and of those around it."""
        return [self.env, *(self.outer.spaces() if self.outer is not None else ())]

    def owner(self, name: str) -> Any:
        """The function around whose variable a name is; None if it comes from outside."""
        if name in self.variables.local:
            return self
        if self.outer is None or name in self.variables.world:
            return None
        return self.outer.owner(name)

    @contextmanager
    def at(self, node: ast.AST, part: str | None = None) -> Iterator[None]:
        """Operations and errors inside belong to `node`."""
        span = self.source.span(node)
        try:
            with self.builder.at(Origin(span), part or self.builder.part):
                yield
        except FlatgradError as caught:
            if caught.diagnostic.span is not None:
                raise
            known = caught.diagnostic
            raise error(known.code, known.message, span, help=known.help) from None
        except NeedStatic as needed:
            self.needs_value(needed, span)
        except NeedInteger as needed:
            self.needs_integer(needed, span)
        except (ControlFlow, RecursionError):
            raise
        except Exception as caught:
            message = f"{type(caught).__name__}: {caught} (while compiling this)"
            raise error("internal", message, span, help="report it with this line") from caught

    def needs_value(self, needed: NeedStatic, span: Any) -> None:
        """Compile again with an int parameter static, or refuse."""
        refusal = needed.refusal or error(
            "data-dependent-static",
            f"{needed.reason} must be known while compiling, but depends on run-time data",
            span,
            help="pass it as an int argument, a string or a constant",
        )
        self.unroll_for(needed.symbol.value)
        root = self.integer_root(needed.symbol.value)
        if root is None:
            raise refusal from None
        found = NeedStatic(Symbol(root, self.builder), needed.reason)
        found.refusal = refusal
        raise found from None

    def needs_integer(self, needed: NeedInteger, span: Any) -> None:
        """Compile again with an argument left an int, or refuse."""
        known = needed.refusal.diagnostic
        refusal = error(known.code, known.message, span, help=known.help)
        root = self.float_root(needed.symbol.value)
        if root is None:
            raise refusal from None
        raise NeedInteger(Symbol(root, self.builder), refusal) from None

    def integer_root(self, value: Value) -> Value | None:
        """A parameter that may be an int, if `value` is computed from such alone."""
        if value in self.shared.root.params:
            kind = value.type
            number = isinstance(kind, Scalar) and (kind.weak or kind.dtype == "int64")
            return value if number and value not in self.shared.hidden_values else None
        op = self.builder.made.get(value)
        if op is None or value.type.ndim:
            return None
        roots = [self.integer_root(item) for item in op.operands if isinstance(item, Value)]
        return None if None in roots or not roots else roots[0]

    def float_root(self, value: Value) -> Value | None:
        """A parameter taken as a float, if it is one reason why `value` is a float.

        It may be an int, and `value`, too, if that is left one: `k % n`, `n` a length.
        """
        if not isinstance(value.type, Scalar) or not value.type.differentiable:
            return None
        if value in self.shared.root.params:
            able = value.type.weak and value not in self.shared.hidden_values
            return value if able else None
        entry = next((
            leaf.init for loop in self.shared.growing.loops for leaf in loop.leaves()
            if leaf.param is value
        ), None)  # fmt: skip
        if isinstance(entry, Symbol):
            return self.float_root(entry.value)
        op = self.builder.made.get(value)
        operands = [] if op is None else [o for o in op.operands if isinstance(o, Value)]
        roots = (self.float_root(item) for item in operands)
        return next((root for root in roots if root is not None), None)

    def unroll_for(self, value: Value) -> None:
        """Give up a loop in the program for its trips one by one, if `value` is then known."""
        loops: list[Loop] = []
        if self.integer_sources(value, loops):
            for loop in loops:
                if loop.unrollable:
                    raise Unroll(loop)
            for bound in (bound for loop in loops for bound in loop.bounds):
                root = self.integer_root(bound.value)
                if root is not None:
                    raise NeedStatic(Symbol(root, self.builder), "the length of a loop")

    def integer_sources(self, value: Value, loops: list[Loop]) -> bool:
        """Whether `value` is computed from loops' integers and int parameters alone."""
        if value in self.shared.loops:
            loops.append(self.shared.loops[value])
            return True
        if value in self.shared.root.params:
            return self.integer_root(value) is not None
        op = self.builder.made.get(value)
        if op is None or value.type.ndim:
            return False
        inputs = [item for item in op.operands if isinstance(item, Value)]
        return bool(inputs) and all(self.integer_sources(item, loops) for item in inputs)

    def refuse(self, node: ast.AST, code: str, message: str, help: str | None = None) -> Exception:
        """An error at `node`."""
        return error(code, message, self.source.span(node), help=help)

    def value(self, node: ast.expr) -> Any:
        """What an expression is: Ref, Symbol, static value or container of these."""
        with self.at(node):
            method = getattr(self, f"eval_{type(node).__name__}", None)
            if method is None:
                raise self.refuse(
                    node, "unsupported-expression", f"{_describe(node)} is not supported"
                )
            found = method(node)
            if isinstance(found, Poison):
                raise self.refuse(node, found.code, found.message, found.help)
            return found

    def operand(self, node: ast.expr) -> Any:
        """An expression as an argument of an operation: arrays are read."""
        return read(self.value(node))

    def eval_Name(self, node: ast.Name) -> Any:
        owner = self.owner(node.id)
        if owner is not None:
            if node.id in owner.env:
                return owner.env[node.id]
            raise self.refuse(node, "undefined-name", f"`{node.id}` is read before it is assigned")
        capture = self.scope.lookup(node.id, self.source.span(node))
        cell = self.scope.cells.get(node.id)
        space = self.source.function.__globals__ if cell is None else cell
        return self.captured((id(space), node.id), node.id, capture.read, capture.value)

    def captured(self, key: Any, name: str, read: Reader, value: Any) -> Any:
        """Something from outside: data becomes hidden arguments, the rest is checked at calls."""
        if key not in self.shared.imported:
            if not is_data(value):
                container = is_sequence(value) or type(value) is dict
                seen = lambda: structure(read())  # noqa: E731
                capture = Capture(name, seen, seen()) if container else Capture(name, read, value)
                self.shared.captures.static[f"{key}"] = capture
            self.shared.imported[key] = self.imported(key, name, read, value)
        return self.shared.imported[key]

    def imported(self, key: Any, name: str, read: Reader, value: Any) -> Any:
        """A captured value with hidden arguments for the data in it."""
        if is_data(value):
            return self.hidden(key, name, read, value)
        if is_sequence(value):
            items = [
                self.imported((key, k), f"{name}_{k}", item_reader(read, k), item)
                for k, item in enumerate(value)
            ]
            return self.foreign(items) if type(value) is list else like(value, items)
        if type(value) is dict:
            return self.foreign(
                {
                    k: self.imported((key, k), f"{name}_{k}", item_reader(read, k), item)
                    for k, item in value.items()
                }
            )
        return value

    def foreign(self, container: Any) -> Any:
        """Mark a list or dict as the user's, which may not be written to."""
        kept = container.fields if isinstance(container, Record) else container
        self.shared.outside[id(kept)] = kept
        return container

    def is_outside(self, container: Any) -> bool:
        """Whether this is a list, dict or object of the user's."""
        kept = container.fields if isinstance(container, Record) else container
        return id(kept) in self.shared.outside

    def doubt(self, container: Any) -> None:
        """Mark a list, dict or object that may be what another name holds: it cannot be changed."""
        if isinstance(container, Record | list | dict):
            kept = container.fields if isinstance(container, Record) else container
            self.shared.ambiguous[id(kept)] = kept
        for item in children(container) or ():
            self.doubt(item)

    def check_owned(self, node: ast.AST, kept: Any, what: str) -> None:
        """Refuse to change a list, dict or object of the user's, or one that may be another."""
        if id(kept) in self.shared.outside:
            raise self.refuse(
                node, "unsupported-write", f"{what} from outside the function is written to",
                "make a copy of it",
            )  # fmt: skip
        if id(kept) in self.shared.ambiguous:
            raise self.refuse(
                node, "unsupported-write",
                f"{what} is changed that may be the same as another, after a branch or in a loop",
                "make a new one instead of changing it",
            )  # fmt: skip

    def hidden(self, key: Any, name: str, read: Reader, value: Any) -> Any:
        """A hidden argument that carries a captured float or array."""
        assert self.shared.hidden_type is not None
        base = name if name.isidentifier() else "value"
        name, count = base, 0
        while name in self.shared.names:
            count += 1
            name = f"{base}_{count}"
        self.shared.names.add(name)
        if isinstance(value, np.ndarray) and value.ndim == 0:
            outer = read
            read = lambda: number_in(outer())  # noqa: E731
            value = value[()]
        made = Value(self.shared.hidden_type(name, value), name, kept=True)
        self.shared.root.params += (made,)
        for axis, size in enumerate(made.type.shape):
            if not isinstance(size, int):
                self.builder.lengths[size.name] = (made, axis)
        self.shared.hidden_values.add(made)
        self.shared.captures.hidden[f"{key}"] = Capture(name, read, value)
        found = wrap(Symbol(made, self.builder))
        if isinstance(found, Ref):
            found.buffer.fixed = f"`{base}` lives outside the function and is written to"
        return found

    def eval_Attribute(self, node: ast.Attribute) -> Any:
        return self.attribute(node, self.value(node.value))

    def attribute(self, node: ast.Attribute, base: Any) -> Any:
        """`base.name`: of an array, of a module or class, or of an object of the user's."""
        name = self.mangled(node.attr)
        if isinstance(base, Ref | Symbol):
            return self.array_attribute(node, base)
        if isinstance(base, np.dtype | np.ufunc):
            return getattr(base, name)
        if isinstance(base, tuple) and name in getattr(base, "_fields", ()):
            return getattr(base, name)
        plain = not isinstance(base, CONTAINERS) and has_plain_attribute(base, name)
        if base is None or not plain:
            raise self.refuse(
                node, "unsupported-attribute", f"`.{name}` of a {type(base).__name__}"
            )
        found = getattr(base, name, MISSING)
        if found is MISSING:
            raise self.refuse(
                node, "undefined-name", f"`{self.source.segment(node)}` does not exist"
            )
        if isinstance(base, types.ModuleType | type) and is_fixed(base):
            return found
        read = attribute_reader(base, name)
        if isinstance(found, types.MethodType):
            self.captured((id(base), name), name, read, read())
            return found
        return self.captured((id(base), name), name, read, found)

    def mangled(self, name: str) -> str:
        """The name of an attribute inside a class."""
        return name

    def array_attribute(self, node: ast.Attribute, base: Any) -> Any:
        """An attribute of an array or number."""
        raise NotImplementedError


def _describe(node: ast.AST) -> str:
    words = {
        "Await": "`await`", "Yield": "`yield`", "YieldFrom": "`yield from`", "Lambda": "a lambda",
        "ListComp": "a list comprehension", "GeneratorExp": "a generator expression",
        "SetComp": "a set comprehension", "DictComp": "a dict comprehension", "Set": "a set",
    }  # fmt: skip
    return words.get(type(node).__name__, type(node).__name__)
