"""The cache folder is private, atomic and verified; no state of the disk stops `load`."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import stat
import subprocess
import sys
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from flatgrad.backends import cache, python

TEXT = "def double(x):\n    # größer\n    return 2 * x\n"
ROOT = Path(cache.__file__).resolve().parents[2]

posix = pytest.mark.skipif(sys.platform == "win32", reason="POSIX owners, modes and links")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "generated"
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(folder))
    return folder


def make_read_only(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the right to write; root keeps it whatever the mode, so for root it is simulated."""
    folder.chmod(0o500)
    monkeypatch.setattr(os, "access", lambda path, mode: not mode & os.W_OK)
    if os.geteuid() == 0:
        really_open = os.open

        def refuse_new(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
            if flags & os.O_CREAT:
                raise PermissionError(13, "Permission denied", str(path))
            return really_open(path, flags, *args, **kwargs)

        monkeypatch.setattr(os, "open", refuse_new)


def stored(name: str = "double", text: str = TEXT) -> Path:
    path = cache.store(name, text)
    assert path is not None
    assert path.read_bytes() == text.encode()
    return path


def assert_works_in_memory() -> None:
    """`load` without a file: it runs, and both inspect and tracebacks show the text."""
    module = python.load("double", TEXT)
    assert module.__flatgrad_cached__ is False
    assert module.double(4) == 8
    assert module.__file__ == f"<flatgrad {cache.file_stem('double', TEXT)}>"
    assert inspect.getsource(module.double) == TEXT
    with pytest.raises(TypeError) as caught:
        module.double(None)
    assert "return 2 * x" in "".join(traceback.format_exception(caught.value))


def start(code: str, folder: Path, *args: str) -> subprocess.Popen[str]:
    """A second interpreter that finds flatgrad and this cache folder."""
    environment = {key: value for key, value in os.environ.items() if key != "NUMBA_CACHE_DIR"}
    environment.update(PYTHONPATH=str(ROOT), FLATGRAD_CACHE_DIR=str(folder))
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return output


# Where the folder is


def test_missing_folder_is_created_private(folder: Path) -> None:
    assert cache.cache_folder() == folder
    if sys.platform != "win32":
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "__pycache__").stat().st_mode) == 0o700


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="XDG folders")
def test_user_cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/paths/do/not/count")
    assert cache.cache_folder() == tmp_path / ".cache" / "flatgrad"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg" / "flatgrad"


def test_chosen_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", "here")
    assert cache.cache_folder() == tmp_path / "here"


# Folders that are refused


def test_folder_that_is_a_file(folder: Path) -> None:
    folder.write_text("not a folder")
    assert cache.cache_folder() is None
    assert cache.store("double", TEXT) is None
    assert_works_in_memory()
    assert folder.read_text() == "not a folder"


def test_folder_below_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.write_text("not a folder")
    monkeypatch.setenv("FLATGRAD_CACHE_DIR", str(folder / "below"))
    assert cache.cache_folder() is None
    assert_works_in_memory()


@posix
@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_folder_writable_by_others(folder: Path, mode: int) -> None:
    folder.mkdir()
    folder.chmod(mode)
    assert cache.cache_folder() is None
    assert_works_in_memory()
    assert list(folder.iterdir()) == []


@posix
def test_numba_folder_writable_by_others(folder: Path) -> None:
    pickles = folder / "__pycache__"
    pickles.mkdir(parents=True)
    folder.chmod(0o755)
    pickles.chmod(0o777)
    assert cache.cache_folder() is None
    assert_works_in_memory()


@posix
def test_folder_of_another_user(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir(mode=0o700)
    another = folder.stat().st_uid + 1
    monkeypatch.setattr(os, "geteuid", lambda: another)
    assert cache.cache_folder() is None
    assert_works_in_memory()


@posix
def test_link_to_own_folder(folder: Path, tmp_path: Path) -> None:
    target = tmp_path / "elsewhere"
    target.mkdir(mode=0o700)
    folder.symlink_to(target)
    assert cache.cache_folder() == folder
    assert stored().parent == folder


@posix
def test_link_to_folder_of_another_user(folder: Path, tmp_path: Path) -> None:
    target = Path("/usr")
    if os.geteuid() == 0:
        target = tmp_path / "elsewhere"
        target.mkdir(mode=0o700)
        os.chown(target, 12345, 12345)
    folder.symlink_to(target)
    assert cache.cache_folder() is None
    assert_works_in_memory()


@posix
def test_link_to_nothing(folder: Path, tmp_path: Path) -> None:
    folder.symlink_to(tmp_path / "nowhere")
    assert cache.cache_folder() is None
    assert_works_in_memory()


def test_home_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for variable in ("FLATGRAD_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    assert cache.cache_folder() is None
    assert_works_in_memory()


# Read-only folders and full disks


@posix
def test_read_only_folder_without_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.mkdir()
    make_read_only(folder, monkeypatch)
    assert cache.cache_folder() is None
    assert cache.store("double", TEXT) is None
    assert_works_in_memory()


@posix
def test_read_only_folder_with_the_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored()
    make_read_only(folder, monkeypatch)
    assert cache.cache_folder() is None
    assert cache.store("double", TEXT) == path
    assert python.load("double", TEXT).__flatgrad_cached__ is True


@posix
def test_read_only_folder_with_a_wrong_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored()
    path.write_text("raise SystemExit('foreign code ran')")
    make_read_only(folder, monkeypatch)
    assert cache.store("double", TEXT) is None
    assert_works_in_memory()


def test_failed_replace_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def disk_full(*paths: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", disk_full)
    assert cache.store("double", TEXT) is None
    assert [entry.name for entry in folder.iterdir()] == ["__pycache__"]


def test_lost_race_on_windows(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Replacing is refused because another process has just put the right file there."""

    def refuse(draft: Path, path: Path) -> None:
        path.write_bytes(TEXT.encode())
        raise PermissionError(13, "the file is open in another process")

    monkeypatch.setattr(os, "replace", refuse)
    path = stored()
    assert {entry.name for entry in folder.iterdir()} == {"__pycache__", path.name}


# What lies under the name


@pytest.mark.parametrize(
    "wrong",
    [
        b"",
        TEXT.encode()[:-4],
        TEXT.encode() + b"\n",
        TEXT.replace("2", "3").encode(),
        b"raise SystemExit('foreign code ran')\n",
        b"\xff\x00\xfe",
    ],
    ids=["empty", "truncated", "longer", "same length", "foreign", "not text"],
)
def test_wrong_file_is_replaced_and_never_run(folder: Path, wrong: bytes) -> None:
    path = stored()
    path.write_bytes(wrong)
    module = python.load("double", TEXT)
    assert module.double(4) == 8
    assert path.read_bytes() == TEXT.encode()
    assert inspect.getsource(module.double) == TEXT


@posix
def test_link_under_the_name_is_replaced(folder: Path, tmp_path: Path) -> None:
    path = stored()
    target = tmp_path / "target.py"
    path.rename(target)
    path.symlink_to(target)
    stored()
    assert not path.is_symlink()
    target.write_text("still there, no longer ours")
    assert path.read_bytes() == TEXT.encode()


def test_folder_under_the_name(folder: Path) -> None:
    path = stored()
    path.unlink()
    path.mkdir()
    assert cache.store("double", TEXT) is None
    assert_works_in_memory()
    assert {entry.name for entry in folder.iterdir()} == {"__pycache__", path.name}


def test_right_file_is_not_rewritten(folder: Path) -> None:
    path = stored()
    os.utime(path, ns=(10**18, 10**18))
    assert stored() == path
    assert path.stat().st_mtime_ns == 10**18


# Names


def test_name_depends_on_text_version_and_python(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = cache.file_stem("double", TEXT)
    assert first.startswith("double_")
    assert cache.file_stem("double", TEXT) == first
    assert cache.file_stem("double", TEXT + "\n") != first
    monkeypatch.setattr(cache, "VERSION", "0.0.0")
    assert cache.file_stem("double", TEXT) != first


@pytest.mark.parametrize("name", ["<lambda>", "größe", "../../up", "f" * 400, "3d", "a b", ""])
def test_any_name_gives_a_file_in_the_folder(folder: Path, name: str) -> None:
    path = stored(name)
    assert path.parent == folder
    assert path.stem.isidentifier()
    assert path.stem.isascii()
    assert python.load(name, TEXT).double(4) == 8


# Modules


def test_module_shows_its_file(folder: Path) -> None:
    module = python.load("double", TEXT)
    assert module.__flatgrad_cached__ is True
    assert module.__file__ == str(stored())
    assert module.double.__code__.co_filename == module.__file__
    with pytest.raises(TypeError) as caught:
        module.double(None)
    shown = "".join(traceback.format_exception(caught.value))
    assert f'File "{module.__file__}", line 3' in shown
    assert "return 2 * x" in shown


def test_modules_are_fresh_and_unregistered(folder: Path) -> None:
    first, second = python.load("double", TEXT), python.load("double", TEXT)
    assert first is not second
    assert first.__name__ == second.__name__
    assert first.__name__ not in sys.modules


def test_generated_code_does_not_inherit_our_future_imports(folder: Path) -> None:
    module = python.load("typed", "def typed(x: int):\n    return x\n")
    assert module.typed.__annotations__ == {"x": int}


def test_errors_in_the_text_come_through(folder: Path) -> None:
    with pytest.raises(SyntaxError):
        python.load("broken", "def broken(:\n")
    with pytest.raises(ZeroDivisionError):
        python.load("failing", "1 / 0\n")


# Many at once

LONG = TEXT + "".join(f"# line {i} of a file that takes more than one write\n" for i in range(4000))


def test_many_threads(folder: Path) -> None:
    def store_distinct(i: int) -> bool:
        module = python.load("double", f"{TEXT}# {i % 5}\n")
        return bool(module.__flatgrad_cached__ and module.double(i) == 2 * i)

    with ThreadPoolExecutor(16) as pool:
        distinct = list(pool.map(store_distinct, range(200)))
        stored_at_once = list(pool.map(lambda _: stored(text=LONG), range(200)))
    assert all(distinct)
    assert len(set(stored_at_once)) == 1
    assert not list(folder.glob(".*"))


STORE_REPEATEDLY = """
import sys
from flatgrad.backends import cache, python

text, me = sys.stdin.read(), sys.argv[1]
for i in range(60):
    module = python.load("double", text + f"# round {i}")
    assert module.__flatgrad_cached__ and module.double(4) == 8
    path = cache.store("contested", text)
    content = path.read_bytes()             # the file of the moment: ours or the spoiler's, whole
    assert content in (text.encode(), b"spoilt" * 5000), len(content)
    if me == "spoiler":
        cache.write_file(path, b"spoilt" * 5000)
print("done")
"""


def test_many_processes(folder: Path) -> None:
    """Three processes store the same texts while one of them keeps replacing a file by rubbish."""
    processes = [start(STORE_REPEATEDLY, folder, me) for me in ("first", "second", "spoiler")]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(LONG)
        process.stdin.close()
        process.stdin = None
    assert [finish(process) for process in processes] == ["done\n"] * 3
    assert not list(folder.glob(".*"))
    stored("contested", LONG)


# Numba's cache beside ours

COMPILE = """
import json, sys
from numba import cloudpickle
from flatgrad.backends import python

text = '''
from numba import njit

@njit(cache=True)
def half(x):
    if x < 0.0:
        raise ValueError("negative")
    return 0.5 * x

@njit(cache=True)
def quarter(x):
    return half(half(x))
'''
module = python.load("quarter", text)
quarter = module.quarter
value, hits = quarter(8.0), sum(quarter.stats.cache_hits.values())
try:
    quarter(-1.0)
    error = ""
except ValueError as caught:
    error = str(caught)
assert module.__name__.startswith(python.PACKAGE)
assert not hasattr(sys.modules.get(module.__name__), "quarter")
copy = cloudpickle.loads(cloudpickle.dumps(quarter.py_func))
print(json.dumps([value, hits, error, quarter.stats.cache_path, copy(8.0)]))
"""


def test_numba_finds_its_cache_in_a_second_process(folder: Path) -> None:
    pytest.importorskip("numba")
    pickles = str(folder / "__pycache__")
    first, second = (json.loads(finish(start(COMPILE, folder))) for _ in range(2))
    assert first == [2.0, 0, "negative", pickles, 2.0]
    assert second == [2.0, 1, "negative", pickles, 2.0]


CALL_FROM_USER_CODE = """
import sys
sys.path.insert(0, sys.argv[1])
import user_code
print(user_code.train(4.0), sum(user_code.train.stats.cache_hits.values()))
"""

USER_CODE = """
from numba import njit
from flatgrad.backends import python

text = '''
from numba import njit

@njit(cache=True)
def double(x):
    if x < 0.0:
        raise ValueError("negative")
    return 2.0 * x
'''
double = python.load("double", text).double

@njit(cache=True)
def train(x):
    return double(x) + 1.0
"""


def test_numba_caches_user_code_that_calls_ours(folder: Path, tmp_path: Path) -> None:
    """Loading it must not need that this process has compiled our function before."""
    pytest.importorskip("numba")
    (tmp_path / "user_code.py").write_text(USER_CODE)
    runs = [finish(start(CALL_FROM_USER_CODE, folder, str(tmp_path))) for _ in range(2)]
    assert runs == ["9.0 0\n", "9.0 1\n"]


def test_stand_ins_cover_generated_names_only() -> None:
    stand_in = importlib.import_module(f"{python.PACKAGE}.double_0123")
    assert not hasattr(stand_in, "double")
    for name in (f"{python.PACKAGE}.double_0123.below", "flatgrad.backends.missing"):
        with pytest.raises(ModuleNotFoundError):
            importlib.import_module(name)


def test_import_is_light(folder: Path) -> None:
    """On top of what flatgrad itself imports."""
    code = (
        "import sys, flatgrad; before = set(sys.modules); import flatgrad.backends.python; "
        "print({'numba', 'numpy', 'tempfile', 'inspect'} & (set(sys.modules) - before))"
    )
    assert finish(start(code, folder)) == "set()\n"
