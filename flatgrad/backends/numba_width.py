"""Loops over the lanes of a strip, and float32 sums, use the widest vectors that a processor has.

    define i32 @over_strips(...)    ->    define i32 @over_strips(...) "prefer-vector-width"="512"

For Intel's processors LLVM stays at 256 bits, half of what they have, because the first of them
that had 512 ran slower for a while after each such instruction. Those since Ice Lake hardly do.

A loop that adds up float32 in float64 makes as many trips at a time as a vector has of the larger:
with 256 bits that is four, no more than in float64.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import llvmlite.binding
from numba import config, types

SLOWED = {"skylake-avx512", "cascadelake", "cooperlake", "cannonlake"}
"""Processors that are slowed down by wide vectors."""

WIDE = '"prefer-vector-width"="512"'


def use_wide_vectors(function: Any) -> None:
    """Let LLVM use all bits in a function that is being written; a no-op for who has fewer."""
    named = config.CPU_NAME  # type: ignore[attr-defined]
    if (named or llvmlite.binding.get_host_cpu_name()) not in SLOWED:
        set.add(function.attributes, WIDE)  # llvmlite knows attributes without a value only


def widens_singles(calls: Iterable[Any]) -> bool:
    """Whether one of the calls of a function, by signature, makes a float32 a float64."""
    return any(
        call is not None and call.args == (types.float32,) and call.return_type == types.float64
        for call in calls
    )
