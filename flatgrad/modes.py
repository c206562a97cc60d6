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
from types import SimpleNamespace
from typing import Any

import numpy as np

from flatgrad.derivatives import mapped
from flatgrad.derived import Derived, derive
from flatgrad.errors import error
from flatgrad.ir.trees import finished
from flatgrad.linear_maps import Late
from flatgrad.structures import spread

Function = Callable[..., Any]
Argnums = int | str | Sequence[int | str] | None


def jvp(
    function: Function,
    primals: Sequence[Any] | None = None,
    tangents: Sequence[Any] | None = None,
    *,
    backend: str = "numpy",
) -> Any:
    """The value of a function and its derivative along tangents: `(y, dot_y)`.

    Parameters
    ----------
    function
        A Python function of numbers and arrays; it may return anything made of these.
    primals
        The arguments. Without them, the result is the derived function
        `f_jvp(x, w, dot_x=None, dot_w=None)`, which shows its code as that of `grad` does.
    tangents
        One for each of `primals`, of its shape and dtype, or of its structure. None stands for
        zero, of a part or of the whole, and for whatever cannot have a tangent.

    Returns
    -------
    The result, and its tangent in the same structure, with None at what is no float.

    Raises
    ------
    ShapeError, TypeInferenceError
        If a tangent has another shape or dtype than its argument.
    """
    derived = _derived(function, "jvp", None, backend)
    if primals is None:
        return derived
    return derived(*_with_tangents(derived, primals, tangents))


def hvp(
    function: Function,
    primals: Sequence[Any] | None = None,
    tangents: Sequence[Any] | None = None,
    argnums: Argnums = None,
    *,
    backend: str = "numpy",
) -> Any:
    """The Hessian of a scalar-valued function times tangents, without the Hessian.

    It is forward over reverse mode, `jvp(grad(function, argnums), primals, tangents)[1]`, for a few
    times the cost of a gradient; the result has the structure of that gradient. Without `primals`
    it is the derived function, as for `jvp`.
    """
    derived = _derived(_derived(function, "grad", argnums, backend), "hvp", None, backend)
    if primals is None:
        return derived
    return derived(*_with_tangents(derived, primals, tangents))


def vjp(function: Function, *primals: Any, backend: str = "numpy") -> tuple[Any, Any]:
    """The value of a function, and the pullback of adjoints: `(y, pullback)`.

    `pullback(grad_y)` takes an adjoint of the shape, dtype and structure of `y` and returns a tuple
    with a gradient for each of `primals`, in its structure, None for what cannot have one. Two
    functions are compiled: the first keeps what the second reads, so that a pullback computes
    nothing again and can be called any number of times; `pullback.source()` shows it. Arrays are
    kept as copies: changing an argument afterwards does not change the pullback.
    """
    derived = _derived(function, "vjp", None, backend, len(primals))
    return derived(*primals)


def linearize(function: Function, *primals: Any, backend: str = "numpy") -> tuple[Any, Any]:
    """The value of a function, and its derivative as a linear function: `(y, pushforward)`.

    `pushforward(*tangents)` returns what `jvp` does, without computing the values again. It is
    compiled and kept as the pullback of `vjp` is.
    """
    derived = _derived(function, "linearize", None, backend, len(primals))
    return derived(*primals)


def jacfwd(function: Function, argnums: Argnums = None, *, backend: str = "numpy") -> Function:
    """The Jacobian, column by column in forward mode: for functions of few inputs.

    The derived function has the parameters of `function`. For each result and each chosen argument
    there is an array of the result's shape followed by the argument's; several arguments come as
    gradients do (`argnums` as for `grad`), in their structures, within the structure of the result.
    Each column is one run of the compiled pushforward (see `linearize`); carrying several tangents
    in one sweep is a later step.
    """
    return _jacobian(function, argnums, backend, "linearize", with_value=False)


def jacrev(function: Function, argnums: Argnums = None, *, backend: str = "numpy") -> Function:
    """The Jacobian, row by row in reverse mode: for functions of few results.

    Each row is one run of the compiled pullback (see `vjp`). The rest is as for `jacfwd`.
    """
    return _jacobian(function, argnums, backend, "vjp", with_value=False)


def jacobian(function: Function, argnums: Argnums = None, *, backend: str = "numpy") -> Function:
    """The Jacobian, by `jacfwd` or `jacrev`, whichever takes fewer runs.

    Inputs and results are counted when arguments of some shapes are first seen. The rest is as for
    `jacfwd`.
    """
    return _jacobian(function, argnums, backend, None, with_value=False)


def value_and_jacobian(
    function: Function, argnums: Argnums = None, *, backend: str = "numpy"
) -> Function:
    """The value and the Jacobian of a function: `(y, J)`, with `J` as from `jacobian`."""
    return _jacobian(function, argnums, backend, None, with_value=True)


def hessian(function: Function, argnums: Argnums = None, *, backend: str = "numpy") -> Function:
    """The second derivatives of a scalar-valued function: `jacfwd(grad(function))`.

    For one argument it is an array of the argument's shape, twice. For several, it is a tuple of
    tuples, named as gradients are: `hessian(f)(x, y).x.y`.
    """
    gradient = _derived(function, "grad", argnums, backend)
    return _jacobian(gradient, argnums, backend, "linearize", with_value=False)


@lru_cache(maxsize=256, typed=True)
def _cached(
    function: Function, kind: str, argnums: Any, backend: str, limit: int | None
) -> Function:
    return derive(function, kind, argnums, False, backend, limit)


def _derived(
    function: Function, kind: str, argnums: Any, backend: str, limit: int | None = None
) -> Any:
    """The derived function: the same for the same function, so that nothing is compiled twice."""
    if isinstance(argnums, list):
        argnums = tuple(argnums)
    try:
        hash((function, argnums))
    except TypeError:
        return derive(function, kind, argnums, False, backend, limit)
    return _cached(function, kind, argnums, backend, limit)


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
    function: Function, argnums: Argnums, backend: str, kind: str | None, *, with_value: bool
) -> Function:
    """A derived function that builds Jacobians from runs of one of the two linear maps."""
    if isinstance(argnums, list):
        argnums = tuple(argnums)
    first = _derived(function, kind or "linearize", argnums, backend)
    other = _derived(function, "vjp", argnums, backend) if kind is None else None
    cheaper: dict[Any, bool] = {}

    def jacobian(*args: Any, **kwargs: Any) -> Any:
        given = spread({f"argument_{k}": arg for k, arg in enumerate(args)})
        key = tuple(np.shape(leaf) for leaf in given.values.values())
        chosen = other if other is not None and cheaper.get(key) else first
        y, linear = chosen(*args, **kwargs)
        if other is not None and key not in cheaper:
            cheaper[key] = _size(linear.inputs) > _size(s for s, _ in linear.outputs.values())
            if cheaper[key]:
                y, linear = other(*args, **kwargs)
        found = _assembled(linear)
        return (y, found) if with_value else found

    behind: Derived = first.__flatgrad__
    jacobian.__name__ = jacobian.__qualname__ = behind.primal.__name__
    jacobian.__doc__ = behind.primal.__doc__
    jacobian.__module__ = behind.primal.__module__
    jacobian.__signature__ = behind.signature  # type: ignore[attr-defined]
    jacobian.primal = function  # type: ignore[attr-defined]
    jacobian.__flatgrad__ = SimpleNamespace(wrapper=jacobian)  # type: ignore[attr-defined]
    return jacobian


def _size(shapes: Any) -> int:
    return sum(int(np.prod(shape)) for shape in shapes)


def _assembled(linear: Late) -> Any:
    """The Jacobians of all results by all chosen arguments, in their structures."""
    blocks = linear.blocks()

    def row(k: int) -> Any:
        if k not in blocks:
            return None
        parts = [numbered(part, linear, j) for j, part in enumerate(blocks[k])]
        return finished(mapped(linear.form, lambda j: parts[j]))

    return finished(mapped(linear.tree, row, None))


def numbered(block: np.ndarray, linear: Late, j: int) -> Any:
    """A Jacobian without axes as a number, unless the argument is an array."""
    argument = linear.arguments[linear.wrt[j]]
    if block.ndim or isinstance(argument, np.ndarray):
        return block
    return float(block) if linear.kinds[j].weak else block[()]
