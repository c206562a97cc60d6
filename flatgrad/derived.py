"""A derived function: specialisations per signature behind one ordinary Python function.

    f(2.0, x)      types of the arguments -> specialisation -> emitted code -> gradients

The public object is a plain function, generated with the signature of the user's; what it knows
beyond that (`.source()`, `.lower()`, ...) hangs on it as attributes.
"""

from __future__ import annotations

import inspect
from collections import namedtuple
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

import numpy as np

from flatgrad import callers, columns, linear_maps
from flatgrad.compiled_calls import make_compiled_callable
from flatgrad.derivatives import SPLIT, Request
from flatgrad.errors import FlatgradError, error
from flatgrad.exclusive import exclusive
from flatgrad.frontend.lower import Static
from flatgrad.frontend.source import Source, read_source, signature_of, unwrap
from flatgrad.ir.types import Scalar, Type
from flatgrad.pipeline import Compiled, compile_derivative
from flatgrad.primitives.symbolic import NeedInteger, NeedStatic
from flatgrad.signature import can_have_gradient, freeze, hidden_type, type_of
from flatgrad.tangents import check_fit, check_rows, example_tangent, stack_type, with_tangents

BACKENDS = ("numpy", "numba")


@dataclass(slots=True)
class Specialisation:
    """A compiled signature with the parameters that it takes."""

    compiled: Compiled
    types: dict[str, Type | Static]
    wrt: tuple[str, ...]
    bare: bool
    gradients: Any = None
    finish: Any = None


@dataclass(slots=True, eq=False)
class Derived:
    """All specialisations of one derivative of one function.

    `primal` is the function with a source. `inner` is the derivative of it that is differentiated
    here, if any, `seeds` are the names of the tangents that this derivative has as parameters, by
    the parameters that they belong to; they are `stacked` if several are given at once.
    Parameters from number `limit` on are not differentiated. The values of `static_params` are part
    of the signature; ints given for `integer_params` stay ints, because the function cannot take
    floats in their place.
    """

    primal: Callable[..., Any]
    kind: str
    argnums: Any
    has_aux: bool
    backend: str
    signature: inspect.Signature
    inner: Derived | None = None
    seeds: dict[str, str] = field(default_factory=dict)
    limit: int | None = None
    stacked: bool = False
    specialisations: dict[Any, list[Specialisation]] = field(default_factory=dict)
    static_params: set[str] = field(default_factory=set)
    integer_params: set[str] = field(default_factory=set)
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

    def specialise(
        self, values: dict[str, Any], *, guessed: Collection[str] = ()
    ) -> Specialisation:
        """The specialisation for these argument values, compiled if it is new.

        Of those that are only guessed, an int takes the place of a float that is needed as an int,
        and the tangent of such a parameter is left out.
        """
        wrt, bare = self.chosen(values)
        for _ in range(2 * len(values) + 1):
            types = self.types_of(values)
            key: Any = tuple(_key(kind) for kind in types.values())
            key = (key, columns.directions(self.kind, values, wrt))
            for known in self.specialisations.get(key, []):
                if all(capture.unchanged() for capture in known.compiled.captures) and all(
                    _same_hidden(capture) for capture in known.compiled.hidden
                ):
                    self.last = known
                    return known
            try:
                found = self.compile(types, values, wrt, bare)
            except NeedStatic as needed:
                self.without_tangent(needed.symbol.value.name, values, guessed)
                self.make_static(needed, values)
                wrt, bare = self.chosen(values)
                continue
            except NeedInteger as needed:
                name = needed.symbol.value.name or ""
                if name in guessed:
                    values[name] = 2
                self.without_tangent(name, values, guessed)
                self.leave_integer(needed, values)
                wrt, bare = self.chosen(values)
                continue
            self.specialisations.setdefault(key, []).insert(0, found)
            self.last = found
            return found
        raise error("internal", "compilation did not settle")

    def without_tangent(
        self, name: str | None, values: dict[str, Any], guessed: Collection[str]
    ) -> None:
        """Take the tangent of a parameter back if it was only guessed."""
        for dot, owner in self.tangents().items():
            if owner == name and dot in guessed:
                values[dot] = None

    def types_of(self, values: dict[str, Any]) -> dict[str, Type | Static]:
        """The types of the arguments; tangents, which have those of their values, come last."""
        tangents, stacks = self.tangents(), self.stacks()
        differentiated = self.differentiated(values)
        types: dict[str, Type | Static] = {
            name: type_of(
                name, value, wants_gradient=name in differentiated,
                static=name in self.static_params,
            )
            for name, value in values.items()
            if name not in tangents
        }  # fmt: skip
        for name, owner in tangents.items():
            if values[name] is None:
                types[name] = Static(None)
                continue
            kind = types[owner]
            assert not isinstance(kind, Static)
            if name in stacks:
                types[name] = stack_type(name, values[name], owner, np.shape(values[owner]), kind)
                continue
            check_fit(name, values[name], f"`{owner}`", np.shape(values[owner]), kind)
            types[name] = kind
        check_rows({name: values[name] for name in stacks if values[name] is not None})
        return types

    def stacks(self) -> set[str]:
        """Those of the tangents that come several at once."""
        found = self.inner.stacks() if self.inner is not None else set()
        return found | set(self.seeds.values()) if self.stacked else found

    def rows(self, values: dict[str, Any]) -> int:
        """How many tangents come at once, see `Request`."""
        given = [values[dot] for dot in self.seeds.values() if values[dot] is not None]
        return min(2, len(given[0])) if self.stacked else 0

    def tangents(self) -> dict[str, str]:
        """The parameters that are tangents, in the order in which they were added."""
        found = self.inner.tangents() if self.inner is not None else {}
        return found | {tangent: owner for owner, tangent in self.seeds.items()}

    def differentiated(self, values: dict[str, Any]) -> set[str]:
        """The parameters by which this or what it differentiates again is differentiated."""
        found = self.inner.differentiated(values) if self.inner is not None else set()
        return found | set(self.chosen(values)[0])

    def asked_for(self, values: dict[str, Any]) -> set[str]:
        """Those of these that were asked for by name or by a tangent."""
        found = self.inner.asked_for(values) if self.inner is not None else set()
        if self.argnums is None and not self.seeds:
            return found
        return found | set(self.chosen(values)[0])

    def request(self, values: dict[str, Any], *, inside: bool = True) -> Request:
        """What is to be compiled for these arguments; `inside` of another derivative or function.

        Then one gradient comes in a tuple if `argnums` is one; else the caller puts it there.
        """
        wrt, bare = self.chosen(values)
        named = self.argnums is None and not bare
        return Request(
            self.kind, wrt, self.has_aux, self.backend,
            inner=self.inner.request(values) if self.inner is not None else None,
            gradients=_named_tuple(wrt) if named else None,
            seeds=tuple(self.seeds[name] for name in wrt) if self.seeds else (),
            bare=bare or not (inside or self.kind in columns.KINDS),
            rows=self.rows(values),
            directions=columns.directions(self.kind, values, wrt),
        )  # fmt: skip

    def make_static(self, needed: NeedStatic, values: dict[str, Any]) -> None:
        """The compiler needs the value of an int parameter: from now on it is static.

        Raises
        ------
        UnsupportedError
            If it is no int, or its gradient was asked for by name.
        """
        name = needed.symbol.value.name
        assert name is not None
        if name in self.asked_for(values) or not isinstance(values.get(name), int | np.integer):
            raise needed.refusal or error(
                "internal", f"a rule needs the value of `{name}`: {needed.reason}"
            )
        self.static_params.add(name)
        self.by_class.clear()

    def leave_integer(self, needed: NeedInteger, values: dict[str, Any]) -> None:
        """An int argument is needed as an int: from now on ints for it are not differentiated.

        Raises
        ------
        UnsupportedError
            If it is no int, or its gradient was asked for by name.
        """
        name = needed.symbol.value.name
        assert name is not None
        is_int = isinstance(values.get(name), int | np.integer)
        if name in self.asked_for(values) or name in self.integer_params or not is_int:
            raise needed.refusal
        self.integer_params.add(name)
        self.by_class.clear()

    def stays_integer(self, name: str, value: Any) -> bool:
        """Whether an argument is an int that cannot be a float."""
        return name in self.integer_params and isinstance(value, int | np.integer)

    def compile(
        self,
        types: dict[str, Type | Static],
        values: dict[str, Any],
        wrt: tuple[str, ...],
        bare: bool,
    ) -> Specialisation:
        """Run the pipeline."""
        request = self.request(values, inside=False)
        tangents = self.tangents()
        given = {name: kind for name, kind in types.items() if name not in tangents}
        with exclusive():
            compiled = compile_derivative(self.source, given, request, hidden_type)
        finish = None if self.kind in ("grad", "value_and_grad") else linear_maps.finisher
        return Specialisation(compiled, types, wrt, bare, request.gradients, finish)

    def chosen(self, values: dict[str, Any]) -> tuple[tuple[str, ...], bool]:
        """The parameters to differentiate by, and whether the gradient comes bare.

        Raises
        ------
        ArgumentError
            If one that was asked for cannot have a gradient, or none can.
        """
        if self.seeds:
            return self.chosen_by_tangents(values), False
        names = list(self.signature.parameters)
        if self.argnums is None:
            wrt = tuple(
                name
                for name in names[: self.limit]
                if can_have_gradient(values[name])
                and name not in self.static_params
                and not self.stays_integer(name, values[name])
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
            check_differentiable(name, values[name], "leave it out of argnums")
        if self.kind in (*SPLIT, *columns.KINDS) and len(set(wrt)) < len(wrt):
            raise error("bad-argnums", f"argnums {self.argnums} has a parameter twice")
        return wrt, not isinstance(self.argnums, tuple | list)

    def chosen_by_tangents(self, values: dict[str, Any]) -> tuple[str, ...]:
        """The parameters for which a tangent is given."""
        wrt = tuple(name for name, dot in self.seeds.items() if values[dot] is not None)
        for name in wrt:
            check_differentiable(name, values[name], f"leave `{self.seeds[name]}` out")
            if name in self.static_params:
                raise error(
                    "not-differentiable",
                    f"the value of `{name}` is needed while compiling: it cannot have a tangent",
                    help=f"leave `{self.seeds[name]}` out",
                )
        if not wrt:
            raise error(
                "nothing-to-differentiate",
                f"no tangent of an argument of `{self.primal.__name__}` is given",
                help=f"pass {', '.join(self.seeds.values())}",
            )
        return wrt

    def shown(self) -> Specialisation:
        """The specialisation that `.source()` shows: the last used, else one for floats."""
        if self.last is not None:
            return self.last
        return self.specialise(self.examples(), guessed=list(self.signature.parameters))

    def examples(self, values: dict[str, Any] | None = None, by: Any = None) -> dict[str, Any]:
        """An argument for each parameter, and for each that can have one (of `by`) a tangent."""
        values = values or {}
        tangents = self.tangents()
        found = {
            name: values[name] if name in values else example_argument(param)
            for name, param in self.signature.parameters.items()
        }
        if by is not None:
            names = list(self.signature.parameters)
            asked = by if isinstance(by, tuple | list) else (by,)
            by = [parameter_name(one, names, self.primal) for one in asked]
        for name, owner in tangents.items():
            if name not in values and can_have_gradient(found[owner]) and owner in (by or found):
                found[name] = example_tangent(found[owner], 2 if name in self.stacks() else 0)
        return found


def check_differentiable(name: str, value: Any, instead: str) -> None:
    """Refuse a parameter that cannot have a gradient.

    Raises
    ------
    ArgumentError
        If it is no float and no float array.
    """
    if can_have_gradient(value):
        return
    what = f"an array of {value.dtype}" if isinstance(value, np.ndarray) else repr(value)
    raise error(
        "not-differentiable",
        f"`{name}` is {what} and cannot have a gradient",
        help=f"pass a float or a float array, or {instead}",
    )


@cache
def _named_tuple(names: tuple[str, ...]) -> Any:
    return namedtuple("Gradients", names, rename=True)


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
    backend: str,
    limit: int | None = None,
    stacked: bool = False,
) -> Callable[..., Any]:
    """The public function for a derivative of `function`, which may be a derivative itself.

    Raises
    ------
    ArgumentError
        If the backend is unknown or argnums names no parameter.
    """
    if backend not in BACKENDS:
        raise error(
            "bad-option", f"unknown backend {backend!r}", help=f"one of {', '.join(BACKENDS)}"
        )
    inner = derived_of(function)
    static_params: set[str] = set()
    integer_params: set[str] = set()
    if inner is not None:
        inner = _sharing(inner, static_params, integer_params)
        plain, signature = inner.primal, inner.signature
    else:
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
    seeds: dict[str, str] = {}
    if kind in TAKE_TANGENTS:
        level = _levels(inner) + 1
        signature, seeds = with_tangents(signature, "dot" if level == 1 else f"dot{level}")
    derived = Derived(
        plain, kind, argnums, has_aux, backend, signature, inner, seeds, limit,
        stacked=stacked, static_params=static_params, integer_params=integer_params,
    )  # fmt: skip
    public = callers.public_function(derived, function)
    if backend == "numba" and not derived.tangents() and kind not in columns.KINDS:
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
        specialisations={},
    )  # fmt: skip


def _levels(derived: Derived | None) -> int:
    """How many derivatives on the way take tangents."""
    return 0 if derived is None else bool(derived.seeds) + _levels(derived.inner)
