"""Steps of an optimizer: plain functions from parameters and gradients to new parameters.

    state = optim.adam_init(params)
    for k in range(steps):
        value, grads = step(params, X, y)                 # of value_and_grad
        params, state = optim.adam(params, grads, state, rate=0.01 * 0.99**k)

`params` is an array, a number, or a structure of them: tuples, named tuples, lists, dicts and
dataclasses, one inside the other. `grads` has the form that flatgrad gives it; where it is None,
the parameter stays as it is. Every number of a method is an argument of every step, so a schedule
is whatever computes `rate`.

What is returned is new, and `params` and `state` are left as they were. With `in_place=True` their
arrays are written to, and nothing is allocated for them in compiled code; numbers and containers
are returned as new ones all the same, so always go on with what is returned.

All functions may be called from `@numba.njit` code, on arrays, numbers, tuples and named tuples of
these; `in_place` and `nesterov` are literals there. float32 stays float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from flatgrad.errors import FlatgradError, error
from flatgrad.ir.trees import Record, constructor
from flatgrad.structures import Node, container, reached, taken_apart

__all__ = ["AdamState", "MomentumState", "adam", "adam_init", "momentum", "momentum_init", "sgd"]


class MomentumState(NamedTuple):
    """The state of `momentum`: `velocity` has the structure of the parameters."""

    velocity: Any


class AdamState(NamedTuple):
    """The state of `adam`: steps taken, running means of the gradient and of its square."""

    step: Any
    mean: Any
    square: Any


def sgd(params: Any, grads: Any, rate: float, in_place: bool = False) -> Any:
    """Gradient descent: ``p - rate * g``.

    Returns
    -------
    The new parameters. Stochastic is what the gradients are.

    Raises
    ------
    ArgumentError
        If the gradients do not fit the parameters.
    """
    (params,) = _stepped(sgd_kernel, (rate,), in_place, (params, grads))
    return params


def momentum_init(params: Any) -> MomentumState:
    """The state before the first step of `momentum`: velocities of 0."""
    return MomentumState(_zeros("params", params))


def momentum(
    params: Any,
    grads: Any,
    state: MomentumState,
    rate: float,
    beta: float = 0.9,
    nesterov: bool = False,
    in_place: bool = False,
) -> tuple[Any, MomentumState]:
    """Gradient descent with momentum (Polyak): ``v = beta * v + g``, then ``p - rate * v``.

    With `nesterov` the step is ``p - rate * (g + beta * v)``, as in Sutskever et al. (2013).

    Returns
    -------
    The new parameters and the new state.

    Raises
    ------
    ArgumentError
        If the gradients or the state do not fit the parameters.
    """
    kernel = nesterov_kernel if nesterov else momentum_kernel
    trees = (params, grads, _state(state, MomentumState).velocity)
    params, velocity = _stepped(kernel, (rate, beta), in_place, trees)
    return params, MomentumState(velocity)


def adam_init(params: Any) -> AdamState:
    """The state before the first step of `adam`: no steps, means of 0."""
    return AdamState(0, _zeros("params", params), _zeros("params", params))


def adam(
    params: Any,
    grads: Any,
    state: AdamState,
    rate: float = 1e-3,
    beta1: float = 0.9,
    beta2: float = 0.999,
    epsilon: float = 1e-8,
    in_place: bool = False,
) -> tuple[Any, AdamState]:
    """Adam (Kingma and Ba, 2015), with its bias correction.

    With m and v the running means of g and g * g, divided by ``1 - beta1**t`` and ``1 - beta2**t``
    in step t, counted from 1, the step is ``p - rate * m / (sqrt(v) + epsilon)``.

    Returns
    -------
    The new parameters and the new state.

    Raises
    ------
    ArgumentError
        If the gradients or the state do not fit the parameters.
    """
    step = _state(state, AdamState).step + 1
    constants = adam_constants(step, rate, beta1, beta2, epsilon)
    trees = (params, grads, state.mean, state.square)
    params, mean, square = _stepped(adam_kernel, constants, in_place, trees)
    return params, AdamState(step, mean, square)


# The formulas. Numba compiles the same functions, for elements; all numbers are of one dtype.


def sgd_kernel(p: Any, g: Any, rate: Any) -> tuple[Any]:
    """One step of `sgd`."""
    return (p - rate * g,)


def momentum_kernel(p: Any, g: Any, v: Any, rate: Any, beta: Any) -> tuple[Any, Any]:
    """One step of `momentum`."""
    v = beta * v + g
    return p - rate * v, v


def nesterov_kernel(p: Any, g: Any, v: Any, rate: Any, beta: Any) -> tuple[Any, Any]:
    """One step of `momentum` that looks ahead."""
    v = beta * v + g
    return p - rate * (g + beta * v), v


def adam_constants(step: int, rate: float, beta1: float, beta2: float, epsilon: float) -> Any:
    """The numbers of `adam_kernel` in this step, with the bias corrections in them."""
    unbiased1 = 1.0 - math.pow(beta1, float(step))
    unbiased2 = 1.0 - math.pow(beta2, float(step))
    return rate / unbiased1, beta1, 1.0 - beta1, 1.0 / unbiased2, beta2, 1.0 - beta2, epsilon


def adam_kernel(
    p: Any, g: Any, m: Any, v: Any,
    rate: Any, beta1: Any, rest1: Any, unbiased2: Any, beta2: Any, rest2: Any, epsilon: Any,
) -> tuple[Any, Any, Any]:  # fmt: skip
    """One step of `adam`; `rate` and `unbiased2` make up for means that started at 0."""
    m = beta1 * m + rest1 * g
    v = beta2 * v + rest2 * (g * g)
    return p - rate * m / (np.sqrt(v * unbiased2) + epsilon), m, v


Kernel = Callable[..., tuple[Any, ...]]


def _stepped(
    kernel: Kernel, constants: Sequence[float], in_place: bool, trees: Sequence[Any],
    shown: str = "params",
) -> tuple[Any, ...]:  # fmt: skip
    """New trees of the parameters and of each moment; `trees` has the gradients second."""
    if in_place and shown == "params":
        _require_apart(trees)
    params, grads, *moments = trees
    if grads is None:
        return (params, *moments)
    apart = _apart(shown, params)
    if apart is None:
        return _leaf(kernel, constants, in_place, trees, shown)
    kind, keys, items = apart
    given = [_items(shown, kind, keys, tree) for tree in trees[1:]]
    rows = [
        _stepped(kernel, constants, in_place, row, reached(shown, kind, key))
        for key, *row in zip(keys, items, *given, strict=True)
    ]
    columns = zip(*rows, strict=True) if rows else [()] * (1 + len(moments))
    return tuple([_container(kind, keys, list(column)) for column in columns])


def _require_apart(trees: Sequence[Any]) -> None:
    """Refuse to write to what another parameter has for its gradient or state.

    Leaves are updated one after the other: the later one would see what was written. An array that
    stands twice among the parameters gets both steps.
    """
    leaves: list[list[np.ndarray]] = []  # of each parameter: itself, its moments, its gradient

    def collect(params: Any, grads: Any, *moments: Any) -> None:
        apart = None if grads is None else _apart("params", params)
        if apart is not None:
            kind, keys, items = apart
            others = [_items("params", kind, keys, tree) for tree in (grads, *moments)]
            for row in zip(items, *others, strict=True):
                collect(*row)
        elif isinstance(params, np.ndarray) and grads is not None:
            leaves.append([x for x in (params, *moments, grads) if isinstance(x, np.ndarray)])

    collect(*trees)
    if len(leaves) < 2:
        return
    count = len(trees)
    if all(x.base is None and x.flags.owndata for leaf in leaves for x in leaf):
        own = [set(map(id, leaf)) for leaf in leaves]
        if len(set[int]().union(*own)) == sum(map(len, own)):
            return
    for k, leaf in enumerate(leaves):
        for one, x in enumerate(leaf[: count - 1]):
            later = [y for rest in leaves[k + 1 :] for y in rest[0 if one else 1 :]]
            if any(_share(x, y) for y in later):
                raise _misfit("an array of `params` or its state is written to, and shares memory "
                              "with the gradient or the state of another parameter")  # fmt: skip


def _share(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays have elements in common; if that is hard to tell, they do."""
    if not np.may_share_memory(one, other):
        return False
    try:
        return bool(np.shares_memory(one, other, max_work=1000))  # type: ignore[arg-type]
    except np.exceptions.TooHardError:
        return True


def _apart(shown: str, tree: Any) -> tuple[type, tuple[Any, ...], list[Any]] | None:
    """The class, the keys and the items of a container; None for an array or a number."""
    if type(tree) is np.ndarray:
        return None
    apart = taken_apart(shown, tree)
    if apart is None and isinstance(tree, tuple):  # of ints, say, which the compiler takes whole
        return type(tree), getattr(tree, "_fields", tuple(range(len(tree)))), list(tree)
    return apart


def _leaf(
    kernel: Kernel, constants: Sequence[float], in_place: bool, given: Any, shown: str
) -> tuple[Any, ...]:
    """One step of an array or a number."""
    p, g, *moments = given
    _check_leaf(shown, p, g, moments)
    if not isinstance(p, np.ndarray):
        kind: Any = type(p) if isinstance(p, np.floating) else float
        return tuple([kind(new) for new in kernel(*map(kind, (*given, *constants)))])
    same = p.dtype.type
    g = np.asarray(g, dtype=p.dtype)
    news = kernel(p, g, *moments, *map(same, constants))
    if not in_place:
        return tuple([np.asarray(new) for new in news])  # of rank 0 they are no arrays
    targets = (p, *moments)
    for k, one in enumerate(targets):
        if any(np.may_share_memory(one, other) for other in targets[:k]):
            raise _misfit(f"`{shown}` and its state share memory, and are to be written to")
    for target, new in zip(targets, news, strict=True):
        target[...] = new
    return targets


def _check_leaf(shown: str, p: Any, g: Any, moments: list[Any]) -> None:
    """That this is a parameter with a gradient and moments of its own kind."""
    shape = p.shape if isinstance(p, np.ndarray) else None
    floats = _is_number(p) if shape is None else p.dtype.kind == "f"
    if not floats:
        raise _misfit(f"`{shown}` has a gradient, but is no float and no float array")
    fits = g.shape == (shape or ()) if isinstance(g, np.ndarray) else _is_number(g) and not shape
    if not fits:
        raise _misfit(f"the gradient of `{shown}` is {_words(g)}, `{shown}` is {_words(p)}")
    for moment in moments:
        alike = isinstance(moment, np.ndarray) and (moment.dtype, moment.shape) == (p.dtype, shape)
        if not (_is_number(moment) if shape is None else alike):
            raise _misfit(f"the state of `{shown}` is {_words(moment)}, `{shown}` is {_words(p)}")


def _is_number(value: Any) -> bool:
    return isinstance(value, float | int | np.floating | np.integer) and type(value) is not bool


def _words(value: Any) -> str:
    """What a message says of a value."""
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    return "a number" if _is_number(value) else f"a {type(value).__name__}"


def _items(shown: str, kind: type, keys: tuple[Any, ...], tree: Any) -> list[Any]:
    """What gradients or a state hold for the keys of a container of parameters."""
    if issubclass(kind, tuple | list):
        names = getattr(kind, "_fields", None), getattr(tree, "_fields", None)
        alike = None in names or names[0] == names[1]
        if isinstance(tree, tuple | list) and len(tree) == len(keys) and alike:
            return list(tree)
    elif kind is dict:
        if isinstance(tree, dict) and tree.keys() == set(keys):
            return [tree[key] for key in keys]
    elif type(tree) is kind:
        return [getattr(tree, key) for key in keys]
    raise _misfit(f"`{shown}` has other parts than its gradient or its state")


def _container(kind: type, keys: tuple[Any, ...], items: list[Any]) -> Any:
    """A container of parameters."""
    made = container(Node(kind, keys, (), ()), items)
    return constructor(made.kind)(made.fields) if type(made) is Record else made


def _zeros(shown: str, params: Any) -> Any:
    """Zeros in the structure of `params`, None for what cannot have a gradient."""
    apart = _apart(shown, params)
    if apart is not None:
        kind, keys, items = apart
        inside = [_zeros(reached(shown, kind, k), i) for k, i in zip(keys, items, strict=True)]
        return _container(kind, keys, inside)
    if isinstance(params, np.ndarray):
        return np.zeros_like(params) if params.dtype.kind == "f" else None
    if not _is_number(params):
        return None
    return type(params)(0) if isinstance(params, np.floating) else 0.0


def _state(state: Any, kind: type) -> Any:
    if type(state) is kind:
        return state
    name = kind.__name__.removesuffix("State").lower()
    raise _misfit(f"the state is a {type(state).__name__}", f"optim.{name}_init(params) makes one")


def _misfit(message: str, help: str | None = None) -> FlatgradError:
    return error(
        "bad-update", message,
        help=help or "pass gradients by these parameters, and a state made for them",
    )  # fmt: skip
