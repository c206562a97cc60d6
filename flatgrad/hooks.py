"""Where a function says something about its own derivative.

    x + stop_gradient(y)                       # y counts as a constant

    with adjoint(h) as g:                      # runs when the backward sweep has the adjoint of h
        g = np.clip(g, -1.0, 1.0)

    @custom_vjp                                # its gradient is what `backward` says
    def f(x): ...
    f.defvjp(forward, backward)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import update_wrapper
from typing import Any

import numpy as np

from flatgrad.errors import error


def stop_gradient(x: Any) -> Any:
    """`x` itself, which every derivative takes for a constant.

    Parameters
    ----------
    x
        A number, an array of any shape, or a tuple, list or dict of these.

    Returns
    -------
    The same object. In both modes its derivative is zero: no adjoint reaches what it was computed
    from, and no code is emitted for one.
    """
    return x


@contextmanager
def adjoint(h: Any) -> Iterator[Any]:
    """Look at the adjoint of a variable on its way back, or change it.

        with adjoint(h) as g:
            g = np.clip(g, -1.0, 1.0)

    Parameters
    ----------
    h
        A variable that holds a float or a float array.

    Yields
    ------
    The adjoint of `h`, of the same shape. The body runs in the backward sweep, where all that is
    computed from `h` after this place has contributed: in a loop, in every trip. What `g` is at the
    end of the body is the adjoint from which the sweep goes on. A body that leaves `g` alone only
    looks: it may `print(g)`, call functions for what they do, or `breakpoint()`.

    The body reads the variables of the function, as they are here, and binds none but `g` and its
    own. Without a backward sweep there is no adjoint: the function itself and forward mode compute
    what they compute without the statement. Python runs the body of a `with` in any case, so where
    the function is called without flatgrad `g` is an array of ones, for nothing.
    """
    yield np.ones_like(h) if isinstance(h, np.ndarray) else type(h)(1)


class custom_vjp:
    """A function whose reverse rule is given by two functions, as in JAX.

        @custom_vjp
        def clipped(x):
            return np.exp(x)

        def forward(x):
            y = np.exp(x)
            return y, (y,)                     # what `backward` needs

        def backward(kept, grad_y):
            (y,) = kept
            return (np.minimum(grad_y * y, 1.0),)

        clipped.defvjp(forward, backward)

    Parameters
    ----------
    function
        A function of numbers and arrays that returns one number or array.
    nondiff_argnums
        Positions of arguments without a gradient. `backward` gets them in front of the others.

    Both functions are compiled like any other code, so the emitted gradient is flat, and a second
    derivative is that of what they do. There is no forward mode.
    """

    def __init__(
        self, function: Callable[..., Any], nondiff_argnums: int | Sequence[int] = ()
    ) -> None:
        if not callable(function):
            raise error("bad-rule", f"custom_vjp of a value of type {type(function).__name__}")
        update_wrapper(self, function)
        self.function = function
        given = (nondiff_argnums,) if isinstance(nondiff_argnums, int) else nondiff_argnums
        self.nondiff_argnums = tuple(given)
        self.forward: Callable[..., Any] | None = None
        self.backward: Callable[..., Any] | None = None

    def defvjp(self, forward: Callable[..., Any], backward: Callable[..., Any]) -> None:
        """Give the rule.

        Parameters
        ----------
        forward
            `forward(*args)` returns the value and what `backward` needs: a number, an array, or a
            tuple, list or dict of these.
        backward
            `backward(kept, grad_y)` returns a tuple with the cotangent of each argument, None for
            one without.

        Raises
        ------
        ArgumentError
            If one of them is no function.
        """
        if not callable(forward) or not callable(backward):
            raise error("bad-rule", "defvjp takes two functions: forward, backward")
        self.forward, self.backward = forward, backward

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The function itself."""
        return self.function(*args, **kwargs)


__all__ = ["adjoint", "custom_vjp", "stop_gradient"]
