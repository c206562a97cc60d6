"""Loops over the lanes of a strip use the widest vectors that a processor has.

    define i32 @over_strips(...)    ->    define i32 @over_strips(...) "prefer-vector-width"="512"

For Intel's processors LLVM stays at 256 bits, half of what they have, because the first of them
that had 512 ran slower for a while after each such instruction. Those since Ice Lake hardly do.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
from numba import config

SLOWED = {"skylake-avx512", "cascadelake", "cooperlake", "cannonlake"}
"""Processors that are slowed down by wide vectors."""

WIDE = '"prefer-vector-width"="512"'


def use_wide_vectors(function: Any) -> None:
    """Let LLVM use all bits in a function that is being written; a no-op for who has fewer."""
    named = config.CPU_NAME  # type: ignore[attr-defined]
    if (named or llvmlite.binding.get_host_cpu_name()) not in SLOWED:
        set.add(function.attributes, WIDE)  # llvmlite knows attributes without a value only
