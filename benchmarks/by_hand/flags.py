"""How the references are compiled, and the vector functions that they call.

`strict` keeps the order of all additions; `loop` may sum in any order, as a loop that ends in a
sum must to be vectorised. `math` functions are inlined, with flags of their own.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

from flatgrad.vector_math import numba_name, numba_sources

strict = numba.njit(error_model="numpy", fastmath={"contract", "nsz"})
inlined = numba.njit(error_model="numpy", fastmath={"contract", "nsz"}, forceinline=True)
summing = numba.njit(
    error_model="numpy", fastmath={"contract", "nsz", "reassoc", "arcp"}, forceinline=True
)
loop = numba.njit(error_model="numpy", fastmath={"contract", "nsz", "reassoc", "arcp"})

_space: dict[str, Any] = {"np": np, "math": math}


def vector_function(name: str, dtype: str = "float64") -> Any:
    """A function of `flatgrad.vector_math`, compiled to be inlined."""
    for each, text in numba_sources(name, dtype).items():
        if each not in _space:
            exec(text, _space)
            _space[each] = inlined(_space[each]) if text.startswith("def ") else _space[each]
    return _space[numba_name(name, dtype)]


exp = vector_function("exp")
log = vector_function("log")
log1p = vector_function("log1p")
tanh = vector_function("tanh")
exp_f32 = vector_function("exp", "float32")
log_f32 = vector_function("log", "float32")
log1p_f32 = vector_function("log1p", "float32")
