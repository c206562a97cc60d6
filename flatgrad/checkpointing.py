"""Trading time for memory: what is computed again in the backward sweep instead of being kept.

    for i in flatgrad.checkpoint(range(n)):                  # about 2 sqrt(n) states are kept
        u = step(u)
    for i in flatgrad.checkpoint(range(n), snapshots=10):    # 10 states are kept
        u = step(u)

    @flatgrad.checkpoint
    def block(x, w):                     # of all that `block` computes, its gradient keeps x and w
        h = np.tanh(x @ w)
        return np.sin(h) * np.exp(-h)

Outside of a differentiated function nothing changes: the loop runs over the range, `block(x, w)` is
that call.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from flatgrad.errors import error


def checkpoint(what: Any, *, snapshots: int | None = None) -> Any:
    """Mark a loop or a function: its gradient keeps little and runs parts of it again.

    Parameters
    ----------
    what
        The `range` of a `for` loop, or a Python function of arrays and numbers.
    snapshots
        Of a loop: how many of its states are kept, an int of at least 1; which ones, and when they
        are replaced, is the binomial schedule that repeats the fewest trips. By default the loop is
        cut into about sqrt(n) segments, of which each is run a second time.

    Returns
    -------
    The range itself, or a function that computes the same. Called in a function that is
    differentiated, its intermediate values live only while its own backward sweep runs.

    Raises
    ------
    UnsupportedError
        If `what` is neither, or `snapshots` is no positive int.

    References
    ----------
    A. Griewank, A. Walther: Algorithm 799: revolve. ACM Transactions on Mathematical Software 26
    (2000), 19-45.
    """
    if isinstance(what, range):
        if snapshots is not None and (isinstance(snapshots, bool) or int(snapshots) < 1):
            raise error("bad-checkpoint", f"`snapshots` is {snapshots!r}: keep at least one")
        return what
    if not callable(what) or snapshots is not None:
        raise error(
            "bad-checkpoint", f"checkpoint of a value of type {type(what).__name__}",
            help="write `for i in checkpoint(range(n)):`, or `checkpoint(f)(x)`",
        )  # fmt: skip
    function: Callable[..., Any] = what

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
