"""The public functions: `grad`, `value_and_grad`.

    @grad
    def f(w, x): return sigmoid(w * x)

    f(2.0, -1.0)            # Gradients(w=..., x=...)
    print(f.source())
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Unpack, overload

from flatgrad.deriving import derive
from flatgrad.options import Choices, chosen

Argnums = int | str | Sequence[int | str] | None
Function = Callable[..., Any]


@overload
def grad(
    function: None = None,
    argnums: Argnums = None,
    *,
    has_aux: bool = False,
    **choices: Unpack[Choices],
) -> Callable[[Function], Any]: ...
@overload
def grad(
    function: Function,
    argnums: Argnums = None,
    *,
    has_aux: bool = False,
    **choices: Unpack[Choices],
) -> Any: ...
def grad(
    function: Function | None = None,
    argnums: Argnums = None,
    *,
    has_aux: bool = False,
    **choices: Unpack[Choices],
) -> Any:
    """The gradient of a scalar-valued function, as a function; also a decorator.

    Parameters
    ----------
    function
        A Python function of numbers and NumPy arrays, or of tuples, lists, dicts, named tuples and
        dataclasses of these, that returns one float number, or with `has_aux` a pair of it and
        anything else.
    argnums
        An int or a parameter name gives the bare gradient, a sequence gives a tuple. None is every
        parameter that can have a gradient: one gives the bare gradient, several a named tuple.
        A container counts as one parameter.
    has_aux
        The function returns (loss, auxiliary); the derived one returns (gradient, auxiliary).
    backend
        "numpy" (no compile time) or "numba" (compiled for the CPU).
    fuse
        On Numba, array statements become loops over elements, forward and backward together where
        that is possible. False keeps them as they are.
    precise
        In these loops, the C library's elementary functions, which are more exact (1 ulp in place
        of 2) and several times slower than flatgrad's own.
    deterministic
        In these loops, sums are taken one element after the other, in their order, and a product is
        rounded before it is added to something: slower, and just what the text says.
    parallel
        Large ones of these loops run in several threads of Numba's. The results are the same for
        any number of threads, but for the order of their sums not those without the option.

    Returns
    -------
    A function with the same signature. Each gradient has the shape and dtype of its argument, or
    its structure, with None for what cannot have a gradient (ints in a container are counts). With
    the keyword `out` it is written into arrays of the caller's (docs/training.md). The function
    shows its code with `.source()`, `.forward_source()`, `.backward_source()`, `.lower(*args)`,
    `.graph()`, `.line_map()`, and `.save(path)` writes a module that runs alone.

    Raises
    ------
    FlatgradError
        When first called with arguments of some types, if the function is outside the supported
        subset (see docs/errors.md). A gradient is right or it is refused.
    """
    return _decorated(function, "grad", argnums, has_aux, choices)


@overload
def value_and_grad(
    function: None = None,
    argnums: Argnums = None,
    *,
    has_aux: bool = False,
    **choices: Unpack[Choices],
) -> Callable[[Function], Any]: ...
@overload
def value_and_grad(
    function: Function,
    argnums: Argnums = None,
    *,
    has_aux: bool = False,
    **choices: Unpack[Choices],
) -> Any: ...
def value_and_grad(
    function: Function | None = None,
    argnums: Argnums = None,
    *,
    has_aux: bool = False,
    **choices: Unpack[Choices],
) -> Any:
    """The value and the gradient of a scalar-valued function, from one forward sweep.

    Parameters are those of `grad`. The derived function returns `(value, gradient)`, with `has_aux`
    `((value, auxiliary), gradient)`.
    """
    return _decorated(function, "value_and_grad", argnums, has_aux, choices)


def _decorated(
    function: Function | None, kind: str, argnums: Argnums, has_aux: bool, choices: Choices
) -> Any:
    options = chosen(choices)
    if function is None:
        return lambda later: derive(later, kind, argnums, has_aux, options)
    return derive(function, kind, argnums, has_aux, options)
