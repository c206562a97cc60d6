"""Sparse Jacobians of many residuals, each of which sees a few rows of large arrays.

    J = sparse_jacobian(residual, {"camera": camera_of, "point": point_of})
    J(cameras, points, features)        # a scipy.sparse.csr_array

`residual(camera, point, feature)` is one observation: number `i` sees `cameras[camera_of[i]]`,
`points[point_of[i]]` and `features[i]`. Its derivatives are compiled once; a compiled loop runs
over the observations and writes them into the values of the matrix. Where they stand (`Structure`)
is found once for arguments of the same shapes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flatgrad import pipeline
from flatgrad.derived import parameter_name
from flatgrad.errors import error
from flatgrad.exclusive import exclusive
from flatgrad.frontend.lower import Static
from flatgrad.frontend.source import named_signature, read_source, unwrap
from flatgrad.ir.types import Array, Scalar, Type
from flatgrad.observations import Observation, compile_observation
from flatgrad.options import BACKENDS
from flatgrad.signature import array_type, can_have_gradient, hidden_type, type_of
from flatgrad.sparse_loop import loop_text
from flatgrad.sparse_structure import GATHERED, OWN, SHARED, Structure, rows_of, structure_of
from flatgrad.specialisation import check_requirements, same_hidden
from flatgrad.transform.elements import MOST, is_small

Function = Callable[..., Any]
Rows = Mapping[str, Any]
Argnums = int | str | Sequence[int | str] | None


def sparse_jacobian(
    function: Function,
    rows: Rows,
    argnums: Argnums = None,
    *,
    same: Sequence[Sequence[str]] = (),
    backend: str = "numpy",
) -> Function:
    """The Jacobian of the residuals of many observations, as a sparse matrix.

    Parameters
    ----------
    function
        The residuals of one observation: a function of numbers and small arrays that returns
        numbers or small arrays, one or a tuple of them.
    rows
        For each parameter that is a row of an array, the row that each observation sees: an
        integer array, as long as there are observations. None: every observation sees the whole
        argument, as it does of a number. For a parameter that is not named, observation `i` sees
        row `i`.
    argnums
        The parameters to differentiate by, as for `grad`. Their elements are the columns of the
        Jacobian: the first argument's row by row, then the next one's.
    same
        Groups of parameters that are rows of one array, as the two ends of a spring are. They share
        their columns, and the calls give the same array for each.
    backend
        "numpy" (a Python loop over the observations) or "numba" (a compiled one).

    Returns
    -------
    A function of the arguments, whole arrays in the order of the parameters. It returns a
    `scipy.sparse.csr_array`, whose rows are the residuals: for each result of `function`, those of
    all observations, an array's elements next to each other. Its `indices` and `indptr` are shared
    by the matrices of all calls and cannot be written to.

    Raises
    ------
    FlatgradError
        When called, if rows and arguments do not fit, or the function is outside the supported
        subset.
    """
    return _public(function, rows, argnums, same, backend, with_value=False)


def value_and_sparse_jacobian(
    function: Function,
    rows: Rows,
    argnums: Argnums = None,
    *,
    same: Sequence[Sequence[str]] = (),
    backend: str = "numpy",
) -> Function:
    """The residuals of all observations, in one array, and their Jacobian: `(errors, J)`.

    The rest is as for `sparse_jacobian`; the residuals stand in the order of its rows.
    """
    return _public(function, rows, argnums, same, backend, with_value=True)


def _public(
    function: Function,
    rows: Rows,
    argnums: Argnums,
    same: Sequence[Sequence[str]],
    backend: str,
    *,
    with_value: bool,
) -> Function:
    """The function that users call, with the name and the signature of theirs."""
    made = SparseJacobian.of(function, rows, argnums, same, backend, with_value)

    def jacobian(*args: Any, **kwargs: Any) -> Any:
        return made(*args, **kwargs)

    plain = made.primal
    jacobian.__name__ = jacobian.__qualname__ = plain.__name__
    jacobian.__doc__, jacobian.__module__ = plain.__doc__, plain.__module__
    jacobian.__signature__ = made.signature  # type: ignore[attr-defined]
    jacobian.primal = function  # type: ignore[attr-defined]
    jacobian.source = made.source  # type: ignore[attr-defined]
    jacobian.lower = made.lower  # type: ignore[attr-defined]
    return jacobian


@dataclass(slots=True)
class Compiled:
    """The loop for arguments of some types, and the structures of Jacobians by their shapes."""

    compiled: Observation
    types: dict[str, Type | Static]
    run: Callable[..., Any]
    ways: dict[str, str]
    wrt: tuple[str, ...]
    text: str
    structures: dict[Any, Structure] = field(default_factory=dict)

    def is_current(self) -> bool:
        """Whether what was read from outside the function is as it was, or of the same type."""
        return all(capture.unchanged() for capture in self.compiled.captures) and all(
            same_hidden(capture) and np.shape(capture.read()) == np.shape(capture.value)
            for capture in self.compiled.hidden
        )


@dataclass(slots=True, eq=False)
class SparseJacobian:
    """One mapped Jacobian with all that was compiled for it."""

    primal: Function
    signature: inspect.Signature
    rows: dict[str, np.ndarray | None]
    argnums: Any
    same: tuple[tuple[str, ...], ...]
    backend: str
    with_value: bool
    known: dict[Any, list[Compiled]] = field(default_factory=dict)
    last: Compiled | None = None

    @classmethod
    def of(
        cls, function: Function, rows: Rows, argnums: Argnums, same: Sequence[Sequence[str]],
        backend: str, with_value: bool,
    ) -> SparseJacobian:  # fmt: skip
        """From what users give.

        Raises
        ------
        ArgumentError
            If the options do not fit the function.
        """
        if backend not in BACKENDS:
            raise error(
                "bad-option", f"unknown backend {backend!r}", help=f"one of {', '.join(BACKENDS)}"
            )
        plain = unwrap(function)
        signature = named_signature(plain)
        names = list(signature.parameters)
        if argnums is not None:
            asked = argnums if isinstance(argnums, tuple | list) else (argnums,)
            argnums = tuple([parameter_name(one, names, plain) for one in asked])
            if len(set(argnums)) < len(argnums):
                raise error("bad-argnums", f"argnums {argnums} has a parameter twice")
        groups = tuple([tuple([parameter_name(k, names, plain) for k in g]) for g in same])
        _check_groups(groups)
        return cls(
            plain, signature, rows_of(rows, names, plain), argnums, groups, backend, with_value
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        values = self.bound(args, kwargs)
        found = self.compiled(values)
        key = tuple([np.shape(value) for value in values.values()])
        structure = found.structures.get(key)
        if structure is None:
            structure = structure_of(
                found.compiled, found.ways, values, self.rows, self.same, found.wrt
            )
            found.structures[key] = structure
        check_requirements(found, values)
        self.check_same(values)
        return self.filled(found, structure, values)

    def bound(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The arguments by parameter."""
        bound = self.signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    def check_same(self, values: dict[str, Any]) -> None:
        """Parameters with the same columns have the same array.

        Raises
        ------
        ArgumentError
            If they have not.
        """
        for group in self.same:
            for name in group[1:]:
                if values[name] is not values[group[0]]:
                    raise error(
                        "bad-rows",
                        f"`{group[0]}` and `{name}` share their columns, but are different arrays",
                        help="pass the same array for both",
                    )

    def filled(self, found: Compiled, structure: Structure, values: dict[str, Any]) -> Any:
        """The matrix for some arguments."""
        from scipy.sparse import csr_array

        observation = found.compiled
        data = np.empty(structure.size, observation.dtype)
        errors = np.empty(structure.shape[0] if self.with_value else 0, observation.dtype)
        given = [_unboxed(values[name]) for name in observation.passed]
        rows = [self.rows[n] for n in observation.passed if found.ways[n] == GATHERED]
        hidden = [capture.read() for capture in observation.hidden]
        parts = structure.parts(errors, data) if self.with_value else structure.parts(None, data)
        found.run(*given, *rows, *hidden, structure.count, *parts)
        data = structure.sorted(data)
        matrix = csr_array((data, structure.indices, structure.indptr), shape=structure.shape)
        matrix.has_sorted_indices = matrix.has_canonical_format = True
        return (errors, matrix) if self.with_value else matrix

    def compiled(self, values: dict[str, Any]) -> Compiled:
        """What was compiled for arguments of these types, or is now."""
        types = {name: self.type_of(name, value) for name, value in values.items()}
        key = tuple([(_key(kind), self.way(n, values[n])) for n, kind in types.items()])
        for known in self.known.get(key, ()):
            if known.is_current():
                self.last = known
                return known
        made = self.compile(types, values)
        self.known.setdefault(key, []).insert(0, made)
        self.last = made
        return made

    def way(self, name: str, value: Any) -> str:
        """How an observation sees an argument."""
        if name in self.rows:
            return SHARED if self.rows[name] is None else GATHERED
        return OWN if isinstance(value, np.ndarray) and value.ndim else SHARED

    def type_of(self, name: str, value: Any) -> Type | Static:
        """The type of a parameter in the function of one observation.

        Raises
        ------
        FlatgradError
            If it cannot be handled, or is no array where it must be one.
        """
        way = self.way(name, value)
        if way == SHARED:
            if isinstance(value, int) and not isinstance(value, bool):
                return Static(value)
            return _exact(type_of(name, value, wants_gradient=False), value)
        if not isinstance(value, np.ndarray) or not value.ndim:
            raise error(
                "bad-rows", f"`{name}` is no array, and has no rows", help=f"leave {name!r} out"
            )
        dtype = array_type(name, value, name).dtype
        return Array(dtype, value.shape[1:]) if value.ndim > 1 else Scalar(dtype)

    def compile(self, types: dict[str, Type | Static], values: dict[str, Any]) -> Compiled:
        """Run the passes and put the loop below."""
        wrt = self.chosen(types, values)
        small = [
            name for name, kind in types.items()
            if not isinstance(kind, Static) and is_small(kind)
        ]  # fmt: skip
        ways = {name: self.way(name, value) for name, value in values.items()}
        source = read_source(self.primal)
        with exclusive():
            found = compile_observation(
                source, types, wrt, small, _hidden_type, self.backend, self.with_value
            )
            name = f"{found.graph.name}_sparse_jacobian"
            ranks = {one: np.ndim(value) for one, value in values.items()}
            loop = loop_text(found, name, ways, ranks, self.backend)
            module = replace(found.module, name=name, text=f"{found.module.text}\n\n{loop}")
            loaded = pipeline.load(module, self.backend)
        text = f"{found.module.function_text.rstrip()}\n\n\n{loop}"
        return Compiled(found, types, getattr(loaded, name), ways, wrt, text)

    def chosen(
        self, types: dict[str, Type | Static], values: dict[str, Any]
    ) -> tuple[str, ...]:
        """The parameters to differentiate by.

        Raises
        ------
        ArgumentError
            If one that was asked for cannot have a derivative, or none can.
        """
        able = [
            name for name, kind in types.items()
            if not isinstance(kind, Static) and can_have_gradient(values[name])
        ]  # fmt: skip
        asked = able if self.argnums is None else list(self.argnums)
        for name in asked:
            if name not in able:
                raise error(
                    "not-differentiable", f"`{name}` cannot have a derivative",
                    help="pass floats or a float array, or leave it out of argnums",
                )  # fmt: skip
        for group in self.same:
            if 0 < len(set(group) & set(asked)) < len(group):
                raise error(
                    "bad-rows", f"{_listed(group)} are rows of one array: its derivatives need all",
                    help="name all of them in argnums, or none",
                )  # fmt: skip
        if not asked:
            raise error(
                "nothing-to-differentiate",
                f"no argument of `{self.primal.__name__}` is a float or a float array",
            )
        return tuple(asked)

    def shown(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Compiled:
        """What was compiled for these arguments, or used last.

        Raises
        ------
        ArgumentError
            If nothing was.
        """
        if args or kwargs:
            return self.compiled(self.bound(args, kwargs))
        if self.last is None:
            raise error(
                "bad-option", "there is no source before the first call", help="pass arguments"
            )
        return self.last

    def source(self, *args: Any, **kwargs: Any) -> str:
        """The emitted functions: of one observation, and the loop."""
        return self.shown(args, kwargs).text

    def lower(self, *args: Any, **kwargs: Any) -> dict[str, str]:
        """The function of one observation after every pass."""
        stages = self.shown(args, kwargs).compiled.stages
        return {name: text() for name, text in stages.items()}


def _check_groups(groups: tuple[tuple[str, ...], ...]) -> None:
    """No parameter is in two groups.

    Raises
    ------
    ArgumentError
        If one is.
    """
    names = [name for group in groups for name in group]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise error("bad-rows", f"`{twice[0]}` stands in `same` twice")


def _listed(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _hidden_type(name: str, value: Any) -> Type:
    kind = _exact(hidden_type(name, value), value)
    assert not isinstance(kind, Static)
    return kind


def _exact(kind: Type | Static, value: Any) -> Type | Static:
    """The type of an argument that all observations see: of a small array, with its lengths."""
    small = isinstance(kind, Array) and 0 < value.size <= MOST and value.dtype.kind == "f"
    return replace(kind, shape=value.shape) if small else kind


def _unboxed(value: Any) -> Any:
    """An array of rank 0 as the number that it holds."""
    return value[()] if isinstance(value, np.ndarray) and not value.ndim else value


def _key(kind: Type | Static) -> Any:
    return ("static", type(kind.value), kind.value) if isinstance(kind, Static) else kind


__all__ = ["sparse_jacobian", "value_and_sparse_jacobian"]
