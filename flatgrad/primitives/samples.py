"""Descriptions of sample arguments, drawn only when a test asks for them.

    call(A(3, 4), axis=0)              # standard normal values, clear of 0 by a margin
    call(A(5, low=0.1, high=0.9))      # uniform in an interval
    call(I([0, 2, 2]), F(1.5))         # given integers, a given float
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True, init=False)
class A:
    """A float array of some shape, `()` for a number; `distinct` values for max, sort and kin."""

    shape: tuple[int, ...]
    low: float
    high: float
    dtype: str
    distinct: bool

    def __init__(
        self,
        *shape: int,
        low: float = -2.0,
        high: float = 2.0,
        dtype: str = "float64",
        distinct: bool = False,
    ) -> None:
        for key, value in (("shape", shape), ("low", low), ("high", high)):
            object.__setattr__(self, key, value)
        object.__setattr__(self, "dtype", dtype)
        object.__setattr__(self, "distinct", distinct)

    def draw(self, rng: np.random.Generator) -> Any:
        """Values in [low, high], at least a hundredth of the interval away from integers."""
        if self.distinct:
            count = int(np.prod(self.shape, dtype=int))
            flat = self.low + (rng.permutation(count) + 0.3) * (self.high - self.low) / count
            return flat.reshape(self.shape).astype(self.dtype)
        values = rng.uniform(self.low, self.high, self.shape)
        margin = 0.01 * min(1.0, self.high - self.low)
        near = np.abs(values - np.round(values)) < margin
        values = np.where(near, values + 3 * margin, values)
        return values.astype(self.dtype) if self.shape else float(values)


@dataclass(frozen=True, slots=True)
class I:  # noqa: E742
    """Given integers or booleans: data without a gradient."""

    values: Any

    def draw(self, _: np.random.Generator) -> Any:
        """The array."""
        return np.asarray(self.values)


def draw(tree: Any, rng: np.random.Generator) -> Any:
    """The arguments with every description drawn."""
    match tree:
        case A() | I():
            return tree.draw(rng)
        case tuple():
            return tuple(draw(item, rng) for item in tree)
        case list():
            return [draw(item, rng) for item in tree]
        case dict():
            return {key: draw(item, rng) for key, item in tree.items()}
    return tree
