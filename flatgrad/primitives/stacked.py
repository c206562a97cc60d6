"""Products with stacks of tangents, of which most rows are often 0.

    STACK_PRODUCT(a, s)             a @ s or s @ a, a product for each row of the stack
    ADD_PRODUCTS(x, a, s, w)        x with (a @ s) * w added; written x += (a @ s) * w

On Numba the rows of `s` that are 0 are passed over: an input that has no part in a value adds
nothing to its tangent, not even where `a` is infinite. They appear when Jacobians are finished, and
have no derivatives: who asks for one is refused.
"""

from __future__ import annotations

import inspect
from typing import Any

from flatgrad.primitives.linalg import matmul_type
from flatgrad.primitives.registry import Param, Primitive


def STACK_PRODUCT(a: Any, b: Any) -> Any:
    """A matrix times each matrix of a stack, or each of a stack times a matrix."""
    return a @ b


def ADD_PRODUCTS(x: Any, a: Any, b: Any, w: Any) -> Any:
    """A stack with such products, times numbers for each row of `a`, added."""
    return x + (a @ b) * w


def _made(function: Any, name: str, names: str, **facts: Any) -> Primitive:
    params = tuple([
        Param(one, positional=True, operand=True, dynamic=False, default=inspect.Parameter.empty)
        for one in names
    ])  # fmt: skip
    return Primitive(
        name=name, function=function, text=name, type_rule=matmul_type, params=params, **facts
    )


STACK_PRODUCT_OP = _made(STACK_PRODUCT, "stack_product", "ab", operator="@")
ADD_PRODUCTS_OP = _made(ADD_PRODUCTS, "add_products", "xabw", in_place="x")
