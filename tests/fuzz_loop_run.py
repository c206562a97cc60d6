"""Runs random programs with loops, counts what happens, and shrinks those that fail.

    NUMBA_DISABLE_JIT=1 python -m tests.fuzz_loop_run 0 20000      # the programs of these seeds

Numba's text runs as plain Python then. Every fourth program is taken through second order, too.
"""

from __future__ import annotations

import ast
import sys
import time
import traceback
import warnings
from collections.abc import Iterable, Iterator

import numpy as np

from flatgrad.errors import FlatgradError
from tests.fuzz_checks import Failure
from tests.fuzz_loop_checks import Wild, check, spaces
from tests.fuzz_loop_tables import HELPERS
from tests.fuzz_loops import LoopProgram, generate
from tests.fuzz_run import Tally

REFUSALS = 0.3
"""The share of programs that may be refused: they alias and rebind more than anybody would."""


def outcome(program: LoopProgram, second: bool) -> tuple[str, str]:
    """What happens to a program: "ok", or "refused", "wild" or "failed" with the kind of it."""
    try:
        check(program, second=second)
    except FlatgradError as caught:
        about_us = caught.code == "internal" or "`grad_" in str(caught)
        return ("failed" if about_us else "refused"), caught.code
    except Wild:
        return "wild", ""
    except Failure as caught:
        return "failed", caught.kind
    except Exception as caught:
        return "failed", type(caught).__name__
    return "ok", ""


def run(seeds: Iterable[int]) -> Tally:
    """Check the programs of some seeds."""
    tally = Tally()
    start = time.perf_counter()
    for number, seed in enumerate(seeds):
        second = seed % 4 == 0
        found, kind = outcome(generate(seed), second)
        tally.counts[found] += 1
        if found == "refused":
            tally.refused[kind] += 1
        if found == "failed":
            tally.failed.append(report(generate(seed), second))
            print(tally.failed[-1], flush=True)
        if number % 200 == 199:
            print(f"seed {seed}, {time.perf_counter() - start:.0f} s: {tally}", flush=True)
    return tally


def report(program: LoopProgram, second: bool) -> str:
    """The smallest program that fails in the same way, its arguments, and what is wrong."""
    expected = outcome(program, second)
    small = shrunk(program, expected, second)
    try:
        check(small, second=second)
        message = "no failure after shrinking"
    except Exception:
        message = traceback.format_exc(limit=-3)
    return f"seed {program.seed}: {expected[1]}\n{small.body}\n{small.sets}\n{message[:4000]}"


def shrunk(program: LoopProgram, expected: tuple[str, str], second: bool) -> LoopProgram:
    """A smaller program that fails in the same way."""
    deadline = time.perf_counter() + 30
    for sets in (program.sets[:1], program.sets[1:2], program.sets[2:]):
        if outcome(program.with_(sets=sets), second) == expected:
            program = program.with_(sets=sets)
            break
    changed = True
    while changed and time.perf_counter() < deadline:
        changed = False
        for candidate in candidates(program):
            if runs(candidate) and outcome(candidate, second) == expected:
                program, changed = candidate, True
                break
    return program


def runs(program: LoopProgram) -> bool:
    """Whether the function itself works."""
    try:
        with np.errstate(all="ignore"):
            for k in range(len(program.sets)):
                spaces(program)["f"](**program.arguments(k))
    except Exception:
        return False
    return True


def candidates(program: LoopProgram) -> Iterator[LoopProgram]:
    """Programs with a statement less, a block without its heading, or a smaller expression."""
    for text in smaller(program.body):
        yield program.with_(text=HELPERS + text)
    params = list(program.sets[0])
    head = f"def f({', '.join(params)})"
    for name in params:
        rest = [other for other in params if other != name]
        sets = tuple({n: v for n, v in one.items() if n != name} for one in program.sets)
        text = program.text.replace(head, f"def f({', '.join(rest)})")
        if len([n for n in rest if n not in ("k", "idx")]):
            yield program.with_(text=text, sets=sets)


def smaller(text: str) -> Iterator[str]:
    """The function with something left out, the largest parts first."""
    count = sum(isinstance(node, ast.stmt) for node in ast.walk(ast.parse(text)))
    for kind in ("drop", "body", "orelse"):
        for number in range(1, count):
            tree = ast.parse(text)
            if _cut(tree, number, kind):
                yield ast.unparse(ast.fix_missing_locations(tree)) + "\n"
    total = sum(isinstance(node, ast.expr) for node in ast.walk(ast.parse(text)))
    for number in range(total):
        for choice in range(4):
            tree = ast.parse(text)
            node = [n for n in ast.walk(tree) if isinstance(n, ast.expr)][number]
            parts: list[ast.expr] = [
                part for part in ast.iter_child_nodes(node) if isinstance(part, ast.expr)
            ]
            if choice >= len(parts) or isinstance(node, ast.Attribute):
                break
            yield ast.unparse(_Replace(node, parts[choice]).visit(tree)) + "\n"


def _cut(tree: ast.AST, number: int, kind: str) -> bool:
    """Remove a statement, or put one of its blocks in its place; whether that was possible."""
    chosen = [node for node in ast.walk(tree) if isinstance(node, ast.stmt)][number]
    for owner in ast.walk(tree):
        for field in ("body", "orelse"):
            block = getattr(owner, field, None)
            if not isinstance(block, list) or chosen not in block:
                continue
            at = block.index(chosen)
            new = [] if kind == "drop" else getattr(chosen, kind, None)
            if new is None or (not new and len(block) == 1 and field == "body"):
                return False
            block[at : at + 1] = new
            return True
    return False


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
