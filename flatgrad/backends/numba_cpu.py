"""Generated Numba modules: compiled lazily, their machine code cached on disk.

    module = load("f_grad", text)      # the text carries its own @numba.njit(cache=True) decorators
    module.f_grad(x)                   # compiled now, or loaded from the folder of generated code
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numba

from flatgrad.backends import python

TUNED = {"0.68"}
"""Releases of Numba whose passes numba_compiler.py was made and tested for: it uses what is not
public. With others, Numba's own passes compile, which takes longer."""

NONE: Mapping[Any, Any] = {}

RELEASE = ".".join(numba.__version__.split(".")[:2])

# A transposed operand of `@` is slower than a contiguous one; the user can do nothing about it.
warnings.filterwarnings("ignore", category=numba.NumbaPerformanceWarning, message=".*contiguous.*")


def load(
    name: str,
    text: str,
    free: Mapping[str, bool] = NONE,
    loops: Mapping[int, int] = NONE,
    *,
    own: int = 0,
    keeps_memory: str = "",
) -> ModuleType:
    """Execute a module of jitted functions; where no cache can be had they compile in memory.

    `free` are functions whose innermost loops may make their trips in any order; true for those
    that are called in loops, so that theirs are presumably short. `loops` are the first and last
    lines of other such loops, in which no index is out of bounds. The first `own` lines are
    functions of flatgrad's, which other modules have, too. A module that `keeps_memory`, of
    "all" arrays or of "modest" ones, has that of its temporaries for the next call
    (numba_workspace.py).
    """
    try:
        module = python.load(name, text)
    except RuntimeError as caught:
        if "cannot cache" not in str(caught):
            raise
        module = python.load(name, text.replace("cache=True, ", ""))
    if RELEASE in TUNED:
        from flatgrad.backends.numba_parts import tune

        tune(module, text, name, free, loops, own=own, keeps_memory=keeps_memory)
    return module
