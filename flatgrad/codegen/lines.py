"""Lines of emitted code, and what is done with groups of them.

    else:                          elif c:
        if c: ...          ->          ...
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from flatgrad.ir.ops import Origin

WITHIN = {"tangent": "forward", "derived": "forward", "tape": "forward", "early": "forward"}
"""Operations whose lines stand between those of a sweep."""


def sweep_heading(sweep: str) -> str:
    """The sweep under whose heading a line stands: `backward` for a `backward tangent`."""
    return WITHIN.get(sweep) or sweep.removesuffix(" tangent")


@dataclass(frozen=True, slots=True)
class Line:
    """One line of emitted code, without indentation, and where it comes from.

    `free`: the head of a loop whose trips do not depend on each other and whose indices are right.
    """

    text: str
    origin: Origin | None = None
    depth: int = 1
    free: bool = False


def as_elif(lines: list[Line]) -> list[Line] | None:
    """The lines of an `else:` that hold a single `if`, as lines of an `elif`."""
    if not lines or not lines[0].text.startswith("if "):
        return None
    depth = lines[0].depth
    same_level = [line.text for line in lines[1:] if line.depth == depth]
    if any(not text.startswith(("elif ", "else:")) for text in same_level):
        return None
    first = replace(lines[0], text=f"el{lines[0].text}")
    return [replace(line, depth=line.depth - 1) for line in (first, *lines[1:])]
