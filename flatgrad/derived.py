"""A derived function: specialisations per signature behind one ordinary Python function.

    f(2.0, x)      types of the arguments -> specialisation -> emitted code -> gradients

`deriving.py` makes the function that users call, with a `Derived` behind it.
"""

from __future__ import annotations

import inspect
import itertools
from collections import namedtuple
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np

from flatgrad import callers, columns, fast_path, linear_maps
from flatgrad.derivatives import SPLIT, Request
from flatgrad.errors import FlatgradError, SourceError, error
from flatgrad.examples import example_argument, example_tangent
from flatgrad.exclusive import exclusive
from flatgrad.frontend.lower import Static
from flatgrad.frontend.source import Source, read_source
from flatgrad.ir.ops import Slot
from flatgrad.ir.types import Type
from flatgrad.options import Options
from flatgrad.pipeline import compile_derivative
from flatgrad.primitives.symbolic import NeedInteger, NeedStatic
from flatgrad.shortcut import Shortcut
from flatgrad.signature import (
    can_have_gradient,
    check_able,
    check_differentiable,
    hidden_type,
    type_of,
)
from flatgrad.specialisation import Specialisation, check_requirements, key_of, same_hidden
from flatgrad.structures import Spread, spread
from flatgrad.tangents import check_fit, check_rows, stack_type


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
    options: Options
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
    shortcut: Shortcut | None = None

    @property
    def source(self) -> Source:
        """The user's source."""
        return read_source(self.primal)

    def call_slowly(self, *args: Any) -> Any:
        """A call with arguments not seen before, one for each parameter."""
        given = self.spread(dict(zip(self.signature.parameters, args, strict=True)))
        found = self.specialised(given)
        check_requirements(found, given.values)
        run = callers.runner(self, found, given)
        fast_path.remember(self, given, args, found.types, run)
        classes = tuple(map(type, args))
        if self.shortcut is not None and self.by_class.get(classes) is run:
            self.shortcut.open(classes, run)
        return run(*args, *fast_path.leaf_values(given))

    def forget(self) -> None:
        """What calls with arguments like those seen before run: it has to be found anew."""
        self.by_class.clear()
        if self.shortcut is not None:
            self.shortcut.close()

    def spread(self, values: dict[str, Any]) -> Spread:
        """Argument values taken apart."""
        return spread(values, self.tangents())

    def specialise(self, values: dict[str, Any]) -> Specialisation:
        """The specialisation for these argument values, compiled if it is new."""
        return self.specialised(self.spread(values))

    def specialised(self, given: Spread, *, guessed: Collection[str] = ()) -> Specialisation:
        """The specialisation for arguments that are taken apart.

        Of those that are only guessed, an int takes the place of a float that is needed as an int,
        and the tangent of such a parameter is left out.
        """
        wrt = self.chosen(given)
        for _ in range(2 * len(given.values) + 1):
            types = self.types_of(given)
            key: Any = (*given.trees.values(), *[key_of(kind) for kind in types.values()])
            key = (key, columns.directions(self.kind, given.values, wrt))
            for known in self.specialisations.get(key, []):
                if all(capture.unchanged() for capture in known.compiled.captures) and all(
                    same_hidden(capture) for capture in known.compiled.hidden
                ):
                    self.last = known
                    return known
            try:
                found = self.compile(types, given, wrt)
            except NeedStatic as needed:
                self.without_tangent(needed.symbol.value.name, given, guessed)
                self.make_static(needed, given)
                wrt = self.chosen(given)
                continue
            except NeedInteger as needed:
                name = needed.symbol.value.name or ""
                if name in guessed:
                    given.values[name] = 2
                self.without_tangent(name, given, guessed)
                self.leave_integer(needed, given)
                wrt = self.chosen(given)
                continue
            self.specialisations.setdefault(key, []).insert(0, found)
            self.last = found
            return found
        raise error("internal", "compilation did not settle")

    def without_tangent(
        self, name: str | None, given: Spread, guessed: Collection[str]
    ) -> None:
        """Take the tangent of a leaf back if it was only guessed."""
        for parameter in self.tangents():
            for dot in given.leaves(parameter) if parameter in guessed else ():
                if given.owners.get(dot) == name:
                    given.values[dot] = None

    def types_of(self, given: Spread) -> dict[str, Type | Static]:
        """The types of the leaves; tangents, which have those of their values, come last."""
        values, differentiated = given.values, self.differentiated(given)
        tangents = {leaf for name in self.tangents() for leaf in given.leaves(name)}
        stacks = {leaf for name in self.stacks() for leaf in given.leaves(name)}
        types: dict[str, Type | Static] = {
            name: type_of(
                name, value, wants_gradient=name in differentiated,
                static=name in self.static_params, shown=given.shown[name],
            )
            for name, value in values.items()
            if name not in tangents
        }  # fmt: skip
        for name in (leaf for leaf in values if leaf in tangents):
            if values[name] is None:
                types[name] = Static(None)
                continue
            owner = given.owners[name]
            kind = types[owner]
            assert not isinstance(kind, Static)
            shape, words = np.shape(values[owner]), (given.shown[name], f"`{given.shown[owner]}`")
            if name in stacks:
                types[name] = stack_type(name, values[name], words, shape, kind)
                continue
            check_fit(words[0], values[name], words[1], shape, kind)
            types[name] = kind
        check_rows({given.shown[k]: values[k] for k in stacks if values[k] is not None})
        return types

    def stacks(self) -> set[str]:
        """Those of the tangents that come several at once."""
        found = self.inner.stacks() if self.inner is not None else set()
        return found | set(self.seeds.values()) if self.stacked else found

    def rows(self, given: Spread) -> int:
        """How many tangents come at once, see `Request`."""
        if not self.stacked:
            return 0
        tangents = [given.values[dot] for dot in given.tangents_of(self.seeds).values()]
        return min(2, *[len(tangent) for tangent in tangents if tangent is not None])

    def tangents(self) -> dict[str, str]:
        """The parameters that are tangents, in the order in which they were added."""
        found = self.inner.tangents() if self.inner is not None else {}
        return found | {tangent: owner for owner, tangent in self.seeds.items()}

    def differentiated(self, given: Spread) -> set[str]:
        """The leaves by which this or what it differentiates again is differentiated."""
        found = self.inner.differentiated(given) if self.inner is not None else set()
        return found | set(self.chosen(given))

    def asked_for(self, given: Spread) -> set[str]:
        """Those of these that were asked for by name or by a tangent."""
        found = self.inner.asked_for(given) if self.inner is not None else set()
        if self.argnums is None and not self.seeds:
            return found
        return found | set(self.chosen(given))

    def request(self, given: Spread, *, inside: bool = True) -> Request:
        """What is to be compiled for these arguments; `inside` of another derivative or function.

        Then gradients come in the form that `argnums` and the arguments have; else the leaves
        alone, and the caller gives them their form.
        """
        wrt = self.chosen(given)
        seeds = given.tangents_of(self.seeds)
        with_form = inside or self.kind in columns.KINDS
        return Request(
            self.kind, wrt, self.has_aux, self.options,
            inner=self.inner.request(given) if self.inner is not None else None,
            form=self.form(given) if with_form and not self.seeds else None,
            seeds=tuple(seeds[name] for name in wrt) if self.seeds else (),
            rows=self.rows(given),
            directions=columns.directions(self.kind, given.values, wrt),
        )  # fmt: skip

    def make_static(self, needed: NeedStatic, given: Spread) -> None:
        """The compiler needs the value of an int parameter: from now on it is static.

        Raises
        ------
        UnsupportedError
            If it is no int, or its gradient was asked for by name.
        """
        name = needed.symbol.value.name
        assert name is not None
        value = given.values.get(name)
        if name in self.asked_for(given) or not isinstance(value, int | np.integer):
            raise needed.refusal or error(
                "internal", f"a rule needs the value of `{name}`: {needed.reason}"
            )
        self.static_params.add(name)
        self.forget()

    def leave_integer(self, needed: NeedInteger, given: Spread) -> None:
        """An int argument is needed as an int: from now on ints for it are not differentiated.

        Raises
        ------
        UnsupportedError
            If it is no int, or its gradient was asked for by name.
        """
        name = needed.symbol.value.name
        assert name is not None
        is_int = isinstance(given.values.get(name), int | np.integer)
        if name in self.asked_for(given) or name in self.integer_params or not is_int:
            raise needed.refusal
        self.integer_params.add(name)
        self.forget()

    def stays_integer(self, name: str, value: Any) -> bool:
        """Whether an argument is an int that cannot be a float."""
        return name in self.integer_params and isinstance(value, int | np.integer)

    def compile(
        self,
        types: dict[str, Type | Static],
        given: Spread,
        wrt: tuple[str, ...],
    ) -> Specialisation:
        """Run the pipeline."""
        request = self.request(given, inside=False)
        tangents = self.tangents()
        trees = {name: tree for name, tree in given.trees.items() if name not in tangents}
        leaves = [leaf.name for tree in trees.values() for leaf in tree.leaves()]
        signature = {name: types[name] for name in leaves}
        with exclusive():
            compiled = compile_derivative(self.source, signature, request, hidden_type, trees)
        finish = None if self.kind in ("grad", "value_and_grad") else linear_maps.finisher
        form = None if self.seeds else self.form(given)
        return Specialisation(compiled, types, wrt, form, finish)

    def chosen(self, given: Spread) -> tuple[str, ...]:
        """The leaves to differentiate by.

        Raises
        ------
        ArgumentError
            If a parameter that was asked for cannot have a gradient, or none can.
        """
        if self.seeds:
            return self.chosen_by_tangents(given)
        names = self.chosen_parameters(given)
        return tuple(leaf for name in names for leaf in self.able(given, name))

    def able(self, given: Spread, parameter: str) -> list[str]:
        """The leaves of a parameter that can have a gradient."""
        return [
            name
            for name in given.leaves(parameter)
            if can_have_gradient(given.values[name], inside=name in given.inside)
            and name not in self.static_params
            and not self.stays_integer(name, given.values[name])
        ]

    def chosen_parameters(self, given: Spread) -> tuple[str, ...]:
        """The parameters to differentiate by; the errors of `chosen`."""
        names = list(self.signature.parameters)
        if self.argnums is None:
            found = tuple(name for name in names[: self.limit] if self.able(given, name))
            if not found:
                for name, value in given.values.items():
                    type_of(name, value, wants_gradient=False, shown=given.shown[name])
                raise error(
                    "nothing-to-differentiate",
                    f"no argument of `{self.primal.__name__}` is a float or a float array",
                    help="pass a float or a float array",
                )
            return found
        asked = self.argnums if isinstance(self.argnums, tuple | list) else (self.argnums,)
        found = tuple(parameter_name(one, names, self.primal) for one in asked)
        if not found:
            raise error("bad-argnums", "argnums is empty", help="name a parameter, or leave it out")
        for name in found:
            check_differentiable(given, name, "leave it out of argnums")
        if self.kind in (*SPLIT, *columns.KINDS) and len(set(found)) < len(found):
            raise error("bad-argnums", f"argnums {self.argnums} has a parameter twice")
        return found

    def form(self, given: Spread) -> Any:
        """The tree in which gradients come, with a Slot for each chosen leaf, None for others."""
        names = self.chosen_parameters(given)
        count = itertools.count()
        able = set(self.chosen(given))
        parts = [
            given.trees[name].built(lambda leaf: Slot(next(count)) if leaf.name in able else None)
            for name in names
        ]
        if self.argnums is None and len(parts) > 1:
            return _named_tuple(names)(*parts)
        return tuple(parts) if isinstance(self.argnums, tuple | list) else parts[0]

    def chosen_by_tangents(self, given: Spread) -> tuple[str, ...]:
        """The leaves for which a tangent is given."""
        seeds = given.tangents_of(self.seeds)
        wrt = tuple(name for name, dot in seeds.items() if given.values[dot] is not None)
        for name in wrt:
            check_able(given, name, f"leave `{given.shown[seeds[name]]}` out")
            if name in self.static_params:
                raise error(
                    "not-differentiable",
                    f"the value of `{given.shown[name]}` is needed while compiling: "
                    "it cannot have a tangent",
                    help=f"leave `{given.shown[seeds[name]]}` out",
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
        given = self.spread(self.examples())
        try:
            return self.specialised(given, guessed=list(self.signature.parameters))
        except FlatgradError as caught:
            if not isinstance(caught, SourceError):
                caught.add_note("(no arguments were given: they are taken to be floats)")
            raise

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
            if name not in values and owner in (by or found):
                found[name] = example_tangent(found[owner], 2 if name in self.stacks() else 0)
        return found


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
