"""How a derivative is compiled: the options that every function of the public interface takes.

    grad(f, backend="numba", fuse=False)      ->      Options(backend="numba", fuse=False)
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TypedDict

from flatgrad.errors import error

BACKENDS = ("numpy", "numba")


class Choices(TypedDict, total=False):
    """The options as keywords."""

    backend: str
    fuse: bool
    precise: bool
    deterministic: bool
    parallel: bool


@dataclass(frozen=True, slots=True)
class Options:
    """What was chosen. All but `backend` are about Numba alone.

    fuse            array statements become loops over elements
    precise         elementary functions in these loops are those of the C library
    deterministic   sums in these loops are taken in the order of the elements
    parallel        large ones of these loops run in several threads
    """

    backend: str = "numpy"
    fuse: bool = True
    precise: bool = False
    deterministic: bool = False
    parallel: bool = False

    @property
    def fused(self) -> bool:
        """Whether there are such loops."""
        return self.fuse and self.backend == "numba"


DEFAULT = Options()


def chosen(choices: Choices) -> Options:
    """The options for these keywords.

    Raises
    ------
    ArgumentError
        If there is no such option or backend, a switch is not a bool, or two exclude each other.
    """
    names = [one.name for one in fields(Options)]
    for name, value in choices.items():
        if name not in names:
            raise error(
                "bad-option", f"unknown option `{name}`", help=f"one of {', '.join(names)}"
            )
        if name == "backend" and value not in BACKENDS:
            raise error(
                "bad-option", f"unknown backend {value!r}", help=f"one of {', '.join(BACKENDS)}"
            )
        if name != "backend" and not isinstance(value, bool):
            raise error("bad-option", f"`{name}` is True or False, not {value!r}")
    found = Options(**choices)
    if found.parallel and found.deterministic:
        raise error(
            "bad-option",
            "`parallel` and `deterministic` exclude each other: sums over ranges that run at the "
            "same time are not taken in the order of the elements",
            help="leave one of them out",
        )
    return found
