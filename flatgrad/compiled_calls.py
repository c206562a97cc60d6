"""Derived functions inside `@njit` code: the specialisation for Numba's types, with its guards.

    def guarded(params, x):
        params_W = params[0]
        params_b = params[1]
        if params_W.shape[0] == 1 or x.shape[0] == 1: raise ValueError("...")
        if params_W.shape[1] != x.shape[0]: raise ValueError("`params[0]` has ...")
        g0, g1 = loss_grad(params_W, float(params_b), x)
        return Layer(g0, g1)

Tuples and named tuples are taken apart and put together in the text. Numba's array types do not
tell which axes have length 1, so the code is that for longer axes, and arrays with such axes are
refused when they come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from flatgrad.collector import paused
from flatgrad.errors import FlatgradError, error
from flatgrad.frontend.lower import Static
from flatgrad.ir.dims import Dim, SliceLength
from flatgrad.ir.ops import Slot
from flatgrad.ir.types import Array, Scalar
from flatgrad.structures import Leaf, Spread, Tree, is_structure


def make_compiled_callable(derived: Any, public: Callable[..., Any]) -> None:
    """Register `public` with Numba, which is imported here."""
    # The extensions come along for where flatgrad is not installed and Numba does not find them.
    with paused():
        from flatgrad.backends import numba_callable, numba_extensions  # noqa: F401

    numba_callable.register(public, CompiledCalls(derived, numba_callable))


@dataclass(slots=True, eq=False)
class CompiledCalls:
    """The dispatchers of one derived function; `numba` is the backend, imported late.

    `known` holds for each set of types the specialisation and its dispatcher.
    """

    derived: Any
    numba: Any
    known: dict[Any, tuple[Any, Any]] = field(default_factory=dict)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The Numba types that a call gives, by parameter, in the order of the signature."""
        return dict(self.derived.signature.bind(*args, **kwargs).arguments)

    def choose(self, given: dict[str, Any]) -> tuple[Any, tuple[Any, ...]]:
        """A dispatcher whose parameters are the given ones, and the types under which to call it.

        Literal ints are numbers like any other unless the compiler needs their values.

        Raises
        ------
        FlatgradError
            If there is no derivative, or no compiled one, for these types.
        """
        while True:
            static = set(self.derived.static_params)
            kinds = {
                name: kind if name in static else self.numba.plain(kind)
                for name, kind in given.items()
            }
            self.require_known(kinds)
            apart = self.derived.spread(self.values(kinds))
            try:
                found = self.derived.specialised(apart)
            except FlatgradError:
                if static == self.derived.static_params:
                    raise
                continue  # the made-up value of an int argument did not fit
            if static == self.derived.static_params:
                break
        key = tuple(kinds.items())
        if key not in self.known or self.known[key][0] is not found:
            self.known[key] = found, self.numba.jit(self.guarded(found, kinds, apart))
        return self.known[key][1], tuple(kinds.values())

    def require_known(self, kinds: dict[str, Any]) -> None:
        """Arguments whose values are needed while compiling are literals."""
        for name, kind in kinds.items():
            if name in self.derived.static_params and not self.numba.is_known(kind):
                raise _unknown(name)

    def values(self, kinds: dict[str, Any]) -> dict[str, Any]:
        """An argument of each type, and the defaults of the other parameters."""
        found = {}
        for name, param in self.derived.signature.parameters.items():
            if name not in kinds:
                found[name] = param.default
                if isinstance(param.default, np.ndarray):
                    raise _frozen(name, "is an array by default")
                if is_structure(param.default):
                    raise _frozen(name, "is a container by default")
                continue
            try:
                found[name] = self.numba.exemplar(kinds[name])
            except TypeError as caught:
                raise error(
                    "unsupported-argument",
                    f"`{name}` is of Numba type {caught} in compiled code",
                    help="pass numbers, arrays, and tuples and named tuples of them; strings, "
                    "bools and None as literals",
                ) from None
        return found

    def guarded(self, found: Any, kinds: dict[str, Any], given: Spread) -> Any:
        """The compiled specialisation behind its guards, to be jitted.

        Raises
        ------
        UnsupportedError
            If the function reads floats or arrays from outside: Numba would freeze their values;
            or if what is compiled in is no literal.
        """
        if found.compiled.hidden:
            raise _frozen(found.compiled.hidden[0].name, "is read from outside the function")
        leaves = {
            leaf.name: (kind, text)
            for name, whole in kinds.items()
            for leaf, kind, text in _leaves(given.trees[name], whole, name)
        }
        for name, (kind, _) in leaves.items():
            if isinstance(found.types[name], Static) and not self.numba.is_known(kind):
                raise _unknown(given.shown[name])
        numbers = {name for name, (kind, _) in leaves.items() if self.numba.is_scalar_array(kind)}
        parameters = self.derived.signature.parameters
        space = {n: p.default for n, p in parameters.items() if n not in kinds}
        space |= {
            "emitted": found.compiled.function, "np": np, "share_memory": self.numba.share_memory,
        }  # fmt: skip
        opened = [f"{name} = {text}" for name, (_, text) in leaves.items() if name != text]
        several = self.derived.argnums is None and len(self.derived.chosen_parameters(given)) > 1
        form = tuple(found.form) if several else found.form  # `Gradients` is for Python alone
        result = _built(form, space)
        text = guarded_text(found, list(kinds), opened, numbers, result)
        exec(compile(text, f"<flatgrad guard of {self.derived.primal.__name__}>", "exec"), space)
        return space["guarded"]


def _frozen(name: str, why: str) -> Exception:
    return error(
        "unsupported-backend",
        f"`{name}` {why}; compiled code would freeze its value",
        help=f"pass `{name}` as an argument",
    )


def _unknown(name: str) -> Exception:
    return error(
        "unsupported-backend",
        f"the value of `{name}` must be known while compiling",
        help="write it as a literal in the compiled code",
    )


def _leaves(tree: Tree, kind: Any, text: str) -> Iterator[tuple[Leaf, Any, str]]:
    """The leaves of an argument, each with its Numba type and how it is reached."""
    if isinstance(tree, Leaf):
        yield tree, kind, text
        return
    for k, part in enumerate(tree.parts):
        yield from _leaves(part, kind.types[k], f"{text}[{k}]")


def _built(form: Any, space: dict[str, Any]) -> str:
    """The text of gradients in their form, of `cast_0`, `cast_1`, ...; other parts are None."""
    if isinstance(form, Slot):
        return f"cast_{form.index}"
    if form is None:
        return "None"
    inside = "".join(f"{_built(part, space)}, " for part in form)
    if type(form) is tuple:
        return f"({inside})"
    name = f"kind_{len(space)}"
    space[name] = type(form)
    return f"{name}({inside})"


def guarded_text(
    found: Any, names: list[str], opened: list[str], numbers: set[str], gradients: str
) -> str:
    """The text of the guard, which begins with what is `opened`.

    `numbers` are the leaves that come as arrays of rank 0, `gradients` is what `_built` gives.
    """
    lines = [f"def guarded({', '.join(names)}):", *[f"    {line}" for line in opened]]
    passed = []
    for name, kind in found.types.items():
        if isinstance(kind, Static):
            continue
        if isinstance(kind, Array):
            tests = [f"{name}.shape[{axis}] == 1" for axis in range(kind.ndim)]
            lines += _refusal(" or ".join(tests), _ones(name))
        item = f"{name}[()]" if name in numbers else name
        passed.append(f"float({item})" if _as_float(kind) else item)
    lines += _length_tests(found) + _sharing_tests(found)
    target, casts, result = _results(found, gradients)
    lines.append(f"    {target} = emitted({', '.join(passed)})")
    lines += [f"    cast_{k} = {cast}" for k, cast in enumerate(casts)]
    lines.append(f"    return {result}")
    return "\n".join(lines) + "\n"


def _refusal(test: str, message: str) -> list[str]:
    return [f"    if {test}:", f"        raise ValueError({message!r})"]


def _ones(name: str) -> str:
    return (
        f"`{name}` has an axis of length 1: inside compiled code a derivative takes arrays whose "
        "axes are longer; call it from Python, or give the array fewer axes"
    )


def _length_tests(found: Any) -> list[str]:
    """Statements that refuse arrays whose lengths do not agree."""
    graph = found.compiled.graph
    where = {atom: f"{value.name}.shape[{axis}]" for atom, (value, axis) in graph.lengths.items()}
    for name, kind in found.types.items():
        if isinstance(kind, Scalar) and kind.dtype == "int64":
            where[f"?{name}"] = where[f"?{name}+"] = name
    lines = []
    for requirement in graph.requirements:
        left, right = _length(requirement.left, where), _length(requirement.right, where)
        if left is not None and right is not None:
            words = f"{requirement.message({})} ({requirement.span})"
            lines += _refusal(f"{left} != {right}", words)
    return lines


def _sharing_tests(found: Any) -> list[str]:
    """Statements that refuse an array that is written to and seen under another name too."""
    arrays = [name for name, kind in found.types.items() if isinstance(kind, Array)]
    written = [name for name in found.compiled.written if name in arrays]
    lines = []
    for name in written:
        for other in arrays:
            if other != name and not (other in written and other < name):
                words = f"`{name}` is written to by the function, and shares memory with `{other}`"
                lines += _refusal(f"share_memory({name}, {other})", words)
    return lines


def _results(found: Any, gradients: str) -> tuple[str, list[str], str]:
    """The target that takes the results apart, gradients as their arguments, what is returned.

    Numba computes `1.0 * x` of a float32 number in float64.
    """
    tree, kinds = found.compiled.graph.tree, found.compiled.output_types
    leaves = [f"g{k}" for k in range(len(found.wrt))]
    given = [found.types[name] for name in found.wrt]
    cast = [_cast(leaf, kind) for leaf, kind in zip(leaves, given, strict=True)]
    target = leaves[0] if len(leaves) == 1 else f"({', '.join(leaves)})"
    request = found.compiled.request
    if request.kind == "value_and_grad":
        value = _cast("value", kinds[tree[0].index]) if isinstance(tree[0], Slot) else "value"
        return f"value, {target}", cast, f"{value}, {gradients}"
    if request.has_aux:
        return f"{target}, aux", cast, f"{gradients}, aux"
    return target, cast, gradients


def _cast(text: str, kind: Any) -> str:
    single = isinstance(kind, Scalar) and kind.dtype == "float32"
    return f"np.float32({text})" if single else text


def _as_float(kind: Any) -> bool:
    return isinstance(kind, Scalar) and kind.dtype == "float64" and kind.weak


def _length(size: Any, where: dict[str, str]) -> str | None:
    """The text of a length, None where it depends on data."""
    if isinstance(size, int):
        return str(size)
    assert isinstance(size, Dim)
    terms = []
    for monomial, factor in size.terms:
        factors = [str(factor)]
        for atom in monomial:
            text = _slice(atom, where) if isinstance(atom, SliceLength) else where.get(atom)
            if text is None:
                return None
            factors.append(text)
        terms.append(" * ".join(factors))
    return " + ".join(terms)


def _slice(atom: SliceLength, where: dict[str, str]) -> str | None:
    """The length of a slice."""
    parts = ["None" if bound is None else _length(bound, where) for bound in atom.bounds]
    size = _length(atom.size, where)
    if size is None or None in parts:
        return None
    return f"len(range(*slice({', '.join(map(str, parts))}).indices({size})))"
