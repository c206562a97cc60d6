"""Makes the steps of `flatgrad.optim` callable from the user's own `@numba.njit` code.

    params, state = optim.adam(params, grads, state, rate=0.01)        params: (W, b)

    def adam(params, grads, state, rate=0.001, ...):
        step = state.step + 1
        constants = adam_constants(step, rate, beta1, beta2, epsilon)
        a0, b0, c0, = leaf_0(params[0], grads[0], state.mean[0], state.square[0], constants)
        a1, b1, c1, = leaf_1(params[1], grads[1], state.mean[1], state.square[1], constants)
        return (a0, a1, ), AdamState(step, (b0, b1, ), (c0, c1, ))

Importing this module registers a `numba.extending.overload` for each. The structure is known from
the types, so such a text is written for it; a leaf that is an array is one loop over its elements.
The formulas are those of `flatgrad.optim`, compiled.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.core.errors import TypingError
from numba.extending import overload

from flatgrad import optim
from flatgrad.backends.numba_callable import share_memory, stretch_of

jit = numba.njit(error_model="numpy")
jit_once = functools.cache(jit)


@overload(optim.sgd, prefer_literal=True, strict=False)
def _sgd(params: Any, grads: Any, rate: Any, in_place: Any = False) -> Callable[..., Any]:
    writer = _Writer(optim.sgd_kernel, _literal("in_place", in_place))
    (new,) = writer.tree("params", [params, grads], ["params", "grads"])
    return writer.function(optim.sgd, ["constants = (rate,)"], new)


@overload(optim.momentum, prefer_literal=True, strict=False)
def _momentum(
    params: Any, grads: Any, state: Any, rate: Any,
    beta: Any = 0.9, nesterov: Any = False, in_place: Any = False,
) -> Callable[..., Any]:  # fmt: skip
    (velocity,) = _moments(state, optim.MomentumState)
    ahead = _literal("nesterov", nesterov)
    kernel = optim.nesterov_kernel if ahead else optim.momentum_kernel
    writer = _Writer(kernel, _literal("in_place", in_place))
    texts = ["params", "grads", "state.velocity"]
    new, moment = writer.tree("params", [params, grads, velocity], texts)
    made = writer.constant("State", optim.MomentumState)
    return writer.function(
        optim.momentum, ["constants = (rate, beta)"], f"{new}, {made}({moment})"
    )


@overload(optim.adam, prefer_literal=True, strict=False)
def _adam(
    params: Any, grads: Any, state: Any,
    rate: Any = 1e-3, beta1: Any = 0.9, beta2: Any = 0.999, epsilon: Any = 1e-8,
    in_place: Any = False,
) -> Callable[..., Any]:  # fmt: skip
    _, mean, square = _moments(state, optim.AdamState)
    writer = _Writer(optim.adam_kernel, _literal("in_place", in_place))
    texts = ["params", "grads", "state.mean", "state.square"]
    new, *moments = writer.tree("params", [params, grads, mean, square], texts)
    made = writer.constant("State", optim.AdamState)
    numbers = writer.constant("adam_constants", jit_once(optim.adam_constants))
    head = [
        "step = state.step + 1",
        f"constants = {numbers}(step, rate, beta1, beta2, epsilon)",
    ]
    return writer.function(optim.adam, head, f"{new}, {made}(step, {', '.join(moments)})")


@overload(optim.momentum_init, strict=False)
def _momentum_init(params: Any) -> Callable[..., Any]:
    writer = _Writer(None, False)
    made = writer.constant("State", optim.MomentumState)
    return writer.function(
        optim.momentum_init, [], f"{made}({writer.zeros(params, 'params')})"
    )


@overload(optim.adam_init, strict=False)
def _adam_init(params: Any) -> Callable[..., Any]:
    writer = _Writer(None, False)
    made = writer.constant("State", optim.AdamState)
    mean, square = (writer.zeros(params, "params") for _ in range(2))
    none = writer.constant("none", np.int64(0))
    return writer.function(optim.adam_init, [], f"{made}({none}, {mean}, {square})")


class _Writer:
    """Writes the text of one function for the types of its arguments."""

    def __init__(self, kernel: Any, in_place: bool) -> None:
        self.kernel = kernel
        self.in_place = in_place
        self.lines: list[str] = []
        self.arrays: list[list[str]] = []
        self.space: dict[str, Any] = {"np": np}

    def constant(self, name: str, value: Any) -> str:
        """A name for something that the text uses."""
        name = f"{name}_{len(self.space)}"
        self.space[name] = value
        return name

    def function(self, public: Callable[..., Any], head: list[str], result: str) -> Any:
        """The implementation of `public`, with its signature."""
        parameters = inspect.signature(public).parameters.values()
        given = ", ".join(
            p.name if p.default is p.empty else f"{p.name}={p.default!r}" for p in parameters
        )
        body = [*head, *self.sharing_test(), *self.lines, f"return {result}"]
        text = f"def {public.__name__}({given}):\n" + "".join(f"    {line}\n" for line in body)
        return _executed(text, public.__name__, self.space)

    def sharing_test(self) -> list[str]:
        """Statements that refuse arrays to be written to that other parameters see, too."""
        if not self.in_place or len(self.arrays) < 2:
            return []
        stretch = self.constant("stretch", stretch_of)
        given = "".join(f"{stretch}({text}), " for row in self.arrays for text in row)
        test = self.constant("overlap", overlap)
        wrong = self.constant("wrong", OVERLAP)
        return [f"if {test}(({given}), {len(self.arrays[0])}):", f"    raise ValueError({wrong})"]

    def tree(self, shown: str, kinds: Sequence[Any], texts: Sequence[str]) -> list[str]:
        """The texts of the new parameters and moments; `kinds` has the gradients second."""
        p, g, *_ = kinds
        if g is types.none:
            return [texts[0], *texts[2:]]
        if not isinstance(p, types.BaseTuple):
            return self.leaf(shown, kinds, texts)
        for other in kinds[1:]:
            if not _alike(p, other):
                raise _misfit(f"`{shown}` has other parts than its gradient or its state")
        rows = []
        for k in range(len(p)):
            inside = [one.types[k] for one in kinds]
            rows.append(self.tree(f"{shown}[{k}]", inside, [f"{text}[{k}]" for text in texts]))
        kept = [p, *kinds[2:]]
        return [self.container(kind, [row[k] for row in rows]) for k, kind in enumerate(kept)]

    def container(self, kind: Any, parts: list[str]) -> str:
        """A tuple, or a named tuple of the kind."""
        inside = "".join(f"{part}, " for part in parts)
        named = getattr(kind, "instance_class", None)
        return f"({inside})" if named is None else f"{self.constant('Kind', named)}({inside})"

    def leaf(self, shown: str, kinds: Sequence[Any], texts: Sequence[str]) -> list[str]:
        """A call for an array or a number, and the names of what it returns."""
        p = kinds[0]
        dtype = _float_type(p)
        alike = [isinstance(kind, types.Array) and kind.ndim for kind in kinds]
        if dtype is None or len(set(alike)) > 1 or any(map(_is_no_number, kinds)):
            raise _misfit(f"`{shown}` is of type {p}, its gradient of {kinds[1]}")
        if not isinstance(p, types.Array):
            made = _number_leaf(self.kernel, dtype, len(kinds))
        else:
            if self.in_place and not all(one.mutable for one in (p, *kinds[2:])):
                raise _misfit(f"`{shown}` or its state is read-only: not with in_place=True")
            p_text, g_text, *moments = texts
            self.arrays.append([g_text, p_text, *moments])
            layouts = tuple([kind.layout for kind in kinds])
            made = _array_leaf(self.kernel, dtype, p.ndim, layouts, self.in_place)
        count = len(self.space)
        names = [f"{letter}{count}" for letter in "abc"[: len(kinds) - 1]]
        call = f"{self.constant('leaf', made)}({', '.join(texts)}, constants)"
        self.lines.append(f"{', '.join(names)}, = {call}")
        return names

    def zeros(self, kind: Any, text: str) -> str:
        """Zeros in the structure of a type, None for what cannot have a gradient."""
        if isinstance(kind, types.BaseTuple):
            inside: Any = kind
            parts = [self.zeros(one, f"{text}[{k}]") for k, one in enumerate(inside.types)]
            return self.container(kind, parts)
        dtype = _float_type(kind)
        if dtype is None:
            return "None"
        if isinstance(kind, types.Array):
            return f"np.zeros_like({text})"
        return self.constant("zero", np.dtype(dtype).type(0))


OVERLAP = (
    "flatgrad.optim: an array of the parameters or the state is written to, and shares memory with "
    "the gradient or the state of another parameter"
)


@jit
def overlap(stretches: Any, width: int) -> bool:
    """Whether what is written to for one parameter is seen by a later one.

    A parameter has `width` stretches of memory: for its gradient, itself, its state.
    """
    for k in range(len(stretches)):
        place = k % width
        if place == 0:
            continue
        first, last = stretches[k]
        for other in range((k // width + 1) * width, len(stretches)):
            one, end = stretches[other]
            twice = place == 1 and other % width == 1  # among the parameters: it gets both steps
            if max(first, one) < min(last, end) and not twice:
                return True
    return False


@functools.cache
def _number_leaf(kernel: Any, dtype: str, count: int) -> Any:
    """The compiled step of a number; `count` says of how many values it makes new ones."""
    names = _NAMES[:count]
    given = ", ".join(f"as_float({name})" for name in names)
    text = (
        f"def leaf({', '.join(names)}, constants):\n"
        f"    return kernel({given}, {_constants(kernel, count)})\n"
    )
    return _compiled(text, kernel, dtype)


@functools.cache
def _array_leaf(
    kernel: Any, dtype: str, rank: int, layouts: tuple[str, ...], in_place: bool
) -> Any:
    """The compiled step of an array of this rank: a loop over its elements, or a nest of loops."""
    names = _NAMES[: len(layouts)]
    flat = _flat(rank, layouts)
    p, _, *moments = names
    written = [p, *moments]
    lines = [f"if {other}.shape != p.shape:\n        raise ValueError(shapes)"
             for other in names[1:]]  # fmt: skip
    if in_place:
        lines += _sharing_tests(written, flat)
    else:
        own = dict(zip(names, layouts, strict=True))  # `copy` alone makes all C
        lines += [
            f"{name} = {name}.T.copy().T" if own[name] == "F" else f"{name} = {name}.copy()"
            for name in written
        ]
    axes = [f"i{axis}" for axis in range(rank)]
    views = {name: name for name in names}
    if flat is not None:
        views = {name: f"{name}_flat" for name in names}
        lines += [f"{name}_flat = {name}{flat}.reshape({name}.size)" for name in names]
        axes = ["i0"]
    at = ", ".join(axes) or "()"
    for depth, axis in enumerate(axes):
        lines.append(f"{'    ' * depth}for {axis} in range({views[p]}.shape[{depth}]):")
    targets = "".join(f"{views[name]}[{at}], " for name in written)
    given = ", ".join(f"as_float({views[name]}[{at}])" for name in names)
    lines.append(
        f"{'    ' * len(axes)}{targets}= kernel({given}, {_constants(kernel, len(names))})"
    )
    lines.append(f"return {''.join(f'{name}, ' for name in written)}")
    text = f"def leaf({', '.join(names)}, constants):\n" + "".join(f"    {x}\n" for x in lines)
    return _compiled(text, kernel, dtype)


_NAMES = ("p", "g", "m", "v")


def _constants(kernel: Any, count: int) -> str:
    """The last arguments of a kernel, behind `count` values."""
    more = len(inspect.signature(kernel).parameters) - count
    return ", ".join(f"as_float(constants[{k}])" for k in range(more))


def _sharing_tests(written: list[str], flat: str | None) -> list[str]:
    """Statements that refuse arrays to be written to that share memory.

    The gradient may be one of them if the elements are the same: each is read before it is written.
    """
    tests = [f"share_memory({one}, {other})"
             for k, one in enumerate(written) for other in written[:k]]  # fmt: skip
    same = "" if flat is None else " and {}.ctypes.data != g.ctypes.data"
    tests += [f"share_memory({one}, g){same.format(one)}" for one in written]
    return [f"if {test}:\n        raise ValueError(sharing)" for test in tests]


def _compiled(text: str, kernel: Any, dtype: str) -> Any:
    return jit(_executed(text, "leaf", {
        "kernel": jit_once(kernel), "as_float": getattr(np, dtype), "share_memory": share_memory,
        "shapes": "flatgrad.optim: a gradient, or a state, has another shape than its parameter",
        "sharing": "flatgrad.optim: a parameter, its gradient and its state share memory, and are "
        "to be written to",
    }))  # fmt: skip


def _executed(text: str, name: str, space: dict[str, Any]) -> Any:
    exec(compile(text, f"<flatgrad.optim for {name}>", "exec"), space)
    return space[name]


def _flat(rank: int, layouts: tuple[str, ...]) -> str | None:
    """What brings the elements of all arrays into the order of memory; None if nothing does."""
    if rank == 0 or len(set(layouts)) > 1 or "A" in layouts:
        return None
    return ".T" if "F" in layouts else ""


def _alike(p: Any, other: Any) -> bool:
    """Whether two types of tuples have the same parts."""
    if not isinstance(other, types.BaseTuple) or len(other) != len(p):
        return False
    named: list[Any] = [kind for kind in (p, other) if isinstance(kind, types.BaseNamedTuple)]
    return len(named) < 2 or named[0].fields == named[1].fields


def _float_type(kind: Any) -> str | None:
    """The dtype in which a parameter is computed; None for what is no parameter."""
    element = kind.dtype if isinstance(kind, types.Array) else kind
    if isinstance(element, types.Float):
        return str(element.name)
    return "float64" if isinstance(kind, types.Integer) else None


def _is_no_number(kind: Any) -> bool:
    element = kind.dtype if isinstance(kind, types.Array) else kind
    return not isinstance(element, types.Float | types.Integer)


def _moments(state: Any, kind: type) -> tuple[Any, ...]:
    """The types of the fields of a state."""
    if getattr(state, "instance_class", None) is not kind:
        name = kind.__name__.removesuffix("State").lower()
        raise _misfit(f"the state is of type {state}; optim.{name}_init(params) makes one")
    return tuple(state.types)


def _literal(name: str, value: Any) -> bool:
    """The value of an option."""
    if isinstance(value, types.Omitted):
        return bool(value.value)
    if isinstance(value, types.BooleanLiteral):
        return bool(value.literal_value)
    if isinstance(value, bool):
        return value
    raise TypingError(f"`{name}` must be True or False itself in compiled code")


def _misfit(message: str) -> TypingError:
    return TypingError(f"flatgrad.optim: {message}")
