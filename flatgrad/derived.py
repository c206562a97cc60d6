"""A derived function: specialisations per signature behind one ordinary Python function.

    f(2.0, x)      types of the arguments -> specialisation -> emitted code -> gradients

The public object is a plain function, generated with the signature of the user's; what it knows
beyond that (`.source()`, `.lower()`, ...) hangs on it as attributes.
"""

from __future__ import annotations

import inspect
from collections import namedtuple
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flatgrad import callers
from flatgrad.compiled_calls import make_compiled_callable
from flatgrad.errors import FlatgradError, error
from flatgrad.exclusive import exclusive
from flatgrad.frontend.lower import Static
from flatgrad.frontend.source import Source, read_source, signature_of, unwrap
from flatgrad.ir.types import Scalar, Type
from flatgrad.pipeline import Compiled, Request, compile_gradient
from flatgrad.primitives.symbolic import NeedStatic
from flatgrad.signature import can_have_gradient, freeze, hidden_type, type_of

BACKENDS = ("numpy", "numba")


@dataclass(slots=True)
class Specialisation:
    """A compiled signature with the parameters that it takes."""

    compiled: Compiled
    types: dict[str, Type | Static]
    wrt: tuple[str, ...]
    bare: bool
    gradients: Any = None


@dataclass(slots=True, eq=False)
class Derived:
    """All specialisations of one derivative of one function."""

    primal: Callable[..., Any]
    kind: str
    argnums: Any
    has_aux: bool
    backend: str
    signature: inspect.Signature
    specialisations: dict[Any, list[Specialisation]] = field(default_factory=dict)
    static_params: set[str] = field(default_factory=set)
    last: Specialisation | None = None
    wrapper: Callable[..., Any] | None = None
    by_class: dict[Any, Any] = field(default_factory=dict)

    @property
    def source(self) -> Source:
        """The user's source."""
        return read_source(self.primal)

    def call_slowly(self, *args: Any) -> Any:
        """A call with arguments not seen before, one for each parameter."""
        values = dict(zip(self.signature.parameters, args, strict=True))
        found = self.specialise(values)
        check_requirements(found, values)
        run = callers.runner(self, found, values)
        callers.remember(self, values, run)
        return run(*args)

    def specialise(self, values: dict[str, Any]) -> Specialisation:
        """The specialisation for these argument values, compiled if it is new."""
        wrt, bare = self.chosen(values)
        for _ in range(len(values) + 1):
            types: dict[str, Type | Static] = {
                name: type_of(
                    name, value, wants_gradient=name in wrt, static=name in self.static_params
                )
                for name, value in values.items()
            }
            key = tuple(_key(kind) for kind in types.values())
            for known in self.specialisations.get(key, []):
                if all(capture.unchanged() for capture in known.compiled.captures) and all(
                    _same_hidden(capture) for capture in known.compiled.hidden
                ):
                    self.last = known
                    return known
            try:
                found = self.compile(types, wrt, bare)
            except NeedStatic as needed:
                self.make_static(needed, values)
                wrt, bare = self.chosen(values)
                continue
            self.specialisations.setdefault(key, []).insert(0, found)
            self.last = found
            return found
        raise error("internal", "compilation did not settle")

    def make_static(self, needed: NeedStatic, values: dict[str, Any]) -> None:
        """The compiler needs the value of an int parameter: from now on it is static.

        Raises
        ------
        UnsupportedError
            If it is no int, or its gradient was asked for by name.
        """
        name = needed.symbol.value.name
        assert name is not None
        wanted = self.argnums is not None and name in self.chosen(values)[0]
        if wanted or not isinstance(values.get(name), int | np.integer):
            raise needed.refusal or error(
                "internal", f"a rule needs the value of `{name}`: {needed.reason}"
            )
        self.static_params.add(name)
        self.by_class.clear()

    def compile(
        self, types: dict[str, Type | Static], wrt: tuple[str, ...], bare: bool
    ) -> Specialisation:
        """Run the pipeline."""
        request = Request(self.kind, wrt, self.has_aux, self.backend)
        with exclusive():
            compiled = compile_gradient(self.source, types, request, hidden_type)
        gradients: Any = None if bare else namedtuple("Gradients", wrt, rename=True)
        return Specialisation(compiled, types, wrt, bare, gradients)

    def chosen(self, values: dict[str, Any]) -> tuple[tuple[str, ...], bool]:
        """The parameters to differentiate by, and whether the gradient comes bare.

        Raises
        ------
        ArgumentError
            If one that was asked for cannot have a gradient, or none can.
        """
        names = list(self.signature.parameters)
        span = None
        if self.argnums is None:
            wrt = tuple(
                name
                for name in names
                if can_have_gradient(values[name]) and name not in self.static_params
            )
            if not wrt:
                for name, value in values.items():
                    type_of(name, value, wants_gradient=False)  # a list says more about itself
                raise error(
                    "nothing-to-differentiate",
                    f"no argument of `{self.primal.__name__}` is a float or a float array",
                    help="pass a float or a float array",
                )
            return wrt, len(wrt) == 1
        asked = self.argnums if isinstance(self.argnums, tuple | list) else (self.argnums,)
        wrt = tuple(parameter_name(one, names, self.primal) for one in asked)
        for name in wrt:
            if not can_have_gradient(values[name]):
                found = values[name]
                is_array = isinstance(found, np.ndarray)
                what = f"an array of {found.dtype}" if is_array else repr(found)
                raise error(
                    "not-differentiable",
                    f"`{name}` is {what} and cannot have a gradient",
                    span,
                    help="pass a float or a float array, or leave it out of argnums",
                )
        return wrt, not isinstance(self.argnums, tuple | list)

    def shown(self) -> Specialisation:
        """The specialisation that `.source()` shows: the last used, else one for floats."""
        if self.last is not None:
            return self.last
        return self.specialise(
            {name: example_argument(param) for name, param in self.signature.parameters.items()}
        )


def parameter_name(asked: int | str, names: Sequence[str], function: Any) -> str:
    """The parameter that an entry of argnums means.

    Raises
    ------
    ArgumentError
        If there is none.
    """
    if isinstance(asked, str) and asked in names:
        return asked
    if isinstance(asked, int) and not isinstance(asked, bool) and -len(names) <= asked < len(names):
        return names[asked]
    raise error(
        "bad-argnums",
        f"`{function.__name__}` has no parameter {asked!r}",
        help=f"its parameters are {', '.join(names)}",
    )


def _key(kind: Type | Static) -> Any:
    return ("static", freeze(kind.value)) if isinstance(kind, Static) else kind


def _same_hidden(capture: Any) -> bool:
    try:
        now, then = capture.read(), capture.value
        return bool(hidden_type(capture.name, now) == hidden_type(capture.name, then))
    except (FlatgradError, NameError, ValueError, KeyError):
        return False


def example_argument(param: inspect.Parameter) -> Any:
    """An argument of the type that a parameter's annotation or default shows, else a float."""
    if param.default is not param.empty:
        return param.default
    annotation = param.annotation
    name = getattr(annotation, "__name__", str(annotation))
    if name == "int":
        return 2
    if name == "bool":
        return True
    if name in ("ndarray", "NDArray") or "ndarray" in str(annotation):
        raise error(
            "unsupported-argument",
            f"the rank of the array `{param.name}` is not known yet",
            help="call the function once, or use .lower(*args)",
        )
    return 1.0


def check_requirements(found: Specialisation, values: dict[str, Any]) -> None:
    """Axes that must agree do, for these arguments.

    Raises
    ------
    ShapeError
        In the user's words, at the line that needs them equal.
    """
    graph = found.compiled.graph
    hidden = {capture.name: capture.read() for capture in found.compiled.hidden}
    lengths: dict[str, int] = {}
    for atom, (value, axis) in graph.lengths.items():
        argument = values.get(value.name or "", hidden.get(value.name or ""))
        if isinstance(argument, np.ndarray) and axis < argument.ndim:
            lengths[atom] = argument.shape[axis]
    for name, argument in values.items():
        if isinstance(found.types.get(name), Scalar) and isinstance(argument, int):
            lengths[f"?{name}"] = int(argument)
    for requirement in graph.requirements:
        left, right = (
            side if isinstance(side, int) else side.value(lengths)
            for side in (requirement.left, requirement.right)
        )
        if left is not None and right is not None and left != right:
            raise error("shape-mismatch", requirement.message(lengths), requirement.span)


def derive(
    function: Callable[..., Any], kind: str, argnums: Any, has_aux: bool, backend: str
) -> Callable[..., Any]:
    """The public function for a derivative of `function`.

    Raises
    ------
    ArgumentError
        If the backend is unknown or argnums names no parameter.
    """
    if backend not in BACKENDS:
        raise error(
            "bad-option", f"unknown backend {backend!r}", help=f"one of {', '.join(BACKENDS)}"
        )
    plain = unwrap(function)
    signature = signature_of(plain)
    for param in signature.parameters.values():
        if param.kind in (param.VAR_POSITIONAL, param.VAR_KEYWORD):
            raise error(
                "unsupported-argument",
                f"`{plain.__name__}` takes `{param}`: its parameters are not known",
                help="name every parameter",
            )
    names = list(signature.parameters)
    if argnums is not None:
        for one in argnums if isinstance(argnums, tuple | list) else (argnums,):
            parameter_name(one, names, plain)
    derived = Derived(plain, kind, argnums, has_aux, backend, signature)
    public = callers.public_function(derived, function)
    if backend == "numba":
        make_compiled_callable(derived, public)
    return public
