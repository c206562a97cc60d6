"""How many steps of a loop keep a tape that stays in the cache, and how many samples do.

    segment_size(1000, 8000, 16000)      # 65 steps, of 8,000 bytes each
    segment_size(100, 800, 1600)         # 100: one segment, as the whole tape is small
    block_size(1000, 6400)               # 250 samples, for each of which arrays have 6,400 bytes
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


def block_size(samples: int, row: int) -> int:
    """The samples of a block, if an array has `row` bytes for each of them: equal blocks.

    At least 256 where there are so many: below, calls cost more than what stays in the cache saves.
    """
    most = max(256, 1572864 // max(row, 1))
    blocks = max(1, (samples + most - 1) // most)
    return int(max(1, (samples + blocks - 1) // blocks))


@primitive(
    block_size, derivative=False, helper=True,
    samples=lambda: [call(I(1000), I(6400)), call(I(0), I(8)), call(I(300), I(1600000))],
)  # fmt: skip
def _(samples, row, /):
    return Scalar("int64", weak=True)
