"""Derivatives written into arrays of the caller's: `step(w, X, out=grads)`.

    value, grads = step(w, X)
    value, grads = step(w, X, out=grads)       # the same arrays, with new gradients in them
    y, dot_y = f_jvp(x, dot_x, out=dot_y)      # likewise tangents, Jacobians, rows of Hessians

The code for such calls is that of ordinary ones with a parameter for each of these arrays (see
transform/places.py). The arrays are leaves of a last argument, `out`: their classes, dtypes and
shapes are compared on the way to the code, as those of all arguments are. That they share no memory
with the arguments is tested at every call.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from flatgrad import callers, fast_path
from flatgrad.derivatives import slots
from flatgrad.errors import FlatgradError, error
from flatgrad.exclusive import exclusive
from flatgrad.ir.ops import Slot
from flatgrad.ir.trees import Record, children
from flatgrad.options import Options
from flatgrad.pipeline import with_places
from flatgrad.specialisation import Specialisation, check_requirements, lengths_of
from flatgrad.structures import Leaf, Node, Spread, Tree, spread

OUT = "out"

GRADIENTS = ("grad", "value_and_grad")

WORDS = {
    "jvp": "the tangent", "hvp": "the product with the Hessian",
    "jacfwd": "the Jacobian", "value_and_jacfwd": "the Jacobian",
}  # fmt: skip
"""What other derivatives are called, of which a part may be a result of its own."""


def release_workspace() -> None:
    """Give the memory back to the system that calls with `out=` keep for the next.

    On Numba, such calls keep what their temporaries took, at most twice as much as was in use at
    one time, and so do programs with blocks of samples. What arrays still hold stays theirs.
    """
    workspace = sys.modules.get("flatgrad.backends.numba_workspace")
    if workspace is not None:
        workspace.drop()


def takes_out(derived: Any) -> bool:
    """Whether calls of a derivative may have `out=`: not if its function has such a parameter."""
    plain = derived.kind in GRADIENTS and not derived.tangents()
    return (plain or derived.kind in WORDS) and OUT not in derived.signature.parameters


@dataclass(slots=True, eq=False)
class Into:
    """The calls of one derived function that have `out=`; in `by_class` it comes last."""

    derived: Any
    known: dict[Any, tuple[Specialisation, Specialisation]] = field(default_factory=dict)

    @property
    def by_class(self) -> dict[Any, Any]:
        """Shared with ordinary calls: it is cleared when what they compile changes."""
        found: dict[Any, Any] = self.derived.by_class
        return found

    def forget(self) -> None:
        """Find out anew what calls run."""
        self.derived.forget()

    @property
    def static_params(self) -> set[str]:
        """Those of the derived function."""
        found: set[str] = self.derived.static_params
        return found

    @property
    def kind(self) -> str:
        """That of the derived function."""
        return str(self.derived.kind)

    @property
    def has_aux(self) -> bool:
        """That of the derived function."""
        return bool(self.derived.has_aux)

    @property
    def options(self) -> Options:
        """Those of the derived function."""
        found: Options = self.derived.options
        return found

    def call_slowly(self, *args: Any) -> Any:
        """A call with arguments not seen before, `out` last."""
        parameters = [*self.derived.signature.parameters, OUT]
        given = spread(dict(zip(parameters, args, strict=True)), self.derived.tangents())
        own = _without_out(given)
        found = self.derived.specialised(own)
        check_requirements(found, own.values)
        places = self.places(found, given)
        found = self.writing(found, places, given)
        run = callers.runner(self, found, given, places)
        fast_path.remember(self, given, args, found.types, run)
        return run(*args, *fast_path.leaf_values(given))

    def places(self, found: Specialisation, given: Spread) -> dict[int, str]:
        """For each gradient, by number, the leaf of `out` that it is written into, if it is one.

        Of other derivatives, the results are counted.

        Raises
        ------
        ArgumentError
            If `out` has other parts than the derivative, or arrays of other dtypes or shapes.
        """
        if self.kind in GRADIENTS:
            form, wanted = found.form, _gradients(found, given)
        else:
            tree = found.compiled.graph.tree
            form = tree[1] if self.kind in ("jvp", "value_and_jacfwd") else tree
            wanted = _results(found, given, form, WORDS[self.kind])
        places = {}
        for k, leaf in matched(form, given.trees[OUT]):
            if k in wanted:  # what is not is a number
                check_place(leaf.shown, given.values[leaf.name], *wanted[k])
                places[k] = leaf.name
        return places

    def writing(
        self, found: Specialisation, places: dict[int, str], given: Spread
    ) -> Specialisation:
        """The specialisation that writes into these leaves; of rank 0 they are written later."""
        is_gradient = self.kind in GRADIENTS
        first = len(found.compiled.graph.results) - len(found.wrt) if is_gradient else 0
        names = {first + k: leaf for k, leaf in places.items() if given.values[leaf].ndim}
        key = id(found), tuple(names.items())
        if key not in self.known or self.known[key][0] is not found:
            with exclusive():
                compiled = with_places(found.compiled, names, self.derived.source)
            self.known[key] = found, replace(found, compiled=compiled)
        return self.known[key][1]


Wanted = tuple[str, np.dtype, tuple[int, ...]]
"""What an array is, in words, and its dtype and shape."""


def _gradients(found: Specialisation, given: Spread) -> dict[int, Wanted]:
    """The gradients that are arrays."""
    arguments = {k: given.values[name] for k, name in enumerate(found.wrt)}
    return {
        k: (f"the gradient of `{given.shown[found.wrt[k]]}`", one.dtype, one.shape)
        for k, one in arguments.items()
        if isinstance(one, np.ndarray)
    }


def _results(found: Specialisation, given: Spread, form: Any, words: str) -> dict[int, Wanted]:
    """The results in a tree that are arrays with axes.

    Raises
    ------
    ArgumentError
        If the shape of one depends on the data.
    """
    lengths = lengths_of(found, given.values)
    wanted = {}
    for k in slots(form):
        kind = found.compiled.graph.results[k].type
        sizes = [size if isinstance(size, int) else size.value(lengths) for size in kind.shape]
        known = [size for size in sizes if size is not None]
        if len(known) < len(sizes):
            raise error(
                "bad-out", f"the shape of {words} is known only when the function has run",
                help="call it without `out`",
            )  # fmt: skip
        if known:
            wanted[k] = words, np.dtype(kind.dtype), tuple(known)
    return wanted


def check_place(
    shown: str, place: Any, words: str, dtype: np.dtype, shape: tuple[int, ...]
) -> None:
    """Refuse something in `out` that is no array of this dtype and shape."""
    if isinstance(place, np.ndarray) and place.dtype == dtype and place.shape == shape:
        return
    wanted = f"a {dtype} array of shape {shape}"
    raise _misfit(f"`{shown}` is {_words(place)}; {words} is {wanted}")


def _without_out(given: Spread) -> Spread:
    """The arguments without `out`."""
    leaves = set(given.leaves(OUT))
    return Spread(
        {name: value for name, value in given.values.items() if name not in leaves},
        {name: tree for name, tree in given.trees.items() if name != OUT},
        given.owners,
        given.shown,
        given.inside - leaves,
    )


def matched(form: Any, tree: Tree) -> Iterator[tuple[int, Leaf]]:
    """The parts of a derivative in their form, each with what stands at its place in `out`."""
    if isinstance(form, Slot):
        if not isinstance(tree, Leaf):
            raise _misfit("`out` has a container where the derivative has a number or an array")
        yield form.index, tree
        return
    parts = children(form)
    if not parts or not _has_slots(form):
        return
    if not isinstance(tree, Node) or not _alike(form, tree):
        raise _misfit("`out` has other parts than the derivative")
    items = dict(zip(tree.keys, tree.parts, strict=True))
    keys: Any = getattr(form, "fields", form) if isinstance(form, Record | dict) else tree.keys
    for key, part in zip(keys, parts, strict=True):
        yield from matched(part, items[key])


def _alike(form: Any, tree: Node) -> bool:
    """Whether a container of gradients and one of `out` have the same parts."""
    if isinstance(form, Record):
        return tree.kind is form.kind
    if isinstance(form, dict):
        return tree.kind is dict and set(tree.keys) == set(form)
    names = getattr(form, "_fields", None), getattr(tree.kind, "_fields", None)
    same = None in names or names[0] == names[1]
    return issubclass(tree.kind, tuple | list) and len(tree.parts) == len(form) and same


def _has_slots(form: Any) -> bool:
    return isinstance(form, Slot) or any(map(_has_slots, children(form) or ()))


def _words(value: Any) -> str:
    """What a message says of a value."""
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    return "None" if value is None else f"a {type(value).__name__}"


def _misfit(message: str) -> FlatgradError:
    return error(
        "bad-out", message,
        help="pass the derivative that the call without `out` returns, or arrays like its arrays",
    )  # fmt: skip
