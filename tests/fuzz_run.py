"""Runs random programs, counts what happens, and shrinks those that fail.

    python -m tests.fuzz_run 0 10000         # the programs of these seeds; prints as it goes
    NUMBA_DISABLE_JIT=1 python -m ...        # Numba's text as plain Python: a hundred times faster
"""

from __future__ import annotations

import ast
import collections
import sys
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from flatgrad.errors import FlatgradError
from tests.fuzz_checks import REFUSED_BY_NUMBA, Failure, Guarded, Kink, check
from tests.fuzz_programs import Program, generate

REFUSALS = 0.2
"""The share of programs that may be refused."""


@dataclass
class Tally:
    """How many programs passed, were refused (by code), or failed (with their reports)."""

    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    refused: collections.Counter[str] = field(default_factory=collections.Counter)
    failed: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        refused = ", ".join(f"{code}: {count}" for code, count in self.refused.most_common())
        return f"{dict(self.counts)}; refused {refused}; left out by Numba {len(REFUSED_BY_NUMBA)}"

    @property
    def share_refused(self) -> float:
        """The share of programs that the compiler refused."""
        return self.counts["refused"] / max(1, self.counts.total())


def outcome(program: Program) -> tuple[str, str]:
    """What happens to a program: "ok", or "refused", "kink" or "failed" with the kind of it."""
    try:
        check(program)
    except FlatgradError as caught:
        about_us = caught.code == "internal" or "`grad_" in str(caught)
        return ("failed" if about_us else "refused"), caught.code
    except Guarded:
        return "refused", "when run"
    except Kink:
        return "kink", ""
    except Failure as caught:
        return "failed", caught.kind
    except Exception as caught:
        return "failed", type(caught).__name__
    return "ok", ""


def run(seeds: Iterable[int]) -> Tally:
    """Check the programs of some seeds."""
    tally = Tally()
    for number, seed in enumerate(seeds):
        program = generate(seed)
        found, kind = outcome(program)
        tally.counts[found] += 1
        if found == "refused":
            tally.refused[kind] += 1
        if found == "failed":
            tally.failed.append(report(program))
            print(tally.failed[-1], flush=True)
        if number % 500 == 499:
            print(f"seed {seed}: {tally}", flush=True)
    return tally


def report(program: Program) -> str:
    """The smallest program that fails in the same way, its arguments, and what is wrong."""
    expected = outcome(program)
    small = shrunk(program, lambda candidate: runs(candidate) and outcome(candidate) == expected)
    try:
        check(small)
        message = "no failure after shrinking"
    except Exception:
        message = traceback.format_exc(limit=-3)
    return f"seed {program.seed}\n{small.body}\n{small.given}\n{message}"


def runs(program: Program) -> bool:
    """Whether the function itself works."""
    try:
        with np.errstate(all="ignore"):
            program.function()(**program.arguments())
    except Exception:
        return False
    return True


def shrunk(program: Program, failing: Callable[[Program], bool]) -> Program:
    """A smaller program that still fails."""
    changed = True
    while changed:
        changed = False
        for candidate in candidates(program):
            if failing(candidate):
                program, changed = candidate, True
                break
    return program


def candidates(program: Program) -> Iterator[Program]:
    """Programs with a statement less, a parameter less, or a smaller expression."""
    parts = program.statements
    for k in reversed(range(len(parts))):
        yield program.with_(statements=parts[:k] + parts[k + 1 :])
        pieces = [ast.unparse(node) for node in ast.parse(parts[k]).body]
        if len(pieces) > 1 and "np.empty" not in parts[k]:
            yield program.with_(statements=[*parts[:k], *pieces, *parts[k + 1 :]])
    for name in program.given:
        if len(program.given) > 1:
            yield program.with_(given={n: v for n, v in program.given.items() if n != name})
    for text in simpler(program.result):
        yield program.with_(result=text)
    for k, part in enumerate(parts):
        for text in () if "np.empty" in part else simpler(part):
            yield program.with_(statements=[*parts[:k], text, *parts[k + 1 :]])


def simpler(text: str) -> Iterator[str]:
    """The text with one expression replaced by a part of it."""
    count = sum(isinstance(node, ast.expr) for node in ast.walk(ast.parse(text)))
    for number in range(count):
        tree = ast.parse(text)
        nodes = [node for node in ast.walk(tree) if isinstance(node, ast.expr)]
        node = nodes[number]
        for part in [p for p in ast.iter_child_nodes(node) if isinstance(p, ast.expr)]:
            if isinstance(part, ast.Attribute) and isinstance(part.value, ast.Name):
                if part.value.id in ("np", "fg"):
                    continue
            yield ast.unparse(_Replace(node, part).visit(ast.parse(text) and tree))
            tree = ast.parse(text)
            node = [n for n in ast.walk(tree) if isinstance(n, ast.expr)][number]


class _Replace(ast.NodeTransformer):
    """Puts one node in the place of another."""

    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self.old, self.new = old, new

    def visit(self, node: ast.AST) -> ast.AST:
        return self.new if node is self.old else self.generic_visit(node)


def main(first: int, last: int) -> int:
    """The programs of a range of seeds; 1 if any failed, or too many were refused."""
    warnings.simplefilter("ignore")
    tally = run(range(first, last))
    print(tally)
    return int(bool(tally.failed) or tally.share_refused > REFUSALS)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]), int(sys.argv[2])))
