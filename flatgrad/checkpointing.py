"""Trading time for memory: what is computed again in the backward sweep instead of being kept.

    @flatgrad.checkpoint
    def block(x, w):                     # of all that `block` computes, its gradient keeps x and w
        h = np.tanh(x @ w)
        return np.sin(h) * np.exp(-h)

Outside of a differentiated function nothing changes: `block(x, w)` is that call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from flatgrad.errors import error


def checkpoint(function: Callable[..., Any]) -> Any:
    """`function`, of which a gradient keeps the arguments only and runs it again backwards.

    Parameters
    ----------
    function
        A Python function, method or lambda of arrays and numbers.

    Returns
    -------
    A function that computes the same. Called in a function that is differentiated, it becomes a
    function of its own in the emitted module, and its intermediate values live only while its own
    backward sweep runs: memory for one more evaluation.

    Raises
    ------
    ArgumentError
        If it is no function.
    """
    if not callable(function):
        raise error(
            "bad-option", f"checkpoint of a value of type {type(function).__name__}",
            help="pass a function: checkpoint(f)(x)",
        )  # fmt: skip

    @wraps(function)
    def checkpointed(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    setattr(checkpointed, MARK, function)
    return checkpointed


MARK = "__flatgrad_checkpoint__"
"""The attribute of a checkpointed function that holds the function itself."""


def inside_checkpoint(function: Any) -> Callable[..., Any] | None:
    """The function that was given to `checkpoint`; None for other functions."""
    found: Callable[..., Any] | None = getattr(function, "__dict__", {}).get(MARK)
    return found


def run_again(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A call of a checkpointed function, as the compiler sees it."""
    return function(*args, **kwargs)


__all__ = ["checkpoint", "inside_checkpoint", "run_again"]
