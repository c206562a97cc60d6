"""What a call of a derivative of another kind than `grad` hands out.

    y, dot_y = f_jvp(x, dot_x)        tangents of the kinds of their values
    y, pullback = f_vjp(x)            the second half, with what the first half left for it

Emitted code returns tuples, lists, dicts, numbers and arrays; here named tuples are made again, and
numbers become Python's or NumPy's, as the argument or result was to which they belong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from typing import Any

import numpy as np

from flatgrad import columns
from flatgrad.callers import explain
from flatgrad.derivatives import Request, mapped, slots
from flatgrad.errors import error
from flatgrad.ir.ops import Slot
from flatgrad.ir.trees import (
    Record,
    children,
    comes_as_tuples,
    constructor,
    finished,
    rebuilt,
)
from flatgrad.ir.types import Array, Scalar, Type
from flatgrad.returned import is_straight
from flatgrad.structures import Spread, tangent_values
from flatgrad.tangents import fitting

Converter = Callable[[Any], Any]


def finisher(
    found: Any, given: Spread, places: Sequence[int] = ()
) -> Callable[..., Any] | None:
    """What is done with the result of the emitted code; None for nothing.

    With `places`, results by number, it also gets the arrays that these were written into, which
    are handed out in their places.
    """
    request, tree = found.compiled.request, found.compiled.graph.tree
    # Numba hands out Python's numbers, and tuples for dicts.
    exact = request.options.backend == "numpy" and request.kind not in columns.KINDS
    leaves = _converters(found, given.values, exact)
    if places:
        return _with_places(tree, leaves, places)
    plan = mapped(tree, leaves.__getitem__, None)
    if found.compiled.late is None:
        needed = _is_needed(plan) or not exact
        return (lambda result: converted(result, plan)) if needed else None
    plan = plan[0] if _is_needed(plan[0]) or not exact else None
    made = Pullback if request.kind == "vjp" else Pushforward
    return lambda result: made.pair(found, given, plan, result)


def _with_places(
    tree: Any, leaves: dict[int, Converter | None], places: Sequence[int]
) -> Callable[..., Any]:
    def finish(result: Any, *arrays: np.ndarray) -> Any:
        put = {k: lambda _, array=array: array for k, array in zip(places, arrays, strict=True)}
        return converted(result, mapped(tree, (leaves | put).__getitem__, None))

    return finish


def _converters(found: Any, values: dict[str, Any], exact: bool) -> dict[int, Converter | None]:
    """What each result of the emitted code needs to become what is handed out."""
    request, graph = found.compiled.request, found.compiled.graph
    if request.kind in columns.KINDS:
        return _jacobian_converters(found, values)
    kinds = [item.type for item in graph.results]
    wanted = wanted_kinds(request, graph.tree, kinds, found.types)
    straight = is_straight(graph)
    return {
        k: converter(kind, wanted.get(k, (kind, None)), values, exact, straight)
        for k, kind in enumerate(kinds)
    }


def _jacobian_converters(found: Any, values: dict[str, Any]) -> dict[int, Converter | None]:
    """Where a Jacobian has no axes, it is a number of its argument's kind."""
    request, tree = found.compiled.request, found.compiled.graph.tree
    kinds = [item.type for item in found.compiled.graph.results]
    leaves: dict[int, Converter | None] = {}
    blocks = tree
    if request.kind == "value_and_jacfwd":
        blocks = tree[1]
        wanted = wanted_kinds(request.inner, tree[0], kinds, found.types)
        for k in slots(tree[0]):
            leaves[k] = converter(kinds[k], wanted.get(k, (kinds[k], None)), values, exact=False)
    for k, name in zip(slots(blocks), cycle(found.wrt)):
        leaves[k] = None
        if not kinds[k].ndim:
            leaves[k] = _number_like(values[name], found.types[name], kinds[k].dtype)
    return leaves


def _number_like(argument: Any, kind: Type, dtype: str) -> Converter:
    if isinstance(argument, np.ndarray):
        return lambda leaf: np.asarray(leaf, dtype)
    return float if kind.weak else np.dtype(dtype).type


def wanted_kinds(
    request: Request | None, tree: Any, kinds: Sequence[Type], types: dict[str, Any]
) -> dict[int, tuple[Type, str | None]]:
    """For result leaves that belong to a parameter or another result: its type, and its name."""
    if request is None or request.kind == "primal":
        return {}
    found: dict[int, tuple[Type, str | None]]
    if request.kind in ("jvp", "linearize", "vjp"):
        found = wanted_kinds(request.inner, tree[0], kinds, types)
        if request.kind == "jvp" and not request.rows:
            for index, tangent in pairs(tree[0], tree[1]):
                found[tangent] = found.get(index, (kinds[index], None))
        return found
    if request.kind == "hvp" and request.rows:
        return {}
    if request.kind == "hvp":
        return wanted_kinds(request.inner, tree, kinds, types)
    gradients = tree[1] if request.kind == "value_and_grad" else tree
    if request.kind == "grad" and request.has_aux:
        gradients = tree[0]
    leaves = zip(slots(gradients), request.wrt, strict=True)
    return {index: (types[name], name) for index, name in leaves}


def pairs(tree: Any, tangents: Any) -> list[tuple[int, int]]:
    """The slots of results with those of their tangents, where they have one."""
    if isinstance(tree, Slot):
        return [(tree.index, tangents.index)] if isinstance(tangents, Slot) else []
    items = children(tree)
    if items is None:
        return []
    parts = zip(items, children(tangents) or (), strict=True)
    return [pair for one, other in parts for pair in pairs(one, other)]


def converter(
    given: Type,
    wanted: tuple[Type, str | None],
    values: dict[str, Any],
    exact: bool = True,
    straight: bool = True,
) -> Converter | None:
    """From what emitted code returns to a value of a type, maybe that of an argument by name."""
    kind, name = wanted
    argument = values.get(name) if name is not None else None
    if isinstance(argument, np.ndarray) and argument.ndim == 0:
        dtype = argument.dtype
        return lambda leaf: np.asarray(leaf, dtype)
    if not isinstance(kind, Scalar):
        return None
    same = (kind.weak, kind.dtype) == (given.weak, given.dtype)
    if same and (exact or kind.weak) and (straight or name is None):
        return None
    return float if kind.weak else np.dtype(kind.dtype).type


def _is_needed(plan: Any) -> bool:
    """Whether anything in a result differs from what the emitted code returns."""
    items = children(plan)
    if items is None:
        return callable(plan)
    return comes_as_tuples(plan) or any(_is_needed(item) for item in items)


def converted(result: Any, plan: Any) -> Any:
    """`result` with the converters of `plan` applied, in the containers of `plan`."""
    items = children(plan)
    if items is None:
        return result if plan is None else plan(result)
    given = result.values() if isinstance(result, dict) else result
    made = [converted(item, part) for item, part in zip(given, items, strict=True)]
    if isinstance(plan, Record):
        return constructor(plan.kind)(dict(zip(plan.fields, made, strict=True)))
    return rebuilt(plan, made)


class Late:
    """The second half of a derivative, after a first half that has run.

    It may be called any number of times, and does not see later changes of the arguments.
    """

    def __init__(
        self, found: Any, given: Spread, y: Any, residuals: Sequence[Any]
    ) -> None:
        values = given.values
        self.compiled = found.compiled.late
        self.hidden = found.compiled.hidden
        self.straight = is_straight(self.compiled.graph)
        self.residuals = tuple(residuals)
        self.wrt: tuple[str, ...] = found.wrt
        self.inputs = [np.shape(values[name]) for name in found.wrt]
        self.kinds: list[Type] = [found.types[name] for name in found.wrt]
        self.form: Any = found.form
        self.arguments = {name: values[name] for name in found.wrt}
        self.trees = given.trees
        self.shown = given.shown
        graph = found.compiled.graph
        self.tree = graph.tree[0]
        leaves: dict[int, Any] = {}
        _emitted_leaves(self.tree, y, leaves)
        self.outputs = {
            k: (np.shape(leaf), graph.results[k].type)
            for k, leaf in sorted(leaves.items())
            if graph.results[k].type.differentiable
        }

    @classmethod
    def pair(cls, found: Any, given: Spread, plan: Any, result: Any) -> tuple[Any, Any]:
        """The value of the function, and this."""
        late = cls(found, given, result[0], result[1:])
        y = converted(result[0], plan) if plan is not None else result[0]
        return y, late

    def source(self) -> str:
        """The emitted text of this half."""
        text: str = self.compiled.module.function_text
        return text.rstrip() + "\n"

    def run(self, seeds: Sequence[Any]) -> Sequence[Any]:
        """The results for seeds that were checked."""
        try:
            result = self.compiled.function(*self.residuals, *seeds)
        except Exception as caught:
            explain(caught, self.compiled)
            raise
        single = len(self.compiled.graph.results) == 1
        return (result,) if single else result

    def fill(self, blocks: dict[int, list[np.ndarray]]) -> None:
        """Write the Jacobians into arrays."""
        raise NotImplementedError

    def empty_blocks(self) -> dict[int, list[np.ndarray]]:
        """For each float result, its Jacobians by each of `wrt`, to be filled.

        The dtype is what NumPy makes of both dtypes.
        """
        return {
            k: [
                np.empty((*shape, *inner), joined(kind, other))
                for inner, other in zip(self.inputs, self.kinds, strict=True)
            ]
            for k, (shape, kind) in self.outputs.items()
        }


class Pullback(Late):
    """From the adjoint of a result to the gradients of the arguments: `pullback(grad_y)`.

    Returns a tuple with an entry for each argument, in its structure, with None for what cannot
    have a gradient.
    """

    def __call__(self, grad_y: Any) -> tuple[Any, ...]:
        seeds: dict[int, Any] = {}
        _leaves(self.tree, grad_y, seeds)
        checked = []
        for k, (shape, kind) in self.outputs.items():
            name = "grad_y" if len(self.outputs) == 1 else f"grad_y, leaf {k}"
            checked.append(fitting(name, seeds[k], "the result", shape, kind))
        gradients = dict(zip(self.wrt, self.gradients(checked), strict=True))
        pick = lambda leaf: gradients.get(leaf.name)  # noqa: E731
        return tuple([finished(tree.built(pick)) for tree in self.trees.values()])

    def gradients(self, seeds: Sequence[Any]) -> list[Any]:
        """The gradients of `wrt`, each of the kind of its argument."""
        found = self.run(seeds)
        given = [item.type for item in self.compiled.graph.results]
        made = []
        for leaf, kind, wanted, name in zip(found, given, self.kinds, self.wrt, strict=True):
            convert = converter(kind, (wanted, name), self.arguments, False, self.straight)
            made.append(leaf if convert is None else convert(leaf))
        return made


    def fill(self, blocks: dict[int, list[np.ndarray]]) -> None:
        """A run for each element of the results: rows."""
        outputs = list(self.outputs.items())
        for place, seeds in basis([output for _, output in outputs]):
            k, index = outputs[place[0]][0], place[1]
            for block, gradient in zip(blocks[k], self.run(seeds), strict=True):
                block[index] = gradient


class Pushforward(Late):
    """From tangents of the arguments to those of the results: `pushforward(*tangents)`.

    There is a tangent for each argument; None stands for zero.
    """

    def __call__(self, *tangents: Any) -> Any:
        if len(tangents) > len(self.trees):
            raise error(
                "bad-tangent", f"{len(tangents)} tangents for {len(self.trees)} arguments"
            )
        given: dict[str, Any] = {}
        for (name, tree), tangent in zip(self.trees.items(), tangents, strict=False):
            given |= tangent_values(f"dot_{name}", tangent, tree)
        for name, tangent in given.items():
            if tangent is not None and name not in self.wrt:
                raise error("not-differentiable", f"`{self.shown[name]}` cannot have a tangent")
        checked = []
        for name, shape, kind in zip(self.wrt, self.inputs, self.kinds, strict=True):
            tangent = given.get(name)
            if tangent is None:
                checked.append(zero(shape, kind))
            else:
                shown = f"`{self.shown[name]}`"
                checked.append(fitting(f"dot_{name}", tangent, shown, shape, kind))
        found = dict(zip(self.outputs, self.run(checked), strict=True))
        return finished(mapped(self.tree, lambda k: found.get(k), None))

    def run(self, seeds: Sequence[Any]) -> Sequence[Any]:
        """The tangents of float results, of the kinds of these."""
        made = []
        given = [item.type for item in self.compiled.graph.results]
        wanted = [kind for _, kind in self.outputs.values()]
        for leaf, kind, want in zip(super().run(seeds), given, wanted, strict=True):
            convert = converter(kind, (want, None), {}, exact=False)
            made.append(leaf if convert is None else convert(leaf))
        return made


    def fill(self, blocks: dict[int, list[np.ndarray]]) -> None:
        """A run for each element of the arguments: columns."""
        inputs = list(zip(self.inputs, self.kinds, strict=True))
        for (j, index), seeds in basis(inputs):
            for k, tangent in zip(self.outputs, self.run(seeds), strict=True):
                column: Any = (..., *index)
                blocks[k][j][column] = tangent


def basis(
    spaces: Sequence[tuple[tuple[int, ...], Type]],
) -> Iterator[tuple[tuple[int, tuple[int, ...]], list[Any]]]:
    """Every unit vector of a product of spaces, with its place: the number of the space, the index.

    The arrays are changed from step to step.
    """
    seeds = [zero(shape, kind) for shape, kind in spaces]
    for j, (shape, kind) in enumerate(spaces):
        for index in np.ndindex(shape):
            if isinstance(kind, Array):
                seeds[j][index] = 1
            else:
                seeds[j] = zero(shape, kind) + 1
            yield (j, index), seeds
            if isinstance(kind, Array):
                seeds[j][index] = 0
        seeds[j] = zero(shape, kind)


def joined(one: Type, other: Type) -> np.dtype:
    """The dtype of both; Python's floats adapt."""
    strict = [kind.dtype for kind in (one, other) if not kind.weak]
    return np.result_type(*strict) if strict else np.dtype(np.float64)


def zero(shape: tuple[int, ...], kind: Type) -> Any:
    """A tangent or adjoint that is zero."""
    if isinstance(kind, Array):
        return np.zeros(shape, kind.dtype)
    return 0.0 if kind.weak else np.dtype(kind.dtype).type(0)


def _emitted_leaves(tree: Any, value: Any, found: dict[int, Any]) -> None:
    """What stands at the slots of `tree` in what emitted code returned."""
    if isinstance(tree, Slot):
        found[tree.index] = value
    items = children(tree)
    if items:
        given = value.values() if isinstance(value, dict) else value
        for part, item in zip(items, given, strict=True):
            _emitted_leaves(part, item, found)


def _leaves(tree: Any, value: Any, found: dict[int, Any]) -> None:
    """What stands in `value`, which the user passes, at the slots of `tree`.

    Raises
    ------
    ArgumentError
        If it has another structure.
    """
    match tree:
        case Slot(index):
            found[index] = value
        case tuple() | list():
            if not isinstance(value, tuple | list) or len(value) != len(tree):
                raise error(
                    "bad-tangent",
                    f"the adjoint of a result of {len(tree)} parts has as many parts",
                )
            for part, item in zip(tree, value, strict=True):
                _leaves(part, item, found)
        case dict():
            if not isinstance(value, dict) or value.keys() != tree.keys():
                raise error("bad-tangent", "the adjoint of a dict has the same keys")
            for key, part in tree.items():
                _leaves(part, value[key], found)
        case Record():
            if type(value) is not tree.kind:
                raise error("bad-tangent", f"the adjoint of a {tree.kind.__name__} is one, too")
            for name, part in tree.fields.items():
                _leaves(part, getattr(value, name), found)
