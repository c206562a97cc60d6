"""Calls: methods, functions that have rules, builtins, and Python functions lowered in place.

    x.sum(axis=0)          # a method of an array
    hidden.append(h)       # a method of a list made here
    layer(x, w)            # a Python function: its statements are taken as if written here
"""

from __future__ import annotations

import ast
import functools
import operator
import types
from typing import Any

from flatgrad.checkpointing import checkpoint, inside_checkpoint, run_again
from flatgrad.frontend.builtin_calls import BUILTINS, OTHER, is_pure
from flatgrad.frontend.construct import ConstructLowerer
from flatgrad.frontend.custom_calls import call_custom
from flatgrad.frontend.derived_calls import (
    call_derived,
    call_deriving,
    derived_behind,
    is_deriving,
)
from flatgrad.frontend.functional import same
from flatgrad.frontend.list_calls import LIST_CALLS, list_method
from flatgrad.frontend.listed import Rows
from flatgrad.frontend.objects import Init, class_of, special_method
from flatgrad.frontend.refs import Ref
from flatgrad.frontend.resolve import (
    Capture,
    Reader,
    is_builtin,
    is_data,
    is_sequence,
    item_reader,
)
from flatgrad.frontend.scopes import Closure, Partial
from flatgrad.frontend.source import read_source, signature_of
from flatgrad.frontend.values import kind_of, needs_static, read
from flatgrad.frontend.write_calls import WRITING_METHODS, name_of, write_out, written_with_out
from flatgrad.hooks import custom_vjp
from flatgrad.ir.ops import CallSite
from flatgrad.primitives.registry import METHODS, lookup
from flatgrad.primitives.symbolic import Symbol, is_symbolic

READERS: dict[Any, tuple[str, ...]] = {
    dict: ("items", "keys", "values", "get", "copy"), list: ("copy",),
    str: ("startswith", "endswith", "lower", "upper", "strip", "removeprefix", "removesuffix",
          "split", "replace", "isdigit", "find", "count", "join", "format"),
}  # fmt: skip
WRITERS: dict[Any, tuple[str, ...]] = {
    dict: ("update",), list: ("append", "extend", "insert", "pop", "reverse"),
}  # fmt: skip
"""Methods of Python containers that are handled."""



class CallLowerer(ConstructLowerer):
    """Evaluates calls; `run`, the statements of a function, comes with the subclass."""

    def eval_Call(self, node: ast.Call) -> Any:
        """A method, a function with rules, a builtin, or another Python function."""
        if isinstance(node.func, ast.Attribute):
            base = self.value(node.func.value)
            if isinstance(base, Ref | Symbol):
                return self.call_method(node, node.func.attr, base)
            if isinstance(base, Rows):
                return list_method(self, node, node.func.attr, base)
            if type(base) in READERS:
                return self.container_method(node, node.func.attr, base)
            with self.at(node.func):
                callee = self.attribute(node.func, base)
        else:
            callee = self.value(node.func)
        args = tuple(self.elements(node.args))
        kwargs = self.keywords(node)
        return self.call(node, callee, args, kwargs)

    def call(
        self, node: Any, callee: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A call of a static callee."""
        ways = (
            self.call_form, self.call_ours, self.call_builtin, self.call_rule, self.call_python
        )  # fmt: skip
        for way in ways:
            found = way(node, callee, args, kwargs)
            if found is not OTHER:
                return found
        text = self.source.segment(getattr(node, "func", node))
        raise self.refuse(
            node, "unsupported-call", f"`{text}` has no rule",
            "write it with functions that have rules, or register one with flatgrad.defvjp",
        )  # fmt: skip

    def call_form(
        self, node: Any, callee: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """What stands for a function: a closure, a partial, a method, an object with `__call__`."""
        match callee:
            case custom_vjp():
                return call_custom(self, node, callee, args, kwargs)
            case Closure():
                return self.call_closure(node, callee, args, kwargs)
            case Partial():
                given = (*callee.args, *args)
                return self.call(node, callee.function, given, callee.kwargs | kwargs)
            case functools.partial():
                return self.call(node, self.opened(callee), args, kwargs)
            case Init():
                return self.fill(node, callee, args, kwargs)
            case types.MethodType():
                return self.call_bound(node, callee, args, kwargs)
            case functools._lru_cache_wrapper():
                return self.call_cached(node, callee, args, kwargs)
        method = special_method(callee, "call")
        if method is not None and lookup(callee) is None:
            return self.call(node, method, (callee, *args), kwargs)
        if isinstance(callee, Symbol | Ref) or not callable(callee):
            raise self.refuse(node, "unsupported-call", "a call of something that is no function")
        return OTHER

    def call_ours(
        self, node: Any, callee: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """`checkpoint`, derived functions, and the functions that derive them."""
        inside = inside_checkpoint(callee)
        if inside is not None:
            return self.checkpointed(node, inside, args, kwargs)
        if callee is run_again:
            return self.checkpointed(node, args[0], args[1:], kwargs)
        if callee is checkpoint and len(args) == 1 and is_function(args[0]):
            return Partial(run_again, args, {})
        if derived_behind(callee) is not None:
            return call_derived(self, node, callee, args, kwargs)
        if is_deriving(callee):
            return call_deriving(self, node, callee, args, kwargs)
        return OTHER

    def call_builtin(
        self, node: Any, callee: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Python's own functions, also on lists that loops have built and on objects."""
        if not _hashable(callee):
            return OTHER
        if args and isinstance(args[0], Rows) and callee in LIST_CALLS:
            return LIST_CALLS[callee](self, node, args, kwargs)
        if len(args) == 1 and class_of(args[0]) is not None:
            if callee is bool:
                return self.truth_of_object(node, args[0])
            special = UNARY_BUILTINS.get(callee)
            found = NotImplemented if special is None else self.unary(node, special, args[0])
            if found is not NotImplemented:
                return found
        builtin = BUILTINS.get(callee)
        return OTHER if builtin is None else builtin(self, node, args, kwargs)

    def call_rule(
        self, node: Any, callee: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A function with a rule, perhaps with `out=`."""
        if lookup(callee) is None:
            return OTHER
        target, args, kwargs = written_with_out(self, node, callee, args, kwargs)
        names = self.argument_names(node, callee)
        if target is None:
            return self.apply(node, callee, args, kwargs, names)
        with self.at(node, name_of(target)):
            found = self.apply(node, callee, args, kwargs, names)
            return write_out(self, node, callee, target, found)

    def call_python(
        self, node: Any, callee: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A function or class of the user's, or one that is run while compiling."""
        if is_jit(callee):
            return args[0] if args else Partial(same, (), {})
        if is_pure(callee) and not is_symbolic(read((args, kwargs))):
            return self.static(node, callee, *args, **kwargs)
        plain = isinstance(callee, types.FunctionType) or hasattr(callee, "py_func")
        if plain and not is_library(callee):
            return self.inline(node, callee, args, kwargs)
        if isinstance(callee, operator.itemgetter):
            return self.picked(node, callee, args, kwargs)
        if isinstance(callee, type) and not (is_library(callee) or is_opaque(callee)):
            return self.construct(node, callee, args, kwargs)
        return OTHER

    def picked(
        self, node: Any, callee: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """What `operator.itemgetter(...)` takes out of a container."""
        if len(args) != 1 or kwargs:
            raise self.refuse(node, "unsupported-call", "`itemgetter` of other than one argument")
        indices = callee.__reduce__()[1]
        found = [self.call(node, operator.getitem, (args[0], index), {}) for index in indices]
        return found[0] if len(found) == 1 else tuple(found)

    def call_bound(
        self, node: Any, callee: types.MethodType, args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        """A method of an object."""
        function, owner = callee.__func__, callee.__self__
        name = getattr(function, "__name__", "")
        if isinstance(owner, tuple) and name == "_replace" and not args:
            return self.replaced(node, owner, kwargs)
        if isinstance(owner, tuple) and name == "_asdict":
            return dict(zip(owner._fields, owner, strict=True))  # type: ignore[attr-defined]
        if isinstance(owner, type) and issubclass(owner, tuple) and name == "_make":
            return owner._make(self.items(node, *args))  # type: ignore[attr-defined]
        return self.call(node, function, (owner, *args), kwargs)

    def call_cached(
        self, node: Any, callee: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A function behind `functools.lru_cache`, which takes no arrays."""
        for found in (*args, *kwargs.values()):
            if isinstance(found, Ref | list | dict):
                raise self.refuse(
                    node, "operand-type", f"{kind_of(found)} is passed to a cached function",
                    "take functools.lru_cache away from it",
                )  # fmt: skip
        return self.call(node, callee.__wrapped__, args, kwargs)

    def opened(self, callee: functools.partial[Any]) -> Partial:
        """A partial function from outside; the data in it becomes hidden arguments."""
        name = getattr(callee.func, "__name__", "partial")
        args = [
            self.captured((id(callee), k), f"{name}_{k}", item_reader(lambda: callee.args, k), one)
            for k, one in enumerate(callee.args)
        ]
        kwargs = {
            k: self.captured((id(callee), k), k, item_reader(lambda: callee.keywords, k), found)
            for k, found in callee.keywords.items()
        }
        return Partial(callee.func, tuple(args), kwargs)

    def call_method_of(self, node: ast.Call, name: str, base: Any) -> Any:
        return self.apply(node, METHODS[name], (base,), {}, spelling="method")

    def keywords(self, node: ast.Call) -> dict[str, Any]:
        """Keyword arguments, `**static` unpacked."""
        found: dict[str, Any] = {}
        for keyword in node.keywords:
            if keyword.arg is None:
                more = self.mapping(keyword.value)
            else:
                more = {keyword.arg: self.value(keyword.value)}
            twice = [name for name in more if name in found]
            if twice:
                raise self.refuse(node, "static-evaluation", f"`{twice[0]}` is given twice")
            found.update(more)
        return found

    def argument_names(self, node: Any, callee: Any) -> dict[str, str] | None:
        """The user's words for the operands of a call."""
        known = lookup(callee)
        names = getattr(known, "operand_names", None)
        given = getattr(node, "args", None)
        if not names or given is None or any(isinstance(arg, ast.Starred) for arg in given):
            return None
        texts = [self.source.segment(arg) for arg in node.args]
        return {name: f"`{text}`" for name, text in zip(names, texts, strict=False)}

    def call_method(self, node: ast.Call, name: str, base: Any) -> Any:
        """`x.sum(axis=0)`."""
        args = tuple(self.elements(node.args))
        kwargs = self.keywords(node)
        if name == "fill" and isinstance(base, Ref):
            if len(args) != 1 or kwargs:
                raise self.refuse(node, "unsupported-call", "`.fill` takes one value")
            self.store(node, base, slice(None), read(args[0]))
            return None
        if name in ("reshape", "transpose") and len(args) > 1:
            args = (tuple(args),)
        if name in WRITING_METHODS and isinstance(base, Ref):
            WRITING_METHODS[name](self, node, base, args, kwargs)
            return None
        function = METHODS.get(name)
        if function is None:
            raise self.refuse(
                node, "unsupported-attribute", f"the method `.{name}` of an array is not supported"
            )
        target, args, kwargs = written_with_out(self, node, function, args, kwargs)
        with self.at(node, name_of(target)):
            found = self.apply(node, function, (base, *args), kwargs, spelling="method")
            return found if target is None else write_out(self, node, function, target, found)

    def container_method(self, node: ast.Call, name: str, base: Any) -> Any:
        """A method of a list or dict, or of a string, on static values."""
        args = tuple(self.elements(node.args))
        kwargs = self.keywords(node)
        if name in WRITERS.get(type(base), ()):
            self.owned(node, base)
        elif name not in READERS[type(base)]:
            raise self.refuse(
                node, "unsupported-attribute",
                f"the method `.{name}` of a {type(base).__name__} is not supported",
            )  # fmt: skip
        if name in ("get", "insert", "pop"):
            needs_static(read(args[:1]), f"the first argument of `.{name}`")
        if name == "extend" and args:
            args = (self.items(node, args[0]),)
        inside = type(base) is not str
        found = self.static(node, getattr(base, name), *args, structural=inside, **kwargs)
        return list(found) if name in ("items", "keys", "values") else found

    def owned(self, node: ast.AST, container: Any) -> None:
        """Refuse to write to a list or dict of the user's."""
        self.check_owned(node, container, f"a {type(container).__name__}")

    def store(self, node: ast.AST, ref: Ref, index: Any, new: Any) -> None:
        """`ref[index] = new`."""
        raise NotImplementedError

    def inline(
        self, node: Any, callee: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Lower another Python function in place."""
        self.check_depth(node)
        source = read_source(callee)
        function = source.function
        try:
            bound = signature_of(function).bind(*args, **kwargs)
        except TypeError as caught:
            raise self.refuse(node, "static-evaluation", f"TypeError: {caught}") from None
        inner = type(self)(source, self.shared)
        given = bound.arguments.copy()
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            with self.at(node):
                inner.env[name] = value if name in given else inner.default(name, value)
        inner.depends_on_code()
        return self.entered(inner)

    def checkpointed(
        self, node: Any, callee: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """A call of a checkpointed function: what it consists of stays together."""
        name = getattr(callee, "__name__", "f")
        span, outer = self.source.span(node), self.builder.site
        with self.builder.calling(CallSite(name, name, span, outer, checkpoint=True)):
            return self.call(node, callee, args, kwargs)

    def default(self, name: str, value: Any) -> Any:
        """The default of a parameter; arrays and containers are captured."""
        if self.defaults is not None:
            return self.defaults[name]
        if not (is_data(value) or is_sequence(value) or type(value) is dict):
            return value
        function = self.source.function
        return self.captured(
            (id(function), "default", name), name, default_reader(function, name), value
        )

    def depends_on_code(self) -> None:
        """A function whose code or defaults are replaced (`%autoreload`) is compiled again."""
        function = self.source.function
        static = self.shared.captures.static
        for what in ("__code__", "__defaults__", "__kwdefaults__"):
            value = getattr(function, what)
            if value is not None:
                read = functools.partial(getattr, function, what)
                static[f"{id(function)}.{what}"] = Capture(what, read, value)


def is_function(found: Any) -> bool:
    """Whether this can be called: a function of the program's, or one from outside."""
    return isinstance(found, Closure | Partial) or (
        callable(found) and not isinstance(found, Symbol | Ref)
    )


def default_reader(function: types.FunctionType, name: str) -> Reader:
    """Reads the present default of a parameter."""
    return lambda: signature_of(function).parameters[name].default


UNARY_BUILTINS: dict[Any, str] = {abs: "abs", len: "len", round: "round", float: "float",
                                  int: "int"}  # fmt: skip


def is_jit(callee: Any) -> bool:
    """Whether this is `numba.njit` or `numba.jit`, which change nothing of what a function does."""
    home = getattr(callee, "__module__", None) or ""
    return home.startswith("numba.") and getattr(callee, "__name__", "") in ("njit", "jit")


def is_opaque(kind: type) -> bool:
    """Whether a class of Python's own makes objects that are not followed."""
    return is_builtin(kind) and kind is not types.SimpleNamespace


def is_library(callee: Any) -> bool:
    """Whether a function belongs to NumPy or SciPy, whose insides are not lowered."""
    module = getattr(callee, "__module__", None) or ""
    return module.split(".")[0] in ("numpy", "scipy", "numba")


def _hashable(callee: Any) -> bool:
    try:
        hash(callee)
    except TypeError:
        return False
    return True


