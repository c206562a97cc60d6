"""How many steps of a loop keep a tape that stays in the cache.

    segment_size(1000, 8000, 16000)      # 65 steps, of 8,000 bytes each
    segment_size(100, 800, 1600)         # 100: one segment, as the whole tape is small
"""

from __future__ import annotations

from flatgrad.ir.types import Scalar
from flatgrad.primitives.registry import call, primitive
from flatgrad.primitives.samples import I


def segment_size(steps: int, row: int, state: int) -> int:
    """The steps after which the states of the loop, of `state` bytes, are kept once.

    All, where they keep little, or where so few fit that the states would be much of the tape.
    """
    size = 524288 // max(row, 1)
    if steps * row <= 6291456 or size < 32 or size * row < 4 * state:
        return int(max(steps, 1))
    return int(size)


@primitive(
    segment_size, derivative=False, helper=True,
    samples=lambda: [call(I(1000), I(8000), I(16000)), call(I(0), I(8000), I(8000))],
)  # fmt: skip
def _(steps, row, state, /):
    return Scalar("int64", weak=True)
