"""The folder of generated code: text in, the path of a file that holds exactly this text out.

    store("f_grad", "def f_grad(x): ...")
        -> ~/.cache/flatgrad/f_grad_5d1c0f7a9b3e2c4d6f80.py      name_digest.py
    store("f_grad", "def f_grad(x): ...")       again, or in another process
        -> the same path; the bytes on disk are compared, and replaced if they differ
    store(...)  folder missing and not creatable, foreign, writable by others, full
        -> None, and the caller works in memory

Nothing here trusts what it finds: a file counts only if it equals the text in hand, a folder only
if no other user can write to it. That second rule is what lets Numba keep its pickles next to our
files. Nothing here raises because of the disk either.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
from contextlib import suppress
from pathlib import Path

from flatgrad._version import VERSION

DIGEST_BYTES = 10
LONGEST_NAME = 80  # file names end at 255 bytes, and Numba appends to ours

# What goes wrong on a disk: OSError; a home folder nobody knows: RuntimeError; a path or a name
# that cannot be encoded: ValueError.
DISK_TROUBLE = (OSError, RuntimeError, ValueError)


def cache_folder() -> Path | None:
    """The folder for generated code, created with mode 0700 if missing; None if there is none.

    A folder that is returned is an absolute path, is writable, belongs to this user (a link and
    what it points to both do) and is writable neither by its group nor by others.
    """
    folder = _trusted_folder()
    if folder is None or not os.access(folder, os.W_OK | os.X_OK):
        return None
    return folder


def file_stem(name: str, text: str) -> str:
    """`name_digest`: an ASCII identifier, the same for the same text, flatgrad and Python.

    Two different texts get different stems, whatever their names.
    """
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    content = "\0".join((VERSION, python, text)).encode("utf-8", "surrogatepass")
    digest = hashlib.blake2b(content, digest_size=DIGEST_BYTES).hexdigest()
    return f"{_identifier(name)}_{digest}"


def store(name: str, text: str) -> Path | None:
    """The path of a file that holds exactly `text`; None if there can be none.

    Whatever else lay under that name is replaced in one step: a reader sees the old file or the new
    one, never a half. Any number of threads and processes may store at once. In a folder
    that cannot be written to, a file that is there and right is still used.
    """
    folder = _trusted_folder()
    if folder is None:
        return None
    try:
        path = folder / f"{file_stem(name, text)}.py"
        content = text.encode("utf-8")
        if _holds(path, content) or write_file(path, content):
            return path
    except DISK_TROUBLE:
        pass
    return None


def _trusted_folder() -> Path | None:
    """The cache folder if only this user can write to it, be it read-only even for them."""
    try:
        folder = _chosen_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if _is_private(folder) and _numba_folder_is_private(folder):
            return folder
    except DISK_TROUBLE:
        pass
    return None


def _chosen_folder() -> Path:
    """Where the cache lies, by the environment and the platform's custom; always absolute."""
    if chosen := os.environ.get("FLATGRAD_CACHE_DIR"):
        return Path(os.path.abspath(Path(chosen).expanduser()))
    return _user_cache() / "flatgrad"


def _user_cache() -> Path:
    if sys.platform == "win32":
        local = Path(os.environ.get("LOCALAPPDATA", ""))
        return local if local.is_absolute() else Path.home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return xdg if xdg.is_absolute() else Path.home() / ".cache"


def _is_private(folder: Path) -> bool:
    """Whether `folder` is a folder that only this user can write to (and, if a link, turn)."""
    seen = folder.stat()
    if not stat.S_ISDIR(seen.st_mode):
        return False
    if sys.platform == "win32":  # there the user's profile is private by access lists
        return True
    owners = {seen.st_uid, folder.lstat().st_uid}
    return owners == {os.geteuid()} and not seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _numba_folder_is_private(folder: Path) -> bool:
    """Whether the `__pycache__` where Numba puts its pickles is private, or cannot exist.

    Numba would create it as the umask has it, and unpickling a planted file runs it.
    """
    pickles = folder / "__pycache__"
    with suppress(OSError):
        pickles.mkdir(mode=0o700)
    return not os.path.lexists(pickles) or _is_private(pickles)


def _identifier(name: str) -> str:
    """`name` as the head of a file and module name: `<lambda>` and the like come through too."""
    ascii_name = re.sub(r"[^A-Za-z0-9_]", "_", name)[:LONGEST_NAME]
    return f"_{ascii_name}" if ascii_name[:1].isdigit() else ascii_name


def _holds(path: Path, content: bytes) -> bool:
    """Whether `path` is a plain file of exactly these bytes."""
    try:
        seen = path.lstat()
        if not stat.S_ISREG(seen.st_mode) or seen.st_size != len(content):
            return False
        return path.read_bytes() == content
    except OSError:
        return False


def write_file(path: Path, content: bytes) -> bool:
    """Put `content` at `path` in one step; whether it lies there afterwards."""
    # Random, not the process's number: a home folder can be shared by several machines.
    draft = path.with_name(f".{path.name}.{os.urandom(8).hex()}.tmp")
    try:
        _write_new(draft, content)
        os.replace(draft, path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        # Windows refuses to replace a file that another process has open, which is then
        # most likely one that has just stored the same text.
        return _holds(path, content)
    return True


def _write_new(path: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(content)
