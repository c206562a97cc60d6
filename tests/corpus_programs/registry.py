"""The table of the corpus: functions with the arguments that they are called with.

    @example(0.7, 5)
    def power_sum(x, n): ...

    EXAMPLES["power_sum"].function, .arguments        # fresh copies each time
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

RNG = np.random.default_rng(20)


@dataclass(frozen=True)
class Example:
    """A function and its arguments; `second`: it is differentiated twice as well.

    `writes`: it writes to one of several arrays; inside a function its gradient is refused then.
    """

    function: Callable[..., Any]
    given: tuple[Any, ...]
    second: bool = True
    writes: bool = False

    @property
    def arguments(self) -> tuple[Any, ...]:
        """Copies of the arguments."""
        return copy.deepcopy(self.given)

    @property
    def wrt(self) -> tuple[int, ...]:
        """The positions of the float arguments."""
        return tuple(k for k, value in enumerate(self.given) if is_float(value))


EXAMPLES: dict[str, Example] = {}


def example(*given: Any, second: bool = True, writes: bool = False) -> Callable[[Any], Any]:
    """Put a function into the table."""

    def register(function: Any) -> Any:
        name = function.__name__
        assert name not in EXAMPLES, f"two functions are called {name}"
        EXAMPLES[name] = Example(function, given, second, writes)
        return function

    return register


def is_float(value: Any) -> bool:
    """Whether a derivative by this argument is asked for."""
    if isinstance(value, np.ndarray):
        return value.dtype.kind == "f"
    return isinstance(value, float)


def normal(*shape: int) -> np.ndarray:
    """Random numbers around 0."""
    return RNG.normal(size=shape)


def positive(*shape: int) -> np.ndarray:
    """Random numbers between 0.5 and 1.5."""
    return RNG.uniform(0.5, 1.5, size=shape)
