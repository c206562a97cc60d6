"""Makes a derived function callable from the user's own `@numba.njit` code.

    value_and_grad_of_loss = value_and_grad(loss, backend="numba")

    @numba.njit
    def train(w, x, y): ... value, g = value_and_grad_of_loss(w, x, y) ...

Numba asks for the type of the global when it compiles the caller; the type then asks the derived
function for a dispatcher that takes arguments of the types at hand (`choose`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.core import cgutils, errors, types
from numba.core.datamodel import models
from numba.core.imputils import lower_constant
from numba.core.registry import cpu_target
from numba.extending import register_model

Choose = Callable[[tuple[Any, ...], dict[str, Any]], tuple[Any, tuple[Any, ...]]]


class DerivedType(types.Callable, types.Opaque):
    """The Numba type of one derived function; it keeps `choose` alive, so its id stays unique."""

    def __init__(self, name: str, choose: Choose) -> None:
        self.choose = choose
        super().__init__(f"flatgrad.derived.{name}<{id(choose)}>")

    @property
    def key(self) -> int:
        """Each derived function is a type of its own."""
        return id(self.choose)

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        """The signature of a call with arguments of these types."""
        try:
            dispatcher, ordered = self.choose(args, dict(kws))
        except Exception as caught:
            raise errors.TypingError(f"flatgrad: {caught}") from caught
        return types.Dispatcher(dispatcher).get_call_type(context, ordered, {})

    def get_call_signatures(self) -> tuple[tuple[Any, ...], bool]:
        """Any signature may do; `get_call_type` decides."""
        return (), True

    def get_impl_key(self, sig: Any) -> Any:
        """The compiled function for a signature."""
        dispatcher, _ = self.choose(sig.args, {})
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


def register(public: Callable[..., Any], choose: Choose) -> None:
    """Let Numba resolve the global `public` to calls of what `choose` returns."""
    cpu_target.typing_context.insert_global(public, DerivedType(public.__name__, choose))


def jit(function: Callable[..., Any]) -> Any:
    """A dispatcher for a generated guard."""
    return numba.njit(error_model="numpy")(function)


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
    if kind in (types.float32, types.int32, types.uint8):
        return np.dtype(kind.name).type(1)
    if isinstance(kind, types.Float):
        return 1.0
    if isinstance(kind, types.Integer):
        return 1
    raise TypeError(f"an argument of Numba type {kind}")
