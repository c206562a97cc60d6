"""How the other packages compute a value and its gradient, each at its best.

jax(function, args, positions, mode)        compiled, arguments on the device, results waited for
torch(function, args, positions, mode)      eager, one thread
autograd(function, args, positions, mode)

The names are those of the packages. A function that is a derivative already has the mode "derived".
Ints are sizes and stay Python ints.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

Call = Callable[[], Any]


def jax(function: Any, args: tuple[Any, ...], positions: tuple[int, ...], mode: str) -> Call:
    """By `jax.jit`; ints are static."""
    import jax as package
    import jax.numpy as jnp

    package.config.update("jax_enable_x64", True)
    static = tuple(k for k, x in enumerate(args) if type(x) is int)
    where = positions if len(positions) > 1 else positions[0]
    if mode != "derived":
        derive = package.jacfwd if mode == "jacobian" else package.value_and_grad
        function = derive(function, where)
    compiled = package.jit(function, static_argnums=static)
    placed = [x if k in static else jnp.asarray(x) for k, x in enumerate(args)]
    return lambda: package.block_until_ready(compiled(*placed))


def torch(function: Any, args: tuple[Any, ...], positions: tuple[int, ...], mode: str) -> Call:
    """By `torch.autograd.grad`, or `torch.func.jacfwd`."""
    import torch as package

    package.set_num_threads(1)
    placed = [x if type(x) is int else package.as_tensor(np.array(x)) for x in args]
    where = positions if len(positions) > 1 else positions[0]
    if mode == "jacobian":
        derive = package.func.jacfwd(function, where)
        return lambda: derive(*placed)
    for k in positions:
        placed[k].requires_grad_(True)
    inputs = [placed[k] for k in positions]

    def call() -> Any:
        value = function(*placed)
        grads = package.autograd.grad(value, inputs)
        return value.detach(), grads if len(grads) > 1 else grads[0]

    return call


def autograd(function: Any, args: tuple[Any, ...], positions: tuple[int, ...], mode: str) -> Call:
    """By `autograd.value_and_grad`, or `autograd.jacobian`."""
    import autograd as package

    where = positions if len(positions) > 1 else positions[0]
    derive = package.jacobian if mode == "jacobian" else package.value_and_grad
    return functools.partial(derive(function, where), *args)
