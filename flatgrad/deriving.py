"""The public function of a derivative, and the `Derived` behind it.

    derive(f, "grad", ...)                        f_grad, with the signature of f
    derive(derive(f, "grad", ...), "hvp", ...)     f_grad_hvp, with tangents behind f's parameters

It is a plain function, generated with the signature of the user's; what it knows beyond that
(`.source()`, `.lower()`, ...) hangs on it as attributes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from flatgrad import callers, columns
from flatgrad.compiled_calls import make_compiled_callable
from flatgrad.derived import Derived, parameter_name
from flatgrad.frontend.source import named_signature, unwrap
from flatgrad.into import Into, takes_out
from flatgrad.options import Options
from flatgrad.tangents import with_tangents


def derived_of(function: Any) -> Derived | None:
    """What is behind the public function of a derivative; None for other functions."""
    derived = getattr(function, "__flatgrad__", None)
    return derived if isinstance(derived, Derived) and derived.wrapper is function else None


TAKE_TANGENTS = ("jvp", "hvp")
"""Kinds with a tangent for each parameter."""


def derive(
    function: Callable[..., Any],
    kind: str,
    argnums: Any,
    has_aux: bool,
    options: Options,
    limit: int | None = None,
    stacked: bool = False,
) -> Callable[..., Any]:
    """The public function for a derivative of `function`, which may be a derivative itself.

    Raises
    ------
    ArgumentError
        If argnums names no parameter.
    """
    inner = derived_of(function)
    static_params: set[str] = set()
    integer_params: set[str] = set()
    if inner is not None:
        inner = _sharing(inner, static_params, integer_params)
        plain, signature = inner.primal, inner.signature
    else:
        plain = unwrap(function)
        signature = named_signature(plain)
    names = list(signature.parameters)
    if argnums is not None:
        for one in argnums if isinstance(argnums, tuple | list) else (argnums,):
            parameter_name(one, names, plain)
    seeds: dict[str, str] = {}
    if kind in TAKE_TANGENTS:
        level = _levels(inner) + 1
        signature, seeds = with_tangents(signature, "dot" if level == 1 else f"dot{level}")
    derived = Derived(
        plain, kind, argnums, has_aux, options, signature, inner, seeds, limit,
        stacked=stacked, static_params=static_params, integer_params=integer_params,
    )  # fmt: skip
    into = Into(derived) if takes_out(derived) else None
    public = callers.public_function(derived, function, into)
    if options.backend == "numba" and not derived.tangents() and kind not in columns.KINDS:
        make_compiled_callable(derived, public)
    return public


def _sharing(
    derived: Derived, static_params: set[str], integer_params: set[str]
) -> Derived:
    """A copy that takes the same parameters as static and as ints; it is never called itself."""
    inner = derived.inner
    if inner is not None:
        inner = _sharing(inner, static_params, integer_params)
    return replace(
        derived, inner=inner, static_params=static_params, integer_params=integer_params,
        specialisations={}, by_class={}, shortcut=None,
    )  # fmt: skip


def _levels(derived: Derived | None) -> int:
    """How many derivatives on the way take tangents."""
    return 0 if derived is None else bool(derived.seeds) + _levels(derived.inner)
