"""Primitives and the decorators that fill their table.

    @primitive(np.cumsum, samples=lambda: [call(A(5)), call(A(3, 4), axis=1)])
    def _(x, /, axis=None):                      # the type rule: types in, type out
        return like(x) if axis is not None else vector(x)

    @vjp(np.cumsum)                              # an ordinary NumPy function, run on symbols
    def _(grad_y, y, x, *, axis=None): ...

The signature of the type rule is the signature that calls are bound to: parameters before `/` are
operands (arrays, numbers, or lists of them), the others are static unless named in `dynamic`.
"""

from __future__ import annotations

import inspect
import math
import operator as operators
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flatgrad.errors import error
from flatgrad.ir.ops import Function
from flatgrad.primitives.typerules import elementwise_type

Rule = Callable[..., Any]

_POSITIONAL = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_MISSING = object()


@dataclass(frozen=True, slots=True)
class Call:
    """Sample arguments of a primitive; arrays are drawn by `A`."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    smooth: bool = True


def call(*args: Any, smooth: bool = True, **kwargs: Any) -> Call:
    """Sample arguments; `smooth=False` keeps them out of checks by finite differences."""
    return Call(args, kwargs, smooth)


@dataclass(frozen=True, slots=True)
class Param:
    """One parameter of a primitive."""

    name: str
    positional: bool
    operand: bool
    dynamic: bool
    default: Any

    @property
    def required(self) -> bool:
        """Whether every call must give it."""
        return self.default is inspect.Parameter.empty


@dataclass(eq=False, slots=True)
class Primitive:
    """A function that the compiler knows: how to type it, evaluate it, write it, derive it.

    `alias` names the operand whose memory the result may share; `fresh_copy` functions never do.
    `creates`: a call on static arguments alone is still an operation (`np.zeros((2, 3))`).
    `opaque`: a function of the user's, which emitted code calls by name as an object.
    `body`: a function of the program itself, see `primitives/callee.py`.
    `hook`: it is there for one backward sweep and hands on its first operand; primitives that go
    together have the same one.
    `derivative` is False where every derivative is zero by definition (`floor`, comparisons).
    """

    name: str
    function: Callable[..., Any]
    text: str
    type_rule: Rule
    params: tuple[Param, ...]
    samples: Callable[[], Sequence[Call]] | None = None
    operator: str | None = None
    elementwise: bool = False
    derivative: bool = True
    alias: str | None = None
    helper: bool = False
    effect: bool = False
    creates: bool = False
    opaque: bool = False
    hook: object = None
    in_place: str | None = None
    twin_of: Primitive | None = None
    partials: Rule | None = None
    vjp: Rule | None = None
    jvp: Rule | None = None
    linear: tuple[str, ...] = ()
    bilinear: bool = False
    body: Function | None = None

    @property
    def operand_names(self) -> tuple[str, ...]:
        """The parameters that are operands, in order."""
        return tuple(param.name for param in self.params if param.operand)

    def bind(self, args: Sequence[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by parameter name, in order, without those left at their default.

        Raises
        ------
        UnsupportedError
            If the call gives a keyword or more arguments than the rule takes.
        """
        positional = [param for param in self.params if param.positional]
        if len(args) > len(positional):
            raise error(
                "unsupported-call",
                f"`{self.text}` takes at most {len(positional)} positional arguments here",
            )
        bound = {param.name: arg for param, arg in zip(positional, args, strict=False)}
        names = {param.name for param in self.params}
        for key, value in kwargs.items():
            if key not in names:
                raise error(
                    "unsupported-keyword",
                    f"the keyword `{key}` of `{self.text}` is not supported",
                    help=f"supported here: {', '.join(p.name for p in self.params)}",
                )
            if key in bound:
                raise error("unsupported-call", f"`{key}` of `{self.text}` is given twice")
            bound[key] = value
        for param in self.params:
            if param.required and param.name not in bound:
                raise error("unsupported-call", f"`{self.text}` needs its argument `{param.name}`")
        return {p.name: bound[p.name] for p in self.params if p.name in bound}

    def call_form(self, arguments: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        """The positional and keyword arguments with which `function` is called."""
        args: list[Any] = []
        kwargs: dict[str, Any] = {}
        contiguous = True
        for param in self.params:
            value = arguments.get(param.name, _MISSING)
            if value is _MISSING:
                contiguous = False
            elif contiguous and (param.operand or (param.positional and param.required)):
                args.append(value)
            else:
                kwargs[param.name] = value
        return args, kwargs

    def evaluate(self, arguments: dict[str, Any]) -> Any:
        """The reference semantics on concrete values; warnings stay with the user's own code."""
        args, kwargs = self.call_form(arguments)
        return self.function(*args, **kwargs)

    @property
    def has_derivative(self) -> bool:
        """Whether a reverse rule exists."""
        return any((self.partials, self.vjp))


PRIMITIVES: dict[Any, Primitive] = {}
COMPOSITES: dict[Any, Rule] = {}
METHODS: dict[str, Any] = {}
FOREIGN: dict[str, tuple[str, Rule]] = {}


def lookup(function: Any) -> Primitive | Rule | None:
    """What is known of a function: a primitive, a composite (a function over known ones), None."""
    try:
        return PRIMITIVES.get(function) or COMPOSITES.get(function) or _foreign(function)
    except TypeError:
        return None


def _foreign(function: Any) -> Rule | None:
    """The composite for a function of a library that is imported by its users only.

    Whoever holds such a function has imported its module, so `sys.modules` tells whose it is.
    """
    name = getattr(function, "__name__", None)
    home, rule = FOREIGN.get(name, ("", None)) if isinstance(name, str) else ("", None)
    return rule if getattr(sys.modules.get(home), name or "", None) is function else None


def primitive(
    function: Callable[..., Any],
    *,
    name: str | None = None,
    text: str | None = None,
    dynamic: tuple[str, ...] = (),
    samples: Callable[[], Sequence[Call]] | None = None,
    **facts: Any,
) -> Callable[[Rule], Rule]:
    """Register `function` as a primitive; the decorated function is its type rule."""

    def register(type_rule: Rule) -> Rule:
        made = Primitive(
            name=name or function.__name__,
            function=function,
            text=text or spelled(function),
            type_rule=type_rule,
            params=_params(type_rule, dynamic),
            samples=samples,
            **facts,
        )
        PRIMITIVES[function] = made
        return type_rule

    return register


def _params(type_rule: Rule, dynamic: tuple[str, ...]) -> tuple[Param, ...]:
    params = []
    for param in inspect.signature(type_rule).parameters.values():
        operand = param.kind is inspect.Parameter.POSITIONAL_ONLY
        params.append(
            Param(
                name=param.name,
                positional=param.kind in _POSITIONAL,
                operand=operand,
                dynamic=operand or param.name in dynamic,
                default=param.default,
            )
        )
    return tuple(params)


def spelled(function: Callable[..., Any]) -> str:
    """How emitted code calls `function`: `np.tanh`, `np.linalg.norm`, `math.sin`, `sigmoid`."""
    name = function.__name__
    module = getattr(function, "__module__", None) or ""
    if module in ("math", "scipy.special"):
        return f"{module}.{name}"
    if isinstance(function, np.ufunc) and getattr(np, name, None) is function:
        return f"np.{name}"
    if module.startswith("numpy.linalg"):
        return f"np.linalg.{name}"
    if module.startswith("numpy"):
        return f"np.{name}"
    return name


@dataclass(slots=True)
class _Elementwise:
    """The type rule of an elementwise function of some arity, as an object with a signature."""

    function: Callable[..., Any]
    arity: int
    names: tuple[str, ...] = field(default=("a", "b", "c", "d"))

    def __call__(self, *types: Any) -> Any:
        return elementwise_type(self.function, *types)

    @property
    def __signature__(self) -> inspect.Signature:
        names = ("x",) if self.arity == 1 else self.names[: self.arity]
        kind = inspect.Parameter.POSITIONAL_ONLY
        return inspect.Signature([inspect.Parameter(name, kind) for name in names])


OPERATORS = {
    operators.add: "+", operators.sub: "-", operators.mul: "*", operators.truediv: "/",
    operators.floordiv: "//", operators.mod: "%", operators.pow: "**", operators.matmul: "@",
    operators.lt: "<", operators.le: "<=", operators.gt: ">", operators.ge: ">=",
    operators.eq: "==", operators.ne: "!=", operators.and_: "&", operators.or_: "|",
    operators.xor: "^", operators.invert: "~", operators.neg: "unary -", operators.pos: "unary +",
}  # fmt: skip


def elementwise(
    *functions: Callable[..., Any],
    arity: int = 1,
    samples: Callable[[], Sequence[Call]] | None = None,
    **facts: Any,
) -> None:
    """Register elementwise functions; the first is the model, the others its twins.

    Twins compute the same (`math.sin` and `np.sin`, `np.add` and `+`) and share its rules.
    """
    model: Primitive | None = None
    for function in functions:
        sign = OPERATORS.get(function)
        own = samples if model is None or not _is_math(function) else _of_numbers(samples)
        primitive(
            function,
            operator=sign,
            text=sign or spelled(function),
            samples=own,
            elementwise=True,
            twin_of=model,
            **facts,
        )(_Elementwise(function, arity))
        model = model or PRIMITIVES[function]


def _of_numbers(
    samples: Callable[[], Sequence[Call]] | None,
) -> Callable[[], Sequence[Call]]:
    """The samples whose arguments are all numbers."""

    def filtered() -> Sequence[Call]:
        given = samples() if samples else ()
        return [one for one in given if all(not getattr(a, "shape", ()) for a in one.args)]

    return filtered


def _is_math(function: Callable[..., Any]) -> bool:
    return getattr(math, getattr(function, "__name__", ""), None) is function


def _attach(function: Any, **rules: Any) -> None:
    target = PRIMITIVES.get(function)
    if target is None:
        raise error("bad-rule", f"a rule for `{function}`, which is no primitive")
    twins = [p for p in PRIMITIVES.values() if p.twin_of is target]
    for one in (target, *twins):
        for key, value in rules.items():
            setattr(one, key, value)


def partials(function: Any) -> Callable[[Rule], Rule]:
    """The partial derivatives of an elementwise function: rule(y, *operands) -> one per operand.

    They serve forward and reverse mode. A rule that can use the output `y` does: only what a rule
    reads must be kept.
    """

    def register(rule: Rule) -> Rule:
        _attach(function, partials=rule)
        return rule

    return register


def vjp(function: Any) -> Callable[[Rule], Rule]:
    """The reverse rule: rule(grad_y, y, *operands, **static) -> a cotangent per operand, or None.

    An operand that is a list gets a list. Shapes may still be those of the broadcast result: the
    transform sums over broadcast axes, adds contributions and restores dtypes.
    """

    def register(rule: Rule) -> Rule:
        _attach(function, vjp=rule)
        return rule

    return register


def jvp(function: Any) -> Callable[[Rule], Rule]:
    """The forward rule: rule(dots, y, *operands, **static) -> dot_y.

    `dots` has a tangent per operand, None where it is zero.
    """

    def register(rule: Rule) -> Rule:
        _attach(function, jvp=rule)
        return rule

    return register


def linear(function: Any, *operands: str) -> None:
    """The function is linear in these operands together (default: in all): its own forward rule."""
    _attach(function, linear=operands or PRIMITIVES[function].operand_names)


def bilinear(function: Any) -> None:
    """The function is linear in each of its two operands: f(dot_a, b) + f(a, dot_b)."""
    _attach(function, bilinear=True)


def zero_derivative(*functions: Any) -> None:
    """The derivative of these functions is zero wherever it exists."""
    for function in functions:
        _attach(function, derivative=False)


def composite(*functions: Any) -> Callable[[Rule], Rule]:
    """Define functions through known ones: the rule runs on symbols and its operations are taken.

    The rule's own signature says which arguments are supported.
    """

    def register(rule: Rule) -> Rule:
        for function in functions:
            COMPOSITES[function] = rule
        return rule

    return register


def foreign(home: str, name: str) -> Callable[[Rule], Rule]:
    """A composite for the function `name` of the module `home`, which is not imported for it."""

    def register(rule: Rule) -> Rule:
        FOREIGN[name] = (home, rule)
        return rule

    return register


def method(*names: str, of: Any = None) -> None:
    """Array methods that are calls of the function `of` with the array in front."""
    for name in names:
        METHODS[name] = of or getattr(np, name)


def twin_in_math(function: Any) -> Any:
    """`math.sin` for `np.sin`, else the function itself; for rules of `math` functions."""
    twin = {"abs": "fabs", "absolute": "fabs", "arctan2": "atan2"}.get(function.__name__)
    name = twin or function.__name__.replace("arc", "a")
    candidate = getattr(math, name, None)
    return candidate if candidate in PRIMITIVES else function
