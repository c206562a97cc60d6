"""Contributions made to fit the operand whose adjoint they join: its shape, its dtype.

    y = x + b    x (n, m), b (m,)        grad_b = np.sum(grad_y, axis=0)
"""

from __future__ import annotations

from typing import Any

import numpy as np

from flatgrad.ir.builder import Builder
from flatgrad.ir.types import Scalar, Type
from flatgrad.primitives.core import ASTYPE
from flatgrad.primitives.symbolic import Symbol, apply_function, is_number


def times(grad_y: Any, partial: Any) -> Any:
    """`grad_y * partial`, with the trivial cases written plainly."""
    if partial is None:
        return None
    if is_number(partial) and not isinstance(partial, bool | np.bool_):
        if partial == 1:
            return grad_y
        if partial == -1:
            return -grad_y
        if partial == 0:
            return None
    return grad_y * partial


def unbroadcast(contribution: Any, target: Type) -> Any:
    """Sum over the axes along which an operand of type `target` was repeated."""
    if not isinstance(contribution, Symbol):
        return contribution
    lead = contribution.ndim - target.ndim
    if lead < 0:
        return contribution
    if contribution.ndim and target.ndim == 0:
        return np.sum(contribution)
    if lead:
        contribution = np.sum(contribution, axis=_axis(tuple(range(lead))))
    ones = tuple(
        k
        for k, (mine, wanted) in enumerate(zip(contribution.type.shape, target.shape, strict=True))
        if wanted == 1 and mine != 1
    )
    return np.sum(contribution, axis=_axis(ones), keepdims=True) if ones else contribution


def _axis(axes: tuple[int, ...]) -> int | tuple[int, ...]:
    return axes[0] if len(axes) == 1 else axes


def cast(contribution: Any, target: Type, builder: Builder) -> Any:
    """Give a contribution the dtype of the value whose adjoint it joins."""
    if not isinstance(contribution, Symbol) or contribution.type.dtype == target.dtype:
        return contribution
    if isinstance(target, Scalar) and target.weak:
        return apply_function(float, (contribution,), {}, builder)
    if contribution.type.weak and target.ndim == 0:
        return contribution
    return apply_function(ASTYPE, (contribution, np.dtype(target.dtype).type), {}, builder)
