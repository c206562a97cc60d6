"""Python's `and`, `or`, `not` on truth values that are known when running.

    AND(a, b)          written `a and b`; both sides are evaluated, so they must cost nothing
    NOT(a)             written `not a`
"""

from __future__ import annotations

from flatgrad.ir.types import Scalar
from flatgrad.primitives.registry import call, primitive
from flatgrad.primitives.samples import I
from flatgrad.primitives.typerules import fail


def AND(a, b):
    """Both hold; written `a and b`."""
    return bool(a) and bool(b)


def OR(a, b):
    """One of the two holds; written `a or b`."""
    return bool(a) or bool(b)


def NOT(a):
    """The opposite; written `not a`."""
    return not a


def _truth(*kinds):
    for kind in kinds:
        if kind.ndim or kind.dtype != "bool":
            raise fail("operand-type", "the truth of something that is no bool")
    return Scalar("bool", weak=True)


def _pairs():
    return [call(I(one), I(other)) for one in (True, False) for other in (True, False)]


@primitive(AND, name="and", text="and", derivative=False, samples=_pairs)
def _(a, b, /):
    return _truth(a, b)


@primitive(OR, name="or", text="or", derivative=False, samples=_pairs)
def _(a, b, /):
    return _truth(a, b)


def _singles():
    return [call(I(True)), call(I(False))]


@primitive(NOT, name="not", text="not", derivative=False, samples=_singles)
def _(a, /):
    return _truth(a)


__all__ = ["AND", "NOT", "OR"]
