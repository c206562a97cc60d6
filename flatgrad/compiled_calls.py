"""Derived functions inside `@njit` code: the specialisation for Numba's types, with its guards.

    def loss_grad_guarded(W, x):
        if W.shape[0] == 1 or x.shape[0] == 1: raise ValueError("...")
        if W.shape[1] != x.shape[0]: raise ValueError("`W` has ...")
        return loss_grad(W, x)

Numba's array types do not tell which axes have length 1, so the code is that for longer axes, and
arrays with such axes are refused when they come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flatgrad.errors import error
from flatgrad.frontend.lower import Static
from flatgrad.ir.dims import Dim
from flatgrad.ir.types import Array, Scalar


def make_compiled_callable(derived: Any, public: Callable[..., Any]) -> None:
    """Register `public` with Numba, which is imported here."""
    from flatgrad.backends import numba_callable

    dispatchers: dict[Any, Any] = {}

    def choose(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, tuple[Any, ...]]:
        bound = derived.signature.bind(*args, **kwargs)
        given = dict(bound.arguments)
        key = tuple(given.items())
        if key not in dispatchers:
            values = {name: numba_callable.exemplar(kind) for name, kind in given.items()}
            for name, param in derived.signature.parameters.items():
                if name not in values:
                    values[name] = param.default
            values = {name: values[name] for name in derived.signature.parameters}
            function = guarded(derived, derived.specialise(values), list(given), values)
            dispatchers[key] = numba_callable.jit(function)
        return dispatchers[key], tuple(given.values())

    numba_callable.register(public, choose)


def guarded(derived: Any, found: Any, names: list[str], values: dict[str, Any]) -> Any:
    """The compiled specialisation behind its guards, to be jitted.

    Raises
    ------
    UnsupportedError
        If the function reads floats or arrays from outside: Numba would freeze their values.
    """
    if found.compiled.hidden:
        name = found.compiled.hidden[0].name
        raise error(
            "unsupported-backend",
            f"`{name}` is read from outside the function; compiled code would freeze its value",
            help=f"pass `{name}` as an argument",
        )
    text, space = guarded_text(found, names)
    space.update({name: value for name, value in values.items() if name not in names})
    exec(compile(text, f"<flatgrad guard of {derived.primal.__name__}>", "exec"), space)
    return space["guarded"]


def guarded_text(found: Any, names: list[str]) -> tuple[str, dict[str, Any]]:
    """The text of the guard and the names it uses."""
    space: dict[str, Any] = {"emitted": found.compiled.function, "float": float}
    lines = [f"def guarded({', '.join(names)}):"]
    passed = []
    for name, kind in found.types.items():
        if isinstance(kind, Static):
            continue
        if isinstance(kind, Array):
            tests = [f"{name}.shape[{axis}] == 1" for axis in range(kind.ndim)]
            lines += [f"    if {' or '.join(tests)}:", f"        raise ValueError({_ones(name)!r})"]
        passed.append(f"float({name})" if _as_float(kind) else name)
    graph = found.compiled.graph
    where = {atom: f"{value.name}.shape[{axis}]" for atom, (value, axis) in graph.lengths.items()}
    for requirement in graph.requirements:
        left, right = _length(requirement.left, where), _length(requirement.right, where)
        if left is not None and right is not None:
            words = f"{requirement.message({})} ({requirement.span})"
            lines += [f"    if {left} != {right}:", f"        raise ValueError({words!r})"]
    lines.append(f"    return emitted({', '.join(passed)})")
    return "\n".join(lines) + "\n", space


def _ones(name: str) -> str:
    return (
        f"`{name}` has an axis of length 1: inside compiled code a derivative takes arrays whose "
        "axes are longer; call it from Python, or give the array fewer axes"
    )


def _as_float(kind: Any) -> bool:
    return isinstance(kind, Scalar) and kind.dtype == "float64" and kind.weak


def _length(size: Any, where: dict[str, str]) -> str | None:
    """The text of a length, None where it depends on data."""
    if isinstance(size, int):
        return str(size)
    assert isinstance(size, Dim)
    terms = []
    for monomial, factor in size.terms:
        if any(atom not in where for atom in monomial):
            return None
        terms.append(" * ".join([str(factor), *[where[atom] for atom in monomial]]))
    return " + ".join(terms)
