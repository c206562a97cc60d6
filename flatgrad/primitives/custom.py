"""Rules of users for functions of their own, into which the compiler does not look.

    def energy(x): return solve_elsewhere(x)            # any code: C, Fortran, a table

    @flatgrad.defvjp(energy)                            # y has the shape and dtype of x
    def _(grad_y, y, x): return grad_y * np.cos(x)      # appears in the gradient as it stands here

Emitted code calls the function by its name, through `called`, which compares what it returns with
the declared type. For that it is called even where no gradient reads the result. It must be pure,
and gets its arrays read-only.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import flatgrad.primitives.rules  # noqa: F401  (so that NumPy's functions have theirs)
from flatgrad.errors import FlatgradError, error
from flatgrad.ir.dims import Dim
from flatgrad.ir.ops import Requirement
from flatgrad.ir.types import Array, Scalar, Type, constant_type, make
from flatgrad.primitives.registry import (
    COMPOSITES,
    PRIMITIVES,
    Param,
    Primitive,
    Rule,
    lookup,
)
from flatgrad.primitives.symbolic import (
    DIM,
    REQUIRE_EQUAL,
    NeedInteger,
    NeedStatic,
    Symbol,
    apply_function,
)
from flatgrad.primitives.typerules import broadcast, promoted

_TEXTS: dict[str, Primitive] = {}

Result = str | Callable[..., Any] | None


def defvjp(
    function: Callable[..., Any], rule: Rule | None = None, *, result: Result = None
) -> Any:
    """Give `function` a reverse rule; also a decorator of the rule.

    Parameters
    ----------
    function
        A pure function of arrays and numbers that returns one array or number. Parameters after `*`
        are static: they are passed to the rule by keyword.
    rule
        `rule(grad_y, y, *args)` returns the cotangent of each argument, None for one without; for
        one argument it may return it bare. It is NumPy code of functions that have rules.
    result
        What the function returns: None for what an elementwise operation on the arguments would
        have, the name of an argument for its shape and dtype, or a function of the arguments'
        types, which have `shape` and `dtype`, that returns such a type or `(shape, dtype)`.

    Raises
    ------
    ArgumentError
        If the function has a rule already, or a signature of which the arguments are not known.
    """
    return _register(function, rule, result, "vjp", _checked_vjp)


def defjvp(
    function: Callable[..., Any], rule: Rule | None = None, *, result: Result = None
) -> Any:
    """Give `function` a forward rule; also a decorator of the rule.

    `rule(dots, y, *args)` returns the tangent of `y`; `dots` has the tangent of each argument, None
    where it is zero. The rest is as for `defvjp`.
    """
    return _register(function, rule, result, "jvp", _checked_jvp)


def _register(
    function: Callable[..., Any],
    rule: Rule | None,
    result: Result,
    kind: str,
    checked: Callable[[Primitive, Rule], Rule],
) -> Any:
    if rule is None:
        return lambda later: _register(function, later, result, kind, checked) and later
    primitive = _primitive(function, result)
    if getattr(primitive, kind) is not None:
        raise error("bad-rule", f"`{primitive.text}` has a rule already", help="define it anew")
    setattr(primitive, kind, checked(primitive, rule))
    return function


def _primitive(function: Callable[..., Any], result: Result) -> Primitive:
    """The primitive of a user's function, made at its first rule."""
    known = PRIMITIVES.get(function)
    if known is not None and known.opaque:
        if result is not None:
            message = f"`{known.text}` has rules already; `result` comes with the first"
            raise error("bad-rule", message)
        return known
    if not callable(function) or lookup(function) is not None or function in COMPOSITES:
        raise error("bad-rule", f"{function!r} is no function that can be given a rule")
    params = _params(function)
    base = getattr(function, "__name__", "function")
    base = base if base.isidentifier() else "function"
    text, count = base, 0
    while text in _TEXTS:
        count += 1
        text = f"{base}_{count}"
    type_rule = _type_rule(text, params, result)
    primitive = Primitive(
        name=text, function=called(function, text, type_rule), text=text, type_rule=type_rule,
        params=params, creates=True, opaque=True, effect=True,
    )  # fmt: skip
    _TEXTS[text] = PRIMITIVES[function] = primitive
    return primitive


def _params(function: Callable[..., Any]) -> tuple[Param, ...]:
    """The parameters: operands, and static ones after `*`."""
    if isinstance(function, np.ufunc):
        names = ["x"] if function.nin == 1 else [f"x{k}" for k in range(function.nin)]
        empty = inspect.Parameter.empty
        return tuple(Param(name, True, True, True, empty) for name in names)
    try:
        signature = inspect.signature(getattr(function, "py_func", function))
    except (TypeError, ValueError):
        raise error("bad-rule", f"the parameters of {function!r} are not known") from None
    params = []
    for param in signature.parameters.values():
        if param.kind in (param.VAR_POSITIONAL, param.VAR_KEYWORD):
            raise error("bad-rule", f"`{param}` of {function!r}: name every parameter")
        operand = param.kind is not param.KEYWORD_ONLY
        params.append(Param(param.name, operand, operand, operand, param.default))
    return tuple(params)


def _type_rule(text: str, params: Sequence[Param], result: Result) -> Rule:
    """What the function returns, as a function of the types of its arguments."""
    names = [param.name for param in params if param.operand]
    if isinstance(result, str) and result not in names:
        raise error("bad-rule", f"`{text}` has no argument `{result}`")

    def type_rule(*kinds: Any, **static: Any) -> Type:
        if result is None:
            typed = [kind for kind in kinds if isinstance(kind, Scalar | Array)]
            dtype, weak = promoted(np.add, *(typed * 2)[:2] if len(typed) == 1 else typed[:2])
            for kind in typed[2:]:
                dtype, weak = promoted(np.add, Scalar(dtype, weak), kind)
            return make(dtype, broadcast(*[kind.shape for kind in typed]), weak=weak)
        if isinstance(result, str):
            return kinds[names.index(result)]
        found = result(*kinds, **static)
        if isinstance(found, Scalar | Array):
            return found
        shape, dtype = found
        return make(np.dtype(dtype).name, tuple(shape))

    return type_rule


def called(function: Callable[..., Any], text: str, type_rule: Rule) -> Callable[..., Any]:
    """`function` as emitted code calls it: what it returns has the declared dtype and shape."""

    def call(*args: Any, **static: Any) -> Any:
        found = function(*[_frozen(arg) for arg in args], **static)
        wanted = type_rule(*[_type_of(arg) for arg in args], **static)
        array = np.asarray(found)
        if array.shape != wanted.shape or array.dtype.name != wanted.dtype:
            raise error(
                "bad-rule",
                f"`{text}` returned {array.dtype} of shape {array.shape}, declared is "
                f"{wanted.dtype} of shape {wanted.shape}",
                help="declare what it returns: flatgrad.defvjp(function, rule, result=...)",
            )
        if isinstance(wanted, Scalar):
            return array.item() if wanted.weak else array[()]
        given = [arg for arg in args if isinstance(arg, np.ndarray)]
        shared = any(np.may_share_memory(array, arg) for arg in given)
        return array.copy() if shared or not array.flags.writeable else array

    call.__name__ = call.__qualname__ = text
    return call


def _frozen(arg: Any) -> Any:
    """A read-only view: a function that writes to its argument fails instead of changing it."""
    if not isinstance(arg, np.ndarray):
        return arg
    view = arg.view()
    view.flags.writeable = False
    return view


def _type_of(arg: Any) -> Any:
    if isinstance(arg, np.ndarray) and arg.ndim:
        return Array(arg.dtype.name, arg.shape)
    if isinstance(arg, np.ndarray | np.generic):
        return Scalar(arg.dtype.name)
    return constant_type(arg) if isinstance(arg, bool | int | float) else arg


def _run(primitive: Primitive, rule: Rule, args: tuple[Any, ...], static: dict[str, Any]) -> Any:
    """What a rule of the user's returns."""
    try:
        return rule(*args, **static)
    except FlatgradError:
        raise
    except NeedStatic as needed:
        reason = f"needs {needed.reason} while compiling"
        raise _bad(primitive, reason) from None
    except NeedInteger as needed:
        raise needed.refusal from None
    except Exception as caught:
        raise _bad(primitive, f"failed: {type(caught).__name__}: {caught}") from caught


def _bad(primitive: Primitive, what: str) -> FlatgradError:
    return error("bad-rule", f"the rule of `{primitive.text}` {what}")


def _checked_vjp(primitive: Primitive, rule: Rule) -> Rule:
    """The reverse rule with what it returns compared to the arguments."""

    def vjp(grad_y: Any, y: Any, *args: Any, **static: Any) -> tuple[Any, ...]:
        found = _run(primitive, rule, (grad_y, y, *args), static)
        cotangents = found if isinstance(found, tuple | list) else (found,)
        if len(cotangents) != len(args):
            what = f"returns {len(cotangents)} cotangents for {len(args)} arguments"
            raise _bad(primitive, what)
        for name, arg, cotangent in zip(primitive.operand_names, args, cotangents, strict=False):
            if not _spread(cotangent, y, arg):
                _check_fit(primitive, f"the cotangent of `{name}`", cotangent, arg)
        return tuple(cotangents)

    return vjp


def _checked_jvp(primitive: Primitive, rule: Rule) -> Rule:
    """The forward rule with what it returns compared to the result."""

    def jvp(dots: Any, y: Any, *args: Any, **static: Any) -> Any:
        found = _run(primitive, rule, (dots, y, *args), static)
        _check_fit(primitive, "the tangent", found, y)
        return found

    return jvp


def _spread(cotangent: Any, y: Symbol, target: Any) -> bool:
    """Whether a cotangent has the shape of the result, to which the argument is broadcast."""
    if not (isinstance(cotangent, Symbol) and cotangent.type.shape == y.type.shape):
        return False
    kind = target.type if isinstance(target, Symbol) else None
    lead = y.ndim - kind.ndim if kind is not None else 0
    return lead >= 0 and (
        kind is None
        or all(n in (1, size) for n, size in zip(kind.shape, y.type.shape[lead:], strict=True))
    )


def _check_fit(primitive: Primitive, what: str, found: Any, target: Any) -> None:
    """What a rule returns has the shape of its value, or is a number for every element.

    Lengths that are not known to be equal are compared when the emitted code runs.
    """
    if found is None or not isinstance(target, Symbol):
        return
    if not isinstance(found, Symbol | int | float | np.number):
        raise _bad(primitive, f"returns {what} as a {type(found).__name__}")
    if not isinstance(found, Symbol) or not found.ndim:
        return
    shapes = found.type.shape, target.type.shape
    if len(shapes[0]) != len(shapes[1]):
        raise _bad(primitive, f"returns {what} with {found.ndim} axes instead of {target.ndim}")
    for axis, (one, other) in enumerate(zip(*shapes, strict=True)):
        if one == other:
            continue
        wrong = f"returns {what} with length {one} instead of {other} in axis {axis}"
        if isinstance(one, int) and isinstance(other, int):
            raise _bad(primitive, wrong)
        _require(found, target, axis, f"the rule of `{primitive.text}` {wrong}")


def _require(found: Symbol, target: Symbol, axis: int, message: str) -> None:
    """Two lengths are compared: with the arguments' shapes if these tell, else in emitted code."""
    sizes = found.type.shape[axis], target.type.shape[axis]
    atoms = {atom for size in sizes if isinstance(size, Dim) for atom in size.atoms}
    builder = found.builder
    if atoms <= builder.lengths.keys():
        span = builder.origin.span
        builder.requirements.append(Requirement(*sizes, lambda _: message, span, guard=True))
        return
    lengths = [apply_function(DIM, (symbol, axis), {}, builder) for symbol in (found, target)]
    apply_function(REQUIRE_EQUAL, (*lengths, message), {}, builder)


__all__ = ["defjvp", "defvjp"]
