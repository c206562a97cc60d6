"""Equal functions of several programs are compiled once, and kept in files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numba.core import compiler, config, types
from numba.core.registry import cpu_target

from flatgrad.backends import numba_cpu

if numba_cpu.RELEASE not in numba_cpu.TUNED:
    pytest.skip("other releases of Numba have their own passes", allow_module_level=True)

from flatgrad.backends import numba_files, numba_shared

HEAD = "import math\n\nimport numba\nimport numpy as np\n\n\n"
SQUARE = '@numba.njit(cache=True, error_model="numpy")\ndef square(x):\n    return x * x\n\n\n'
HELPER = (
    '@numba.njit(cache=True, error_model="numpy")\ndef helper(x):\n'
    "    return square(x) + SHIFT\n\n\n"
)
SHIFT = "SHIFT = 0.5\n\n\n"
MAIN = '@numba.njit(cache=True, error_model="numpy")\ndef main(x):\n    return {}\n'


def module(
    body="helper(x)", square=SQUARE, helper=HELPER, shift=SHIFT, free=numba_cpu.NONE, loops=None
):
    own = HEAD + square + shift
    text = own + helper + MAIN.format(body)
    return numba_cpu.load("main", text, free, loops or {}, own=own.count("\n"))


@pytest.fixture(autouse=True)
def nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process that has compiled nothing, with an empty folder of files."""
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(tmp_path / "cache"))
    forget(monkeypatch)


def forget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numba_shared, "_known", type(numba_shared._known)())
    monkeypatch.setattr(numba_shared, "_kept", {})


@pytest.fixture
def compiled(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of functions that are compiled from now on."""
    names: list[str] = []
    compile_core = compiler.CompilerBase._compile_core

    def keep(self):
        names.append(self.state.func_id.func_qualname)
        return compile_core(self)

    monkeypatch.setattr(compiler.CompilerBase, "_compile_core", keep)
    return names


def test_equal_functions_are_one():
    one, other = module(), module("2.0 * helper(x)")
    assert one.helper is other.helper
    assert one.square is other.square
    assert one.main is not other.main


@pytest.mark.parametrize(
    "changed",
    [
        {"square": SQUARE.replace("x * x", "x * x * x")},  # what it calls
        {"square": SQUARE.replace('error_model="numpy"', 'error_model="python"')},
        {"shift": SHIFT.replace("0.5", "1.5")},  # what it reads
        {"shift": SHIFT.replace("0.5", "np.ones(1)[0]")},
        {"helper": HELPER.replace("+ SHIFT", "- SHIFT")},
        {"free": {"helper": True}},  # how its loops are compiled
    ],
)
def test_others_are_not(changed):
    assert module().helper is not module(**changed).helper


def test_a_function_that_reads_an_object_is_left_alone():
    text = SHIFT.replace("0.5", "(0.5, object)[0]"), SHIFT.replace("0.5", "[0.5]")
    assert module(shift=text[0]).helper is module(shift=text[0]).helper
    assert module(shift=text[1]).helper is not module(shift=text[1]).helper


def test_a_function_with_marks_on_its_lines_is_left_alone():
    loops = {1000: 1001}
    assert module(loops=loops).helper is not module(loops=loops).helper
    assert module(loops=loops).square is module(loops=loops).square


def test_what_stays():
    """Functions of flatgrad's own, which come first; others go with the modules that have them."""
    one = module()
    assert list(numba_shared._kept.values()) == [one.square]
    assert {*numba_shared._known.values()} == {one.square, one.helper}


def test_tables_are_compared():
    table = "SHIFT = np.array([{}])\n\n\n"
    helper = HELPER.replace("SHIFT", "SHIFT[0]")
    one = module(helper=helper, shift=table.format("0.5, 2.0"))
    same = module(helper=helper, shift=table.format("0.5, 2.0"))
    other = module(helper=helper, shift=table.format("0.5, 3.0"))
    assert one.helper is same.helper
    assert one.helper is not other.helper


def test_the_next_process_reads_files(compiled, monkeypatch):
    assert module().main(3.0) == 9.5
    assert compiled == ["main", "helper", "square"]
    forget(monkeypatch)
    compiled.clear()
    assert module("2.0 * helper(x)").main(3.0) == 19.0
    assert compiled == ["main"]
    compiled.clear()
    assert module("4.0 * helper(x)").main(np.float32(3.0)) == 38.0
    assert compiled == ["main", "helper", "square"]  # of other types


def spoilt(content: bytes, how: str) -> bytes:
    middle = len(content) // 2
    match how:
        case "empty":
            return b""
        case "short":
            return content[:-1]
        case "a byte":
            return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        case _:
            return b"\x80\x05garbage" * 100


@pytest.mark.parametrize("how", ["empty", "short", "a byte", "garbage", "another's", "exchanged"])
def test_wrong_files_are_never_used(how, compiled, monkeypatch, tmp_path):
    assert module().main(3.0) == 9.5
    files = sorted((tmp_path / "cache" / "__pycache__").glob("*.part"))
    assert [path.name.split("_")[0] for path in files] == ["helper", "square"]
    helper, square = (path.read_bytes() for path in files)
    if how == "another's":
        files[0].write_bytes(square)
    elif how == "exchanged":  # a right file, of an equal function that adds another number
        forget(monkeypatch)
        module("3.0 * helper(x)", shift="SHIFT = 7.0\n\n\n").main(3.0)
        [new] = {*(tmp_path / "cache" / "__pycache__").glob("helper*.part")} - {*files}
        files[0].write_bytes(new.read_bytes())
    else:
        files[0].write_bytes(spoilt(helper, how))
    forget(monkeypatch)
    compiled.clear()
    assert module("2.0 * helper(x)").main(3.0) == 19.0
    assert compiled == ["main", "helper"]
    assert files[0].read_bytes() != square


def test_what_the_key_contains(monkeypatch):
    part = numba_files.PartFiles("f" * 40, "f")
    context = cpu_target.target_context

    def key():
        found = part.whole_key((types.float64,), context)
        assert found is not None
        return found

    seen = [key(), part.whole_key((types.float32,), context)]
    seen.append(numba_files.PartFiles("e" * 40, "f").whole_key((types.float64,), context))
    for kind in (types.Array(types.float64, 1, "C"), types.Array(types.float64, 1, "A"),
                 types.Array(types.float64, 1, "C", readonly=True),
                 types.Array(types.float64, 1, "C", aligned=False),
                 types.IntegerLiteral(1), types.IntegerLiteral(2)):  # fmt: skip
        seen.append(part.whole_key((kind,), context))
    for place, name, value in (
        (numba_files, "VERSION", "99"), (numba_files.numba, "__version__", "99"),
        (numba_files.np, "__version__", "99"), (numba_files.llvmlite, "__version__", "99"),
        (numba_files.sys, "version", "99"), (config, "OPT", 1), (config, "BOUNDSCHECK", 1),
        (numba_files, "_digest_of_sources", lambda: "99"),
        (type(context.codegen()), "magic_tuple", lambda self: ("another processor",)),
    ):  # fmt: skip
        with monkeypatch.context() as patched:
            patched.setattr(place, name, value)
            seen.append(key())
    assert len({*seen}) == len(seen)
    assert None not in seen


def test_types_that_are_told_apart_by_identity_have_no_key():
    part = numba_files.PartFiles("f" * 40, "f")
    dispatcher = types.Dispatcher(module().helper)
    pair = types.UniTuple(dispatcher, 2)
    for kind in (dispatcher, pair):
        assert part.whole_key((kind,), cpu_target.target_context) is None


def test_no_folder(monkeypatch, tmp_path):
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(tmp_path / "taken"))
    assert module().main(3.0) == 9.5
