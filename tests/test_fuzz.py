"""Random programs and those that once failed: value, gradient, both backends, all passes.

Hunts of their own: `NUMBA_DISABLE_JIT=1 python -m tests.fuzz_run 0 10000`, and with loops and
branches `NUMBA_DISABLE_JIT=1 python -m tests.fuzz_loop_run 0 20000`. Each failure they find becomes
a file in tests/regressions: a function `f` and its `ARGUMENTS`, with the arguments `OTHER` of other
lengths if they matter, or with the code under which it must be `REFUSED`.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

import flatgrad as fg
from flatgrad.codegen.module import build_module
from flatgrad.codegen.numba_dialect import NumbaDialect
from flatgrad.errors import FlatgradError
from tests import fuzz_loop_checks, fuzz_loops
from tests.fuzz_checks import check, direction, floats_in
from tests.fuzz_programs import Program, fresh, generate

FOLDER = pathlib.Path(__file__).parent / "regressions"
REGRESSIONS = sorted(FOLDER.glob("*.py"))


def python(code: str, **env: str) -> str:
    """What a fresh interpreter prints."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, **env}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


@pytest.mark.parametrize("first", [0])
def test_random_programs(first):
    """On NumPy, the interpreter, and Numba's text as plain Python."""
    python(
        f"from tests.fuzz_run import main; raise SystemExit(main({first}, {first + 25}))",
        NUMBA_DISABLE_JIT="1",
    )


@pytest.mark.parametrize("first", [0])
def test_random_programs_with_loops(first):
    """The same, and all modes, against numbers that carry tangents."""
    python(
        f"from tests.fuzz_loop_run import main; raise SystemExit(main({first}, {first + 15}))",
        NUMBA_DISABLE_JIT="1",
    )


def test_compiled_program_with_loops():
    program = fuzz_loops.generate(5)
    program = program.with_(sets=program.sets[:1])
    expected = [fuzz_loop_checks.Expected(program, 0)]
    fuzz_loop_checks.reversed_(program, expected, numba=True)


@pytest.mark.parametrize("seed", [224])
def test_compiled_programs(seed):
    """Numba's text compiled."""
    check(generate(seed))


def from_file(path: pathlib.Path) -> tuple[Program, str | None]:
    """A program of the regression folder, and the code under which it is refused."""
    text = path.read_text()
    space: dict = {}
    exec(compile(text, str(path), "exec"), space)
    given = space["ARGUMENTS"]
    other = space.get("OTHER", {name: fresh(value) for name, value in given.items()})
    tags = {"aux"} if space.get("HAS_AUX") else set()
    return Program(0, given, other, [], "", tags, text), space.get("REFUSED")


def check_regressions() -> None:
    """All files; called in an interpreter where Numba compiles nothing."""
    for path in REGRESSIONS:
        program, refused = from_file(path)
        try:
            check(program)
            if "SECOND = True" in program.text:
                check_second(program)
        except FlatgradError as caught:
            if caught.code != refused:
                raise AssertionError(path.name) from caught
        except Exception as caught:
            raise AssertionError(path.name) from caught
        else:
            assert refused is None, f"{path.name} is not refused"


def check_second(program: Program) -> None:
    """Forward over reverse and reverse over reverse agree."""
    given = program.arguments()
    wrt = tuple(name for name in floats_in(given) if not isinstance(given[name], int))
    rng = np.random.default_rng(1)
    dots = {name: direction(given[name], rng) for name in wrt}
    f = program.function()
    values = [np.int64(v) if isinstance(v, int) else v for v in given.values()]
    pushed = fg.hvp(f, tuple(given.values()), [dots.get(name) for name in given], wrt)
    _, pullback = fg.vjp(fg.grad(f, wrt), *values)
    pulled = dict(zip(given, pullback(tuple(dots.values())), strict=True))
    for name, one in zip(wrt, pushed, strict=True):
        np.testing.assert_allclose(one, pulled[name], rtol=1e-9, atol=1e-12)


def test_programs_that_once_failed():
    assert REGRESSIONS
    python("from tests.test_fuzz import check_regressions as c; c()", NUMBA_DISABLE_JIT="1")


def texts(seeds: range) -> str:
    """A digest of what is emitted for some programs, by both backends."""
    digest = hashlib.sha256()
    for seed in seeds:
        program = generate(seed)
        derived = fg.value_and_grad(program.function(), has_aux="aux" in program.tags)
        try:
            digest.update(derived.module_source(**program.arguments()).encode())
            graph = derived.__flatgrad__.shown().compiled.graph
            digest.update(derived.graph(**program.arguments()).encode())
            digest.update(build_module(graph, "f", NumbaDialect()).text.encode())
        except FlatgradError as caught:
            digest.update(caught.code.encode())
    for seed in seeds[::2]:
        looped = fuzz_loops.generate(seed)
        if looped.array:
            continue
        try:
            derived = fg.value_and_grad(looped.function())
            digest.update(derived.module_source(**looped.arguments()).encode())
        except FlatgradError as caught:
            digest.update(caught.code.encode())
    return digest.hexdigest()


def test_the_same_text_every_time():
    """Whatever the order of sets and the process."""
    seeds = range(300, 310)
    with np.errstate(all="ignore"):
        here = texts(seeds)
        assert texts(seeds) == here
    code = "import tests.test_fuzz as t; print(t.texts(range(300, 310)))"
    for seed in ("1", "2"):
        assert python(code, PYTHONHASHSEED=seed).split()[-1] == here
