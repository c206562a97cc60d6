"""Makes a derived function callable from the user's own `@numba.njit` code.

    value_and_grad_of_loss = value_and_grad(loss, backend="numba")

    @numba.njit
    def train(w, x, y): ... value, g = value_and_grad_of_loss(w, x, y) ...

Numba asks for the type of the global when it compiles the caller; the type then asks the derived
function for a dispatcher that takes arguments of the types at hand (a `Chooser`). As every global,
what a derivative has compiled in stays as it was for a caller that is compiled already.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numba
import numpy as np
from numba.core import cgutils, errors, types
from numba.core.datamodel import models
from numba.core.imputils import lower_constant
from numba.core.registry import cpu_target
from numba.extending import register_model


class Chooser(Protocol):
    """Finds compiled functions for Numba types."""

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """The types that a call gives, by parameter, in order; defaults are left out."""

    def choose(self, given: dict[str, Any]) -> tuple[Any, tuple[Any, ...]]:
        """A dispatcher with the given parameters, and the types under which to call it."""


class DerivedType(types.Callable, types.Opaque):
    """The Numba type of one derived function; it keeps `chooser` alive, so its id stays unique."""

    def __init__(self, name: str, chooser: Chooser) -> None:
        self.chooser = chooser
        super().__init__(f"flatgrad.derived.{name}<{id(chooser)}>")

    @property
    def key(self) -> int:
        """Each derived function is a type of its own."""
        return id(self.chooser)

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        """The signature of a call with arguments of these types."""
        try:
            given = self.chooser.bind(args, dict(kws))
            dispatcher, plain = self.chooser.choose(given)
        except Exception as caught:
            raise errors.TypingError(f"flatgrad: {caught}") from caught
        return types.Dispatcher(dispatcher).get_call_type(context, plain, {})

    def get_call_signatures(self) -> tuple[tuple[Any, ...], bool]:
        """Any signature may do; `get_call_type` decides."""
        return (), True

    def get_impl_key(self, sig: Any) -> Any:
        """The compiled function for a signature; its `pysig` names the parameters given."""
        given = dict(zip(sig.pysig.parameters, sig.args, strict=True))
        dispatcher, _ = self.chooser.choose(given)
        return types.Dispatcher(dispatcher).get_impl_key(sig)


register_model(DerivedType)(models.OpaqueModel)


@lower_constant(DerivedType)
def _lower_derived(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """A dummy value, with a mark that keeps Numba from caching the caller on disk.

    A cached caller holds the machine code of the derivative; it would not notice that the
    differentiated function has changed in another file, and a stale gradient would be wrong.
    """
    pointer = context.get_value_type(types.voidptr)
    name = f"numba.dynamic.globals.flatgrad{id(value):x}"
    mark = cgutils.add_global_variable(builder.module, pointer, name)
    mark.linkage = "weak"
    mark.initializer = pointer(None)
    return context.get_dummy_value()


def register(public: Callable[..., Any], chooser: Chooser) -> None:
    """Let Numba resolve the global `public` to calls of what `chooser` finds."""
    cpu_target.typing_context.insert_global(public, DerivedType(public.__name__, chooser))


def jit(function: Callable[..., Any]) -> Any:
    """A dispatcher for a generated guard."""
    return numba.njit(error_model="numpy")(function)


def plain(kind: Any) -> Any:
    """The type of numbers of which a literal is one; other types are left as they are."""
    return types.unliteral(kind) if isinstance(kind, types.IntegerLiteral) else kind


def is_known(kind: Any) -> bool:
    """Whether a type tells the value."""
    if isinstance(kind, types.BaseTuple):
        return all(map(is_known, _items(kind)))
    return isinstance(kind, types.Literal | types.Omitted) or kind is types.none


def is_scalar_array(kind: Any) -> bool:
    """Whether this is the type of arrays of rank 0."""
    return isinstance(kind, types.Array) and kind.ndim == 0


def exemplar(kind: Any) -> Any:
    """A Python value of a Numba type; arrays get no axis of length 1.

    Raises
    ------
    TypeError
        For types that a derivative does not take.
    """
    if isinstance(kind, types.Literal):
        return kind.literal_value
    if isinstance(kind, types.Omitted):
        return kind.value
    if kind is types.none:
        return None
    if isinstance(kind, types.Array):
        return np.ones((2,) * kind.ndim, np.dtype(kind.dtype.name))
    if isinstance(kind, types.BaseTuple):
        items = [*map(exemplar, _items(kind))]
        named = getattr(kind, "instance_class", None)
        return tuple(items) if named is None else named._make(items)
    if kind in (types.float32, types.int32, types.uint8):
        return np.dtype(kind.name).type(1)
    if isinstance(kind, types.Float):
        return 1.0
    if isinstance(kind, types.Integer):
        return 1
    raise TypeError(str(kind))


def _items(kind: Any) -> tuple[Any, ...]:
    """The types of what a tuple holds."""
    return tuple(kind.types)


@numba.njit
def share_memory(a: Any, b: Any) -> bool:
    """Whether the stretches of memory in which two arrays lie overlap."""
    if a.size == 0 or b.size == 0:
        return False
    first_a, last_a = stretch_of(a)
    first_b, last_b = stretch_of(b)
    return bool(first_a < last_b and first_b < last_a)


@numba.njit
def stretch_of(x: Any) -> tuple[int, int]:
    """The first address of an array, and the one after its last."""
    first = x.ctypes.data
    if x.size == 0:
        return first, first
    last = first + x.itemsize
    for axis in range(x.ndim):
        reach = (x.shape[axis] - 1) * x.strides[axis]
        if reach < 0:
            first += reach
        else:
            last += reach
    return first, last
