"""A workload: a function written as users write it, and everyone who differentiates it.

    ours = derivatives(workload, args)          {"loops": f, "arrays": g}
    calls = contestants(workload, args, ours)   {"primal": call, "by hand": call, ...}
    check(workload, calls)                      all derivatives are the same, else AssertionError

A call takes no arguments and returns `(value, gradients)`, or a Jacobian. Contestants whose package
is not installed are left out.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import FunctionType
from typing import Any

import numba
import numpy as np

from benchmarks import libraries
from flatgrad import jacobian, value_and_grad
from flatgrad.backends import numba_activations

numba_activations.register()  # for primals that call sigmoid, where nothing is installed

Call = Callable[[], Any]
Function = Callable[..., Any]
PACKAGES = {"JAX": "jax", "PyTorch": "torch", "autograd": "autograd"}


def _same(tree: Any) -> Any:
    return tree


@dataclass(frozen=True)
class Workload:
    """A function by several contestants, at one size.

    `forms` are the user's functions by the style they are written in; one may leave out the last
    arguments. Those of `others` are made by
    a function without arguments, so that no package is imported before it is needed.
    """

    title: str
    family: str
    make: Callable[..., tuple[Any, ...]]
    sizes: tuple[int, ...]
    tiny: tuple[int, ...]
    names: tuple[str, ...]
    forms: dict[str, Function]
    by_hand: Function
    others: dict[str, Callable[[], Function]] = field(default_factory=dict)
    primal: Function | None = None
    """What Numba compiles as the primal, where the first form is not for Numba."""
    mode: str = "gradient"
    dtype: str = "float64"
    quick: bool = True
    rounds: int = 40
    slow: tuple[str, ...] = ()
    """Contestants that take seconds: they have few rounds, and none in the quick mode."""
    few: tuple[tuple[int, ...], int] | None = None
    """Sizes for which the outermost loop has few trips, and how many: to count the tape."""
    derive: Callable[[Function, tuple[Any, ...], str], Function] | None = None
    """What flatgrad makes of a form, the arguments and a backend, if not `value_and_grad`."""
    canonical: Callable[[Any], Any] = _same
    """Applied to derivatives before they are compared, where libraries differ on purpose."""

    def arguments(self, tiny: bool = False) -> tuple[Any, ...]:
        """Data drawn from a seeded generator, in the precision of the workload."""
        args = self.make(*(self.tiny if tiny else self.sizes))
        return tuple(_cast(x, self.dtype) for x in args)


def _cast(x: Any, dtype: str) -> Any:
    if isinstance(x, np.ndarray) and x.dtype == np.float64:
        return x.astype(dtype)
    return np.float32(x) if isinstance(x, float) and dtype == "float32" else x


def contestants(
    workload: Workload, args: tuple[Any, ...], ours: dict[str, Any], others: Sequence[str]
) -> dict[str, Call]:
    """Everyone; the primal first. `ours` are the derivatives by style, `others` the names of other
    packages, of which those take part that are installed.
    """
    calls: dict[str, Call] = {
        "primal": _call(compiled(primal_of(workload)), args),
        "by hand": _call(workload.by_hand, args),
    }
    for style, function in ours.items():
        calls[f"flatgrad, {style}"] = _call(function, args)
    for name in others:
        package = PACKAGES[name]
        if name in workload.others and importlib.util.find_spec(package):
            prepare = getattr(libraries, package)
            function = workload.others[name]()
            calls[name] = prepare(function, args, positions(workload), workload.mode)
    return calls


def _call(function: Any, args: tuple[Any, ...]) -> Call:
    return functools.partial(function, *fitting(function, args))


def fitting(function: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """As many of the arguments as the function has parameters."""
    return args[: len(inspect.signature(function).parameters)]


def compiled(function: Function) -> Any:
    """The function under Numba, and those of its module that it calls."""
    names = dict(function.__globals__)
    for name in function.__code__.co_names:
        called = names.get(name)
        if isinstance(called, FunctionType) and called.__module__ == function.__module__:
            names[name] = compiled(called)
    return numba.njit(FunctionType(function.__code__, names, function.__name__))


def primal_of(workload: Workload) -> Function:
    """The function alone, as Numba can compile it."""
    return workload.primal or next(iter(workload.forms.values()))


def derivatives(
    workload: Workload, args: tuple[Any, ...], backend: str = "numba"
) -> dict[str, Any]:
    """The derivatives by flatgrad, by the style of the function."""
    return {style: _derivative(workload, f, args, backend) for style, f in workload.forms.items()}


def _derivative(
    workload: Workload, function: Function, args: tuple[Any, ...], backend: str
) -> Any:
    if workload.derive is not None:
        return workload.derive(function, args, backend)
    names = workload.names if len(workload.names) > 1 else workload.names[0]
    make = jacobian if workload.mode == "jacobian" else value_and_grad
    return make(function, argnums=names, backend=backend)


def positions(workload: Workload) -> tuple[int, ...]:
    """Where the parameters stand that are differentiated by."""
    code = next(iter(workload.forms.values())).__code__
    return tuple(code.co_varnames.index(name) for name in workload.names)


TOLERANCE = {"float64": 1e-8, "float32": 5e-3}


def check(workload: Workload, calls: dict[str, Call]) -> None:
    """Compare all derivatives with the reference; nothing else would be worth timing."""
    expected = leaves(workload.canonical(calls["by hand"]()))
    tolerance = TOLERANCE[workload.dtype]
    for name, call in calls.items():
        if name != "primal":
            found = leaves(workload.canonical(call()))
        elif workload.mode == "gradient":
            found = leaves(call())
        else:
            continue
        for one, other in zip(found, expected, strict=name != "primal"):
            scale = float(np.max(np.abs(other), initial=0.0)) or 1.0
            message = f"{workload.title}: {name}"
            assert one.shape == other.shape, message
            np.testing.assert_allclose(
                one, other, rtol=tolerance, atol=tolerance * scale * 0.01, err_msg=message
            )


def leaves(tree: Any) -> list[np.ndarray]:
    """The arrays and numbers of nested tuples, in order."""
    if isinstance(tree, tuple | list):
        return [leaf for item in tree for leaf in leaves(item)]
    return [np.asarray(tree, dtype=np.float64)]
