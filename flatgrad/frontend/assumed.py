"""Lengths of carried arrays that a second trip of a loop needs to be equal.

    h = np.zeros(Wh.shape[0])
    for t in range(T):
        h = np.tanh(xs[t] @ Wx + h @ Wh)      Wx.shape[1] after a trip; the next one needs it to be
                                              Wh.shape[0] again

Such a variable has one length all the time. That follows from the requirements of the body when it
is lowered with the length that a trip ends with, and these are checked when arguments are seen.
"""

from __future__ import annotations

from collections.abc import Iterable

from flatgrad.frontend.leaves import Leaf
from flatgrad.ir.dims import Size, opaque
from flatgrad.ir.ops import Requirement
from flatgrad.ir.types import Array, Type


def assume_lengths(leaf: Leaf, end: Type) -> bool:
    """Try the lengths that a trip ended with as those on entry; False where that was tried."""
    kind = leaf.type
    if not isinstance(kind, Array) or not isinstance(end, Array):
        return False
    if (kind.dtype, kind.ndim) != (end.dtype, end.ndim) or leaf.assumed:
        return False
    pairs = [pair for pair in zip(kind.shape, end.shape, strict=True) if pair[0] != pair[1]]
    known = all(1 not in pair and not any(map(opaque, pair)) for pair in pairs)
    if not pairs or not known or leaf.widened:
        return False
    leaf.assumed = pairs
    leaf.type = end
    return True


def lengths_follow(leaf: Leaf, requirements: Iterable[Requirement]) -> bool:
    """Whether the lengths that were assumed to be equal must be, or a trip fails."""
    groups: dict[Size, Size] = {}

    def head(size: Size) -> Size:
        while size in groups:
            size = groups[size]
        return size

    for requirement in requirements:
        one, other = head(requirement.left), head(requirement.right)
        if one != other:
            groups[one] = other
    return all(head(one) == head(other) for one, other in leaf.assumed)
