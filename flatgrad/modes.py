"""Derivatives in other directions: tangents, pullbacks, Jacobians and Hessians.

    y, dot_y = jvp(f, (x,), (dot_x,))         one sweep forwards
    y, pullback = vjp(f, x)                   pullback(grad_y): one sweep backwards
    J = jacobian(f)(x)                        J[i, j] = d y[i] / d x[j], the cheaper way
    H = hessian(f)(x);  hvp(f, (x,), (v,))    H, and H @ v without H

Names and shapes are JAX's. Each has the code of its own that `.source()` shows.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Unpack

from flatgrad.derived import Derived
from flatgrad.deriving import derive
from flatgrad.errors import error
from flatgrad.jacobians import Jacobian, public
from flatgrad.options import Choices, Options, chosen

Function = Callable[..., Any]
Argnums = int | str | Sequence[int | str] | None


def jvp(
    function: Function,
    primals: Sequence[Any] | None = None,
    tangents: Sequence[Any] | None = None,
    *,
    stacked: bool = False,
    **choices: Unpack[Choices],
) -> Any:
    """The value of a function and its derivative along tangents: `(y, dot_y)`.

    Parameters
    ----------
    function
        A Python function of numbers and arrays; it may return anything made of these.
    primals
        The arguments. Without them, the result is the derived function
        `f_jvp(x, w, dot_x=None, dot_w=None)`, which shows its code as that of `grad` does, and
        with the keyword `out` writes tangents into arrays of the caller's (docs/training.md).
    tangents
        One for each of `primals`, of its shape and dtype, or of its structure. None stands for
        zero, of a part or of the whole, and for whatever cannot have a tangent.
    stacked
        Several tangents at once: each of `tangents` has one more axis in front, a row for each
        tangent, and so have the tangents of the result; in a structure, each array of it. One sweep
        computes the values once for all (in JAX: `vmap` of `jvp` over the tangents).

    Returns
    -------
    The result, and its tangent in the same structure, with None at what is no float.

    Raises
    ------
    ShapeError, TypeInferenceError
        If a tangent has another shape or dtype than its argument.
    """
    derived = _derived(function, "jvp", None, chosen(choices), stacked=stacked)
    if primals is None:
        return derived
    return derived(*_with_tangents(derived, primals, tangents))


def hvp(
    function: Function,
    primals: Sequence[Any] | None = None,
    tangents: Sequence[Any] | None = None,
    argnums: Argnums = None,
    *,
    stacked: bool = False,
    **choices: Unpack[Choices],
) -> Any:
    """The Hessian of a scalar-valued function times tangents, without the Hessian.

    It is forward over reverse mode, `jvp(grad(function, argnums), primals, tangents)[1]`, for a few
    times the cost of a gradient; the result has the structure of that gradient. Without `primals`
    it is the derived function, as for `jvp`; `stacked` as there, and so is `out`.
    """
    gradient = _derived(function, "grad", argnums, chosen(choices))
    derived = _derived(gradient, "hvp", None, chosen(choices), stacked=stacked)
    if primals is None:
        return derived
    return derived(*_with_tangents(derived, primals, tangents))


def vjp(function: Function, *primals: Any, **choices: Unpack[Choices]) -> tuple[Any, Any]:
    """The value of a function, and the pullback of adjoints: `(y, pullback)`.

    `pullback(grad_y)` takes an adjoint of the shape, dtype and structure of `y` and returns a tuple
    with a gradient for each of `primals`, in its structure, None for what cannot have one. Two
    functions are compiled: the first keeps what the second reads, so that a pullback computes
    nothing again and can be called any number of times; `pullback.source()` shows it. Arrays are
    kept as copies: changing an argument afterwards does not change the pullback.
    """
    derived = _derived(function, "vjp", None, chosen(choices), len(primals))
    return derived(*primals)


def linearize(function: Function, *primals: Any, **choices: Unpack[Choices]) -> tuple[Any, Any]:
    """The value of a function, and its derivative as a linear function: `(y, pushforward)`.

    `pushforward(*tangents)` returns what `jvp` does, without computing the values again. It is
    compiled and kept as the pullback of `vjp` is.
    """
    derived = _derived(function, "linearize", None, chosen(choices), len(primals))
    return derived(*primals)


def jacfwd(function: Function, argnums: Argnums = None, **choices: Unpack[Choices]) -> Function:
    """The Jacobian, column by column in forward mode: for functions of few inputs.

    The derived function has the parameters of `function`. For each result and each chosen argument
    there is an array of the result's shape followed by the argument's; several arguments come as
    gradients do (`argnums` as for `grad`), in their structures, within the structure of the result.
    All columns come from one sweep, in which each value carries a tangent for each input: of up to
    8 inputs under names of their own, of more as rows of one array. `.source()` shows it. Beyond
    512 inputs, each column is a run of the compiled pushforward (see `linearize`). With the keyword
    `out` the Jacobian is written into arrays of the caller's (docs/training.md).
    """
    return _jacobian(function, argnums, chosen(choices), backwards=False)


def jacrev(function: Function, argnums: Argnums = None, **choices: Unpack[Choices]) -> Function:
    """The Jacobian, row by row in reverse mode: for functions of few results.

    Each row is one run of the compiled pullback (see `vjp`). The rest is as for `jacfwd`.
    """
    return _jacobian(function, argnums, chosen(choices), forwards=False)


def jacobian(function: Function, argnums: Argnums = None, **choices: Unpack[Choices]) -> Function:
    """The Jacobian, by `jacfwd` or `jacrev`, whichever has fewer tangents or adjoints to carry.

    Inputs and results are counted when arguments of some shapes are first seen. The rest is as for
    `jacfwd`.
    """
    return _jacobian(function, argnums, chosen(choices))


def value_and_jacobian(
    function: Function, argnums: Argnums = None, **choices: Unpack[Choices]
) -> Function:
    """The value and the Jacobian of a function: `(y, J)`, with `J` as from `jacobian`."""
    return _jacobian(function, argnums, chosen(choices), with_value=True)


def hessian(function: Function, argnums: Argnums = None, **choices: Unpack[Choices]) -> Function:
    """The second derivatives of a scalar-valued function: `jacfwd(grad(function))`.

    For one argument it is an array of the argument's shape, twice. For several, it is a tuple of
    tuples, named as gradients are: `hessian(f)(x, y).x.y`.
    """
    gradient = _derived(function, "grad", argnums, chosen(choices))
    return _jacobian(gradient, argnums, chosen(choices), backwards=False)


@lru_cache(maxsize=256, typed=True)
def _cached(
    function: Function, kind: str, argnums: Any, options: Options, limit: int | None, stacked: bool
) -> Function:
    return derive(function, kind, argnums, False, options, limit, stacked)


def _derived(
    function: Function,
    kind: str,
    argnums: Any,
    options: Options,
    limit: int | None = None,
    stacked: bool = False,
) -> Any:
    """The derived function: the same for the same function, so that nothing is compiled twice."""
    if isinstance(argnums, list):
        argnums = tuple(argnums)
    try:
        hash((function, argnums))
    except TypeError:
        return derive(function, kind, argnums, False, options, limit, stacked)
    return _cached(function, kind, argnums, options, limit, stacked)


def _listed(primals: Any) -> list[Any]:
    """Arguments, or their tangents, that come as a tuple."""
    if not isinstance(primals, tuple | list):
        raise error(
            "bad-tangent", "the arguments come as a tuple",
            help="pass (x,) for the argument x",
        )  # fmt: skip
    return list(primals)


def _with_tangents(
    derived: Any, primals: Sequence[Any], tangents: Sequence[Any] | None
) -> list[Any]:
    """The arguments of a derived function that takes tangents after the others."""
    behind: Derived = derived.__flatgrad__
    primals = _listed(primals)
    tangents = _listed(tangents)
    if len(primals) != len(tangents):
        raise error(
            "bad-tangent", f"{len(tangents)} tangents for {len(primals)} arguments",
            help="pass one for each argument, None for zero",
        )  # fmt: skip
    params = behind.signature.parameters
    owners = [
        params[name]
        for name in behind.seeds
        if params[name].kind is not inspect.Parameter.KEYWORD_ONLY
    ]
    if len(primals) > len(owners):
        raise error(
            "bad-tangent",
            f"`{behind.primal.__name__}` takes {len(owners)} arguments, not {len(primals)}",
        )
    missing = owners[len(primals) :]
    for param in missing:
        if param.default is param.empty:
            raise error("bad-tangent", f"the argument `{param.name}` is missing")
    return [*primals, *[param.default for param in missing], *tangents]


def _jacobian(
    function: Function,
    argnums: Argnums,
    options: Options,
    *,
    forwards: bool = True,
    backwards: bool = True,
    with_value: bool = False,
) -> Function:
    """A function that builds Jacobians in one of the two directions, or the cheaper."""
    if isinstance(argnums, list):
        argnums = tuple(argnums)
    made = Jacobian(with_value)
    if forwards:
        kind = "value_and_jacfwd" if with_value else "jacfwd"
        made.sweep = _derived(function, kind, argnums, options)
        made.linearize = _derived(function, "linearize", argnums, options)
    if backwards:
        made.vjp = _derived(function, "vjp", argnums, options)
    return public(made, function)
