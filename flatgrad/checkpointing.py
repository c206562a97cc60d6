"""Loops whose gradient keeps few values and computes the others again.

    for i in flatgrad.checkpoint(range(n)):                  # about 2 sqrt(n) states are kept
        u = step(u)
    for i in flatgrad.checkpoint(range(n), snapshots=10):    # 10 states are kept
        u = step(u)
"""

from __future__ import annotations

from typing import Any

from flatgrad.errors import error


def checkpoint(what: Any, *, snapshots: int | None = None) -> Any:
    """Mark a loop: its gradient stores less, and runs parts of the loop again.

    Parameters
    ----------
    what
        The `range` of a `for` loop. Outside of differentiated code the loop is an ordinary one.
    snapshots
        How many states of the loop are kept, an int of at least 1; which ones, and when they are
        replaced, is the binomial schedule that repeats the fewest trips. By default the loop is cut
        into about sqrt(n) segments, of which each is run a second time.

    Returns
    -------
    range
        The range itself.

    Raises
    ------
    ArgumentError
        If `what` is no range, or `snapshots` is no positive int.

    References
    ----------
    A. Griewank, A. Walther: Algorithm 799: revolve. ACM Transactions on Mathematical Software 26
    (2000), 19-45.
    """
    if not isinstance(what, range):
        kind = type(what).__name__
        raise error("bad-checkpoint", f"`checkpoint` takes a range, not a value of type {kind}")
    if snapshots is not None and (type(snapshots) is bool or int(snapshots) < 1):
        raise error("bad-checkpoint", f"`snapshots` is {snapshots!r}: keep at least one")
    return what


def is_checkpoint(callee: Any) -> bool:
    """Whether a function is `checkpoint`."""
    return callee is checkpoint


__all__ = ["checkpoint"]
